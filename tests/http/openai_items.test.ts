// Items of every type of OpenAI's API: their ids, their pairs, and that its own clients read whatever is stored.
import { OpenAIConversationsSession } from "@openai/agents";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { baseURL, openaiOf } from "../support/openai.ts";
import { newConversation, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();
const openai = openaiOf(alice);

type Type = OpenAI.Conversations.ConversationItem["type"];
type Input = OpenAI.Conversations.Items.ItemCreateParams["items"][number];
// deno-lint-ignore no-explicit-any -- the SDK's union of items has no common shape beyond the type
type Item = any;

const openaiId = (conversation: string) => `conv_${conversation.replaceAll("-", "")}`;
const uuidOf = (id: string) => id.slice("conv_".length).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
const session = (conversationId: string) => new OpenAIConversationsSession({ client: openai, conversationId });
const list = (id: string, query = {}): Promise<Item[]> =>
  Array.fromAsync(openai.conversations.items.list(id, { order: "asc", ...query }) as AsyncIterable<Item>);

/** One of every type that the package knows: the compiler refuses this file when there is one more. */
const ITEMS: Record<Type, { prefix: string; own: string; item: Record<string, unknown> }> = {
  message: {
    prefix: "msg_",
    own: "msg_67ccd2bed1ec8190",
    item: {
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: "Hi", annotations: [], logprobs: [] }],
    },
  },
  function_call: {
    prefix: "fc_",
    own: "fc_12",
    item: { call_id: "call_f", name: "f", arguments: "{}", status: "completed" },
  },
  function_call_output: {
    prefix: "fco_",
    own: "fc_13",
    item: { call_id: "call_f", output: "done", status: "completed" },
  },
  file_search_call: { prefix: "fs_", own: "fs_1", item: { queries: ["q"], status: "completed", results: null } },
  web_search_call: {
    prefix: "ws_",
    own: "ws_1",
    item: { status: "completed", action: { type: "search", query: "q" } },
  },
  image_generation_call: { prefix: "ig_", own: "ig_1", item: { result: "aGk=", status: "completed" } },
  computer_call: {
    prefix: "cu_",
    own: "cu_1",
    item: { call_id: "call_c", status: "completed", action: { type: "wait" }, pending_safety_checks: [] },
  },
  computer_call_output: {
    prefix: "cuo_",
    own: "cuo_1",
    item: {
      call_id: "call_c",
      status: "completed",
      output: { type: "computer_screenshot", image_url: "data:image/png;base64,AAAA" },
    },
  },
  tool_search_call: {
    prefix: "tsc_",
    own: "tsc_1",
    item: { call_id: "call_t", execution: "client", status: "completed", arguments: { query: "q" } },
  },
  tool_search_output: {
    prefix: "tso_",
    own: "tso_1",
    item: { call_id: "call_t", execution: "client", status: "completed", tools: [] },
  },
  additional_tools: { prefix: "at_", own: "at_1", item: { role: "developer", tools: [] } },
  configuration_update: { prefix: "cfg_", own: "cfg_1", item: { reasoning: { effort: "high" } } },
  reasoning: {
    prefix: "rs_",
    own: "rs_1",
    item: { summary: [{ type: "summary_text", text: "Hm." }], encrypted_content: "gAAA" },
  },
  program: { prefix: "prog_", own: "prog_123", item: { call_id: "call_p", code: "1", fingerprint: "x" } },
  program_output: {
    prefix: "prog_out_",
    own: "prog_out_123",
    item: { call_id: "call_p", result: "1", status: "completed" },
  },
  compaction: { prefix: "cmp_", own: "cmp_1", item: { encrypted_content: "gAAA" } },
  code_interpreter_call: {
    prefix: "ci_",
    own: "ci_1",
    item: { code: "1", container_id: "x", outputs: [], status: "completed" },
  },
  local_shell_call: {
    prefix: "lsh_",
    own: "lsh_1",
    item: { call_id: "call_l", status: "completed", action: { type: "exec", command: ["ls"], env: {} } },
  },
  local_shell_call_output: { prefix: "lsho_", own: "lsh_2", item: { call_id: "call_l", output: "a.txt" } },
  shell_call: {
    prefix: "sh_",
    own: "sh_1",
    item: { call_id: "call_s", status: "completed", action: { commands: ["ls"] }, environment: null },
  },
  shell_call_output: {
    prefix: "sho_",
    own: "sho_0a11752d3fae1343",
    item: {
      call_id: "call_s",
      status: "completed",
      max_output_length: null,
      output: [{ stdout: "a.txt", stderr: "", outcome: { type: "exit", exit_code: 0 } }],
    },
  },
  apply_patch_call: {
    prefix: "apc_",
    own: "apc_08f3d96c",
    item: { call_id: "call_a", status: "completed", operation: { type: "delete_file", path: "a.txt" } },
  },
  apply_patch_call_output: {
    prefix: "apco_",
    own: "apco_1",
    item: { call_id: "call_a", status: "completed", output: "done" },
  },
  mcp_list_tools: { prefix: "mcpl_", own: "mcpl_1", item: { server_label: "s", tools: [] } },
  mcp_approval_request: { prefix: "mcpr_", own: "mcpr_1", item: { server_label: "s", name: "t", arguments: "{}" } },
  mcp_approval_response: {
    prefix: "mcpa_",
    own: "mcpa_1",
    item: { approval_request_id: "mcpr_unknown", approve: true },
  },
  mcp_call: { prefix: "mcp_", own: "mcp_1", item: { server_label: "s", name: "t", arguments: "{}", output: "o" } },
  custom_tool_call: { prefix: "ctc_", own: "ctc_1", item: { call_id: "call_u", name: "t", input: "x" } },
  custom_tool_call_output: { prefix: "ctco_", own: "ctco_1", item: { call_id: "call_u", output: "done" } },
};
const TYPES = Object.entries(ITEMS).map(([type, rest]) => ({ type, ...rest }));

