// LangChain's stored messages: what mapChatMessagesToStoredMessages makes and mapStoredMessagesToChatMessages reads.
import type { Json } from "../database.types.ts";
import { isObject, type JsonObject } from "../json.ts";
import { type Block, isMedia, type Result, type Row, type Turn } from "./blocks.ts";
import { asString, isSame } from "./read.ts";
import { CallIds, type Dialect, inputOf, outputBlocks, textOf, urlOf, type Written } from "./write.ts";

const ROLES: Record<string, string> = {
  human: "user",
  ai: "assistant",
  system: "system",
  developer: "developer",
  tool: "tool",
  function: "function",
  generic: "user",
};
const roleOf = (type: string, role: Json | undefined) =>
  type === "generic" && ["system", "developer", "user", "assistant"].includes(role as string)
    ? role as string
    : ROLES[type];

export const langchain: Dialect = {
  recognises: ({ type, data }) =>
    typeof type === "string" && Object.hasOwn(ROLES, type) && isObject(data) && "content" in data,

  read({ type, data, ...others }) {
    if (typeof type !== "string" || !Object.hasOwn(ROLES, type)) return "Has no type of a LangChain message.";
    if (!isObject(data)) return "Has no data.";
    if (typeof data.content !== "string" && !Array.isArray(data.content)) {
      return "Has data.content that is neither a text nor an array of blocks.";
    }
    const row: Row = { role: roleOf(type, data.role) };
    const refusal = isObject(data.additional_kwargs) ? asString(data.additional_kwargs.refusal) : undefined;
    if (data.content === "" && refusal) row.parts = [{ type: "refusal", refusal }];
    else if (typeof data.content === "string") row.content = data.content;
    else row.parts = data.content;
    if (asString(data.name)) row.name = asString(data.name);
    if (asString(data.id)) row.item_id = asString(data.id);
    if (asString(data.tool_call_id)) row.tool_call_id = asString(data.tool_call_id);
    if (Array.isArray(data.tool_calls) && data.tool_calls.length > 0) {
      row.tool_calls = data.tool_calls.map((call) => isObject(call) ? fromCall(call) : call);
    }
    const said = dataOf(row);
    const rest = Object.fromEntries(
      Object.entries(data).filter(([name, value]) => !Object.hasOwn(said, name) || !isSame(value, said[name])),
    );
    return { ...row, source: { dialect: "langchain", rest: { ...others, type, data: rest } } };
  },

  restore({ source, ...row }) {
    const { data, ...rest } = source!.rest as JsonObject;
    return { ...rest, data: { ...dataOf(row), ...data as JsonObject } };
  },

  holds(block, { role }) {
    if (block.type === "call") return role === "assistant";
    return !isMedia(block) || urlOf(block) !== undefined;
  },

  owns: (_, { row }) => row.source?.dialect === "langchain",

  write(turns, to) {
    const ids = new CallIds(65_536, to.ready);
    let open: { data: JsonObject; said: Json[] } | undefined;
    const close = () => {
      if (open) open.data.content = contentOf(open.said);
      open = undefined;
    };
    for (const turn of turns) {
      // Calls that a turn makes at once stand in one message, however many rows they came in.
      const joins = to.ready && turn.role === "assistant" && open?.data.tool_calls !== undefined &&
        ((open.data.tool_calls as Json[]).length > 0 || turn.blocks.some(({ type }) => type === "call"));
      if (joins) to.join(turn);
      else close();
      for (const block of turn.blocks) {
        if (block.type === "result") {
          close();
          to.add({ type: "tool", data: toolData(block, ids, turn) }, turn);
          continue;
        }
        open ??= { data: begin(turn, to), said: [] };
        const id = block.type === "call" ? ids.call(block, turn) : undefined;
        if (block.type !== "call") {
          open.said.push(part(block, turn));
        } else if (id !== undefined) {
          (open.data.tool_calls as Json[]).push({ name: block.name, args: inputOf(block), id, type: "tool_call" });
        }
      }
      if (turn.blocks.length === 0 && !to.ready) open = { data: begin(turn, to), said: [] };
    }
    close();
  },
  request: ({ messages }) => ({ messages }),
};

function begin(turn: Turn, to: Written): JsonObject {
  const { row, role, rowRole, name } = turn;
  const isFirst = to.turns.every(([other]) => other.row !== row);
  const data: JsonObject = {
    content: "",
    ...(name !== undefined && { name }),
    ...(isFirst && row.item_id != null && { id: row.item_id }),
    ...(rowRole === "developer" && { additional_kwargs: { __openai_role__: "developer" } }),
    ...(role === "assistant" && { tool_calls: [] }),
  };
  to.add({ type: role === "assistant" ? "ai" : role === "system" ? "system" : "human", data }, turn);
  return data;
}

function toolData(result: Result, ids: CallIds, turn: Turn): JsonObject {
  const { id, call } = ids.result(result);
  const name = call?.name ?? result.name;
  return {
    content: resultContent(result, turn),
    tool_call_id: id,
    ...(name !== undefined && { name }),
    ...(result.isError && { status: "error" }),
  };
}

/** A call as our columns have it, unless it would not come back. */
function fromCall(call: JsonObject): Json {
  const { id, name, args } = call;
  if (typeof id !== "string" || typeof name !== "string") return call;
  return { id, type: "function", function: { name, arguments: JSON.stringify(args ?? {}) } };
}

function toCall(call: Json): Json {
  if (!isObject(call) || !isObject(call.function)) return call;
  const { name } = call.function;
  let args: Json = {};
  try {
    args = JSON.parse(asString(call.function.arguments) ?? "{}");
  } catch { /* a model's JSON may be broken */ }
  return { name, args, id: call.id, type: "tool_call" };
}

/** What the columns of a row say, as data. */
function dataOf({ content, parts, name, item_id, tool_call_id, tool_calls }: Row): JsonObject {
  const data = { content: content ?? parts, name, id: item_id, tool_call_id, tool_calls: tool_calls?.map(toCall) };
  return Object.fromEntries(Object.entries(data).filter(([, value]) => value != null)) as JsonObject;
}

/** A text stands alone, as most providers want an answer. */
function contentOf(said: Json[]): Json {
  const [first] = said;
  if (said.length === 0) return "";
  return said.length === 1 && isObject(first) && first.type === "text" && Object.keys(first).length === 2
    ? first.text as string
    : said;
}

function resultContent(result: Result, turn: Turn): Json {
  const blocks = outputBlocks(result);
  if (blocks.every(({ type }) => type === "text")) return blocks.map(textOf).join("\n");
  return blocks.map((inner) => part(inner, turn));
}

function part(block: Block, { row }: Turn): Json {
  if (row.source?.dialect === "langchain" && block.native !== undefined) return block.native;
  switch (block.type) {
    case "image": {
      const url = urlOf(block);
      if (url === undefined) break;
      return { type: "image_url", image_url: { url, ...(block.detail !== undefined && { detail: block.detail }) } };
    }
    case "audio":
    case "video":
    case "file": {
      const { data, url, mediaType, filename } = block;
      return {
        type: block.type,
        ...(data !== undefined ? { data } : { url }),
        ...(mediaType !== undefined && { mimeType: mediaType }),
        ...(filename !== undefined && { metadata: { filename } }),
      };
    }
    case "reasoning":
    case "reasoning_text":
      return { type: "reasoning", reasoning: block.text };
    case "thinking":
    case "thought":
      return isObject(block.native) && typeof block.native.type === "string"
        ? block.native
        : { type: "reasoning", reasoning: block.text };
  }
  return { type: "text", text: textOf(block) };
}
