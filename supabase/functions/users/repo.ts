import type { Caller } from "../_shared/auth.ts";
import { type ExportPage, toExportPage } from "../_shared/ndjson.ts";
import { unwrap } from "../_shared/rpc.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

/** The page of an export that begins at a place, the first one without. */
export async function exportPage(
  { supabase, userId }: Caller,
  place: ExportPage["next"] | undefined,
  signal: AbortSignal,
): Promise<ExportPage> {
  return toExportPage(unwrap(
    await supabase.rpc("export_user_page", { p_cursor: place ?? {}, p_user_id: userId }).abortSignal(signal),
  ));
}
