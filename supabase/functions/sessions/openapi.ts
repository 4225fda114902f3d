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
  "GET /sessions/audit": {
    summary:
      "What happened in a window of time, over all sessions, in time order; a page may be short, or even empty, " +
      "where has_more says that there is more to look through",
    query: schemas.auditQuery,
    answers: { 200: page(schemas.auditedEvent) },
  },
  "GET /sessions/analytics": {
    summary: "Sessions, messages, durations and events by hour, day, week or month of a time zone",
    query: schemas.analyticsQuery,
    answers: { 200: schemas.analytics },
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
    headers: idempotent,
    body: schemas.endBody,
    answers: { 200: schemas.session },
    errors: ["idempotency_mismatch", "session_not_found"],
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
  "GET /sessions/:id/events/stream": {
    summary: "Follow a session: its events as server-sent events, then those that come, until it ends",
    query: schemas.streamQuery,
    headers: { "last-event-id": "The sequence of the last event received: goes on behind it." },
    answers: {
      200: {
        mediaType: "text/event-stream",
        description: "Each event is an Event, its id the sequence; `event: end` carries the Session that has ended, " +
          "`event: error` the Error while the database does not answer.",
      },
      204: null,
    },
    errors: ["session_not_found"],
  },
};

export const openapi = buildOpenapi(operations);
