// The official `openai` package, unmodified, as the client.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { baseURL, openaiFor, openaiOf } from "../support/openai.ts";
import {
  apiUrl,
  backend,
  connect,
  newConversation,
  publishableKey,
  request,
  secretKey,
  signUp,
  uuid,
} from "../support/stack.ts";

const alice = await signUp();
const bob = await signUp();
const openai = openaiOf(alice);

type Input = OpenAI.Conversations.Items.ItemCreateParams["items"][number];

const uuidOf = (id: string) => id.slice("conv_".length).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
const user = (content: string): Input => ({ role: "user", content });
const call = (n: number): Input => ({
  type: "function_call",
  call_id: `call_${n}`,
  name: "weather",
  arguments: `{"city":${n}}`,
});
const output = (n: number): Input => ({ type: "function_call_output", call_id: `call_${n}`, output: `${n} degrees` });

/** One of each kind that the Responses API knows, and one that nobody knows. */
const ITEMS = [
  {
    type: "message",
    role: "user",
    content: [{ type: "input_text", text: "Look." }, {
      type: "input_image",
      detail: "auto",
      image_url: "https://example.com/cat.png",
    }, { type: "input_file", file_id: "file-1" }],
  },
  { type: "message", role: "developer", content: [{ type: "input_text", text: "Be brief." }] },
  { id: "rs_1", type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }], encrypted_content: "gAAA" },
  { type: "function_call", call_id: "c1", name: "f", arguments: "{}", status: "completed" },
  { type: "function_call_output", call_id: "c1", output: [{ type: "input_text", text: "out" }], status: "completed" },
  { id: "fs_1", type: "file_search_call", queries: ["q"], status: "completed", results: [{ text: "r", score: 0.5 }] },
  { id: "ws_1", type: "web_search_call", status: "completed", action: { type: "search", query: "q" } },
  { id: "cu_1", type: "computer_call", call_id: "c2", status: "completed", action: { type: "wait" } },
  { type: "computer_call_output", call_id: "c2", output: { type: "computer_screenshot", image_url: "data:," } },
  { id: "ci_1", type: "code_interpreter_call", code: "1", container_id: "x", outputs: [], status: "completed" },
  { id: "ig_1", type: "image_generation_call", result: "aGk=", status: "completed" },
  { id: "mcpl_1", type: "mcp_list_tools", server_label: "s", tools: [{ name: "t", input_schema: {} }] },
  { id: "mcp_1", type: "mcp_call", server_label: "s", name: "t", arguments: "{}", output: "o" },
  { id: "mcpr_1", type: "mcp_approval_request", server_label: "s", name: "t", arguments: "{}" },
  { type: "mcp_approval_response", approval_request_id: "mcpr_1", approve: true },
  { type: "custom_tool_call", call_id: "c3", name: "t", input: "free text" },
  { type: "custom_tool_call_output", call_id: "c3", output: "done" },
  {
    type: "message",
    role: "assistant",
    status: "completed",
    phase: "final_answer",
    content: [{
      type: "output_text",
      text: "A cat.",
      annotations: [{ type: "file_citation", file_id: "f", index: 1 }],
      logprobs: [],
    }],
  },
  { type: "message", role: "assistant", status: "incomplete", content: [{ type: "refusal", refusal: "No." }] },
  { type: "from_the_future", anything: { nested: [1, null, "x"] }, content: { not: "a list" } },
] as unknown as Input[];

// deno-lint-ignore no-explicit-any -- the SDK's union of items has no common shape beyond the type
const list = async (conversation: string, query = {}, client = openai): Promise<any[]> => {
  const items = [];
  for await (const item of client.conversations.items.list(conversation, { order: "asc", ...query })) items.push(item);
  return items;
};

Deno.test("a conversation: created, retrieved, updated, deleted, in OpenAI's shapes", async () => {
  const before = Math.floor(Date.now() / 1000);
  const { data: created, response } = await openai.conversations.create({ metadata: { topic: "demo" } }).withResponse();
  assertEquals(response.status, 200);
  assertMatch(created.id, /^conv_[0-9a-f]{32}$/);
  assert(Number.isInteger(created.created_at) && created.created_at >= before - 1);
  assertEquals(created, {
    id: created.id,
    object: "conversation",
    created_at: created.created_at,
    metadata: { topic: "demo" },
  });
  assertEquals(await openai.conversations.retrieve(created.id), created);

  const updated = await openai.conversations.update(created.id, { metadata: { other: "x" } });
  assertEquals(updated, { ...created, metadata: { other: "x" } });
  assertEquals((await openai.conversations.update(created.id, { metadata: null })).metadata, {});

  const deleted = await openai.conversations.delete(created.id);
  assertEquals(deleted, { id: created.id, object: "conversation.deleted", deleted: true });
  await assertRejects(() => openai.conversations.retrieve(created.id), OpenAI.NotFoundError);
  assertEquals((await openai.conversations.create()).metadata, {}, "every field is optional");
});

