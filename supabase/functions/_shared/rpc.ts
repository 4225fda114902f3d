import type { PostgrestSingleResponse } from "@supabase/supabase-js";
import { fromDatabase } from "./errors.ts";

/**
 * How long a call of the database may take. Longer than a statement may (8 s on the platform), so that its own error is
 * heard; short enough for an answer within 10 s where the database, or PostgREST before it, hangs.
 */
const CALL_TIMEOUT_MS = 9_000;

/** Of every client of the database: a call ends in time, as one that found no connection in PostgREST's pool does. */
export const clientOptions = {
  db: { retry: false }, // the caller's decision: repeating a GET up to three times would take as many time-outs
  global: { fetch: fetchInTime },
};

async function fetchInTime(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const late = AbortSignal.timeout(CALL_TIMEOUT_MS);
  const signal = init?.signal ? AbortSignal.any([init.signal, late]) : late;
  try {
    return await fetch(input, { ...init, signal });
  } catch (error) {
    if (!late.aborted || init?.signal?.aborted) throw error;
    return Response.json({ code: "PGRST003", message: `No answer within ${CALL_TIMEOUT_MS} ms.` }, { status: 504 });
  }
}

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
