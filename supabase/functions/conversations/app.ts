import { authenticate, publicAccess } from "../_shared/auth.ts";
import { createApp, idempotencyKey, json, only, param, query, replayHeader } from "../_shared/http.ts";
import { unwrap } from "../_shared/rpc.ts";
import * as repo from "./repo.ts";
import {
  appendBody,
  conversationParam,
  createBody,
  forkBody,
  listQuery,
  messageParam,
  messagesQuery,
  searchQuery,
  updateBody,
} from "./schemas.ts";

export const app = createApp("conversations")
  .get("/health", publicAccess, async (c) => {
    unwrap(await c.var.supabaseContext.supabaseAdmin.rpc("health"));
    return c.json({ status: "ok", database: "ok" });
  })
  .all("/health", only("GET"))
  .use(...authenticate)
  .post("/", json(createBody), async (c) => {
    const { replayed, ...conversation } = await repo.create(c.var.caller, c.req.valid("json"), idempotencyKey(c));
    return c.json(conversation, 201, replayHeader(replayed));
  })
  .get("/", query(listQuery), async (c) => c.json(await repo.list(c.var.caller, c.req.valid("query"))))
  .get("/search", query(searchQuery), async (c) => c.json(await repo.search(c.var.caller, c.req.valid("query"))))
  .all("/search", only("GET"))
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
  .post("/:id/messages", param(conversationParam), json(appendBody), async (c) => {
    const { id } = c.req.valid("param");
    const { replayed, ...appended } = await repo.append(c.var.caller, id, c.req.valid("json"), idempotencyKey(c));
    return c.json(appended, 201, replayHeader(replayed));
  })
  .get(
    "/:id/messages",
    param(conversationParam),
    query(messagesQuery),
    async (c) => c.json(await repo.listMessages(c.var.caller, c.req.valid("param").id, c.req.valid("query"))),
  )
  .delete("/:id/messages/:message_id", param(messageParam), async (c) => {
    const { id, message_id } = c.req.valid("param");
    await repo.removeMessage(c.var.caller, id, message_id);
    return c.body(null, 204);
  })
  .post(
    "/:id/fork",
    param(conversationParam),
    json(forkBody),
    async (c) => c.json(await repo.fork(c.var.caller, c.req.valid("param").id, c.req.valid("json")), 201),
  );

export type App = typeof app;
