// OpenAI's Responses API: items.
import type { Json } from "../database.types.ts";
import { isObject, type JsonObject } from "../json.ts";
import { type Block, type Call, type Media, type Result, type Row, type Turn } from "./blocks.ts";
import { asString, isSame, isWholeItem, typeOf } from "./read.ts";
import { CallIds, type Dialect, fit, outputBlocks, textOf, urlOf, withError, type Written } from "./write.ts";

const MAX_ID = 64;
const MAX_NAME = 128;
const ROLES = ["user", "assistant", "system", "developer"];

/** How the id of an item begins, by its type: another is refused. `private.item_prefix` is the same in SQL. */
export const PREFIXES: Record<string, string> = {
  message: "msg_",
  function_call: "fc_",
  function_call_output: "fco_",
  custom_tool_call: "ctc_",
  custom_tool_call_output: "ctco_",
  reasoning: "rs_",
  compaction: "cmp_",
  web_search_call: "ws_",
  file_search_call: "fs_",
  code_interpreter_call: "ci_",
  image_generation_call: "ig_",
  computer_call: "cu_",
  computer_call_output: "cuo_",
  local_shell_call: "lsh_",
  local_shell_call_output: "lsho_",
  shell_call: "sh_",
  shell_call_output: "sho_",
  apply_patch_call: "apc_",
  apply_patch_call_output: "apco_",
  tool_search_call: "tsc_",
  tool_search_output: "tso_",
  mcp_call: "mcp_",
  mcp_list_tools: "mcpl_",
  mcp_approval_request: "mcpr_",
  mcp_approval_response: "mcpa_",
  program: "prog_",
  program_output: "prog_out_",
  additional_tools: "at_",
  configuration_update: "cfg_",
};
/** Whether OpenAI takes an id for an item of this type: of a result it asks no more than of its call. */
export function isOpenAiId(id: string, type: string): boolean {
  if (!Object.hasOwn(PREFIXES, type)) return true;
  const begins = type === "tool_search_output"
    ? "tso"
    : type === "mcp_approval_response"
    ? "mcp"
    : (PREFIXES[type.replace(/_output$/, "")] ?? PREFIXES[type]).replace(/_$/, "");
  return /^[A-Za-z0-9_-]{1,64}$/.test(id) && id.startsWith(begins);
}

/** Without an id of their own these are accepted; the others get one. */
const NEED_NO_ID = /^(message|function_call|custom_tool_call|reasoning|compaction|.*_output|mcp_approval_response)$/;
const TEXTS = ["input_text", "output_text", "text"];

const isItemPart = (part: Json) =>
  isObject(part) && /^(input_(text|image|file|audio)|output_text|refusal)$/.test(asString(part.type) ?? "");

export const responses: Dialect = {
  recognises({ type, role, content, stop_reason }) {
    if (type === "message" || type === undefined) {
      return ROLES.includes(role as string) && stop_reason === undefined && Array.isArray(content) &&
        content.every(isItemPart) &&
        (type === "message" || content.some((part) => isObject(part) && part.type !== "refusal"));
    }
    return typeof type === "string" && Object.hasOwn(PREFIXES, type);
  },

  read: fromItem,

  holds(block, { role }) {
    switch (block.type) {
      case "image":
        return role === "user" && (urlOf(block) ?? block.id) !== undefined;
      case "file":
        return role === "user" && (urlOf(block) ?? block.id) !== undefined;
      case "refusal":
      case "call":
        return role === "assistant";
      case "hosted":
      case "approval":
        return Object.hasOwn(PREFIXES, typeOf(block.native));
      default:
        return true;
    }
  },

  owns: (part, { row }) => isWholeItem(row) && row.item === part && Object.hasOwn(PREFIXES, typeOf(part)),

  write(turns, to) {
    const ids = new CallIds(MAX_ID, to.ready);
    const sent: Sent = { ids: new Set(), asked: new Map() };
    for (const turn of turns) {
      if (turn.row.item != null && (!to.ready || isKnown(turn.row))) {
        const item = toItem(turn.row);
        if (to.ready) sendItem(item, turn, ids, sent, to);
        else to.add(item, turn);
        continue;
      }
      let message: JsonObject | undefined;
      for (const block of turn.blocks) {
        const item = write(block, turn, ids, to);
        if (item === undefined) continue;
        if (isObject(item.content)) {
          message ??= to.add({ type: "message", role: roleOf(turn), content: [] }, turn);
          (message.content as Json[]).push(item.content);
        } else {
          message = undefined;
          to.add(item, turn);
        }
      }
      if (turn.blocks.length === 0 && !to.ready) to.add({ type: "message", role: roleOf(turn), content: [] }, turn);
    }
  },
  request: ({ messages }) => ({ input: messages }),
};

const roleOf = ({ role, rowRole }: Turn) => role === "tool" ? "user" : rowRole === "developer" ? rowRole : role;

