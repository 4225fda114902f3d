import type { z } from "zod";
import type { Caller } from "../_shared/caller.ts";
import type { PassedJson, RawJson } from "../_shared/json.ts";
import { callOnce, callRaw, callThrough, type Replayable } from "../_shared/rpc.ts";
import type { History, mergeBody, putBody, Response } from "./schemas.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

/** What a PUT did: stored a new response, stored the same one again (nothing happened), or else replaced it. */
export type Stored = Response & { created?: boolean; replayed?: true };

export async function put({ supabase, userId }: Caller, id: string, body: z.output<typeof putBody>): Promise<Stored> {
  const stored = await callRaw<Stored>(
    supabase.rpc("put_response", { p_response_id: id, p_response: body, p_user_id: userId }),
  );
  return stored.parse();
}

export async function get({ supabase, userId }: Caller, id: string): Promise<PassedJson<Response & History>> {
  return await callThrough(supabase.rpc("get_response", { p_response_id: id, p_user_id: userId }));
}

/** The response without its items; an error if there is none. */
export async function head({ supabase, userId }: Caller, id: string): Promise<PassedJson<Response>> {
  return await callThrough(supabase.rpc("get_response", { p_response_id: id, p_items: false, p_user_id: userId }));
}

export async function remove(
  caller: Caller,
  id: string,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<null> }>> {
  return await callOnce(caller, idempotencyKey, "delete_response", { p_response_id: id, p_user_id: caller.userId });
}

export async function merge(
  { supabase, userId }: Caller,
  id: string,
  body: z.output<typeof mergeBody>,
): Promise<PassedJson<History>> {
  return await callThrough(supabase.rpc("merge_response", { p_response_id: id, p_body: body, p_user_id: userId }));
}