Deno.test("easy messages come back as OpenAI has them: type, content parts by role, id and status", async () => {
  const { id } = await openai.conversations.create({
    items: [user("Hi"), { role: "assistant", content: "Hello" }, { role: "system", content: "s" }, {
      role: "developer",
      content: [{ type: "input_text", text: "d" }],
    }],
  });
  const items = await list(id);
  for (const item of items) assertMatch(item.id, /^msg_[0-9a-f]{32}$/);
  const message = (role: string, part: object) => ({ type: "message", role, status: "completed", content: [part] });
  assertEquals(items.map(({ id: _, ...item }) => item), [
    message("user", { type: "input_text", text: "Hi" }),
    message("assistant", { type: "output_text", text: "Hello", annotations: [], logprobs: [] }),
    message("system", { type: "input_text", text: "s" }),
    // The Agents SDK throws on every other role; the row keeps it.
    message("system", { type: "input_text", text: "d" }),
  ]);
  const { body } = await alice.request("GET", `/conversations/${uuidOf(id)}/messages`);
  assertEquals(body.data.map(({ role }: { role: string }) => role), ["user", "assistant", "system", "developer"]);
});

Deno.test("every type of item comes back as it was given", async () => {
  const { id } = await openai.conversations.create();
  const created = await openai.conversations.items.create(id, { items: ITEMS });
  assertEquals([created.object, created.has_more, created.data.length], ["list", false, ITEMS.length]);
  assertEquals([created.first_id, created.last_id], [created.data[0].id, created.data.at(-1)!.id]);
  const stored = await list(id);
  assertEquals(stored, created.data);
  for (const [i, given] of ITEMS.entries()) {
    assert(stored[i].id);
    // What was given is there, and nothing beside it but what OpenAI adds: an id, and the status of messages and calls.
    const { id: _, status = "completed", ...expected } = given as unknown as Record<string, unknown>;
    const { id: itemId, ...rest } = stored[i];
    if (expected.role === "developer") expected.role = "system";
    assertEquals(rest, { ...expected, ...("status" in rest && { status }) }, expected.type as string);
    if ((given as { id?: string }).id) assertEquals(itemId, (given as { id?: string }).id);
    assertEquals(await openai.conversations.items.retrieve(itemId, { conversation_id: id }), stored[i]);
  }
  assertEquals(new Set(stored.map((item) => item.id)).size, ITEMS.length);
});

Deno.test("no item is an empty message for those who read it without OpenAI's API", async () => {
  const { id } = await openai.conversations.create({ items: ITEMS as Input[] });
  const { body } = await alice.request("GET", `/conversations/${uuidOf(id)}/messages?limit=1000`);
  assertEquals(body.data.length, ITEMS.length);
  for (const { type, content, parts, tool_calls, item } of body.data) {
    assert(content ?? parts ?? tool_calls ?? (item as { type: string } | null)?.type, type);
  }
});

Deno.test("generated ids have the prefix of their type: OpenAI refuses others as input", async () => {
  const { id } = await openai.conversations.create({
    items: [call(1), output(1), { type: "web_search_call", status: "completed" } as Input, user("x")],
  });
  const prefixes = (await list(id)).map((item) => item.id.replace(/[0-9a-f]{32}$/, ""));
  assertEquals(prefixes, ["fc_", "fco_", "ws_", "msg_"]);
});

Deno.test("32 items in one create, and all of them or none", async () => {
  const { id } = await openai.conversations.create();
  const turn = [
    user("weather?"),
    ...Array.from({ length: 15 }, (_, n) => call(n)),
    ...Array.from({ length: 15 }, (_, n) => output(n)),
    { role: "assistant", content: "Mild." } as Input,
  ];
  assertEquals((await openai.conversations.items.create(id, { items: turn })).data.length, 32);
  const bad = [user("first"), { type: "message", role: "nobody", content: "x" } as unknown as Input];
  const error = await assertRejects(
    () => openai.conversations.items.create(id, { items: bad }),
    OpenAI.BadRequestError,
  );
  assertEquals([error.param, error.code, error.type], ["items[1].role", "invalid_value", "invalid_request_error"]);
  assertEquals((await list(id)).length, 32);
  await assertRejects(() => openai.conversations.create({ items: bad }), OpenAI.BadRequestError);
});

