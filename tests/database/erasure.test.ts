// After an erasure nothing of a user is left in any table. Which tables those are the catalogue says: a new one is under
// test the day it appears, and fails it until something is planted there.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { exists } from "../../local/files.ts";
import { backend, connect, dbUrl, signUp, type TestUser, uuid } from "../support/stack.ts";
import { furnish } from "../support/users.ts";

const sql = connect();

/** Tables with an owner, and those that point at one. Partitions are looked into as the table they are part of. */
async function tablesWithUserData(): Promise<{ name: string; textOwner: boolean }[]> {
  return await sql`
    with recursive owned (id) as (
      select 'auth.users'::regclass::oid
      union
      select a.attrelid
      from pg_attribute a
      join pg_class c on c.oid = a.attrelid
      where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p')
        and a.attname in ('user_id', 'owner_id') and not a.attisdropped
      union
      select k.conrelid
      from pg_constraint k
      join owned o on o.id = k.confrelid
      where k.contype = 'f'
    )
    select c.relname as name, exists (
      select from pg_attribute a where a.attrelid = c.oid and a.attname = 'user_id' and a.atttypid = 'text'::regtype
    ) as "textOwner"
    from pg_class c
    where c.oid in (select id from owned) and not c.relispartition
      and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
    order by 1`;
}

/** Every row of every table that there is, as text, the platform's own included. Every leaf of a partitioned table. */
async function rowsWith(markers: string[]): Promise<Record<string, number>> {
  const tables = await sql`
    select n.nspname as schema, c.oid::regclass::text as name,
      coalesce((select p.relname from pg_inherits i join pg_class p on p.oid = i.inhparent where i.inhrelid = c.oid), c.relname) as root
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_'
      and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')`;
  assert(tables.length > 20, "the catalogue shows our tables");
  const found: Record<string, number> = {};
  for (const { schema, name, root } of tables) {
    const [{ count }] = await sql`
      select count(*)::int as count from ${sql.unsafe(name)} t
      where exists (select from unnest(${markers}::text[]) m where strpos(lower(t::text), lower(m)) > 0)`
      .catch((error) => {
        if (error.code === "42P01") return [{ count: 0 }]; // another test's, and gone meanwhile
        throw error;
      });
    const table = schema === "public" || schema === "private" ? root : `${schema}.${root}`;
    if (count > 0) found[table] = (found[table] ?? 0) + count;
  }
  return found;
}

/** No statistics have one of these; those of documents may, of a user who is there. */
async function assertNotSampled(markers: string[], exceptIn: string[] = []): Promise<void> {
  const found = await sql`
    with sampled (name, value) as (
      select s.tablename, s::text from pg_stats s
      union all select s.tablename, s::text from pg_stats_ext s
      union all select s.tablename, s::text from pg_stats_ext_exprs s
    )
    select distinct s.name from sampled s join unnest(${markers}::text[]) m on strpos(lower(s.value), lower(m)) > 0`;
  assertEquals(found.map(({ name }) => name).filter((name) => !exceptIn.includes(name)), []);
}

/** As autovacuum does it sooner or later. */
async function analyze(): Promise<void> {
  const [{ tables }] = await sql`
    select string_agg(c.oid::regclass::text, ', ') as tables from pg_class c
    where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind = 'r' and not c.relispartition`;
  await sql.unsafe(`analyze ${tables}, public.event_logs`);
}

