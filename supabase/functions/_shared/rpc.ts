import type { PostgrestError, PostgrestSingleResponse } from "@supabase/supabase-js";
import type { Caller } from "./caller.ts";
import type { Database, Json } from "./database.types.ts";
import { ApiError, fromDatabase } from "./errors.ts";
import { escapeJson, joinJson, PassedJson, RawJson, unescapeJson, unescapingStream } from "./json.ts";
import type { Page } from "./schemas.ts";

/**
 * How long a call of the database may take. Longer than a statement may (8 s on the platform), so that its own error is
 * heard; short enough for an answer within 10 s where the database, or PostgREST before it, hangs.
 */
const CALL_TIMEOUT_MS = 9_000;

/**
 * Of every client of the database: a call ends in time, as one that found no connection in PostgREST's pool does, is sent
 * once, and may send and answer text that Postgres cannot store.
 */
export const clientOptions = {
  db: { retry: false }, // the caller's decision: repeating a GET up to three times would take as many time-outs
  global: { fetch: callDatabase },
};

interface CallInit extends RequestInit {
  /** The answer is passed on as fast as its reader takes it: what has to come in time is its beginning. */
  isPassedOn?: boolean;
}

async function callDatabase(input: RequestInfo | URL, { isPassedOn, ...init }: CallInit = {}): Promise<Response> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), CALL_TIMEOUT_MS);
  const signal = init.signal ? AbortSignal.any([init.signal, late.signal]) : late.signal;
  try {
    const response = await fetch(input, { ...init, body: toBody(init.body), signal });
    if (isPassedOn) return new Response(response.body?.pipeThrough(unescapingStream()), response);
    const bytes = unescapeJson(new Uint8Array(await response.arrayBuffer()));
    return new Response(bytes.length > 0 ? bytes : null, response);
  } catch (error) {
    if (!late.signal.aborted || init.signal?.aborted) throw error;
    return Response.json({ code: "PGRST003", message: `No answer within ${CALL_TIMEOUT_MS} ms.` }, { status: 504 });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Deno sends a request again whose connection closes before the answer, a POST that the server has done as well, if it has the
 * whole body at hand. Of a Blob it has not.
 */
const toBody = (body: BodyInit | null | undefined) => typeof body === "string" ? new Blob([escapeJson(body)]) : body;

/**
 * The result of an RPC, or the {@link ApiError} it means.
 *
 * Our SQL answers one jsonb value of a documented shape; `T` names that shape. It is not checked at run time: the tests
 * compare what comes back with what went in.
 */
export function unwrap<T>({ data, error, status }: PostgrestSingleResponse<unknown>): T {
  if (error) throw fromDatabase(error, status);
  return data as T;
}

/** An answer that a repeated Idempotency-Key gets again. */
export type Replayable<T> = T & { replayed?: true };

/**
 * What a builder of supabase-js is about to send. It gives nobody the text of an answer, and prints a body value by value,
 * for the sake of bigints: three times the CPU that a whole request has.
 */
interface Prepared {
  url: URL;
  headers: Headers;
  schema?: string;
  body: unknown;
  signal?: AbortSignal;
  fetch: typeof fetch;
}

/** Sends it. Throws the {@link ApiError} that its answer means, if it means one. */
async function send(
  call: PromiseLike<PostgrestSingleResponse<unknown>>,
  init: CallInit = {},
): Promise<Response> {
  const { url, headers, schema, body, signal, fetch } = call as unknown as Prepared;
  headers.set("Content-Type", "application/json");
  if (schema) headers.set("Content-Profile", schema);
  try {
    const response = await fetch(url, { ...init, method: "POST", headers, body: JSON.stringify(body), signal });
    if (response.ok) return response;
    throw fromDatabase(readError(await response.text()), response.status);
  } catch (error) {
    throw notSent(error);
  }
}

const notSent = (error: unknown) =>
  error instanceof ApiError ? error : fromDatabase({ code: "", message: String(error) } as PostgrestError, 0);

/**
 * The result of an RPC as the database printed it, or the {@link ApiError} it means: for what may be large.
 *
 * @example await callRaw<Page<Event>>(supabase.rpc("list_events", { p_session_id: id }))
 */
export async function callRaw<T>(call: PromiseLike<PostgrestSingleResponse<unknown>>): Promise<RawJson<T>> {
  const response = await send(call);
  try {
    return new RawJson(new Uint8Array(await response.arrayBuffer()));
  } catch (error) {
    throw notSent(error);
  }
}

/**
 * The result of an RPC on its way through, or the {@link ApiError} it means: for what may be large and is the whole answer: to
 * hold it, and to send it from there, costs copies of it.
 *
 * @example await callThrough<History>(supabase.rpc("get_response", { p_response_id: id }))
 */
export async function callThrough<T>(call: PromiseLike<PostgrestSingleResponse<unknown>>): Promise<PassedJson<T>> {
  return new PassedJson((await send(call, { isPassedOn: true })).body!);
}

type Functions = Database["public"]["Functions"];

/**
 * The result of an RPC that writes, once for an Idempotency-Key: for those that take none themselves.
 *
 * @example await callOnce<Conversation>(caller, key, "update_conversation", { p_conversation_id: id, p_changes: changes })
 */
export async function callOnce<T, Name extends keyof Functions = keyof Functions>(
  { supabase }: Caller,
  idempotencyKey: string | undefined,
  name: Name,
  args: Functions[Name]["Args"],
): Promise<Replayable<{ answer: RawJson<T> }>> {
  if (idempotencyKey === undefined) return { answer: await callRaw<T>(supabase.rpc(name, args)) };
  const { answer, replayed } = (await callRaw<Replayable<{ answer: T }>>(
    supabase.rpc("call_once", { p_function: name, p_arguments: args as Json, p_idempotency_key: idempotencyKey }),
  )).members();
  return { answer: answer as RawJson<T>, ...(replayed && { replayed: true }) };
}

function readError(text: string): PostgrestError {
  try {
    return JSON.parse(text);
  } catch {
    return { code: "", message: text } as PostgrestError; // a gateway's words
  }
}

/**
 * A page of the database's with the `next_cursor` of the API.
 *
 * @param encode The cursor behind the last row, where there is more.
 */
export function withCursor<Row>(
  page: RawJson<{ data: Row[]; has_more: boolean }>,
  encode: (last: RawJson<Row>) => string,
): RawJson<Page<Row>> {
  const { data, has_more, ...rest } = page.members();
  const last = has_more.parse() ? data.elements().at(-1) as RawJson<Row> : undefined;
  return joinJson<Page<Row>>({ ...rest, data, has_more, next_cursor: last ? encode(last) : null });
}
