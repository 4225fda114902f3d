// The conversations.json of a ChatGPT data export. Its format is nobody's promise: what is not known is kept as it came or
// counted, an odd node costs that node, and a conversation that is none is reported and not guessed at.
import { z } from "zod";
import { refuseUnstorable } from "../_shared/http.ts";
import { escapeJson, unstorable } from "../_shared/json.ts";
import type { Fields as Json, ImportRecord } from "./records.ts";

const optional = <T extends z.ZodType>(schema: T) => schema.nullish().catch(null);
const object = z.record(z.string(), z.unknown());
const time = z.union([z.number(), z.string()]);

const chatMessage = z.object({
  id: optional(z.string().min(1)),
  author: z.object({ role: z.string().catch(""), name: optional(z.string()) }).catch({ role: "", name: null }),
  create_time: optional(time),
  content: optional(z.union([object, z.string()])),
  status: optional(z.string()),
  recipient: optional(z.string()),
  metadata: optional(object),
});
type ChatMessage = z.output<typeof chatMessage>;

const chatConversation = z.looseObject({
  id: optional(z.union([z.string().min(1), z.number()])),
  conversation_id: optional(z.union([z.string().min(1), z.number()])),
  title: optional(z.string()),
  create_time: optional(time),
  update_time: optional(time),
  current_node: optional(z.string()),
  mapping: object,
});
type ChatConversation = z.output<typeof chatConversation>;

const ROLES = ["system", "developer", "user", "assistant", "tool", "function"];
const MAX_TITLE = 1000;
const MAX_ID = 256;
/** What of metadata's 64 KiB an import takes, as JSON. */
const MAX_METADATA = 48 * 1024;
/** A field of a conversation that is longer does not describe it. */
const MAX_FIELD = 1024;

/** A node of the tree. */
interface Node {
  parent?: string;
  children: string[];
  message?: ChatMessage;
}
type Tree = Map<string, Node>;

/** A conversation that is being made: the main one, or a fork of one. */
interface Branch {
  record: ImportRecord;
  parent?: Branch;
  /** How many messages it shares. */
  at: number;
  /** How many it shows. */
  last: number;
}

/** A message that speaks to a tool: it is a call when a result follows. */
interface Call {
  id: string;
  name: string;
  arguments: string;
}

/**
 * Turns a conversation of the export into records: the way from the root to `current_node` is the conversation, and each
 * way that leaves it (an edit, a regenerated answer) is a fork, of a fork where ways leave that.
 *
 * @param line The place in the file, from 1 on.
 */
