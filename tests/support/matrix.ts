// One conversation of forty things, as five clients write it and read it.
import {
  AIMessage,
  HumanMessage,
  mapChatMessagesToStoredMessages,
  mapStoredMessagesToChatMessages,
  SystemMessage,
  ToolMessage,
} from "@langchain/core/messages";
import { OpenAIConversationsSession } from "@openai/agents";
import { convertToModelMessages, validateUIMessages } from "ai";
import { openaiOf } from "./openai.ts";
import { newConversation, type TestUser } from "./stack.ts";

// deno-lint-ignore no-explicit-any -- every client has types of its own
type Any = any;

export type Kind =
  | "text"
  | "image"
  | "file"
  | "refusal"
  | "reasoning"
  | "call"
  | "result"
  | "hosted tool"
  | "approval"
  | "compaction";

/** What is said: each has a mark of its own somewhere in it, by which it is found again. */
export interface Thing {
  mark: string;
  kind: Kind;
  item: Any;
}

const thing = (mark: string, kind: Kind, item: Any): Thing => ({ mark, kind, item });
const input = (text: string) => ({ type: "input_text", text });
const user = (...content: Any[]) => ({ type: "message", role: "user", content });
const answer = (mark: string, ...content: Any[]) => ({
  id: `msg_${mark}`,
  type: "message",
  role: "assistant",
  status: "completed",
  content,
});
const said = (text: string, annotations: Any[] = []) => ({ type: "output_text", text, annotations, logprobs: [] });
const call = (mark: string, id: string) => ({
  id: `fc_${mark}`,
  type: "function_call",
  call_id: id,
  name: "water",
  arguments: JSON.stringify({ bed: mark }),
  status: "completed",
});
const result = (mark: string, id: string) => ({
  type: "function_call_output",
  call_id: id,
  output: `watered ${mark}`,
  status: "completed",
});
/** Bytes in which the mark is readable: three of its characters are four of base64. */
const bytes = (mark: string) => btoa(mark);
const citation = { type: "url_citation", start_index: 0, end_index: 3, url: "https://example.com/t12", title: "Soil" };

