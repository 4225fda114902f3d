import type { z } from "zod";
import type { Caller } from "../_shared/caller.ts";
import type { Json } from "../_shared/database.types.ts";
import { type Row, writeContext, writeMessage } from "../_shared/formats/formats.ts";
import { type ExportPage, toExportPage } from "../_shared/ndjson.ts";
import { invalidRequest } from "../_shared/http.ts";
import { joinJson, MAX_DEPTH, MAX_NAMES, MAX_VALUES, type PassedJson, type RawJson, shapeOf } from "../_shared/json.ts";
import { callOnce, callRaw, callThrough, type Replayable, unwrap, withCursor } from "../_shared/rpc.ts";
import type { Erasure, Page } from "../_shared/schemas.ts";
import {
  type appendBody,
  type Appended,
  type Context,
  type contextQuery,
  type Conversation,
  type createBody,
  type forkBody,
  type FormattedContext,
  type FormattedMessage,
  listCursor,
  type listQuery,
  type Message,
  type messagesQuery,
  type SearchCursor,
  searchCursor,
  type SearchHit,
  type searchQuery,
  type updateBody,
} from "./schemas.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

export async function create(
  { supabase, userId }: Caller,
  { messages, ...conversation }: z.output<typeof createBody>,
  idempotencyKey?: string,
): Promise<Replayable<Conversation>> {
  const created = await callRaw<Replayable<Conversation>>(
    supabase.rpc("create_conversation", {
      p_conversation: conversation,
      p_messages: messages as Json,
      p_idempotency_key: idempotencyKey,
      p_user_id: userId,
    }),
  );
  return created.parse();
}

export async function list(
  { supabase, userId }: Caller,
  { limit, cursor, video_id, metadata, archived }: z.output<typeof listQuery>,
): Promise<RawJson<Page<Conversation>>> {
  const page = await callRaw<Page<Conversation>>(
    supabase.rpc("list_conversations", {
      p_limit: limit,
      p_before_updated_at: cursor?.updated_at,
      p_before_id: cursor?.id,
      p_video_id: video_id,
      p_metadata: metadata,
      p_archived: archived,
      p_user_id: userId,
    }),
  );
  return withCursor(page, (last) => listCursor.encode(last.parse()));
}

export async function get({ supabase, userId }: Caller, id: string): Promise<Conversation> {
  return unwrap(await supabase.rpc("get_conversation", { p_conversation_id: id, p_user_id: userId }));
}

export async function update(
  caller: Caller,
  id: string,
  changes: z.output<typeof updateBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<Conversation> }>> {
  return await callOnce(caller, idempotencyKey, "update_conversation", {
    p_conversation_id: id,
    p_changes: changes,
    p_user_id: caller.userId,
  });
}

export async function remove(
  caller: Caller,
  id: string,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<null> }>> {
  return await callOnce(caller, idempotencyKey, "delete_conversation", {
    p_conversation_id: id,
    p_user_id: caller.userId,
  });
}

export async function erase(
  caller: Caller,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<Erasure> }>> {
  return await callOnce(caller, idempotencyKey, "erase_conversations", { p_user_id: caller.userId });
}

export async function getErasure({ supabase, userId }: Caller, id: string): Promise<Erasure> {
  return unwrap(
    await supabase.rpc("get_erasure", { p_erasure_id: id, p_scope: "conversations", p_user_id: userId }),
  );
}

export async function append(
  { supabase, userId }: Caller,
  id: string,
  { messages, expected_sequence }: z.output<typeof appendBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ appended: RawJson<Appended> }>> {
  const { replayed, ...appended } = (await callRaw<Replayable<Appended>>(
    supabase.rpc("append_messages", {
      p_conversation_id: id,
      p_messages: messages as Json,
      p_expected_sequence: expected_sequence,
      p_idempotency_key: idempotencyKey,
      p_user_id: userId,
    }),
  )).members();
  return { appended: joinJson<Appended>(appended), ...(replayed && { replayed: true }) };
}

export async function listMessages(
  { supabase, userId }: Caller,
  id: string,
  { after, before, limit, order, format }: z.output<typeof messagesQuery>,
): Promise<RawJson<Page<Message> | Page<FormattedMessage>>> {
  const page = await callRaw<Page<Message>>(
    supabase.rpc("list_messages", {
      p_conversation_id: id,
      p_after: after,
      p_before: before,
      p_limit: limit,
      p_order: order,
      p_format: format,
      p_user_id: userId,
    }),
  );
  if (format === "message") return withCursor(page, (last) => last.members().sequence_order.toString());
  const { data, has_more } = parseRows(page, "limit");
  return joinJson<Page<FormattedMessage>>({
    data: data.flatMap((row) => writeMessage(row as Row, format)),
    has_more,
    next_cursor: has_more ? `${data.at(-1)!.sequence_order}` : null,
  });
}

