import { assertEquals, assertNotEquals } from "@std/assert";
import { newConversation, patiently, signUp } from "../support/stack.ts";

const alice = await signUp();
type Row = Record<string, unknown> & { sequence_order: number };

Deno.test("what a client appends comes back equal", async () => {
  const id = await newConversation(alice);
  const messages = [
    { role: "system", content: "You are terse." },
    { role: "developer", content: "Never guess.", name: "ops", metadata: { build: 7, tags: ["a", "b"], none: null } },
    {
      role: "user",
      content: 'Zażółć gęślą jaźń 🧵👩‍👩‍👧‍👦 – 日本語 "quotes" \\back\\ \u2028 \t\r\n end',
      item_id: "client-1",
    },
    {
      role: "user",
      content: null,
      parts: [{ type: "text", text: "What is this?" }, {
        type: "image_url",
        image_url: { url: "https://example.com/a.png" },
      }],
    },
    {
      role: "assistant",
      content: null,
      function_call: { name: "f", arguments: '{"a": 1}' },
      model: "gpt-x",
      usage: { total_tokens: 12 },
    },
    { role: "function", name: "f", content: '{"ok":true}' },
    {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "call_1", type: "function", function: { name: "g", arguments: "{}" } }, {
        id: "call_2",
        type: "custom",
      }],
      status: "incomplete",
      token_count: 17,
    },
    { role: "tool", tool_call_id: "call_1", content: "" },
    {
      role: "assistant",
      content: "done",
      metadata: { "": 1, "__proto__x": 2, deep: [[[[{ a: null }]]]], n: -0.5e-7, big: 9007199254740991 },
    },
  ];
  const appended = await alice.request("POST", `/conversations/${id}/messages`, { body: { messages } });
  assertEquals([appended.status, appended.body.last_sequence_order], [201, messages.length]);

  const { status, body } = await alice.request("GET", `/conversations/${id}/messages`);
  assertEquals([status, body.has_more, body.next_cursor], [200, false, null]);
  assertEquals(body.data, appended.body.messages);
  for (const [i, message] of messages.entries()) {
    const row: Row = body.data[i];
    assertEquals(row, {
      type: "message",
      parts: null,
      name: null,
      function_call: null,
      tool_calls: null,
      tool_call_id: null,
      item_id: null,
      model: null,
      usage: null,
      status: "complete",
      token_count: null,
      metadata: {},
      ...message,
      id: row.id,
      conversation_id: id,
      sequence_order: i + 1,
      author: "user",
      created_at: row.created_at,
      item: null,
    });
  }
});

Deno.test('a key named "__proto__" is data like any other', async () => {
  const id = await newConversation(alice);
  const body = '{"messages":[{"role":"user","content":"x","metadata":{"__proto__":{"a":1}}}]}';
  const appended = await alice.request("POST", `/conversations/${id}/messages`, { body });
  assertEquals(appended.status, 201);
  assertEquals(JSON.stringify(appended.body.messages[0].metadata), '{"__proto__":{"a":1}}');
});

Deno.test("four appends within a second load in the order they were appended", async () => {
  const id = await newConversation(alice);
  const started = performance.now();
  for (const content of ["first", "second", "third", "fourth"]) {
    await alice.request("POST", `/conversations/${id}/messages`, { body: { messages: [{ role: "user", content }] } });
  }
  const elapsed = performance.now() - started;
  const { body } = await alice.request("GET", `/conversations/${id}/messages`);
  assertEquals(body.data.map((m: Row) => m.content), ["first", "second", "third", "fourth"], `after ${elapsed} ms`);
});

Deno.test("pages go both ways, and cursors continue where they stopped", async () => {
  const id = await newConversation(alice, {
    messages: Array.from({ length: 25 }, (_, i) => ({ role: "user", content: `m${i + 1}` })),
  });
  const load = async (query: string) => {
    const { status, body } = await alice.request("GET", `/conversations/${id}/messages?${query}`);
    assertEquals(status, 200, query);
    return { ...body, numbers: body.data.map((m: Row) => m.sequence_order) };
  };
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

  assertEquals((await load("")).numbers, range(1, 25));
  assertEquals((await load("limit=1000")).has_more, false);
  assertEquals((await load("after=20")).numbers, range(21, 25));
  assertEquals((await load("after=5&before=9")).numbers, [6, 7, 8]);
  assertEquals((await load("after=25")).numbers, []);
  const newest = await load("order=desc&limit=3");
  assertEquals([newest.numbers, newest.has_more, newest.next_cursor], [[25, 24, 23], true, "23"]);
  assertEquals((await load(`order=desc&limit=3&before=${newest.next_cursor}`)).numbers, [22, 21, 20]);

  const seen: number[] = [];
  let after: string | null = "0";
  while (after !== null) {
    const page: { numbers: number[]; next_cursor: string | null } = await load(`limit=10&after=${after}`);
    seen.push(...page.numbers);
    after = page.next_cursor;
  }
  assertEquals(seen, range(1, 25));
  assertEquals((await load("limit=25")).has_more, false, "a page that is exactly full is the last");
});

Deno.test("expected_sequence appends only where the caller thinks the conversation is", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "one" }] });
  const append = (expected_sequence: number) =>
    alice.request("POST", `/conversations/${id}/messages`, {
      body: { messages: [{ role: "assistant", content: "two" }], expected_sequence },
    });
  const stale = await append(0);
  assertEquals([stale.status, stale.body.code], [409, "sequence_conflict"]);
  assertEquals((await alice.request("GET", `/conversations/${id}`)).body.last_sequence_order, 1);
  assertEquals((await append(1)).status, 201);
  assertEquals((await append(1)).status, 409);
});

