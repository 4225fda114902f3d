// Messages in every dialect, in and out; and one conversation through five clients.
import { assert, assertEquals, assertObjectMatch } from "@std/assert";
import { FORMATS, RULES } from "../../supabase/functions/_shared/formats/formats.ts";
import { type Client, CLIENTS, find, type Kind, THINGS } from "../support/matrix.ts";
import { refusals } from "../support/providers.ts";
import { newConversation, signUp } from "../support/stack.ts";
import { writeBetween } from "../support/written.ts";

const alice = await signUp();
const DOC = new URL("../../docs/formats.md", import.meta.url);

// deno-lint-ignore no-explicit-any -- messages of six dialects
type Any = any;

/** A turn with a call, as each dialect's own client has it. */
const TURNS: Record<string, Any[]> = {
  chat: [
    { role: "user", content: [{ type: "text", text: "Weather in Oslo?" }] },
    {
      role: "assistant",
      content: null,
      refusal: null,
      annotations: [],
      tool_calls: [{ id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } }],
    },
    { role: "tool", tool_call_id: "call_1", content: [{ type: "text", text: "rain" }] },
    { role: "assistant", content: "Rain.", refusal: null, annotations: [] },
  ],
  responses: [
    { type: "message", role: "user", content: [{ type: "input_text", text: "Weather in Oslo?" }] },
    { id: "rs_1", type: "reasoning", summary: [], encrypted_content: "ZW5j" },
    {
      id: "fc_1",
      type: "function_call",
      call_id: "call_1",
      name: "weather",
      arguments: '{"city":"Oslo"}',
      status: "completed",
    },
    { type: "function_call_output", call_id: "call_1", output: "rain" },
    {
      id: "msg_1",
      type: "message",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: "Rain.", annotations: [], logprobs: [] }],
    },
  ],
  anthropic: [
    { role: "user", content: [{ type: "text", text: "Weather in Oslo?", cache_control: { type: "ephemeral" } }] },
    {
      id: "msg_a1",
      type: "message",
      role: "assistant",
      model: "claude",
      content: [
        { type: "thinking", thinking: "Look.", signature: "c2ln" },
        { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Oslo" } },
      ],
      stop_reason: "tool_use",
      stop_sequence: null,
      usage: { input_tokens: 9, output_tokens: 5 },
    },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: "rain" }] },
    { role: "assistant", content: [{ type: "text", text: "Rain.", citations: null }], stop_reason: "end_turn" },
  ],
  gemini: [
    { parts: [{ text: "Weather in Oslo?" }] },
    { role: "model", parts: [{ functionCall: { name: "weather", args: { city: "Oslo" } }, thoughtSignature: "c2ln" }] },
    { role: "function", parts: [{ functionResponse: { name: "weather", response: { output: "rain" } } }] },
    { role: "model", parts: [{ text: "Rain." }] },
  ],
  "ai-sdk": [
    { id: "ui-1", role: "user", parts: [{ type: "text", text: "Weather in Oslo?" }], metadata: [1] },
    {
      id: "ui-2",
      role: "assistant",
      parts: [
        { type: "step-start" },
        {
          type: "tool-weather",
          toolCallId: "call_1",
          state: "output-available",
          input: { city: "Oslo" },
          output: "rain",
        },
        { type: "step-start" },
        { type: "text", text: "Rain.", state: "done" },
      ],
    },
  ],
  langchain: [
    { type: "human", data: { content: "Weather in Oslo?", additional_kwargs: {}, response_metadata: {} } },
    {
      type: "ai",
      data: {
        id: "run-1",
        content: "",
        tool_calls: [{ id: "call_1", name: "weather", args: { city: "Oslo" }, type: "tool_call" }],
        invalid_tool_calls: [],
      },
    },
    { type: "tool", data: { content: "rain", tool_call_id: "call_1", status: "success" } },
    { type: "ai", data: { content: "Rain.", tool_calls: [] } },
  ],
};

