import { assert, assertEquals } from "@std/assert";
import { getContext } from "../../supabase/functions/sessions/repo.ts";
import { context as contextSchema, contextQuery } from "../../supabase/functions/sessions/schemas.ts";
import { backend, connect, signUp, type TestUser, uuid } from "../support/stack.ts";

interface Message {
  role: string;
  content: string;
  name?: string;
}

const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });

/** `["user_message", "Hi", "trace"]` as the API takes it. */
const toEvent = ([event_type, text, trace_id]: string[]) => ({ event_type, content: { text }, trace_id });

async function newSession(caller: TestUser["request"], events: object[], summary?: string): Promise<string> {
  const { body: { id } } = await caller("POST", "/sessions", { body: {} });
  if (events.length > 0) {
    const { status, body } = await caller("POST", `/sessions/${id}/events`, { body: { events } });
    assertEquals(status, 201, JSON.stringify(body));
  }
  if (summary !== undefined) await caller("POST", `/sessions/${id}/end`, { body: { summary } });
  return id;
}

async function context(caller: TestUser["request"], query = "") {
  const { status, body } = await caller("GET", `/sessions/context${query}`);
  assertEquals(status, 200, JSON.stringify(body));
  return contextSchema.parse(body);
}

/** The token rule of private.text_tokens, a second time. */
const tokens = ({ name = "", content }: Message) =>
  4 +
  Math.ceil((3 * new TextEncoder().encode(name + content).length - [...name + content].length) / 8);

Deno.test("a returning caller: dated summaries first, then the turns of all sessions, in order", async () => {
  const caller = await signUp();
  const first = await newSession(
    caller.request,
    [
      ["user_message", "My name is Ada."],
      ["ai_message", "Hello, Ada."],
    ].map(toEvent),
    "The caller is called Ada.",
  );
  const second = await newSession(caller.request, [
    { event_type: "user_message", content: "Where is my order?" },
    { event_type: "tool_call", content: { name: "find_order" } },
    { event_type: "tool_result", content: { text: "in Oslo" } },
    { event_type: "ai_response", content: { text: "It is in Oslo." } },
    { event_type: "system", content: { text: "hung up" } },
  ], "An order is in Oslo.\nShe wants it.");
  const sql = connect();
  await sql`update sessions set start_time = '2026-03-01T09:30:00Z' where id = ${first}`;
  await sql`update sessions set start_time = '2026-03-29T23:59:00Z' where id = ${second}`;
  await sql.end();
  await newSession(caller.request, [["user_message", "Me again."]].map(toEvent));

  const { messages, total_tokens, truncated } = await context(caller.request);
  assertEquals(messages, [
    {
      role: "system",
      name: "session_summaries",
      content: "Summaries of earlier sessions, oldest first.\n\n2026-03-01 09:30 UTC: The caller is called Ada." +
        "\n\n2026-03-29 23:59 UTC: An order is in Oslo.\nShe wants it.",
    },
    user("My name is Ada."),
    assistant("Hello, Ada."),
    user("Where is my order?"),
    assistant("It is in Oslo."),
    user("Me again."),
  ]);
  assertEquals([total_tokens, truncated], [messages.reduce((sum, message) => sum + tokens(message), 0), false]);

  // Fewer summaries because fewer are asked for is not truncated; the latest stay.
  const { messages: [summary], truncated: still } = await context(caller.request, "?max_sessions=1");
  assert(!summary.content.includes("Ada") && summary.content.includes("Oslo"));
  assertEquals(still, false);
  assertEquals((await context(caller.request, "?max_sessions=0")).messages[0], user("My name is Ada."));
});

