import type { Caller } from "../_shared/caller.ts";
import { type ExportPage, toExportPage } from "../_shared/ndjson.ts";
import { callRaw, unwrap } from "../_shared/rpc.ts";
import type { Erasure, Page } from "../_shared/schemas.ts";
import type { Quota } from "./schemas.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

/** The page of an export that begins at a place, the first one without. */
export async function exportPage(
  { supabase, userId }: Caller,
  place: ExportPage["next"] | undefined,
  signal: AbortSignal,
): Promise<ExportPage> {
  return toExportPage(
    await callRaw(supabase.rpc("export_user_page", { p_cursor: place ?? {}, p_user_id: userId }).abortSignal(signal)),
  );
}

/** What the user may do in a day, and has done. */
export async function getQuotas({ supabase, userId }: Caller): Promise<Page<Quota>> {
  const page = unwrap<Page<Quota>>(await supabase.rpc("get_quotas", { p_user_id: userId }));
  return { ...page, next_cursor: null };
}

/** Everything of the user whom the backend acts for. */
export async function erase({ supabase, userId }: Caller): Promise<Erasure> {
  return unwrap(await supabase.rpc("erase_user", { p_user_id: userId }));
}

/** Whoever the backend acts for: a receipt of this kind names nobody. */
export async function getErasure({ supabase }: Caller, id: string): Promise<Erasure> {
  return unwrap(await supabase.rpc("get_erasure", { p_erasure_id: id, p_scope: "user" }));
}