/** A gardener and an assistant with many tools. Consecutive parts of one message share it. */
export const THINGS: Thing[] = [
  thing("t01", "text", { type: "message", role: "system", content: [input("You help in the garden, t01.")] }),
  thing("t02", "text", user(input("Water both beds, t02."))),
  thing("t03", "reasoning", {
    id: "rs_t03",
    type: "reasoning",
    summary: [{ type: "summary_text", text: "Two beds, t03." }],
    encrypted_content: "ZW5jcnlwdGVk",
  }),
  thing("t04", "call", call("t04", "call_a")),
  thing("t05", "call", call("t05", "call_b")),
  thing("t06", "result", result("t06", "call_a")),
  thing("t07", "result", result("t07", "call_b")),
  thing("t08", "text", answer("t08", said("Both are done, t08."))),
  thing("t09", "image", user({ type: "input_image", detail: "auto", image_url: "https://example.com/t09.png" })),
  thing("t10", "refusal", answer("t10", { type: "refusal", refusal: "I will not say whose it is, t10." })),
  thing(
    "t11",
    "file",
    user({ type: "input_file", filename: "plan.pdf", file_data: `data:application/pdf;base64,${bytes("t11")}` }),
  ),
  thing("t12", "text", answer("t12", said("The soil is sour, t12.", [citation]))),
  thing("t13", "hosted tool", {
    id: "ws_t13",
    type: "web_search_call",
    status: "completed",
    action: { type: "search", query: "sour soil t13" },
  }),
  thing("t14", "text", answer("t14", said("Add lime, t14."))),
  thing("t15", "text", user(input("Order some, t15. 園芸 🌱"))),
  thing("t16", "hosted tool", {
    id: "mcpl_t16",
    type: "mcp_list_tools",
    server_label: "shop",
    tools: [{ name: "order_t16", input_schema: {} }],
  }),
  thing("t17", "approval", {
    id: "mcpr_t17",
    type: "mcp_approval_request",
    server_label: "shop",
    name: "order",
    arguments: '{"what":"lime t17"}',
  }),
  thing("t18", "approval", {
    id: "mcpa_t18",
    type: "mcp_approval_response",
    approval_request_id: "mcpr_t17",
    approve: true,
    reason: "yes, t18",
  }),
  thing("t19", "call", {
    id: "mcp_t19",
    type: "mcp_call",
    server_label: "shop",
    name: "order",
    arguments: '{"what":"lime t19"}',
    output: "ordered",
  }),
  thing("t20", "text", answer("t20", said("It is ordered, t20."))),
  thing("t21", "text", user(input("How much was it, t21?"))),
  thing("t22", "call", {
    id: "ctc_t22",
    type: "custom_tool_call",
    call_id: "call_c",
    name: "sql",
    input: "select price -- t22",
  }),
  thing("t23", "result", { id: "ctco_t23", type: "custom_tool_call_output", call_id: "call_c", output: "12 t23" }),
  thing("t24", "text", answer("t24", said("Twelve, t24."))),
  thing("t25", "hosted tool", {
    id: "fs_t25",
    type: "file_search_call",
    status: "completed",
    queries: ["lime t25"],
    results: null,
  }),
  thing("t26", "hosted tool", {
    id: "ci_t26",
    type: "code_interpreter_call",
    status: "completed",
    code: "print('t26')",
    container_id: "cntr_1",
    outputs: null,
  }),
  thing("t27", "image", { id: "ig_t27", type: "image_generation_call", status: "completed", result: bytes("t27") }),
  thing("t28", "text", answer("t28", said("This is how it will look, t28."))),
  thing("t29", "text", user(input("List the files, t29."))),
  thing("t30", "call", {
    id: "sh_t30",
    type: "shell_call",
    call_id: "call_d",
    status: "completed",
    action: { commands: ["ls t30"], max_output_length: null, timeout_ms: null },
    environment: null,
  }),
  thing("t31", "result", {
    id: "sho_t31",
    type: "shell_call_output",
    call_id: "call_d",
    status: "completed",
    max_output_length: null,
    output: [{ stdout: "t31.txt", stderr: "", outcome: { type: "exit", exit_code: 0 } }],
  }),
  thing("t32", "text", answer("t32", said("One file, t32."))),
  thing("t33", "call", {
    id: "apc_t33",
    type: "apply_patch_call",
    call_id: "call_e",
    status: "completed",
    operation: { type: "delete_file", path: "t33.txt" },
  }),
  thing("t34", "result", {
    id: "apco_t34",
    type: "apply_patch_call_output",
    call_id: "call_e",
    status: "completed",
    output: "gone t34",
  }),
  thing("t35", "compaction", { id: "cmp_t35", type: "compaction", encrypted_content: "c2VjcmV0" }),
  thing("t36", "text", user(input("And the roses, t36?"))),
  thing("t37", "reasoning", {
    id: "rs_t37",
    type: "reasoning",
    summary: [{ type: "summary_text", text: "Roses want water too, t37." }],
  }),
  thing("t38", "call", call("t38", "call_f")),
  thing("t39", "result", result("t39", "call_f")),
  thing("t40", "text", answer("t40", said("The roses are watered, t40."))),
];
for (const { mark, kind, item } of THINGS) if (kind === "compaction") item.encrypted_content = bytes(mark);

// ---- what a thing is in each client's own words ---------------------------------------------------------------------

const textOf = ({ item }: Thing): string => item.content[0].text ?? item.content[0].refusal;
const argumentsOf = ({ item }: Thing): Any => {
  if (item.arguments !== undefined) return JSON.parse(item.arguments);
  return item.input !== undefined ? { input: item.input } : item.action ?? item.operation;
};
const nameOf = ({ item }: Thing): string => item.name ?? item.type.replace(/_call$/, "");
const outputOf = ({ item }: Thing): string =>
  typeof item.output === "string" ? item.output : JSON.stringify(item.output);
const role = ({ item }: Thing) => item.role ?? "assistant";
const hosted = ({ item }: Thing) => JSON.stringify(item);

