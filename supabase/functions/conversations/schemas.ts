import { z } from "zod";
import type { Json } from "../_shared/database.types.ts";

/** A page of a list, as every list route answers it. */
export interface Page<T> {
  data: T[];
  has_more: boolean;
  /** What to send next: as `cursor`, or for messages as `after` (ascending) or `before` (descending). Null at the end. */
  next_cursor: string | null;
}

// ---- JSON that is stored as it came ---------------------------------------------------------------------------------
// Checked, not rebuilt: a parser that copies would lose keys such as "__proto__".

type JsonObject = { [key: string]: Json | undefined };
const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const jsonObject = z.custom<JsonObject>(isObject, "Expected an object.").meta({ type: "object" });
const jsonArray = z.custom<Json[]>(Array.isArray, "Expected an array.").meta({ type: "array" });

const MAX_METADATA_BYTES = 64 * 1024;
const metadata = jsonObject.refine(
  (value) => new TextEncoder().encode(JSON.stringify(value)).length <= MAX_METADATA_BYTES,
  "Larger than 64 KiB.",
);

// ---- parameters -----------------------------------------------------------------------------------------------------

const MAX_INTEGER = 2_147_483_647;

/** An integer in a query string: digits only, so that "", "1e3" and "0x10" are errors and not numbers. */
const digits = z.string().regex(/^\d{1,10}$/, "Expected an integer.").transform(Number);
const sequence = digits.pipe(z.int().max(MAX_INTEGER));
const limit = digits.pipe(z.int().min(1).max(1000)).default(50);
const timestamp = z.iso.datetime({ offset: true });

export const conversationParam = z.strictObject({ id: z.guid() });
export const messageParam = z.strictObject({ id: z.guid(), message_id: z.guid() });

// ---- messages -------------------------------------------------------------------------------------------------------

export const messageInput = z.strictObject({
  type: z.string().min(1).max(64).optional(),
  role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]).nullish(),
  content: z.string().nullish(),
  parts: jsonArray.nullish(),
  name: z.string().nullish(),
  function_call: jsonObject.nullish(),
  tool_calls: jsonArray.nullish(),
  tool_call_id: z.string().nullish(),
  item_id: z.string().min(1).max(256).nullish(),
  model: z.string().nullish(),
  usage: jsonObject.nullish(),
  status: z.enum(["complete", "incomplete"]).optional(),
  token_count: z.int().min(0).max(MAX_INTEGER).nullish(),
  metadata: metadata.optional(),
}).superRefine((message, context) => {
  if (message.role == null && (message.type ?? "message") === "message") {
    context.addIssue({ code: "custom", path: ["role"], message: "A message needs a role." });
  }
  if ((message.content ?? message.parts ?? message.function_call ?? message.tool_calls) == null) {
    const message = "A message needs content, parts, function_call or tool_calls.";
    context.addIssue({ code: "custom", path: ["content"], message });
  }
});

/** A message as the API answers it. What the client did not send is null. */
export interface Message {
  id: string;
  conversation_id: string;
  sequence_order: number;
  type: string;
  role: "system" | "developer" | "user" | "assistant" | "tool" | "function" | null;
  content: string | null;
  parts: Json[] | null;
  name: string | null;
  function_call: JsonObject | null;
  tool_calls: Json[] | null;
  tool_call_id: string | null;
  item_id: string | null;
  model: string | null;
  usage: JsonObject | null;
  status: "complete" | "incomplete";
  token_count: number | null;
  /** Written by the user's own client, or by a backend with the secret key. */
  author: "user" | "service";
  metadata: JsonObject;
  created_at: string;
}

const messages = z.array(messageInput).max(1000);

export const appendBody = z.strictObject({
  messages: messages.min(1),
  expected_sequence: z.int().min(0).max(MAX_INTEGER).optional(),
});

export const messagesQuery = z.strictObject({
  after: sequence.optional(),
  before: sequence.optional(),
  limit,
  order: z.enum(["asc", "desc"]).default("asc"),
});

