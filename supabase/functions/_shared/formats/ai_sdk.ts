// Vercel's AI SDK: what it shows (UIMessage) and what it sends (ModelMessage) come in, UIMessages go out.
import type { Json } from "../database.types.ts";
import { isObject, type JsonObject } from "../json.ts";
import {
  type Block,
  Blocks,
  type Call,
  type Media,
  type Reasoning,
  type Result,
  type Row,
  type Turn,
} from "./blocks.ts";
import { asString, restOf, typeOf } from "./read.ts";
import { CallIds, type Dialect, inputOf, outputBlocks, outputText, textOf, urlOf } from "./write.ts";

const UI_ROLES = ["system", "user", "assistant"];
const MODEL_ROLES = [...UI_ROLES, "tool"];
const MODEL_PARTS = [
  "tool-call",
  "tool-result",
  "tool-approval-request",
  "tool-approval-response",
  "reasoning",
  "custom",
];

const isUiMessage = ({ id, role, parts }: JsonObject) =>
  typeof id === "string" && UI_ROLES.includes(role as string) && Array.isArray(parts) &&
  parts.every((part) => isObject(part) && typeof part.type === "string");

const isModelPart = (part: Json) =>
  isObject(part) && (MODEL_PARTS.includes(part.type as string) || "providerOptions" in part ||
    part.type === "image" && "image" in part || part.type === "file" && "mediaType" in part);

export const aiSdk: Dialect = {
  recognises: (message) =>
    // One of the API's own messages has an id, too.
    isUiMessage(message) && !("conversation_id" in message) ||
    MODEL_ROLES.includes(message.role as string) && "content" in message &&
      ("providerOptions" in message || Array.isArray(message.content) && message.content.some(isModelPart)),

  read(message) {
    const { role, parts, content, id } = message;
    if (isUiMessage(message)) {
      const row: Row = { role: role as string, parts: parts as Json[], item_id: id as string };
      return { ...row, source: { dialect: "ai-sdk", rest: restOf(message, { role, parts }) } };
    }
    if (!MODEL_ROLES.includes(role as string)) return "Has no role of the AI SDK.";
    if (typeof content !== "string" && !Array.isArray(content)) return "Has neither parts and an id nor content.";
    const said = typeof content === "string" ? { content } : { parts: content };
    return { role: role as string, ...said, source: { dialect: "ai-sdk", rest: restOf(message, { role, content }) } };
  },

  restore({ role, parts, source }) {
    const rest = source!.rest as JsonObject;
    return typeof rest.id === "string" ? { role, parts: parts ?? [], ...rest } : undefined;
  },

  holds(block, { role }) {
    switch (block.type) {
      case "image":
      case "audio":
      case "video":
      case "file":
        return role !== "system" && URL.canParse(urlOf(block) ?? "");
      case "call":
      case "reasoning":
      case "thinking":
      case "thought":
      case "reasoning_text":
        return role === "assistant";
      default:
        return true;
    }
  },

  owns: (part, { role }) => role !== "system" && isShown(part),

  write(turns, to) {
    const ids = new CallIds(65_536, to.ready);
    /** Where the call of an id stands. */
    const calls = new Map<string, { parts: Json[]; at: number; message: number }>();
    const used = new Set<string>();
    for (const turn of turns) {
      const isStepped = turn.blocks.some(({ native }) => isObject(native) && native.type === "step-start");
      let parts: Json[] | undefined;
      const open = (): Json[] => {
        if (parts) return parts;
        parts = [];
        const role = turn.role === "tool" ? "assistant" : turn.role;
        const metadata = turn.row.source?.dialect === "ai-sdk"
          ? (turn.row.source.rest as JsonObject).metadata
          : undefined;
        to.add({ id: idOf(turn, used), role, parts, ...(metadata !== undefined && { metadata }) }, turn);
        return parts;
      };
      for (const block of turn.blocks) {
        if (block.type === "result") {
          const { id, call } = ids.result(block);
          const place = calls.get(id);
          if (place) {
            place.parts[place.at] = withOutput(place.parts[place.at] as JsonObject, block);
            to.join(turn, place.message);
          } else {
            const started = toolPart(call ?? { type: "call", name: block.name ?? "tool", arguments: "{}" }, id);
            open().push(withOutput(started, block));
          }
          continue;
        }
        const target = open();
        const last = target.at(-1);
        // What a model says upon a result is another step. Calls beside each other were made at once.
        if (!isStepped && block.type !== "call" && isObject(last) && isTool(last)) target.push({ type: "step-start" });
        if (block.type !== "call") {
          target.push(part(block, turn));
          continue;
        }
        const id = ids.call(block, turn);
        if (id === undefined) continue;
        calls.set(id, { parts: target, at: target.length, message: to.messages.length - 1 });
        target.push(toolPart(block, id));
      }
      if (turn.blocks.length === 0 && !to.ready) open();
      if (parts?.length === 0) parts.push({ type: "text", text: "" });
    }
  },
  request: ({ messages }) => ({ messages }),
};