Deno.test("chunks are joined, and not said twice where their message is there", async () => {
  const caller = await signUp();
  const cases: [name: string, events: string[][], messages: Message[]][] = [
    ["chunks alone", [["user_message", "a"], ["ai_chunk", "He"], ["ai_chunk", "llo "], ["ai_chunk", "you "]], [
      user("a"),
      assistant("Hello you "),
    ]],
    ["their message follows", [["ai_chunk", "Hel"], ["ai_chunk", "lo"], ["ai_message", "Hello."]], [
      assistant("Hello."),
    ]],
    [
      "their message comes before the last of them",
      [["ai_chunk", "Hel"], ["ai_message", "Hello"], ["ai_chunk", "lo"]],
      [
        assistant("Hello"),
      ],
    ],
    ["the caller interrupts, and the message is what was heard", [
      ["ai_chunk", "One moment", "t1"],
      ["ai_chunk", ", please", "t1"],
      ["user_message", "Stop", "t2"],
      ["ai_message", "One moment", "t1"],
    ], [user("Stop"), assistant("One moment")]],
    ["the caller interrupts, and nobody writes the message", [
      ["ai_chunk", "One mo", "call"],
      ["user_message", "Stop", "call"],
      ["ai_chunk", "All ", "call"],
      ["ai_chunk", "right", "call"],
      ["ai_message", "All right", "call"],
    ], [assistant("One mo"), user("Stop"), assistant("All right")]],
    ["another trace is another answer", [["ai_chunk", "One", "t1"], ["ai_chunk", "Two", "t2"], [
      "ai_message",
      "Two",
      "t2",
    ]], [
      assistant("One"),
      assistant("Two"),
    ]],
    ["two traces, mixed", [
      ["ai_chunk", "On", "t1"],
      ["ai_chunk", "Tw", "t2"],
      ["ai_chunk", "e", "t1"],
      ["ai_chunk", "o", "t2"],
      ["ai_message", "One", "t1"],
      ["ai_message", "Two", "t2"],
    ], [assistant("One"), assistant("Two")]],
    ["a tool call parts two answers", [["ai_chunk", "Let me see."], ["tool_call", ""], ["ai_chunk", "Rain."]], [
      assistant("Let me see."),
      assistant("Rain."),
    ]],
    ["other events part nothing", [["ai_chunk", "Let "], ["level", "7"], ["ai_chunk", "me"]], [assistant("Let me")]],
    ["a message without text stands for no chunks", [["ai_chunk", "A"], ["ai_message", ""], ["ai_chunk", "B"], [
      "ai_message",
      "B",
    ]], [assistant("A"), assistant("B")]],
    ["what is silent says nothing, and parts answers", [
      ["ai_chunk", "A"],
      ["user_message", " "],
      ["ai_chunk", "B"],
      ["ai_message", "B"],
      ["ai_message", ""],
    ], [assistant("A"), assistant("B")]],
  ];
  for (const [name, events, messages] of cases) {
    // Of nobody in Auth: a backend's callers are any text.
    const backed = backend(uuid());
    await newSession(backed, events.map(toEvent));
    assertEquals((await context(backed)).messages, messages as unknown, name);
  }
  assertEquals((await context(caller.request)).messages, []);
});

