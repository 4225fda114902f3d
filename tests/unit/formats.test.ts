// The conversions between dialects: what a client wrote comes back equal in its own format, and nothing that a row may hold
// makes them throw.
import { assert, assertEquals, assertExists } from "@std/assert";
import { mapStoredMessagesToChatMessages } from "@langchain/core/messages";
import { validateUIMessages } from "ai";
import fc from "fast-check";
import {
  type Format,
  FORMATS,
  readMessage,
  recognise,
  type Row,
  RULES,
  writeContext,
  writeMessage,
} from "../../supabase/functions/_shared/formats/formats.ts";
import { messageInput } from "../../supabase/functions/conversations/schemas.ts";
import type { JsonObject } from "../../supabase/functions/_shared/json.ts";
import { refusals } from "../support/providers.ts";
import { writeBetween } from "../support/written.ts";

const PNG = "data:image/png;base64,iVBORw0KGgo=";
const usage = { input_tokens: 1, output_tokens: 2 };

/** What clients of each dialect have: what its API answered, and what it was sent. */
const WRITTEN: Record<Format, JsonObject[]> = {
  chat: [
    { role: "assistant", content: "hi", refusal: null, annotations: [] },
    { role: "assistant", content: null, refusal: "I will not." },
    { role: "assistant", content: null, refusal: null, annotations: [] },
    {
      role: "user",
      content: [{ type: "text", text: "what is it?" }, { type: "image_url", image_url: { url: PNG, detail: "low" } }],
    },
    {
      role: "assistant",
      content: null,
      refusal: null,
      function_call: null,
      audio: null,
      tool_calls: [{ id: "call_1", type: "function", function: { name: "f", arguments: '{"a": 1}' } }],
    },
    {
      role: "assistant",
      content: null,
      audio: { id: "audio_1", data: "UklGRg==", transcript: "hello", expires_at: 1 },
    },
    { role: "tool", tool_call_id: "call_1", content: [{ type: "text", text: "42" }] },
    { role: "assistant", content: "so", reasoning_content: "because", provider_field: { a: [1] } },
    {
      role: "assistant",
      content: "cited",
      annotations: [{ type: "url_citation", url_citation: { url: "https://a.example" } }],
    },
  ],
  responses: [
    { type: "message", role: "user", content: [{ type: "input_text", text: "hi" }] },
    {
      type: "message",
      role: "user",
      content: [{ type: "input_text", text: "hi" }, { type: "input_image", image_url: PNG, detail: "auto" }],
    },
    { role: "assistant", content: [{ type: "output_text", text: "hi", annotations: [{ type: "file_citation" }] }] },
    {
      id: "msg_1",
      type: "message",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: "hi", annotations: [], logprobs: [] }],
    },
    { id: "fc_1", type: "function_call", call_id: "call_1", name: "f", arguments: "{}", status: "completed" },
    { type: "function_call_output", call_id: "call_1", output: "42" },
    { type: "function_call_output", call_id: "call_1", output: [{ type: "input_text", text: "42" }] },
    { id: "rs_1", type: "reasoning", summary: [{ type: "summary_text", text: "why" }], encrypted_content: "e" },
    { id: "ctc_1", type: "custom_tool_call", call_id: "call_2", name: "sql", input: "select 1" },
    { type: "custom_tool_call_output", call_id: "call_2", output: "1" },
    { id: "ws_1", type: "web_search_call", status: "completed", action: { type: "search", query: "q" } },
    { id: "cmp_1", type: "compaction", encrypted_content: "c" },
    { id: "mcp_1", type: "mcp_call", server_label: "s", name: "f", arguments: "{}", output: "o" },
  ],
  anthropic: [
    {
      id: "msg_1",
      type: "message",
      role: "assistant",
      model: "claude",
      stop_reason: "tool_use",
      stop_sequence: null,
      usage,
      content: [
        { type: "thinking", thinking: "hm", signature: "s" },
        { type: "text", text: "I look.", citations: null },
        { type: "tool_use", id: "toolu_1", name: "f", input: { a: 1 } },
      ],
    },
    {
      role: "user",
      content: [{
        type: "tool_result",
        tool_use_id: "toolu_1",
        content: [{ type: "text", text: "42" }],
        is_error: false,
      }],
    },
    { role: "user", content: [{ type: "text", text: "hi", cache_control: { type: "ephemeral" } }] },
    {
      role: "user",
      content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } }],
    },
    { role: "assistant", content: [{ type: "redacted_thinking", data: "d" }, { type: "text", text: "so" }] },
  ],
  gemini: [
    { role: "model", parts: [{ text: "hm", thought: true }, { text: "hi", thoughtSignature: "c2ln" }] },
    { parts: [{ text: "without a role" }] },
    {
      role: "user",
      parts: [{ inlineData: { mimeType: "image/png", data: "iVBORw0KGgo=" } }, { text: "what?" }],
      extra: 1,
    },
    { role: "model", parts: [{ functionCall: { name: "f", args: {} }, thoughtSignature: "c2ln" }] },
    { role: "function", parts: [{ functionResponse: { name: "f", response: { output: 42 } } }] },
    {
      role: "model",
      parts: [{ executableCode: { language: "PYTHON", code: "1" } }, {
        codeExecutionResult: { outcome: "OUTCOME_OK" },
      }],
    },
  ],
  "ai-sdk": [
    {
      id: "m1",
      role: "user",
      parts: [{ type: "text", text: "hi" }, { type: "file", mediaType: "image/png", url: PNG }],
    },
    {
      id: "m2",
      role: "assistant",
      metadata: { any: [1, null] },
      parts: [
        { type: "step-start" },
        { type: "reasoning", text: "hm", state: "done", providerMetadata: { anthropic: { signature: "s" } } },
        { type: "tool-f", toolCallId: "c1", state: "output-available", input: { a: 1 }, output: { b: 2 } },
        { type: "step-start" },
        { type: "text", text: "so", state: "done" },
        { type: "source-url", sourceId: "1", url: "https://a.example", title: "A" },
        { type: "data-weather", id: "w", data: [1] },
      ],
    },
    {
      id: "m3",
      role: "assistant",
      metadata: 7,
      parts: [{
        type: "dynamic-tool",
        toolName: "f",
        toolCallId: "c2",
        state: "output-error",
        input: 1,
        errorText: "no",
      }],
    },
  ],
  langchain: [
    { type: "human", data: { content: "hi", additional_kwargs: {}, response_metadata: {} } },
    {
      type: "human",
      data: { content: [{ type: "text", text: "hi" }, { type: "image_url", image_url: PNG }], name: "ann" },
    },
    {
      type: "ai",
      data: {
        id: "run-1",
        content: "",
        tool_calls: [{ id: "c1", name: "f", args: { a: 1 }, type: "tool_call" }, { id: "c2", name: "g", args: {} }],
        invalid_tool_calls: [],
        usage_metadata: { input_tokens: 1 },
        response_metadata: { model: "m" },
      },
    },
    { type: "tool", data: { content: "42", tool_call_id: "c1", name: "f", status: "success", artifact: { a: 1 } } },
    { type: "system", data: { content: "be brief" } },
    {
      type: "ai",
      data: { content: [{ type: "reasoning", reasoning: "hm" }, { type: "text", text: "so" }], tool_calls: [] },
    },
  ],
};

