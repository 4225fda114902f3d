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
  });

  await insert(often, "2026-01-01", [1], 1);
  await sql`
    insert into sessions (user_id, start_time, last_sequence, last_event_at)
    select ${often}, '2026-01-02', 1, now() from generate_series(1, 999)`;
  assertEquals(await context(backend(often)), { messages: [user("1")], total_tokens: 5, truncated: false });
  await insert(often, "2026-01-03", [1], 1);
  assertEquals(await context(backend(often)), { messages: [user("1")], total_tokens: 5, truncated: true });
  await sql.end();
});

Deno.test("whose it is: a user's own, whatever is asked; a backend says whose", async () => {
  const [alice, bob] = await Promise.all([signUp(), signUp()]);
  await newSession(alice.request, [["user_message", "I am Alice."]].map(toEvent), "About Alice.");
  const empty = { messages: [], total_tokens: 0, truncated: false };
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
