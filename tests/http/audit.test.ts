// GET /sessions/audit: what happened in a window of time, over all sessions.
import { assert, assertEquals } from "@std/assert";
import { random } from "../support/context.ts";
import { type Answer, backend, signUp, uuid } from "../support/stack.ts";

interface Input {
  event_type: string;
  content: unknown;
  source?: string | null;
  trace_id?: string | null;
  occurred_at?: string;
}

interface Audited extends Input {
  session_id: string;
  user_id: string;
  sequence: number;
  occurred_at: string;
  last_sequence?: number;
  last_occurred_at?: string;
}

type Query = Record<string, string | number | boolean>;

const HOUR = 3_600_000;

/** A time of its own for each test, days ago: what other tests write is not in its windows. */
const someTimeAgo = () => Date.now() - Math.round((24 + Math.random() * 120) * HOUR);
const at = (ms: number) => new Date(ms).toISOString();

/** A caller of a backend, whose id is any text. */
const newCaller = () => `caller ${uuid()}`;

async function open(userId: string): Promise<string> {
  const { status, body } = await backend(userId)("POST", "/sessions", { body: {} });
  assertEquals(status, 201);
  return body.id;
}

async function append(userId: string, session: string, events: Input[]): Promise<void> {
  for (let i = 0; i < events.length; i += 1000) {
    const batch = { events: events.slice(i, i + 1000) };
    const { status, body } = await backend(userId)("POST", `/sessions/${session}/events`, { body: batch });
    assertEquals(status, 201, JSON.stringify(body));
  }
}

const search = (query: Query) =>
  `/sessions/audit?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]))}`;

async function audit(userId: string, query: Query): Promise<Answer["body"]> {
  const { status, body } = await backend(userId)("GET", search(query));
  assertEquals(status, 200, JSON.stringify(body));
  return body;
}

/** Every page, one after the other. */
async function auditAll(send: (path: string) => Promise<Answer>, query: Query): Promise<Audited[]> {
  const events: Audited[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const { status, body }: Answer = await send(search({ ...query, ...(cursor && { cursor }) }));
    assertEquals(status, 200, JSON.stringify(body));
    assert(body.data.length <= Number(query.limit ?? 50));
    assertEquals(body.next_cursor !== null, body.has_more);
    events.push(...body.data);
    cursor = body.next_cursor;
  }
  return events;
}

const ofCaller = (userId: string) => (path: string) => backend(userId)("GET", path);
const texts = (events: Audited[]) =>
  events.map(({ content }) => (content as { text?: string }).text ?? content as string);

Deno.test("a window is half-open, and its events come in time order with their users", async () => {
  const userId = newCaller();
  const t = someTimeAgo();
  const [one, two] = [await open(userId), await open(userId)];
  const say = (text: string, ms: number) => ({ event_type: "ai_message", content: { text }, occurred_at: at(t + ms) });
  await append(userId, one, [say("before", -1), say("first", 0), say("third", 20), say("end", 100)]);
  await append(userId, two, [say("fourth", 99), say("second", 10)]);

  const page = await audit(userId, { from: at(t), to: at(t + 100) });
  assertEquals(texts(page.data), ["first", "second", "third", "fourth"]);
  assertEquals([page.has_more, page.next_cursor], [false, null]);
  const { created_at, ...event } = page.data[1];
  assert(Date.parse(created_at) > t);
  assertEquals(event, {
    session_id: two,
    sequence: 2,
    user_id: userId,
    event_type: "ai_message",
    content: { text: "second" },
    source: null,
    trace_id: null,
    occurred_at: at(t + 10).replace("Z", "+00:00").replace(/\.?0*\+/, "+"),
  });
});