export function readChatGpt(value: unknown, line: number): ImportRecord[] {
  const result = chatConversation.safeParse(withMapping(value));
  if (!result.success) {
    const details = result.error.issues.map(({ path, message }) => ({ path: path.map(String).join("."), message }));
    const record: ImportRecord = { line, id: null, conversation: {}, messages: [], notes: [] };
    const message = "This is not a conversation of a ChatGPT export.";
    const error = { code: "invalid_request", message, retryable: false, details };
    return [{ ...record, error }];
  }

  const chat = result.data;
  const leftOut = new Map<string, number>();
  const leaveOut = (kind: string) => void leftOut.set(kind, (leftOut.get(kind) ?? 0) + 1);
  const tree = readTree(chat.mapping, leaveOut);
  const known = chat.conversation_id ?? chat.id ?? firstUuid(tree);
  const id = known == null ? `line-${line}` : `${known}`.slice(0, MAX_ID);
  const title = chat.title && shorten(chat.title);
  const described = describe(chat, leaveOut);
  const model = typeof chat.default_model_slug === "string" ? chat.default_model_slug : undefined;
  const records: ImportRecord[] = [];

  const begin = (parent: Branch | undefined, at: number): Branch => {
    const metadata = { source: "chatgpt", source_id: id, ...(described && { chatgpt: described }) };
    const conversation: Json = { metadata, ...(title && { title }) };
    const record = { line, id: records.length ? `${id}#${records.length}` : id, conversation, messages: [], notes: [] };
    // A branch of a branch that has nothing of its own yet shares what that shares.
    while (parent && at <= parent.at) parent = parent.parent;
    if (parent && at > 0) Object.assign(conversation, { parent_id: parent.record.id, fork_sequence: at });
    if (known != null) {
      const after = parent && at > 0 ? messageAt(parent, at)?.item_id : undefined;
      conversation.source = { name: "chatgpt", id, ...(after !== undefined && { after }) };
    }
    records.push(record);
    return { record, parent, at: parent ? at : 0, last: parent ? at : 0 };
  };

  const visited = new Set<string>();
  const calls = new Map<Json, Call>();
  /** Who has an item_id. */
  const taken = new Map<string, { branch: Branch; at: number; json: string }>();
  // Where ways begin, and no more: ways that run together would be as many times in memory as there are of them.
  const open: { from: Branch; at: number; start: string }[] = [];
  const follow = (branch: Branch, path: string[]) => {
    for (const [i, nodeId] of path.entries()) {
      visited.add(nodeId);
      const { message, children } = tree.get(nodeId)!;
      if (message) {
        const read = readMessage(nodeId, message, { model, hasResult: () => hasResult(tree, nodeId), leaveOut });
        const unkept = typeof read === "string" ? read : add(branch, nodeId, message, read);
        if (unkept) leaveOut(unkept);
      }
      for (const child of children) {
        if (child === path[i + 1] || visited.has(child)) continue;
        open.push({ from: branch, at: branch.last, start: child });
      }
    }
  };
  /** Or why it is left out. */
  const add = (branch: Branch, nodeId: string, from: ChatMessage, message: Json): string | undefined => {
    const json = JSON.stringify({ ...message, item_id: undefined });
    for (let n = 1; taken.has(message.item_id as string); n++) {
      const other = taken.get(message.item_id as string)!;
      if (other.json === json && shows(branch, other.branch, other.at)) return "repeated";
      message.item_id = n === 1 ? nodeId.slice(0, MAX_ID) : `${nodeId.slice(0, MAX_ID - 8)}~${n}`;
    }
    if (!isExact(message) || !hasNames(message)) return "unstorable";

    const previous = messageAt(branch, branch.last);
    const call = previous && calls.get(previous);
    if (message.role === "tool" && call) {
      // Now it is one: what it says is what it calls with.
      const { id, ...called } = call;
      delete previous.content;
      previous.tool_calls = [{ id, type: "function", function: called }];
      message.tool_call_id = id;
    } else if (message.role === "tool") {
      // A second result, or one whose call is not there: as a result no API takes it.
      const { name, metadata } = message as { name?: string; metadata?: { chatgpt: Json } };
      delete message.name;
      message.role = "assistant";
      message.metadata = { chatgpt: { role: "tool", ...(name && { name }), ...metadata?.chatgpt } };
    } else if (isCall(from)) {
      calls.set(message, readCall(nodeId, from, message));
    }
    taken.set(message.item_id as string, { branch, at: ++branch.last, json });
    message.sequence_order = branch.last;
    branch.record.messages.push(message);
  };

  const main = begin(undefined, 0);
  const drain = () => {
    // Grows on the way; shift() would move all that is left each time.
    for (const { from, at, start } of open) {
      if (!visited.has(start)) follow(begin(from, at), newestPath(tree, start, visited));
    }
    open.length = 0;
  };
  follow(main, mainPath(chat, tree));
  drain();
  // What hangs on nothing, because a node is missing or in a circle.
  for (const [nodeId, { message }] of tree) {
    if (!message || visited.has(nodeId)) continue;
    follow(begin(undefined, 0), newestPath(tree, topOf(tree, nodeId, visited), visited));
    drain();
  }

  fillTimes(records, chat);
  if (chat.is_archived === true) {
    for (const { conversation } of records) {
      conversation.archived_at = conversation.updated_at ?? conversation.created_at;
    }
  }
  const kept = records.filter((record) => record === main.record || record.messages.length > 0);
  const { notes } = main.record;
  if (kept.length > 1) notes.push(`${kept.length - 1} branches became forks.`);
  if (leftOut.size > 0) main.record.left_out = Object.fromEntries(leftOut);
  const unseen = UNSEEN.reduce((sum, kind) => sum + (leftOut.get(kind) ?? 0), 0);
  if (unseen) notes.push(`Left out ${unseen} hidden or empty messages.`);
  for (const [kind, count] of leftOut) {
    if (kind in TOLD) notes.push(`Left out ${count} ${TOLD[kind as keyof typeof TOLD]}.`);
  }
  return kept;
}

// ---- the tree -------------------------------------------------------------------------------------------------------

/** A conversation without a mapping has no messages; something without ids is none. */
function withMapping(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { mapping, id, conversation_id } = value as Json;
  return mapping == null && (id ?? conversation_id) != null ? { ...value, mapping: {} } : value;
}

