// Import. A file is NDJSON: each line an object whose `type` says what it is. A conversation's line is followed by its own
// messages, and comes before those of its forks.
import type { Context } from "hono";
import { z } from "zod";
import type { AppEnv } from "../_shared/caller.ts";
import { describeError } from "../_shared/app.ts";
import { ApiError, isTimeout } from "../_shared/errors.ts";
import { FORMATS } from "../_shared/formats/formats.ts";
import {
  checkShape,
  decodeJson,
  idempotencyKey,
  invalidRequest,
  parse,
  parseJson,
  refuseUnstorable,
} from "../_shared/http.ts";
import { shapeOf } from "../_shared/json.ts";
import { NDJSON } from "../_shared/ndjson.ts";
import { jsonObject, requireStorable, text } from "../_shared/schemas.ts";
import { inTurn } from "../_shared/turns.ts";
import { readChatGpt } from "./chatgpt.ts";
import type { Fields, ImportError, ImportRecord } from "./records.ts";
import * as repo from "./repo.ts";
import { conversation, message, messageInput, updateBody } from "./schemas.ts";

/**
 * What one import request may bring, forks included: each is a call to the database, and costs a millisecond of the CPU that
 * a worker has. `npm run import` cuts a file of any size into such requests.
 */
export const MAX_CONVERSATIONS = 100;
/** As many lines, blank ones included, or values in the array of a ChatGPT export and in all lines together. */
export const MAX_LINES = 5_000;
const MAX_VALUES = 200_000;

// ---- lines ----------------------------------------------------------------------------------------------------------

const MAX_INTEGER = 2_147_483_647;
const number = z.int().min(1).max(MAX_INTEGER);
const timestamp = z.iso.datetime({ offset: true });
const oldId = text(256);

// What an export has is what an answer has, so a line takes each field of an answer. Named are those that a file has
// otherwise, and those that a client writes, for these are checked.
const { user_id: _, ...conversationShape } = z.object(conversation.shape).partial().shape;
const { archived: __, ...written } = updateBody.shape;

/** What is left of a deleted conversation: `private.tombstone_columns`. */
const TOMBSTONE_FIELDS = ["id", "parent_id", "fork_sequence", "last_sequence_order", "created_at", "updated_at"];

/** Which chat of which other system a conversation is: what an earlier import of it has brought is not brought again. */
const source = z.strictObject({
  name: text(64),
  id: oldId,
  /** The `item_id` of that chat's message after which a fork, or the rest of a conversation, begins. */
  after: oldId.nullish(),
});

const conversationLine = z.strictObject({
  ...conversationShape,
  ...written,
  type: z.literal("conversation"),
  /** Its id in the file: what the `parent_id` of forks refers to. The import gives it a new one. */
  id: oldId.nullish(),
  parent_id: oldId.nullish(),
  fork_sequence: number.nullish(),
  last_sequence_order: z.int().min(0).max(MAX_INTEGER).optional(),
  created_at: timestamp.optional(),
  updated_at: timestamp.optional(),
  archived_at: timestamp.nullish(),
  /** A deleted conversation whose first messages living forks still show. */
  deleted: z.boolean().optional(),
  /** Its messages go on in the next request, below a line with `continues`. It is hidden until then. */
  more: z.boolean().optional(),
  source: source.optional(),
}).superRefine((line, context) => {
  if ((line.parent_id == null) !== (line.fork_sequence == null)) {
    context.addIssue({ code: "custom", path: ["fork_sequence"], message: "Goes together with parent_id." });
  }
  if (!line.deleted) return;
  for (const path of Object.keys(conversationShape)) {
    if (TOMBSTONE_FIELDS.includes(path)) continue;
    if (line[path as keyof typeof line] == null) continue;
    context.addIssue({ code: "custom", path: [path], message: "A deleted conversation does not have it." });
  }
});

const continuationLine = z.strictObject({
  type: z.literal("conversation"),
  id: oldId.nullish(),
  /** The new id that an earlier request reported. */
  continues: z.guid(),
  more: z.boolean().optional(),
});