/** Whether an item is of a type that the API takes. Others become text. */
function isKnown(row: Row): boolean {
  if (!isWholeItem(row)) return true;
  const { type, role, content } = row.item!;
  if (type === "message" || type === undefined) {
    return ROLES.includes(role as string) &&
      (typeof content === "string" || Array.isArray(content) && content.every(isItemPart));
  }
  return typeof type === "string" && Object.hasOwn(PREFIXES, type);
}

/** What is sent of a context so far. */
interface Sent {
  ids: Set<string>;
  /** Requests for an approval that nobody has answered, by their ids, and one that has none yet. */
  asked: Map<string | undefined, JsonObject>;
}

/** An item as it came, with an id that the API takes, and the ids of calls in their pairs. */
function sendItem(stored: JsonObject, turn: Turn, ids: CallIds, sent: Sent, to: Written): void {
  const item = { ...stored };
  const type = asString(item.type) ?? "message";
  if (typeof item.id === "string") {
    if (sent.ids.has(item.id)) return to.change(turn, type, "out");
    sent.ids.add(item.id);
    if (type === "mcp_approval_request") sent.asked.set(item.id, item);
    if (!isOpenAiId(item.id, type)) {
      // Nobody but OpenAI can read it, and OpenAI knows it by its id.
      if (typeof item.encrypted_content === "string") return to.change(turn, type, "out");
      if (NEED_NO_ID.test(type)) delete item.id;
      else item.id = idOf(item.id, type);
    }
  }
  if (type === "mcp_approval_request" && item.id == null) sent.asked.set(undefined, item);
  if (type === "mcp_approval_response" && typeof item.approval_request_id === "string") {
    const id = item.approval_request_id;
    const request = sent.asked.get(id) ?? sent.asked.get(undefined);
    if (!request) return to.change(turn, type, "out");
    sent.asked.delete(sent.asked.has(id) ? id : undefined);
    // One without an id is answered by that which the OpenAI API lists it with.
    item.approval_request_id = request.id = idOf(id, "mcp_approval_request");
  }
  const [block] = turn.blocks;
  if (typeof item.call_id === "string" && block?.type === "call") {
    item.call_id = ids.call(block, turn) ?? item.call_id;
  } else if (typeof item.call_id === "string" && block?.type === "result") {
    const { id, call } = ids.result(block);
    if (call && outputType(call) !== type) return void to.add(outputItem(block, id, call, turn, to), turn);
    item.call_id = id;
  }
  to.add(item, turn);
}

const idOf = (id: string, type: string) => isOpenAiId(id, type) ? id : fit(`${PREFIXES[type]}${id}`, MAX_ID);

/** A result is of its call's type, whoever gave it. */
const outputType = ({ itemType = "function_call" }: Call) =>
  itemType === "tool_search_call" ? "tool_search_output" : `${itemType}_output`;

/** An item, or a part of a message's content. */
function write(block: Block, turn: Turn, ids: CallIds, to: Written): JsonObject | undefined {
  switch (block.type) {
    case "call": {
      const id = ids.call(block, turn);
      if (id === undefined) return undefined;
      const name = fit(block.name, MAX_NAME);
      return block.custom
        ? { type: "custom_tool_call", call_id: id, name, input: block.arguments }
        : { type: "function_call", call_id: id, name, arguments: block.arguments };
    }
    case "result": {
      const { id, call } = ids.result(block);
      return outputItem(block, id, call, turn, to);
    }
    case "refusal":
      return { content: { type: "refusal", refusal: block.text } };
    case "image":
    case "file":
      return { content: mediaPart(block) };
    default: {
      const text = textOf(block);
      return {
        content: turn.role === "assistant"
          ? { type: "output_text", text, annotations: [] }
          : { type: "input_text", text },
      };
    }
  }
}

function outputItem(result: Result, id: string, call: Call | undefined, turn: Turn, to: Written): JsonObject {
  const blocks = outputBlocks(result);
  const output = blocks.length === 1 && blocks[0].type === "text"
    ? withError(result, textOf(blocks[0]))
    : blocks.map((block): Json => {
      const isHeld = responses.holds(block, { ...turn, role: "user" }) &&
        (block.type === "image" || block.type === "file");
      if (!isHeld && block.type !== "text") to.change(turn, block.type, "text");
      return isHeld ? mediaPart(block as Media) : { type: "input_text", text: textOf(block) };
    });
  return { type: call ? outputType(call) : "function_call_output", call_id: id, output };
}

function mediaPart(block: Media): JsonObject {
  if (block.type === "image") {
    return {
      type: "input_image",
      detail: block.detail ?? "auto",
      ...(block.id !== undefined ? { file_id: block.id } : { image_url: urlOf(block)! }),
    };
  }
  if (block.id !== undefined) return { type: "input_file", file_id: block.id };
  if (block.data === undefined) return { type: "input_file", file_url: block.url! };
  return { type: "input_file", file_data: urlOf(block)!, filename: block.filename ?? "file" };
}