/** The nodes, each with its parent and children, whichever of the two says so. */
function readTree(mapping: Json, leaveOut: (kind: string) => void): Tree {
  const tree: Tree = new Map();
  for (const [id, value] of Object.entries(mapping)) {
    const { message } = Object(value);
    const read = message == null ? undefined : chatMessage.safeParse(message);
    if (value === null || typeof value !== "object" || read && !read.success) leaveOut("unreadable");
    tree.set(id, { children: [], message: read?.data });
  }
  const listed = new Set<string>();
  for (const [id, node] of tree) {
    const { children } = Object(mapping[id]);
    if (!Array.isArray(children)) continue;
    for (const child of new Set(children)) {
      if (!tree.has(child)) continue;
      node.children.push(child);
      listed.add(child);
      // Null is a root, whoever lists it.
      if (Object(mapping[child]).parent !== null) tree.get(child)!.parent ??= id;
    }
  }
  for (const [id, node] of tree) {
    const { parent } = Object(mapping[id]);
    if (typeof parent !== "string" || !tree.has(parent)) continue;
    node.parent = parent;
    if (!listed.has(id)) tree.get(parent)!.children.push(id);
  }
  return tree;
}

/** From the root to `current_node`, which is where the person was last; without it to the newest message. */
function mainPath({ current_node }: ChatConversation, tree: Tree): string[] {
  const says = (path: string[]) => path.some((id) => tree.get(id)!.message);
  const path = new Set<string>();
  let id = current_node ?? undefined;
  while (id !== undefined && tree.has(id) && !path.has(id)) {
    path.add(id);
    id = tree.get(id)!.parent;
  }
  const current = [...path].reverse();
  if (says(current)) return current;
  for (const [root, { parent }] of tree) {
    const way = parent === undefined ? newestPath(tree, root) : [];
    if (says(way)) return way;
  }
  for (const [node, { message }] of tree) {
    if (message) return newestPath(tree, topOf(tree, node));
  }
  return current;
}

/**
 * Down from a node, each time to the newest child: what ChatGPT shows when one turns to this branch. Ends before a node
 * that was visited.
 */
function newestPath(tree: Tree, start: string, visited?: Set<string>): string[] {
  const path = new Set<string>();
  let id: string | undefined = start;
  while (id !== undefined && !path.has(id) && !visited?.has(id)) {
    path.add(id);
    const { children }: Node = tree.get(id)!;
    const leads = (child: string) => tree.get(child)!.message !== undefined || tree.get(child)!.children.length > 0;
    id = children.findLast(leads) ?? children.at(-1);
  }
  return [...path];
}

/** The highest node above one that was not visited; in a circle the node itself. */
function topOf(tree: Tree, nodeId: string, visited?: Set<string>): string {
  const path = new Set<string>();
  let id = nodeId;
  for (;;) {
    path.add(id);
    const parent = tree.get(id)!.parent;
    if (parent === undefined || visited?.has(parent)) return id;
    if (path.has(parent)) return nodeId;
    id = parent;
  }
}

/** An id that no other chat has, where the chat has none itself. */
function firstUuid(tree: Tree): string | undefined {
  for (const [nodeId, { message }] of tree) {
    const id = message && (message.id ?? nodeId);
    if (id) return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id) ? id : undefined;
  }
}

/** The message that a branch shows at a number. */
function messageAt(branch: Branch, at: number): Json | undefined {
  let owner: Branch | undefined = branch;
  while (owner && at <= owner.at) owner = owner.parent;
  return owner?.record.messages[at - owner.at - 1];
}

/** Whether a branch shows what another one has at a number. */
function shows(branch: Branch, other: Branch, at: number): boolean {
  let upper = branch.last;
  for (let b: Branch | undefined = branch; b; b = b.parent) {
    if (b === other) return at <= upper;
    upper = Math.min(upper, b.at);
  }
  return false;
}

// ---- messages -------------------------------------------------------------------------------------------------------

/** Fields that say what a conversation is, beside those that have a place of their own. */
function describe(chat: ChatConversation, leaveOut: (kind: string) => void): Json | undefined {
  const described: Json = {};
  for (const [name, value] of Object.entries(chat)) {
    if (name in chatConversation.shape || isEmpty(value)) continue;
    if (JSON.stringify(value).length <= MAX_FIELD && isExact({ [name]: value })) described[name] = value;
    else leaveOut("field");
  }
  if (sizeOf(described) > MAX_METADATA) {
    for (const _ of Object.keys(described)) leaveOut("field");
    return undefined;
  }
  return Object.keys(described).length > 0 ? described : undefined;
}

