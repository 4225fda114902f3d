import { assert, assertEquals } from "@std/assert";
import type { Analytics } from "../../supabase/functions/sessions/schemas.ts";
import {
  type Bucket,
  type Call,
  expectBuckets,
  expectFigures,
  randomCalls,
  randomTime,
  storeCalls,
} from "../support/analytics.ts";
import { random } from "../support/context.ts";
import { backend, connect, newClient, request, secretKey, signUp, uuid } from "../support/stack.ts";

const service = backend();
const newUser = () => `caller-${uuid()}`;
const at = (iso: string) => Temporal.Instant.from(iso).epochMilliseconds;

async function analyze(parameters: Record<string, string>, caller: typeof request = service): Promise<Analytics> {
  const { status, body } = await caller("GET", `/sessions/analytics?${new URLSearchParams(parameters)}`);
  assertEquals(status, 200, JSON.stringify(body));
  return body;
}

async function store(calls: Call[]): Promise<void> {
  const sql = connect();
  try {
    await storeCalls(sql, calls);
  } finally {
    await sql.end();
  }
}

const starts = ({ buckets }: Analytics) => buckets.map(({ start }) => start);
const hours = ({ buckets }: Analytics) =>
  buckets.map(({ start, end }) => (Date.parse(end) - Date.parse(start)) / 3_600_000);

// ---- figures --------------------------------------------------------------------------------------------------------

Deno.test("sessions, users, messages, durations and events of a day and of the whole window", async () => {
  const user_id = newUser();
  const [messages, chunks] = [["user_message", "ai_message", "user_message", "ai_response"], ["ai_chunk", "ai_chunk"]];
  await store([
    { user: user_id, start: at("2026-10-01T08:00Z"), end: at("2026-10-01T08:01Z"), events: [] },
    {
      user: user_id,
      start: at("2026-10-01T23:59Z"),
      end: at("2026-10-02T00:04Z"),
      events: [
        ...messages.map((type) => ({ type, at: at("2026-10-01T23:59:30Z") })),
        ...chunks.map((type) => ({ type, at: at("2026-10-02T00:00Z") })),
      ],
    },
    { user: user_id, start: at("2026-10-03T12:00Z"), events: [{ type: "ai_message", at: at("2026-10-03T12:00Z") }] },
  ]);
  const answer = await analyze({ user_id, from: "2026-10-01T00:00:00Z", to: "2026-10-05T00:00:00Z" });
  const nothing = {
    sessions: 0,
    users: 0,
    returning_users: 0,
    messages: 0,
    messages_per_session: null,
    messages_per_user: null,
    duration: { p50: null, p95: null },
    events: {},
    other_events: 0,
  };
  const day = (n: number) => ({ start: `2026-10-0${n}T00:00:00+00:00`, end: `2026-10-0${n + 1}T00:00:00+00:00` });
  assertEquals(answer, {
    from: "2026-10-01T00:00:00+00:00",
    to: "2026-10-05T00:00:00+00:00",
    bucket: "day",
    time_zone: "UTC",
    totals: {
      sessions: 3,
      users: 1,
      returning_users: 1,
      messages: 6,
      messages_per_session: 2,
      messages_per_user: 6,
      duration: { p50: 180, p95: 288 },
      events: { user_message: 2, ai_message: 2, ai_response: 1, ai_chunk: 2 },
      other_events: 0,
    },
    buckets: [
      {
        ...day(1),
        sessions: 2,
        users: 1,
        returning_users: 1, // on the same day
        messages: 4,
        messages_per_session: 2,
        messages_per_user: 4,
        duration: { p50: 180, p95: 288 }, // ended the day after, but started on this one
        events: { user_message: 2, ai_message: 1, ai_response: 1 },
        other_events: 0,
      },
      { ...day(2), ...nothing, messages: 1, events: { ai_chunk: 2 } }, // of a session of the day before
      {
        ...day(3),
        ...nothing,
        sessions: 1,
        users: 1,
        returning_users: 1,
        messages: 1,
        messages_per_session: 1,
        messages_per_user: 1,
        events: { ai_message: 1 },
      },
      { ...day(4), ...nothing },
    ],
  });
  const before = await analyze({ user_id, from: "2026-10-01T00:00:00Z", to: "2026-10-01T12:00:00Z" });
  assertEquals([before.totals.users, before.totals.returning_users], [1, 0], "the first call ever");
});