Deno.test("the window is the last 24 hours, or the 24 hours before its end, and never empty", async () => {
  const userId = newCaller();
  const session = await open(userId);
  const now = Date.now();
  const say = (text: string, ms: number) => ({ event_type: "note", content: text, occurred_at: at(now + ms) });
  await append(userId, session, [
    say("two days ago", -49 * HOUR),
    say("yesterday", -25 * HOUR),
    say("today", -23 * HOUR),
    say("soon", 4 * 60_000),
  ]);
  const found = async (query: Query) => texts((await audit(userId, query)).data);
  assertEquals(await found({}), ["today"]);
  assertEquals(await found({ from: at(now - 26 * HOUR) }), ["yesterday", "today"]);
  assertEquals(await found({ to: at(now - 24 * HOUR) }), ["yesterday"]);
  assertEquals(await found({ to: at(now + HOUR) }), ["today", "soon"]);

  for (
    const query of [
      { from: at(now), to: at(now) },
      { from: at(now), to: at(now - 1) },
      { from: at(now + HOUR) },
      { from: "yesterday" },
      { to: "2026-01-01" },
      { q: "" },
      { q: "x".repeat(1001) },
      { q: "\0" },
      { types: "" },
      { fold: "yes" },
      { limit: 0 },
      { limit: 1001 },
      { cursor: "x" },
      { text: "hello" },
    ] as Query[]
  ) {
    const { status, body } = await backend(userId)("GET", search(query));
    assertEquals([status, body.code], [400, "invalid_request"], JSON.stringify(query));
  }
  const wrongVerb = await backend(userId)("POST", "/sessions/audit", { body: {} });
  assertEquals([wrongVerb.status, wrongVerb.headers.get("allow")], [405, "GET, HEAD"]);
});

Deno.test("types and text: what was said, in either case, and no character is a wildcard", async () => {
  const userId = newCaller();
  const t = someTimeAgo();
  const session = await open(userId);
  const window = { from: at(t), to: at(t + 1000) };
  const contents: [string, unknown][] = [
    ["user_message", "100% sure"],
    ["user_message", { text: "1000 sure" }],
    ["ai_message", { text: "snake_case", more: "100%" }],
    ["ai_message", { text: "snakeXcase" }],
    ["ai_message", "C:\\temp"],
    ["ai_message", { text: "ÄRGER in МОСКВА, ŁÓDŹ" }],
    ["tool_call", { name: "sure", arguments: { text: "sure" } }],
    ["ai_message", { text: ["sure"] }],
    ["note", ["sure"]],
    ["note", 100],
  ];
  await append(
    userId,
    session,
    contents.map(([event_type, content], i) => ({ event_type, content, occurred_at: at(t + i) })),
  );
  const found = async (query: Query) =>
    (await audit(userId, { ...window, ...query })).data.map(({ sequence }: Audited) => sequence);

  assertEquals(await found({ types: "user_message" }), [1, 2]);
  assertEquals(await found({ types: "tool_call,note" }), [7, 9, 10]);
  assertEquals(await found({ types: "error" }), []);
  assertEquals(await found({ q: "100%" }), [1]);
  assertEquals(await found({ q: "_" }), [3]);
  assertEquals(await found({ q: "SNAKE_Case" }), [3]);
  assertEquals(await found({ q: "\\" }), [5]);
  assertEquals(await found({ q: "c:\\TEMP" }), [5]);
  assertEquals(await found({ q: "ärger IN москва, łódź" }), [6]);
  assertEquals(await found({ q: "sure" }), [1, 2]);
  assertEquals(await found({ q: "sure", types: "ai_message" }), []);
  assertEquals(await found({ q: "s" }), [1, 2, 3, 4]);
});

Deno.test("a user reads their own events, a backend those of everybody or of one", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const other = newCaller();
  const t = someTimeAgo();
  const window = { from: at(t), to: at(t + 1000), limit: 1000 };
  for (const [i, id] of [alice.id, bob.id, other].entries()) {
    const session = await open(id);
    await append(id, session, [{ event_type: "user_message", content: `I am ${id}`, occurred_at: at(t + i) }]);
  }
  const everybody = [alice.id, bob.id, other];
  const owners = async (send: typeof alice.request, query: Query = {}) => {
    const { status, body } = await send("GET", search({ ...window, ...query }));
    assertEquals(status, 200, JSON.stringify(body));
    return body.data.map((event: Audited) => event.user_id).filter((id: string) => everybody.includes(id));
  };
  assertEquals(await owners(backend()), everybody);
  assertEquals(await owners(backend(), { user_id: other }), [other]);
  assertEquals(await owners(backend(), { user_id: bob.id.toUpperCase() }), [bob.id]);
  assertEquals(await owners(backend(bob.id)), [bob.id]);
  assertEquals(await owners(backend(bob.id), { user_id: other }), []);
  assertEquals(await owners(alice.request), [alice.id]);
  assertEquals(await owners(alice.request, { user_id: alice.id }), [alice.id]);
  assertEquals(await owners(alice.request, { user_id: bob.id }), []);
  assertEquals(await owners(alice.request, { q: "I am" }), [alice.id]);
  assertEquals(await owners(alice.request, { fold: true }), [alice.id]);

  // Past the function: the RPC believes a token, not an argument; and a cursor is a place, not a right.
  const { data } = await alice.client.rpc("audit_events", {
    p_from: window.from,
    p_to: window.to,
    p_user_id: bob.id,
  });
  assertEquals((data as unknown as { data: Audited[] }).data.map((event) => event.user_id), [alice.id]);
  const { body: { next_cursor: cursor } } = await backend()("GET", search({ ...window, limit: 1 }));
  assertEquals(await owners(bob.request, { cursor }), [bob.id]);
});