function uiMessages(): Any[] {
  const messages: Any[] = [];
  const calls = new Map<string, Any>();
  for (const one of THINGS) {
    const { mark, kind, item } = one;
    const add = (role: string, ...parts: Any[]) => {
      const last = messages.at(-1);
      if (role === "assistant" && last?.role === role) last.parts.push({ type: "step-start" }, ...parts);
      else messages.push({ id: `ui_${mark}`, role, parts });
    };
    if (kind === "text") add(role(one), { type: "text", text: textOf(one) });
    else if (kind === "refusal") add("assistant", { type: "text", text: textOf(one) });
    else if (kind === "reasoning") {
      const providerMetadata = {
        openai: { itemId: item.id, reasoningEncryptedContent: item.encrypted_content ?? null },
      };
      add("assistant", { type: "reasoning", text: item.summary[0].text, providerMetadata });
    } else if (kind === "image") {
      const url = item.result ? `data:image/png;base64,${item.result}` : item.content[0].image_url;
      add(item.result ? "assistant" : "user", { type: "file", mediaType: "image/png", url });
    } else if (kind === "file") {
      add("user", { type: "file", mediaType: "application/pdf", filename: "plan.pdf", url: item.content[0].file_data });
    } else if (kind === "call") {
      const part: Any = {
        type: `tool-${nameOf(one)}`,
        toolCallId: item.call_id ?? item.id,
        state: "input-available",
        input: argumentsOf(one),
      };
      if (item.output !== undefined) Object.assign(part, { state: "output-available", output: item.output });
      calls.set(part.toolCallId, part);
      add("assistant", part);
    } else if (kind === "result") {
      Object.assign(calls.get(item.call_id), { state: "output-available", output: outputOf(one) });
    } else {
      add("assistant", { type: `data-${item.type}`, data: item });
    }
  }
  return messages;
}

function langchainMessages(): Any[] {
  return mapChatMessagesToStoredMessages(THINGS.map((one): Any => {
    const { kind, item } = one;
    switch (kind) {
      case "text":
        return role(one) === "system"
          ? new SystemMessage(textOf(one))
          : role(one) === "user"
          ? new HumanMessage(textOf(one))
          : new AIMessage({
            content: textOf(one),
            ...(item.content[0].annotations.length > 0 &&
              { response_metadata: { annotations: item.content[0].annotations } }),
          });
      case "image":
        return item.result
          ? new AIMessage({ content: [{ type: "image", mimeType: "image/png", data: item.result }] as Any })
          : new HumanMessage({ content: [{ type: "image_url", image_url: { url: item.content[0].image_url } }] });
      case "file":
        return new HumanMessage({
          content: [{
            type: "file",
            mimeType: "application/pdf",
            data: item.content[0].file_data.split(",")[1],
          }] as Any,
        });
      case "reasoning":
        return new AIMessage({ content: [{ type: "reasoning", reasoning: item.summary[0].text }] as Any });
      case "refusal":
        return new AIMessage({ content: "", additional_kwargs: { refusal: textOf(one) } });
      case "call":
        return new AIMessage({
          content: "",
          tool_calls: [{ id: item.call_id ?? item.id, name: nameOf(one), args: argumentsOf(one), type: "tool_call" }],
        });
      case "result":
        return new ToolMessage({ content: outputOf(one), tool_call_id: item.call_id });
      default:
        return new AIMessage({ content: [{ type: "non_standard", value: item }] as Any });
    }
  }));
}

function rows(): Any[] {
  return THINGS.map((one) => {
    const { mark, kind, item } = one;
    const row = { item_id: `row_${mark}`, role: role(one) };
    switch (kind) {
      case "text":
        return { ...row, content: textOf(one) };
      case "image":
        return {
          ...row,
          parts: [{
            type: "image_url",
            image_url: { url: item.result ? `data:image/png;base64,${item.result}` : item.content[0].image_url },
          }],
        };
      case "file":
        return {
          ...row,
          parts: [{ type: "file", file: { filename: "plan.pdf", file_data: item.content[0].file_data } }],
        };
      case "refusal":
        return { ...row, parts: [{ type: "refusal", refusal: textOf(one) }] };
      case "reasoning":
        return { ...row, type: "reasoning", content: item.summary[0].text };
      case "call": {
        const id = item.call_id ?? item.id;
        const written = { name: nameOf(one), arguments: JSON.stringify(argumentsOf(one)) };
        return { ...row, tool_calls: [{ id, type: "function", function: written }] };
      }
      case "result":
        return { ...row, role: "tool", tool_call_id: item.call_id, content: outputOf(one) };
      default:
        return { ...row, content: hosted(one) };
    }
  });
}