Deno.test("a run of chunks is one message, however it is sent, and the message that follows it is the same one", async () => {
  const call = (...events: [type: string, trace_id?: string][]) =>
    events.map(([event_type, trace_id]) => ({ event_type, trace_id, content: "…" }));
  const chunk = "ai_chunk", said = "user_message";
  const cases: [name: string, events: ReturnType<typeof call>, messages: number][] = [
    ["chunks alone", call([said], [chunk], [chunk], [chunk], [said], [chunk], [chunk]), 4],
    ["with their message", call([said], [chunk], [chunk], ["ai_message"], [chunk], ["ai_response"]), 3],
    ["of two traces", call([said, "a"], [chunk, "a"], [chunk, "b"], [chunk, "b"], ["ai_message", "b"]), 3],
    ["a message of another trace", call([chunk, "a"], ["ai_message", "b"]), 2],
    ["a tool call parts them", call([chunk], ["tool_call"], ["tool_result"], [chunk], [chunk]), 2],
    ["other events part nothing", call([chunk], ["level"], [chunk], ["system"], ["ai_message"], ["level"]), 1],
  ];
  const sql = connect();
  for (const [name, events, messages] of cases) {
    for (const size of [1, 2, 100]) {
      const user_id = newUser();
      const caller = backend(user_id);
      const id = (await caller("POST", "/sessions", { body: {} })).body.id;
      for (let i = 0; i < events.length; i += size) {
        const body = { events: events.slice(i, i + size) };
        assertEquals((await caller("POST", `/sessions/${id}/events`, { body })).status, 201);
      }
      // The counts; then, by a window whose borders are within the quarter, the events themselves.
      const to = new Date(Date.now() + 1000).toISOString();
      const windows: Record<string, string>[] = [{}, { from: new Date(Date.now() - 3_600_000).toISOString(), to }];
      for (const window of windows) {
        const { totals } = await analyze({ user_id, ...window });
        assertEquals(
          [totals.messages, totals.messages_per_session],
          [messages, messages],
          `${name}, ${size} at a time`,
        );
      }
    }
    // Rows of one insert, as the REST API sends them.
    const id = uuid(), user_id = newUser();
    await sql`insert into sessions (id, user_id) values (${id}, ${user_id})`;
    await sql`
      insert into event_logs (session_id, event_type, trace_id, content)
      select ${id}, event_type, trace_id, '"…"'
      from jsonb_to_recordset(${sql.json(events)}) as e (event_type text, trace_id text)`;
    assertEquals((await analyze({ user_id })).totals.messages, messages, `${name}, inserted`);
  }
  await sql.end();
});

Deno.test("a window that cuts quarters of an hour counts to the millisecond", async () => {
  const user_id = newUser();
  const [from, to] = [at("2026-10-05T10:07:30.500Z"), at("2026-10-05T10:37:30.500Z")];
  const times = [from - 1, from, from + 1, at("2026-10-05T10:15Z"), at("2026-10-05T10:29:59.999Z"), to - 1, to, to + 1];
  await store(times.map((start) => ({ user: user_id, start, events: [{ type: "user_message", at: start }] })));
  const window = (from: number, to: number) =>
    analyze({ user_id, from: new Date(from).toISOString(), to: new Date(to).toISOString() });
  const { totals, buckets } = await window(from, to);
  assertEquals([totals.sessions, totals.messages], [5, 5]);
  assertEquals(buckets.map(({ start, end, messages }) => [start, end, messages]), [
    ["2026-10-05T10:07:30.5+00:00", "2026-10-05T10:37:30.5+00:00", 5],
  ]);
  // Both ends in one quarter.
  assertEquals((await window(from, from + 2)).totals.messages, 2);
  assertEquals((await window(from - 1, from)).totals.messages, 1);
});