const isEmpty = (value: unknown) =>
  value === null || value === undefined || value === false || value === "" ||
  typeof value === "object" && Object.keys(value).length === 0;

/** In bytes, as it is stored. */
const sizeOf = (value: unknown) => escapeJson(JSON.stringify(value)).length;

/** What an id or a name holds is stored as it is, or not at all. */
const hasNames = ({ item_id, name, model }: Json) =>
  [item_id, name, model].every((text) => typeof text !== "string" || !unstorable(text));

/** Whether all its numbers are kept. */
function isExact(value: unknown): boolean {
  try {
    refuseUnstorable(value);
    return true;
  } catch {
    return false;
  }
}

/** Whether a message speaks to a tool. */
const isCall = ({ author, recipient }: ChatMessage) =>
  author.role === "assistant" && recipient != null && !["", "all", "user", "assistant"].includes(recipient);

/** Whether what follows a node, nodes without a message aside, is the result of a tool. */
function hasResult(tree: Tree, nodeId: string, depth = 0): boolean {
  return depth < 10 && tree.get(nodeId)!.children.some((child) => {
    const { message } = tree.get(child)!;
    return message ? message.author.role === "tool" : hasResult(tree, child, depth + 1);
  });
}

/** The export has no ids of calls: the node's makes one. Its characters and length, and the name's, are what every API takes. */
function readCall(nodeId: string, { recipient, content }: ChatMessage, message: Json): Call {
  const text = String(message.content ?? "");
  const type = typeof content === "object" ? content?.content_type : undefined;
  return {
    id: `call_${nodeId.slice(-59).replace(/[^\w-]/g, "_")}`,
    name: recipient!.slice(0, 64).replace(/[^\w-]/g, "_"),
    arguments: isJsonObject(text)
      ? text
      : JSON.stringify(text === "" ? {} : { [type === "code" ? "code" : "input"]: text }),
  };
}