const stored = (message: JsonObject, format: Format): Row => {
  const row = readMessage(message, format);
  if (typeof row === "string") throw new Error(row);
  return JSON.parse(JSON.stringify({ type: "message", ...row, author: "user", sequence_order: 1, id: "0190" }));
};

for (const format of FORMATS) {
  Deno.test(`${format}: what its clients write is known by its shape, is columns, and comes back equal`, () => {
    for (const message of WRITTEN[format]) {
      assertEquals(recognise(message), format, JSON.stringify(message));
      const row = stored(message, format);
      const { id: _, author: __, sequence_order: ___, item: ____, source: _____, ...columns } = row;
      if (row.content != null || row.parts) assert(messageInput.safeParse(columns).success, JSON.stringify(columns));
      assertEquals(writeMessage(row, format), [message]);
    }
  });
}

Deno.test("what its own shape takes is of no dialect, and a name that nobody knows does not make it one", () => {
  const ours = [
    { role: "user", content: "hi" },
    { role: "user", content: "hi", nmae: "ann" },
    { role: "user", contnt: "hi" },
    { type: "note", role: "user", content: "hi", unknown: 1 },
    { role: "user", parts: [{ type: "text", text: "hi" }], extra: 1 },
    { id: "0190", conversation_id: "c", role: "user", content: "hi", parts: null },
    { content: [] },
    {},
    null,
    "hi",
    [{}],
  ];
  for (const message of ours) assertEquals(recognise(message), undefined, JSON.stringify(message));
});

