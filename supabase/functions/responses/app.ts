import { createApp } from "../_shared/app.ts";
import { authenticate } from "../_shared/auth.ts";
import { idempotencyKey, json, noIdempotencyKey, noQuery, param, replayHeader, sendJson } from "../_shared/http.ts";
import * as repo from "./repo.ts";
import { mergeBody, putBody, responseParam } from "./schemas.ts";

export const app = createApp("responses", () => import("./openapi.ts"))
  .use(authenticate)
  // The same again is replayed by itself, for as long as it is stored.
  .put("/:id", noIdempotencyKey, noQuery, param(responseParam), json(putBody), async (c) => {
    const { created, replayed, ...response } = await repo.put(
      c.var.caller,
      c.req.valid("param").id,
      c.req.valid("json"),
    );
    return c.json(response, created ? 201 : 200, replayHeader(replayed));
  })
  .get("/:id", noQuery, param(responseParam), async (c) => {
    const { id } = c.req.valid("param");
    // Hono answers HEAD with the headers of GET. The history behind them would be read for nothing.
    return sendJson(c, await (c.req.method === "HEAD" ? repo.head : repo.get)(c.var.caller, id));
  })
  .delete("/:id", noQuery, param(responseParam), async (c) => {
    const { replayed } = await repo.remove(c.var.caller, c.req.valid("param").id, idempotencyKey(c));
    return c.body(null, 204, replayHeader(replayed));
  })
  .post("/:id/merge", noQuery, param(responseParam), json(mergeBody), async (c) => {
    const { id } = c.req.valid("param");
    return sendJson(c, await repo.merge(c.var.caller, id, c.req.valid("json")));
  });

export type App = typeof app;