for (const format of FORMATS) {
  Deno.test(`${format}: messages come in as they are, come back equal, and are a context in every format`, async () => {
    const written = TURNS[format];
    for (const body of [{ messages: written }, { messages: written, format }]) {
      const id = await newConversation(alice);
      const appended = await alice.request("POST", `/conversations/${id}/messages`, { body });
      assertEquals(
        [appended.status, appended.body.messages?.length],
        [201, written.length],
        JSON.stringify(appended.body),
      );
      assertEquals(appended.body.messages[0].role, "user");
      const page = await alice.request("GET", `/conversations/${id}/messages?format=${format}`);
      if (format === "responses") written.forEach((item, i) => assertObjectMatch(page.body.data[i], item));
      else assertEquals(page.body.data, written);

      for (const to of FORMATS) {
        const { status, body } = await alice.request("GET", `/conversations/${id}/context?format=${to}&explain=true`);
        assertEquals(status, 200, JSON.stringify(body));
        assertEquals(await refusals[to](body), [], `${format} as ${to}: ${JSON.stringify(body)}`);
        const sent = body.messages ?? body.contents ?? body.input;
        assertEquals([body.sequences.length, body.authors.length], [sent.length, sent.length]);
        assertEquals([body.truncated, new Set(body.authors).has("service")], [false, false]);
        for (const said of ["Weather in Oslo?", "weather", "Oslo", "rain", "Rain."]) {
          assert(JSON.stringify(sent).includes(said), `${format} as ${to} has no ${said}`);
        }
        const reasoning = to === format ? [] : body.explain.left_out.map(({ reason }: Any) => reason);
        assert(reasoning.every((reason: string) => reason === "format"), JSON.stringify(body.explain));
        assertEquals(
          body.left_out,
          body.explain.left_out.reduce((sum: number, one: Any) => sum + one.to - one.from + 1, 0),
        );
      }
    }
    const created = await alice.request("POST", "/conversations", { body: { messages: written, title: "in one" } });
    assertEquals([created.status, created.body.last_sequence_order], [201, written.length]);
  });
}

Deno.test("a page of another format has the cursor of its rows", async () => {
  const id = await newConversation(alice, { messages: TURNS["ai-sdk"], format: "ai-sdk" });
  const first = await alice.request("GET", `/conversations/${id}/messages?format=chat&limit=1`);
  assertEquals([first.body.data, first.body.has_more, first.body.next_cursor], [
    [{ role: "user", content: [{ type: "text", text: "Weather in Oslo?" }] }],
    true,
    "1",
  ]);
  const second = await alice.request("GET", `/conversations/${id}/messages?format=chat&limit=1&after=1`);
  assertEquals(second.body.data.map(({ role }: Any) => role), ["assistant", "tool", "assistant"]);
  assertEquals([second.body.has_more, second.body.next_cursor], [false, null]);
});

Deno.test("what no shape takes is refused by name, and what is read as another says so", async () => {
  const id = await newConversation(alice);
  const refused = async (body: Any) => {
    const answer = await alice.request("POST", `/conversations/${id}/messages`, { body });
    assertEquals([answer.status, answer.body.code], [400, "invalid_request"], JSON.stringify(answer.body));
    return answer.body.details.map(({ path, message }: Any) => `${path}: ${message}`);
  };
  const hi = { role: "user", content: "hi" };
  assertEquals(await refused({ messages: [hi, { ...hi, contnet: "x" }] }), ["messages[1].contnet: Unknown field."]);
  assertEquals(await refused({ messages: [hi, "hi", null] }), [
    "messages[1]: Expected an object.",
    "messages[2]: Expected an object.",
  ]);
  const anthropic = { role: "assistant", content: [{ type: "tool_use", id: "t", name: "f", input: {} }] };
  assert((await refused({ messages: [anthropic], format: "message" }))[0].startsWith("messages[0].content"));
  assertEquals(await refused({ messages: [{ role: "model", parts: [] }], format: "anthropic" }), [
    "messages[0]: Has a role that is neither user nor assistant. It is read as anthropic.",
  ]);
  assert((await refused({ messages: [hi], format: "claude" }))[0].startsWith("format: "));
  const long = { type: "human", data: { content: "hi", name: "x".repeat(300) } };
  assert((await refused({ messages: [long] }))[0].startsWith("messages[0].name: "));
  // Nothing of all this was stored, and the same without the fault is.
  const { status, body } = await alice.request("POST", `/conversations/${id}/messages`, {
    body: { messages: [hi, anthropic] },
  });
  assertEquals([status, body.last_sequence_order], [201, 2]);
  for (const query of ["format=claude", "format=chat&format=gemini"]) {
    assertEquals((await alice.request("GET", `/conversations/${id}/messages?${query}`)).status, 400);
    assertEquals((await alice.request("GET", `/conversations/${id}/context?${query}`)).status, 400);
  }
});