Deno.test("deleting an item answers the conversation", async () => {
  const conversation = await openai.conversations.create({ items: [user("1"), user("2")], metadata: { a: "b" } });
  const [first, second] = await list(conversation.id);
  assertEquals(await openai.conversations.items.delete(first.id, { conversation_id: conversation.id }), conversation);
  assertEquals(await list(conversation.id), [second]);
  const again = await assertRejects(
    () => openai.conversations.items.delete(first.id, { conversation_id: conversation.id }),
    OpenAI.NotFoundError,
  );
  assertEquals(again.code, "item_not_found");
});

Deno.test("pages: newest first, 20 items, first_id, last_id and has_more on each", async () => {
  const { id } = await openai.conversations.create({ items: Array.from({ length: 25 }, (_, i) => user(`${i}`)) });
  const get = async (query: string) =>
    (await alice.request("GET", `/openai/v1/conversations/${id}/items${query}`)).body;
  // deno-lint-ignore no-explicit-any -- the body of any answer
  const texts = (page: any) => page.data.map((item: any) => Number(item.content[0].text));
  const first = await get("");
  assertEquals(texts(first), Array.from({ length: 20 }, (_, i) => 24 - i));
  assertEquals([first.object, first.has_more], ["list", true]);
  assertEquals([first.first_id, first.last_id], [first.data[0].id, first.data[19].id]);
  const second = await get(`?after=${first.last_id}`);
  assertEquals([texts(second), second.has_more], [[4, 3, 2, 1, 0], false]);
  const end = await get(`?after=${second.last_id}`);
  assertEquals(end, { object: "list", data: [], first_id: null, last_id: null, has_more: false });
  const exact = await get(`?order=asc&limit=5&after=${first.last_id}`);
  assertEquals([texts(exact), exact.has_more], [[6, 7, 8, 9, 10], true]);
  assertEquals((await get("?limit=25")).has_more, false);
});

/** 1,050 items, a call and its output among every ten. */
const LONG = Array.from(
  { length: 1050 },
  (_, i) => i % 10 === 1 ? call(i) : i % 10 === 2 ? output(i - 1) : user(`${i}`),
);
for (const limit of [1, 20, 100]) {
  Deno.test(`the SDK's auto-pagination yields 1,050 distinct items in order, in both orders, ${limit} at a time`, async () => {
    const { id } = await openai.conversations.create({ items: LONG.slice(0, 1000) });
    await openai.conversations.items.create(id, { items: LONG.slice(1000) });
    const [asc, desc] = await Promise.all([list(id, { limit }), list(id, { limit, order: "desc" })]);
    assertEquals([asc.length, new Set(asc.map((item) => item.id)).size], [1050, 1050]);
    assertEquals(desc.toReversed(), asc);
    assertEquals(
      asc.map((item) => item.call_id ? `${item.type} ${item.call_id}` : item.content[0].text),
      // deno-lint-ignore no-explicit-any -- the SDK's union of items
      LONG.map((item: any) => item.call_id ? `${item.type} ${item.call_id}` : item.content),
    );
  });
}

Deno.test("include and include[] are taken, once or many times", async () => {
  const { id } = await openai.conversations.create({ items: [user("x")] });
  const include: OpenAI.Responses.ResponseIncludable[] = [
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
  ];
  const [item] = await list(id, { include });
  await openai.conversations.items.retrieve(item.id, { conversation_id: id, include });
  await openai.conversations.items.create(id, { items: [user("y")], include });
  const path = `/openai/v1/conversations/${id}/items`;
  for (const query of ["?include=a&include=b", "?include[]=a&include[]=b", "?include=a", "?include[]=a"]) {
    assertEquals((await alice.request("GET", path + query)).status, 200, query);
  }
  const { status, body } = await alice.request("GET", `${path}?includes=a`);
  assertEquals([status, body.error.code, body.error.param], [400, "unknown_parameter", "includes"]);
});

