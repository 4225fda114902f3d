// Google's Gemini API.
import type { Json } from "../database.types.ts";
import { isObject, type JsonObject } from "../json.ts";
import { type Block, type Media, type Result, type Turn } from "./blocks.ts";
import { providerOf } from "./read.ts";
import { CallIds, type Dialect, fit, inputOf, outputBlocks, textOf, type Written } from "./write.ts";

const MAX_ID = 256;
/** https://ai.google.dev/api/caching#FunctionDeclaration */
const MAX_NAME = 64;
const PARTS = [
  "text",
  "inlineData",
  "fileData",
  "functionCall",
  "functionResponse",
  "executableCode",
  "codeExecutionResult",
  "toolCall",
  "toolResponse",
];

const isPart = (part: Json): part is JsonObject =>
  isObject(part) && !("type" in part) && PARTS.some((name) => name in part);

export const gemini: Dialect = {
  recognises: ({ role, parts, content, type }) =>
    (role === undefined || role === "user" || role === "model" || role === "function") && content === undefined &&
    type === undefined &&
    Array.isArray(parts) && parts.every(isPart) && (role !== undefined || parts.length > 0),

  read(message) {
    const { parts, ...rest } = message;
    if (![undefined, "user", "model", "function"].includes(rest.role as string)) {
      return "Has a role that is neither user nor model.";
    }
    if (!Array.isArray(parts)) return "Has no parts.";
    return { role: rest.role === "model" ? "assistant" : "user", parts, source: { dialect: "gemini", rest } };
  },

  restore: ({ parts, source }) => ({ parts: parts ?? undefined, ...source!.rest as JsonObject }),

  holds(block, { role }) {
    switch (block.type) {
      case "image":
      case "audio":
      case "video":
      case "file":
        return block.data !== undefined ? block.mediaType !== undefined : fileUri(block) !== undefined;
      case "call":
      case "thought":
        return role === "assistant";
      default:
        return true;
    }
  },

  owns: (part, { role }) => role !== "system" && isPart(part),

  write(turns, to) {
    const ids = new CallIds(MAX_ID, to.ready);
    for (const turn of turns) {
      if (turn.role === "system" && to.ready) {
        to.instruct(turn);
        continue;
      }
      if (turn.blocks.length === 0 && !to.ready) {
        to.add({ role: roleOf(turn), parts: [{ text: turn.row.content ?? "" }] }, turn);
      }
      for (const block of turn.blocks) {
        const isResult = block.type === "result";
        const role = isResult ? (!to.ready && turn.rowRole === "function" ? "function" : "user") : roleOf(turn);
        const last = to.messages.at(-1);
        // Calls come directly behind what the user said, and are answered by a turn of results alone.
        const joins = last?.role === role &&
          (to.ready && (role === "model" || isResult && isResults(last)) ||
            to.turns.at(-1)![0] === turn && isResult === isResults(last));
        const written = write(block, turn, ids, to);
        if (written === undefined) continue;
        if (joins) {
          (last!.parts as Json[]).push(written);
          to.join(turn);
        } else {
          to.add({ role, parts: [written] }, turn);
        }
      }
    }
  },

  request: ({ system, messages }) => ({
    ...(system.length > 0 && { systemInstruction: { parts: system.map(({ block }) => ({ text: block.text })) } }),
    contents: messages,
  }),
};

const ROLES = { system: "system", user: "user", assistant: "model", tool: "user" };
/** A page says of instructions what they are: nobody can send it as it is. */
const roleOf = ({ role }: Turn) => ROLES[role];

const isResults = ({ parts }: JsonObject) =>
  Array.isArray(parts) && parts.length > 0 && parts.every((part) => isObject(part) && "functionResponse" in part);

/** Where Gemini may read it itself. */
const fileUri = ({ url, native }: Media): string | undefined =>
  isObject(native) && isObject(native.fileData) || /^(https?|gs):/.test(url ?? "") ? url : undefined;

function write(block: Block, turn: Turn, ids: CallIds, to: Written): JsonObject | undefined {
  const native = isObject(block.native) && isPart(block.native) ? block.native : undefined;
  switch (block.type) {
    case "text":
      return native && typeof native.text === "string" && turn.row.source?.dialect === "gemini" ||
          native?.thoughtSignature !== undefined
        ? { ...native, text: block.text }
        : { text: block.text };
    case "thought":
      return native ?? {
        text: block.text,
        thought: true,
        ...thoughtSignature(block.native),
      };
    case "image":
    case "audio":
    case "video":
    case "file": {
      if (native) return native;
      const { data, mediaType, url } = block;
      if (data !== undefined) return { inlineData: { mimeType: mediaType!, data } };
      return { fileData: { fileUri: url!, ...(mediaType !== undefined && { mimeType: mediaType }) } };
    }
    case "call": {
      const id = ids.call(block, turn);
      if (id === undefined) return undefined;
      if (native && isObject(native.functionCall)) {
        const { functionCall } = native;
        return to.ready && functionCall.id !== undefined
          ? { ...native, functionCall: { ...functionCall, id } }
          : native;
      }
      return { functionCall: { id, name: fit(block.name, MAX_NAME, /[^A-Za-z0-9_.:-]/g), args: inputOf(block) } };
    }
    case "result": {
      const { id, call } = ids.result(block);
      if (native && isObject(native.functionResponse)) {
        const { functionResponse } = native;
        return to.ready && functionResponse.id !== undefined
          ? { ...native, functionResponse: { ...functionResponse, id } }
          : native;
      }
      const name = fit(call?.name ?? block.name ?? block.id ?? "tool", MAX_NAME, /[^A-Za-z0-9_.:-]/g);
      // Its call had no id of its own, and has none there.
      const isUnnamed = isObject(call?.native) && isObject(call.native.functionCall) &&
        call.native.functionCall.id === undefined;
      return { functionResponse: { ...(!isUnnamed && { id }), name, response: response(block, turn, to) } };
    }
    default:
      return native ?? { text: textOf(block) };
  }
}

function thoughtSignature(native: Json | undefined): JsonObject {
  const { thoughtSignature } = isObject(native) ? providerOf(native, "google") : {};
  return typeof thoughtSignature === "string" ? { thoughtSignature } : {};
}

/** An object, as the API has it: its own SDK says output and error. */
function response(result: Result, turn: Turn, to: Written): JsonObject {
  const blocks = outputBlocks(result);
  for (const { type } of blocks) if (type !== "text") to.change(turn, type, "text");
  const text = blocks.map(textOf).join("\n");
  if (result.isError) return { error: text };
  if (isObject(result.output)) return result.output;
  try {
    const output = JSON.parse(text);
    if (isObject(output)) return output;
  } catch { /* most results are text */ }
  return { output: text };
}