Deno.test("the same message again is known by the id that its client gave it", async () => {
  const id = await newConversation(alice);
  for (const format of ["ai-sdk", "anthropic", "langchain", "responses"]) {
    const again = TURNS[format].filter((message) => message.id ?? message.data?.id);
    const append = () => alice.request("POST", `/conversations/${id}/messages`, { body: { messages: again } });
    const [first, second] = [await append(), await append()];
    assertEquals([first.status, second.status], [201, 201], JSON.stringify([first.body, second.body]));
    assertEquals(second.body.last_sequence_order, first.body.last_sequence_order, format);
    assertEquals(second.body.messages.map(({ id }: Any) => id), first.body.messages.map(({ id }: Any) => id));
  }
});

/** What the rules of RULES call a kind. */
const TYPES: Record<Kind, (keyof typeof RULES)[]> = {
  text: ["text"],
  image: ["image"],
  file: ["file"],
  refusal: ["refusal"],
  reasoning: ["reasoning", "reasoning_text"],
  call: ["call"],
  result: ["result"],
  "hosted tool": ["hosted", "shown", "unknown"],
  approval: ["approval", "shown", "unknown"],
  compaction: ["compaction", "shown", "unknown"],
};

const kindsOf = (mark: string, messages: Any[], client: Client): Kind[] =>
  messages.flatMap((message) => find(mark, message)).map((found) => client.kindOf(found));

Deno.test("forty things through five clients: each reads what each wrote, equal or changed by a rule", async () => {
  const cells: string[][] = [];
  for (const writer of CLIENTS) {
    const { id, written } = await writer.write(alice);
    const row: string[] = [];
    for (const reader of CLIENTS) {
      const messages = await reader.read(alice, id);
      const changed: Record<string, number> = {};
      let kept = 0;
      let sent = 0;
      for (const { mark } of THINGS) {
        const was = kindsOf(mark, written, writer)[0];
        if (was === undefined) continue; // not a word of it was sent
        sent++;
        const kinds = kindsOf(mark, messages, reader);
        if (kinds.length === 0 && was === "image" && /\[(image|file|image_url)\]/.test(JSON.stringify(messages))) {
          kinds.push("text");
        }
        assert(kinds.length > 0, `${mark}, a ${was} that ${writer.name} wrote, is lost to ${reader.name}`);
        if (kinds.includes(was)) kept++;
        else changed[`${was} as ${kinds[0]}`] = (changed[`${was} as ${kinds[0]}`] ?? 0) + 1;
      }
      if (reader === writer) {
        assertEquals(changed, {}, writer.name);
        if (!writer.rewrites) {
          assertEquals(messages.length, written.length);
          written.forEach((message, i) => assertObjectMatch(messages[i], message, `${writer.name} ${i}`));
        }
        row.push(`${sent} equal`);
        continue;
      }
      for (const change of Object.keys(changed)) {
        const [kind, as] = change.split(" as ") as [Kind, Kind];
        assert(
          // An image in an answer is text, where only a user may send one.
          as === "text" &&
            (kind === "image" ||
              TYPES[kind].some((type) => Object.values(RULES[type]).some((rule) => rule !== "held"))),
          `${writer.name} to ${reader.name}: ${change}`,
        );
      }
      const counts = Object.entries(changed).map(([change, count]) => `${count} ${change}`);
      row.push([`${kept} kept`, ...counts].join(", "));
    }
    cells.push([`**${writer.name}**`, ...row]);
  }
  const names = CLIENTS.map(({ name }) => name);
  const table = [
    ["written by ↓ read by →", ...names],
    ["", ...names].map(() => "---"),
    ...cells,
  ].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
  console.log(table);
  if (Deno.env.has("FORMATS_WRITE")) await writeBetween(DOC, "npm test -- tests/http/formats.test.ts", table);
  assert(
    (await Deno.readTextFile(DOC)).includes(table),
    "docs/formats.md has another table: FORMATS_WRITE=1 writes it",
  );
});
