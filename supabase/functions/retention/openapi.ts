import { buildOpenapi, type Operation, publicOperations } from "../_shared/openapi.ts";
import { page } from "../_shared/schemas.ts";
import * as schemas from "./schemas.ts";

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = {
  ...publicOperations("retention"),
  "GET /retention/policies": {
    summary: "How long each kind of data is kept; for backends. Policies are set in SQL",
    answers: { 200: page(schemas.policy) },
    errors: ["forbidden"],
  },
  "GET /retention/runs": {
    summary: "What the runs of retention removed, the newest first, and what is overdue; for backends",
    query: schemas.runsQuery,
    answers: { 200: schemas.runs },
    errors: ["forbidden"],
  },
  "GET /retention/preview": {
    summary: "What retention would remove, without removing it; for backends",
    query: schemas.previewQuery,
    answers: { 200: schemas.preview },
    errors: ["forbidden"],
  },
};

export const openapi = buildOpenapi(operations);
