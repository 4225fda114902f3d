// What GET /sessions/analytics has to answer, written a second time with Temporal and in no hurry; random sessions to try it
// on, and a way to store sessions of any time.
import type postgres from "postgres";
import type { Analytics } from "../../supabase/functions/sessions/schemas.ts";
import { uuid } from "./stack.ts";

/** A session as a test makes it up. Times are milliseconds since 1970. */
export interface Call {
  user: string;
  start: number;
  end?: number;
  events: { type: string; at: number; trace?: string }[];
}

export type Bucket = "hour" | "day" | "week" | "month";
export type Figures = Analytics["totals"];

// ---- storing --------------------------------------------------------------------------------------------------------

/**
 * Stores sessions past the API, which takes no event older than a week, and counts their events as an append would. The
 * months get their partitions first: the default partition is for what nobody foresaw.
 */
export async function storeCalls(sql: postgres.Sql, calls: Call[]): Promise<void> {
  const iso = (at: number) => new Date(at).toISOString();
  const sessions = calls.map((call) => ({ id: uuid(), ...call }));
  const events = sessions.flatMap(({ id, user, events }) =>
    events.map(({ type, at, trace }, i) => ({
      session_id: id,
      sequence: i + 1,
      user_id: user,
      event_type: type,
      trace_id: trace ?? null,
      at: iso(at),
      begins: begins(events, i),
      // When the last of them had occurred, one after the other.
      stored: iso(Math.max(...events.map(({ at }) => at)) + i),
    }))
  );
  for (const month of new Set(events.map(({ stored }) => stored.slice(0, 7)))) await makePartition(sql, month);
  await sql`
    insert into sessions (id, user_id, start_time, end_time, last_sequence, created_at, last_event_at)
    select id, user_id, start_time, end_time, last_sequence, '2000-01-01', '9999-12-31'
    from jsonb_to_recordset(${
    sql.json(sessions.map(({ id, user, start, end, events }) => ({
      id,
      user_id: user,
      start_time: iso(start),
      end_time: end === undefined ? null : iso(end),
      last_sequence: events.length,
    })))
  }) as s (id uuid, user_id text, start_time timestamptz, end_time timestamptz, last_sequence integer)`;
  await sql`
    with stored as (
      insert into event_logs (session_id, sequence, user_id, event_type, trace_id, content, occurred_at, created_at)
      select session_id, sequence, user_id, event_type, trace_id, '"…"', at, stored
      from jsonb_to_recordset(${sql.json(events)}) as e (
        session_id uuid, sequence integer, user_id text, event_type text, trace_id text, at timestamptz, stored timestamptz
      )
    )
    insert into private.event_counts (session_id, slot, event_type, user_id, count, messages)
    select session_id, private.event_slot(at), event_type, user_id, count(*), count(*) filter (where begins)
    from jsonb_to_recordset(${sql.json(events)}) as e (
      session_id uuid, event_type text, user_id text, at timestamptz, begins boolean
    )
    group by 1, 2, 3, 4`;
}

async function makePartition(sql: postgres.Sql, month: string): Promise<void> {
  for (;;) {
    const [{ exists }] = await sql`
      select to_regclass(${`private.event_logs_${month.replace("-", "_")}`}) is not null as exists`;
    if (exists) return;
    try {
      await sql`select private.make_event_partition(${`${month}-01T00:00:00Z`})`;
    } catch (error) {
      // It gives way to writers, and to another test that makes the same one.
      if (!["55P03", "42P07"].includes((error as postgres.PostgresError).code)) throw error;
    }
  }
}

// ---- the rules ------------------------------------------------------------------------------------------------------

/** The buckets of a window, in milliseconds. For zones whose clock is set by whole hours. */
export function expectBuckets(
  { from, to, bucket, timeZone }: { from: number; to: number; bucket: Bucket; timeZone: string },
): [start: number, end: number][] {
  const buckets: [number, number][] = [];
  for (let start = from; start < to;) {
    const end = Math.min(to, nextBorder(start, bucket, timeZone));
    buckets.push([start, end]);
    start = end;
  }
  return buckets;
}