Deno.test("an Idempotency-Key stores once and answers as the first time", async () => {
  const headers = { "Idempotency-Key": uuid() };
  const conversation = await openai.conversations.create({ items: [user("1")] }, { headers });
  assertEquals(await openai.conversations.create({ items: [user("1")] }, { headers }), conversation);
  const mismatch = await assertRejects(
    () => openai.conversations.create({ items: [user("2")] }, { headers }),
    OpenAI.ConflictError,
  );
  assertEquals(mismatch.code, "idempotency_mismatch");

  const items = [user("a"), { ...call(1), id: "fc_mine" } as Input];
  const first = await openai.conversations.items.create(conversation.id, { items }, { headers });
  const { data: again, response } = await openai.conversations.items
    .create(conversation.id, { items }, { headers }).withResponse();
  assertEquals(again, first);
  assertEquals(response.headers.get("idempotent-replayed"), "true");
  assertEquals((await list(conversation.id)).length, 3);
});

Deno.test("the SDK's own retry stores once, when it is told the name of the header", async () => {
  class Client extends OpenAI {
    protected override idempotencyHeader = "Idempotency-Key";
  }
  const { id } = await openai.conversations.create();
  let requests = 0;
  const client = new Client({
    baseURL,
    apiKey: alice.token,
    maxRetries: 1,
    // The first answer is lost on its way.
    fetch: async (...args) => {
      const response = await fetch(...args);
      if (++requests > 1) return response;
      await response.body?.cancel();
      throw new TypeError("connection reset");
    },
  });
  const { data } = await client.conversations.items.create(id, { items: [user("once")] });
  assertEquals([requests, await list(id)], [2, data]);
});

Deno.test("a page of large items ends early and says that there is more", async () => {
  const { id } = await openai.conversations.create();
  const image_url = `data:image/png;base64,${"A".repeat(3 * 1024 * 1024)}`;
  for (let i = 0; i < 3; i++) {
    const content = [{ type: "input_image", detail: "auto", image_url }];
    await openai.conversations.items.create(id, { items: [{ role: "user", content }] as Input[] });
  }
  const page = await openai.conversations.items.list(id);
  assertEquals([page.data.length, page.has_more], [2, true]);
  assertEquals((await list(id)).length, 3);
});

Deno.test("an item's own id stands for it for ever", async () => {
  const { id } = await openai.conversations.create();
  const item = { id: "msg_mine", type: "message", role: "user", content: [{ type: "input_text", text: "x" }] } as Input;
  const first = await openai.conversations.items.create(id, { items: [item] });
  assertEquals(await openai.conversations.items.create(id, { items: [item] }), first);
  const other = { ...item, content: [{ type: "input_text", text: "y" }] } as Input;
  const error = await assertRejects(
    () => openai.conversations.items.create(id, { items: [other] }),
    OpenAI.ConflictError,
  );
  assertEquals(error.code, "item_conflict");
  assertEquals((await list(id)).map((item) => item.id), ["msg_mine"]);
});

