import { z } from "zod";
import { ALL_FORMATS, readMessage, recognise, type Row } from "../_shared/formats/formats.ts";
import { isObject, type JsonObject, unstorable } from "../_shared/json.ts";
import {
  answeredTimestamp,
  cursorOf,
  flag,
  integer,
  jsonArray,
  jsonObject,
  limit,
  MAX_INTEGER,
  metadata,
  sequence,
  text,
  textOrNone,
  timestamp,
} from "../_shared/schemas.ts";

export const conversationParam = z.strictObject({ id: z.guid() });
export const messageParam = z.strictObject({ id: z.guid(), message_id: z.guid() });

// ---- messages -------------------------------------------------------------------------------------------------------

const role = z.enum(["system", "developer", "user", "assistant", "tool", "function"]);
const status = z.enum(["complete", "incomplete"]);

export const messageInput = z.strictObject({
  type: text(64).optional(),
  role: role.nullish(),
  content: z.string().nullish(),
  parts: jsonArray.nullish(),
  name: textOrNone(256).nullish(),
  function_call: jsonObject.nullish(),
  tool_calls: jsonArray.nullish(),
  tool_call_id: textOrNone(65_536).nullish(),
  item_id: text(256).nullish(),
  model: textOrNone(256).nullish(),
  usage: jsonObject.nullish(),
  status: status.optional(),
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
}).meta({ id: "MessageInput" });

/** A message as the API answers it. What the client did not send is null. */
export const message = z.strictObject({
  id: z.guid(),
  conversation_id: z.guid().describe("The conversation asked for, also where a fork shows its parent's message."),
  sequence_order: z.int().describe("The place in the conversation, assigned by the database."),
  type: z.string(),
  role: role.nullable(),
  content: z.string().nullable(),
  parts: jsonArray.nullable(),
  name: z.string().nullable(),
  function_call: jsonObject.nullable(),
  tool_calls: jsonArray.nullable(),
  tool_call_id: z.string().nullable(),
  item_id: z.string().nullable(),
  model: z.string().nullable(),
  usage: jsonObject.nullable(),
  status,
  token_count: z.int().nullable(),
  author: z.enum(["user", "service"]).describe("Written by the user's own client, or by a backend."),
  metadata: jsonObject,
  created_at: answeredTimestamp,
  item: jsonObject.nullable().describe(
    "Of what came as an item of the Responses API: what the other fields leave out of it, or all of it where they are null.",
  ),
}).meta({ id: "Message" });
export type Message = z.infer<typeof message>;

/** What is not of our shape, until it is known of which it is. */
class Foreign {
  constructor(readonly message: JsonObject) {}
}

const foreignMessage = z.custom<JsonObject>(isObject, "Expected an object.").meta({
  type: "object",
  description: "A message as another API or library has it: see docs/formats.md.",
}).transform((message) => new Foreign(message));

const messages = z.array(z.union([messageInput, foreignMessage], "Expected an object.")).max(1000);

const format = z.enum(ALL_FORMATS).optional().describe(
  "In which shape the messages are. Without it each is known by its own, and what no shape takes is refused as message is.",
);

/** A message as columns: of our own shape, or of another that became it. */
type StoredMessage = z.output<typeof messageInput> | Row;

/** The columns of a message that came in another shape hold what those of ours do. */
const { type: _, ...columns } = messageInput.shape;
const foreignColumns = z.object(columns);

/** Reads messages of every shape. */
function readMessages<
  T extends { messages: (z.output<typeof messageInput> | Foreign)[]; format?: typeof ALL_FORMATS[number] },
>(
  { format, messages, ...body }: T,
  context: z.RefinementCtx,
): Omit<T, "messages" | "format"> & { messages: StoredMessage[] } {
  const read = (sent: z.output<typeof messageInput> | Foreign, i: number): StoredMessage => {
    const isOurs = !(sent instanceof Foreign);
    const message = isOurs ? sent as JsonObject : sent.message;
    const dialect = format === undefined && !isOurs ? recognise(message) : format;
    if (dialect === undefined || dialect === "message") {
      if (isOurs) return sent;
      const { error } = messageInput.safeParse(message, { reportInput: true });
      for (const issue of error?.issues ?? []) {
        context.issues.push({ ...issue, path: ["messages", i, ...issue.path], input: message } as z.core.$ZodRawIssue);
      }
      return {};
    }
    const row = readMessage(message, dialect);
    const problem = typeof row === "string" ? row : foreignColumns.safeParse(row).error;
    if (typeof problem === "string") {
      context.addIssue({ code: "custom", path: ["messages", i], message: `${problem} It is read as ${dialect}.` });
    } else if (problem) {
      for (const { path, message } of problem.issues) {
        context.addIssue({
          code: "custom",
          path: ["messages", i, ...path],
          message: `${message} It is read as ${dialect}.`,
        });
      }
    }
    return row as Row;
  };
  return { ...body, messages: messages.map(read) };
}

