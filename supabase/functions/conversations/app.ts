import { createApp, only } from "../_shared/app.ts";
import { authenticate } from "../_shared/auth.ts";
import { idempotencyKey, json, noQuery, param, query, replayHeader, sendJson } from "../_shared/http.ts";
import { exportQuery, NDJSON, streamExport } from "../_shared/ndjson.ts";
import { large } from "../_shared/turns.ts";
import { confirmQuery, erasureParam } from "../_shared/schemas.ts";
import * as repo from "./repo.ts";
import {
  appendBody,
  contextQuery,
  conversationParam,
  createBody,
  forkBody,
  listQuery,
  messageParam,
  messagesQuery,
  searchQuery,
  updateBody,
} from "./schemas.ts";
import { runImport } from "./transfer.ts";

export const app = createApp("conversations", () => import("./openapi.ts"))
  .use(authenticate)
  .post("/", noQuery, json(createBody), async (c) => {
    const { replayed, ...conversation } = await repo.create(c.var.caller, c.req.valid("json"), idempotencyKey(c));
    return c.json(conversation, 201, replayHeader(replayed));
  })
  .get("/", query(listQuery), async (c) => sendJson(c, await repo.list(c.var.caller, c.req.valid("query"))))
  .delete("/", query(confirmQuery), async (c) => {
    const { answer, replayed } = await repo.erase(c.var.caller, idempotencyKey(c));
    const receipt = answer.parse();
    const location = `/functions/v1/conversations/erasures/${receipt.id}`;
    return c.json(receipt, 202, { location, ...replayHeader(replayed) });
  })
  .get(
    "/erasures/:id",
    noQuery,
    param(erasureParam),
    async (c) => c.json(await repo.getErasure(c.var.caller, c.req.valid("param").id)),
  )
  .get(
    "/search",
    query(searchQuery),
    large,
    async (c) => sendJson(c, await repo.search(c.var.caller, c.req.valid("query"))),
  )
  .all("/search", only("GET", "HEAD"))
  .get("/export", query(exportQuery), async (c) => {
    const { cursor } = c.req.valid("query");
    const lines = await streamExport(c, cursor, (place, signal) => repo.exportPage(c.var.caller, place, signal));
    return c.body(lines, 200, { "content-type": NDJSON });
  })
  .all("/export", only("GET", "HEAD"))
  .post("/import", noQuery, async (c) => c.json(await runImport(c)))
  .all("/import", only("POST"))
  .get(
    "/:id",
    noQuery,
    param(conversationParam),
    async (c) => c.json(await repo.get(c.var.caller, c.req.valid("param").id)),
  )
  .patch(
    "/:id",
    noQuery,
    param(conversationParam),
    json(updateBody),
    async (c) => {
      const { id } = c.req.valid("param");
      const { answer, replayed } = await repo.update(c.var.caller, id, c.req.valid("json"), idempotencyKey(c));
      return sendJson(c, answer, 200, replayHeader(replayed));
    },
  )
  .delete("/:id", noQuery, param(conversationParam), async (c) => {
    const { replayed } = await repo.remove(c.var.caller, c.req.valid("param").id, idempotencyKey(c));
    return c.body(null, 204, replayHeader(replayed));
  })
  .post("/:id/messages", noQuery, param(conversationParam), json(appendBody), async (c) => {
    const { id } = c.req.valid("param");
    const { replayed, appended } = await repo.append(c.var.caller, id, c.req.valid("json"), idempotencyKey(c));
    return sendJson(c, appended, 201, replayHeader(replayed));
  })
  .get(
    "/:id/messages",
    param(conversationParam),
    query(messagesQuery),
    async (c) => sendJson(c, await repo.listMessages(c.var.caller, c.req.valid("param").id, c.req.valid("query"))),
  )
  .delete("/:id/messages/:message_id", noQuery, param(messageParam), async (c) => {
    const { id, message_id } = c.req.valid("param");
    const { replayed } = await repo.removeMessage(c.var.caller, id, message_id, idempotencyKey(c));
    return c.body(null, 204, replayHeader(replayed));
  })
  .get(
    "/:id/context",
    param(conversationParam),
    query(contextQuery),
    async (c) => sendJson(c, await repo.getContext(c.var.caller, c.req.valid("param").id, c.req.valid("query"))),
  )
  .post("/:id/fork", noQuery, param(conversationParam), json(forkBody), async (c) => {
    const { id } = c.req.valid("param");
    const { replayed, ...fork } = await repo.fork(c.var.caller, id, c.req.valid("json"), idempotencyKey(c));
    return c.json(fork, 201, replayHeader(replayed));
  });

export type App = typeof app;