const { type: message_type, ...messageShape } = messageInput.shape;
const messageLine = z.strictObject({
  ...z.object(message.shape).partial().shape,
  ...messageShape,
  type: z.literal("message"),
  id: z.string().nullish(),
  conversation_id: oldId.nullish(),
  sequence_order: number.optional(),
  message_type,
  item: jsonObject.nullish(),
  /** What a message of another API says beyond the other fields. */
  source: z.strictObject({
    dialect: z.enum(FORMATS),
    rest: jsonObject,
  }).nullish(),
  author: z.enum(["user", "service"]).optional(),
  created_at: timestamp.optional(),
}).superRefine((line, context) => {
  if (line.role == null && (line.message_type ?? "message") === "message") {
    context.addIssue({ code: "custom", path: ["role"], message: "A message needs a role." });
  }
  if ((line.content ?? line.parts ?? line.function_call ?? line.tool_calls ?? line.item) == null) {
    const message = "A message needs content, parts, function_call, tool_calls or item.";
    context.addIssue({ code: "custom", path: ["content"], message });
  }
});

const idsLine = z.strictObject({
  type: z.literal("ids"),
  /** Ids of the file to the new ids that earlier requests reported. */
  map: z.record(oldId, z.guid()).default({}),
  /** Another request follows: tombstones stay for the forks in it. */
  more: z.boolean().optional(),
});

/** Between the pieces of an export. */
const nextLine = z.strictObject({ type: z.literal("next"), cursor: z.string() });

const anyLine = z.custom<Fields>((read) => read && typeof read === "object" && !Array.isArray(read));

const count = z.int().min(0);
const endLine = z.strictObject({
  type: z.literal("end"),
  conversations: count.optional(),
  tombstones: count.optional(),
  messages: count.optional(),
});

// ---- import ---------------------------------------------------------------------------------------------------------

/** What of a chat of an export is stored as it is, or not at all. */
const chatNames = z.object({
  id: z.string().superRefine(requireStorable),
  title: z.string().superRefine(requireStorable),
})
  .partial();

/** What an import did with one conversation. */
const importEntry = z.strictObject({
  line: z.int().describe("Where it begins in the file, from 1 on; in a ChatGPT export its place in the array."),
  id: z.string().nullable().describe("Its id in the file."),
  new_id: z.guid().nullable(),
  status: z.enum(["imported", "grown", "unchanged", "failed", "skipped"]).describe(
    "grown, unchanged: an earlier import has brought it, and this one the messages that are new, or none. skipped: a deleted " +
      "conversation that no fork in the file shares.",
  ),
  messages: z.int().describe("How many are new."),
  notes: z.array(z.string()),
  left_out: z.record(z.string(), z.int()).optional().describe("What of a ChatGPT conversation was left out, by kind."),
  error: z.strictObject({
    code: z.string(),
    message: z.string(),
    retryable: z.boolean(),
    details: z.union([z.string(), z.array(z.strictObject({ path: z.string(), message: z.string() }))]).optional(),
    hint: z.string().optional(),
    line: z.int().optional().describe("The line that is wrong, where it is one."),
  }).optional(),
}).meta({ id: "ImportEntry" });
export type ImportEntry = z.infer<typeof importEntry>;

export const importReport = z.strictObject({
  imported: z.int(),
  grown: z.int(),
  unchanged: z.int(),
  failed: z.int(),
  skipped: z.int(),
  messages: z.int(),
  left_out: z.record(z.string(), z.int()),
  conversations: z.array(importEntry),
}).meta({ id: "ImportReport" });
export type ImportReport = z.infer<typeof importReport>;

/** What a file brings, in order. */
export interface ImportFile {
  records: ImportRecord[];
  ids: Map<string, string>;
  more: boolean;
}

/**
 * Imports the body of a request, one call for each conversation. A conversation is imported whole or not at all, and
 * the report tells of each.
 *
 * @throws {ApiError} 415 for another content type, 400 for a body that is no such file at all.
 */
export async function runImport(c: Context<AppEnv>): Promise<ImportReport> {
  // A turn for each conversation: what the user does meanwhile comes between two of them.
  return await importFile(c, await inTurn(c.var.caller, () => readFile(c)));
}

