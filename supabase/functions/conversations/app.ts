import { authenticate, publicAccess } from "../_shared/auth.ts";
import { createApp, json, only, param, query } from "../_shared/http.ts";
import { unwrap } from "../_shared/rpc.ts";
import * as repo from "./repo.ts";
import { appendBody, conversationParam, createBody, listQuery, messagesQuery, updateBody } from "./schemas.ts";

export const app = createApp("conversations")
  .get("/health", publicAccess, async (c) => {
    unwrap(await c.var.supabaseContext.supabaseAdmin.rpc("health"));
    return c.json({ status: "ok", database: "ok" });
  })
  .all("/health", only("GET"))
  .use(...authenticate)
  .post("/", json(createBody), async (c) => c.json(await repo.create(c.var.caller, c.req.valid("json")), 201))
  .get("/", query(listQuery), async (c) => c.json(await repo.list(c.var.caller, c.req.valid("query"))))
  .get("/:id", param(conversationParam), async (c) => c.json(await repo.get(c.var.caller, c.req.valid("param").id)))
  .patch(
    "/:id",
    param(conversationParam),
    json(updateBody),
    async (c) => c.json(await repo.update(c.var.caller, c.req.valid("param").id, c.req.valid("json"))),
  )
  .delete("/:id", param(conversationParam), async (c) => {
    await repo.remove(c.var.caller, c.req.valid("param").id);
    return c.body(null, 204);
  })
  .post(
    "/:id/messages",
    param(conversationParam),
    json(appendBody),
    async (c) => c.json(await repo.append(c.var.caller, c.req.valid("param").id, c.req.valid("json")), 201),
  )
  .get(
    "/:id/messages",
    param(conversationParam),
    query(messagesQuery),
    async (c) => c.json(await repo.listMessages(c.var.caller, c.req.valid("param").id, c.req.valid("query"))),
  );

export type App = typeof app;