/**
 * What has to be looked at, message by message.
 *
 * @param parameter What makes the answer smaller.
 * @throws {ApiError} 400 `invalid_request` for more JSON than a request may parse.
 */
function parseRows<T>(rows: RawJson<T>, parameter: string): T {
  const { values, names, depth } = shapeOf(rows.bytes);
  if (values <= MAX_VALUES && names <= MAX_NAMES && depth <= MAX_DEPTH) return rows.parse();
  const message = `The messages have more JSON than can be converted: ask for less, or for the format message.`;
  throw invalidRequest([{ path: parameter, message }]);
}

export async function getContext(
  { supabase, userId }: Caller,
  id: string,
  { max_tokens, max_messages, begin, explain, format }: z.output<typeof contextQuery>,
): Promise<PassedJson<Context | FormattedContext> | RawJson<Context | FormattedContext>> {
  const call = supabase.rpc("get_context", {
    p_conversation_id: id,
    p_max_tokens: max_tokens,
    p_max_messages: max_messages,
    p_explain: explain,
    p_begin: begin,
    p_format: format,
    p_user_id: userId,
  });
  if (format === "message") return await callThrough(call);
  const context = await callRaw<Context>(call);
  const { messages, explain: explained, ...measured } = parseRows(context, "max_tokens");
  const { request, changes, ...made } = writeContext(messages as Row[], format);
  return joinJson({
    ...request,
    ...measured,
    ...made,
    explain: explained && { ...explained, changed: changes },
  } as FormattedContext);
}

export async function fork(
  { supabase, userId }: Caller,
  id: string,
  { at }: z.output<typeof forkBody>,
  idempotencyKey?: string,
): Promise<Replayable<Conversation>> {
  return unwrap(
    await supabase.rpc("fork_conversation", {
      p_conversation_id: id,
      p_at: at,
      p_idempotency_key: idempotencyKey,
      p_user_id: userId,
    }),
  );
}

export async function removeMessage(
  caller: Caller,
  id: string,
  messageId: string,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<null> }>> {
  return await callOnce(caller, idempotencyKey, "delete_message", {
    p_conversation_id: id,
    p_message_id: messageId,
    p_user_id: caller.userId,
  });
}

export async function search(
  { supabase, userId }: Caller,
  { q, limit, cursor: after }: z.output<typeof searchQuery>,
): Promise<RawJson<Page<SearchHit>>> {
  const found = await callRaw<Page<SearchHit> & { last: SearchCursor | null }>(
    supabase.rpc("search_messages", {
      p_query: q,
      p_limit: limit,
      p_after_score: after?.score,
      p_after_created_at: after?.created_at,
      p_after_id: after?.id,
      p_user_id: userId,
    }),
  );
  const { last, ...page } = found.members();
  const cursor = last.parse();
  return joinJson<Page<SearchHit>>({ ...page, next_cursor: cursor && searchCursor.encode(cursor) });
}

/** The page of an export that begins at a place, the first one without. */
export async function exportPage(
  { supabase, userId }: Caller,
  place: ExportPage["next"] | undefined,
  signal: AbortSignal,
): Promise<ExportPage> {
  return toExportPage(
    await callRaw(supabase.rpc("export_page", { p_cursor: place ?? {}, p_user_id: userId }).abortSignal(signal)),
  );
}

interface Imported {
  id: string;
  messages: number;
  video_dropped: boolean;
  status: "imported" | "grown" | "unchanged";
}

/** @param idempotencyKey That of this conversation: a request has many. */
export async function importConversation(
  caller: Caller,
  conversation: { [key: string]: unknown },
  messages: { [key: string]: unknown }[],
  idempotencyKey?: string,
): Promise<Imported> {
  const { answer } = await callOnce<Imported>(
    caller,
    idempotencyKey,
    "import_conversation",
    { p_conversation: conversation as Json, p_messages: messages as Json, p_user_id: caller.userId },
  );
  return answer.parse();
}

/** Answers which of the ids are gone: nothing shows them. */
export async function finishImport({ supabase, userId }: Caller, ids: string[]): Promise<string[]> {
  return unwrap(await supabase.rpc("finish_import", { p_ids: ids, p_user_id: userId }));
}