async function readFile(c: Context<AppEnv>): Promise<ImportFile> {
  const contentType = c.req.header("content-encoding") ? "" : c.req.header("content-type") ?? "";
  const bytes = new Uint8Array(await c.req.raw.arrayBuffer());
  if (/^application\/x-ndjson\s*(;|$)/i.test(contentType)) {
    return readNdjson(bytes);
  } else if (/^application\/json\s*(;|$)/i.test(contentType)) {
    return {
      records: readConversations(decodeJson(bytes, checkShape(bytes, MAX_VALUES))),
      ids: new Map(),
      more: false,
    };
  }
  throw new ApiError(415, "unsupported_media_type", {
    hint: `Send ${NDJSON}, or the conversations.json of a ChatGPT export as application/json.`,
  });
}

/**
 * Reads the array of a ChatGPT export. What is wrong with one conversation, or cannot be stored, is noted there.
 *
 * @throws {ApiError} 400 for what is no array, or brings too much.
 */
export function readConversations(value: unknown): ImportRecord[] {
  if (!Array.isArray(value)) throw invalidRequest([{ path: "", message: "Expected an array of conversations." }]);
  if (value.length > MAX_CONVERSATIONS) throw tooMany();
  const records: ImportRecord[] = [];
  for (const [i, conversation] of value.entries()) {
    const line = i + 1;
    let read = readChatGpt(conversation, line);
    if (read.length > MAX_CONVERSATIONS) {
      // No request can bring it whole, and the others are no part of that.
      const message = `Has ${read.length - 1} branches, and a request brings at most ${MAX_CONVERSATIONS} ` +
        "conversations, forks included. `npm run import` takes it.";
      const error = importError(invalidRequest([{ path: "mapping", message }]));
      read = [{ line, id: read[0].id, conversation: {}, messages: [], notes: [], error }];
    }
    for (const record of read) {
      if (records.length === MAX_CONVERSATIONS) throw tooMany();
      try {
        refuseUnstorable({ ...record.conversation, messages: record.messages });
        parse(chatNames, { ...record.conversation, id: record.id });
      } catch (error) {
        record.error ??= importError(error);
      }
      records.push(record);
    }
  }
  return records;
}

function tooMany(): ApiError {
  const message =
    `A request brings at most ${MAX_CONVERSATIONS} conversations, forks included, ${MAX_LINES} lines and ` +
    `${MAX_VALUES} values: \`npm run import\` cuts a file into such requests.`;
  return invalidRequest([{ path: "", message }]);
}

/**
 * Reads the lines of an NDJSON file. What is wrong with one is noted where it belongs.
 *
 * @throws {ApiError} 400 as soon as there is one conversation, line or value too many: nothing behind it is read.
 */
