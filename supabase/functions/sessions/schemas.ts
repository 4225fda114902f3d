import { z } from "zod";
import type { Json } from "../_shared/database.types.ts";
import {
  answeredTimestamp,
  cursorOf,
  flag,
  integer,
  jsonObject,
  limit,
  MAX_INTEGER,
  metadata,
  sequence,
  text,
  textOrNone,
  timestamp,
} from "../_shared/schemas.ts";

export const sessionParam = z.strictObject({ id: z.guid() });

// ---- sessions -------------------------------------------------------------------------------------------------------

export const session = z.strictObject({
  id: z.guid(),
  user_id: z.string(),
  conversation_id: z.guid().nullable(),
  start_time: answeredTimestamp,
  end_time: answeredTimestamp.nullable(),
  duration: z.number().nullable().describe("Seconds; null while the session runs."),
  summary: z.string().nullable(),
  metadata: jsonObject,
  last_sequence: z.int().describe("The number of the newest event."),
  last_event_at: answeredTimestamp.nullable(),
  created_at: answeredTimestamp,
}).meta({ id: "Session" });
export type Session = z.infer<typeof session>;

export const openBody = z.strictObject({
  id: z.guid().optional(),
  conversation_id: z.guid().nullish(),
  start_time: timestamp.optional(),
  metadata: metadata.optional(),
});

export const endBody = z.strictObject({ summary: z.string().max(65_536).nullish() });

export const listCursor = cursorOf({ start_time: timestamp, id: z.guid() });

/** Whose: for a backend, which may read the sessions of everybody. A user reads their own, whatever it says. */
const ofUser = text(256).optional();

/** A half-open window of time. */
const window = { from: timestamp.optional(), to: timestamp.optional() };

export const listQuery = z.strictObject({
  ...window,
  user_id: ofUser,
  limit,
  cursor: listCursor.schema.optional(),
});

// ---- events ---------------------------------------------------------------------------------------------------------

/** Any JSON but null, kept as it came. */
const content = z.custom<Json>((value) => value !== undefined && value !== null, "Expected any JSON but null.").meta({
  description:
    "Any JSON but null. Text is a string, or in an object {text}, {transcript}, {message} or {content}, also as parts.",
});
const eventType = text(64).describe(
  "user_message, ai_message, ai_chunk, tool_call, tool_result, system, error, or the application's own.",
);

export const eventInput = z.strictObject({
  event_type: eventType,
  content,
  source: textOrNone(256).nullish(),
  trace_id: textOrNone(256).nullish(),
  occurred_at: timestamp.nullish().describe("When it happened, where that is not now: up to seven days ago."),
}).meta({ id: "EventInput" });

export const event = z.strictObject({
  session_id: z.guid(),
  sequence: z.int().describe("The place in the session, assigned by the database."),
  event_type: eventType,
  content,
  source: z.string().nullable(),
  trace_id: z.string().nullable(),
  occurred_at: answeredTimestamp,
  created_at: answeredTimestamp,
}).meta({ id: "Event" });
export type Event = z.infer<typeof event>;

export const appendBody = z.strictObject({ events: z.array(eventInput).min(1).max(1000) });
export const appended = z.strictObject({ events: z.array(event), last_sequence: z.int() });
export type Appended = z.infer<typeof appended>;

/** `types=user_message,ai_message` */
const types = text(2048).transform((value) => value.split(",")).pipe(z.array(eventType).max(32)).optional();

export const eventsQuery = z.strictObject({ after: sequence.optional(), types, limit });

export const streamQuery = z.strictObject({ after: sequence.optional() });

/** What an EventSource sends when it comes back; empty before its first event. */
export const streamHeaders = z.object({
  "last-event-id": z.union([z.literal("").transform(() => undefined), sequence]).optional(),
});

// ---- analytics ------------------------------------------------------------------------------------------------------

export const analyticsQuery = z.strictObject({
  from: timestamp.optional().describe("Without it, 30 days before the end."),
  to: timestamp.optional().describe("Without it, now."),
  bucket: z.enum(["hour", "day", "week", "month"]).default("day").describe("Weeks begin on Monday."),
  time_zone: text(64).default("UTC").describe("A name of the IANA database: where days begin."),
  user_id: ofUser,
});

