// A row in any shape as a turn of blocks. `private.piece_of` and `private.pieces` know the same shapes in SQL.
import type { Json } from "../database.types.ts";
import { isObject, type JsonObject } from "../json.ts";
import {
  type Block,
  Blocks,
  type Call,
  type Media,
  type Other,
  type Reasoning,
  type Result,
  type Role,
  type Row,
  type Turn,
} from "./blocks.ts";

export const asString = (value: unknown): string | undefined => typeof value === "string" ? value : undefined;
/** What a part or an item calls itself. A row may hold an object there, and that is no text even where one is asked for. */
export const typeOf = (part: unknown): string => isObject(part) ? asString(part.type) ?? "" : "";
const asObject = (value: unknown): JsonObject | undefined => isObject(value) ? value : undefined;
const own = (value: JsonObject, name: string): Json | undefined => Object.hasOwn(value, name) ? value[name] : undefined;

const stringify = (value: unknown): string => typeof value === "string" ? value : JSON.stringify(value ?? null);

/** A data: URL taken apart, or nothing. */
function dataOf(url: string | undefined): { mediaType?: string; data: string } | undefined {
  const match = url?.slice(0, 5) === "data:" ? /^data:([^,;]*)[^,]*;base64,/.exec(url) : null;
  return match ? { mediaType: match[1] || undefined, data: url!.slice(match[0].length) } : undefined;
}

function media(
  type: Media["type"],
  native: Json,
  fields: { [Name in "url" | "data" | "id" | "mediaType" | "filename" | "detail"]?: unknown },
): Media {
  const known = Object.entries(fields).filter(([, value]) => typeof value === "string" && value !== "");
  const block = { type, native, ...Object.fromEntries(known) } as Media;
  const data = dataOf(block.data) ?? dataOf(block.url);
  if (!data) return block;
  delete block.url;
  return { ...block, ...data, mediaType: data.mediaType ?? block.mediaType };
}

const MEDIA = /^(image|audio|video)\//;
const mediaTypeOf = (mediaType: unknown, fallback: Media["type"] = "file"): Media["type"] =>
  (MEDIA.exec(asString(mediaType) ?? "")?.[1] as Media["type"] | undefined) ?? fallback;

/** What the AI SDK knows of a provider: what is shown has it under one name, what is sent under another. */
export const providerOf = (native: JsonObject, name: string): JsonObject => ({
  ...asObject(own(asObject(native.providerOptions) ?? {}, name)),
  ...asObject(own(asObject(native.providerMetadata) ?? {}, name)),
});

function reasoning(native: JsonObject, text: string): Reasoning {
  const anthropic = providerOf(native, "anthropic");
  const signs = (value: unknown) => typeof value === "string" && value !== "";
  const type = native.type === "redacted_thinking" && asString(native.data) !== undefined ||
      native.type === "thinking" && signs(native.signature) || signs(anthropic.signature) ||
      signs(anthropic.redactedData)
    ? "thinking"
    : native.thought === true || signs(providerOf(native, "google").thoughtSignature)
    ? "thought"
    : "reasoning_text";
  return { type, text, native };
}

/** The texts of a reasoning item: its summary, or what it thought. */
const summaryOf = (item: JsonObject): string =>
  [item.summary, item.content].flatMap((texts) => Array.isArray(texts) ? texts : [])
    .map((part) => asString(asObject(part)?.text) ?? "").filter(Boolean).join("\n\n");

/** A message of more parts than this is no message: it is read as the JSON that it is. `private.pieces` has the same bound. */
const MAX_PARTS = 1000;

const readParts = (parts: Json[]): Block[] =>
  parts.length <= MAX_PARTS ? parts.flatMap((part) => readPart(part)) : [{ type: "text", text: JSON.stringify(parts) }];

const output = (value: Json | undefined): Json | Block[] =>
  Array.isArray(value) && value.length > 0 && value.length <= MAX_PARTS &&
    value.every((part) => isObject(part) && ("type" in part || "text" in part))
    ? Blocks.from(value.flatMap((part) => readPart(part)))
    : value ?? null;

/** The name of a tool that belongs to an API, as a function would be called. */
const toolName = (type: string) => type.replace(/_call(_output)?$|_output$/, "") || "tool";

const TOOL_STATES = ["output-available", "output-error", "output-denied"];