/** A turn with two calls at once, as each dialect writes it: a question, the calls, both results, an answer. */
const TURNS: Record<Format | "rows" | "items apart", Row[]> = {
  rows: [
    { role: "user", content: "q" },
    {
      role: "assistant",
      content: null,
      tool_calls: ["a", "b"].map((id) => ({
        id,
        type: "function",
        function: { name: `f_${id}`, arguments: '{"x":1}' },
      })),
    },
    { role: "tool", content: "1", tool_call_id: "a" },
    { role: "tool", content: "2", tool_call_id: "b" },
    { role: "assistant", content: "three" },
  ],
  "items apart": [
    { role: "user", content: "q" },
    ...["a", "b"].map((id) =>
      stored({
        id: `fc_${id}`,
        type: "function_call",
        call_id: id,
        name: `f_${id}`,
        arguments: '{"x":1}',
        status: "completed",
      }, "responses")
    ),
    ...["a", "b"].map((id, i) =>
      stored({ type: "function_call_output", call_id: id, output: `${i + 1}` }, "responses")
    ),
    { role: "assistant", content: "three" },
  ],
  chat: [],
  responses: [],
  anthropic: [
    { role: "user", content: [{ type: "text", text: "q" }] },
    {
      role: "assistant",
      content: ["a", "b"].map((id) => ({ type: "tool_use", id, name: `f_${id}`, input: { x: 1 } })),
    },
    {
      role: "user",
      content: ["a", "b"].map((id, i) => ({ type: "tool_result", tool_use_id: id, content: `${i + 1}` })),
    },
    { role: "assistant", content: [{ type: "text", text: "three" }] },
  ].map((message) => stored(message, "anthropic")),
  gemini: [
    { role: "user", parts: [{ text: "q" }] },
    { role: "model", parts: ["a", "b"].map((id) => ({ functionCall: { name: `f_${id}`, args: { x: 1 } } })) },
    {
      role: "user",
      parts: ["a", "b"].map((id, i) => ({ functionResponse: { name: `f_${id}`, response: { output: `${i + 1}` } } })),
    },
    { role: "model", parts: [{ text: "three" }] },
  ].map((message) => stored(message, "gemini")),
  "ai-sdk": [
    { id: "1", role: "user", parts: [{ type: "text", text: "q" }] },
    {
      id: "2",
      role: "assistant",
      parts: [
        { type: "step-start" },
        ...["a", "b"].map((id, i) => ({
          type: `tool-f_${id}`,
          toolCallId: id,
          state: "output-available",
          input: { x: 1 },
          output: `${i + 1}`,
        })),
        { type: "step-start" },
        { type: "text", text: "three" },
      ],
    },
  ].map((message) => stored(message, "ai-sdk")),
  langchain: [
    { type: "human", data: { content: "q" } },
    {
      type: "ai",
      data: {
        content: "",
        tool_calls: ["a", "b"].map((id) => ({ id, name: `f_${id}`, args: { x: 1 }, type: "tool_call" })),
      },
    },
    ...["a", "b"].map((id, i) => ({ type: "tool", data: { content: `${i + 1}`, tool_call_id: id } })),
    { type: "ai", data: { content: "three" } },
  ].map((message) => stored(message, "langchain")),
};