/** What clients of other APIs, and of this one, give their items for ids. None is OpenAI's for any type. */
const FOREIGN = ["call_abc", "toolu_01", "item_7", "25fdab0e-8ec3-413c-8703-7ce5668ec990", "FAKE_ID", "x".repeat(200)];

Deno.test("an item of each of 29 types keeps an id that OpenAI takes, and has a prefix and a uuid for every other", async () => {
  assertEquals(TYPES.length, 29);
  const { id: conversation_id } = await openai.conversations.create();
  const create = async (items: Item[]): Promise<Item[]> =>
    (await openai.conversations.items.create(conversation_id, { items: items as Input[] })).data;

  const owns = TYPES.map(({ type, own, item }) => ({ type, id: own, ...item }));
  assertEquals(await create(owns), owns, "every item is as it came, with its own id");

  const foreign = FOREIGN.flatMap((id) => TYPES.map(({ type, item }) => ({ type, id: `${id}-${type}`, ...item })));
  const other = foreign.map((_, i) => ({ ...foreign[i], id: `fs${i}` }))
    .filter(({ type }) => type !== "file_search_call");
  const tooLong = TYPES.map(({ type, prefix, item }) => ({ type, id: prefix + "x".repeat(64), ...item }));
  const without = TYPES.map(({ type, item }) => ({ type, ...item }));
  for (const given of [foreign, other, tooLong, without]) {
    const stored = await create(given);
    for (const [i, item] of given.entries()) {
      const { id, ...rest } = stored[i];
      const { id: foreignId, ...expected } = item as Item;
      assertMatch(id, new RegExp(`^${ITEMS[item.type as Type].prefix}[0-9a-f]{32}$`), `${item.type} ${foreignId}`);
      assertEquals(rest, expected, item.type);
    }
    // Both ids find it, alone, in a page, and as the end of one.
    for (const i of [0, given.length - 2]) {
      const foreignId = (given[i] as Item).id ?? stored[i].id;
      for (const id of [foreignId, stored[i].id]) {
        assertEquals(await openai.conversations.items.retrieve(id, { conversation_id }) as Item, stored[i]);
        const page = await openai.conversations.items.list(conversation_id, { order: "asc", after: id, limit: 1 });
        assertEquals(page.data as Item[], [stored[i + 1]]);
      }
    }
    // The same again is the same, by its own id.
    if ((given[0] as Item).id) assertEquals(await create(given.slice(0, 3)), stored.slice(0, 3));
  }
  const all = await list(conversation_id, { limit: 100 });
  assertEquals(new Set(all.map(({ id }) => id)).size, all.length);

  // And deletes it.
  const gone = [all.find((item) => item.id.startsWith("rs_0")), "item_7-reasoning"];
  for (const id of [gone[0].id, gone[1]]) {
    await openai.conversations.items.delete(id, { conversation_id });
    await assertRejects(() => openai.conversations.items.retrieve(id, { conversation_id }), OpenAI.NotFoundError);
  }
  assertEquals((await list(conversation_id, { limit: 100 })).length, all.length - 2);

  // An item that was listed and is sent again is a new one.
  const [again] = await create([all[40]]);
  assert(again.id !== all[40].id);
});

Deno.test("the Agents SDK reads every type, with every id", async () => {
  const items = FOREIGN.slice(0, 2).flatMap((id) =>
    TYPES.map(({ type, item }) => ({ type, id: `${id}-${type}`, ...item }))
  );
  const { id } = await openai.conversations.create({ items: items as Input[] });
  const read = await session(id).getItems() as Item[];
  assertEquals(read.length, items.length);
  assertEquals(read.map((item) => item.id), (await list(id, { limit: 100 })).map((item) => item.id));
});

