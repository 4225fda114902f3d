import type { z } from "zod";
import type { Caller } from "../_shared/caller.ts";
import { unwrap } from "../_shared/rpc.ts";
import type { Page } from "../_shared/schemas.ts";
import { type Policy, type Preview, type previewQuery, type Runs, runsCursor, type runsQuery } from "./schemas.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

export async function getPolicies({ supabase }: Caller): Promise<Page<Policy>> {
  const page = unwrap<Page<Policy>>(
    await supabase.rpc("get_retention_policies"),
  );
  return { ...page, next_cursor: null };
}

export async function listRuns(
  { supabase }: Caller,
  { limit, cursor }: z.output<typeof runsQuery>,
): Promise<Runs> {
  const page = unwrap<Runs>(
    await supabase.rpc("list_retention_runs", {
      p_limit: limit,
      p_before: cursor?.id,
    }),
  );
  return {
    ...page,
    next_cursor: page.has_more ? runsCursor.encode(page.data.at(-1)!) : null,
  };
}

export async function preview(
  { supabase }: Caller,
  { now }: z.output<typeof previewQuery>,
): Promise<Preview> {
  const page = unwrap<Preview>(
    await supabase.rpc("retention_preview", { p_now: now }),
  );
  return { ...page, next_cursor: null };
}
