import { createApp, only } from "../_shared/app.ts";
import { authenticate, backendOnly } from "../_shared/auth.ts";
import { noQuery, query } from "../_shared/http.ts";
import * as repo from "./repo.ts";
import { previewQuery, runsQuery } from "./schemas.ts";

export const app = createApp("retention", () => import("./openapi.ts"))
  .use(authenticate)
  // It looks at everybody's rows. Nothing here removes any: the scheduled job does, by policies that are set in SQL.
  .use(backendOnly)
  .get("/policies", noQuery, async (c) => c.json(await repo.getPolicies(c.var.caller)))
  .all("/policies", only("GET", "HEAD"))
  .get("/runs", query(runsQuery), async (c) => c.json(await repo.listRuns(c.var.caller, c.req.valid("query"))))
  .all("/runs", only("GET", "HEAD"))
  .get("/preview", query(previewQuery), async (c) => c.json(await repo.preview(c.var.caller, c.req.valid("query"))))
  .all("/preview", only("GET", "HEAD"));

export type App = typeof app;
