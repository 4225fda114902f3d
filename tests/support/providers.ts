// What providers accept, written from their documentation, and what their own libraries accept. Independent of the conversions:
// each check reads messages as the provider would, and says what it would refuse.
import { mapStoredMessagesToChatMessages } from "@langchain/core/messages";
import { convertToModelMessages, validateUIMessages } from "ai";

// deno-lint-ignore no-explicit-any
type Any = any;
type Check = (context: Any) => string[] | Promise<string[]>;

const isText = (value: Any) => typeof value === "string";
const isObject = (value: Any) => typeof value === "object" && value !== null && !Array.isArray(value);
const extra = (value: Any, ...known: string[]) => Object.keys(value).filter((name) => !known.includes(name));

/** https://platform.openai.com/docs/api-reference/chat/create */
function chat({ messages }: Any): string[] {
  const problems: string[] = [];
  const open = new Set<string>();
  messages.forEach((message: Any, i: number) => {
    const problem = (text: string) => problems.push(`messages[${i}]: ${text}`);
    if (message.role !== "tool" && open.size > 0) {
      problem(`the calls ${[...open]} have no result directly behind them`);
      open.clear();
    }
    if (message.name !== undefined && !/^[^\s<|\\/>]{1,64}$/.test(message.name)) problem(`name ${message.name}`);
    const parts = Array.isArray(message.content) ? message.content : [];
    for (const part of parts) {
      const allowed = {
        user: ["text", "image_url", "input_audio", "file"],
        assistant: ["text", "refusal"],
      }[message.role as string] ??
        ["text"];
      if (!allowed.includes(part.type)) problem(`a part ${part.type}`);
      if (part.type === "text" && (!isText(part.text) || extra(part, "type", "text").length > 0)) {
        problem("a text part");
      }
      if (part.type === "image_url" && !isText(part.image_url?.url)) problem("an image without an address");
      if (part.type === "file" && !isText(part.file?.file_id ?? part.file?.file_data)) problem("a file of nothing");
    }
    if (Array.isArray(message.content) && parts.length === 0) problem("an empty list of parts");
    switch (message.role) {
      case "system":
      case "developer":
      case "user":
        if (message.content == null) problem("no content");
        if (extra(message, "role", "content", "name").length > 0) {
          problem(`fields ${extra(message, "role", "content", "name")}`);
        }
        break;
      case "assistant":
        if (message.content == null && !message.tool_calls) problem("neither content nor calls");
        if (message.tool_calls?.length === 0) problem("an empty list of calls");
        for (const call of message.tool_calls ?? []) {
          const called = call.type === "custom" ? call.custom : call.function;
          if (!isText(call.id) || call.id.length > 40) problem(`the id of a call: ${call.id}`);
          if (!/^[A-Za-z0-9_-]{1,64}$/.test(called?.name)) problem(`the name of a call: ${called?.name}`);
          if (!isText(call.type === "custom" ? called.input : called.arguments)) problem("arguments that are no text");
          if (open.has(call.id)) problem(`a call twice: ${call.id}`);
          open.add(call.id);
        }
        break;
      case "tool":
        if (!open.delete(message.tool_call_id)) problem(`a result without its call: ${message.tool_call_id}`);
        if (message.content == null) problem("no content");
        break;
      default:
        problem(`role ${message.role}`);
    }
  });
  if (open.size > 0) problems.push(`the calls ${[...open]} have no result`);
  return problems;
}

const ID_PREFIXES: Record<string, RegExp> = {
  message: /^msg/,
  function_call: /^fc/,
  reasoning: /^rs/,
  custom_tool_call: /^ctc/,
  web_search_call: /^ws/,
  file_search_call: /^fs/,
  code_interpreter_call: /^ci/,
  image_generation_call: /^ig/,
  computer_call: /^cu/,
  mcp_call: /^mcp_/,
  mcp_list_tools: /^mcpl/,
  mcp_approval_request: /^mcpr/,
};

