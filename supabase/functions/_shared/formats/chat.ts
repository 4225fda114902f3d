// OpenAI's Chat Completions, and what speaks it.
import type { Json } from "../database.types.ts";
import { isObject, type JsonObject } from "../json.ts";
import { type Block, type Media, type Result, type Row, type Turn } from "./blocks.ts";
import { asString, restOf } from "./read.ts";
import { CallIds, type Dialect, fit, outputBlocks, textOf, urlOf, withError, type Written } from "./write.ts";

/** https://platform.openai.com/docs/api-reference/chat: longer ids and names are refused. */
const MAX_ID = 40;
const MAX_NAME = 64;
const ROLES = ["system", "developer", "user", "assistant", "tool", "function"];
/** What a message has beyond our own shape, of OpenAI and of those that speak its language. */
const FIELDS = ["refusal", "annotations", "audio", "parsed", "reasoning", "reasoning_content", "reasoning_details"];

export const chat: Dialect = {
  recognises: (message) =>
    ROLES.includes(message.role as string) && !("parts" in message) &&
    (Array.isArray(message.content) ? message.content.every(isObject) : FIELDS.some((name) => name in message)),

  read(message) {
    const { role, content, name, tool_calls, function_call, tool_call_id } = message;
    if (!ROLES.includes(role as string)) return "Has no role of the chat completions API.";
    const row: Row = { role: role as string };
    if (typeof content === "string") row.content = content;
    else if (Array.isArray(content)) row.parts = content;
    else if (typeof message.refusal === "string") row.parts = [{ type: "refusal", refusal: message.refusal }];
    else if (isObject(message.audio)) row.content = asString(message.audio.transcript) ?? "";
    if (typeof name === "string") row.name = name;
    if (Array.isArray(tool_calls)) row.tool_calls = tool_calls;
    if (isObject(function_call)) row.function_call = function_call;
    if (typeof tool_call_id === "string") row.tool_call_id = tool_call_id;
    const rest = restOf(message, said(row));
    // A model that says nothing at all has said so.
    if (row.content === undefined && !row.parts && !row.tool_calls && !row.function_call && content === null) {
      row.content = "";
    }
    return { ...row, source: { dialect: "chat", rest } };
  },

  restore({ source, ...row }) {
    const rest = source!.rest as JsonObject;
    const { content, ...message } = said(row);
    const isDerived = typeof rest.refusal === "string" && !Array.isArray(rest.content) && isRefusal(row.parts) ||
      isObject(rest.audio) && typeof content === "string" && content === (asString(rest.audio.transcript) ?? "");
    return { ...message, ...(content !== undefined && !isDerived && { content }), ...rest };
  },

  holds(block, { role }) {
    switch (block.type) {
      case "image":
        return role === "user" && urlOf(block) !== undefined;
      case "audio":
        return role === "user" && block.data !== undefined && audioFormat(block) !== undefined;
      case "file":
        return role === "user" && (block.data ?? block.id) !== undefined;
      case "refusal":
      case "call":
        return role === "assistant";
      default:
        return true;
    }
  },

  owns: () => false,

  write(turns, to) {
    const ids = new CallIds(MAX_ID, to.ready);
    let open: { message: JsonObject; said: Block[] } | undefined;
    const close = () => {
      if (open) open.message.content = contentOf(open.said, to.ready);
    };
    for (const turn of turns) {
      // Calls that a turn makes at once stand in one message, however many rows they came in.
      const joins = to.ready && open?.message.role === "assistant" && turn.role === "assistant" &&
        ("tool_calls" in open.message || turn.blocks.some(({ type }) => type === "call"));
      if (!joins) {
        close();
        open = undefined;
      } else {
        to.join(turn);
      }
      for (const block of turn.blocks) {
        if (block.type === "result") {
          close();
          open = undefined;
          to.add(toolMessage(block, ids, turn, to), turn);
          continue;
        }
        if (!open) open = { message: to.add(begin(turn, to.ready), turn), said: [] };
        if (block.type !== "call") open.said.push(block);
        else if (block.native === turn.row.function_call && block.native && !to.ready) {
          open.message.function_call = block.native;
        } else addCall(open.message, block, ids.call(block, turn));
      }
      if (turn.blocks.length === 0 && !to.ready) {
        to.add({ ...begin(turn, false), content: turn.row.content ?? "" }, turn);
      }
    }
    close();
  },
  request: ({ messages }) => ({ messages }),
};