/** What pg_dump writes, where there is one that fits the server. */
async function pgDump(): Promise<string | undefined> {
  const [{ major }] = await sql`select current_setting('server_version_num')::int / 10000 as major`;
  const binary = `${Deno.env.get("POSTGRES_BIN") || `/usr/lib/postgresql/${major}/bin`}/pg_dump`;
  if (!await exists(binary)) return undefined;
  const { success, stdout, stderr } = await new Deno.Command(binary, {
    args: [dbUrl, "--schema=public", "--schema=private", "--schema=gateway", "--inserts"],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).toLowerCase();
}

/** Keeps the jobs from removing what the tests have planted, until the tests have looked. */
async function withoutJobs(work: () => Promise<void>): Promise<void> {
  const holder = connect();
  await holder.begin(async (tx: postgres.TransactionSql) => {
    for (const step of ["prune_queue_step", "erasure_step"]) {
      await tx`select pg_advisory_xact_lock(hashtext(${`private.${step}`}))`;
    }
    await work();
  });
  await holder.end();
}

/** What a caller of a backend's own leaves behind: a session with events, waiting for a summary; a key; receipts; a quota. */
async function plantCaller(userId: string, marker: string): Promise<string[]> {
  const asUser = backend(userId);
  const { body: { id } } = await asUser("POST", "/sessions", {
    body: { metadata: { marker } },
    headers: { "idempotency-key": marker },
  });
  const events = Array.from({ length: 3 }, () => ({ event_type: "user_message", content: { text: marker } }));
  assertEquals((await asUser("POST", `/sessions/${id}/events`, { body: { events } })).status, 201);
  assertEquals((await asUser("POST", `/sessions/${id}/end`, { body: {} })).status, 200);
  await sql`
    insert into private.erasures (scope, user_id, finished_at) values ('conversations', ${userId}, now())`;
  // Not by set_quota, which would have everybody's writes counted.
  await sql`insert into private.quotas (user_id, metric, quota) values (${userId}, 'writes', 1000000)`;
  await sql`insert into private.quota_use (user_id, day, writes) values (${userId}, current_date, 1)`;
  return [id];
}

/** What a user of Auth can have, in every table. Answers the ids of it. */
async function plantUser(user: TestUser, marker: string): Promise<string[]> {
  const { conversation, fork, response, session, collection } = await furnish(user, marker);
  const [{ id: tombstone }] = await sql`
    insert into private.prune_queue (conversation_id, user_id)
    select c.id, c.user_id from conversations c where c.user_id = ${user.id} and c.deleted_at is not null
    returning conversation_id as id`;
  const { data: begun } = await user.client.rpc("import_conversation", {
    p_conversation: { title: marker, last_sequence_order: 1, more: true, source: { name: "chats", id: marker } },
    p_messages: [{ role: "user", content: marker, item_id: marker, sequence_order: 1 }],
  });
  const { id: imported } = begun as { id: string };
  await sql`
    with receipt as (
      insert into private.erasures (scope, user_id) values ('conversations', ${user.id}) returning id
    )
    insert into private.erasure_conversations (erasure_id, conversation_id) select id, ${conversation} from receipt`;
  await sql`
    insert into private.deleted_messages (user_id, conversation_id, message_id, sequence_order, item_id)
    values (${user.id}, ${conversation}, gen_random_uuid(), 1, ${marker})`;
  return [
    ...[conversation, fork, tombstone, imported, response, session, collection],
    ...await plantCaller(user.id, marker),
  ];
}

/** Goes on with an erasure until it is done. Answers what it removed. */
async function finish(id: string): Promise<Record<string, number>> {
  for (let i = 0; i < 100; i++) {
    const { body } = await backend()("GET", `/users/erasures/${id}`);
    assert([null, "55P03"].includes(body.error), body.error); // the tests of partitions lock sessions for a moment
    if (body.finished_at) return body.removed;
    await sql`select private.advance_erasure(${id}, '1 second')`;
  }
  throw new Error("The erasure does not end.");
}

const names = (tables: { name: string }[]): string[] => tables.map(({ name }) => name);

async function assertGone(markers: string[], exceptIn?: string): Promise<void> {
  const left = Object.entries(await rowsWith(markers)).filter(([table]) => !exceptIn || !table.startsWith(exceptIn));
  assertEquals(left, []);
  await assertNotSampled(markers);
  const [{ statements }] = await sql`select to_regclass('extensions.pg_stat_statements') as statements`;
  if (statements) {
    const kept = await sql`
      select from extensions.pg_stat_statements s join unnest(${markers}::text[]) m on strpos(lower(s.query), lower(m)) > 0`;
    assertEquals(kept.length, 0, "statements are kept without their values");
  }
  const dump = await pgDump();
  if (dump) assertEquals(markers.filter((marker) => dump.includes(marker.toLowerCase())), []);
}

const newMarker = (): string => `m${uuid().replaceAll("-", "")}`;

Deno.test("the catalogue names the tables that are known to have user data", async () => {
  const tables = names(await tablesWithUserData());
  for (
    const name of ["conversation_messages", "event_logs", "documents", "idempotency_keys", "event_counts", "videos"]
  ) {
    assert(tables.includes(name), name);
  }
});

Deno.test("a user who is erased is in no table any more, and the receipt counts the rows", async () => {
  const [user, other] = [await signUp(), await signUp()];
  const [marker, kept] = [newMarker(), newMarker()];
  await withoutJobs(async () => {
    const markers = [user.id, marker, ...await plantUser(user, marker)];
    const others = [other.id, kept, ...await plantUser(other, kept)];
    const planted = await rowsWith(markers);
    const untouched = await rowsWith(others);
    for (const { name } of await tablesWithUserData()) assert(planted[name] > 0, `nothing is planted in ${name}`);
    const dump = await pgDump();
    if (dump) assert(dump.includes(marker) && dump.includes(user.id), "the dump has what is planted");
    await analyze();
    await assertNotSampled(markers, ["documents"]);

    const { status, body } = await backend(user.id)("DELETE", "/users/me?confirm=all");
    assertEquals(status, 202, JSON.stringify(body));
    const removed = await finish(body.id);
    await assertGone(markers, "auth.");
    assertEquals(await rowsWith(others), untouched);
    assertEquals((await rowsWith([user.id]))["auth.users"], 1, "the user of Auth stays");

    // Queues, search filters and places are the database's own, and not counted.
    const { prune_queue: _, erasure_conversations: __, search_filters: ___, deleted_messages: ____, ...counted } =
      planted;
    assertEquals(removed, Object.fromEntries(Object.entries(counted).filter(([table]) => !table.startsWith("auth."))));
    assertEquals(
      [...await sql`select user_id from private.erasures where id = ${body.id}`],
      [{ user_id: null }],
      "the receipt names nobody",
    );
  });
});

Deno.test("a caller who is no user of Auth is erased as well", async () => {
  const [marker, kept] = [newMarker(), newMarker()];
  await withoutJobs(async () => {
    const markers = [marker, ...await plantCaller(`+49 30 ${marker}`, marker)];
    const others = [kept, ...await plantCaller(`+49 30 ${kept}`, kept)];
    const planted = await rowsWith(markers);
    const untouched = await rowsWith(others);
    for (const { name } of (await tablesWithUserData()).filter(({ textOwner }) => textOwner)) {
      assert(planted[name] > 0, `nothing is planted in ${name}`);
    }
    const { status, body } = await backend(`+49 30 ${marker}`)("DELETE", "/users/me?confirm=all");
    assertEquals(status, 202, JSON.stringify(body));
    assertEquals(await finish(body.id), planted);
    await assertGone(markers);
    assertEquals(await rowsWith(others), untouched);
  });
});

Deno.test("a user who is deleted in Auth is in no table any more, but for what Auth logs", async () => {
  const user = await signUp();
  const marker = newMarker();
  await withoutJobs(async () => {
    const markers = [user.id, user.email, marker, ...await plantUser(user, marker)];
    const planted = await rowsWith(markers);
    for (const { name } of await tablesWithUserData()) assert(planted[name] > 0, `nothing is planted in ${name}`);
    await sql`delete from auth.users where id = ${user.id}`;
    await assertGone(markers, "auth.audit_log_entries");
  });
});

Deno.test("close", () => sql.end());