/** https://platform.openai.com/docs/api-reference/responses/create */
function responses({ input }: Any): string[] {
  const problems: string[] = [];
  const calls = new Map<string, string>();
  const answered = new Set<string>();
  const ids = new Set<string>();
  const approvals = new Set<string>();
  input.forEach((item: Any, i: number) => {
    const type = item.type ?? "message";
    const problem = (text: string) => problems.push(`input[${i}] (${type}): ${text}`);
    if (item.id != null) {
      if (!isText(item.id) || item.id.length > 64 || !(ID_PREFIXES[type] ?? /./).test(item.id)) {
        problem(`id ${item.id}`);
      }
      if (ids.has(item.id)) problem(`id ${item.id} twice`);
      ids.add(item.id);
    }
    if (type === "message") {
      if (!["user", "assistant", "system", "developer"].includes(item.role)) problem(`role ${item.role}`);
      const allowed = item.role === "assistant"
        ? ["output_text", "refusal"]
        : ["input_text", "input_image", "input_file"];
      if (!isText(item.content) && !Array.isArray(item.content)) problem("no content");
      for (const part of Array.isArray(item.content) ? item.content : []) {
        if (!allowed.includes(part.type)) problem(`a part ${part.type}`);
      }
    } else if (
      [
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "program",
        "apply_patch_call",
      ]
        .includes(type)
    ) {
      if (!isText(item.call_id) || item.call_id.length < 1 || item.call_id.length > 64) {
        problem(`call_id ${item.call_id}`);
      }
      if (type === "function_call" && !(isText(item.name) && isText(item.arguments))) problem("no name or arguments");
      if (calls.has(item.call_id)) problem(`call ${item.call_id} twice`);
      calls.set(item.call_id, type);
    } else if (type.endsWith("_call_output") || type === "program_output") {
      const call = calls.get(item.call_id);
      if (call === undefined) problem(`an output without its call: ${item.call_id}`);
      else if (`${call}_output` !== type) problem(`an output of a ${call}`);
      if (answered.has(item.call_id)) problem(`a second output of ${item.call_id}`);
      answered.add(item.call_id);
      if (type === "function_call_output" && !isText(item.output) && !Array.isArray(item.output)) {
        problem("an output of no type");
      }
    } else if (type === "mcp_approval_request") {
      approvals.add(item.id);
    } else if (type === "mcp_approval_response") {
      if (!approvals.delete(item.approval_request_id)) problem("an approval without its request");
    } else if (type === "reasoning") {
      if (!Array.isArray(item.summary)) problem("no summary");
    } else if (type === "compaction") {
      if (i > 0 && input.slice(0, i).some((before: Any) => !["system", "developer"].includes(before.role))) {
        problem("what it stands for is sent as well");
      }
    }
  });
  for (const id of calls.keys()) if (!answered.has(id)) problems.push(`the call ${id} has no output`);
  return problems;
}

/** https://docs.anthropic.com/en/api/messages */
function anthropic({ system, messages }: Any): string[] {
  const problems: string[] = [];
  const seen = new Set<string>();
  let open: string[] = [];
  if (system !== undefined && !isText(system)) {
    for (const block of system) {
      if (block.type !== "text" || !isText(block.text) || !block.text.trim()) problems.push("system");
    }
  }
  messages.forEach((message: Any, i: number) => {
    const problem = (text: string) => problems.push(`messages[${i}]: ${text}`);
    if (message.role !== (i % 2 === 0 ? "user" : "assistant")) {
      problem(`role ${message.role}: roles alternate from the user on`);
    }
    if (extra(message, "role", "content").length > 0) problem(`fields ${extra(message, "role", "content")}`);
    const blocks = isText(message.content) ? [{ type: "text", text: message.content }] : message.content;
    if (blocks.length === 0) problem("no content");
    const results = blocks.filter((block: Any) => block.type === "tool_result");
    if (open.length > 0) {
      const first = blocks.slice(0, open.length);
      const answers = first.map((block: Any) => block.tool_use_id).toSorted();
      if (JSON.stringify(answers) !== JSON.stringify(open.toSorted())) {
        problem(`does not begin with the results of ${open}: ${answers}`);
      }
    }
    if (results.length > open.length) problem("a tool_result without its tool_use");
    open = [];
    const server = new Set<string>();
    for (const block of blocks) {
      if (block.type === "text" && (!isText(block.text) || !block.text.trim())) problem("an empty text");
      if (block.type === "text" && extra(block, "type", "text", "cache_control", "citations").length > 0) {
        problem("fields of a text");
      }
      if (["tool_use", "thinking", "redacted_thinking"].includes(block.type) && message.role !== "assistant") {
        problem(block.type);
      }
      if (["tool_result", "image", "document"].includes(block.type) && message.role !== "user") {
        problem(`${block.type} of the assistant`);
      }
      if (block.type === "thinking" && !block.signature) problem("thinking without a signature");
      if (block.type === "tool_use") {
        if (!/^[A-Za-z0-9_-]+$/.test(block.id)) problem(`id ${block.id}`);
        if (!/^[A-Za-z0-9_-]{1,128}$/.test(block.name)) problem(`name ${block.name}`);
        if (!isObject(block.input)) problem("input that is no object");
        if (seen.has(block.id)) problem(`id ${block.id} twice`);
        seen.add(block.id);
        open.push(block.id);
      }
      if (block.type === "server_tool_use") server.add(block.id);
      if (/._tool_result$/.test(block.type) && !server.has(block.tool_use_id)) {
        problem(`${block.type} without its call`);
      }
      if (block.type === "tool_result" && Array.isArray(block.content)) {
        for (const part of block.content) if (part.type === "text" && !part.text) problem("an empty text in a result");
      }
      if (
        !/^(text|image|document|tool_use|tool_result|thinking|redacted_thinking|search_result|container_upload|server_tool_use|mcp_tool_use|\w+_tool_result)$/
          .test(block.type)
      ) {
        problem(`a block ${block.type}`);
      }
    }
    const last = blocks.at(-1);
    if (i === messages.length - 1 && message.role === "assistant" && last?.type === "text" && /\s$/.test(last.text)) {
      problem("ends in white space");
    }
  });
  if (open.length > 0) problems.push(`${open} have no result`);
  return problems;
}

