import { buildOpenapi, idempotent, type Operation, publicOperations } from "../_shared/openapi.ts";
import { page } from "../_shared/schemas.ts";
import * as schemas from "./schemas.ts";

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = {
  ...publicOperations("documents"),
  "GET /documents": {
    summary: "List the collections, by name",
    query: schemas.collectionsQuery,
    answers: { 200: page(schemas.collection) },
  },
  "POST /documents/:collection/find": {
    summary: "Find documents, in the order of (creation_utc, id)",
    params: schemas.collectionParam,
    body: schemas.findBody,
    answers: { 200: schemas.found },
  },
  "POST /documents/:collection/find_one": {
    summary: "Find the first document that matches",
    params: schemas.collectionParam,
    body: schemas.findOneBody,
    answers: { 200: schemas.foundOne },
  },
  "POST /documents/:collection/count": {
    summary: "Count the documents that match",
    params: schemas.collectionParam,
    body: schemas.filterBody,
    answers: { 200: schemas.counted },
  },
  "POST /documents/:collection/insert_one": {
    summary: "Insert a document",
    params: schemas.collectionParam,
    headers: idempotent,
    body: schemas.insertOneBody,
    answers: { 201: schemas.insertedOne },
    errors: ["document_exists", "idempotency_mismatch"],
  },
  "POST /documents/:collection/insert_many": {
    summary: "Insert documents: all of them or none",
    params: schemas.collectionParam,
    headers: idempotent,
    body: schemas.insertManyBody,
    answers: { 201: schemas.inserted },
    errors: ["document_exists", "idempotency_mismatch"],
  },
  "POST /documents/:collection/update_one": {
    summary: "Change the first document that matches, or insert one",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.updateBody,
    answers: { 200: schemas.updated },
    errors: ["idempotency_mismatch", "version_conflict", "document_exists"],
  },
  "POST /documents/:collection/delete_one": {
    summary: "Delete the first document that matches",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.deleteBody,
    answers: { 200: schemas.deletedOne },
    errors: ["idempotency_mismatch"],
  },
  "POST /documents/:collection/delete_many": {
    summary: "Delete the documents that match",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.deleteBody,
    answers: { 200: schemas.deletedMany },
    errors: ["idempotency_mismatch"],
  },
  "POST /documents/:collection/drop": {
    summary: "Delete the collection: its documents, failed ones included, and its version",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.dropBody,
    answers: { 200: schemas.deletedMany },
    errors: ["idempotency_mismatch"],
  },
  "GET /documents/:collection/version": {
    summary: "The version of the store that the collection is part of",
    params: schemas.collectionParam,
    answers: { 200: schemas.version },
  },
  "PUT /documents/:collection/version": {
    summary: "Set the version if it is what the caller believes it to be",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.versionBody,
    answers: { 200: schemas.version },
    errors: ["idempotency_mismatch", "version_conflict"],
  },
  "GET /documents/:collection/failures": {
    summary: "List the documents that could not be converted, by id",
    params: schemas.collectionParam,
    query: schemas.failuresQuery,
    answers: { 200: page(schemas.failure) },
  },
  "POST /documents/:collection/failures": {
    summary: "Move a document that cannot be converted out of the collection",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.failBody,
    answers: { 201: schemas.failure },
    errors: ["idempotency_mismatch", "document_not_found", "document_exists"],
  },
  "POST /documents/:collection/failures/restore": {
    summary: "Put a failed document back into the collection",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.restoreBody,
    answers: { 200: schemas.foundOne },
    errors: ["idempotency_mismatch", "document_not_found", "document_exists"],
  },
  "GET /documents/:collection/indexes": {
    summary: "List the indexes of the collection's fields. Needs the secret key",
    params: schemas.collectionParam,
    answers: { 200: page(schemas.index) },
    errors: ["forbidden"],
  },
  "POST /documents/:collection/indexes": {
    summary: "Index a field for ranges and sorts, or find its index: 201 new, 200 known. Needs the secret key",
    headers: idempotent,
    params: schemas.collectionParam,
    body: schemas.indexBody,
    answers: { 201: schemas.index, 200: schemas.index },
    errors: ["idempotency_mismatch", "forbidden", "index_limit", "database_unavailable"],
  },
  "DELETE /documents/:collection/indexes": {
    summary: "Drop the index of a field. Needs the secret key",
    headers: idempotent,
    params: schemas.collectionParam,
    query: schemas.indexQuery,
    answers: { 204: null },
    errors: ["idempotency_mismatch", "forbidden", "index_not_found", "database_unavailable"],
  },
};

export const openapi = buildOpenapi(operations);
