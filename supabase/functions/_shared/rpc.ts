import type { PostgrestSingleResponse } from "@supabase/supabase-js";
import { fromDatabase } from "./errors.ts";

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