export const appended = z.strictObject({ messages: z.array(message), last_sequence_order: z.int() });
export type Appended = z.infer<typeof appended>;

export const appendBody = z.strictObject({
  messages: messages.min(1),
  format,
  expected_sequence: z.int().min(0).max(MAX_INTEGER).optional(),
}).transform(readMessages);

const answeredFormat = z.enum(ALL_FORMATS).default("message").describe(
  "The shape of the messages: message is ours, the others are those of an API or a library. See docs/formats.md.",
);

export const messagesQuery = z.strictObject({
  after: sequence.optional(),
  before: sequence.optional(),
  limit,
  order: z.enum(["asc", "desc"]).default("asc"),
  format: answeredFormat,
});

/** A message in another shape: one of ours may be several. */
export const formattedMessage = z.looseObject({}).describe("A message in the format that was asked for.");
export type FormattedMessage = z.infer<typeof formattedMessage>;

export const contextQuery = z.strictObject({
  max_tokens: integer(1, MAX_INTEGER).default(8192),
  max_messages: integer(1, 1000).optional(),
  begin: z.enum(["any", "user"]).default("any").describe(
    "any: as stored, and with a user's message where older ones are cut off. user: always with a user's message, as in the " +
      "formats anthropic and gemini.",
  ),
  format: answeredFormat,
  explain: flag,
});

/** A message as a model needs it. What is null is left out, except `content`. */
export const contextMessage = z.strictObject({
  type: z.string().optional().describe("Absent for a plain message."),
  role: role.optional(),
  content: z.string().nullable().describe("Null only where parts, calls or an item carry the message."),
  parts: jsonArray.optional(),
  name: z.string().optional(),
  function_call: jsonObject.optional(),
  tool_calls: jsonArray.optional(),
  tool_call_id: z.string().optional(),
  item_id: z.string().optional(),
  item: jsonObject.optional().describe("A provider's item as it came."),
  author: message.shape.author.optional(),
  sequence_order: z.int().optional().describe("Absent for the summary, a system message named conversation_summary."),
}).meta({ id: "ContextMessage" });

const explained = z.strictObject({
  included: z.array(z.strictObject({
    sequence_order: z.int().optional(),
    tokens: z.int(),
    reason: z.enum(["summary", "leading", "compaction", "newest_turn", "fits"]),
  })).describe("One for each message as stored, in the order in which they are sent."),
  left_out: z.array(z.strictObject({
    from: z.int(),
    to: z.int(),
    reason: z.enum(["over_budget", "unpaired", "empty", "compacted", "before_user", "format"]),
    in_part: z.literal(true).optional().describe("The rest of these messages is in."),
  })).describe("Ranges of sequence numbers, both ends included."),
});

const measured = {
  total_tokens: z.int(),
  truncated: z.boolean().describe("Older messages were left out: they do not fit, or are beyond the newest 10,000."),
  left_out: z.int().describe("How many messages are not in it, or only in part."),
};

export const context = z.strictObject({
  messages: z.array(contextMessage),
  ...measured,
  explain: explained.optional(),
});
export type Context = z.infer<typeof context>;

/** A context that can be sent as it is. The API's own words stand first, ours beside them. */
export const formattedContext = z.strictObject({
  messages: z.array(formattedMessage).optional().describe("Of chat, anthropic, ai-sdk and langchain."),
  system: z.array(formattedMessage).optional().describe("Of anthropic: the instructions, where there are any."),
  contents: z.array(formattedMessage).optional().describe("Of gemini."),
  systemInstruction: formattedMessage.optional().describe("Of gemini: the instructions, where there are any."),
  input: z.array(formattedMessage).optional().describe("Of responses."),
  ...measured,
  sequences: z.array(z.array(z.int())).describe(
    "Of which messages of the conversation each is made; none: the summary.",
  ),
  authors: z.array(message.shape.author.nullable()).describe(
    "By whom each was written: by a user, as soon as a part of it is.",
  ),
  explain: explained.extend({
    changed: z.array(z.strictObject({
      sequence_order: z.int().optional(),
      type: z.string(),
      as: z.enum(["text", "out"]),
    })).describe("What the format cannot hold: turned into text, or left out."),
  }).optional(),
});
export type FormattedContext = z.infer<typeof formattedContext>;