Deno.test("one turn is the same request in every format, whoever wrote it", async () => {
  for (const format of FORMATS) {
    for (const [writer, rows] of Object.entries(TURNS)) {
      if (rows.length === 0) continue;
      const numbered = rows.map((row, i) => ({ ...row, sequence_order: i + 1, author: "user" }));
      const { request, sequences, authors, changes } = writeContext(numbered, format);
      assertEquals(await refusals[format](request), [], `${writer} as ${format}: ${JSON.stringify(request)}`);
      assertEquals(changes, [], `${writer} as ${format}`);
      assertEquals([...new Set(sequences.flat())].length, rows.length, `${writer} as ${format}`);
      assertEquals(authors.length, sequences.length);
      const text = JSON.stringify(request);
      for (const said of ["q", "f_a", "f_b", "1", "2", "three"]) {
        assert(text.includes(said), `${writer} as ${format} without ${said}`);
      }
      if (format === "chat") {
        assertEquals((request.messages as JsonObject[]).map(({ role }) => role), [
          "user",
          "assistant",
          "tool",
          "tool",
          "assistant",
        ]);
      }
      if (format === "anthropic") {
        assertEquals((request.messages as JsonObject[]).map(({ role }) => role), [
          "user",
          "assistant",
          "user",
          "assistant",
        ]);
      }
      if (format === "gemini") {
        assertEquals((request.contents as JsonObject[]).map(({ role }) => role), ["user", "model", "user", "model"]);
      }
    }
  }
});

Deno.test("instructions stand where each API has them", () => {
  const rows: Row[] = [
    { role: "system", name: "conversation_summary", content: "so far" },
    { role: "developer", content: "be brief", sequence_order: 1 },
    { role: "user", content: "hi", sequence_order: 2 },
  ];
  assertEquals(writeContext(rows, "chat").request.messages, [
    { role: "system", name: "conversation_summary", content: "so far" },
    { role: "developer", content: "be brief" },
    { role: "user", content: "hi" },
  ]);
  assertEquals(writeContext(rows, "anthropic").request, {
    system: [{ type: "text", text: "so far" }, { type: "text", text: "be brief" }],
    messages: [{ role: "user", content: [{ type: "text", text: "hi" }] }],
  });
  assertEquals(writeContext(rows, "gemini").request, {
    systemInstruction: { parts: [{ text: "so far" }, { text: "be brief" }] },
    contents: [{ role: "user", parts: [{ text: "hi" }] }],
  });
  assertEquals(writeContext(rows, "anthropic").sequences, [[2]]);
  assertEquals(writeMessage(rows[1], "anthropic"), [{ role: "system", content: "be brief" }]);
  assertEquals(writeMessage(rows[1], "gemini"), [{ role: "system", parts: [{ text: "be brief" }] }]);
  assertEquals(writeContext(rows, "chat").sequences, [[], [1], [2]]);
});

Deno.test("what a format cannot hold is text, and says so", () => {
  const rows: Row[] = [
    {
      role: "user",
      parts: [{ type: "input_audio", input_audio: { data: "UklGRg==", format: "wav" } }],
      sequence_order: 1,
    },
    stored({ id: "ws_1", type: "web_search_call", action: { query: "tides" } }, "responses"),
  ];
  const { request, changes } = writeContext(rows, "anthropic");
  assertEquals(request.messages, [
    { role: "user", content: [{ type: "text", text: "[audio]" }] },
    {
      role: "assistant",
      content: [{ type: "text", text: '[web_search_call {"id":"ws_1","action":{"query":"tides"}}]' }],
    },
  ]);
  assertEquals(changes.map(({ type, as }) => [type, as]), [["audio", "text"], ["hosted", "text"]]);
  const shown = [{ type: "step-start" }, { type: "text", text: "so" }, { type: "data-weather", data: 1 }];
  const named: Row = { role: "assistant", name: "ann", parts: shown, sequence_order: 2 };
  const out = (format: Format) => writeContext([named], format).changes.map(({ type, as }) => [type, as]);
  assertEquals(out("anthropic"), [["name", "out"], ["shown", "out"]]);
  assertEquals(out("chat"), [["shown", "out"]]);
  assertEquals(out("ai-sdk"), [["name", "out"]]);
});

