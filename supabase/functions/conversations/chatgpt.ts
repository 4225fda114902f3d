// The conversations.json of a ChatGPT data export. Its format is nobody's promise: what is not known is kept as it
// came, and a conversation that does not fit is reported and not guessed at.
import { z } from "zod";
import type { ImportRecord } from "./records.ts";

type Json = { [key: string]: unknown };
const object = z.record(z.string(), z.unknown());
const seconds = z.number().nullish().catch(null);

const chatMessage = z.object({
  id: z.string().nullish().catch(null),
  author: z.object({ role: z.string().catch(""), name: z.string().nullish().catch(null) }).catch({ role: "" }),
  create_time: seconds,
  content: object.nullish().catch(null),
  status: z.string().nullish().catch(null),
  recipient: z.string().nullish().catch(null),
  metadata: object.nullish().catch(null),
});
type ChatMessage = z.output<typeof chatMessage>;

const chatConversation = z.object({
  id: z.string().nullish(),
  conversation_id: z.string().nullish(),
  title: z.string().nullish(),
  create_time: seconds,
  update_time: seconds,
  current_node: z.string().nullish(),
  mapping: z.record(
    z.string(),
    z.object({
      parent: z.string().nullish(),
      children: z.array(z.string()).default([]),
      message: chatMessage.nullish(),
    }),
  ),
});
type ChatConversation = z.output<typeof chatConversation>;
type Mapping = ChatConversation["mapping"];

const ROLES = ["system", "developer", "user", "assistant", "tool", "function"];
const MAX_TITLE = 1000;

/** A conversation that is being made: the main one, or a fork of one. */
interface Branch {
  record: ImportRecord;
  parent?: Branch;
  /** How many messages it shares. */
  at: number;
  /** How many it shows. */
  last: number;
}

/**
 * Turns a conversation of the export into records: the way from the root to `current_node` is the conversation, and each
 * way that leaves it (an edit, a regenerated answer) is a fork, of a fork where ways leave that.
 *
 * @param line The place in the file, from 1 on.
 */
export function readChatGpt(value: unknown, line: number): ImportRecord[] {
  const result = chatConversation.safeParse(value);
  if (!result.success) {
    const details = result.error.issues.map(({ path, message }) => ({ path: path.map(String).join("."), message }));
    const record: ImportRecord = { line, id: null, conversation: {}, messages: [], notes: [] };
    const message = "This is not a conversation of a ChatGPT export.";
    const error = { code: "invalid_request", message, retryable: false, details };
    return [{ ...record, error }];
  }

  const chat = result.data;
  const { mapping } = chat;
  const id = chat.conversation_id ?? chat.id ?? `line-${line}`;
  const title = chat.title && shorten(chat.title);
  const records: ImportRecord[] = [];
  let dropped = 0;

  const begin = (parent: Branch | undefined, at: number): Branch => {
    const conversation: Json = { metadata: { source: "chatgpt", source_id: id }, ...(title && { title }) };
    const record = { line, id: records.length ? `${id}#${records.length}` : id, conversation, messages: [], notes: [] };
    // A branch of a branch that has nothing of its own yet shares what that shares.
    while (parent && at <= parent.at) parent = parent.parent;
    if (parent && at > 0) Object.assign(conversation, { parent_id: parent.record.id, fork_sequence: at });
    records.push(record);
    return { record, parent, at: parent ? at : 0, last: parent ? at : 0 };
  };

  const visited = new Set<string>();
  const main = begin(undefined, 0);
  // Where ways begin, and no more: ways that run together would be as many times in memory as there are of them.
  const open: { from: Branch; at: number; start: string }[] = [];
  const follow = (branch: Branch, path: string[]) => {
    for (const [i, nodeId] of path.entries()) {
      visited.add(nodeId);
      const message = mapping[nodeId].message && readMessage(nodeId, mapping[nodeId].message);
      if (message) {
        branch.record.messages.push({ ...message, sequence_order: ++branch.last });
      } else if (mapping[nodeId].message) {
        dropped++;
      }
      for (const child of childrenOf(mapping, nodeId)) {
        if (child === path[i + 1] || visited.has(child)) continue;
        open.push({ from: branch, at: branch.last, start: child });
      }
    }
  };
  follow(main, mainPath(chat));
  // Grows on the way; shift() would move all that is left each time.
  for (const { from, at, start } of open) {
    if (!visited.has(start)) follow(begin(from, at), newestPath(mapping, start, visited));
  }

  fillTimes(records, chat);
  const unreached = Object.entries(mapping).filter(([node, { message }]) => message && !visited.has(node)).length;
  const kept = records.filter((record) => record === main.record || record.messages.length > 0);
  if (kept.length > 1) main.record.notes.push(`${kept.length - 1} branches became forks.`);
  if (dropped) main.record.notes.push(`Left out ${dropped} hidden or empty messages.`);
  if (unreached) main.record.notes.push(`Left out ${unreached} messages that no way leads to.`);
  return kept;
}