/** A row of our own columns in the words of the API. */
function said({ role, content, parts, name, tool_calls, function_call, tool_call_id }: Row): JsonObject {
  const message = { role, content: content ?? parts, name, tool_calls, function_call, tool_call_id };
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value != null)) as JsonObject;
}

const isRefusal = (parts: Json[] | null | undefined) =>
  parts?.length === 1 && isObject(parts[0]) && parts[0].type === "refusal";

function begin(turn: Turn, ready: boolean): JsonObject {
  const role = turn.role === "tool" ? "user" : turn.rowRole === "developer" ? "developer" : turn.role;
  const message: JsonObject = { role, content: null };
  if (turn.name !== undefined) message.name = ready ? fit(turn.name, MAX_NAME, /[\s<|\\/>]/g) : turn.name;
  return message;
}

function addCall(message: JsonObject, call: Extract<Block, { type: "call" }>, id: string | undefined): void {
  if (id === undefined) return;
  const name = fit(call.name, MAX_NAME);
  (message.tool_calls ??= [] as Json[]) as Json[];
  (message.tool_calls as Json[]).push(
    call.custom
      ? { id, type: "custom", custom: { name, input: call.arguments } }
      : { id, type: "function", function: { name, arguments: call.arguments } },
  );
}

function toolMessage(result: Result, ids: CallIds, turn: Turn, to: Written): JsonObject {
  if (!to.ready && turn.rowRole === "function" && result.id === undefined) {
    return { role: "function", name: result.name ?? "tool", content: text(result, turn, to)[0] ?? "" };
  }
  const texts = text(result, turn, to);
  const { id } = ids.result(result);
  return {
    role: "tool",
    tool_call_id: id,
    content: texts.length <= 1 ? texts[0] ?? "" : texts.map((text) => ({ type: "text", text })),
  };
}

function text(result: Result, turn: Turn, to: Written): string[] {
  const blocks = outputBlocks(result);
  for (const { type } of blocks) if (type !== "text") to.change(turn, type, "text");
  const texts = blocks.map(textOf);
  return [withError(result, texts[0] ?? ""), ...texts.slice(1)];
}

function contentOf(said: Block[], ready: boolean): Json {
  if (said.length === 0) return null;
  const [first] = said;
  if (said.length === 1 && first.type === "text" && (ready || first.native === undefined)) return first.text;
  return said.map(part);
}

const audioFormat = ({ mediaType }: Media) =>
  /^audio\/(x-)?wav$/.test(mediaType ?? "") ? "wav" : /^audio\/(mpeg|mp3)$/.test(mediaType ?? "") ? "mp3" : undefined;

function part(block: Block): Json {
  switch (block.type) {
    case "refusal":
      return { type: "refusal", refusal: block.text };
    case "image":
      return {
        type: "image_url",
        image_url: { url: urlOf(block)!, ...(block.detail !== undefined && { detail: block.detail }) },
      };
    case "audio":
      return { type: "input_audio", input_audio: { data: block.data!, format: audioFormat(block)! } };
    case "file":
      return {
        type: "file",
        file: block.id !== undefined
          ? { file_id: block.id }
          : { file_data: urlOf(block)!, ...(block.filename !== undefined && { filename: block.filename }) },
      };
    default:
      return { type: "text", text: textOf(block) };
  }
}
