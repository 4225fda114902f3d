import { exportQuery, NDJSON } from "../_shared/ndjson.ts";
import { buildOpenapi, type Operation, publicOperations } from "../_shared/openapi.ts";
import { confirmQuery, erasure, page } from "../_shared/schemas.ts";
import { quota } from "./schemas.ts";

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = {
  ...publicOperations("users"),
  "GET /users/me/export": {
    summary: "Export everything that is stored about a user as NDJSON, streamed, in pieces",
    query: exportQuery,
    answers: {
      200: {
        mediaType: NDJSON,
        description:
          "A line of type export, then lines of every kind. The last line is of type end with the counts of all " +
          "pieces, or of type next with the cursor of the next piece.",
      },
    },
    errors: ["user_id_required"],
  },
  "GET /users/me/quotas": {
    summary: "What the user may do in a day (UTC), and has done; empty where there are no quotas",
    answers: { 200: page(quota) },
    errors: ["user_id_required"],
  },
  "DELETE /users/me": {
    summary: "Erase everything that is stored of a user, in steps; for backends",
    query: confirmQuery,
    answers: { 202: erasure },
    errors: ["idempotency_key_useless", "forbidden", "user_id_required"],
  },
  "GET /users/erasures/:id": {
    summary: "The receipt of an erasure: what is removed so far, and whether anything is left; for backends",
    answers: { 200: erasure },
    errors: ["forbidden", "erasure_not_found"],
  },
};

export const openapi = buildOpenapi(operations);