Deno.test("turns stand where they were said: a transcript that comes after its answer, events that were buffered", async () => {
  const said = Date.now() - 600_000;
  const at = (seconds: number) => new Date(said + seconds * 1000).toISOString();
  const late = (text: string, seconds: number, type = "user_message") => ({
    event_type: type,
    content: { text },
    occurred_at: at(seconds),
  });
  const caller = backend(uuid());
  const id = await newSession(caller, [
    late("hello", 0),
    late("hi", 1, "ai_message"),
    late("20 degrees", 5, "ai_message"),
    late("weather?", 3),
    // At the same time: in the order of their numbers.
    late("and", 6),
    late("tomorrow?", 6),
    // The answer's chunks are all there before its question is.
    ...Array.from({ length: 400 }, (_, i) => late(`${i} `, 10 + i / 100, "ai_chunk")),
    late("all numbers", 9),
  ]);
  const numbers = Array.from({ length: 400 }, (_, i) => `${i} `).join("");
  const turns = [
    ...[user("hello"), assistant("hi"), user("weather?"), assistant("20 degrees"), user("and"), user("tomorrow?")],
    ...[user("all numbers"), assistant(numbers)],
  ];
  assertEquals((await context(caller)).messages, turns as unknown);
  const audit = await caller("GET", `/sessions/audit?types=user_message&from=${at(-1)}`);
  // deno-lint-ignore no-explicit-any -- an event
  const heard = audit.body.data.map((event: any) => event.content.text);
  assertEquals(heard, turns.flatMap(({ role, content }) => role === "user" ? [content] : []), "as the audit has it");

  // Two clients, each of which sends its side of the call when it is over, and a budget that ends within.
  const sides = (type: string, from: number) =>
    Array.from({ length: 400 }, (_, i) => late(`${2 * i + from}`, 100 + (2 * i + from) / 10, type));
  for (const events of [sides("user_message", 0), sides("ai_message", 1)]) {
    assertEquals((await caller("POST", `/sessions/${id}/events`, { body: { events } })).status, 201);
  }
  const all = (await context(caller, "?max_tokens=100000")).messages.map(({ content }) => content);
  assertEquals(all, [...turns.map(({ content }) => content), ...Array.from({ length: 800 }, (_, i) => `${i}`)]);
  const newest = await context(caller, "?max_tokens=500");
  assertEquals(newest.messages.map(({ content }) => content), all.slice(-100));
  assertEquals(newest.truncated, true);

  // Beyond 500 events it is no transcript that is late: nothing is lost, but it stands with what was read with it.
  const rest = Array.from({ length: 1500 }, (_, i) => late(`${i}`, 200 + i / 100));
  for (let i = 0; i < rest.length; i += 500) {
    await caller("POST", `/sessions/${id}/events`, { body: { events: rest.slice(i, i + 500) } });
  }
  await caller("POST", `/sessions/${id}/events`, { body: { events: [late("first of all", -1)] } });
  const lates = (await context(caller, "?max_tokens=100000")).messages.map(({ content }) => content);
  assertEquals(lates.length, all.length + 1501);
  assertEquals(lates.at(-1), "1499");
  assert(lates.includes("first of all"));
});

Deno.test("turns in the shapes of voice platforms are said, found by the audit, and counted where nobody knows the shape", async () => {
  const shapes: [content: unknown, text: string][] = [
    [{ role: "bot", message: "Vapi says zebra", time: 1.5, secondsFromStart: 2 }, "Vapi says zebra"],
    [
      { role: "agent", content: "Retell says zebra", words: [{ word: "Retell", start: 0, end: 1 }] },
      "Retell says zebra",
    ],
    [{ type: "response.output_audio_transcript.done", transcript: "OpenAI says zebra" }, "OpenAI says zebra"],
    [[{ type: "text", text: "parts say zebra" }], "parts say zebra"],
    [
      { role: "assistant", content: [{ type: "output_audio", text: null, transcript: "spoken zebra" }] },
      "spoken zebra",
    ],
    [
      { type: "message", role: "assistant", content: ["LiveKit says", { type: "image_content" }, "zebra"] },
      "LiveKit says\nzebra",
    ],
    [
      { type: "conversation.item.done", item: { content: [{ type: "text", text: "an item's zebra" }] } },
      "an item's zebra",
    ],
    [{ role: "model", parts: [{ text: "a thought", thought: true }, { text: "Gemini's zebra" }] }, "Gemini's zebra"],
    [{ message: { role: "assistant", content: "a wrapped zebra" } }, "a wrapped zebra"],
    [{ text: "", transcript: "zebra in the second place" }, "zebra in the second place"],
    [
      { content: [{ type: "tool_use", name: "x", input: {} }, { type: "text", text: "called a zebra" }] },
      "called a zebra",
    ],
    ["a plain zebra", "a plain zebra"],
  ];
  const caller = backend(uuid());
  const events = shapes.map(([content]) => ({ event_type: "ai_message", content }));
  const id = await newSession(caller, events);
  const { messages, truncated, left_out } = await context(caller);
  assertEquals(messages.map(({ content }) => content), shapes.map(([, text]) => text));
  assertEquals([truncated, left_out], [false, 0]);
  const found = (await caller("GET", "/sessions/audit?q=ZEBRA")).body.data;
  assertEquals(found.length, shapes.length);

  const unknown: unknown[] = [{ utterance: "zebra" }, 7, { content: null, tool_calls: [{ id: "c" }] }, {
    type: "response.audio.delta",
    delta: "AAAA",
  }];
  const more = unknown.map((content) => ({ event_type: "user_message", content }));
  // Silence is no shape that nobody knows, and what is no turn has no text to lose.
  more.push({ event_type: "ai_message", content: { text: "" } }, { event_type: "tool_call", content: { name: "x" } });
  await caller("POST", `/sessions/${id}/events`, { body: { events: more } });
  const after = await context(caller);
  assertEquals(after.messages, messages);
  assertEquals([after.truncated, after.left_out], [true, unknown.length]);
  assertEquals((await caller("GET", "/sessions/audit?q=utterance")).body.data, []);

  // Pieces, too: what a realtime API streams is one answer.
  const streaming = backend(uuid());
  await newSession(
    streaming,
    ["Hel", "lo ", "you"].map((delta) => ({
      event_type: "ai_chunk",
      content: { type: "response.output_audio_transcript.delta", delta },
    })),
  );
  assertEquals((await context(streaming)).messages, [assistant("Hello you")] as unknown);
});