/** What a content part says, whichever API it was written for. `private.piece_of` is the same in SQL. */
export function readPart(value: Json): Block[] {
  if (typeof value === "string") return [{ type: "text", text: value, native: value }];
  if (!isObject(value)) return [{ type: "unknown", name: "part", value, native: value }];
  const native = value;
  const type = asString(value.type);
  const call = (id: unknown, name: unknown, input: unknown, more: Partial<Call> = {}): Call => ({
    type: "call",
    id: asString(id),
    name: asString(name) || "tool",
    arguments: stringify(input ?? {}),
    native,
    ...more,
  });
  const result = (id: unknown, name: unknown, value: Json | undefined, isError = false): Result => ({
    type: "result",
    id: asString(id),
    name: asString(name),
    output: output(value),
    native,
    ...(isError && { isError }),
  });
  const other = (kind: Other["type"], name = type ?? "part"): Other => ({ type: kind, name, value, native });

  switch (type) {
    case "text":
    case "input_text":
    case "output_text":
    case "summary_text":
      return typeof value.text === "string" ? [{ type: "text", text: value.text, native }] : [other("unknown")];
    case "refusal":
      return [{ type: "refusal", text: asString(value.refusal) ?? asString(value.text) ?? "", native }];
    case "reasoning":
      if (Array.isArray(value.summary)) return [{ type: "reasoning", text: summaryOf(value), native }];
      return [reasoning(value, asString(value.text) ?? asString(value.reasoning) ?? "")];
    case "thinking":
    case "redacted_thinking":
      return [reasoning(value, asString(value.thinking) ?? "")];
    case "compaction":
      return [other("compaction")];

    case "image_url": {
      const image = asObject(value.image_url);
      return [media("image", native, { url: image ? image.url : value.image_url, detail: image?.detail })];
    }
    case "input_image":
    case "computer_screenshot":
      return [media("image", native, { url: value.image_url, id: value.file_id, detail: value.detail })];
    case "input_audio":
    case "output_audio": {
      const audio = asObject(value.input_audio) ?? value;
      const format = asString(audio.format);
      if (typeof audio.data !== "string") {
        return [{ type: "text", text: asString(value.transcript) ?? "[audio]", native }];
      }
      return [
        media("audio", native, { data: audio.data, mediaType: `audio/${format === "mp3" ? "mpeg" : format ?? "wav"}` }),
      ];
    }
    case "input_file":
      return [
        media("file", native, {
          url: value.file_url,
          data: value.file_data,
          id: value.file_id,
          filename: value.filename,
          mediaType: /\.pdf$/i.test(asString(value.filename) ?? "") ? "application/pdf" : undefined,
        }),
      ];
    case "image":
    case "document":
    case "audio":
    case "video":
    case "file":
      return [readMedia(type, value)];

    case "tool_use":
    case "server_tool_use":
    case "mcp_tool_use":
      return [call(value.id, value.name, value.input)];
    case "tool_call":
    case "server_tool_call":
      return [call(value.id, value.name, value.args)];
    case "tool-call":
      return [call(value.toolCallId, value.toolName, value.input ?? value.args)];
    case "tool-result":
      if ("state" in value) break;
      return [readToolResult(value, result)];
    case "server_tool_call_result":
    case "server_tool_result":
      return [result(value.toolCallId ?? value.tool_call_id, value.name, value.output, value.status === "error")];
    case "tool-approval-request":
    case "tool-approval-response":
    case "mcp_approval_request":
    case "mcp_approval_response":
      return [other("approval")];
    case "source-url":
    case "source-document":
    case "step-start":
      return [other("shown")];
  }
  if (type === undefined) {
    if (isObject(value.functionCall)) {
      return [call(value.functionCall.id, value.functionCall.name, value.functionCall.args)];
    }
    if (isObject(value.functionResponse)) {
      const { id, name, response } = value.functionResponse;
      const only = isObject(response) && Object.keys(response).length === 1 ? response : undefined;
      return [result(id, name, only?.output ?? only?.result ?? only?.error ?? response, only?.error !== undefined)];
    }
    if (isObject(value.toolUse)) return [call(value.toolUse.toolUseId, value.toolUse.name, value.toolUse.input)];
    if (isObject(value.toolResult)) {
      const { toolUseId, content, status } = value.toolResult;
      return [result(toolUseId, undefined, content, status === "error")];
    }
    if (isObject(value.reasoningContent)) {
      return [reasoning(value, asString(asObject(value.reasoningContent.reasoningText)?.text) ?? "")];
    }
    for (const inline of [value.inlineData, value.fileData]) {
      if (!isObject(inline)) continue;
      const { mimeType: mediaType, data, fileUri: url, displayName: filename } = inline;
      return [media(mediaTypeOf(mediaType), native, { data, url, mediaType, filename })];
    }
    if (typeof value.text === "string") {
      return [value.thought === true ? reasoning(value, value.text) : { type: "text", text: value.text, native }];
    }
    return [other("unknown", asString(value.content_type))];
  }
  if (type.startsWith("data-")) return [other("shown")];
  if ((type.startsWith("tool-") || type === "dynamic-tool") && "state" in value) {
    const name = type === "dynamic-tool" ? value.toolName : type.slice("tool-".length);
    const blocks: Block[] = [call(value.toolCallId, name, value.input ?? value.rawInput)];
    if (TOOL_STATES.includes(value.state as string)) {
      const denied = asString(asObject(value.approval)?.reason) ?? "The call was denied.";
      const isError = value.state !== "output-available";
      const said = value.state === "output-denied" ? denied : isError ? value.errorText : value.output;
      blocks.push(result(value.toolCallId, name, said, isError));
    }
    return blocks;
  }
  if (/tool_result$/.test(type) && "tool_use_id" in value) {
    return [result(value.tool_use_id, undefined, value.content, value.is_error === true)];
  }
  return readItem(value);
}

