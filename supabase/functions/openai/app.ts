import { createApp } from "../_shared/app.ts";
import { authenticate, secretKeyAsBearer } from "../_shared/auth.ts";
import { idempotencyKey, json, noQuery, param, query, replayHeader, sendJson } from "../_shared/http.ts";
import { toErrorBody } from "./errors.ts";
import * as repo from "./repo.ts";
import {
  conversationParam,
  createBody,
  includeQuery,
  itemParam,
  itemsBody,
  listQuery,
  LISTS,
  responseParam,
  responseQuery,
  updateBody,
} from "./schemas.ts";

/** The part of the OpenAI API that remembers, for clients of it whose base URL ends in `/functions/v1/openai/v1`. */
export const app = createApp("openai", () => import("./openapi.ts"), { toErrorBody })
  .use(secretKeyAsBearer)
  .use(authenticate)
  .post("/v1/conversations", noQuery, json(createBody), async (c) => {
    const { replayed, ...conversation } = await repo.create(c.var.caller, c.req.valid("json"), idempotencyKey(c));
    return c.json(conversation, 200, replayHeader(replayed));
  })
  .get(
    "/v1/conversations/:conversation_id",
    noQuery,
    param(conversationParam),
    async (c) => c.json(await repo.get(c.var.caller, c.req.valid("param").conversation_id)),
  )
  .post(
    "/v1/conversations/:conversation_id",
    noQuery,
    param(conversationParam),
    json(updateBody),
    async (c) => {
      const { replayed, ...conversation } = await repo.update(
        c.var.caller,
        c.req.valid("param").conversation_id,
        c.req.valid("json"),
        idempotencyKey(c),
      );
      return c.json(conversation, 200, replayHeader(replayed));
    },
  )
  .delete(
    "/v1/conversations/:conversation_id",
    noQuery,
    param(conversationParam),
    async (c) => {
      const { replayed, ...deleted } = await repo.remove(
        c.var.caller,
        c.req.valid("param").conversation_id,
        idempotencyKey(c),
      );
      return c.json(deleted, 200, replayHeader(replayed));
    },
  )
  .post(
    "/v1/conversations/:conversation_id/items",
    query(includeQuery, LISTS),
    param(conversationParam),
    json(itemsBody),
    async (c) => {
      const { conversation_id } = c.req.valid("param");
      const { items } = c.req.valid("json");
      const { replayed, list } = await repo.append(c.var.caller, conversation_id, items, idempotencyKey(c));
      return sendJson(c, list, 200, replayHeader(replayed));
    },
  )
  .get(
    "/v1/conversations/:conversation_id/items",
    query(listQuery, LISTS),
    param(conversationParam),
    async (c) =>
      sendJson(c, await repo.listItems(c.var.caller, c.req.valid("param").conversation_id, c.req.valid("query"))),
  )
  .get(
    "/v1/conversations/:conversation_id/items/:item_id",
    query(includeQuery, LISTS),
    param(itemParam),
    async (c) => sendJson(c, await repo.getItem(c.var.caller, c.req.valid("param"))),
  )
  .delete(
    "/v1/conversations/:conversation_id/items/:item_id",
    noQuery,
    param(itemParam),
    async (c) => {
      const { replayed, ...conversation } = await repo.removeItem(
        c.var.caller,
        c.req.valid("param"),
        idempotencyKey(c),
      );
      return c.json(conversation, 200, replayHeader(replayed));
    },
  )
  .get(
    "/v1/responses/:response_id",
    query(responseQuery, LISTS),
    param(responseParam),
    async (c) => sendJson(c, await repo.getResponse(c.var.caller, c.req.valid("param").response_id)),
  )
  .delete(
    "/v1/responses/:response_id",
    noQuery,
    param(responseParam),
    async (c) => {
      const { replayed, ...deleted } = await repo.removeResponse(
        c.var.caller,
        c.req.valid("param").response_id,
        idempotencyKey(c),
      );
      return c.json(deleted, 200, replayHeader(replayed));
    },
  )
  .get(
    "/v1/responses/:response_id/input_items",
    query(listQuery, LISTS),
    param(responseParam),
    async (c) =>
      sendJson(c, await repo.listInputItems(c.var.caller, c.req.valid("param").response_id, c.req.valid("query"))),
  );

export type App = typeof app;