Deno.test("fold: the chunks of each session become the sentences they form, interleaved as they are", async () => {
  const userId = newCaller();
  const t = someTimeAgo();
  const window = { from: at(t), to: at(t + 1000) };
  const [one, two] = [await open(userId), await open(userId)];
  const chunk = (text: string, ms: number, rest: Partial<Input> = {}) => ({
    event_type: "ai_chunk",
    content: { text },
    occurred_at: at(t + ms),
    ...rest,
  });
  await append(userId, one, [
    chunk("Hel", 0),
    chunk("lo wor", 20),
    { event_type: "ai_chunk", content: "ld 👩‍", occurred_at: at(t + 40) },
    chunk("👩‍👧", 60),
    { event_type: "user_message", content: "Stop", occurred_at: at(t + 70) },
    chunk("Ok", 80, { trace_id: "a" }),
    chunk("ay", 81, { trace_id: "a" }),
    chunk("Next", 82, { trace_id: "b" }),
    chunk(" voice", 83, { trace_id: "b", source: "tts" }),
    { event_type: "ai_chunk", content: { delta: "not text" }, occurred_at: at(t + 84) },
    chunk("!", 85, { trace_id: "b", source: "tts" }),
  ]);
  await append(userId, two, [chunk("Bon", 10), chunk("jour", 30), chunk(".", 50)]);

  const { data } = await audit(userId, { ...window, fold: true });
  const brief = (events: Audited[]) =>
    events.map(({ session_id, sequence, last_sequence, event_type, content }) => [
      session_id === one ? 1 : 2,
      sequence,
      last_sequence,
      event_type,
      content,
    ]);
  assertEquals(brief(data), [
    [1, 1, 4, "ai_chunk", { text: "Hello world 👩‍👩‍👧" }],
    [2, 1, 3, "ai_chunk", { text: "Bonjour." }],
    [1, 5, 5, "user_message", "Stop"],
    [1, 6, 7, "ai_chunk", { text: "Okay" }],
    [1, 8, 8, "ai_chunk", { text: "Next" }],
    [1, 9, 9, "ai_chunk", { text: " voice" }],
    [1, 10, 10, "ai_chunk", { delta: "not text" }],
    [1, 11, 11, "ai_chunk", { text: "!" }],
  ]);
  assertEquals([data[0].occurred_at, data[0].last_occurred_at].map(Date.parse), [t, t + 60]);
  assertEquals([data[3].trace_id, data[3].source, data[5].source], ["a", null, "tts"]);

  const found = async (query: Query) =>
    brief((await audit(userId, { ...window, ...query })).data).map(([s, n]) => [s, n]);
  assertEquals(await found({ fold: true, q: "HELLO WORLD" }), [[1, 1]]);
  assertEquals(await found({ fold: true, q: "👩‍👩‍👧" }), [[1, 1]]);
  assertEquals(await found({ fold: false, q: "hello" }), []);
  assertEquals(await found({ fold: true, types: "ai_chunk", q: "o" }), [[1, 1], [2, 1], [1, 6], [1, 9]]);
  assertEquals(await found({ fold: true, types: "user_message" }), [[1, 5]]);

  // The window cuts: what lies outside is no part of the sentence.
  const cut = await audit(userId, { from: at(t + 20), to: at(t + 60), fold: true });
  assertEquals(brief(cut.data), [
    [1, 2, 3, "ai_chunk", { text: "lo world 👩‍" }],
    [2, 2, 3, "ai_chunk", { text: "jour." }],
  ]);

  const plain = await audit(userId, window);
  assertEquals(plain.data.length, 14);
  assert(plain.data.every((event: Audited) => !("last_sequence" in event || "last_occurred_at" in event)));
});

