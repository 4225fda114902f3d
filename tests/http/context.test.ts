import { assert, assertEquals } from "@std/assert";
import type { PassedJson } from "../../supabase/functions/_shared/json.ts";
import { getContext } from "../../supabase/functions/conversations/repo.ts";
import { context as contextSchema } from "../../supabase/functions/conversations/schemas.ts";
import { backend, connect, newConversation, signUp } from "../support/stack.ts";

const alice = await signUp();
type Message = Record<string, unknown> & { sequence_order?: number };

async function context(id: string, query = "") {
  const answer = await alice.request("GET", `/conversations/${id}/context${query && `?${query}`}`);
  if (answer.status === 200) contextSchema.parse(answer.body);
  return answer;
}

const numbers = (messages: Message[]) => messages.map((message) => message.sequence_order);
const say = (role: string, content: string, token_count = 10) => ({ role, content, token_count });
const call = (id: string) => ({ id, type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } });

Deno.test("summary, leading messages and the newest turns come in LLM shape", async () => {
  const id = await newConversation(alice, {
    messages: [
      { role: "system", content: "You are terse." },
      { role: "developer", content: "Never guess.", name: "ops" },
      { role: "user", content: "Weather?", item_id: "client-1", metadata: { not: "for models" } },
      { role: "assistant", content: null, tool_calls: [call("call_1")], model: "gpt-x", usage: { total_tokens: 3 } },
      { role: "tool", tool_call_id: "call_1", content: null, parts: [{ type: "text", text: "rain" }] },
      { role: "assistant", content: "Rain." },
      { role: "user", content: null, parts: [{ type: "text", text: "And this?" }] },
    ],
  });
  await alice.request("PATCH", `/conversations/${id}`, { body: { summary: "They met in Oslo." } });
  const { status, body } = await context(id);
  assertEquals([status, body.truncated, "explain" in body], [200, false, false]);
  assertEquals(body.messages, [
    { role: "system", name: "conversation_summary", content: "They met in Oslo." },
    { sequence_order: 1, author: "user", role: "system", content: "You are terse." },
    { sequence_order: 2, author: "user", role: "developer", content: "Never guess.", name: "ops" },
    { sequence_order: 3, author: "user", role: "user", content: "Weather?", item_id: "client-1" },
    { sequence_order: 4, author: "user", role: "assistant", content: null, tool_calls: [call("call_1")] },
    {
      sequence_order: 5,
      author: "user",
      role: "tool",
      tool_call_id: "call_1",
      content: null,
      parts: [{ type: "text", text: "rain" }],
    },
    { sequence_order: 6, author: "user", role: "assistant", content: "Rain." },
    { sequence_order: 7, author: "user", role: "user", content: null, parts: [{ type: "text", text: "And this?" }] },
  ]);
});

