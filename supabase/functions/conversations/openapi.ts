import { z } from "zod";
import { exportQuery, NDJSON } from "../_shared/ndjson.ts";
import { buildOpenapi, idempotent, type Operation, publicOperations } from "../_shared/openapi.ts";
import { confirmQuery, erasure, page } from "../_shared/schemas.ts";
import * as schemas from "./schemas.ts";
import { importReport } from "./transfer.ts";

/** Every route of app.ts. tests/unit/openapi.test.ts compares the two. */
export const operations: Record<string, Operation> = {
  ...publicOperations("conversations"),
  "POST /conversations": {
    summary: "Create a conversation, with its first messages or without",
    headers: idempotent,
    body: schemas.createBody,
    answers: { 201: schemas.conversation },
    errors: ["video_not_found", "idempotency_mismatch", "item_conflict"],
  },
  "GET /conversations": {
    summary: "List conversations, newest activity first",
    query: schemas.listQuery,
    answers: { 200: page(schemas.conversation) },
  },
  "DELETE /conversations": {
    summary: "Erase all conversations and responses that one has: what does not go at once goes in steps",
    headers: idempotent,
    query: confirmQuery,
    answers: { 202: erasure },
    errors: ["idempotency_mismatch", "user_id_required"],
  },
  "GET /conversations/erasures/:id": {
    summary: "The receipt of an erasure: what is removed so far, and whether anything is left",
    answers: { 200: erasure },
    errors: ["erasure_not_found"],
  },
  "GET /conversations/search": {
    summary: "Search one's own messages and titles",
    query: schemas.searchQuery,
    answers: { 200: page(schemas.searchHit) },
  },
  "GET /conversations/export": {
    summary: "Export everything one owns as NDJSON, streamed, in pieces",
    query: exportQuery,
    answers: {
      200: {
        mediaType: NDJSON,
        description:
          "Conversations, each before its messages. The last line is of type end with the counts of all pieces, or " +
          "of type next with the cursor of the next piece.",
      },
    },
  },
  "POST /conversations/import": {
    summary: "Import an export, or ChatGPT's conversations.json",
    headers: idempotent,
    bodyTypes: {
      [NDJSON]: "Lines as an export has them.",
      "application/json": "The array of a ChatGPT data export.",
    },
    answers: { 200: importReport },
    errors: ["idempotency_mismatch"],
  },
  "GET /conversations/:id": {
    summary: "Load a conversation, without its messages",
    answers: { 200: schemas.conversation },
    errors: ["conversation_not_found"],
  },
  "PATCH /conversations/:id": {
    summary: "Change a conversation; metadata is merged at the top level, null removes a key",
    headers: idempotent,
    body: schemas.updateBody,
    answers: { 200: schemas.conversation },
    errors: ["idempotency_mismatch", "conversation_not_found", "video_not_found"],
  },
  "DELETE /conversations/:id": {
    summary: "Delete a conversation; living forks keep what they show",
    headers: idempotent,
    answers: { 204: null },
    errors: ["idempotency_mismatch", "conversation_not_found"],
  },
  "POST /conversations/:id/messages": {
    summary: "Append messages: all of them, contiguously, or none",
    headers: idempotent,
    body: schemas.appendBody,
    answers: { 201: schemas.appended },
    errors: ["conversation_not_found", "sequence_conflict", "idempotency_mismatch", "item_conflict"],
  },
  "GET /conversations/:id/messages": {
    summary: "Load messages in order",
    query: schemas.messagesQuery,
    answers: { 200: z.union([page(schemas.message), page(schemas.formattedMessage)]) },
    errors: ["conversation_not_found"],
  },
  "DELETE /conversations/:id/messages/:message_id": {
    summary: "Delete a message from every conversation that shows it; its number stays unused",
    headers: idempotent,
    answers: { 204: null },
    errors: ["idempotency_mismatch", "conversation_not_found", "message_not_found"],
  },
  "GET /conversations/:id/context": {
    summary: "What of a conversation fits a model's budget",
    query: schemas.contextQuery,
    answers: { 200: z.union([schemas.context, schemas.formattedContext]) },
    errors: ["conversation_not_found", "budget_too_small"],
  },
  "POST /conversations/:id/fork": {
    summary: "Fork: a new conversation that shares the first messages of this one",
    headers: idempotent,
    body: schemas.forkBody,
    answers: { 201: schemas.conversation },
    errors: ["conversation_not_found", "idempotency_mismatch", "fork_limit"],
  },
};

export const openapi = buildOpenapi(operations);