function readMedia(type: string, value: JsonObject): Block {
  const file = asObject(value.file);
  if (file) return media("file", value, { id: file.file_id, data: file.file_data, filename: file.filename });
  const source = asObject(value.source);
  const mediaType = value.mediaType ?? value.mimeType ?? value.mime_type ?? source?.media_type;
  const kind = mediaTypeOf(mediaType, type === "document" ? "file" : type as Media["type"]);
  const filename = value.filename ?? value.title ?? value.name;
  if (source?.type === "text" && typeof source.data === "string") {
    return { type: "text", text: source.data, native: value };
  }
  if (source) {
    return media(kind, value, { url: source.url, data: source.data, id: source.file_id, mediaType, filename });
  }
  // A URL may stand where data does; data in the AI SDK may say which it is.
  const inner = asObject(value.data);
  const data = inner ? inner.data ?? inner.url : value.data ?? value.image;
  const isUrl = typeof data === "string" && /^(https?|data):/.test(data);
  return media(kind, value, {
    url: value.url ?? (isUrl ? data : undefined),
    data: isUrl ? undefined : data,
    id: value.fileId ?? value.file_id ?? (value.source_type === "id" ? value.id : undefined),
    mediaType,
    filename,
    detail: value.detail,
  });
}

type MakeResult = (id: unknown, name: unknown, value: Json | undefined, isError?: boolean) => Result;

function readToolResult(value: JsonObject, result: MakeResult): Result {
  const said = asObject(value.output);
  const isError = value.isError === true ||
    said !== undefined && /^(error|execution-denied)/.test(asString(said.type) ?? "");
  const inside = said === undefined || typeof said.type !== "string"
    ? value.output ?? value.result
    : said.value ?? said.reason;
  return result(value.toolCallId, value.toolName, inside, isError);
}

/** An item of the Responses API that is no message. */
export function readItem(item: JsonObject): Block[] {
  const type = asString(item.type) ?? "item";
  const native = item;
  const id = asString(item.call_id);
  const isResult = /_output$/.test(type);
  switch (type) {
    case "function_call":
      return [{
        type: "call",
        id,
        name: asString(item.name) || "tool",
        arguments: stringify(item.arguments ?? "{}"),
        native,
      }];
    case "custom_tool_call": {
      const name = asString(item.name) || "tool";
      return [{ type: "call", id, name, arguments: stringify(item.input ?? ""), custom: true, itemType: type, native }];
    }
    case "function_call_output":
    case "custom_tool_call_output":
      return [{ type: "result", id, output: output(item.output), native }];
    case "mcp_call": {
      const mcp = asString(item.id);
      const call: Call = {
        type: "call",
        id: mcp,
        name: asString(item.name) || "mcp",
        arguments: stringify(item.arguments ?? "{}"),
        itemType: type,
        native,
      };
      const said = item.error ?? item.output;
      return [call, {
        type: "result",
        id: mcp,
        output: said ?? "",
        native,
        ...(item.error != null && { isError: true }),
      }];
    }
    case "image_generation_call":
      if (typeof item.result === "string") {
        return [media("image", native, { data: item.result, mediaType: "image/png" })];
      }
      break;
    case "reasoning":
      return [{ type: "reasoning", text: summaryOf(item), native }];
    case "compaction":
    case "mcp_approval_request":
    case "mcp_approval_response":
      return readPart(item);
  }
  if (id !== undefined || type === "local_shell_call_output" || /^(tool_search|program)/.test(type)) {
    const { type: _type, id: itemId, call_id: _call, status: _status, output: said, ...input } = item;
    if (isResult) {
      const picture = isObject(said) ? readPart(said) : [];
      return [{
        type: "result",
        id: id ?? asString(itemId),
        name: toolName(type),
        output: picture[0]?.type === "image" ? Blocks.from(picture) : said ?? input,
        native,
      }];
    }
    if (/_call$/.test(type) || type === "program") {
      return [{ type: "call", id, name: toolName(type), arguments: JSON.stringify(input), itemType: type, native }];
    }
  }
  return [{ type: /_call$|^mcp_/.test(type) ? "hosted" : "unknown", name: type, value: item, native }];
}

