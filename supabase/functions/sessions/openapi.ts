import { buildOpenapi, idempotent, type Operation, publicOperations } from "../_shared/openapi.ts";
import { page } from "../_shared/schemas.ts";
import * as schemas from "./schemas.ts";

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = {
  ...publicOperations("sessions"),
  "POST /sessions": {
    summary: "Open a session, or find it: 201 new, 200 known",
    headers: idempotent,
    body: schemas.openBody,
    answers: { 201: schemas.session, 200: schemas.session },
    errors: ["session_not_found", "conversation_not_found", "idempotency_mismatch", "conflict", "user_id_required"],
  },
  "GET /sessions": {
    summary: "List sessions, the latest start first",
    query: schemas.listQuery,
    answers: { 200: page(schemas.session) },
  },
  "GET /sessions/context": {
    summary: "What a returning caller said before, for a model: the last summaries and the latest turns that fit",
    query: schemas.contextQuery,
    answers: { 200: schemas.context },
    errors: ["user_id_required"],
  },
  "GET /sessions/unsummarized": {
    summary: "Take ended sessions without a summary; for backends, and nobody else gets them until the lease runs out",
    query: schemas.unsummarizedQuery,
    answers: { 200: schemas.unsummarized },
    errors: ["forbidden"],
  },
  "GET /sessions/:id": {
    summary: "A session, without its events",
    answers: { 200: schemas.session },
    errors: ["session_not_found"],
  },
  "POST /sessions/:id/end": {
    summary: "End a session; one that has ended keeps its end, and its summary unless there is another",
    body: schemas.endBody,
    answers: { 200: schemas.session },
    errors: ["session_not_found"],
  },
  "POST /sessions/:id/events": {
    summary: "Append events: all of them, contiguously, or none",
    headers: idempotent,
    body: schemas.appendBody,
    answers: { 201: schemas.appended },
    errors: ["session_not_found", "idempotency_mismatch"],
  },
  "GET /sessions/:id/events": {
    summary: "Load events in order",
    query: schemas.eventsQuery,
    answers: { 200: page(schemas.event) },
    errors: ["session_not_found"],
  },
};

export const openapi = buildOpenapi(operations);
