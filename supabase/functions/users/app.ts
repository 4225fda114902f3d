import { createApp, only } from "../_shared/app.ts";
import { authenticateAs, backendOnly } from "../_shared/auth.ts";
import { noIdempotencyKey, noQuery, param, query } from "../_shared/http.ts";
import { exportQuery, NDJSON, streamExport } from "../_shared/ndjson.ts";
import { confirmQuery, erasureParam, userId } from "../_shared/schemas.ts";
import * as repo from "./repo.ts";

export const app = createApp("users", () => import("./openapi.ts"))
  .use(authenticateAs(userId))
  .get("/me/export", query(exportQuery), async (c) => {
    const { cursor } = c.req.valid("query");
    const lines = await streamExport(c, cursor, (place, signal) => repo.exportPage(c.var.caller, place, signal));
    return c.body(lines, 200, { "content-type": NDJSON });
  })
  .all("/me/export", only("GET", "HEAD"))
  .get("/me/quotas", noQuery, async (c) => c.json(await repo.getQuotas(c.var.caller)))
  .all("/me/quotas", only("GET", "HEAD"))
  // It erases the user's keys, too. Whoever repeats it gets the receipt of what is going on, or another one.
  .delete("/me", backendOnly, noIdempotencyKey, query(confirmQuery), async (c) => {
    const receipt = await repo.erase(c.var.caller);
    return c.json(receipt, 202, { location: `/functions/v1/users/erasures/${receipt.id}` });
  })
  .get(
    "/erasures/:id",
    backendOnly,
    noQuery,
    param(erasureParam),
    async (c) => c.json(await repo.getErasure(c.var.caller, c.req.valid("param").id)),
  );

export type App = typeof app;