// ---- items as rows --------------------------------------------------------------------------------------------------

const validId = (id: Json | undefined): string | undefined =>
  typeof id === "string" && id.length >= 1 && id.length <= 256 ? id : undefined;

const textPart = (role: string, text: string, isGenerated: boolean): JsonObject => ({
  type: role === "assistant" ? "output_text" : "input_text",
  text,
  ...(role === "assistant" && isGenerated && { annotations: [], logprobs: [] }),
});

function without(object: JsonObject, names: string[]): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}

/** An item as columns: `private.message_from_item` in SQL says why. */
export function fromItem(item: JsonObject): Row {
  const type = asString(item.type);
  const id = validId(item.id);
  const role = ["system", "developer", "user", "assistant", "tool", "function"].includes(item.role as string)
    ? item.role as string
    : undefined;
  const name = typeof item.name === "string" && [...item.name].length <= 256 ? item.name : undefined;
  let message: Row | undefined;
  let rest: JsonObject = {};
  if (item.status === false) {
    // Nobody's status, but what marks a missing one below.
  } else if (
    (type === "message" || !("type" in item)) && role !== undefined &&
    (typeof item.content === "string" || Array.isArray(item.content))
  ) {
    const { content } = item;
    rest = without(item, ["type", "role", "content"]);
    if (type === undefined) rest.type = null;
    const part = Array.isArray(content) && content.length === 1 ? content[0] : undefined;
    if (typeof content === "string") {
      message = { role, content };
      rest.content = "";
    } else if (isObject(part) && TEXTS.includes(part.type as string) && typeof part.text === "string") {
      message = { role, content: part.text };
      if (!isSame(part, textPart(role, part.text, id !== undefined))) rest.content = [without(part, ["text"])];
    } else {
      message = { role, parts: content as Json[] };
    }
    if (name !== undefined) rest = without(rest, ["name"]);
    message.name = name;
  } else if (
    type === "function_call" && typeof item.call_id === "string" && typeof item.name === "string" &&
    typeof item.arguments === "string"
  ) {
    rest = without(item, ["type", "call_id", "name", "arguments"]);
    const call = { id: item.call_id, type: "function", function: { name: item.name, arguments: item.arguments } };
    message = { role: "assistant", tool_calls: [call] };
  } else if (
    type === "function_call_output" && typeof item.call_id === "string" &&
    (typeof item.output === "string" || Array.isArray(item.output))
  ) {
    rest = without(item, name === undefined ? ["type", "call_id", "output"] : ["type", "call_id", "output", "name"]);
    message = {
      role: "tool",
      tool_call_id: item.call_id,
      name,
      ...(typeof item.output === "string" ? { content: item.output } : { parts: item.output }),
    };
  }

  if (message) {
    if (id !== undefined) {
      if (rest.status === "completed") delete rest.status;
      else if (!("status" in rest)) rest.status = false;
      delete rest.id;
    }
    message = { ...message, type: "message", item: rest };
  } else {
    const isMessage = type === "message" && role === undefined;
    message = { type: isMessage || !type || type.length > 64 ? "item" : type, role, item };
  }
  const isIncomplete = item.status === "in_progress" || item.status === "incomplete";
  return { ...message, item_id: id, status: isIncomplete ? "incomplete" : "complete" };
}

/** The item that a row came as: `private.items_from_message` in SQL. */
export function toItem(row: Row): JsonObject {
  if (isWholeItem(row)) return row.item!;
  let item: JsonObject = { ...row.item };
  if (row.item_id != null && !("id" in item)) item = { id: row.item_id, ...item };
  const isGenerated = validId(item.id) !== undefined;
  const shape = item.content;
  if (item.status === false) delete item.status;
  else if (isGenerated && !("status" in item)) item.status = "completed";
  if (row.name != null) item.name = row.name;

  const call = Array.isArray(row.tool_calls) ? row.tool_calls[0] : undefined;
  if (isObject(call)) {
    const called = isObject(call.function) ? call.function : {};
    return { ...item, type: "function_call", call_id: call.id, name: called.name, arguments: called.arguments };
  }
  if (row.tool_call_id != null) {
    return {
      ...item,
      type: "function_call_output",
      call_id: row.tool_call_id,
      output: row.content ?? row.parts ?? null,
    };
  }
  if (item.type === null) delete item.type;
  else item.type = "message";
  const first = Array.isArray(shape) ? shape[0] : undefined;
  const content: Json = row.content == null
    ? row.parts ?? []
    : typeof shape === "string"
    ? row.content
    : [isObject(first) ? { ...first, text: row.content } : textPart(row.role ?? "user", row.content, isGenerated)];
  return { ...item, role: row.role, content };
}