function nextBorder(at: number, bucket: Bucket, timeZone: string): number {
  const local = Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(timeZone);
  if (bucket === "hour") {
    const { minute, second, millisecond } = local;
    return at + 3_600_000 - (minute * 60_000 + second * 1000 + millisecond);
  }
  const today = local.toPlainDate();
  const next = {
    day: () => today.add({ days: 1 }),
    week: () => today.add({ days: 8 - today.dayOfWeek }),
    month: () => today.with({ day: 1 }).add({ months: 1 }),
  }[bucket]();
  return next.toZonedDateTime(timeZone).epochMilliseconds;
}

const MESSAGES = ["user_message", "ai_message", "ai_response"];
const TURNS = [...MESSAGES, "ai_chunk", "tool_call", "tool_result"];

/** Whether a message begins with an event: runs of chunks, with their message if it follows, are one. */
function begins(events: Call["events"], i: number): boolean {
  const { type, trace } = events[i];
  if (type === "user_message") return true;
  if (!["ai_message", "ai_response", "ai_chunk"].includes(type)) return false;
  const before = events.slice(Math.max(0, i - 20), i).findLast(({ type }) => TURNS.includes(type));
  if (before?.type !== "ai_chunk") return true;
  return before.trace !== trace && (type === "ai_chunk" || before.trace !== undefined && trace !== undefined);
}

/** The figures of [from, to). `calls` are all there are of these users, ever. */
export function expectFigures(calls: Call[], from: number, to: number): Figures {
  const within = (at: number) => at >= from && at < to;
  const started = calls.filter(({ start }) => within(start));
  const users = new Set(started.map(({ user }) => user));
  const firstStart = (user: string) =>
    Math.min(...calls.filter((call) => call.user === user).map(({ start }) => start));
  const returning = [...users].filter((user) =>
    started.some((call) => call.user === user && call.start > firstStart(user))
  );
  const events: Record<string, number> = {};
  for (const { type, at } of calls.flatMap((call) => call.events)) {
    if (within(at)) events[type] = (events[type] ?? 0) + 1;
  }
  const messages = calls
    .map((call) => call.events.filter(({ at }, i) => within(at) && begins(call.events, i)).length)
    .reduce((sum, n) => sum + n, 0);
  const durations = started
    .flatMap(({ start, end }) => end !== undefined && end >= start ? [(end - start) / 1000] : [])
    .toSorted((a, b) => a - b);
  return {
    sessions: started.length,
    users: users.size,
    returning_users: returning.length,
    messages,
    messages_per_session: started.length > 0 ? messages / started.length : null,
    messages_per_user: users.size > 0 ? messages / users.size : null,
    duration: { p50: percentile(durations, 0.5), p95: percentile(durations, 0.95) },
    events,
    other_events: 0,
  };
}

function percentile(sorted: number[], fraction: number): number | null {
  if (sorted.length === 0) return null;
  const position = fraction * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(position)], sorted[Math.ceil(position)]];
  return low + (position - Math.floor(position)) * (high - low);
}

// ---- random sessions ------------------------------------------------------------------------------------------------

const HOUR = 3_600_000;

/** Sessions of these users within some days of a moment; many of their times lie on or next to a border. */
export function randomCalls(rand: () => number, users: string[], around: number, length: number): Call[] {
  const int = (n: number) => Math.floor(rand() * n);
  const types = [...TURNS, "ai_chunk", "ai_chunk", "error", "custom"];
  // No two sessions of a user start together: which would be the first?
  const starts = new Set<number>();
  while (starts.size < length) starts.add(randomTime(rand, around, 4 * 24 * HOUR));
  return [...starts].map((start) => ({
    user: users[int(users.length)],
    start,
    end: rand() < 0.8 ? start + int(2 * HOUR) : undefined,
    events: Array.from({ length: int(12) }, () => ({
      type: types[int(types.length)],
      trace: [undefined, "a", "b"][int(3)],
      at: rand() < 0.3 ? randomTime(rand, start, 24 * HOUR) : start + int(HOUR),
    })),
  }));
}

/** A moment near another: anywhere, on a quarter of an hour, or a millisecond beside one. */
export function randomTime(rand: () => number, around: number, distance: number): number {
  const at = Math.round(around + (rand() * 2 - 1) * distance);
  return rand() < 0.5 ? at : Math.round(at / 900_000) * 900_000 + Math.floor(rand() * 3) - 1;
}
