// What one statement may cost, by rows of the user's own that are as large as they may be: just above each limit is refused
// by its name, at the limit it is answered in time, within memory, and ends when it is cancelled.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { connect, signUp, type TestUser } from "../support/stack.ts";

const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));

/** A connection that is the user's own, as PostgREST has it. */
async function asUser(user: TestUser): Promise<{ sql: postgres.Sql; connection: postgres.ReservedSql; pid: number }> {
  const sql = connect();
  const connection = await sql.reserve();
  const claims = JSON.stringify({ role: "authenticated", sub: user.id });
  await connection`select set_config('request.jwt.claims', ${claims}, false)`;
  const [{ pid }] = await connection`select pg_backend_pid() as pid`;
  await connection`set role authenticated`;
  return { sql, connection, pid };
}

/** CPU that a backend has used, in ms: how long it takes on a machine that does nothing else. */
function cpu(pid: number): number {
  const [user, system] = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ").slice(11, 13);
  return (Number(user) + Number(system)) * 10;
}

/** Anonymous memory of a backend in MiB. */
const memory = (pid: number): number =>
  Number(Deno.readTextFileSync(`/proc/${pid}/status`).match(/RssAnon:\s+(\d+)/)![1]) / 1024;

const user = await signUp();
const sql = connect();
// Compressed they take no room, and few values no index: what is looked for is at the end of the lists.
await sql`
  insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
  select ${user.id}::uuid, 'large', n::text, now(), now(), jsonb_build_object('text', repeat('a', 130000), 'list', l.list)
  from generate_series(1, 8) n, (select jsonb_agg(greatest(g, 198900)) as list from generate_series(1, 199000) g) l
  union all
  select ${user.id}::uuid, 'deep', n::text, now(), now(), jsonb_build_object(
    'deep', jsonb_set('{"deep": {"deep": {"deep": ""}}}', '{deep,deep,deep}', to_jsonb(repeat('a', 4000000)))
  )
  from generate_series(1, 2) n`;
await sql.end();

const count = (filters: unknown) => user.request("POST", "/documents/large/count", { body: { filters } });

Deno.test("a filter just above a limit is refused by the limit's name, one at the limit is answered", async () => {
  const columns = (many: number) => ({ $or: times(many, (i) => ({ version: `v${i}` })) });
  for (
    const [limit, above, at] of [
      ["filter_conditions", columns(101), columns(100)],
      ["filter_fields", ...[17, 16].map((many) => Object.fromEntries(times(many, (i) => [`f${i}`, 1])))],
      [
        "filter_elements",
        ...[667, 666].map((many) => ({ $or: times(3, (i) => ({ a: { $in: times(many, () => i) } })) })),
      ],
      ["filter_elements", ...[2001, 2000].map((many) => ({ $or: times(many, (i) => ({ id: `${i}x` })) }))],
      ["contained_values", ...[33, 32].map((many) => ({ a: { $contains: times(many, (i) => i) } }))],
      ["filter_pattern", ...[1001, 1000].map((length) => ({ a: { $like: "%".repeat(length) } }))],
      ["filter_path", ...[17, 16].map((parts) => ({ [times(parts, () => "a").join(".")]: 1 }))],
      ["filter_path", ...[257, 256].map((length) => ({ ["x".repeat(length)]: 1 }))],
    ] as [string, unknown, unknown][]
  ) {
    const refused = await count(above);
    assertEquals([refused.status, refused.body.code, refused.body.details?.[0]?.limit], [
      400,
      "invalid_request",
      limit,
    ]);
    assertEquals((await count(at)).status, 200, limit);
  }
});

Deno.test("a document of as many values as may be is stored, one of more is refused, by RPC too", async () => {
  const insert = (many: number) =>
    user.client.rpc("insert_documents", {
      p_collection: "values",
      p_documents: [{ id: `${many}`, a: Array(many).fill(1) }],
    });
  assertEquals((await insert(199_990)).error, null);
  const { error } = await insert(200_001);
  assertEquals(JSON.parse(error!.details!)[0].limit, "document_values");
});

Deno.test("as many short texts as a body may have are appended and read in time, as an event and as an item", async () => {
  const texts = times(80_000, (i) => `${i}`);
  const session = await user.client.rpc("open_session", { p_session: {} });
  const { error: event } = await user.client.rpc("append_events", {
    p_session_id: (session.data as { session: { id: string } }).session.id,
    p_events: [{ event_type: "note", content: texts }],
  });
  assertEquals(event, null);
  const conversation = await user.client.rpc("create_conversation_of_items", {});
  const p_conversation_id = (conversation.data as { id: string }).id;
  const items = [{ role: "user", content: texts }];
  assertEquals((await user.client.rpc("append_items", { p_conversation_id, p_items: items })).error, null);
  const calls = times(20_000, (i) => ({ id: `${i}`, function: {} }));
  const { error: message } = await user.client.rpc("append_messages", {
    p_conversation_id,
    p_messages: [{ role: "assistant", tool_calls: calls }],
  });
  assertEquals(message, null);
  const page = await user.client.rpc("list_items", { p_conversation_id, p_order: "asc", p_limit: 2 });
  assertEquals([page.error, (page.data as { data: unknown[] }).data.length], [null, 2]);
});