// ---- clients --------------------------------------------------------------------------------------------------------

export interface Client {
  name: string;
  /** Writes everything, and answers what it wrote as it has it. */
  write(user: TestUser): Promise<{ id: string; written: Any[] }>;
  /** Its words for what it sends are not those for what it reads. */
  rewrites?: true;
  /** What it reads: equal to what it wrote itself. */
  read(user: TestUser, id: string): Promise<Any[]>;
  /** What it takes a thing for. */
  kindOf(found: Found): Kind;
}

/** Where a mark stands: the objects around it from the outermost on, and the names that lead to it. */
export interface Found {
  objects: Any[];
  path: string[];
}

const post = async (user: TestUser, messages: Any[]) => {
  const id = await newConversation(user);
  const { status, body } = await user.request("POST", `/conversations/${id}/messages`, { body: { messages } });
  if (status !== 201) throw new Error(JSON.stringify(body));
  return id;
};

const read = async (user: TestUser, id: string, format: string): Promise<Any[]> => {
  const { status, body } = await user.request("GET", `/conversations/${id}/messages?format=${format}&limit=1000`);
  if (status !== 200) throw new Error(JSON.stringify(body));
  return body.data;
};

const PART_KINDS: [RegExp, Kind][] = [
  [/^refusal$/, "refusal"],
  [/^(input_)?image(_url)?$|^image_generation/, "image"],
  [/^(input_)?file$/, "file"],
  [/^reasoning/, "reasoning"],
  [/^compaction$/, "compaction"],
  [/approval/, "approval"],
  [/^(web_search|file_search|code_interpreter|mcp_list)/, "hosted tool"],
  [/(_output|_result)$/, "result"],
  [/_call$/, "call"],
];
const kindOfType = (type: unknown): Kind | undefined => PART_KINDS.find(([pattern]) => pattern.test(String(type)))?.[1];

/** Of the Responses API, and of what the Agents SDK makes of it. */
function kindOfItem({ objects }: Found): Kind {
  const [item] = objects;
  if (item.type === "hosted_tool_call" || item.type === "unknown") {
    const { providerData = {}, name } = item;
    return kindOfType(providerData.type ?? name) ?? "hosted tool";
  }
  if (item.type !== "message" && item.type !== undefined) return kindOfType(item.type) ?? "hosted tool";
  return objects.slice(1).map(({ type }) => kindOfType(type)).find((kind) => kind !== undefined) ?? "text";
}

const sessionOf = (user: TestUser, conversationId: string, fetch = globalThis.fetch) =>
  new OpenAIConversationsSession({ client: openaiOf(user).withOptions({ fetch }) as never, conversationId });

const newItems = async (user: TestUser, items: Any[]): Promise<string> => {
  const client = openaiOf(user);
  const { id } = await client.conversations.create({});
  for (let i = 0; i < items.length; i += 20) {
    await client.conversations.items.create(id, { items: items.slice(i, i + 20) });
  }
  return id;
};
/** The name of an OpenAI conversation is that of ours, with what OpenAI's begin with. */
const ours = (id: string) => id.replace(/^conv_/, "").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
const theirs = (id: string) => `conv_${id.replaceAll("-", "")}`;