Deno.test("the 100 most frequent types have their own numbers, all others one", async () => {
  const user_id = newUser();
  const start = at("2026-10-05T12:00Z");
  const types = Array.from({ length: 110 }, (_, i) => `type_${String(i).padStart(3, "0")}`);
  // The messages are the rarest, by their names: what is not listed is counted as a message all the same.
  const events = [...types, ...types, "user_message"].map((type) => ({ type, at: start }));
  await store([{ user: user_id, start, events }]);
  const { totals, buckets: [day] } = await analyze({
    user_id,
    from: "2026-10-05T00:00:00Z",
    to: "2026-10-06T00:00:00Z",
  });
  assertEquals(Object.keys(totals.events).toSorted(), types.slice(0, 100));
  assertEquals([totals.other_events, totals.messages, day.other_events, day.messages], [21, 1, 21, 1]);
});

// ---- borders --------------------------------------------------------------------------------------------------------

Deno.test("Europe/Berlin: a day of 25 hours, with two hours of the same name", async () => {
  const user_id = newUser();
  const times = ["24T21:59:59.999", "24T22:00", "25T00:30", "25T01:30", "25T22:59:59.999", "25T23:00"]
    .map((time) => at(`2026-10-${time}Z`));
  await store(times.map((start) => ({ user: user_id, start, events: [{ type: "user_message", at: start }] })));
  const zone = { user_id, time_zone: "Europe/Berlin" };
  const days = await analyze({ ...zone, from: "2026-10-24T00:00:00+02:00", to: "2026-10-27T00:00:00+01:00" });
  assertEquals(starts(days), [
    "2026-10-24T00:00:00+02:00",
    "2026-10-25T00:00:00+02:00",
    "2026-10-26T00:00:00+01:00",
  ]);
  assertEquals(hours(days), [24, 25, 24]);
  assertEquals(days.buckets.map(({ sessions, messages }) => [sessions, messages]), [[1, 1], [4, 4], [1, 1]]);

  const night = await analyze({ ...zone, bucket: "hour", from: "2026-10-24T23:00:00Z", to: "2026-10-25T02:00:00Z" });
  assertEquals(starts(night), [
    "2026-10-25T01:00:00+02:00",
    "2026-10-25T02:00:00+02:00",
    "2026-10-25T02:00:00+01:00",
  ]);
  assertEquals(night.buckets.map(({ sessions, messages }) => [sessions, messages]), [[0, 0], [1, 1], [1, 1]]);
});

Deno.test("Europe/Berlin: a day of 23 hours, in which an hour does not come", async () => {
  const user_id = newUser();
  const times = ["28T22:59:59.999", "28T23:00", "29T00:59:59.999", "29T01:00", "29T21:59:59.999", "29T22:00"]
    .map((time) => at(`2026-03-${time}Z`));
  await store(times.map((start) => ({ user: user_id, start, events: [{ type: "user_message", at: start }] })));
  const zone = { user_id, time_zone: "Europe/Berlin" };
  const days = await analyze({ ...zone, from: "2026-03-28T00:00:00+01:00", to: "2026-03-31T00:00:00+02:00" });
  assertEquals(hours(days), [24, 23, 24]);
  assertEquals(days.buckets.map(({ sessions, messages }) => [sessions, messages]), [[1, 1], [4, 4], [1, 1]]);

  const night = await analyze({ ...zone, bucket: "hour", from: "2026-03-29T00:00:00Z", to: "2026-03-29T02:00:00Z" });
  assertEquals(starts(night), ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]);
  assertEquals(night.buckets.map(({ messages }) => messages), [1, 1]);
});