export function readNdjson(bytes: Uint8Array<ArrayBuffer>): ImportFile {
  const records: ImportRecord[] = [];
  /** The first of each id. */
  const byId = new Map<string, ImportRecord>();
  const ids = new Map<string, string>();
  const seen = { conversations: 0, tombstones: 0, messages: 0 };
  let more = false;
  let current: ImportRecord | undefined;
  /** A line that cannot be read and was taken for one of `current`. */
  let unreadable: number | undefined;
  /** What stands for the file as a whole: it is no conversation, and does not count as one. */
  let whole: ImportRecord | undefined;
  /** Where the export says that it goes on, if nothing follows. */
  let cutAt: number | undefined;

  const begin = (line: number, id: unknown): ImportRecord => {
    const record = { line, id: typeof id === "string" ? id : null, conversation: {}, messages: [], notes: [] };
    records.push(record);
    if (record.id !== null && !byId.has(record.id)) byId.set(record.id, record);
    return record;
  };
  let begun = 0;
  /** A line that begins a conversation, whether it is right or not. */
  const beginNext = (line: number, id: unknown): ImportRecord => {
    if (++begun > MAX_CONVERSATIONS) throw tooMany();
    return begin(line, id);
  };
  const fail = (record: ImportRecord, line: number, error: unknown) => {
    record.error ??= { ...importError(error), line };
  };
  const misplaced = (path: string, message: string) => invalidRequest([{ path, message }]);

  const readMessage = (line: number, value: Fields) => {
    const owner = value.conversation_id;
    if (current && unreadable && typeof owner === "string" && current.id !== null && owner !== current.id) {
      // So the unreadable line was the one that began this message's conversation, and the one before is whole.
      const { error } = current;
      if (error?.line === unreadable) delete current.error;
      current = begin(unreadable, owner);
      current.error = error;
    }
    unreadable = undefined;
    if (!current) {
      current = begin(line, owner);
      fail(current, line, misplaced("", "A message before the first conversation."));
      return;
    }
    try {
      const { type: _, id: __, conversation_id, message_type, ...message } = parse(messageLine, value);
      if (conversation_id != null && current.id !== null && conversation_id !== current.id) {
        throw misplaced("conversation_id", "The message stands below another conversation.");
      }
      const last = current.messages.at(-1)?.sequence_order ?? current.conversation.fork_sequence ?? 0;
      const sequence_order = message.sequence_order ?? Number(last) + 1;
      if (sequence_order <= Number(last)) {
        throw misplaced("sequence_order", `Follows ${last}, and is not greater.`);
      }
      if (sequence_order > Number(current.conversation.last_sequence_order ?? MAX_INTEGER)) {
        throw misplaced("sequence_order", "Is greater than the conversation's last_sequence_order.");
      }
      current.messages.push({ ...message, ...(message_type && { type: message_type }), sequence_order });
    } catch (error) {
      fail(current, line, error);
      // The one that the message is missing from.
      const record = typeof owner === "string" && byId.get(owner);
      if (record) fail(record, line, error);
    }
  };

  const readConversation = (line: number, value: Fields) => {
    unreadable = undefined;
    current = beginNext(line, value.id);
    try {
      const { type: _, id, ...conversation } = parse("continues" in value ? continuationLine : conversationLine, value);
      if (id != null && byId.get(id) !== current) {
        throw misplaced("id", "Another conversation of the file has this id.");
      }
      current.conversation = conversation;
    } catch (error) {
      fail(current, line, error);
    }
  };

  let line = 0;
  let values = 0;
  for (const text of splitLines(bytes)) {
    if (++line > MAX_LINES) throw tooMany();
    if (text.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)) continue;
    values += shapeOf(text).values;
    if (values > MAX_VALUES) throw tooMany();
    let value: Fields;
    try {
      value = parse(anyLine, parseJson(text));
    } catch (error) {
      const type = lineType(text);
      if (type === "conversation" || !current) {
        current = type === "conversation" ? beginNext(line, null) : begin(line, null);
        unreadable = undefined;
      } else if (type !== "message") {
        unreadable ??= line;
      }
      fail(current, line, error);
      continue;
    }

    cutAt = value.type === "next" ? line : undefined;
    if (value.type === "conversation") {
      seen[value.deleted === true ? "tombstones" : "conversations"]++;
      readConversation(line, value);
    } else if (value.type === "message") {
      seen.messages++;
      readMessage(line, value);
    } else {
      try {
        if (value.type === "ids") {
          const parsed = parse(idsLine, value);
          for (const [id, newId] of Object.entries(parsed.map)) ids.set(id, newId);
          more ||= parsed.more ?? false;
        } else if (value.type === "end") {
          const { type: _, ...expected } = parse(endLine, value);
          for (const [name, expectedCount] of Object.entries(expected)) {
            const got = seen[name as keyof typeof seen];
            if (got !== expectedCount) throw misplaced(name, `The file has ${got}, its end says ${expectedCount}.`);
          }
        } else if (value.type === "next") {
          parse(nextLine, value); // between two pieces of an export
        } else if (value.type === "error") {
          throw misplaced("", "The export ended here with an error.");
        } else {
          throw misplaced("type", "Expected conversation, message, ids, next or end.");
        }
      } catch (error) {
        // A short file is missing lines of nobody knows which conversation: told, but no reason to lose the others.
        fail(value.type === "end" ? whole ??= begin(line, null) : current ??= begin(line, null), line, error);
      }
    }
  }
  if (cutAt) fail(whole ??= begin(cutAt, null), cutAt, misplaced("", "The export goes on at the cursor of this line."));
  return { records, ids, more };
}