Deno.test("an approval names its request by the id that it is shown with, whatever either was given", async () => {
  const request = { type: "mcp_approval_request", server_label: "s", name: "t", arguments: "{}" };
  for (const given of ["req_1", "mcpr_own", undefined]) {
    const { id } = await openai.conversations.create({
      items: [
        { role: "user", content: "Do it." },
        { ...request, ...(given && { id: given }) },
      ] as Input[],
    });
    const [, asked] = await list(id);
    assertMatch(asked.id, /^mcpr_/);
    // By the id that was shown, and by the one that was given.
    for (const approval_request_id of [asked.id, given ?? asked.id]) {
      const answer = { type: "mcp_approval_response", approval_request_id, approve: true };
      await openai.conversations.items.create(id, { items: [answer] as Input[] });
      assertEquals((await list(id)).at(-1).approval_request_id, asked.id);
    }
    const called = { type: "mcp_call", approval_request_id: asked.id, ...ITEMS.mcp_call.item };
    const { data } = await openai.conversations.items.create(id, { items: [called] as unknown as Input[] });
    assertEquals((data[0] as Item).approval_request_id, asked.id);
    // Request and answer are a pair for a context, too.
    const { body } = await alice.request("GET", `/conversations/${uuidOf(id)}/context?max_tokens=1000`);
    assertEquals(body.messages.slice(0, 3).map(({ item, role }: Item) => item?.type ?? role), [
      "user",
      "mcp_approval_request",
      "mcp_approval_response",
    ]);
  }
});

Deno.test("a local shell's result that names its call by its id still does", async () => {
  const { id } = await openai.conversations.create({
    items: [{ type: "local_shell_call_output", id: "call_l", output: "a.txt" }] as Input[],
  });
  const [{ id: itemId, ...item }] = await list(id);
  assertMatch(itemId, /^lsho_[0-9a-f]{32}$/);
  assertEquals(item, { type: "local_shell_call_output", call_id: "call_l", output: "a.txt" });
});

Deno.test("a result that is a tool's message is of the type of its call", async () => {
  const results: Partial<Record<Type, Item>> = {
    function_call: { type: "function_call_output", output: "out", status: "completed" },
    custom_tool_call: { type: "custom_tool_call_output", output: "out" },
    shell_call: {
      type: "shell_call_output",
      status: "completed",
      max_output_length: null,
      output: [{ stdout: "out", stderr: "", outcome: { type: "exit", exit_code: 0 } }],
    },
    local_shell_call: { type: "local_shell_call_output", output: "out", status: "completed" },
    apply_patch_call: { type: "apply_patch_call_output", output: "out", status: "completed" },
    program: { type: "program_output", result: "out", status: "completed" },
    tool_search_call: { type: "tool_search_output", execution: "client", tools: [], status: "completed" },
    computer_call: {
      type: "computer_call_output",
      output: { type: "computer_screenshot", image_url: "https://example.com/a.png" },
      status: "completed",
    },
  };
  const { id } = await openai.conversations.create();
  const expected: Item[] = [];
  for (const [type, result] of Object.entries(results)) {
    const call_id = `call_${type}`;
    await openai.conversations.items.create(id, { items: [{ type, ...ITEMS[type as Type].item, call_id }] as Input[] });
    const content = type === "computer_call"
      ? { parts: [{ type: "image_url", image_url: { url: "https://example.com/a.png" } }] }
      : { content: "out" };
    const answer = await alice.request("POST", `/conversations/${uuidOf(id)}/messages`, {
      body: { messages: [{ role: "tool", tool_call_id: call_id, item_id: `mine-${type}`, ...content }] },
    });
    assertEquals(answer.status, 201, JSON.stringify(answer.body));
    expected.push({ ...result, call_id });
  }
  // Both calls of a message of its own, answered in the other order, and a result without a call.
  await alice.request("POST", `/conversations/${uuidOf(id)}/messages`, {
    body: {
      messages: [
        {
          role: "assistant",
          content: null,
          tool_calls: [
            { id: "c1", type: "custom", custom: { name: "t", input: "x" } },
            { id: "c2", type: "function", function: { name: "f", arguments: "{}" } },
          ],
        },
        { role: "tool", tool_call_id: "c2", content: "two" },
        { role: "tool", tool_call_id: "c1", content: "one" },
        { role: "tool", tool_call_id: "c3", content: "three" },
        // Behind a call of a function that has the same id, and before one of a custom tool.
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "c1", type: "function", function: { name: "f", arguments: "{}" } }],
        },
        { role: "tool", tool_call_id: "c1", content: "four" },
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "c1", type: "custom", custom: { name: "t", input: "x" } }],
        },
      ],
    },
  });
  expected.push(
    { type: "function_call_output", call_id: "c2", output: "two", status: "completed" },
    { type: "custom_tool_call_output", call_id: "c1", output: "one" },
    { type: "function_call_output", call_id: "c3", output: "three", status: "completed" },
    { type: "function_call_output", call_id: "c1", output: "four", status: "completed" },
  );
  const outputs = (items: Item[]) => items.filter(({ type }) => type.endsWith("_output"));
  const items = await list(id);
  assertEquals(outputs(items).map(({ id: _, ...item }) => item), expected);
  for (const item of outputs(items)) {
    assertMatch(item.id, new RegExp(`^${ITEMS[item.type as Type].prefix}[0-9a-f]{32}$`));
    assertEquals(await openai.conversations.items.retrieve(item.id, { conversation_id: id }), item);
  }
  for (const limit of [1, 2, 3]) {
    assertEquals(await list(id, { limit }), items);
    assertEquals((await list(id, { limit, order: "desc" })).toReversed(), items);
  }
  assertEquals(
    (await openai.conversations.items.retrieve("mine-shell_call", { conversation_id: id }) as Item).type,
    "shell_call_output",
  );
  // With its call gone it is still found by the id that it was shown with.
  const [call, result] = [items.find(({ call_id }) => call_id === "call_custom_tool_call"), outputs(items)[1]];
  await openai.conversations.items.delete(call.id, { conversation_id: id });
  const orphan = await openai.conversations.items.retrieve(result.id, { conversation_id: id }) as Item;
  assertEquals([orphan.type, orphan.output], ["function_call_output", "out"]);
  await openai.conversations.items.delete(result.id, { conversation_id: id });
  await assertRejects(
    () => openai.conversations.items.retrieve(orphan.id, { conversation_id: id }),
    OpenAI.NotFoundError,
  );
});

