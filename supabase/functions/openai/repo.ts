import type { z } from "zod";
import type { Caller } from "../_shared/caller.ts";
import type { Json } from "../_shared/database.types.ts";
import { joinJson, type JsonObject, type PassedJson, type RawJson } from "../_shared/json.ts";
import { callOnce, callRaw, callThrough, type Replayable, unwrap } from "../_shared/rpc.ts";
import type {
  Conversation,
  createBody,
  deletedConversation,
  deletedResponse,
  Item,
  ItemList,
  itemParam,
  listQuery,
  Response,
  updateBody,
} from "./schemas.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

type ConversationRow = { id: string; created_at: string; metadata: JsonObject };
type ResponseRow = Pick<Response, "id" | "created_at" | "model" | "output" | "previous_response_id"> & {
  is_complete: boolean;
  conversation_id: string | null;
};

const conversationId = (uuid: string): string => `conv_${uuid.replaceAll("-", "")}`;

const toConversation = ({ id, created_at, metadata }: ConversationRow): Conversation => ({
  id: conversationId(id),
  object: "conversation",
  created_at: Math.floor(Date.parse(created_at) / 1000),
  metadata,
});

export async function create(
  { supabase, userId }: Caller,
  { items, metadata }: z.output<typeof createBody>,
  idempotencyKey?: string,
): Promise<Replayable<Conversation>> {
  const { replayed, ...row } = (await callRaw<Replayable<ConversationRow>>(
    supabase.rpc("create_conversation_of_items", {
      p_items: (items ?? []) as Json,
      p_metadata: metadata ?? {},
      p_idempotency_key: idempotencyKey,
      p_user_id: userId,
    }),
  )).parse();
  return { ...toConversation(row), ...(replayed && { replayed }) };
}

export async function get({ supabase, userId }: Caller, id: string): Promise<Conversation> {
  return toConversation(
    unwrap(await supabase.rpc("get_conversation", { p_conversation_id: id, p_user_id: userId })),
  );
}

export async function update(
  caller: Caller,
  id: string,
  { metadata }: z.output<typeof updateBody>,
  idempotencyKey?: string,
): Promise<Replayable<Conversation>> {
  const { answer, ...rest } = await callOnce<ConversationRow>(caller, idempotencyKey, "replace_metadata", {
    p_conversation_id: id,
    p_metadata: metadata ?? {},
    p_user_id: caller.userId,
  });
  return { ...toConversation(answer.parse()), ...rest };
}

export async function remove(
  caller: Caller,
  id: string,
  idempotencyKey?: string,
): Promise<Replayable<z.infer<typeof deletedConversation>>> {
  const args = { p_conversation_id: id, p_user_id: caller.userId };
  const { answer: _, ...rest } = await callOnce(caller, idempotencyKey, "delete_conversation", args);
  return { id: conversationId(id), object: "conversation.deleted", deleted: true, ...rest };
}

export async function append(
  { supabase, userId }: Caller,
  id: string,
  items: JsonObject[],
  idempotencyKey?: string,
): Promise<Replayable<{ list: RawJson<ItemList> | PassedJson<ItemList> }>> {
  const call = supabase.rpc("append_items", {
    p_conversation_id: id,
    p_items: items as Json,
    p_idempotency_key: idempotencyKey,
    p_user_id: userId,
  });
  if (idempotencyKey === undefined) return { list: await callThrough<ItemList>(call) };
  const { replayed, ...list } = (await callRaw<Replayable<ItemList>>(call)).members();
  return { list: joinJson<ItemList>(list), ...(replayed && { replayed: true }) };
}

export async function listItems(
  { supabase, userId }: Caller,
  id: string,
  { limit, order, after }: z.output<typeof listQuery>,
): Promise<PassedJson<ItemList>> {
  return await callThrough(
    supabase.rpc("list_items", {
      p_conversation_id: id,
      p_after: after,
      p_limit: limit,
      p_order: order,
      p_user_id: userId,
    }),
  );
}

export async function getItem(
  { supabase, userId }: Caller,
  { conversation_id, item_id }: z.output<typeof itemParam>,
): Promise<PassedJson<Item>> {
  return await callThrough(
    supabase.rpc("get_item", { p_conversation_id: conversation_id, p_item_id: item_id, p_user_id: userId }),
  );
}

export async function removeItem(
  caller: Caller,
  { conversation_id, item_id }: z.output<typeof itemParam>,
  idempotencyKey?: string,
): Promise<Replayable<Conversation>> {
  const { answer, ...rest } = await callOnce<ConversationRow>(caller, idempotencyKey, "delete_item", {
    p_conversation_id: conversation_id,
    p_item_id: item_id,
    p_user_id: caller.userId,
  });
  return { ...toConversation(answer.parse()), ...rest };
}

export async function getResponse({ supabase, userId }: Caller, id: string): Promise<RawJson<Response>> {
  const { is_complete, conversation_id, ...row } = (await callRaw<ResponseRow>(
    supabase.rpc("get_openai_response", { p_response_id: id, p_user_id: userId }),
  )).members();
  const uuid = conversation_id.parse();
  return joinJson<Response>({
    ...row,
    object: "response",
    status: is_complete.parse() ? "completed" : "incomplete",
    conversation: uuid === null ? null : { id: conversationId(uuid) },
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    parallel_tool_calls: true,
    temperature: null,
    tool_choice: "auto",
    tools: [],
    top_p: null,
  });
}

export async function removeResponse(
  caller: Caller,
  id: string,
  idempotencyKey?: string,
): Promise<Replayable<z.infer<typeof deletedResponse>>> {
  const args = { p_response_id: id, p_user_id: caller.userId };
  const { answer: _, ...rest } = await callOnce(caller, idempotencyKey, "delete_response", args);
  return { id, object: "response", deleted: true, ...rest };
}

export async function listInputItems(
  { supabase, userId }: Caller,
  id: string,
  { limit, order, after }: z.output<typeof listQuery>,
): Promise<PassedJson<ItemList>> {
  return await callThrough(
    supabase.rpc("list_input_items", {
      p_response_id: id,
      p_after: after,
      p_limit: limit,
      p_order: order,
      p_user_id: userId,
    }),
  );
}
