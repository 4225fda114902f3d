import type { z } from "zod";
import type { Caller } from "../_shared/caller.ts";
import type { Json } from "../_shared/database.types.ts";
import { joinJson, type PassedJson, type RawJson } from "../_shared/json.ts";
import { callOnce, callRaw, callThrough, type Replayable, unwrap, withCursor } from "../_shared/rpc.ts";
import type { Page } from "../_shared/schemas.ts";
import {
  type Analytics,
  type analyticsQuery,
  type appendBody,
  type Appended,
  auditCursor,
  type AuditedEvent,
  type auditQuery,
  type Context,
  type contextQuery,
  type endBody,
  type Event,
  type eventsQuery,
  listCursor,
  type listQuery,
  type openBody,
  type Session,
  type Unsummarized,
  type unsummarizedQuery,
} from "./schemas.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

export async function open(
  { supabase, userId }: Caller,
  session: z.output<typeof openBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ session: Session; created: boolean }>> {
  return unwrap(
    await supabase.rpc("open_session", {
      p_session: session,
      p_idempotency_key: idempotencyKey,
      p_user_id: userId,
    }),
  );
}

export async function end(
  caller: Caller,
  id: string,
  { summary }: z.output<typeof endBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<Session> }>> {
  return await callOnce(caller, idempotencyKey, "end_session", {
    p_session_id: id,
    p_summary: summary ?? undefined,
    p_user_id: caller.userId,
  });
}

export async function get({ supabase, userId }: Caller, id: string): Promise<Session> {
  return unwrap(await supabase.rpc("get_session", { p_session_id: id, p_user_id: userId }));
}

export async function list(
  { supabase, userId }: Caller,
  { from, to, user_id, limit, cursor }: z.output<typeof listQuery>,
): Promise<RawJson<Page<Session>>> {
  const page = await callRaw<Page<Session>>(
    supabase.rpc("list_sessions", {
      p_from: from,
      p_to: to,
      p_limit: limit,
      p_before_start_time: cursor?.start_time,
      p_before_id: cursor?.id,
      p_of_user_id: user_id,
      p_user_id: userId,
    }),
  );
  return withCursor(page, (last) => listCursor.encode(last.parse()));
}

export async function append(
  { supabase, userId }: Caller,
  id: string,
  { events }: z.output<typeof appendBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ appended: RawJson<Appended> }>> {
  const { replayed, ...appended } = (await callRaw<Replayable<Appended>>(
    supabase.rpc("append_events", {
      p_session_id: id,
      p_events: events as Json,
      p_idempotency_key: idempotencyKey,
      p_user_id: userId,
    }),
  )).members();
  return { appended: joinJson<Appended>(appended), ...(replayed && { replayed: true }) };
}

/** A page of events, and the session as it was at that moment. */
export async function readEvents(
  { supabase, userId }: Caller,
  id: string,
  { after, types, limit }: z.output<typeof eventsQuery>,
  signal = AbortSignal.timeout(30_000),
): Promise<RawJson<{ data: Event[]; has_more: boolean; session: Session }>> {
  return await callRaw(
    supabase.rpc("list_events", {
      p_session_id: id,
      p_after: after,
      p_types: types,
      p_limit: limit,
      p_user_id: userId,
    }).abortSignal(signal),
  );
}

export async function listEvents(
  caller: Caller,
  id: string,
  query: z.output<typeof eventsQuery>,
): Promise<RawJson<Page<Event>>> {
  const { session: _, ...page } = (await readEvents(caller, id, query)).members();
  return withCursor(joinJson<Omit<Page<Event>, "next_cursor">>(page), (last) => last.members().sequence.toString());
}

export async function audit(
  { supabase, userId }: Caller,
  { from, to, types, q, user_id, fold, limit, cursor }: z.output<typeof auditQuery>,
): Promise<RawJson<Page<AuditedEvent>>> {
  const found = await callRaw<
    { data: AuditedEvent[]; has_more: boolean; next: Parameters<typeof auditCursor.encode>[0] | null }
  >(
    supabase.rpc("audit_events", {
      p_from: from ?? cursor?.from,
      p_to: to ?? cursor?.to,
      p_types: types,
      p_query: q,
      p_fold: fold,
      p_limit: limit,
      p_after_occurred_at: cursor?.occurred_at,
      p_after_session_id: cursor?.session_id,
      p_after_sequence: cursor?.sequence,
      p_after_chunk: cursor?.chunk,
      p_of_user_id: user_id,
      p_user_id: userId,
    }),
  );
  const { data, has_more, next } = found.members();
  const place = next.parse();
  return joinJson<Page<AuditedEvent>>({ data, has_more, next_cursor: place && auditCursor.encode(place) });
}

export async function analyze(
  { supabase, userId }: Caller,
  { from, to, bucket, time_zone, user_id }: z.output<typeof analyticsQuery>,
): Promise<PassedJson<Analytics>> {
  return await callThrough(
    supabase.rpc("session_analytics", {
      p_from: from,
      p_to: to,
      p_bucket: bucket,
      p_time_zone: time_zone,
      p_of_user_id: user_id,
      p_user_id: userId,
    }),
  );
}

export async function getContext(
  { supabase, userId }: Caller,
  { max_tokens, max_sessions, user_id }: z.output<typeof contextQuery>,
): Promise<PassedJson<Context>> {
  return await callThrough(
    supabase.rpc("get_session_context", {
      p_max_tokens: max_tokens,
      p_max_sessions: max_sessions,
      p_of_user_id: user_id,
      p_user_id: userId,
    }),
  );
}

export async function takeUnsummarized(
  { supabase, userId }: Caller,
  { limit, lease_seconds }: z.output<typeof unsummarizedQuery>,
): Promise<PassedJson<Unsummarized>> {
  return await callThrough(
    supabase.rpc("take_unsummarized", { p_limit: limit, p_lease_seconds: lease_seconds, p_user_id: userId }),
  );
}