/** Whether the column item is the message, as `private.is_whole_item` says. */
export const isWholeItem = (row: Row): boolean =>
  row.item != null && ((row.type ?? "message") !== "message" ||
    (row.content ?? row.parts ?? row.function_call ?? row.tool_calls) == null);

const ROLES = new Map<string, Role>([
  ["system", "system"],
  ["developer", "system"],
  ["user", "user"],
  ["assistant", "assistant"],
  ["tool", "tool"],
  ["function", "tool"],
]);

/** A message in any shape. */
export function toTurn(row: Row): Turn {
  const rowRole = asString(row.role) ?? "assistant";
  const turn: Turn = { role: ROLES.get(rowRole) ?? "assistant", rowRole, blocks: [], row };
  if (typeof row.name === "string" && turn.role !== "tool") turn.name = row.name;

  if (isWholeItem(row)) {
    const item = row.item!;
    const role = asString(item.role);
    if (role !== undefined && Array.isArray(item.content)) {
      turn.role = ROLES.get(role) ?? turn.role;
      turn.blocks = readParts(item.content);
    } else if (role !== undefined && typeof item.content === "string") {
      turn.role = ROLES.get(role) ?? turn.role;
      turn.blocks = [{ type: "text", text: item.content }];
    } else {
      turn.blocks = readItem(item);
      if (turn.blocks[0].type === "result") turn.role = "tool";
      if (item.type === "mcp_approval_response") turn.role = "user";
    }
    return turn;
  }

  const content = asString(row.content);
  const parts = Array.isArray(row.parts) ? row.parts : [];
  const said: Block[] = content ? [{ type: "text", text: content }] : [];
  const type = row.type ?? "message";
  if (
    /_output$/.test(type) ||
    turn.role === "tool" &&
      (row.tool_call_id != null || rowRole === "function" && row.name != null || row.parts == null)
  ) {
    turn.role = "tool";
    turn.blocks = [{
      type: "result",
      id: row.tool_call_id ?? undefined,
      name: row.name ?? undefined,
      output: parts.length > 0 ? Blocks.from([...said, ...readParts(parts)]) : content ?? "",
    }];
    return turn;
  }
  const calls = turn.role === "assistant" && Array.isArray(row.tool_calls) ? row.tool_calls : [];
  const legacy = turn.role === "assistant" ? asObject(row.function_call) : undefined;
  if (turn.role === "assistant" && calls.length === 0 && !legacy) {
    if (type === "function_call") {
      const name = row.name ?? "tool";
      turn.blocks = [{ type: "call", id: row.tool_call_id ?? undefined, name, arguments: content ?? "{}" }];
      return turn;
    }
    if (type === "reasoning") {
      turn.blocks = [{ type: "reasoning_text", text: content ?? "" }];
      return turn;
    }
    if (type === "compaction") {
      turn.blocks = [{ type: "compaction", name: type, value: content ?? null }];
      return turn;
    }
  }
  turn.blocks = [...said, ...atOnce(readParts(parts))];
  if (legacy) {
    turn.blocks.push({
      type: "call",
      name: asString(legacy.name) || "tool",
      arguments: stringify(legacy.arguments ?? "{}"),
      native: legacy,
    });
  }
  if (calls.length > MAX_PARTS) turn.blocks.push({ type: "text", text: JSON.stringify(calls) });
  else for (const call of calls) turn.blocks.push(readToolCall(call));
  return turn;
}

/** Parts that are calls with their results, one beside the other, were made at once: the calls, then the results. */
function atOnce(blocks: Block[]): Block[] {
  const ordered: Block[] = [];
  let results: Block[] = [];
  for (const [i, block] of blocks.entries()) {
    const isAnswer = block.type === "result" && block.native !== undefined && block.native === blocks[i - 1]?.native;
    if (isAnswer) {
      results.push(block);
    } else {
      if (blocks[i + 1]?.native !== block.native || block.type !== "call") {
        ordered.push(...results);
        results = [];
      }
      ordered.push(block);
    }
  }
  return [...ordered, ...results];
}

function readToolCall(value: Json): Block {
  if (!isObject(value)) return { type: "unknown", name: "tool_call", value };
  const called = asObject(value.function) ?? asObject(value.custom) ?? value;
  const custom = isObject(value.custom);
  return {
    type: "call",
    id: asString(value.id),
    name: asString(called.name) || "tool",
    arguments: stringify(called.arguments ?? (custom ? called.input ?? "" : called.args ?? called.input ?? "{}")),
    native: value,
    ...(custom && { custom, itemType: "custom_tool_call" }),
  };
}

/** The members of what a client sent that its columns do not say. */
export function restOf(message: JsonObject, said: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(message).filter(([name, value]) => !Object.hasOwn(said, name) || !isSame(value, said[name])),
  );
}

/** Equal as parsed JSON. */
export function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((value, i) => isSame(value, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length &&
    names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]));
}