function* splitLines(bytes: Uint8Array<ArrayBuffer>): Generator<Uint8Array<ArrayBuffer>> {
  let start = 0;
  while (start < bytes.length) {
    const end = bytes.indexOf(0x0a, start);
    yield bytes.subarray(start, end < 0 ? bytes.length : end);
    start = end < 0 ? bytes.length : end + 1;
  }
}

/** The type of a line whose JSON is broken, if it stands first. */
function lineType(text: Uint8Array): string | undefined {
  return new TextDecoder().decode(text.subarray(0, 200)).match(/^\s*\{\s*"type"\s*:\s*"(\w+)"/)?.[1];
}

function importError(error: unknown): ImportError {
  if (!(error instanceof ApiError)) throw error;
  const { request_id: _, ...body } = error.body("");
  return body;
}

/** Errors that concern the caller, or the request as a whole, and not a conversation. */
const CALLER_ERRORS = ["user_id_required", "user_not_found", "unauthorized", "idempotency_mismatch"];

async function importFile(c: Context<AppEnv>, { records, ids, more }: ImportFile): Promise<ImportReport> {
  const key = idempotencyKey(c);
  const conversations: ImportEntry[] = [];
  const tombstones = [...ids.values()];
  /** What the rest of the file fails with, too, when the database hangs: it would take a time-out for each. */
  let hanging: ImportError | undefined;
  for (const record of records) {
    const { line, id, notes, left_out } = record;
    const entry: ImportEntry = { line, id, new_id: null, status: "failed", messages: 0, notes, left_out };
    conversations.push(entry);
    // Whoever names it as a parent from here on means this one, or nothing if it fails.
    if (id !== null) ids.delete(id);
    try {
      if (record.error ?? hanging) {
        entry.error = record.error ?? hanging;
        continue;
      }
      const conversation = withNewParent(record.conversation, ids);
      const { id: newId, messages, video_dropped, status } = await inTurn(
        c.var.caller,
        () =>
          repo.importConversation(c.var.caller, conversation, record.messages, key && `${conversations.length}/${key}`),
      );
      if (video_dropped) notes.push(`Left out video_id ${record.conversation.video_id}: it is not a video of yours.`);
      Object.assign(entry, { status, new_id: newId, messages });
      if (id !== null) ids.set(id, newId);
      if (record.conversation.deleted) tombstones.push(newId);
    } catch (error) {
      const { request_id: _, ...body } = describeError(c, error);
      if (CALLER_ERRORS.includes(body.code) && conversations.every((other) => other.new_id === null)) throw error;
      entry.error = body;
      if (isTimeout(error)) hanging = body;
    }
  }
  if (tombstones.length > 0 && !more && !hanging) {
    const gone = await repo.finishImport(c.var.caller, tombstones).catch((error): string[] => {
      if (conversations.length === 0) throw error;
      describeError(c, error); // the report counts more: what is left is hidden, and cleared by a later import
      return [];
    });
    for (const entry of conversations) {
      if (!entry.new_id || !gone.includes(entry.new_id)) continue;
      Object.assign(entry, { status: "skipped", new_id: null, messages: 0 });
      entry.notes.push("It was deleted, and no imported fork shares it.");
    }
  }
  const having = (status: ImportEntry["status"]) => conversations.filter((entry) => entry.status === status);
  return {
    imported: having("imported").length,
    grown: having("grown").length,
    unchanged: having("unchanged").length,
    failed: having("failed").length,
    skipped: having("skipped").length,
    messages: conversations.reduce((sum, entry) => sum + entry.messages, 0),
    left_out: addUp(conversations),
    conversations,
  };
}

/** What was left out of all of them. */
function addUp(counted: { left_out?: Record<string, number> }[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const { left_out = {} } of counted) {
    for (const [kind, count] of Object.entries(left_out)) sum[kind] = (sum[kind] ?? 0) + count;
  }
  return sum;
}

function withNewParent(conversation: Fields, ids: Map<string, string>): Fields {
  const { parent_id } = conversation;
  if (parent_id == null) return conversation;
  const newId = ids.get(String(parent_id));
  if (newId) return { ...conversation, parent_id: newId };
  throw new ApiError(404, "conversation_not_found", {
    details: `parent_id ${JSON.stringify(parent_id)} was not imported before this line, and no ids line has it.`,
  });
}