Deno.test("never over the budget, the newest first, whole messages, and summaries no more than half while turns need it", async () => {
  const caller = backend(uuid());
  const words = ["yes", "天気はどうですか", "What is the weather like?", "🧵", "a ".repeat(60)];
  for (let i = 0; i < 6; i++) {
    const turns = words.flatMap((word, j) => [["user_message", `${i} ${word}`], ["ai_message", `${j} ${word}`]]);
    await newSession(caller, turns.map(toEvent), `Session ${i}: ${words[i % 5]}`);
  }
  const all = await context(caller, "?max_tokens=100000&max_sessions=100");
  assertEquals([all.messages.length, all.truncated], [61, false]);
  const [summaries, ...turns] = all.messages;
  const [title, ...entries] = summaries.content.split("\n\n");
  const withSummaries = (n: number) => ({ ...summaries, content: [title, ...entries.slice(-n)].join("\n\n") });
  const sum = (messages: Message[]) => messages.reduce((total, message) => total + tokens(message), 0);

  for (let budget = 1; budget <= all.total_tokens + 10; budget += budget < 150 ? 1 : 37) {
    const most = (limit: number) => [6, 5, 4, 3, 2, 1].find((n) => tokens(withSummaries(n)) <= limit) ?? 0;
    const reserved = most(budget / 2);
    const left = budget - (reserved && tokens(withSummaries(reserved)));
    const said = turns.slice(turns.findIndex((_, i) => sum(turns.slice(i)) <= left));
    if (tokens(turns.at(-1)!) > left) said.length = 0;
    const shown = most(budget - sum(said));
    const messages = [...shown ? [withSummaries(shown)] : [], ...said];
    assertEquals(await context(caller, `?max_tokens=${budget}&max_sessions=100`), {
      messages,
      total_tokens: sum(messages),
      truncated: shown < 6 || said.length < turns.length,
      left_out: 0,
    }, `${budget}`);
    assert(sum(messages) <= budget);
  }
  const { messages, truncated } = await context(caller, "?max_tokens=4");
  assertEquals([messages, truncated], [[], true]);
});

Deno.test("what is read is bounded: the last 100,000 events and 1,000 sessions, and truncated says so", async () => {
  const sql = connect();
  // An answer in chunks that begins before what is read is not half told.
  const type = (n: number) => n === 100_000 || n === 100_001 ? "ai_chunk" : "user_message";
  const insert = async (userId: string, start: string, sequences: number[], lastSequence: number) => {
    const id = uuid();
    await sql`
      insert into sessions (id, user_id, start_time, last_sequence, last_event_at)
      values (${id}, ${userId}, ${start}, ${lastSequence}, now() + interval '1 hour')`;
    for (const n of sequences) {
      await sql`
        insert into event_logs (session_id, sequence, user_id, event_type, content, occurred_at, created_at)
        values (${id}, ${n}, ${userId}, ${type(n)}, ${sql.json(`${n}`)}, now(), now())`;
    }
  };
  const [long, often] = [uuid(), uuid()];
  await insert(long, "2026-01-02", [100_000, 100_001, 150_000, 200_000], 200_000);
  await insert(long, "2026-01-01", [1], 1);
  assertEquals(await context(backend(long)), {
    messages: [user("150000"), user("200000")],
    total_tokens: 12,
    truncated: true,
    left_out: 0,
  });

  await insert(often, "2026-01-01", [1], 1);
  await sql`
    insert into sessions (user_id, start_time, last_sequence, last_event_at)
    select ${often}, '2026-01-02', 1, now() from generate_series(1, 999)`;
  assertEquals(await context(backend(often)), {
    messages: [user("1")],
    total_tokens: 5,
    truncated: false,
    left_out: 0,
  });
  await insert(often, "2026-01-03", [1], 1);
  assertEquals(await context(backend(often)), { messages: [user("1")], total_tokens: 5, truncated: true, left_out: 0 });
  await sql.end();
});