/** https://ai.google.dev/api/generate-content, and the errors that it answers. */
function gemini({ systemInstruction, contents }: Any): string[] {
  const problems: string[] = [];
  if (systemInstruction !== undefined && systemInstruction.parts.some((part: Any) => !isText(part.text))) {
    problems.push("systemInstruction");
  }
  const callsOf = (content: Any) => content?.parts.filter((part: Any) => part.functionCall) ?? [];
  const resultsOf = (content: Any) => content?.parts.filter((part: Any) => part.functionResponse) ?? [];
  if (contents.length > 0 && contents[0].role !== "user") problems.push("begins with the model");
  contents.forEach((content: Any, i: number) => {
    const problem = (text: string) => problems.push(`contents[${i}]: ${text}`);
    if (!["user", "model"].includes(content.role)) problem(`role ${content.role}`);
    if (extra(content, "role", "parts").length > 0) problem(`fields ${extra(content, "role", "parts")}`);
    if (!(content.parts.length > 0)) problem("no parts");
    if (content.parts.some((part: Any) => "type" in part)) problem("a part with a type");
    const [calls, results] = [callsOf(content), resultsOf(content)];
    if (calls.length > 0) {
      if (content.role !== "model") problem("a call of the user's");
      if (contents[i - 1]?.role !== "user") problem("a call that is not directly behind what the user said");
      const next = resultsOf(contents[i + 1]);
      if (next.length !== calls.length) problem(`${calls.length} calls and ${next.length} responses`);
      const names = (parts: Any[], field: string) => parts.map((part) => part[field].name).toSorted().join();
      if (names(calls, "functionCall") !== names(next, "functionResponse")) problem("responses of other names");
      if (calls.some(({ functionCall }: Any) => !isObject(functionCall.args ?? {}))) problem("args that are no object");
    }
    if (results.length > 0) {
      if (results.length !== content.parts.length) problem("responses beside other parts");
      if (callsOf(contents[i - 1]).length === 0) problem("a response without its call");
      if (results.some(({ functionResponse }: Any) => !isObject(functionResponse.response))) {
        problem("a response that is no object");
      }
    }
  });
  return problems;
}

/** Calls have their results in the tool messages directly behind them: what every provider of the AI SDK asks for. */
async function aiSdk({ messages }: Any): Promise<string[]> {
  if (messages.length === 0) return [];
  const problems: string[] = [];
  let sent: Any[];
  try {
    sent = await convertToModelMessages(await validateUIMessages({ messages: structuredClone(messages) }));
  } catch (error) {
    return [String(error).slice(0, 600)];
  }
  const ids = messages.map(({ id }: Any) => id);
  if (new Set(ids).size < ids.length) problems.push("an id twice");
  let open = new Set<string>();
  for (const message of sent) {
    if (message.role !== "tool" && open.size > 0) {
      problems.push(`no result of ${[...open]}`);
      open = new Set();
    }
    for (const part of Array.isArray(message.content) ? message.content : []) {
      if (part.type === "tool-call") open.add(part.toolCallId);
      if (part.type === "tool-result" && !open.delete(part.toolCallId)) {
        problems.push(`a result without its call: ${part.toolCallId}`);
      }
    }
  }
  if (open.size > 0) problems.push(`no result of ${[...open]}`);
  return problems;
}

function langchain({ messages }: Any): string[] {
  const problems: string[] = [];
  let made: Any[];
  try {
    made = mapStoredMessagesToChatMessages(structuredClone(messages));
  } catch (error) {
    return [String(error)];
  }
  let open = new Set<string>();
  for (const message of made) {
    if (message.getType() === "tool") {
      if (!open.delete(message.tool_call_id)) problems.push(`a result without its call: ${message.tool_call_id}`);
    } else {
      if (open.size > 0) problems.push(`no result of ${[...open]}`);
      open = new Set((message.tool_calls ?? []).map(({ id }: Any) => id));
    }
  }
  if (open.size > 0) problems.push(`no result of ${[...open]}`);
  return problems;
}

/** What the provider of a format refuses in a context, in words. */
export const refusals: Record<string, Check> = { chat, responses, anthropic, gemini, "ai-sdk": aiSdk, langchain };
