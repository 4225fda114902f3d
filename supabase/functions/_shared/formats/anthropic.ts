// Anthropic's Messages API.
import type { Json } from "../database.types.ts";
import { isObject, type JsonObject } from "../json.ts";
import { type Block, type Media, type Result, type Row, type Text, type Turn } from "./blocks.ts";
import { asString, providerOf, restOf, typeOf } from "./read.ts";
import { CallIds, type Dialect, fit, inputOf, outputBlocks, textOf, type Written } from "./write.ts";

/** https://docs.anthropic.com/en/api/messages: ids and names that are longer, or of other characters, are refused. */
const MAX_ID = 64;
const MAX_NAME = 128;
const IMAGES = ["image/jpeg", "image/png", "image/gif", "image/webp"];
/** Blocks that are only in this API. */
const BLOCKS =
  /^(tool_use|server_tool_use|mcp_tool_use|thinking|redacted_thinking|document|search_result|container_upload|\w*tool_result)$/;

/** Of these, what neither calls nor thinks. */
const OTHERS = /^(search_result|container_upload)$/;

const isBlock = (part: Json) =>
  isObject(part) && (BLOCKS.test(typeOf(part)) ||
    part.type === "image" && isObject(part.source) || "cache_control" in part);

export const anthropic: Dialect = {
  recognises: ({ role, content, stop_reason }) =>
    (role === "user" || role === "assistant") && Array.isArray(content) && content.every(isObject) &&
    (stop_reason !== undefined || content.some(isBlock)),

  read(message) {
    const { role, content, id, model, usage } = message;
    if (role !== "user" && role !== "assistant") return "Has a role that is neither user nor assistant.";
    if (typeof content !== "string" && !Array.isArray(content)) {
      return "Has content that is neither a text nor an array of blocks.";
    }
    return {
      role,
      ...(typeof content === "string" ? { content } : { parts: content }),
      ...(asString(id) && { item_id: asString(id) }),
      ...(asString(model) && { model: asString(model) }),
      ...(isObject(usage) && { usage }),
      source: { dialect: "anthropic", rest: restOf(message, { role, content }) },
    };
  },

  restore: ({ role, content, parts, source }) => ({ role, content: content ?? parts, ...source!.rest as JsonObject }),

  holds(block, { role }) {
    switch (block.type) {
      case "image":
        return role === "user" &&
          (block.data === undefined ? isWeb(block.url) || block.id !== undefined : isImage(block));
      case "file":
        return role === "user" &&
          (block.data === undefined ? isWeb(block.url) || block.id !== undefined : isPdf(block));
      case "call":
        return role === "assistant";
      case "thinking":
        return role === "assistant" && thinking(block) !== undefined;
      default:
        return true;
    }
  },

  owns: (part, { role }) => role !== "system" && OTHERS.test(typeOf(part)),

  write(turns, to) {
    const ids = new CallIds(MAX_ID, to.ready);
    for (const turn of turns) {
      if (turn.role === "system" && to.ready) {
        to.instruct(turn);
        continue;
      }
      const texts = turn.blocks.filter(({ type }) => type === "text");
      const only = texts.length === 1 && turn.blocks.length === 1 && texts[0].native === undefined &&
        turn.role !== "tool";
      if (!to.ready && (only || turn.blocks.length === 0)) {
        to.add({
          role: roleOf(turn),
          content: texts.length > 0 ? textOf(texts[0]) : turn.row.content ?? "",
        }, turn);
        continue;
      }
      for (const block of turn.blocks) {
        if (to.ready && block.type === "text" && block.text.trim() === "") continue;
        // A server's tool answers within the model's turn.
        const answers = block.type === "result" && !isOwnResult(block);
        const role = answers ? "user" : roleOf(turn);
        const last = to.messages.at(-1);
        // In a context roles alternate. A page keeps rows apart.
        const joins = last?.role === role && Array.isArray(last.content) && (to.ready || to.turns.at(-1)![0] === turn);
        const written = write(block, turn, ids, to);
        if (written === undefined) continue;
        if (joins) {
          (last!.content as Json[]).push(written);
          to.join(turn);
        } else {
          to.add({ role, content: [written] }, turn);
        }
      }
    }
    if (to.ready) trimLast(to);
  },

  request: ({ system, messages }) => ({
    ...(system.length > 0 && { system: system.map(({ block, turn }) => textBlock(block, turn.row)) }),
    messages,
  }),
};