/** What the database answers of it. */
export type StoredContext = Omit<Context, "messages"> & { messages: Row[] };

// ---- conversations --------------------------------------------------------------------------------------------------

export const conversation = z.strictObject({
  id: z.guid(),
  user_id: z.guid(),
  video_id: z.guid().nullable(),
  title: z.string().nullable(),
  summary: z.string().nullable(),
  metadata: jsonObject,
  parent_id: z.guid().nullable().describe("The conversation whose first fork_sequence messages this one shares."),
  fork_sequence: z.int().nullable(),
  last_sequence_order: z.int(),
  pinned: z.boolean(),
  expires_at: answeredTimestamp.nullable(),
  created_at: answeredTimestamp,
  updated_at: answeredTimestamp.describe("The last activity: creation or the newest message."),
  archived_at: answeredTimestamp.nullable().describe("Since when it is archived."),
}).meta({ id: "Conversation" });
export type Conversation = z.infer<typeof conversation>;

const title = textOrNone(1000).nullable();

export const createBody = z.strictObject({
  title: title.optional(),
  video_id: z.guid().nullish(),
  metadata: metadata.optional(),
  expires_at: timestamp.nullish(),
  messages: messages.default([]),
  format,
}).transform(readMessages);

export const updateBody = z.strictObject({
  title: title.optional(),
  summary: z.string().max(65_536).nullish(),
  video_id: z.guid().nullish(),
  pinned: z.boolean().optional(),
  archived: z.boolean().optional(),
  expires_at: timestamp.nullish(),
  metadata: metadata.optional(),
});

/** `at`: how many messages, from the first on, the fork shares. */
export const forkBody = z.strictObject({ at: z.int().min(0).max(MAX_INTEGER) });

export const listCursor = cursorOf({ updated_at: timestamp, id: z.guid() });

/** `metadata={"topic":"cats"}`: JSON in the query string. */
const metadataFilter = z.string().transform((value, context): JsonObject => {
  let message: string | undefined;
  try {
    JSON.parse(value, (name, member) => {
      message ??= unstorable(name) ?? (typeof member === "string" ? unstorable(member) : undefined);
      return member;
    });
    const parsed = JSON.parse(value); // once more: what a visitor returns has no "__proto__"
    if (isObject(parsed) && !message) return parsed;
  } catch { /* reported below, like any other value that is not an object */ }
  context.addIssue({ code: "custom", message: message ?? "Expected a JSON object." });
  return z.NEVER;
});

export const listQuery = z.strictObject({
  limit,
  cursor: listCursor.schema.optional(),
  video_id: z.guid().optional(),
  metadata: metadataFilter.optional(),
  archived: z.enum(["true", "false", "any"]).default("false"),
});

// ---- search ---------------------------------------------------------------------------------------------------------

/** Where a query was found: in a message, or in a title. */
export const searchHit = z.strictObject({
  conversation_id: z.guid(),
  title: z.string().nullable(),
  message: z.strictObject({
    id: z.guid(),
    sequence_order: z.int(),
    role: role.nullable(),
    created_at: answeredTimestamp,
  }).nullable().describe("Null where the title matches."),
  snippet: z.string().describe("HTML that is safe to render: the text escaped, each match in <mark>."),
  score: z.number(),
}).meta({ id: "SearchHit" });
export type SearchHit = z.infer<typeof searchHit>;

const score = z.string().regex(/^\d{1,9}(\.\d{1,6})?$/).transform(Number);
export const searchCursor = cursorOf({ score, created_at: timestamp, id: z.guid() });
export type SearchCursor = Parameters<typeof searchCursor.encode>[0];

export const searchQuery = z.strictObject({
  q: text(1000),
  limit,
  cursor: searchCursor.schema.optional(),
});