Deno.test("where days, weeks and months begin", async () => {
  const user_id = newUser(); // who never called
  const cases: [timeZone: string, bucket: Bucket, from: string, to: string, starts: string[], hours: number[]][] = [
    ["America/New_York", "day", "2026-03-07T05:00:00Z", "2026-03-10T04:00:00Z", [
      "2026-03-07T00:00:00-05:00",
      "2026-03-08T00:00:00-05:00",
      "2026-03-09T00:00:00-04:00",
    ], [24, 23, 24]],
    ["America/New_York", "month", "2026-10-15T00:00:00Z", "2026-12-31T00:00:00Z", [
      "2026-10-14T20:00:00-04:00",
      "2026-11-01T00:00:00-04:00",
      "2026-12-01T00:00:00-05:00",
    ], [412, 721, 715]],
    ["Asia/Kathmandu", "day", "2026-10-24T18:00:00Z", "2026-10-26T00:00:00Z", [
      "2026-10-24T23:45:00+05:45",
      "2026-10-25T00:00:00+05:45",
      "2026-10-26T00:00:00+05:45",
    ], [0.25, 24, 5.75]],
    ["Asia/Kathmandu", "hour", "2026-10-24T18:00:00Z", "2026-10-24T20:00:00Z", [
      "2026-10-24T23:45:00+05:45",
      "2026-10-25T00:00:00+05:45",
      "2026-10-25T01:00:00+05:45",
    ], [0.25, 1, 0.75]],
    // A week begins on Monday.
    ["UTC", "week", "2026-10-24T12:00:00Z", "2026-11-03T00:00:00Z", [
      "2026-10-24T12:00:00+00:00",
      "2026-10-26T00:00:00+00:00",
      "2026-11-02T00:00:00+00:00",
    ], [36, 168, 24]],
    // Midnight comes twice.
    ["America/Havana", "day", "2026-10-31T04:00:00Z", "2026-11-03T05:00:00Z", [
      "2026-10-31T00:00:00-04:00",
      "2026-11-01T00:00:00-04:00",
      "2026-11-02T00:00:00-05:00",
    ], [24, 25, 24]],
    ["America/Havana", "hour", "2026-11-01T03:30:00Z", "2026-11-01T06:00:00Z", [
      "2026-10-31T23:30:00-04:00",
      "2026-11-01T00:00:00-04:00",
      "2026-11-01T00:00:00-05:00",
    ], [0.5, 1, 1]],
    // There is no midnight.
    ["Africa/Cairo", "day", "2026-04-22T22:00:00Z", "2026-04-24T21:00:00Z", [
      "2026-04-23T00:00:00+02:00",
      "2026-04-24T01:00:00+03:00",
    ], [24, 23]],
    // The clock is set by half an hour, first back: the hour from 1 to 2 has 90 minutes; then forward, to half past two.
    ["Australia/Lord_Howe", "hour", "2026-04-04T13:00:00Z", "2026-04-04T16:30:00Z", [
      "2026-04-05T00:00:00+11:00",
      "2026-04-05T01:00:00+11:00",
      "2026-04-05T02:00:00+10:30",
    ], [1, 1.5, 1]],
    ["Australia/Lord_Howe", "hour", "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z", [
      "2026-10-04T01:00:00+10:30",
      "2026-10-04T02:30:00+11:00",
      "2026-10-04T03:00:00+11:00",
    ], [1, 0.5, 1]],
    // A day that did not come.
    ["Pacific/Apia", "day", "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z", [
      "2011-12-29T00:00:00-10:00",
      "2011-12-31T00:00:00+14:00",
    ], [24, 24]],
    // A name that is an abbreviation, too, but one without summer.
    ["CET", "day", "2026-07-01T22:00:00Z", "2026-07-02T22:00:00Z", ["2026-07-02T00:00:00+02:00"], [24]],
  ];
  for (const [time_zone, bucket, from, to, expected, lengths] of cases) {
    const answer = await analyze({ user_id, time_zone, bucket, from, to });
    assertEquals([starts(answer), hours(answer)], [expected, lengths], `${bucket} of ${time_zone}`);
    assertEquals(answer.time_zone, time_zone);
  }
});

// ---- everything at once ---------------------------------------------------------------------------------------------

const TRANSITIONS: [timeZone: string, at: string][] = [
  ["Europe/Berlin", "2026-10-25T01:00Z"],
  ["Europe/Berlin", "2026-03-29T01:00Z"],
  ["America/New_York", "2026-11-01T06:00Z"],
  ["America/New_York", "2026-03-08T07:00Z"],
  ["America/Havana", "2026-11-01T05:00Z"],
  ["Africa/Cairo", "2026-10-29T21:00Z"],
  ["Asia/Kathmandu", "2026-10-31T18:15Z"],
  ["America/St_Johns", "2026-11-01T04:30Z"],
  ["UTC", "2026-11-01T00:00Z"],
];
const BUCKETS: Bucket[] = ["hour", "day", "week", "month"];