/** Any JSON, and what JavaScript trips over where it takes an object for a text, or a name for one of its own. */
const json = fc.oneof(
  { weight: 9, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  fc.constantFrom({ toString: "", valueOf: 1 }, "constructor", "__proto__", "toString"),
) as fc.Arbitrary<never>;
const samples = [
  ...Object.values(WRITTEN).flat().flatMap((message) => {
    const data = (message.data ?? message) as JsonObject;
    return [message, ...[data.content, data.parts, data.tool_calls].flatMap((list) => Array.isArray(list) ? list : [])];
  }),
] as JsonObject[];
/** A part as some API has it, with some of its fields of any type, or gone. */
const part = fc.oneof(
  json,
  fc.tuple(
    fc.constantFrom(...samples),
    fc.dictionary(
      fc.constantFrom("type", "role", "text", "id", "state", "input", "output", "source", "data", "content", "name"),
      json,
      {
        maxKeys: 2,
      },
    ),
  )
    .map(([sample, wrong]) => ({ ...sample, ...wrong })),
);
const row = fc.record({
  type: fc.constantFrom(
    "message",
    "message",
    "message",
    "function_call",
    "reasoning",
    "compaction",
    "item",
    "x_output",
  ),
  role: fc.constantFrom("system", "developer", "user", "assistant", "tool", "function", null),
  content: fc.option(fc.string()),
  parts: fc.option(fc.array(part, { maxLength: 4 })),
  name: fc.option(fc.string()),
  function_call: fc.option(fc.oneof(json, fc.record({ name: json, arguments: json }))),
  tool_calls: fc.option(fc.array(part, { maxLength: 3 })),
  tool_call_id: fc.option(fc.string()),
  item_id: fc.option(fc.string({ minLength: 1 })),
  item: fc.option(part),
  source: fc.option(
    fc.record({
      dialect: fc.constantFrom(...FORMATS),
      rest: fc.oneof(json, fc.record({ data: json, id: json, content: json })),
    }),
  ),
  author: fc.constantFrom("user", "service"),
  sequence_order: fc.nat(),
}, { requiredKeys: ["author"] }) as unknown as fc.Arbitrary<Row>;

Deno.test("whatever a row holds, each format says something, and throws nothing", () => {
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 4 }), (rows) => {
      for (const format of FORMATS) {
        const before = JSON.stringify(rows);
        for (const row of rows) assert(writeMessage(row, format).length >= 1, `nothing as ${format}`);
        const { request, sequences, authors } = writeContext(rows, format);
        const list = request.messages ?? request.contents ?? request.input;
        assertEquals((list as unknown[]).length, sequences.length);
        assertEquals(authors.length, sequences.length);
        assertExists(JSON.stringify(request));
        assertEquals(JSON.stringify(rows), before, "a row was changed");
      }
    }),
    { numRuns: 3000 },
  );
});

Deno.test("whatever is sent as a dialect, is refused in words or stored, and throws nothing", () => {
  fc.assert(
    fc.property(part, (message) => {
      recognise(message);
      if (typeof message !== "object" || message === null || Array.isArray(message)) return;
      for (const format of FORMATS) {
        const row = readMessage(message as JsonObject, format);
        if (typeof row === "object") assert(writeMessage(row, format).length >= 1);
      }
    }),
    { numRuns: 5000 },
  );
});

