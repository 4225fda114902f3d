import { buildOpenapi, idempotent, type Operation, publicOperations } from "../_shared/openapi.ts";
import { errorBody } from "./errors.ts";
import * as schemas from "./schemas.ts";

const routes: Record<string, Operation> = {
  "POST /openai/v1/conversations": {
    summary: "Create a conversation, with its first items or without",
    headers: idempotent,
    body: schemas.createBody,
    answers: { 200: schemas.conversation },
    errors: ["idempotency_mismatch", "item_conflict"],
  },
  "GET /openai/v1/conversations/:conversation_id": {
    summary: "Load a conversation, without its items",
    answers: { 200: schemas.conversation },
    errors: ["conversation_not_found"],
  },
  "POST /openai/v1/conversations/:conversation_id": {
    summary: "Replace the metadata of a conversation",
    headers: idempotent,
    body: schemas.updateBody,
    answers: { 200: schemas.conversation },
    errors: ["idempotency_mismatch", "conversation_not_found"],
  },
  "DELETE /openai/v1/conversations/:conversation_id": {
    summary: "Delete a conversation and its items; living forks keep what they show",
    headers: idempotent,
    answers: { 200: schemas.deletedConversation },
    errors: ["idempotency_mismatch", "conversation_not_found"],
  },
  "POST /openai/v1/conversations/:conversation_id/items": {
    summary: "Append items: all of them, contiguously, or none",
    headers: idempotent,
    query: schemas.includeQuery,
    body: schemas.itemsBody,
    answers: { 200: schemas.itemList },
    errors: ["conversation_not_found", "idempotency_mismatch", "item_conflict"],
  },
  "GET /openai/v1/conversations/:conversation_id/items": {
    summary: "List items, newest first",
    query: schemas.listQuery,
    answers: { 200: schemas.itemList },
    errors: ["conversation_not_found"],
  },
  "GET /openai/v1/conversations/:conversation_id/items/:item_id": {
    summary: "Load an item",
    query: schemas.includeQuery,
    answers: { 200: schemas.item },
    errors: ["conversation_not_found", "item_not_found"],
  },
  "DELETE /openai/v1/conversations/:conversation_id/items/:item_id": {
    summary: "Delete an item; answers the conversation",
    headers: idempotent,
    answers: { 200: schemas.conversation },
    errors: ["idempotency_mismatch", "conversation_not_found", "item_not_found"],
  },
  "GET /openai/v1/responses/:response_id": {
    summary: "Load a response with its output, as far as it is stored",
    query: schemas.responseQuery,
    answers: { 200: schemas.response },
    errors: ["response_not_found"],
  },
  "DELETE /openai/v1/responses/:response_id": {
    summary: "Delete a response and the items that nothing else shows",
    headers: idempotent,
    answers: { 200: schemas.deletedResponse },
    errors: ["idempotency_mismatch", "response_not_found"],
  },
  "GET /openai/v1/responses/:response_id/input_items": {
    summary: "List the items that a response was generated from, its history included, newest first",
    query: schemas.listQuery,
    answers: { 200: schemas.itemList },
    errors: ["response_not_found"],
  },
};

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = Object.fromEntries(
  Object.entries({ ...publicOperations("openai"), ...routes }).map(([route, operation]) => [
    route,
    { ...operation, params: schemas.ids, errorBody },
  ]),
);

export const openapi = buildOpenapi(operations);