/** Asks for random windows, and compares with the oracle. */
async function compare(
  rand: () => number,
  { calls, timeZone, around, user_id }: { calls: Call[]; timeZone: string; around: number; user_id?: string },
): Promise<void> {
  const [first, second] = [randomTime(rand, around, 2e8), randomTime(rand, around, 2e8)].toSorted((a, b) => a - b);
  const window = {
    from: first,
    to: Math.max(second, first + 1),
    bucket: BUCKETS[Math.floor(rand() * 4)],
    timeZone,
  };
  const mine = calls.filter(({ user }) => user_id === undefined || user === user_id);
  const { totals, buckets } = await analyze({
    from: new Date(window.from).toISOString(),
    to: new Date(window.to).toISOString(),
    bucket: window.bucket,
    time_zone: timeZone,
    ...(user_id && { user_id }),
  });
  const rounded = (figures: unknown) =>
    JSON.parse(JSON.stringify(figures), (_, value) => typeof value === "number" ? Number(value.toFixed(6)) : value);
  const expected = expectBuckets(window).map(([start, end]) => ({ start, end, ...expectFigures(mine, start, end) }));
  const message = `${JSON.stringify(window)} of ${user_id}`;
  assertEquals(
    rounded(
      buckets.map(({ start, end, ...figures }) => ({ start: Date.parse(start), end: Date.parse(end), ...figures })),
    ),
    rounded(expected),
    message,
  );
  assertEquals(rounded(totals), rounded(expectFigures(mine, window.from, window.to)), message);
}

Deno.test("one user: random windows around changes of the clock answer what the oracle does", async () => {
  for (const [i, [timeZone, time]] of TRANSITIONS.entries()) {
    const rand = random(4_000 + i);
    const users = [newUser(), newUser()];
    const calls = randomCalls(rand, users, at(time), 60);
    await store(calls);
    for (let n = 0; n < 20; n++) {
      await compare(rand, { calls, timeZone, around: at(time), user_id: users[n % 2] });
    }
  }
});

Deno.test("everybody: the same, in a month that is nobody else's", async () => {
  const rand = random(2_007);
  const [timeZone, time] = ["Europe/Berlin", "2007-10-28T01:00Z"];
  const calls = randomCalls(rand, Array.from({ length: 20 }, newUser), at(time), 200);
  const sql = connect();
  const clear = () => sql`delete from sessions where start_time between '2007-01-01' and '2008-01-01'`;
  try {
    await clear();
    await storeCalls(sql, calls);
    for (let n = 0; n < 40; n++) await compare(rand, { calls, timeZone, around: at(time) });
  } finally {
    await clear();
    await sql.end();
  }
});

Deno.test("what is counted is what is stored, after concurrent batches and plain inserts", async () => {
  const alice = await signUp();
  const rand = random(77);
  const ids = await Promise.all(
    [1, 2, 3].map(async () => (await alice.request("POST", "/sessions", { body: {} })).body.id),
  );
  const types = ["user_message", "ai_message", "ai_chunk"];
  const event = () => ({
    event_type: types[Math.floor(rand() * 3)],
    content: { text: "x" },
    occurred_at: new Date(Date.now() - rand() * 3_600_000).toISOString(),
  });
  const backendClient = newClient(secretKey);
  const statuses = await Promise.all(
    Array.from({ length: 90 }, async (_, i) => {
      const session_id = ids[i % 3];
      if (i % 2 === 0) {
        const events = Array.from({ length: 1 + i % 20 }, event);
        return (await alice.request("POST", `/sessions/${session_id}/events`, { body: { events } })).status;
      }
      return (await backendClient.from("event_logs").insert(
        i % 3 === 0 ? { session_id, ...event() } : Array.from({ length: 5 }, () => ({ session_id, ...event() })),
      )).status;
    }),
  );
  assertEquals(statuses.filter((status) => status !== 201), []);
  const sql = connect();
  const rows = (table: string) => sql.unsafe(table, [ids]);
  const counted = await rows(`
    select session_id, slot, event_type, user_id, count from private.event_counts where session_id = any ($1::uuid[])
    order by 1, 2, 3`);
  const stored = await rows(`
    select session_id, private.event_slot(occurred_at) as slot, event_type, user_id, count(*)::integer
    from event_logs where session_id = any ($1::uuid[]) group by 1, 2, 3, 4 order by 1, 2, 3`);
  const [{ begun }] = await rows(`
    select count(*)::integer as begun
    from (
      select event_type, lag(event_type) over (partition by session_id order by sequence) as before
      from event_logs where session_id = any ($1::uuid[])
    ) e
    where event_type = 'user_message' or before is distinct from 'ai_chunk'`);
  await sql.end();
  assert(stored.length > 20);
  assertEquals([...counted], [...stored]);

  const { totals, from, to } = await analyze({}, alice.request);
  assertEquals(totals.sessions, 3);
  assertEquals(totals.messages, begun);
  assertEquals(Date.parse(to) - Date.parse(from), 30 * 24 * 3_600_000);
});

