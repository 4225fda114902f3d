import { createApp } from "../_shared/app.ts";
import { authenticate } from "../_shared/auth.ts";
import { json, noQuery, param, replayHeader, sendJson } from "../_shared/http.ts";
import * as repo from "./repo.ts";
import { mergeBody, putBody, responseParam } from "./schemas.ts";

export const app = createApp("responses", () => import("./openapi.ts"))
  .use(authenticate)
  .put("/:id", noQuery, param(responseParam), json(putBody), async (c) => {
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
    await repo.remove(c.var.caller, c.req.valid("param").id);
    return c.body(null, 204);
  })
  .post("/:id/merge", noQuery, param(responseParam), json(mergeBody), async (c) => {
    const { id } = c.req.valid("param");
    return sendJson(c, await repo.merge(c.var.caller, id, c.req.valid("json")));
  });

export type App = typeof app;