Deno.test("a chat message's name is there in both APIs, whichever wrote it", async () => {
  const named = [
    { role: "user", name: "ann", content: "Hi" },
    { role: "assistant", name: "bot", content: "Hello" },
    { role: "system", name: "rules", content: "Be kind." },
  ];
  const conversation = await newConversation(alice, {
    messages: [...named, { role: "user", name: "ben", parts: [{ type: "text", text: "Look" }] }],
  });
  const items = await list(openaiId(conversation));
  assertEquals(items.map(({ role, name }) => [role, name]), [
    ["user", "ann"],
    ["assistant", "bot"],
    ["system", "rules"],
    ["user", "ben"],
  ]);
  const { id } = await openai.conversations.create({ items: named as Input[] });
  const { body: { data } } = await alice.request("GET", `/conversations/${uuidOf(id)}/messages`);
  assertEquals(data.map(({ role, name, content }: Item) => ({ role, name, content })), named);
  assertEquals((await list(id)).map(({ name }) => name), ["ann", "bot", "rules"]);
  const { body: context } = await alice.request("GET", `/conversations/${uuidOf(id)}/context?max_tokens=1000`);
  assertEquals(context.messages.map(({ name }: Item) => name).toSorted(), ["ann", "bot", "rules"]);
});

Deno.test("iterating over items while each is deleted comes to its end, in both orders", async () => {
  const { body } = await alice.request("GET", "/conversations?limit=1");
  assert(body);
  for (const order of ["asc", "desc"] as const) {
    for (const limit of [1, 3]) {
      const { id } = await openai.conversations.create({
        items: Array.from({ length: 10 }, (_, i) => ({
          role: "user" as const,
          content: `${i}`,
          // Ids of their own that stay, such that do not, and none.
          ...[{ id: `msg_${uuid()}` }, { id: `foreign-${uuid()}` }, {}][i % 3],
        })) as Input[],
      });
      const seen: string[] = [];
      for await (const item of openai.conversations.items.list(id, { order, limit }) as AsyncIterable<Item>) {
        seen.push(item.content[0].text);
        await openai.conversations.items.delete(item.id, { conversation_id: id });
        assert(seen.length <= 10, "it does not come to an end");
      }
      const all = Array.from({ length: 10 }, (_, i) => `${i}`);
      assertEquals(seen, order === "asc" ? all : all.toReversed());
      assertEquals(await list(id), []);
    }
  }
});

Deno.test("a page goes on behind an item that was deleted: by either id, by either API, in a fork, of a message with several", async () => {
  const conversation = await newConversation(alice, {
    messages: [
      { role: "user", content: "0" },
      { role: "user", content: "1", item_id: "own-1" },
      {
        role: "assistant",
        content: "2",
        tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }],
      },
      { role: "tool", tool_call_id: "c", content: "3" },
      { role: "user", content: "4" },
    ],
  });
  const id = openaiId(conversation);
  const items = await list(id);
  const { body: { data: messages } } = await alice.request("GET", `/conversations/${conversation}/messages`);
  const { body: fork } = await alice.request("POST", `/conversations/${conversation}/fork`, { body: { at: 5 } });
  const behind = async (after: string, conversation = id) =>
    (await list(conversation, { after, limit: 1 })).map(({ id }) => id);
  await assertRejects(() => behind("own-2"), OpenAI.BadRequestError);

  await openai.conversations.items.delete(items[1].id, { conversation_id: id });
  for (const after of ["own-1", items[1].id]) {
    assertEquals(await behind(after), [items[2].id, items[3].id, items[4].id, items[5].id]);
  }
  assertEquals(await behind("own-1", openaiId(fork.id)), await behind("own-1"));
  assertEquals(
    (await list(id, { after: "own-1", order: "desc" })).map(({ id }) => id),
    [items[0].id],
  );

  const { status } = await alice.request("DELETE", `/conversations/${conversation}/messages/${messages[2].id}`);
  assertEquals(status, 204);
  for (const after of [items[2].id, items[3].id]) assertEquals(await behind(after), [items[4].id, items[5].id]);

  // Nobody else's, and none of another conversation.
  const other = openaiId(await newConversation(alice, { messages: [{ role: "user", content: "x" }] }));
  await assertRejects(() => behind("own-1", other), OpenAI.BadRequestError);
  const bob = openaiOf(await signUp());
  await assertRejects(
    async () => await bob.conversations.items.list(id, { after: "own-1" }),
    OpenAI.NotFoundError,
  );
});