Deno.test("the token rule: 4 a message, a token for 4 ASCII characters and for 1 CJK character, 1,000 for an image", async () => {
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${"A".repeat(5000)}` } };
  const cost = async (message: Record<string, unknown>) => {
    const id = await newConversation(alice, { messages: [message] });
    return (await context(id)).body.total_tokens;
  };
  assertEquals(await cost({ role: "user", content: "1" }), 5);
  assertEquals(await cost({ role: "user", content: "a".repeat(400) }), 104);
  assertEquals(await cost({ role: "user", content: "a".repeat(401) }), 105);
  assertEquals(await cost({ role: "user", content: "天".repeat(100) }), 104);
  assertEquals(await cost({ role: "user", content: "a".repeat(400), name: "b".repeat(40) }), 114);
  assertEquals(await cost({ role: "user", content: "a".repeat(400), token_count: 7 }), 7);
  // [{"type": "image_url", "image_url": {"url": ""}}] is 49 characters.
  assertEquals(await cost({ role: "user", parts: [image] }), 4 + 1000 + Math.ceil(49 / 4));
  // An image that is linked or uploaded counts beside its address, in whichever shape.
  const linked = async (part: Record<string, unknown>) => await cost({ role: "user", parts: [part] });
  const url = "https://example.com/a.png";
  for (
    const part of [
      { type: "image_url", image_url: { url } },
      { type: "input_image", image_url: url },
      { type: "input_image", file_id: "file-1" },
      { type: "image", source: { type: "url", url } },
      { type: "file", mediaType: "image/png", url },
      { fileData: { mimeType: "image/png", fileUri: url } },
    ]
  ) assert(await linked(part) > 1000, JSON.stringify(part));
  const low = await linked({ type: "image_url", image_url: { url, detail: "low" } });
  assert(low > 85 && low < 120, `${low}`);
  assert(await linked({ type: "text", text: '"type": "image"' }) < 30, "what somebody says is no image");
});

Deno.test("older turns go first, and no call is parted from its results", async () => {
  const id = await newConversation(alice, {
    messages: [
      say("system", "s"),
      say("user", "2"),
      { ...say("assistant", "3"), tool_calls: [call("a"), call("b")] },
      { ...say("tool", "4"), tool_call_id: "b" },
      { ...say("tool", "5"), tool_call_id: "a" },
      say("assistant", "6"),
      say("user", "7"),
    ],
  });
  for (
    const [limits, shown] of [
      ["max_tokens=70", [1, 2, 3, 4, 5, 6, 7]],
      // What is cut begins with a user's message.
      ["max_tokens=69", [1, 7]],
      ["max_tokens=20", [1, 7]],
      ["max_messages=7", [1, 2, 3, 4, 5, 6, 7]],
      ["max_messages=6&max_tokens=1000", [1, 7]],
      ["max_messages=2", [1, 7]],
    ] as const
  ) {
    const { status, body } = await context(id, limits);
    assertEquals([status, numbers(body.messages), body.truncated], [200, shown, shown.length < 7], limits);
    assertEquals(body.total_tokens, 10 * shown.length);
  }
  for (const limits of ["max_tokens=19", "max_messages=1", "max_tokens=1"]) {
    const { status, body } = await context(id, limits);
    assertEquals([status, body.code], [409, "budget_too_small"], limits);
    assertEquals(body.details, "The newest turn and what always comes first need 20 tokens in 2 messages.");
  }
});

Deno.test("what nobody answered, and what answers nothing, is left out wherever it is", async () => {
  const id = await newConversation(alice, {
    messages: [
      say("user", "1"),
      { ...say("tool", "2"), tool_call_id: "gone" },
      { role: "assistant", tool_calls: [call("a"), call("b")] },
      { ...say("tool", "4"), tool_call_id: "a" },
      say("user", "5"),
      { role: "assistant", function_call: { name: "f", arguments: "{}" } },
      { ...say("function", "7"), name: "f" },
      say("user", "8"),
      { role: "assistant", tool_calls: [call("pending")] },
    ],
  });
  const { body } = await context(id, "explain=true");
  assertEquals([numbers(body.messages), body.truncated], [[1, 3, 4, 5, 6, 7, 8], false]);
  // Of two calls the one that was answered is in.
  assertEquals(body.messages[1].tool_calls, [call("a")]);
  assertEquals(body.explain.left_out, [
    { from: 2, to: 2, reason: "unpaired" },
    { from: 3, to: 3, reason: "unpaired", in_part: true },
    { from: 9, to: 9, reason: "unpaired" },
  ]);

  // The result makes the pending call whole.
  const answer = { messages: [{ ...say("tool", "10"), tool_call_id: "pending" }] };
  await alice.request("POST", `/conversations/${id}/messages`, { body: answer });
  assertEquals(numbers((await context(id)).body.messages), [1, 3, 4, 5, 6, 7, 8, 9, 10]);

  // And deleting the call leaves no result behind.
  const { data } = (await alice.request("GET", `/conversations/${id}/messages`)).body;
  await alice.request("DELETE", `/conversations/${id}/messages/${data[5].id}`);
  assertEquals(numbers((await context(id)).body.messages), [1, 3, 4, 5, 8, 9, 10]);
});

Deno.test("explain says why each message is in and what is not", async () => {
  const id = await newConversation(alice, {
    messages: [
      say("system", "1"),
      ...[2, 3, 4, 5].map((n) => say("user", `${n}`)),
      say("assistant", "6"),
      say("user", "7"),
      say("assistant", "8"),
    ],
  });
  await alice.request("PATCH", `/conversations/${id}`, { body: { summary: "1234" } });
  const { body } = await context(id, "explain=true&max_tokens=60");
  assertEquals(body.explain, {
    included: [
      { tokens: 10, reason: "summary" }, // 4 + (4 + 20 characters) / 4
      { sequence_order: 1, tokens: 10, reason: "leading" },
      { sequence_order: 5, tokens: 10, reason: "fits" },
      { sequence_order: 6, tokens: 10, reason: "fits" },
      { sequence_order: 7, tokens: 10, reason: "newest_turn" },
      { sequence_order: 8, tokens: 10, reason: "newest_turn" },
    ],
    left_out: [{ from: 2, to: 4, reason: "over_budget" }],
  });
  assertEquals(body.total_tokens, 60);
});

Deno.test("a fork's context goes on in its parent's messages, and has no summary of theirs", async () => {
  const id = await newConversation(alice, {
    messages: [say("system", "1"), say("user", "2"), say("assistant", "3"), say("user", "4"), say("assistant", "5")],
  });
  await alice.request("PATCH", `/conversations/${id}`, { body: { summary: "of five messages" } });
  const fork = (await alice.request("POST", `/conversations/${id}/fork`, { body: { at: 3 } })).body.id;
  await alice.request("POST", `/conversations/${fork}/messages`, { body: { messages: [say("user", "4, edited")] } });
  assertEquals(
    (await context(fork)).body.messages.map((message: Message) => message.content),
    ["1", "2", "3", "4, edited"],
  );
  assertEquals(numbers((await context(fork, "max_tokens=40")).body.messages), [1, 2, 3, 4]);
  assertEquals(numbers((await context(fork, "max_tokens=39")).body.messages), [1, 4]);
});

Deno.test("author says who wrote a message, and a system message by a user does not hide it", async () => {
  const id = await newConversation(alice, { messages: [say("system", "Obey me."), say("user", "Hi")] });
  const reply = { messages: [say("assistant", "Hello")] };
  await backend(alice.id)("POST", `/conversations/${id}/messages`, { body: reply });
  const authors = (await context(id)).body.messages.map((message: Message) => message.author);
  assertEquals(authors, ["user", "user", "service"]);
  // A backend reads by id, for the owner or for nobody in particular.
  for (const caller of [backend(alice.id), backend()]) {
    assertEquals((await caller("GET", `/conversations/${id}/context`)).body.messages.length, 3);
  }
});

Deno.test("a turn that does not fit keeps its question and the newest of what follows", async () => {
  const step = (n: number) => [
    { ...say("assistant", `${n}`), tool_calls: [call(`c${n}`)] },
    { ...say("tool", `${n}`), tool_call_id: `c${n}` },
  ];
  const id = await newConversation(alice, {
    messages: [
      say("user", "1"),
      say("assistant", "2"),
      say("user", "3"),
      ...step(4),
      ...step(6),
      ...step(8),
      say("assistant", "10"),
    ],
  });
  for (
    const [limits, shown] of [
      ["max_tokens=100", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      ["max_tokens=99", [3, 4, 5, 6, 7, 8, 9, 10]],
      ["max_tokens=79", [3, 6, 7, 8, 9, 10]],
      ["max_tokens=59", [3, 8, 9, 10]],
      ["max_tokens=39", [3, 10]],
      ["max_messages=5", [3, 8, 9, 10]],
      ["max_messages=2", [3, 10]],
    ] as const
  ) {
    const { status, body } = await context(id, limits);
    assertEquals([status, numbers(body.messages), body.truncated], [200, shown, shown.length < 10], limits);
  }
  const { body } = await context(id, "max_tokens=59&explain=true");
  assertEquals(body.explain.left_out, [
    { from: 1, to: 2, reason: "over_budget" },
    { from: 4, to: 7, reason: "over_budget" },
  ]);
  assertEquals((await context(id, "max_tokens=19")).body.code, "budget_too_small");

  // Also where the question is further back than what is read for the budget.
  const steps = Array.from({ length: 300 }, (_, i) => step(i)).flat();
  const long = await newConversation(alice, { messages: [say("user", "first"), say("user", "go"), ...steps] });
  const { body: { messages, explain } } = await context(long, "max_tokens=59&explain=true");
  assertEquals(numbers(messages), [2, 599, 600, 601, 602]);
  assertEquals(explain.left_out, [
    { from: 1, to: 1, reason: "over_budget" },
    { from: 3, to: 598, reason: "over_budget" },
  ]);
});

Deno.test("begin=user: nothing comes before a user's message", async () => {
  const id = await newConversation(alice, {
    messages: [say("system", "1"), say("assistant", "Hello!"), say("user", "3"), say("assistant", "4")],
  });
  assertEquals(numbers((await context(id)).body.messages), [1, 2, 3, 4]);
  const { body } = await context(id, "begin=user&explain=true");
  assertEquals(numbers(body.messages), [1, 3, 4]);
  assertEquals(body.explain.left_out, [{ from: 2, to: 2, reason: "before_user" }]);

  const silent = await newConversation(alice, { messages: [say("assistant", "Hello?"), say("assistant", "Anybody?")] });
  assertEquals(numbers((await context(silent)).body.messages), [1, 2]);
  const { body: empty } = await context(silent, "begin=user&explain=true");
  assertEquals([empty.messages, empty.explain.left_out], [[], [{ from: 1, to: 2, reason: "before_user" }]]);
});

Deno.test("a compaction item comes first, and what it stands for not at all; in forks too", async () => {
  const id = await newConversation(alice, {
    messages: [say("system", "1"), say("user", "2"), say("assistant", "3")],
  });
  const items = [
    { type: "compaction", id: "cmp_1", encrypted_content: "x".repeat(100) },
    { role: "user", content: "5" },
    { role: "assistant", content: "6" },
    { role: "user", content: "7" },
  ];
  const path = `/openai/v1/conversations/conv_${id.replaceAll("-", "")}/items`;
  assertEquals((await alice.request("POST", path, { body: { items } })).status, 200);
  const { body } = await context(id, "explain=true");
  assertEquals(numbers(body.messages), [1, 4, 5, 6, 7]);
  assertEquals(body.explain.left_out, [{ from: 2, to: 3, reason: "compacted" }]);
  assertEquals(body.explain.included[1].reason, "compaction");
  assertEquals(numbers((await context(id, "max_messages=3")).body.messages), [1, 4, 7]);

  const fork = (await alice.request("POST", `/conversations/${id}/fork`, { body: { at: 5 } })).body.id;
  assertEquals(numbers((await context(fork)).body.messages), [1, 4, 5]);
  const before = (await alice.request("POST", `/conversations/${id}/fork`, { body: { at: 3 } })).body.id;
  assertEquals(numbers((await context(before)).body.messages), [1, 2, 3]);
});

Deno.test("one API's call is answered in another's shape, and a row by plain REST is known as well", async () => {
  const id = await newConversation(alice, {
    messages: [
      say("user", "1"),
      { role: "assistant", parts: [{ type: "tool_use", id: "a", name: "f", input: {} }] },
      { role: "tool", tool_call_id: "a", content: "42" },
    ],
  });
  const { error } = await alice.client.from("conversation_messages").insert([
    {
      conversation_id: id,
      role: "assistant",
      parts: [{ type: "tool-call", toolCallId: "b", toolName: "f", input: {} }],
    },
    { conversation_id: id, role: "user", parts: [{ functionResponse: { id: "b", name: "f", response: {} } }] },
    { conversation_id: id, role: "assistant", parts: [{ toolUse: { toolUseId: "c", name: "f", input: {} } }] },
  ]);
  assertEquals(error, null);
  const { body } = await context(id, "explain=true");
  assertEquals(numbers(body.messages), [1, 2, 3, 4, 5]);
  assertEquals(body.explain.left_out, [{ from: 6, to: 6, reason: "unpaired" }]);
});

Deno.test("a message of more calls than anybody makes is left out, and does not cost seconds", async () => {
  const calls = Array.from({ length: 1001 }, (_, i) => call(`c${i}`));
  const results = calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "" }));
  const messages = [say("user", "1"), { role: "assistant", tool_calls: calls }, { role: "user", parts: results }];
  const all = "max_tokens=1000000";
  assertEquals(numbers((await context(await newConversation(alice, { messages }), all)).body.messages), [1]);
  calls.pop();
  results.pop();
  assertEquals(numbers((await context(await newConversation(alice, { messages }), all)).body.messages), [1, 2, 3]);
});

Deno.test("an empty conversation has an empty context", async () => {
  const id = await newConversation(alice);
  assertEquals((await context(id)).body, { messages: [], total_tokens: 0, truncated: false, left_out: 0 });
  await alice.request("PATCH", `/conversations/${id}`, { body: { summary: "x".repeat(400) } });
  assertEquals((await context(id)).body.messages.length, 1);
  assertEquals((await context(id, "max_tokens=100")).body.code, "budget_too_small");
});

Deno.test("provider items come with type and item", async () => {
  const id = await newConversation(alice, { messages: [say("user", "1")] });
  const item = { type: "web_search_call", id: "ws_1", status: "completed" };
  const sql = connect();
  await sql`
    insert into conversation_messages (conversation_id, user_id, sequence_order, type, item)
    values (${id}, ${alice.id}, 2, 'web_search_call', ${sql.json(item)})`;
  await sql.end();
  assertEquals((await context(id)).body.messages[1], {
    type: "web_search_call",
    content: null,
    item,
    author: "service",
    sequence_order: 2,
  });
});

Deno.test("bad limits are refused by name", async () => {
  const id = await newConversation(alice);
  for (
    const [query, path] of [
      ["max_tokens=0", "max_tokens"],
      ["max_tokens=2147483648", "max_tokens"],
      ["max_tokens=many", "max_tokens"],
      ["max_messages=0", "max_messages"],
      ["max_messages=1001", "max_messages"],
      ["explain=yes", "explain"],
      ["begin=assistant", "begin"],
      ["limit=5", "limit"],
    ]
  ) {
    const { status, body } = await context(id, query);
    assertEquals([status, body.details?.[0].path], [400, path], query);
  }
  assertEquals((await context(id, "max_tokens=2147483647&max_messages=1000&explain=false")).status, 200);
});

Deno.test("one request is one RPC", async () => {
  const id = await newConversation(alice, { messages: [say("user", "1")] });
  const calls: string[] = [];
  const supabase = new Proxy(alice.client, {
    get(client, property) {
      assertEquals(property, "rpc");
      // deno-lint-ignore no-explicit-any -- whatever the repository calls
      return (name: any, args: any) => (calls.push(name), client.rpc(name, args));
    },
  });
  const context = await getContext({ supabase, isBackend: false }, id, {
    max_tokens: 100,
    max_messages: undefined,
    begin: "any",
    explain: true,
    format: "message",
  });
  const { messages } = await new Response((context as PassedJson).body).json();
  assertEquals([messages.length, calls], [1, ["get_context"]]);
  assert(messages[0].sequence_order === 1);
});

Deno.test("a result that a client calls something else is not half of a pair, nor an empty context", async () => {
  const user = await signUp();
  const context = async (messages: unknown[]) => {
    const id = await newConversation(user, { messages });
    const { status, body } = await user.request("GET", `/conversations/${id}/context`);
    return [status, body.messages?.map((m: { sequence_order: number }) => m.sequence_order)];
  };
  const call = {
    role: "assistant",
    content: null,
    tool_calls: [{ id: "a", type: "function", function: { name: "f" } }],
  };
  const question = { role: "user", content: "q" };
  const done = { role: "assistant", content: "done" };
  for (const type of ["function_call", "reasoning", "message"]) {
    const result = { role: "tool", type, tool_call_id: "a", content: "r" };
    assertEquals(await context([question, call, result, done]), [200, [1, 2, 3, 4]], type);
  }
  const orphan = { type: "function_call_output", role: "user", tool_call_id: "gone", content: "r" };
  assertEquals(await context([orphan, done]), [200, [2]]);
});

Deno.test("images of megabytes end the context before their tokens do", async () => {
  const user = await signUp();
  const id = await newConversation(user, { messages: [{ role: "user", content: "old" }] });
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${randomBase64(3_000_000)}` } };
  for (let i = 0; i < 6; i++) {
    const messages = [{ role: "user", parts: [image] }, { role: "assistant", content: `${i}` }];
    assertEquals((await user.request("POST", `/conversations/${id}/messages`, { body: { messages } })).status, 201);
  }
  const { status, body } = await user.request("GET", `/conversations/${id}/context?max_tokens=100000`);
  assertEquals([status, body.truncated], [200, true]);
  const numbers = body.messages.map((m: { sequence_order: number }) => m.sequence_order);
  assert(JSON.stringify(body).length < 10 * 1024 * 1024, "two images of 3 MB, not six");
  assert(numbers.includes(12) && numbers.includes(13), "the newest turn is in");
});

/** Text that does not compress, as an image's does not. */
function randomBase64(length: number): string {
  const bytes = new Uint8Array(length * 3 / 4);
  for (let i = 0; i < bytes.length; i += 65_536) crypto.getRandomValues(bytes.subarray(i, i + 65_536));
  return bytes.toBase64();
}