Deno.test("every error has OpenAI's body, a request id and CORS headers", async () => {
  const { id } = await openai.conversations.create();
  const foreign = (await openaiOf(bob).conversations.create({ items: [user("x")] })).id;
  const v1 = "/openai/v1";
  const json = { "content-type": "application/json" };
  const metadata = (pairs: Record<string, unknown>) => ({ metadata: pairs });
  const many = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, ""]));
  const cases: [method: string, path: string, body: unknown, status: number, code: string, param: string | null][] = [
    ["GET", `/conversations/conv_${"0".repeat(32)}`, undefined, 404, "conversation_not_found", null],
    ["GET", `/conversations/${foreign}`, undefined, 404, "conversation_not_found", null],
    [
      "GET",
      "/conversations/conv_689667905b048191b4740501625afd940c7533ace33a2dab",
      undefined,
      404,
      "conversation_not_found",
      null,
    ],
    ["GET", "/conversations/abc", undefined, 400, "invalid_value", "conversation_id"],
    ["GET", `/conversations/${id}/items/msg_1`, undefined, 404, "item_not_found", null],
    ["GET", `/conversations/${id}/items/%00`, undefined, 400, "invalid_value", "item_id"],
    ["GET", `/conversations/${id}/items?limit=101`, undefined, 400, "invalid_value", "limit"],
    ["GET", `/conversations/${id}/items?limit=0`, undefined, 400, "invalid_value", "limit"],
    ["GET", `/conversations/${id}/items?order=up`, undefined, 400, "invalid_value", "order"],
    ["GET", `/conversations/${id}/items?after=msg_1`, undefined, 400, "invalid_value", null],
    ["POST", "/conversations", { title: "x" }, 400, "unknown_parameter", "title"],
    ["POST", "/conversations", "{", 400, "invalid_json", null],
    ["POST", "/conversations", metadata(many), 400, "invalid_value", "metadata"],
    ["POST", "/conversations", metadata({ ["k".repeat(65)]: "" }), 400, "invalid_value", `metadata.${"k".repeat(65)}`],
    ["POST", "/conversations", metadata({ k: "v".repeat(513) }), 400, "invalid_value", "metadata.k"],
    ["POST", "/conversations", metadata({ k: 1 }), 400, "invalid_value", "metadata.k"],
    ["POST", `/conversations/${id}`, {}, 400, "missing_required_parameter", "metadata"],
    ["POST", `/conversations/${id}/items`, {}, 400, "missing_required_parameter", "items"],
    ["POST", `/conversations/${id}/items`, { items: [] }, 400, "invalid_value", "items"],
    ["POST", `/conversations/${id}/items`, { items: ["x"] }, 400, "invalid_value", "items[0]"],
    [
      "POST",
      `/conversations/${id}/items`,
      { items: [{ type: "item_reference", id: "x" }] },
      400,
      "invalid_value",
      "items[0].type",
    ],
    [
      "POST",
      `/conversations/${id}/items`,
      { items: [{ type: "function_call_output", call_id: "\0", output: "x" }] },
      400,
      "invalid_value",
      "items[0].call_id",
    ],
    [
      "POST",
      `/conversations/${id}/items`,
      { items: [{ id: "a/b", ...user("x") }] },
      400,
      "invalid_value",
      "items[0].id",
    ],
    ["POST", "/conversations", JSON.stringify({ x: "x".repeat(4 * 1024 * 1024) }), 413, "payload_too_large", null],
    ["PATCH", `/conversations/${id}`, {}, 405, "method_not_supported", null],
    ["GET", "/conversations", undefined, 405, "method_not_supported", null],
    ["POST", "/responses", {}, 404, "not_found", null],
  ];
  for (const [method, path, body, status, code, param] of cases) {
    const answer = await alice.request(method, v1 + path, { body, headers: body === undefined ? {} : json });
    const name = `${method} ${path} ${JSON.stringify(answer.body)}`;
    assertEquals([answer.status, Object.keys(answer.body)], [status, ["error"]], name);
    assertEquals(Object.keys(answer.body.error), ["message", "type", "param", "code"], name);
    const { type, ...error } = answer.body.error;
    assertEquals([type, error.code, error.param], ["invalid_request_error", code, param], name);
    assert(answer.headers.get("x-request-id"), name);
    assertEquals(answer.headers.get("access-control-allow-origin"), "*", name);
  }
  const text = await alice.request("POST", `${v1}/conversations`, {
    body: "x",
    headers: { "content-type": "text/plain" },
  });
  assertEquals([text.status, text.body.error.code], [415, "unsupported_media_type"]);
  for (const authorization of ["Bearer nonsense", "Bearer sb_secret_wrong", `Bearer ${publishableKey}`, ""]) {
    const { status, body } = await request("GET", `${v1}/conversations/${id}`, { headers: { authorization } });
    assertEquals([status, body.error.code, body.error.type], [401, "invalid_api_key", "invalid_request_error"]);
  }
  const unknown = await openai.conversations.retrieve("conv_none").catch((error) => error);
  assert(unknown instanceof OpenAI.NotFoundError && unknown.requestID);
});

Deno.test("a secret key as Bearer acts for the user of x-user-id, and only with one", async () => {
  const client = openaiFor(alice.id);
  const { id } = await client.conversations.create({ items: [user("from the backend")] });
  assertEquals((await list(id)).length, 1, "it is Alice's");
  assertEquals((await list(id, {}, client)).length, 1);
  const nobody = new OpenAI({ baseURL, apiKey: secretKey, maxRetries: 0 });
  const error = await assertRejects(() => nobody.conversations.create(), OpenAI.BadRequestError);
  assertEquals(error.code, "user_id_required");
  await assertRejects(() => openaiFor(bob.id).conversations.retrieve(id), OpenAI.NotFoundError);
  await assertRejects(() => openaiFor(uuid()).conversations.create(), OpenAI.NotFoundError);
  // A user cannot become another one by the header.
  const asBob = new OpenAI({ baseURL, apiKey: alice.token, defaultHeaders: { "x-user-id": bob.id }, maxRetries: 0 });
  assertEquals((await asBob.conversations.retrieve(id)).id, id);
});

