import { z } from "zod";
import { answeredTimestamp, cursorOf, limit, type Page, page, sequence, timestamp } from "../_shared/schemas.ts";

/** What a policy is about, and for how long. */
const kept = {
  kind: z.string().describe(
    "conversations, sessions, event_logs, conversation_states, documents, idempotency_keys, job_run_details or " +
      "retention_runs.",
  ),
  collection: z.string().nullable().describe(
    "Of documents; null for every other kind.",
  ),
  keep: z.string().nullable().describe("An ISO 8601 duration; null: for ever.")
    .meta({ examples: ["P7D"] }),
};

const counts = z.record(z.string(), z.int());

export const policy = z.strictObject({ ...kept, updated_at: answeredTimestamp })
  .meta({ id: "RetentionPolicy" });
export type Policy = z.infer<typeof policy>;

// ---- runs -----------------------------------------------------------------------------------------------------------

export const run = z.strictObject({
  id: z.int(),
  status: z.enum(["running", "finished", "stopped", "failed"]).describe(
    "stopped: its time was up, and the next run goes on. failed: a kind did, see errors, or the run was killed.",
  ),
  started_at: answeredTimestamp,
  finished_at: answeredTimestamp.nullable(),
  duration: z.number().describe(
    "Seconds until it finished, or until its last step.",
  ),
  steps: z.int(),
  longest_step_ms: z.int().describe("How long it held locks at the most."),
  removed: counts.describe("How many rows of each table went."),
  errors: z.array(
    z.strictObject({
      kind: z.string(),
      sqlstate: z.string(),
      constraint: z.string().nullable(),
    }),
  )
    .describe(
      "What failed, and was left to the next run.",
    ),
}).meta({ id: "RetentionRun" });
export type Run = z.infer<typeof run>;

const overdue = z.strictObject({
  kind: z.string().describe(
    "Of a policy; or expires_at (conversations past their own), imports (that broke off), prune_queue (what deletions left).",
  ),
  collection: kept.collection,
  since: answeredTimestamp.describe("When the oldest was to go."),
}).meta({ id: "RetentionOverdue" });

export const runs = page(run).extend({
  overdue: z.array(overdue).describe(
    "What the newest run was to remove, and has not, or not yet.",
  ),
});
export type Runs = Page<Run> & { overdue: z.infer<typeof overdue>[] };

export const runsCursor = cursorOf({ id: sequence });

export const runsQuery = z.strictObject({
  limit,
  cursor: runsCursor.schema.optional(),
});

// ---- preview --------------------------------------------------------------------------------------------------------

export const previewQuery = z.strictObject({
  now: timestamp.optional().describe(
    "What would go at another time; without it, the time of the request.",
  ),
});

const removal = z.strictObject({
  ...kept,
  removes: counts.describe(
    "How many rows of each table. Messages that deletions have left behind count with the conversations. " +
      "event_logs_estimated: events in partitions that are dropped, by Postgres' statistics.",
  ),
}).meta({ id: "RetentionRemoval" });

export const preview = page(removal).extend({ now: answeredTimestamp });
export type Preview = Page<z.infer<typeof removal>> & { now: string };
