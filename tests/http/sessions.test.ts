import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { page } from "../../supabase/functions/_shared/schemas.ts";
import { appended, event, session } from "../../supabase/functions/sessions/schemas.ts";
import { backend, connect, newConversation, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();
const bob = await signUp();
/** Who calls a voice backend: nobody that Auth knows. */
const caller = (id = `caller-${uuid()}`) => ({ id, request: backend(id) });
const say = (text: string) => ({ event_type: "user_message", content: { text } });

async function open(request = alice.request, body: Record<string, unknown> = {}): Promise<string> {
  const answer = await request("POST", "/sessions", { body });
  assertEquals(answer.status, 201, JSON.stringify(answer.body));
  return answer.body.id;
}

Deno.test("a session is opened once, whoever comes back to it, and nobody else finds it", async () => {
  const id = uuid();
  const body = { id, metadata: { channel: "phone", build: 1 } };
  const first = await alice.request("POST", "/sessions", { body });
  assertEquals(first.status, 201);
  session.parse(first.body);
  assertEquals([first.body.id, first.body.user_id, first.body.last_sequence], [id, alice.id, 0]);

  const again = await alice.request("POST", "/sessions", { body });
  assertEquals([again.status, again.body], [200, first.body]);
  const merged = await alice.request("POST", "/sessions", { body: { id, metadata: { build: 2 } } });
  assertEquals([merged.status, merged.body.metadata], [200, { channel: "phone", build: 2 }]);

  for (const stranger of [bob.request, backend(bob.id), caller().request]) {
    const answer = await stranger("POST", "/sessions", { body });
    assertEquals([answer.status, answer.body.code], [404, "session_not_found"]);
  }
  assertEquals((await backend(alice.id)("POST", "/sessions", { body: { id } })).status, 200);
  assertEquals((await alice.request("GET", `/sessions/${id}`)).body.metadata, { channel: "phone", build: 2 });
});

Deno.test("sixteen who open the same session at once get one", async () => {
  const id = uuid();
  const answers = await Promise.all(
    Array.from({ length: 16 }, () => alice.request("POST", "/sessions", { body: { id } })),
  );
  assertEquals(answers.map(({ status }) => status).toSorted(), [...Array(15).fill(200), 201]);
  assertEquals(new Set(answers.map(({ body }) => body.start_time)).size, 1);
});

Deno.test("an Idempotency-Key makes an open without an id repeatable", async () => {
  const headers = { "idempotency-key": uuid() };
  const first = await alice.request("POST", "/sessions", { body: { metadata: { a: 1 } }, headers });
  const again = await alice.request("POST", "/sessions", { body: { metadata: { a: 1 } }, headers });
  assertEquals([first.status, first.headers.get("idempotent-replayed")], [201, null]);
  assertEquals([again.status, again.headers.get("idempotent-replayed"), again.body], [201, "true", first.body]);
  const other = await alice.request("POST", "/sessions", { body: { metadata: { a: 2 } }, headers });
  assertEquals([other.status, other.body.code], [409, "idempotency_mismatch"]);
});

Deno.test("a backend opens sessions for any text; a uuid means its user however it is spelled", async () => {
  const { id: name, request } = caller("+49 (0)30 123456");
  const opened = await request("POST", "/sessions", { body: {} });
  assertEquals([opened.status, opened.body.user_id], [201, name]);
  const id = await open(backend(alice.id.toUpperCase()));
  assertEquals((await alice.request("GET", `/sessions/${id}`)).body.user_id, alice.id);

  const nobody = await backend()("POST", "/sessions", { body: {} });
  assertEquals([nobody.status, nobody.body.code], [400, "user_id_required"]);
  const long = await backend("x".repeat(257))("POST", "/sessions", { body: {} });
  assertEquals([long.status, long.body.details[0].path], [400, "x-user-id"]);
  assertEquals((await backend("x".repeat(256))("POST", "/sessions", { body: {} })).status, 201);
});

Deno.test("a session belongs to a conversation of the same user, whose context it does not change", async () => {
  const conversation_id = await newConversation(alice, { messages: [{ role: "user", content: "typed" }] });
  const before = (await alice.request("GET", `/conversations/${conversation_id}/context`)).body;
  const id = await open(alice.request, { conversation_id });
  await alice.request("POST", `/sessions/${id}/events`, { body: { events: [say("spoken")] } });
  await alice.request("POST", `/sessions/${id}/end`, { body: { summary: "spoke" } });
  assertEquals((await alice.request("GET", `/sessions/${id}`)).body.conversation_id, conversation_id);
  assertEquals((await alice.request("GET", `/conversations/${conversation_id}/context`)).body, before);

  const foreign = await bob.request("POST", "/sessions", { body: { conversation_id } });
  assertEquals([foreign.status, foreign.body.code], [404, "conversation_not_found"]);
  const named = await caller().request("POST", "/sessions", { body: { conversation_id } });
  assertEquals([named.status, named.body.code], [404, "conversation_not_found"]);

  const later = await open();
  const linked = await alice.request("POST", "/sessions", { body: { id: later, conversation_id } });
  assertEquals([linked.status, linked.body.conversation_id], [200, conversation_id]);
  const another = await newConversation(alice);
  const moved = await alice.request("POST", "/sessions", { body: { id: later, conversation_id: another } });
  assertEquals([moved.status, moved.body.code], [409, "conflict"]);

  // The one is gone, the other stays as what a fork shows: for a session both are deleted.
  await alice.request("POST", `/conversations/${another}/messages`, {
    body: { messages: [{ role: "user", content: "x" }] },
  });
  await alice.request("POST", `/conversations/${another}/fork`, { body: { at: 1 } });
  const third = await open(alice.request, { conversation_id: another });
  for (const deleted of [conversation_id, another]) await alice.request("DELETE", `/conversations/${deleted}`);
  for (const call of [id, third]) {
    assertEquals((await alice.request("GET", `/sessions/${call}`)).body.conversation_id, null, "the call stays");
  }
});

Deno.test("ending keeps the first end and the summary there is", async () => {
  const id = await open();
  const end = (body: unknown) => alice.request("POST", `/sessions/${id}/end`, { body });
  const first = await end({});
  assertEquals([first.status, first.body.summary], [200, null]);
  const seconds = (Date.parse(first.body.end_time) - Date.parse(first.body.start_time)) / 1000;
  assert(Math.abs(first.body.duration - seconds) < 0.002, `${first.body.duration} is not ${seconds}`);
  const summed = await end({ summary: "Asked for the weather." });
  assertEquals(summed.body, { ...first.body, summary: "Asked for the weather." });
  for (const body of [{}, { summary: null }]) assertEquals((await end(body)).body, summed.body);
  const late = await alice.request("POST", `/sessions/${id}/events`, { body: { events: [say("one more thing")] } });
  assertEquals([late.status, late.body.last_sequence], [201, 1], "what comes late is logged");
  assertEquals((await alice.request("GET", `/sessions/${id}`)).body.end_time, first.body.end_time);
});

Deno.test("what a client logs comes back equal, in the order of the database", async () => {
  const id = await open();
  const occurred_at = new Date(Date.now() - 3_600_000).toISOString();
  const events = [
    say('Zażółć 🧵👩‍👩‍👧‍👦 日本語 "quotes" \\back\\ \u2028 \t\r\n end'),
    { event_type: "ai_chunk", content: "plain text", source: "tts", trace_id: "turn-1" },
    { event_type: "tool_call", content: { id: "call_1", name: "f", arguments: { a: [1, null, { b: -0.5e-7 }] } } },
    { event_type: "my.own type", content: [1, "two", false], occurred_at },
    { event_type: "system", content: 0 },
    { event_type: "error", content: false },
  ];
  const answer = await alice.request("POST", `/sessions/${id}/events`, { body: { events } });
  assertEquals(answer.status, 201, JSON.stringify(answer.body));
  appended.parse(answer.body);
  const { body } = await alice.request("GET", `/sessions/${id}/events`);
  page(event).parse(body);
  assertEquals(body.data, answer.body.events);
  for (const [i, sent] of events.entries()) {
    const { created_at, ...stored } = body.data[i];
    const expected = {
      source: null,
      trace_id: null,
      occurred_at: created_at,
      ...sent,
      session_id: id,
      sequence: i + 1,
    };
    if ("occurred_at" in sent) stored.occurred_at = new Date(stored.occurred_at).toISOString();
    assertEquals(stored, expected);
  }
  const times = body.data.map((row: { created_at: string }) => row.created_at);
  assertEquals(times, times.toSorted(), "those who order by created_at get the same order");
  assertEquals(new Set(times).size, times.length);
});

Deno.test("pages and types", async () => {
  const id = await open();
  const events = Array.from({ length: 25 }, (_, i) => ({
    event_type: ["user_message", "ai_chunk", "tool_call"][i % 3],
    content: { text: String(i + 1) },
  }));
  await alice.request("POST", `/sessions/${id}/events`, { body: { events } });
  const load = async (query: string) => {
    const { status, body } = await alice.request("GET", `/sessions/${id}/events?${query}`);
    assertEquals(status, 200, JSON.stringify(body));
    return { ...body, numbers: body.data.map((row: { sequence: number }) => row.sequence) };
  };
  assertEquals((await load("after=20")).numbers, [21, 22, 23, 24, 25]);
  assertEquals((await load("types=tool_call")).numbers, [3, 6, 9, 12, 15, 18, 21, 24]);
  assertEquals((await load("types=tool_call,user_message&after=20")).numbers, [21, 22, 24, 25]);
  assertEquals((await load("types=nothing")).numbers, []);
  const seen: number[] = [];
  for (let after = "0"; after !== null;) {
    const { numbers, next_cursor } = await load(`limit=7&after=${after}`);
    seen.push(...numbers);
    after = next_cursor;
  }
  assertEquals(seen, Array.from({ length: 25 }, (_, i) => i + 1));
});

Deno.test("2,500 events in, 2,500 events out", async () => {
  const id = await open();
  for (let batch = 0; batch < 5; batch++) {
    const events = Array.from({ length: 500 }, (_, i) => say(`${batch * 500 + i}`));
    assertEquals((await alice.request("POST", `/sessions/${id}/events`, { body: { events } })).status, 201);
  }
  const texts: string[] = [];
  for (let after: string | null = "0"; after !== null;) {
    const { body } = await alice.request("GET", `/sessions/${id}/events?limit=1000&after=${after}`);
    texts.push(...body.data.map((row: { content: { text: string } }) => row.content.text));
    after = body.next_cursor;
  }
  assertEquals(texts, Array.from({ length: 2500 }, (_, i) => String(i)));
});

Deno.test("a page ends early at about 8 MiB", async () => {
  const id = await open();
  for (let i = 0; i < 4; i++) {
    await alice.request("POST", `/sessions/${id}/events`, { body: { events: [say("x".repeat(3 * 1024 * 1024))] } });
  }
  const { body } = await alice.request("GET", `/sessions/${id}/events`);
  assertEquals([body.data.length, body.has_more, body.next_cursor], [2, true, "2"]);
});

Deno.test("a repeated append answers as the first time and stores nothing", async () => {
  const id = await open();
  const append = (key: string, ...texts: string[]) =>
    alice.request("POST", `/sessions/${id}/events`, {
      body: { events: texts.map(say) },
      headers: { "idempotency-key": key },
    });
  const first = await append("k1", "one", "two");
  await append("k2", "three");
  const again = await append("k1", "one", "two");
  assertEquals([again.status, again.headers.get("idempotent-replayed"), again.body], [201, "true", first.body]);
  const other = await append("k1", "one");
  assertEquals([other.status, other.body.code], [409, "idempotency_mismatch"]);
  const together = await Promise.all(Array.from({ length: 8 }, () => append("k3", "four")));
  assertEquals(new Set(together.map(({ body }) => JSON.stringify(body))).size, 1);
  assertEquals((await alice.request("GET", `/sessions/${id}`)).body.last_sequence, 4);
});

Deno.test("what cannot be stored is refused with its path, and nothing of its batch stays", async () => {
  const id = await open();
  const send = (body: unknown) => alice.request("POST", `/sessions/${id}/events`, { body });
  const old = new Date(Date.now() - 8 * 86_400_000).toISOString();
  const early = new Date(Date.now() + 600_000).toISOString();
  for (
    const [events, path] of [
      [[say("a"), { event_type: "ai_chunk" }], "events[1].content"],
      [[{ ...say("a"), content: null }], "events[0].content"],
      [[{ ...say("a"), event_type: "" }], "events[0].event_type"],
      [[{ ...say("a"), sequence: 7 }], "events[0].sequence"],
      [[{ ...say("a"), created_at: old }], "events[0].created_at"],
      [[{ ...say("a"), occurred_at: "yesterday" }], "events[0].occurred_at"],
      [[], "events"],
      [Array.from({ length: 1001 }, () => say("a")), "events"],
    ] as const
  ) {
    const { status, body } = await send({ events });
    assertEquals([status, body.code, body.details?.[0].path], [400, "invalid_request", path]);
  }
  for (const half of ["\\ud83e", "\\uddf5", "\\u0000"]) {
    const { status, body } = await send(`{"events":[{"event_type":"ai_chunk","content":"a","source":"${half}"}]}`);
    assertEquals([status, body.details[0].path], [400, "events[0].source"]);
  }
  for (const occurred_at of [old, early]) {
    const { status, body } = await send({ events: [say("a"), { ...say("b"), occurred_at }] });
    assertEquals([status, body.code], [400, "invalid_request"]);
    assertMatch(body.details, /^events\[1\]\.occurred_at/);
  }
  assertEquals((await alice.request("GET", `/sessions/${id}`)).body.last_sequence, 0);
  assertEquals((await send({ events: [say("a")] })).status, 201);
});

Deno.test("sessions are listed from the latest start, by window and by user", async () => {
  const { id: name, request } = caller();
  const starts = [50, 40, 30, 20, 10].map((minutes) => new Date(Date.now() - minutes * 60_000).toISOString());
  const ids: string[] = [];
  for (const start_time of starts) ids.push(await open(request, { start_time }));
  const list = async (query: string, by = request) => {
    const { status, body } = await by("GET", `/sessions?${query}`);
    assertEquals(status, 200, JSON.stringify(body));
    return { ...body, ids: body.data.map((row: { id: string }) => row.id) };
  };
  assertEquals((await list("")).ids, ids.toReversed());
  assertEquals((await list(`from=${starts[1]}&to=${starts[3]}`)).ids, [ids[2], ids[1]], "from counts, to does not");
  const first = await list("limit=2");
  const second = await list(`limit=2&cursor=${first.next_cursor}`);
  const third = await list(`limit=2&cursor=${second.next_cursor}`);
  assertEquals([...first.ids, ...second.ids, ...third.ids], ids.toReversed());
  assertEquals([first.has_more, third.has_more, third.next_cursor], [true, false, null]);

  assertEquals((await list(`user_id=${encodeURIComponent(name)}`, backend())).ids, ids.toReversed());
  assertEquals((await list(`user_id=${encodeURIComponent(name)}`, alice.request)).ids, [], "a user reads their own");
  assertEquals((await list(`user_id=${encodeURIComponent(name)}`, backend(alice.id))).ids, []);
  assert((await list(`from=${starts[0]}`, backend())).ids.length >= 5, "a backend reads everybody's");

  const old = await request("POST", "/sessions", { body: { start_time: "2020-01-01T00:00:00Z" } });
  assertEquals([old.status, old.body.code], [400, "invalid_request"]);
});

Deno.test("summaries have a limit, and lists end early at about 8 MiB", async () => {
  const long = caller();
  const first = await open(long.request);
  const refused = await long.request("POST", `/sessions/${first}/end`, { body: { summary: "x".repeat(65_537) } });
  assertEquals([refused.status, refused.body.details[0].path], [400, "summary"]);
  const ids = [first];
  for (let i = 1; i < 90; i++) ids.push(await open(long.request));
  for (const id of ids) {
    const { status } = await long.request("POST", `/sessions/${id}/end`, { body: { summary: "é".repeat(65_536) } });
    assertEquals(status, 200);
  }
  const listed: string[] = [];
  const sizes: number[] = [];
  for (let cursor = ""; cursor !== null;) {
    const { body } = await long.request("GET", `/sessions?limit=1000${cursor && `&cursor=${cursor}`}`);
    listed.push(...body.data.map((row: { id: string }) => row.id));
    sizes.push(body.data.length);
    cursor = body.next_cursor;
  }
  assertEquals(listed, ids.toReversed());
  assertEquals(sizes, [63, 27]);
});

Deno.test("what would print as more than 8 MiB is refused, not kept as unreadable", async () => {
  const id = await open();
  const sql = connect();
  const insert = (numbers: number) =>
    sql`
    insert into event_logs (session_id, event_type, content)
    values (${id}, 'system', ('[' || repeat('1e-16383,', ${numbers}) || '0]')::jsonb)`;
  await insert(100);
  const error = await assertRejects(() => insert(1000));
  assertEquals((error as { constraint_name?: string }).constraint_name, "event_logs_content_check");
  await sql.end();
  const { status, body } = await alice.request("GET", `/sessions/${id}/events`);
  assertEquals([status, body.data.length], [200, 1]);
});

Deno.test("a token that has outlived its user opens nothing", async () => {
  const dave = await signUp();
  const id = await open(dave.request);
  const sql = connect();
  // Both at once, many times over: whatever comes first, nothing is left.
  const opening = Array.from({ length: 20 }, () => dave.request("POST", "/sessions", { body: {} }));
  const appending = Array.from({ length: 20 }, (_, i) =>
    dave.request("POST", `/sessions/${id}/events`, {
      body: { events: [say("x")] },
      headers: { "idempotency-key": String(i) },
    }));
  const deleting = sql`delete from auth.users where id = ${dave.id}`;
  for (const { status } of await Promise.all([...opening, ...appending])) {
    assert([201, 401, 404].includes(status), `answered ${status}`);
  }
  await deleting;
  const after = await dave.request("POST", "/sessions", { body: {} });
  assertEquals([after.status, after.body.code], [401, "unauthorized"]);
  const plain = await dave.client.from("sessions").insert({ metadata: {} });
  assertEquals(plain.error?.message, "unauthorized");
  const [{ sessions, keys }] = await sql`
    select
      (select count(*)::int from sessions where user_id = ${dave.id}) as sessions,
      (select count(*)::int from private.idempotency_keys where user_id = ${dave.id}) as keys`;
  assertEquals([sessions, keys], [0, 0]);
  await sql.end();
});

Deno.test("deleting a user of Auth deletes their sessions, events, counts and keys", async () => {
  const carol = await signUp();
  const headers = { "idempotency-key": uuid() };
  const { body: { id } } = await carol.request("POST", "/sessions", { body: {}, headers });
  await carol.request("POST", `/sessions/${id}/events`, { body: { events: [say("gone soon")] }, headers });
  const sql = connect();
  const rows = async () =>
    Object.values(
      (await sql`
      select
        (select count(*)::int from sessions where user_id = ${carol.id}) as sessions,
        (select count(*)::int from event_logs where user_id = ${carol.id}) as events,
        (select count(*)::int from private.event_counts where user_id = ${carol.id}) as counts,
        (select count(*)::int from private.idempotency_keys where user_id = ${carol.id}) as keys`)[0],
    );
  assertEquals(await rows(), [1, 1, 1, 2]);
  await sql`delete from auth.users where id = ${carol.id}`;
  assertEquals(await rows(), [0, 0, 0, 0]);
  await sql.end();
});