function isJsonObject(text: string): boolean {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** What is left out because nobody sees it. */
const UNSEEN = ["hidden", "empty", "custom_instructions"];
const TOLD = {
  unreadable: "nodes that are none",
  repeated: "messages that repeat one before them",
  unstorable: "messages with ids, names or numbers that cannot be stored",
  citations: "messages' citations, which are too large",
  details: "messages' details, which are too large",
  field: "fields of the conversation, which are too large or cannot be stored",
};

/** A message as an import has it; or why nobody misses it. */
function readMessage(
  nodeId: string,
  message: ChatMessage,
  { model, hasResult, leaveOut }: { model?: string; hasResult: () => boolean; leaveOut: (kind: string) => void },
): Json | string {
  const { author, metadata } = message;
  const content = typeof message.content === "string" ? { parts: [message.content] } : message.content;
  const hidden = metadata?.is_visually_hidden_from_conversation === true;
  if (hidden && author.role === "system") return "hidden";
  if (!content) return "empty";
  const { content_type = "text" } = content;
  if (content_type === "user_editable_context") return "custom_instructions";
  const body = readContent(content) ?? (isCall(message) && hasResult() ? { content: "" } : undefined);
  if (!body) return "empty";

  const { rest, ...fields } = body;
  const role = ROLES.includes(author.role) ? author.role : "assistant";
  const details: Json = {
    ...(role !== author.role && { role: author.role }),
    ...(content_type !== "text" && { content_type }),
    ...(typeof content.language === "string" && { language: content.language }),
    ...(message.recipient && message.recipient !== "all" && { recipient: message.recipient }),
    ...(hidden && { hidden }),
    ...(rest && { content: rest }),
  };
  for (const name of ["attachments", "content_references", "citations"]) {
    if (!isEmpty(metadata?.[name])) details[name] = metadata![name];
  }
  fit(details, leaveOut);
  const slug = metadata?.model_slug ?? (author.role === "assistant" ? model : undefined);
  return {
    role,
    ...fields,
    ...(author.name && { name: author.name.slice(0, MAX_ID) }),
    ...(typeof slug === "string" && slug && { model: slug.slice(0, MAX_ID) }),
    ...(message.status === "in_progress" && { status: "incomplete" }),
    ...(Object.keys(details).length > 0 && { metadata: { chatgpt: details } }),
    item_id: (message.id ?? nodeId).slice(0, MAX_ID),
    created_at: readTime(message.create_time),
  };
}

/** Metadata is bounded. Of citations it is their addresses that count. */
function fit(details: Json, leaveOut: (kind: string) => void): void {
  const tooLarge = () => sizeOf(details) > MAX_METADATA;
  if (!tooLarge()) return;
  const references = details.content_references;
  if (Array.isArray(references)) {
    details.content_references = references.map((reference) => {
      const { matched_text, type, url, title, items } = Object(reference);
      const sources = Array.isArray(items) ? items.map((item) => ({ title: item?.title, url: item?.url })) : undefined;
      return { matched_text, type, url, title, items: sources };
    });
    if (!tooLarge()) return;
  }
  for (const name of ["citations", "content_references", "content", "attachments"]) {
    if (!(name in details)) continue;
    delete details[name];
    leaveOut(name === "content" || name === "attachments" ? "details" : "citations");
    if (!tooLarge()) return;
  }
}

interface Body {
  type?: string;
  content?: string;
  parts?: unknown[];
  /** What the content says beside that. */
  rest?: Json;
}

/** Where the kinds of content have their text. */
const TEXTS = ["text", "result", "content", "model_set_context", "shared_prompt", "summary"];

/**
 * What is written or said is content, once. Images, sound and files are parts, as they came; so is what has no text of a kind
 * that is known.
 */
function readContent(content: Json): Body | undefined {
  const { content_type, parts, thoughts, language: _, response_format_name: __, ...fields } = content;
  if (Array.isArray(parts)) {
    const texts = parts.map(textOf);
    const text = texts.filter((text) => text).join("\n");
    const others = parts.filter((part, i) => texts[i] === undefined && !isEmpty(part));
    if (!text && others.length === 0) return undefined;
    return { ...(text && { content: text }), ...(others.length > 0 && { parts: others }) };
  }
  if (Array.isArray(thoughts)) {
    const text = thoughts
      .flatMap((thought) => [Object(thought).summary, Object(thought).content])
      .filter((text) => typeof text === "string" && text !== "")
      .join("\n");
    return text ? { type: "reasoning", content: text } : undefined;
  }

  const name = TEXTS.find((name) => typeof fields[name] === "string" && fields[name] !== "");
  const rest = Object.fromEntries(Object.entries(fields).filter(([key, value]) => key !== name && !isEmpty(value)));
  const said = Object.keys(rest).length > 0;
  if (name === undefined) return said ? { parts: [content] } : undefined;
  return {
    ...(content_type === "reasoning_recap" && { type: "reasoning" }),
    content: fields[name] as string,
    ...(said && { rest }),
  };
}

/** The text of a part that is text, typed or spoken. */
function textOf(part: unknown): string | undefined {
  if (typeof part === "string") return part;
  if (typeof part === "number" || typeof part === "boolean") return `${part}`;
  const { content_type, type, text } = Object(part);
  const kind = content_type ?? type ?? "text";
  return typeof text === "string" && ["text", "audio_transcription"].includes(kind) ? text : undefined;
}

// ---- times ----------------------------------------------------------------------------------------------------------

/** A message without a time has that of the one before it. Those of a fork begin with its first own message. */
function fillTimes(records: ImportRecord[], { create_time, update_time }: ChatConversation): void {
  const created = readTime(create_time);
  const updated = readTime(update_time);
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

/** Seconds, milliseconds or a date, as numbers or text. What lies ahead, or is none, is no time. */
function readTime(time: number | string | null | undefined): string | undefined {
  if (time == null || time === "") return undefined;
  const number = Number(time);
  // As seconds it would be after the year 5000.
  const seconds = Number.isNaN(number)
    ? Date.parse(`${time}`) / 1000
    : Math.abs(number) > 1e11
    ? number / 1000
    : number;
  return seconds * 1000 > Date.now() ? undefined : toTimestamp(seconds);
}

/** Seconds with a fraction, to the microsecond that Postgres keeps. */
export function toTimestamp(time: number): string | undefined {
  const micros = Math.round(time * 1e6);
  const date = new Date(Math.floor(micros / 1e3));
  if (!(date.getUTCFullYear() >= 1 && date.getUTCFullYear() <= 9999)) return undefined;
  const fraction = String(((micros % 1e6) + 1e6) % 1e6).padStart(6, "0");
  return `${date.toISOString().slice(0, 19)}.${fraction}+00:00`;
}

function shorten(title: string): string {
  const characters = [...title];
  return characters.length > MAX_TITLE ? `${characters.slice(0, MAX_TITLE - 1).join("")}…` : title;
}