const figures = {
  sessions: z.int().describe("Sessions that started then."),
  users: z.int().describe("Who started them."),
  returning_users: z.int().describe(
    "Those of them who had called before: a session of theirs then was not their first.",
  ),
  messages: z.int().describe("Events of the types user_message, ai_message and ai_response that occurred then."),
  messages_per_session: z.number().nullable().describe("messages / sessions"),
  messages_per_user: z.number().nullable().describe("messages / users"),
  duration: z.strictObject({ p50: z.number().nullable(), p95: z.number().nullable() }).describe(
    "Seconds from start to end, of the sessions that have ended. Null without one.",
  ),
  events: z.record(z.string(), z.int()).describe(
    "How many of each type. Of the 100 most frequent types of the window.",
  ),
  other_events: z.int().describe("How many of all other types."),
};

export const analytics = z.strictObject({
  from: answeredTimestamp,
  to: answeredTimestamp,
  bucket: z.string(),
  time_zone: z.string(),
  totals: z.strictObject(figures).describe("Of the whole window. A user of two buckets is one here."),
  buckets: z.array(z.strictObject({ start: answeredTimestamp, end: answeredTimestamp, ...figures })).describe(
    "Without gaps from the beginning of the window to its end, which cut the first and the last.",
  ),
}).meta({ id: "SessionAnalytics" });
export type Analytics = z.infer<typeof analytics>;

// ---- audit ----------------------------------------------------------------------------------------------------------

export const auditedEvent = event.extend({
  user_id: z.string(),
  last_sequence: z.int().optional().describe("With fold: the last event of the run, or the event itself."),
  last_occurred_at: answeredTimestamp.optional().describe("With fold: when that occurred."),
}).meta({ id: "AuditedEvent" });
export type AuditedEvent = z.infer<typeof auditedEvent>;

/** The window goes along: where it depends on the time of the request, it stays what it was on the first page. */
export const auditCursor = cursorOf({
  from: timestamp,
  to: timestamp,
  occurred_at: timestamp,
  session_id: z.guid(),
  sequence,
  chunk: sequence,
});

export const auditQuery = z.strictObject({
  from: timestamp.optional().describe("The beginning of the window; without it 24 hours before the end."),
  to: timestamp.optional().describe(
    "The end of the window, which is not part of it; without it the time of the request.",
  ),
  types,
  q: text(1000).optional().describe("What the text of an event contains, in upper or lower case."),
  user_id: ofUser,
  fold: flag.describe(
    "Whether a run of ai_chunk events of one session is one event. A run has consecutive numbers, one source and one " +
      "trace_id; the window cuts it, a page does not.",
  ),
  limit,
  cursor: auditCursor.schema.optional(),
});

// ---- context and summaries ------------------------------------------------------------------------------------------

export const contextQuery = z.strictObject({
  max_tokens: integer(1, MAX_INTEGER).default(2048),
  max_sessions: integer(0, 100).default(5).describe("How many of the last summaries, at most."),
  user_id: ofUser,
});

/** What a model's API takes as it is. */
export const contextMessage = z.strictObject({
  role: z.enum(["system", "user", "assistant"]),
  content: z.string(),
  name: z.literal("session_summaries").optional().describe("On the summaries, which come first."),
}).meta({ id: "SessionContextMessage" });

export const context = z.strictObject({
  messages: z.array(contextMessage),
  total_tokens: z.int(),
  truncated: z.boolean().describe("Something was left out: it does not fit, or `left_out` counts it."),
  left_out: z.int().describe("Events of the turns whose text is in no shape that is known."),
}).meta({ id: "SessionContext" });
export type Context = z.infer<typeof context>;

export const unsummarizedQuery = z.strictObject({
  limit: integer(1, 1000).default(10),
  lease_seconds: integer(1, 86_400).default(300).describe("How long they are the caller's."),
});

export const unsummarizedSession = session.extend({
  attempts: z.int().describe("How often it was given, this time included."),
  lease_expires_at: answeredTimestamp.describe("From then on it is given again."),
}).meta({ id: "UnsummarizedSession" });

/** Not a page: what is taken is gone, and the same request goes on. */
export const unsummarized = z.strictObject({ data: z.array(unsummarizedSession), has_more: z.boolean() });
export type Unsummarized = z.infer<typeof unsummarized>;