/** What people keep in a message of the conversations API: parts of every API there is, and of none. */
const FOREIGN_PARTS: Record<string, unknown[]> = {
  "the AI SDK's UIMessage": [
    { type: "step-start" },
    { type: "reasoning", text: "Hm.", state: "done" },
    { type: "text", text: "I look.", state: "done" },
    { type: "tool-weather", toolCallId: "t1", state: "output-available", input: { city: "Oslo" }, output: { c: 3 } },
    { type: "dynamic-tool", toolName: "d", toolCallId: "t2", state: "output-error", input: {}, errorText: "no" },
    { type: "tool-open", toolCallId: "t3", state: "input-available", input: {} },
    { type: "source-url", sourceId: "s", url: "https://example.com" },
    { type: "data-chart", data: { a: 1 } },
    { type: "file", mediaType: "image/png", url: "https://example.com/a.png" },
  ],
  "the AI SDK's ModelMessage": [
    { type: "text", text: "x" },
    { type: "image", image: "https://example.com/a.png" },
    { type: "file", data: "aGk=", mediaType: "application/pdf", filename: "a.pdf" },
    { type: "tool-call", toolCallId: "t1", toolName: "weather", input: { city: "Oslo" } },
    { type: "tool-result", toolCallId: "t1", toolName: "weather", output: { type: "json", value: { c: 3 } } },
    { type: "tool-approval-request", approvalId: "a", toolCallId: "t1" },
  ],
  "Anthropic's": [
    { type: "thinking", thinking: "Hm.", signature: "x" },
    { type: "redacted_thinking", data: "x" },
    { type: "text", text: "x", cache_control: { type: "ephemeral" } },
    { type: "image", source: { type: "base64", media_type: "image/png", data: "AAAA" } },
    { type: "document", source: { type: "url", url: "https://example.com/a.pdf" }, title: "a.pdf" },
    { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Oslo" } },
    { type: "tool_result", tool_use_id: "toolu_1", content: [{ type: "text", text: "3 degrees" }] },
    { type: "server_tool_use", id: "srv_1", name: "web_search", input: { query: "q" } },
    { type: "web_search_tool_result", tool_use_id: "srv_1", content: [{ type: "web_search_result", url: "u" }] },
  ],
  "Gemini's": [
    { text: "x" },
    { text: "Hm.", thought: true },
    { inlineData: { mimeType: "image/png", data: "AAAA" } },
    { fileData: { fileUri: "gs://a/b.pdf", mimeType: "application/pdf" } },
    { functionCall: { name: "weather", args: { city: "Oslo" } } },
    { functionResponse: { name: "weather", response: { c: 3 } } },
    { executableCode: { language: "PYTHON", code: "1" } },
  ],
  "LangChain's and Bedrock's": [
    { type: "tool_call", id: "l1", name: "weather", args: { city: "Oslo" } },
    { toolUse: { toolUseId: "b1", name: "weather", input: { city: "Oslo" } } },
    { toolResult: { toolUseId: "b1", content: [{ json: { c: 3 } }] } },
    { reasoningContent: { reasoningText: { text: "Hm." } } },
  ],
  "OpenAI's own, anywhere": [
    { type: "text", text: "x" },
    { type: "input_text", text: "x" },
    { type: "output_text", text: "x" },
    { type: "refusal", refusal: "No." },
    { type: "image_url", image_url: { url: "https://example.com/a.png" } },
    { type: "input_image", image_url: "https://example.com/a.png", detail: "auto" },
    { type: "input_file", file_id: "file-1" },
    { type: "file", file: { file_id: "file-1" } },
    { type: "input_audio", input_audio: { data: "AAAA", format: "wav" } },
    { type: "reasoning_text", text: "x" },
    { type: "function_call", call_id: "o1", name: "f", arguments: "{}" },
    { type: "function_call_output", call_id: "o1", output: "x" },
  ],
  "nobody's": [
    { type: "of_tomorrow", nested: [{ a: null }] },
    { type: null },
    { type: 7, text: 7 },
    {},
    { content_type: "image_asset_pointer", asset_pointer: "sediment://x" },
  ],
};

for (const [whose, parts] of Object.entries(FOREIGN_PARTS)) {
  Deno.test(`the Agents SDK reads messages with ${whose} parts, in every role`, async () => {
    const roles = ["user", "assistant", "system", "developer", "tool"];
    const conversation = await newConversation(alice, {
      messages: roles.flatMap((role) => [
        ...parts.map((part) => ({ role, parts: [part] })),
        { role, content: "all of them", parts },
        ...(role === "tool" ? [{ role, parts, tool_call_id: "c1" }] : []),
      ]),
    });
    const id = openaiId(conversation);
    const items = await list(id, { limit: 100 });
    const read = await session(id).getItems() as Item[];
    assertEquals(read.length, items.length);
    assertEquals(read.filter(({ type }) => type === "unknown"), []);
    assertEquals(new Set(items.map((item) => item.id)).size, items.length);
    assert(items.every(({ role }) => role !== "developer"));
    for (const item of items) {
      assertMatch(item.id, new RegExp(`^${ITEMS[item.type as Type].prefix}[0-9a-f]{32}(_\\d+)?$`));
    }
    for (const limit of [1, 7]) assertEquals(await list(id, { limit }), items);
    for (const item of [items[1], items.at(-1)]) {
      assertEquals(await openai.conversations.items.retrieve(item.id, { conversation_id: id }), item);
    }
  });
}

Deno.test("calls and results among parts are items where they stand", async () => {
  const said = (item: Item) =>
    item.type === "message"
      ? `${item.role}: ${item.content.map(({ type, text }: Item) => text ?? type).join()}`
      : item.type === "function_call"
      ? `${item.call_id} = ${item.name}(${item.arguments})`
      : `${item.call_id}: ${typeof item.output === "string" ? item.output : item.output.map(({ text }: Item) => text)}`;
  const shown = async (messages: unknown[]) =>
    (await list(openaiId(await newConversation(alice, { messages })))).map(said);
  assertEquals(
    await shown([
      {
        role: "assistant",
        parts: [
          { type: "text", text: "First" },
          { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Oslo" } },
          { type: "text", text: "and then" },
          { type: "tool_use", id: "toolu_2", name: "time", input: {} },
        ],
      },
      {
        role: "user",
        parts: [
          { type: "tool_result", tool_use_id: "toolu_1", content: "3 degrees" },
          { type: "tool_result", tool_use_id: "toolu_2", content: [{ type: "text", text: "noon" }] },
          { type: "text", text: "Thanks" },
        ],
      },
    ]),
    [
      "assistant: First",
      'toolu_1 = weather({"city": "Oslo"})',
      "assistant: and then",
      "toolu_2 = time({})",
      "toolu_1: 3 degrees",
      "toolu_2: noon",
      "user: Thanks",
    ],
  );
  assertEquals(
    await shown([{
      role: "assistant",
      parts: [
        { type: "step-start" },
        {
          type: "tool-weather",
          toolCallId: "t1",
          state: "output-available",
          input: { city: "Oslo" },
          output: { c: 3 },
        },
        { type: "text", text: "3 degrees" },
      ],
    }]),
    ['t1 = weather({"city": "Oslo"})', 't1: {"c": 3}', "assistant: 3 degrees"],
  );
  assertEquals(
    await shown([
      { role: "assistant", parts: [{ functionCall: { name: "weather", args: { city: "Oslo" } } }] },
      { role: "user", parts: [{ functionResponse: { name: "weather", response: { c: 3 } } }] },
    ]),
    ['call_weather = weather({"city": "Oslo"})', 'call_weather: {"c": 3}'],
  );
  assertEquals(
    await shown([{
      role: "tool",
      parts: [
        {
          type: "tool-result",
          toolCallId: "t1",
          toolName: "weather",
          output: { type: "text", value: "3 degrees" },
        },
        { type: "tool-result", toolCallId: "t2", toolName: "time", output: { type: "text", value: "noon" } },
      ],
    }]),
    ["t1: 3 degrees", "t2: noon"],
  );
});

Deno.test("items that OpenAI's clients cannot read are text, and never end an agent's session", async () => {
  const odd = [
    { type: "message", role: "developer", content: "Be brief." },
    { type: "message", role: "developer", content: [{ type: "input_text", text: "Be brief." }] },
    { type: "message", role: "assistant", content: [{ type: "input_text", text: "a" }, { type: "text", text: "b" }] },
    { type: "message", role: "user", content: [{ type: "output_text", text: "c" }, { type: "tool_result" }] },
    { type: "message", role: "assistant", content: [], output: [{ type: "message", content: [{ type: "x" }] }] },
    { type: "reasoning", summary: null },
    { type: "reasoning", summary: [null, "plain", { type: "summary_text", text: "Hm." }] },
    { type: "reasoning", summary: "plain" },
    { type: "compaction" },
    { type: "compaction", encrypted_content: 7 },
    { type: "compaction", encrypted_content: "x", created_by: null },
    { type: "computer_call", call_id: "c" },
    { type: "computer_call", call_id: "c", action: null, actions: [] },
    { type: "apply_patch_call", call_id: "c" },
    { type: "apply_patch_call", call_id: "c", operation: { type: "rename_file" } },
    { type: "apply_patch_call", call_id: "c", operation: { type: "update_file", path: "a", diff: "", move_to: "" } },
    { type: "function_call_output", call_id: "c", output: [{ type: "input_text", text: "a" }, { type: "text" }, null] },
    { type: "function_call_output", call_id: "c", output: [{ type: "output_text", text: "a" }] },
    { type: "custom_tool_call_output", call_id: "c", output: [{ type: "message", content: [{}] }] },
    { type: "from_the_future", output: [{ type: "message", role: "developer", content: [{ type: "x" }] }] },
    { type: "from_the_future", output: [{ type: "reasoning" }, { type: "computer_call" }, { type: "message" }] },
    { type: "shell_call_output", call_id: "c", output: [null, {}] },
    { type: "tool_search_output", tools: [null, { type: "namespace", tools: [null] }] },
  ];
  const { id } = await openai.conversations.create({ items: odd as unknown as Input[] });
  const items = await list(id, { limit: 100 });
  assertEquals(items.length, odd.length);
  const read = await session(id).getItems() as Item[];
  assert(read.length >= odd.length);
  assertEquals(items.slice(0, 4).map(({ role, content }) => [role, content.map(({ text }: Item) => text)]), [
    ["system", ["Be brief."]],
    ["system", ["Be brief."]],
    ["assistant", ["a", "b"]],
    ["user", ["c", "[tool_result]"]],
  ]);
  // The row keeps what was said, by whom.
  const { body: { data } } = await alice.request("GET", `/conversations/${uuidOf(id)}/messages`);
  assertEquals(data.slice(0, 2).map(({ role }: Item) => role), ["developer", "developer"]);

  // Plain REST may store anything as an item.
  const rows = [
    { type: "message", role: "tool", content: [null, 7, "x"] },
    { type: "message", content: "x" },
    {},
    {
      type: "message",
      role: "user",
      content: [null, "x", 7],
    },
    { type: "message", role: "system", content: [null] },
    { role: "critic", content: [{ text: "x" }] },
  ];
  const conversation = await newConversation(alice);
  for (const item of rows) {
    const { error } = await alice.client.from("conversation_messages").insert({
      conversation_id: conversation,
      user_id: alice.id,
      type: "odd",
      item,
    });
    assertEquals(error, null);
  }
  assertEquals((await session(openaiId(conversation)).getItems()).length, rows.length);
});

Deno.test("whatever plain REST has stored, the Agents SDK reads it, and every page and item says the same", async () => {
  let seed = crypto.getRandomValues(new Uint32Array(1))[0];
  console.log(`seed ${seed}`);
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const one = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)];
  const partTypes = Object.values(FOREIGN_PARTS).flat().map((part) => (part as Item).type);
  const names = [
    ...["type", "text", "role", "content", "output", "summary", "action", "actions", "operation", "move_to", "call_id"],
    ...["encrypted_content", "created_by", "name", "arguments", "input", "image_url", "url", "source", "data", "tools"],
    ...["functionCall", "functionResponse", "toolUse", "toolResult", "toolCallId", "state", "tool_use_id", "value"],
  ];
  const value = (depth: number): unknown => {
    if (depth === 0 || random() < 0.4) {
      return one([null, true, 7, "", "x", "https://example.com", "output-available", one(partTypes), one(TYPES).type]);
    }
    return random() < 0.4 ? Array.from({ length: Math.floor(random() * 4) }, () => value(depth - 1)) : object(depth);
  };
  const object = (depth: number): Item => ({
    ...Object.fromEntries(Array.from({ length: 1 + Math.floor(random() * 5) }, () => [one(names), value(depth - 1)])),
    ...(random() < 0.8 && { type: random() < 0.5 ? one(partTypes) : one(TYPES).type }),
    ...(random() < 0.3 && { content: [value(depth - 1)] }),
    ...(random() < 0.3 && { output: [object(depth - 1 || 1)] }),
  });
  const maybe = (chance: number, fields: () => Item) => random() < chance ? fields() : {};
  for (let n = 0; n < 4; n++) {
    const conversation = await newConversation(alice);
    for (let i = 0; i < 15; i++) {
      const row = {
        conversation_id: conversation,
        user_id: alice.id,
        role: one(["user", "assistant", "system", "developer", "tool", "function"]),
        content: one(["", "x"]),
        ...maybe(0.5, () => ({ item: object(3) })),
        ...maybe(0.3, () => ({ type: one(TYPES).type })),
        ...maybe(0.6, () => ({ parts: Array.from({ length: 4 }, () => object(3)) })),
        ...maybe(0.2, () => ({
          tool_calls: [{ id: "c", type: one(["function", "custom"]), function: value(1), custom: value(1) }],
        })),
        ...maybe(0.4, () => ({ tool_call_id: "c" })),
        ...maybe(0.4, () => ({ item_id: `${one(["fc_", "msg_", "call_"])}${i}` })),
        ...maybe(0.3, () => ({ name: one(["n", ""]) })),
      };
      const { error } = await alice.client.from("conversation_messages").insert(row);
      assertEquals(error, null, JSON.stringify(row));
    }
    const id = openaiId(conversation);
    const items = await list(id, { limit: 100 });
    assertEquals(new Set(items.map((item) => item.id)).size, items.length);
    assertEquals((await list(id, { order: "desc", limit: 7 })).toReversed(), items);
    for (const item of items.slice(0, 5)) {
      assertEquals(await openai.conversations.items.retrieve(item.id, { conversation_id: id }), item);
    }
    assert((await session(id).getItems()).length > 0);
  }
});