Deno.test("what the SDK writes is loaded, found and fitted by the conversations API", async () => {
  const { id } = await openai.conversations.create({
    items: [
      { role: "system", content: "You know the weather." },
      user("Is it raining in Reykjavik?"),
      { type: "function_call", call_id: "c1", name: "weather", arguments: '{"city":"Reykjavik"}' },
      { type: "function_call_output", call_id: "c1", output: "drizzle" },
      { role: "assistant", content: "A little." },
    ],
  });
  const path = `/conversations/${uuidOf(id)}`;
  const { body: { data: messages } } = await alice.request("GET", `${path}/messages`);
  // deno-lint-ignore no-explicit-any -- a message of any shape
  const shown = messages.map(({ role, content, tool_calls, tool_call_id }: any) => ({
    role,
    content,
    tool_calls,
    tool_call_id,
  }));
  const tool_calls = [{ id: "c1", type: "function", function: { name: "weather", arguments: '{"city":"Reykjavik"}' } }];
  const plain = { tool_calls: null, tool_call_id: null };
  assertEquals(shown, [
    { role: "system", content: "You know the weather.", ...plain },
    { role: "user", content: "Is it raining in Reykjavik?", ...plain },
    { role: "assistant", content: null, tool_calls, tool_call_id: null },
    { role: "tool", content: "drizzle", tool_calls: null, tool_call_id: "c1" },
    { role: "assistant", content: "A little.", ...plain },
  ]);
  const { body: found } = await alice.request("GET", "/conversations/search?q=raining+reykjavik");
  assertEquals(found.data.map((hit: { conversation_id: string }) => hit.conversation_id), [uuidOf(id)]);
  const { body: context } = await alice.request("GET", `${path}/context`);
  assertEquals(context.messages.length, 5);
  assertEquals(context.messages[2].tool_calls, tool_calls);
});

Deno.test("what the conversations API writes, the SDK reads: one message, or several items of it", async () => {
  const tool_calls = [1, 2].map((n) => ({
    id: `c${n}`,
    type: "function",
    function: { name: "f", arguments: `{"n":${n}}` },
  }));
  const conversation = await newConversation(alice, {
    metadata: { app: "native" },
    messages: [
      { role: "user", content: "Both, please." },
      { role: "assistant", content: "One moment.", tool_calls },
      { role: "tool", content: "one", tool_call_id: "c1" },
      { role: "tool", content: "two", tool_call_id: "c2", item_id: "mine" },
      {
        role: "user",
        parts: [{ type: "text", text: "And this?" }, { type: "image_url", image_url: { url: "data:," } }],
      },
    ],
  });
  const id = `conv_${conversation.replaceAll("-", "")}`;
  assertEquals((await openai.conversations.retrieve(id)).metadata, { app: "native" });
  const items = await list(id);
  const status = "completed";
  assertEquals(items.map(({ id: _, ...item }) => item), [
    { type: "message", role: "user", status, content: [{ type: "input_text", text: "Both, please." }] },
    {
      type: "message",
      role: "assistant",
      status,
      content: [{ type: "output_text", text: "One moment.", annotations: [], logprobs: [] }],
    },
    { type: "function_call", call_id: "c1", name: "f", arguments: '{"n":1}', status },
    { type: "function_call", call_id: "c2", name: "f", arguments: '{"n":2}', status },
    { type: "function_call_output", call_id: "c1", output: "one", status },
    { type: "function_call_output", call_id: "c2", output: "two", status },
    {
      type: "message",
      role: "user",
      status,
      content: [
        { type: "input_text", text: "And this?" },
        { type: "input_image", image_url: "data:,", detail: "auto" },
      ],
    },
  ]);
  assertMatch(items[5].id, /^fco_[0-9a-f]{32}$/);
  assertEquals(await openai.conversations.items.retrieve("mine", { conversation_id: id }), items[5]);
  for (const item of items) {
    assertEquals(await openai.conversations.items.retrieve(item.id, { conversation_id: id }), item);
  }
  for (const limit of [1, 2, 3, 4]) {
    assertEquals(await list(id, { limit }), items);
    assertEquals((await list(id, { limit, order: "desc" })).toReversed(), items);
  }
  // A message is deleted whole, with every item that it shows.
  await openai.conversations.items.delete(items[2].id, { conversation_id: id });
  assertEquals(await list(id), [items[0], ...items.slice(4)]);
});

