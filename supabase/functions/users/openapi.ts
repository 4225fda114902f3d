import { NDJSON } from "../_shared/ndjson.ts";
import { buildOpenapi, type Operation, publicOperations } from "../_shared/openapi.ts";

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = {
  ...publicOperations("users"),
  "GET /users/me/export": {
    summary: "Export everything that is stored about a user as NDJSON, streamed",
    answers: {
      200: { mediaType: NDJSON, description: "A line of type export, lines of every kind, and an end line." },
    },
    errors: ["user_id_required"],
  },
};

export const openapi = buildOpenapi(operations);