// ---- conversations --------------------------------------------------------------------------------------------------

export interface Conversation {
  id: string;
  user_id: string;
  video_id: string | null;
  title: string | null;
  summary: string | null;
  metadata: JsonObject;
  parent_id: string | null;
  fork_sequence: number | null;
  last_sequence_order: number;
  pinned: boolean;
  expires_at: string | null;
  created_at: string;
  updated_at: string;
}

const title = z.string().max(1000).nullable();

export const createBody = z.strictObject({
  title: title.optional(),
  video_id: z.guid().nullish(),
  metadata: metadata.optional(),
  expires_at: timestamp.nullish(),
  messages: messages.default([]),
});

export const updateBody = z.strictObject({
  title: title.optional(),
  summary: z.string().nullish(),
  video_id: z.guid().nullish(),
  pinned: z.boolean().optional(),
  expires_at: timestamp.nullish(),
  metadata: metadata.optional(),
});

/** `at`: how many messages, from the first on, the fork shares. */
export const forkBody = z.strictObject({ at: z.int().min(0).max(MAX_INTEGER) });

/** A place in the list: the last row of the page before it. Opaque to clients. */
export interface ListCursor {
  updated_at: string;
  id: string;
}

export function encodeCursor({ updated_at, id }: ListCursor): string {
  return btoa(`${updated_at}|${id}`).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const cursor = z.base64url("Not a cursor of this list.").transform((value, context): ListCursor => {
  const [updated_at, id] = atob(value.replaceAll("-", "+").replaceAll("_", "/")).split("|");
  if (timestamp.safeParse(updated_at).success && z.guid().safeParse(id).success) return { updated_at, id };
  context.addIssue({ code: "custom", message: "Not a cursor of this list." });
  return z.NEVER;
});

/** `metadata={"topic":"cats"}`: JSON in the query string. */
const metadataFilter = z.string().transform((value, context): JsonObject => {
  try {
    const parsed = JSON.parse(value);
    if (isObject(parsed)) return parsed;
  } catch { /* reported below, like any other value that is not an object */ }
  context.addIssue({ code: "custom", message: "Expected a JSON object." });
  return z.NEVER;
});

export const listQuery = z.strictObject({
  limit,
  cursor: cursor.optional(),
  video_id: z.guid().optional(),
  metadata: metadataFilter.optional(),
});

// ---- search ---------------------------------------------------------------------------------------------------------

export interface SearchHit {
  /** The conversation that shows the message, or whose title matches. */
  conversation_id: string;
  title: string | null;
  /** Null: the title matches. */
  message: Pick<Message, "id" | "sequence_order" | "role" | "created_at"> | null;
  /** HTML: the text around the first match, escaped, with every match in `<mark>`. */
  snippet: string;
  score: number;
}

/** A place in the ranking: the last hit of the page before it. Opaque to clients. */
export interface SearchCursor {
  score: number;
  created_at: string;
  id: string;
}

export function encodeSearchCursor({ score, created_at, id }: SearchCursor): string {
  return btoa(`${score}|${created_at}|${id}`).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const searchCursor = z.base64url("Not a cursor of this search.").transform((value, context): SearchCursor => {
  const [score, created_at, id] = atob(value.replaceAll("-", "+").replaceAll("_", "/")).split("|");
  const valid = /^\d{1,9}(\.\d{1,6})?$/.test(score) && timestamp.safeParse(created_at).success &&
    z.guid().safeParse(id).success;
  if (valid) return { score: Number(score), created_at, id };
  context.addIssue({ code: "custom", message: "Not a cursor of this search." });
  return z.NEVER;
});

export const searchQuery = z.strictObject({
  q: z.string().min(1).max(1000)
    .refine((value) => !value.includes("\0"), "Contains the NUL character, which Postgres cannot store.")
    .refine((value) => value.isWellFormed(), "Contains a lone surrogate: half of a character cut in two."),
  limit,
  cursor: searchCursor.optional(),
});