Deno.test("a message of any dialect is equal again, with whatever fields nobody knows", () => {
  const written = FORMATS.flatMap((format) => WRITTEN[format].map((message) => ({ format, message })));
  fc.assert(
    fc.property(
      fc.constantFrom(...written),
      fc.dictionary(fc.string().filter((name) => !["status", "id", "type", "role", "data"].includes(name)), json, {
        maxKeys: 3,
      }),
      ({ format, message }, more) => {
        const sent = { ...more, ...message };
        const row = JSON.parse(JSON.stringify(readMessage(sent, format)));
        assertEquals(writeMessage(row, format), [sent].map((message) => JSON.parse(JSON.stringify(message))));
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("their own libraries take what each page says", async () => {
  const rows = Object.values(TURNS).flat().map((row, i) => ({ ...row, item_id: `m${i}`, sequence_order: i + 1 }));
  await validateUIMessages({ messages: rows.flatMap((row) => writeMessage(row, "ai-sdk")) });
  const stored = rows.flatMap((row) => writeMessage(row, "langchain"));
  assertEquals(mapStoredMessagesToChatMessages(stored as never).length, stored.length);
});

Deno.test("docs/formats.md has the table of what becomes of what", async () => {
  const table = [
    ["", ...FORMATS.map((format) => `\`${format}\``)],
    ["", ...FORMATS].map(() => "---"),
    ...Object.entries(RULES).map(([type, rules]) => [`\`${type}\``, ...FORMATS.map((format) => rules[format])]),
  ].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
  const page = new URL("../../docs/formats.md", import.meta.url);
  if (Deno.env.has("FORMATS_WRITE")) await writeBetween(page, "npm test -- tests/unit/formats.test.ts", table);
  assert(
    (await Deno.readTextFile(page)).includes(table),
    "docs/formats.md has another table: FORMATS_WRITE=1 writes it",
  );
});

/** What a provider would refuse, planted in a request that it takes. */
// deno-lint-ignore no-explicit-any -- requests of six dialects
const FAULTS: Record<Format, Record<string, (request: any) => void>> = {
  chat: {
    "a call without its result": ({ messages }) => messages.splice(2, 1),
    "a result without its call": ({ messages }) => messages.splice(1, 1),
    "something between a call and its result": ({ messages }) =>
      messages.splice(2, 0, { role: "user", content: "and?" }),
    "a field of ours": ({ messages }) => messages[0].sequence_order = 1,
    "an image of the assistant": ({ messages }) =>
      messages[4].content = [{ type: "image_url", image_url: { url: PNG } }],
    "a long id": ({ messages }) => messages[1].tool_calls[0].id = messages[2].tool_call_id = "x".repeat(41),
    "a name with a space": ({ messages }) => messages[0].name = "a b",
  },
  responses: {
    "an id of another type": ({ input }) => input[1].id = "msg_1",
    "an id twice": ({ input }) => input[1].id = input[2].id = "fc_1",
    "an output of another type": ({ input }) => input[3].type = "custom_tool_call_output",
    "a call without its output": ({ input }) => input.splice(3, 1),
    "an output without its call": ({ input }) => input.splice(1, 1),
    "a part of the chat completions API": ({ input }) => input[0].content = [{ type: "text", text: "q" }],
    "what a compaction replaced": ({ input }) => input.splice(2, 0, { type: "compaction", encrypted_content: "x" }),
  },
  anthropic: {
    "the model first": ({ messages }) => messages.shift(),
    "two of the user's": ({ messages }) => messages.splice(1, 0, { role: "user", content: "and?" }),
    "a result that is missing": ({ messages }) => messages[2].content.pop(),
    "a text before the results": ({ messages }) => messages[2].content.unshift({ type: "text", text: "so" }),
    "an empty text": ({ messages }) => messages[0].content = [{ type: "text", text: " " }],
    "input that is no object": ({ messages }) => messages[1].content[0].input = "{}",
    "thinking that nobody signed": ({ messages }) => messages[1].content.unshift({ type: "thinking", thinking: "hm" }),
    "white space at the end": ({ messages }) => messages[3].content = "three ",
  },
  gemini: {
    "the model first": ({ contents }) => contents.shift(),
    "a response that is missing": ({ contents }) => contents[2].parts.pop(),
    "a response of another name": ({ contents }) => contents[2].parts[0].functionResponse.name = "g",
    "a text beside responses": ({ contents }) => contents[2].parts.push({ text: "so" }),
    "a response that is no object": ({ contents }) => contents[2].parts[0].functionResponse.response = "1",
    "a part with a type": ({ contents }) => contents[0].parts[0].type = "text",
  },
  "ai-sdk": {
    "a call without its result": ({ messages }) =>
      delete messages[1].parts.find((part: JsonObject) => part.toolCallId).output,
    "no parts": ({ messages }) => messages[0].parts = [],
    "a part of nobody": ({ messages }) => messages[0].parts = [{ type: "picture" }],
    "an id twice": ({ messages }) => messages[1].id = messages[0].id,
    "an address that is none": ({ messages }) =>
      messages[0].parts.push({ type: "file", mediaType: "image/png", url: "here" }),
  },
  langchain: {
    "a call without its result": ({ messages }) => messages.splice(2, 1),
    "a result without its call": ({ messages }) => messages.splice(1, 1),
    "a type of nobody": ({ messages }) => messages[0].type = "person",
  },
};

Deno.test("what a provider refuses is found", async () => {
  let faults = 0;
  for (const format of FORMATS) {
    for (const [name, plant] of Object.entries(FAULTS[format])) {
      const rows = TURNS.rows.map((row, i) => ({ ...row, sequence_order: i + 1 }));
      const { request } = writeContext(rows, format);
      const taken = structuredClone(request);
      assertEquals(await refusals[format](taken), []);
      plant(request);
      assert((await refusals[format](request)).length > 0, `${format} takes ${name}`);
      faults++;
    }
  }
  assert(faults >= 20);
});