/** From the root to `current_node`, which is where the person was last. */
function mainPath({ mapping, current_node }: ChatConversation): string[] {
  const root = Object.keys(mapping).find((id) => !mapping[id].parent || !Object.hasOwn(mapping, mapping[id].parent));
  if (!current_node || !Object.hasOwn(mapping, current_node)) return root ? newestPath(mapping, root) : [];
  const path = new Set<string>();
  for (let id: string | null | undefined = current_node; id && Object.hasOwn(mapping, id); id = mapping[id].parent) {
    if (path.has(id)) break;
    path.add(id);
  }
  return [...path].reverse();
}

/**
 * Down from a node, each time to the newest child: what ChatGPT shows when one turns to this branch. Ends before a node
 * that was visited.
 */
function newestPath(mapping: Mapping, start: string, visited?: Set<string>): string[] {
  const path = new Set<string>();
  let id: string | undefined = start;
  while (id !== undefined && !path.has(id) && !visited?.has(id)) {
    path.add(id);
    id = childrenOf(mapping, id).at(-1);
  }
  return [...path];
}

function childrenOf(mapping: Mapping, id: string): string[] {
  return mapping[id].children.filter((child) => Object.hasOwn(mapping, child));
}

/** A message as an import has it; null for what a person never sees: hidden or empty. */
function readMessage(nodeId: string, message: ChatMessage): Json | null {
  const { author, content, metadata } = message;
  if (!content) return null;
  const hidden = metadata?.is_visually_hidden_from_conversation === true;
  if (hidden && author.role === "system" || content.content_type === "user_editable_context") return null;
  const body = readContent(content);
  if (!body) return null;

  const role = ROLES.includes(author.role) ? author.role : "assistant";
  const kept: Json = {
    ...(role !== author.role && { role: author.role }),
    ...(content.content_type !== "text" && { content_type: content.content_type }),
    ...(typeof content.language === "string" && { language: content.language }),
    ...(message.recipient && message.recipient !== "all" && { recipient: message.recipient }),
    ...(hidden && { hidden }),
  };
  const model = metadata?.model_slug;
  return {
    role,
    ...body,
    ...(author.name && { name: author.name }),
    ...(typeof model === "string" && { model }),
    ...(message.status === "in_progress" && { status: "incomplete" }),
    ...(Object.keys(kept).length > 0 && { metadata: { chatgpt: kept } }),
    item_id: (message.id ?? nodeId).slice(0, 256),
    created_at: message.create_time == null ? undefined : toTimestamp(message.create_time),
  };
}

/** Text is content. Images, files and whatever has a type of its own are parts, as they came. */
function readContent(content: Json): { content: string } | { content: string | null; parts: unknown[] } | null {
  const { content_type, parts, text } = content;
  if (Array.isArray(parts) && (content_type === "text" || content_type === "multimodal_text")) {
    const filled = parts.filter((part) => part !== "" && part !== null);
    if (filled.length === 0) return null;
    const texts = filled.filter((part) => typeof part === "string");
    if (texts.length === filled.length) return { content: texts.join("\n") };
    return {
      content: texts.length > 0 ? texts.join("\n") : null,
      parts: filled.map((part) => typeof part === "string" ? { type: "text", text: part } : part),
    };
  }
  const known = content_type === "text" || content_type === "code" || content_type === "execution_output";
  if (known && typeof text === "string") return text === "" ? null : { content: text };
  return { content: typeof text === "string" && text !== "" ? text : null, parts: [content] };
}

/** A message without a time has that of the one before it. Those of a fork begin with its first own message. */
function fillTimes(records: ImportRecord[], { create_time, update_time }: ChatConversation): void {
  const created = create_time == null ? undefined : toTimestamp(create_time);
  const updated = update_time == null ? undefined : toTimestamp(update_time);
  for (const [i, { conversation, messages }] of records.entries()) {
    let last = i === 0 ? created : undefined;
    for (const message of messages) {
      message.created_at ??= last ?? created;
      if (message.created_at === undefined) delete message.created_at;
      last = message.created_at as string | undefined;
    }
    const first = i === 0 ? created : messages[0]?.created_at ?? created;
    const latest = i === 0 ? updated ?? last : last ?? updated;
    Object.assign(conversation, first !== undefined && { created_at: first });
    Object.assign(conversation, latest !== undefined && { updated_at: latest });
  }
}

/** Seconds with a fraction, to the microsecond that Postgres keeps. */
export function toTimestamp(time: number): string | undefined {
  const micros = Math.round(time * 1e6);
  const date = new Date(Math.floor(micros / 1e3));
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999) return undefined;
  const fraction = String(((micros % 1e6) + 1e6) % 1e6).padStart(6, "0");
  return `${date.toISOString().slice(0, 19)}.${fraction}+00:00`;
}

function shorten(title: string): string {
  const characters = [...title];
  return characters.length > MAX_TITLE ? `${characters.slice(0, MAX_TITLE - 1).join("")}…` : title;
}