Deno.test("fold: a run without end is told in parts of 10,000 chunks or 1 MiB", async () => {
  const userId = newCaller();
  const t = someTimeAgo();
  const session = await open(userId);
  const events = Array.from({ length: 10_500 }, (_, i) => ({
    event_type: "ai_chunk",
    content: `${i} `,
    occurred_at: at(t + i),
  }));
  events.push({ event_type: "note", content: "over", occurred_at: at(t + 10) } as typeof events[0]);
  events.push(...Array.from({ length: 5 }, (_, i) => ({
    event_type: "ai_chunk",
    content: `${i}`.repeat(300_000),
    occurred_at: at(t + 20_000),
  })));
  await append(userId, session, events);
  for (const limit of [1, 2, 50]) {
    const query = { from: at(t), to: at(t + 30_000), fold: true, limit };
    const found = await auditAll(ofCaller(userId), query);
    assertEquals(found.map(({ sequence, last_sequence }) => [sequence, last_sequence]), [
      [1, 10_000],
      [10_001, 10_500],
      [10_501, 10_501],
      [10_502, 10_504],
      [10_505, 10_506],
    ]);
    assertEquals(
      texts(found).join(""),
      events.toSpliced(10_500, 1).map((event) => event.content).join("").replace("10499 ", "10499 over"),
    );
  }
});

Deno.test("a page ends before it is too large, and the next goes on", async () => {
  const userId = newCaller();
  const t = someTimeAgo();
  const session = await open(userId);
  for (let i = 0; i < 4; i++) {
    await append(userId, session, [{
      event_type: "ai_message",
      content: { text: `${i}`.repeat(3_000_000) },
      occurred_at: at(t + i),
    }]);
  }
  for (const fold of [false, true]) {
    const query = { from: at(t), to: at(t + 10), fold };
    const first = await audit(userId, query);
    assertEquals([first.data.length, first.has_more], [2, true]);
    assertEquals((await auditAll(ofCaller(userId), query)).map((event) => event.sequence), [1, 2, 3, 4]);
  }
});

Deno.test("a cursor stays in its window and its place, whatever is written meanwhile", async () => {
  const userId = newCaller();
  const session = await open(userId);
  const now = Date.now();
  const chunk = (ms: number) => ({ event_type: "ai_chunk", content: "x", occurred_at: at(now + ms) });
  await append(userId, session, [
    chunk(-23 * HOUR),
    chunk(-5000),
    chunk(-4000),
    { event_type: "note", content: "y", occurred_at: at(now - 3000) },
  ]);
  const first = await audit(userId, { limit: 1 });
  assertEquals(first.data.map((event: Audited) => event.sequence), [1]);
  const folded = await audit(userId, { limit: 1, fold: true });
  assertEquals([folded.data[0].last_sequence, folded.has_more], [3, true]);

  // Before the cursor, after it, and after the request whose time was the end of the window.
  await append(userId, session, [chunk(-23 * HOUR - 1), chunk(-4500), { event_type: "note", content: "later" }]);
  const second = await audit(userId, { cursor: first.next_cursor });
  assertEquals([second.data.map((event: Audited) => event.sequence), second.has_more], [[2, 6, 3, 4], false]);
  assertEquals((await audit(userId, {})).data.map((event: Audited) => event.sequence), [5, 1, 2, 6, 3, 4, 7]);
  const rest = await audit(userId, { cursor: folded.next_cursor, fold: true });
  assertEquals([rest.data.map((event: Audited) => event.sequence), rest.has_more], [[4], false]);
});

// ---- random histories against the rules, written a second time ------------------------------------------------------