function idOf({ row }: Turn, used: Set<string>): string {
  const base = row.item_id ?? row.id ??
    (row.sequence_order === undefined ? row.name ?? "message" : `message_${row.sequence_order}`);
  let id = base;
  for (let n = 2; used.has(id); n++) id = `${base}_${n}`;
  used.add(id);
  return id;
}

const isTool = ({ type }: JsonObject) =>
  typeof type === "string" && (type.startsWith("tool-") || type === "dynamic-tool");
const hasStrings = (part: JsonObject, ...names: string[]) => names.every((name) => typeof part[name] === "string");
const isMetadata = (value: Json | undefined) => isObject(value) && Object.values(value).every(isObject);

/** Whether a part is one that the SDK shows and `validateUIMessages` takes, of those that say nothing to a model. */
function isShown(part: JsonObject): boolean {
  if (part.providerMetadata !== undefined && !isMetadata(part.providerMetadata)) return false;
  switch (part.type) {
    case "step-start":
      return true;
    case "source-url":
      return hasStrings(part, "sourceId", "url") && ["string", "undefined"].includes(typeof part.title);
    case "source-document":
      return hasStrings(part, "sourceId", "mediaType", "title") &&
        ["string", "undefined"].includes(typeof part.filename);
    case "file":
    case "reasoning-file":
      return hasStrings(part, "mediaType", "url") && URL.canParse(part.url as string) &&
        part.providerReference === undefined &&
        ["string", "undefined"].includes(typeof part.filename);
    case "custom":
      return hasStrings(part, "kind");
    default:
      return typeof part.type === "string" && part.type.startsWith("data-") && "data" in part &&
        ["string", "undefined"].includes(typeof part.id);
  }
}

/** A tool's part of a UIMessage, if it is one that `validateUIMessages` takes. */
function isUiTool(part: Json | undefined): part is JsonObject {
  if (!isObject(part) || !isTool(part) || !hasStrings(part, "toolCallId", "state") || !("input" in part)) return false;
  if (part.type === "dynamic-tool" && !hasStrings(part, "toolName")) return false;
  for (const name of ["callProviderMetadata", "resultProviderMetadata"]) {
    if (part[name] !== undefined && !isMetadata(part[name])) return false;
  }
  const approved = isObject(part.approval) && hasStrings(part.approval, "id") ? part.approval.approved : null;
  const hasNoResult = part.output === undefined && part.errorText === undefined;
  switch (part.state) {
    case "input-available":
      return hasNoResult && part.approval === undefined;
    case "approval-requested":
      return hasNoResult && approved === undefined && (part.approval as JsonObject).reason === undefined;
    case "approval-responded":
      return hasNoResult && typeof approved === "boolean";
    case "output-available":
      return "output" in part && part.errorText === undefined && (part.approval === undefined || approved === true);
    case "output-error":
      return hasStrings(part, "errorText") && part.output === undefined &&
        (part.approval === undefined || approved === true);
    case "output-denied":
      return hasNoResult && approved === false;
    default:
      return false;
  }
}