/** A page says of instructions what they are: nobody can send it as it is. */
const roleOf = ({ role }: Turn) => role === "tool" ? "user" : role;

const isWeb = (url: string | undefined) => /^https?:/.test(url ?? "");
const isImage = ({ mediaType }: Media) => IMAGES.includes(mediaType ?? "");
const isPdf = ({ mediaType, filename }: Media) => mediaType === "application/pdf" || /\.pdf$/i.test(filename ?? "");
const isOwnResult = ({ native }: Result) => typeOf(native) !== "tool_result" && /tool_result$/.test(typeOf(native));

/** The API refuses an answer that is to be continued, and ends in white space. */
function trimLast({ messages }: Written): void {
  const last = messages.at(-1);
  const block = last?.role === "assistant" ? (last.content as Json[]).at(-1) : undefined;
  if (isObject(block) && block.type === "text") block.text = (block.text as string).trimEnd();
}

function thinking({ native, text }: Block & { text: string }): JsonObject | undefined {
  if (!isObject(native)) return undefined;
  if (native.type === "thinking" || native.type === "redacted_thinking") return native;
  const { signature, redactedData } = providerOf(native, "anthropic");
  if (typeof redactedData === "string" && redactedData !== "") return { type: "redacted_thinking", data: redactedData };
  return typeof signature === "string" ? { type: "thinking", thinking: text, signature } : undefined;
}

/** A text with what only this API says of it, where it was written for it. */
function textBlock({ text, native }: Text, row: Row): JsonObject {
  const isOwn = isObject(native) && native.type === "text" &&
    (row.source?.dialect === "anthropic" || "cache_control" in native || "citations" in native);
  return isOwn ? { ...native, text } : { type: "text", text };
}

function write(block: Block, turn: Turn, ids: CallIds, to: Written): JsonObject | undefined {
  switch (block.type) {
    case "text":
      return textBlock(block, turn.row);
    case "thinking":
      return thinking(block);
    case "image":
    case "file":
      return source(block);
    case "call": {
      const id = ids.call(block, turn);
      if (id === undefined) return undefined;
      const isOwn = BLOCKS.test(typeOf(block.native));
      if (isOwn && !to.ready) return block.native as JsonObject;
      if (isOwn) return { ...block.native as JsonObject, id, name: fit(block.name, MAX_NAME), input: inputOf(block) };
      return { type: "tool_use", id, name: fit(block.name, MAX_NAME), input: inputOf(block) };
    }
    case "result": {
      const { id } = ids.result(block);
      if (/tool_result$/.test(typeOf(block.native))) {
        const own = block.native as JsonObject;
        return to.ready ? { ...own, tool_use_id: id } : own;
      }
      return {
        type: "tool_result",
        tool_use_id: id,
        content: resultContent(block, turn, to),
        ...(block.isError && { is_error: true }),
      };
    }
    default:
      return OTHERS.test(typeOf(block.native)) ? block.native as JsonObject : { type: "text", text: textOf(block) };
  }
}

function source(block: Media): JsonObject {
  if (isObject(block.native) && isObject(block.native.source)) return block.native;
  const type = block.type === "image" ? "image" : "document";
  const title = type === "document" && block.filename !== undefined ? { title: block.filename } : {};
  if (block.data !== undefined) {
    const media_type = block.mediaType ?? "application/pdf";
    return { type, source: { type: "base64", media_type, data: block.data }, ...title };
  }
  return {
    type,
    source: block.url !== undefined ? { type: "url", url: block.url } : { type: "file", file_id: block.id },
    ...title,
  };
}

function resultContent(result: Result, turn: Turn, to: Written): Json {
  const blocks = outputBlocks(result).filter((block) => textOf(block) !== "");
  if (blocks.length === 0) return "";
  if (blocks.length === 1 && blocks[0].type === "text") return textOf(blocks[0]);
  return blocks.map((block): Json => {
    if (block.type === "image" && anthropic.holds(block, { ...turn, role: "user" })) return source(block);
    if (block.type !== "text") to.change(turn, block.type, "text");
    return { type: "text", text: textOf(block) };
  });
}