Deno.test("an imported chat of ChatGPT is read by the Agents SDK, whatever it holds", async () => {
  const contents: [string, unknown][] = [
    ["user", {
      content_type: "multimodal_text",
      parts: ["Look", { content_type: "image_asset_pointer", asset_pointer: "sediment://x" }],
    }],
    ["user", { content_type: "user_editable_context", user_profile: "p", user_instructions: "i" }],
    ["assistant", {
      content_type: "multimodal_text",
      parts: [{ content_type: "audio_transcription", text: "Hi", direction: "out" }],
    }],
    ["assistant", { content_type: "thoughts", thoughts: [{ summary: "s", content: "Hm." }] }],
    ["assistant", { content_type: "code", language: "python", text: "1" }],
    ["tool", { content_type: "execution_output", text: "1" }],
    ["tool", { content_type: "tether_quote", url: "u", domain: "d", text: "q", title: "t" }],
    ["tool", {
      content_type: "multimodal_text",
      parts: [{ content_type: "image_asset_pointer", asset_pointer: "sediment://y" }],
    }],
    ["assistant", { content_type: "of_tomorrow", anything: [1] }],
  ];
  const mapping: Record<string, unknown> = { root: { id: "root", message: null, parent: null, children: ["n0"] } };
  for (const [i, [role, content]] of contents.entries()) {
    mapping[`n${i}`] = {
      id: `n${i}`,
      parent: i === 0 ? "root" : `n${i - 1}`,
      children: i + 1 < contents.length ? [`n${i + 1}`] : [],
      message: {
        id: `n${i}`,
        author: { role, name: role === "tool" ? "web" : null, metadata: {} },
        create_time: 1767225601,
        recipient: "all",
        content,
        metadata: {},
      },
    };
  }
  const id = uuid();
  const chat = {
    id,
    conversation_id: id,
    title: "x",
    create_time: 1767225600,
    update_time: 1767225700,
    mapping,
    current_node: `n${contents.length - 1}`,
  };
  const { status, body } = await alice.request("POST", "/conversations/import", { body: [chat] });
  assertEquals(status, 200, JSON.stringify(body));
  const conversation = openaiId(body.conversations[0].new_id);
  const read = await session(conversation).getItems() as Item[];
  assert(read.length >= contents.length - 2);
  assertEquals(read.filter(({ type }) => type === "unknown"), []);
});