Deno.test("metadata to look for, and types, have limits in the database", async () => {
  const list = (many: number) => user.client.rpc("list_conversations", { p_metadata: { a: times(many, (i) => i) } });
  assertEquals((await list(29)).error, null);
  assertEquals(JSON.parse((await list(40)).error!.details!)[0].limit, "contained_values");
  const audit = (many: number) => user.client.rpc("audit_events", { p_types: times(many, (i) => `t${i}`) });
  assertEquals((await audit(32)).error, null);
  assertEquals(JSON.parse((await audit(33)).error!.details!)[0].limit, "event_types");
});

Deno.test("creation_utc is the instant that it names, in whatever offset", async () => {
  await user.request("POST", "/documents/times/insert_one", {
    body: { document: { creation_utc: "2026-01-01T12:00:00+02:00" } },
  });
  const found = async (condition: unknown) =>
    (await user.request("POST", "/documents/times/count", { body: { filters: { creation_utc: condition } } })).body
      .count;
  const same = "2026-01-01T10:00:00Z";
  assertEquals(await found(same), 1);
  assertEquals(await found({ $in: [same] }), 1);
  assertEquals(await found({ $gte: same, $lt: "2026-01-01T11:00:00Z" }), 1);
  assertEquals([await found({ $ne: same }), await found({ $nin: [same] }), await found({ $gt: same })], [0, 0, 0]);
  assertEquals([await found("no time"), await found({ $ne: "no time" }), await found({ $like: "%+02:00" })], [0, 1, 1]);
});

Deno.test("the worst filters stay within memory over rows of megabytes, and end when they are cancelled", async () => {
  const { sql, connection, pid } = await asUser(user);
  const run = (filters: unknown, collection = "large") =>
    connection`select public.count_documents(${collection}, ${
      JSON.stringify(filters)
    }::text::jsonb) -> 'count' as count`;
  const slow = {
    $or: [
      { text: { $like: `%${"a".repeat(998)}b` } },
      { list: { $contains: times(32, (i) => 198_999 - i) }, text: "b" },
    ],
  };
  const paths = times(16, (i) => ["deep", "deep.deep", "deep.deep.deep", "deep.deep.deep.deep"][i % 4]);
  const deep = { $and: times(100, (i) => ({ [paths[i % 16]]: { $ne: `${i}` } })) };
  try {
    assertEquals((await run({ text: { $like: "a%" } }))[0].count, 8); // the control, and the backend warm
    const before = memory(pid);
    let most = before;
    const watch = setInterval(() => most = Math.max(most, memory(pid)), 10);
    try {
      assertEquals((await run(deep, "deep"))[0].count, 2);
      assertEquals((await run({ list: { $contains: times(32, (i) => 198_999 - i) } }))[0].count, 8);
    } finally {
      clearInterval(watch);
    }
    assert(most - before < 128, `${Math.round(most - before)} MiB`);

    const statement = run(slow).then(() => "ended", (error) => error.code);
    await new Promise((resolve) => setTimeout(resolve, 500));
    await sql`select pg_cancel_backend(${pid})`;
    const cancelledAt = cpu(pid);
    assertEquals(await statement, "57014");
    assert(cpu(pid) - cancelledAt < 1000, `went on for ${cpu(pid) - cancelledAt} ms`);
  } finally {
    connection.release();
    await sql.end();
  }
});

Deno.test("audit looks through so much text in a call, and its cursor goes on to what is behind it", async () => {
  const { sql, connection, pid } = await asUser(user);
  try {
    const [{ id }] = await connection`select public.open_session('{}') #>> '{session,id}' as id`;
    // Twelve of 4 MB: a call looks through 32 MiB.
    await connection`
      select public.append_events(${id}, jsonb_agg(jsonb_build_object('event_type', 'note', 'content', t.text))) is null
      from generate_series(1, 12) n, lateral (select repeat('a', 4000000) || repeat('b', n / 12) as text) t`;
    // The cursor's times as they are: as parameters of their type they would lose their microseconds.
    const audit = async (after: Record<string, string> | null) => {
      const [{ page }] = await connection`
        select public.audit_events(
          p_query => ${"a".repeat(999) + "b"}, p_from => (a ->> 'from')::timestamptz, p_to => (a ->> 'to')::timestamptz,
          p_after_occurred_at => (a ->> 'occurred_at')::timestamptz, p_after_session_id => (a ->> 'session_id')::uuid,
          p_after_sequence => (a ->> 'sequence')::integer, p_after_chunk => (a ->> 'chunk')::integer
        ) as page
        from (select ${JSON.stringify(after)}::text::jsonb as a) a`;
      return page;
    };
    const startedAt = cpu(pid);
    const first = await audit(null);
    assertEquals([first.data.length, first.has_more], [0, true]);
    assert(cpu(pid) - startedAt < 3000, `${cpu(pid) - startedAt} ms`);
    const found = [];
    for (let calls = 0, after = first.next; after && calls < 12; calls++) {
      const page = await audit(after);
      found.push(...page.data);
      after = page.next;
    }
    assertEquals(found.map((event) => event.sequence), [12]);
  } finally {
    connection.release();
    await sql.end();
  }
});

Deno.test({
  name: "large rows are gone",
  fn: async () => {
    for (const collection of ["large", "deep", "values", "times"]) {
      assertEquals((await user.request("POST", `/documents/${collection}/drop`, { body: {} })).status, 200);
    }
  },
});
