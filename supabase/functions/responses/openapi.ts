import { buildOpenapi, idempotent, type Operation, publicOperations } from "../_shared/openapi.ts";
import * as schemas from "./schemas.ts";

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = {
  ...publicOperations("responses"),
  "PUT /responses/:id": {
    summary: "Store a response: 201 for a new one, 200 where the same was stored before or another is replaced",
    params: schemas.responseParam,
    body: schemas.putBody,
    answers: { 200: schemas.response, 201: schemas.response },
    errors: ["idempotency_key_useless", "previous_response_not_found", "fork_limit"],
  },
  "GET /responses/:id": {
    summary: "Load a response with its whole history",
    params: schemas.responseParam,
    answers: { 200: schemas.responseWithItems },
    errors: ["response_not_found", "history_too_large"],
  },
  "DELETE /responses/:id": {
    summary: "Delete a response and what nothing else shows; responses that continue it stay whole",
    headers: idempotent,
    params: schemas.responseParam,
    answers: { 204: null },
    errors: ["idempotency_mismatch", "response_not_found"],
  },
  "POST /responses/:id/merge": {
    summary: "What a model gets next: the response's history and then the input; nothing is stored",
    params: schemas.responseParam,
    body: schemas.mergeBody,
    answers: { 200: schemas.history },
    errors: ["previous_response_not_found", "history_too_large"],
  },
};

export const openapi = buildOpenapi(operations);