function toolPart(call: Call, id: string): JsonObject {
  if (isUiTool(call.native)) return { ...call.native, toolCallId: id };
  const providerExecuted = call.itemType === "mcp_call" ||
    /^(server|mcp)_tool/.test(typeOf(call.native));
  const input = call.custom
    ? call.arguments
    : isObject(call.native) && "toolCallId" in call.native
    ? call.native.input ?? {}
    : inputOf(call);
  return {
    type: "dynamic-tool",
    toolName: call.name,
    toolCallId: id,
    state: "input-available",
    input,
    ...(providerExecuted && { providerExecuted }),
  };
}

function withOutput(part: JsonObject, result: Result): JsonObject {
  if (asString(part.state)?.startsWith("output-")) return part;
  const { approval, output: _, errorText: __, ...call } = part;
  const granted = isObject(approval) && approval.approved === true ? { approval } : {};
  if (result.isError) return { ...call, ...granted, state: "output-error", errorText: outputText(result) };
  const blocks = outputBlocks(result);
  const output: Json = result.output instanceof Blocks
    ? blocks.length === 1 && blocks[0].type === "text"
      ? blocks[0].text
      : blocks.map((block): Json => (isObject(block.native) ? block.native : { type: "text", text: textOf(block) }))
    : result.output as Json;
  return { ...call, ...granted, state: "output-available", output };
}

/** What providers say of a part: under one name in what is shown, under another in what is sent. */
function metadataOf(native: Json | undefined): JsonObject {
  if (!isObject(native)) return {};
  const metadata = native.providerMetadata ?? native.providerOptions;
  return isMetadata(metadata) ? { providerMetadata: metadata } : {};
}

function part(block: Exclude<Block, Call | Result>, { row }: Turn): JsonObject {
  const native = isObject(block.native) ? block.native : {};
  switch (block.type) {
    case "text": {
      const state = row.source?.dialect === "ai-sdk" && (native.state === "done" || native.state === "streaming")
        ? { state: native.state }
        : {};
      return { type: "text", text: block.text, ...state, ...metadataOf(native) };
    }
    case "reasoning":
    case "thinking":
    case "thought":
    case "reasoning_text":
      return reasoningPart(block, native);
    case "image":
    case "audio":
    case "video":
    case "file":
      return isShown(native) ? native : filePart(block);
    default:
      return isShown(native) ? native : { type: "text", text: textOf(block) };
  }
}

function reasoningPart({ type, text }: Reasoning, native: JsonObject): JsonObject {
  const provider: [string, JsonObject] | undefined = native.type === "redacted_thinking"
    ? ["anthropic", { redactedData: native.data }]
    : type === "thinking" && native.type === "thinking"
    ? ["anthropic", { signature: native.signature }]
    : type === "thought" && typeof native.thoughtSignature === "string"
    ? ["google", { thoughtSignature: native.thoughtSignature }]
    : type === "reasoning"
    ? ["openai", {
      ...(asString(native.id) && { itemId: native.id }),
      reasoningEncryptedContent: native.encrypted_content ?? null,
    }]
    : undefined;
  const metadata = provider ? { providerMetadata: { [provider[0]]: provider[1] } } : metadataOf(native);
  return { type: "reasoning", text, ...metadata };
}

function filePart(block: Media): JsonObject {
  const mediaType = block.mediaType ?? (block.type === "file" ? "application/octet-stream" : `${block.type}/*`);
  return {
    type: "file",
    mediaType,
    url: urlOf(block)!,
    ...(block.filename !== undefined && { filename: block.filename }),
  };
}