Deno.test("both write one conversation in turns, and both read all of it", async () => {
  const { id } = await openai.conversations.create({ items: [user("one"), call(1)] });
  const path = `/conversations/${uuidOf(id)}/messages`;
  await alice.request("POST", path, { body: { messages: [{ role: "tool", tool_call_id: "call_1", content: "two" }] } });
  await openai.conversations.items.create(id, { items: [{ role: "assistant", content: "three" }] });
  await alice.request("POST", path, { body: { messages: [{ role: "user", content: "four" }] } });
  const said = ["one", "weather", "two", "three", "four"];
  const items = (await list(id)).map((item) => item.content?.[0].text ?? item.output ?? item.name);
  assertEquals(items, said);
  const { body } = await alice.request("GET", path);
  // deno-lint-ignore no-explicit-any -- a message of any shape
  assertEquals(body.data.map((m: any) => m.content ?? m.tool_calls[0].function.name), said);
});

Deno.test("an export has every item, and an import gives them back", async () => {
  const carol = await signUp();
  const dave = await signUp();
  const { id } = await openaiOf(carol).conversations.create({ items: ITEMS });
  const { body: lines } = await carol.request("GET", "/conversations/export");
  const { body: report } = await dave.request("POST", "/conversations/import", {
    body: lines,
    headers: { "content-type": "application/x-ndjson" },
  });
  const imported = `conv_${report.conversations[0].new_id.replaceAll("-", "")}`;
  // deno-lint-ignore no-explicit-any -- the SDK's union of items
  const withoutIds = (items: any[]) => items.map(({ id: _, ...item }) => item);
  assertEquals(withoutIds(await list(imported, {}, openaiOf(dave))), withoutIds(await list(id, {}, openaiOf(carol))));
});

Deno.test("a fork shows its parent's items, and writes its own", async () => {
  const { id } = await openai.conversations.create({ items: [user("1"), user("2"), user("3")] });
  const items = await list(id);
  const { body: fork } = await alice.request("POST", `/conversations/${uuidOf(id)}/fork`, { body: { at: 2 } });
  const forkId = `conv_${fork.id.replaceAll("-", "")}`;
  const { data: [own] } = await openai.conversations.items.create(forkId, { items: [user("other")] });
  assertEquals(await list(forkId, { limit: 1 }), [...items.slice(0, 2), own]);
  assertEquals((await list(forkId, { limit: 1, order: "desc" })).toReversed(), [...items.slice(0, 2), own]);
  for (const [conversation_id, item] of [[forkId, items[2]], [id, own]]) {
    await assertRejects(() => openai.conversations.items.retrieve(item.id, { conversation_id }), OpenAI.NotFoundError);
  }
  assertEquals(await openai.conversations.items.retrieve(items[0].id, { conversation_id: forkId }), items[0]);
});

Deno.test("an id of another user can be used by this one", async () => {
  const items = [{ id: "msg_shared", type: "message", role: "user", content: "mine" }] as unknown as Input[];
  const hers = await openai.conversations.create({ items });
  const his = await openaiOf(bob).conversations.create({ items });
  for (const [client, id] of [[openai, hers.id], [openaiOf(bob), his.id]] as const) {
    assertEquals((await client.conversations.items.retrieve("msg_shared", { conversation_id: id })).id, "msg_shared");
  }
  await assertRejects(
    () => openai.conversations.items.retrieve("msg_shared", { conversation_id: his.id }),
    OpenAI.NotFoundError,
  );
});