Deno.test("the client asks once where asking again cannot help, and again where it can", async () => {
  let requests: [string | null, number][] = [];
  const client = new OpenAI({
    baseURL,
    apiKey: alice.token,
    maxRetries: 2,
    fetch: async (...args) => {
      const response = await fetch(...args);
      requests.push([response.headers.get("x-should-retry"), response.status]);
      return response;
    },
  });
  const { id } = await client.conversations.create({ items: [{ id: "msg_x", role: "user", content: "a" }] as Input[] });
  assertEquals(requests.map(([retry]) => retry), [null], "what went well says nothing of it");
  const headers = { "Idempotency-Key": uuid() };
  await client.conversations.items.create(id, { items: [{ role: "user", content: "a" }] }, { headers });
  const once: Record<string, () => Promise<unknown>> = {
    item_conflict: () =>
      client.conversations.items.create(id, { items: [{ id: "msg_x", role: "user", content: "b" }] as Input[] }),
    idempotency_mismatch: () =>
      client.conversations.items.create(id, { items: [{ role: "user", content: "b" }] }, { headers }),
    item_not_found: () => client.conversations.items.retrieve("msg_none", { conversation_id: id }),
    conversation_not_found: () => client.conversations.retrieve("conv_none"),
    invalid_value: async () => await client.conversations.items.list(id, { after: "msg_none" }),
  };
  for (const [code, call] of Object.entries(once)) {
    requests = [];
    const error = await assertRejects(call, OpenAI.APIError) as InstanceType<typeof OpenAI.APIError>;
    assertEquals([error.code, requests.length, requests[0][0]], [code, 1, "false"]);
  }
});