Deno.test("1,000 messages go in one append and come back in one page", async () => {
  const id = await newConversation(alice);
  const messages = Array.from({ length: 1000 }, (_, i) => ({ role: i % 2 ? "assistant" : "user", content: `m${i}` }));
  const appended = await alice.request("POST", `/conversations/${id}/messages`, { body: { messages } });
  assertEquals([appended.status, appended.body.messages.length], [201, 1000]);
  const page = await alice.request("GET", `/conversations/${id}/messages?limit=1000`);
  assertEquals(page.body.data.map((m: Row) => m.content), messages.map((m) => m.content));
  const tooMany = await alice.request("POST", `/conversations/${id}/messages`, {
    body: { messages: [...messages, messages[0]] },
  });
  assertEquals([tooMany.status, tooMany.body.details[0].path], [400, "messages"]);
});

Deno.test("2,500 messages in, 2,500 out, whatever the REST API's row cap", async () => {
  const id = await newConversation(alice);
  const all = Array.from({ length: 2500 }, (_, i) => ({ role: "user", content: `m${i}` }));
  for (let i = 0; i < 2500; i += 1000) {
    await alice.request("POST", `/conversations/${id}/messages`, { body: { messages: all.slice(i, i + 1000) } });
  }
  const loaded: Row[] = [];
  let after: string | null = "0";
  while (after !== null) {
    const { body } = await alice.request("GET", `/conversations/${id}/messages?limit=1000&after=${after}`);
    loaded.push(...body.data);
    after = body.next_cursor;
  }
  assertEquals(loaded.map((m) => m.content), all.map((m) => m.content));
});

Deno.test("a page of large messages ends early and goes on where it ended", async () => {
  const id = await newConversation(alice);
  for (let i = 0; i < 8; i++) {
    const messages = [{ role: "user", content: `${i}`.padEnd(3_000_000, "x") }];
    assertEquals((await alice.request("POST", `/conversations/${id}/messages`, { body: { messages } })).status, 201);
  }
  for (const [order, parameter] of [["asc", "after"], ["desc", "before"]]) {
    const seen: number[] = [];
    let cursor: string | null = order === "asc" ? "0" : "100";
    let pages = 0;
    while (cursor !== null) {
      const { body } = await alice.request(
        "GET",
        `/conversations/${id}/messages?order=${order}&${parameter}=${cursor}`,
      );
      seen.push(...body.data.map((m: Row) => m.sequence_order));
      cursor = body.next_cursor;
      pages++;
    }
    assertEquals(seen.toSorted((a, b) => a - b), [1, 2, 3, 4, 5, 6, 7, 8]);
    assertEquals(pages, 4, "two of 3 MB fit into 8 MiB");
  }
});

Deno.test("32 writers × 25 appends × 2 messages: gapless, contiguous, nothing lost", async () => {
  const id = await newConversation(alice);
  await Promise.all(Array.from({ length: 32 }, async (_, writer) => {
    for (let turn = 0; turn < 25; turn++) {
      const batch = `${writer}/${turn}`;
      const messages = [{ role: "user", content: `${batch}/ask` }, { role: "assistant", content: `${batch}/answer` }];
      const { status, body } = await patiently(() =>
        alice.request("POST", `/conversations/${id}/messages`, { body: { messages } })
      );
      assertEquals(status, 201, JSON.stringify(body));
    }
  }));

  const rows: Row[] = [];
  for (let after = 0; after < 1600; after += 1000) {
    const { body } = await alice.request("GET", `/conversations/${id}/messages?limit=1000&after=${after}`);
    rows.push(...body.data);
  }
  assertEquals(rows.map((m) => m.sequence_order), Array.from({ length: 1600 }, (_, i) => i + 1));
  assertEquals(new Set(rows.map((m) => m.content)).size, 1600);
  const lastTurn = new Map<string, number>();
  for (let i = 0; i < rows.length; i += 2) {
    const [writer, turn] = String(rows[i].content).split("/");
    assertEquals(rows[i].content, `${writer}/${turn}/ask`);
    assertEquals(rows[i + 1].content, `${writer}/${turn}/answer`, "a batch is contiguous");
    assertNotEquals(lastTurn.get(writer), Number(turn));
    assertEquals(Number(turn), (lastTurn.get(writer) ?? -1) + 1, "a writer's turns stay in its order");
    lastTurn.set(writer, Number(turn));
  }
});

Deno.test("a batch of 4 MiB of Chinese, which has nearly every bucket of the search index, is appended and found", async () => {
  const id = await newConversation(alice);
  const characters = Array.from({ length: 20_000 }, (_, i) => String.fromCharCode(0x4e00 + (i * 7919) % 20_000)).join(
    "",
  );
  const messages = Array.from({ length: 1000 }, (_, i) => ({
    role: "user",
    content: characters.slice(i * 13, i * 13 + 1300),
  }));
  const { status } = await alice.request("POST", `/conversations/${id}/messages`, { body: { messages } });
  assertEquals(status, 201);
  const q = encodeURIComponent(characters.slice(10, 14));
  const { body } = await alice.request("GET", `/conversations/search?q=${q}`);
  assertEquals(body.data.map((hit: { message: { sequence_order: number } }) => hit.message.sequence_order), [1]);
});