Deno.test("whose it is: a user's own, whatever is asked; a backend says whose", async () => {
  const [alice, bob] = await Promise.all([signUp(), signUp()]);
  await newSession(alice.request, [["user_message", "I am Alice."]].map(toEvent), "About Alice.");
  const empty = { messages: [], total_tokens: 0, truncated: false, left_out: 0 };
  const hers = await context(alice.request);
  assertEquals(hers.messages.length, 2);
  assertEquals(await context(bob.request), empty);
  assertEquals(await context(bob.request, `?user_id=${alice.id}`), empty);
  assertEquals(await context(alice.request, `?user_id=${alice.id.toUpperCase()}`), hers);
  assertEquals(await context(backend(alice.id)), hers);
  assertEquals(await context(backend(), `?user_id=${alice.id}`), hers);
  assertEquals(await context(backend(bob.id), `?user_id=${alice.id}`), empty);
  const { status, body } = await backend()("GET", "/sessions/context");
  assertEquals([status, body.code], [400, "user_id_required"]);
});

Deno.test("a linked conversation's context has nothing of the session", async () => {
  const alice = await signUp();
  const messages = [{ role: "user", content: "written" }];
  const { body: conversation } = await alice.request("POST", "/conversations", { body: { messages } });
  const before = (await alice.request("GET", `/conversations/${conversation.id}/context`)).body;
  const { body: { id } } = await alice.request("POST", "/sessions", { body: { conversation_id: conversation.id } });
  await alice.request("POST", `/sessions/${id}/events`, { body: { events: [toEvent(["user_message", "spoken"])] } });
  assertEquals((await alice.request("GET", `/conversations/${conversation.id}/context`)).body, before);
  assertEquals((await context(alice.request)).messages, [user("spoken")]);
});

Deno.test("bad limits are refused by name, at the edge and in SQL, and other verbs with 405", async () => {
  const alice = await signUp();
  for (
    const [query, path] of [
      ["max_tokens=0", "max_tokens"],
      ["max_tokens=2147483648", "max_tokens"],
      ["max_sessions=101", "max_sessions"],
      ["max_sessions=-1", "max_sessions"],
      ["user_id=", "user_id"],
      ["limit=5", "limit"],
    ]
  ) {
    const { status, body } = await alice.request("GET", `/sessions/context?${query}`);
    assertEquals([status, body.details?.[0].path], [400, path], query);
  }
  for (const args of [{ p_max_tokens: 0 }, { p_max_sessions: 101 }]) {
    const { error } = await alice.client.rpc("get_session_context", args);
    assertEquals([error?.code, error?.message], ["PT400", "invalid_request"]);
  }
  const { status, headers } = await alice.request("DELETE", "/sessions/context");
  assertEquals([status, headers.get("allow")], [405, "GET, HEAD"]);
});

Deno.test("one request is one RPC", async () => {
  const alice = await signUp();
  const calls: string[] = [];
  const supabase = new Proxy(alice.client, {
    get(client, property) {
      assertEquals(property, "rpc");
      // deno-lint-ignore no-explicit-any -- whatever the repository calls
      return (name: any, args: any) => (calls.push(name), client.rpc(name, args));
    },
  });
  await getContext({ supabase, isBackend: false }, contextQuery.parse({}));
  assertEquals(calls, ["get_session_context"]);
});