// ---- whose, and what is refused --------------------------------------------------------------------------------------

Deno.test("a user counts their own sessions, a backend everybody's or one user's", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const body = { events: [{ event_type: "user_message", content: "Hi" }] };
  for (const user of [alice, bob, bob]) {
    const { body: { id } } = await user.request("POST", "/sessions", { body: {} });
    await user.request("POST", `/sessions/${id}/events`, { body });
  }
  const count = async (caller: typeof request, parameters = {}) => {
    const { totals } = await analyze({ bucket: "month", ...parameters }, caller);
    return [totals.sessions, totals.messages];
  };
  assertEquals(await count(alice.request), [1, 1]);
  assertEquals(await count(bob.request), [2, 2]);
  assertEquals(await count(alice.request, { user_id: alice.id }), [1, 1]);
  assertEquals(await count(alice.request, { user_id: bob.id }), [0, 0]);
  assertEquals(await count(backend(bob.id)), [2, 2]);
  assertEquals(await count(backend(bob.id), { user_id: alice.id }), [0, 0]);
  assertEquals(await count(service, { user_id: bob.id.toUpperCase() }), [2, 2]);
  const [sessions] = await count(service);
  assert(sessions >= 3);
  const { error } = await alice.client.rpc("session_analytics", { p_user_id: bob.id });
  assertEquals(error, null);
  const { data } = await alice.client.rpc("session_analytics", { p_user_id: bob.id }).throwOnError();
  assertEquals((data as unknown as Analytics).totals.sessions, 1, "the argument is a backend's");
});

Deno.test("unknown zones and buckets, windows without time and windows too long are 400", async () => {
  const { request } = await signUp();
  const refused = async (query: string) => {
    const { status, body } = await request("GET", `/sessions/analytics?${query}`);
    assertEquals([status, body.code], [400, "invalid_request"], query);
    return body;
  };
  const zones = [
    "Europe/Nowhere",
    "+02:00",
    "UTC+2",
    "foo5",
    "Etc/GMT+99",
    "inf",
    "nan",
    "1",
    "../UTC",
    "interval '1'",
  ];
  for (const zone of zones) {
    assert((await refused(`time_zone=${encodeURIComponent(zone)}`)).details.includes("time_zone"), zone);
  }
  for (const query of ["bucket=year", "from=yesterday", "time_zone=", "time_zone=UTC%00", "limit=3"]) {
    await refused(query);
  }
  for (
    const query of [
      "from=2026-10-01T00:00:00Z&to=2026-10-01T00:00:00Z",
      "from=2026-10-02T00:00:00Z&to=2026-10-01T00:00:00Z",
      "from=2999-01-01T00:00:00Z",
      "from=1969-12-31T00:00:00Z&bucket=month",
    ]
  ) assert((await refused(query)).details.startsWith("from is not before to"), query);

  const window = "from=2026-01-01T00:00:00Z&bucket=hour";
  assert((await refused(`${window}&to=2026-02-11T16:00:00.001Z`)).hint.includes("larger buckets"));
  assertEquals(
    (await analyze(Object.fromEntries(new URLSearchParams(`${window}&to=2026-02-11T16:00:00Z`)), request)).buckets
      .length,
    1000,
  );
  for (
    const zone of ["utc", "europe/berlin", "Etc/GMT+9", "America/Port-au-Prince", "America/Argentina/Buenos_Aires"]
  ) {
    const { time_zone } = await analyze({ time_zone: zone }, request);
    assertEquals(time_zone.toLowerCase(), zone.toLowerCase());
  }
});