export const CLIENTS: Client[] = [
  {
    name: "openai",
    write: async (user) => {
      const items = THINGS.map(({ item }) => item);
      return { id: ours(await newItems(user, items)), written: items };
    },
    read: async (user, id) => {
      const items: Any[] = [];
      for await (const item of openaiOf(user).conversations.items.list(theirs(id), { order: "asc" })) items.push(item);
      return items;
    },
    kindOf: kindOfItem,
  },
  {
    name: "@openai/agents",
    rewrites: true,
    write: async (user) => {
      // Its own words for them: what it reads of what the API has. It does not send all that it reads.
      const items = await sessionOf(user, await newItems(user, THINGS.map(({ item }) => item))).getItems();
      const { id } = await openaiOf(user).conversations.create({});
      const written: Any[] = [];
      const fetchAndKeep: typeof fetch = (request, init) => {
        if (init?.method?.toUpperCase() === "POST") written.push(...JSON.parse(String(init.body)).items);
        return fetch(request, init);
      };
      const session = sessionOf(user, id, fetchAndKeep);
      for (let i = 0; i < items.length; i += 20) await session.addItems(items.slice(i, i + 20));
      return { id: ours(id), written };
    },
    read: (user, id) => sessionOf(user, theirs(id)).getItems(),
    kindOf: kindOfItem,
  },
  {
    name: "ai",
    write: async (user) => {
      const written = uiMessages();
      return { id: await post(user, written), written };
    },
    read: async (user, id) => {
      const messages = await read(user, id, "ai-sdk");
      await convertToModelMessages(await validateUIMessages({ messages: structuredClone(messages) }));
      return messages;
    },
    kindOf: ({ objects, path }) => {
      const part = objects[1] ?? {};
      if (/^tool-|^dynamic-tool/.test(part.type)) {
        return path.includes("output") || path.includes("errorText") ? "result" : "call";
      }
      if (part.type === "file") return part.mediaType.startsWith("image/") ? "image" : "file";
      if (String(part.type).startsWith("data-")) return kindOfType(part.type.slice(5)) ?? "text";
      return kindOfType(part.type) ?? "text";
    },
  },
  {
    name: "@langchain/core",
    write: async (user) => {
      const written = JSON.parse(JSON.stringify(langchainMessages()));
      return { id: await post(user, written), written };
    },
    read: async (user, id) => {
      const messages = await read(user, id, "langchain");
      mapStoredMessagesToChatMessages(structuredClone(messages));
      return messages;
    },
    kindOf: ({ objects, path }) => {
      const [{ type }] = objects;
      if (path.includes("refusal")) return "refusal";
      if (type === "tool") return "result";
      if (path.includes("tool_calls")) return "call";
      const value = objects.find((object) => object.type === "non_standard")?.value;
      if (value) return kindOfType(value.type) ?? "text";
      return objects.slice(1).map(({ type }) => kindOfType(type)).find((kind) => kind !== undefined) ?? "text";
    },
  },
  {
    name: "plain REST",
    write: async (user) => {
      const id = await newConversation(user);
      const written = rows();
      for (const row of written) {
        const { error } = await restOf(user).from("conversation_messages").insert({ conversation_id: id, ...row });
        if (error) throw new Error(error.message);
      }
      return { id, written };
    },
    read: async (user, id) => {
      const { data, error } = await restOf(user).from("conversation_messages").select("*").eq("conversation_id", id)
        .order("sequence_order");
      if (error) throw new Error(error.message);
      return data.map((row: Any) => Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)));
    },
    kindOf: ({ objects, path }) => {
      const [row] = objects;
      if (path[0] === "tool_calls") return "call";
      if (path[0] === "item") return kindOfType(row.item.type ?? row.type) ?? "text";
      if (row.role === "tool" || row.tool_call_id) return "result";
      if (path[0] === "source" && path.includes("refusal")) return "refusal";
      if (row.type !== undefined && row.type !== "message") return kindOfType(row.type) ?? "text";
      return objects.slice(1).map((part) => {
        if (/^tool-|^dynamic-tool/.test(part.type)) return path.includes("output") ? "result" : "call";
        if (part.type === "file" && String(part.mediaType).startsWith("image/")) return "image";
        return kindOfType(String(part.value?.type ?? part.type).replace(/^data-/, ""));
      }).find((kind) => kind !== undefined) ?? "text";
    },
  },
];

const restOf = (user: TestUser): Any => user.client;

/** Every place where a mark stands, as text or as bytes. */
export function find(mark: string, message: Any): Found[] {
  const found: Found[] = [];
  const walk = (value: Any, objects: Any[], path: string[]) => {
    if (typeof value === "string") {
      if (value.includes(mark) || value.includes(bytes(mark))) found.push({ objects, path });
    } else if (Array.isArray(value)) {
      for (const element of value) walk(element, objects, path);
    } else if (typeof value === "object" && value !== null) {
      for (const [name, inner] of Object.entries(value)) {
        if (!/^(id|item_id|created_at)$/.test(name)) walk(inner, [...objects, value], [...path, name]);
      }
    }
  };
  walk(message, [], []);
  return found;
}