function expected(
  sessions: Map<string, Required<Input>[]>,
  from: number,
  to: number,
  { types, q, fold }: { types?: string[]; q?: string; fold: boolean },
) {
  const text = (content: unknown) => {
    const value = typeof content === "string" ? content : (content as { text?: unknown } | null)?.text;
    return typeof value === "string" ? value : undefined;
  };
  return [...sessions].flatMap(([session_id, events]) => {
    const told: (Required<Input> & { session_id: string; sequence: number; last_sequence: number; run: boolean })[] =
      [];
    events.forEach((event, i) => {
      const time = Date.parse(event.occurred_at);
      if (time < from || time >= to) return;
      const run = fold && event.event_type === "ai_chunk" && text(event.content) !== undefined;
      const last = told.at(-1);
      if (
        run && last?.run && last.last_sequence === i && last.source === event.source && last.trace_id === event.trace_id
      ) {
        last.content = { text: text(last.content)! + text(event.content)! };
        last.last_sequence = i + 1;
      } else {
        const content = run ? { text: text(event.content) } : event.content;
        told.push({ ...event, content, session_id, sequence: i + 1, last_sequence: i + 1, run });
      }
    });
    return told;
  })
    .filter((event) => !types || types.includes(event.event_type))
    .filter((event) => !q || text(event.content)?.toLowerCase().includes(q.toLowerCase()))
    .sort((a, b) =>
      Date.parse(a.occurred_at) - Date.parse(b.occurred_at) || (a.session_id < b.session_id ? -1 : 1) *
        Number(a.session_id !== b.session_id) ||
      a.sequence - b.sequence
    )
    .map(({ session_id, sequence, last_sequence, event_type, content, source, trace_id }) =>
      JSON.stringify([session_id, sequence, fold ? last_sequence : undefined, event_type, content, source, trace_id])
    );
}

for (const seed of [1, 2, 3, 4, 5, 6]) {
  Deno.test(`random sessions ${seed}: pages of every size give what the rules give`, async () => {
    const rand = random(seed);
    const int = (n: number) => Math.floor(rand() * n);
    const pick = <T>(values: T[]): T => values[int(values.length)];
    const userId = newCaller();
    const t = someTimeAgo();
    const sessions = new Map<string, Required<Input>[]>();
    for (let s = 0; s < 4; s++) {
      const chatty = rand();
      let time = t + int(20);
      sessions.set(
        await open(userId),
        Array.from({ length: 20 + int(60) }, () => {
          // Many events share a time, some come out of order.
          time += pick([0, 0, 1, 1, 5]);
          return {
            event_type: rand() < chatty ? "ai_chunk" : pick(["ai_chunk", "user_message", "ai_message", "tool_call"]),
            content: pick<unknown>([
              "He",
              "l",
              { text: "lo" },
              { text: " W" },
              "ör",
              { text: "LD%" },
              "",
              {
                text: "👩‍",
              },
              rand() < 0.3 ? { name: "f" } : "_\\",
              rand() < 0.3 ? [1] : "a",
            ]),
            source: rand() < 0.05 ? "tts" : null,
            trace_id: pick([null, ...Array(9).fill("turn")]),
            occurred_at: at(time + (rand() < 0.1 ? int(60) - 30 : 0)),
          };
        }),
      );
    }
    for (const [id, events] of sessions) await append(userId, id, events);

    for (let i = 0; i < 8; i++) {
      const fold = i % 4 !== 3;
      const types = pick([undefined, undefined, ["ai_chunk"], ["user_message", "ai_message"], [
        "ai_chunk",
        "tool_call",
      ]]);
      const q = pick([undefined, undefined, "hello", "LL", "wör", "%", "_\\", "o wörld%"]);
      const [from, to] = pick([[t - 100, t + 1000], [t + int(60), t + 60 + int(60)]]);
      const query = {
        from: at(from),
        to: at(to),
        fold,
        ...(types && { types: types.join() }),
        ...(q && { q }),
      };
      const rules = expected(sessions, from, to, { types, q, fold });
      for (const limit of [1000, pick([1, 2, 3]), 5 + int(30)]) {
        const asBackend = (path: string) => backend()("GET", path);
        const found = await auditAll(i % 2 ? asBackend : ofCaller(userId), { ...query, limit });
        assertEquals(
          found.filter((event) => event.user_id === userId).map((event) =>
            JSON.stringify([
              event.session_id,
              event.sequence,
              event.last_sequence,
              event.event_type,
              event.content,
              event.source,
              event.trace_id,
            ])
          ),
          rules,
          JSON.stringify({ ...query, limit }),
        );
      }
    }
  });
}