Deno.test("a response: its output, the items it was generated from, and its end", async () => {
  const [first, second] = [`resp_${uuid()}`, `resp_${uuid()}`];
  const says = (text: string) => ({
    id: `msg_${text}`,
    type: "message",
    role: "assistant",
    status: "completed",
    content: [{ type: "output_text", text, annotations: [], logprobs: [] }],
  });
  const store = async (id: string, body: Record<string, unknown>) => {
    const answer = await alice.request("PUT", `/responses/${id}`, { body: { model: "m", provider: "p", ...body } });
    assertEquals(answer.status, 201);
  };
  await store(first, { input: "Hi", output: [says("one")] });
  await store(second, { previous_response_id: first, input: [user("More"), user("please")], output: [says("two")] });

  const response = await openai.responses.retrieve(second);
  assertEquals(
    [response.id, response.object, response.status, response.model, response.previous_response_id],
    [second, "response", "completed", "m", first],
  );
  assert(Number.isInteger(response.created_at));
  assertEquals([response.output, response.output_text], [
    [says("two")] as OpenAI.Responses.ResponseOutputItem[],
    "two",
  ]);
  const texts = async (id: string, query = {}) => {
    const found = [];
    // deno-lint-ignore no-explicit-any -- the SDK's union of items
    for await (const item of openai.responses.inputItems.list(id, query)) found.push((item as any).content[0].text);
    return found;
  };
  assertEquals(await texts(first), ["Hi"]);
  assertEquals(await texts(second), ["please", "More", "one", "Hi"]);
  assertEquals(await texts(second, { order: "asc", limit: 1 }), ["Hi", "one", "More", "please"]);
  const path = `/openai/v1/responses/${second}/input_items`;
  assertEquals((await alice.request("GET", `${path}?after=msg_two`)).status, 400, "its output is not in the list");

  // The conversation of the response is one like any other.
  const items = await list(response.conversation!.id);
  assertEquals(items.map((item) => item.content[0].text), ["Hi", "one", "More", "please", "two"]);
  await assertRejects(() => openaiOf(bob).responses.retrieve(second), OpenAI.NotFoundError);
  assertEquals((await alice.request("GET", `/openai/v1/responses/${second}?stream=true`)).body.error.param, "stream");

  const deleted = await alice.request("DELETE", `/openai/v1/responses/${second}`);
  assertEquals(deleted.body, { id: second, object: "response", deleted: true });
  const gone = await assertRejects(() => openai.responses.retrieve(second), OpenAI.NotFoundError);
  assertEquals(gone.code, "response_not_found");
  await openai.responses.delete(first);
  await assertRejects(() => openai.responses.inputItems.list(first), OpenAI.NotFoundError);
});

Deno.test("a direct call is held to the same rules", async () => {
  const rpc = alice.client;
  const { data: created } = await rpc.rpc("create_conversation_of_items", {
    p_items: [{ role: "user", content: "x" }],
  });
  const id = (created as { id: string }).id;
  for (
    const p_items of [
      {},
      [1],
      [{}],
      [{ type: 1 }],
      [{ type: "message", role: "tool", content: "x" }],
      [{ role: "user" }],
      [{ type: "item_reference", id: "x" }],
      [{ type: "x", id: 1 }],
      Array(1001).fill({ type: "x" }),
    ]
  ) {
    const { error } = await rpc.rpc("append_items", { p_conversation_id: id, p_items });
    assertEquals(error?.message, "invalid_request", JSON.stringify(p_items).slice(0, 80));
  }
  const { data } = await rpc.rpc("append_items", { p_conversation_id: id, p_items: [{ type: "x" }] });
  assertEquals((data as { data: { type: string }[] }).data[0].type, "x");
  assertEquals(
    (await rpc.rpc("replace_metadata", { p_conversation_id: id, p_metadata: [] })).error?.message,
    "invalid_request",
  );
  assertEquals(
    (await rpc.rpc("list_items", { p_conversation_id: id, p_limit: 1001 })).error?.message,
    "invalid_request",
  );
  assertEquals((await backend(bob.id)("GET", `/conversations/${id}`)).status, 404);
  assert(apiUrl);
});

Deno.test("an item that was listed and is sent back is a new one, and every id stays one item's", async () => {
  const { id } = await openai.conversations.create({ items: [user("a"), user("b"), user("c")] });
  const listed = await Array.fromAsync(await openai.conversations.items.list(id, { order: "asc" }));
  await openai.conversations.items.create(id, { items: [listed[1] as Input] });
  for (const order of ["asc", "desc"] as const) {
    const ids = [];
    for await (const item of openai.conversations.items.list(id, { order, limit: 1 })) {
      ids.push(item.id);
      assert(ids.length <= 4, "it does not come to an end");
    }
    assertEquals(new Set(ids).size, 4);
  }
});

Deno.test("a call without claims acts for nobody", async () => {
  const { id } = await openai.conversations.create({});
  const sql = connect();
  for (const rpc of ["append_items", "append_messages"]) {
    const error = await assertRejects(() =>
      sql.begin(async (tx) => {
        await tx`set local role authenticated`;
        const rows = tx.json([{ role: "user", content: "forged" }]);
        if (rpc === "append_items") await tx`select public.append_items(${uuidOf(id)}, ${rows}, null, ${alice.id})`;
        else await tx`select public.append_messages(${uuidOf(id)}, ${rows}, null, null, ${alice.id})`;
      })
    );
    assertEquals((error as Error).message, "unauthorized", rpc);
  }
  await sql.end();
});
