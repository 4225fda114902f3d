// The partitions of event_logs, with the clock as an argument. Each test works in a transaction that is rolled back; the DDL in
// it locks sessions, so the tests of one file take turns and hold it for milliseconds.
import { assertEquals, assertRejects } from "@std/assert";
import type postgres from "postgres";
import { connect, uuid } from "../support/stack.ts";

class RolledBack extends Error {}

/** Runs in a transaction of its own that never commits. Tries again where other tests hold a table for too long. */
async function rolledBack(test: (tx: postgres.TransactionSql) => Promise<void>): Promise<void> {
  const sql = connect();
  try {
    await assertRejects(() =>
      sql.begin(async (tx) => {
        // In the order in which appends lock, and waiting as long as it takes: the step's own patience is tested below.
        await tx`lock table sessions, event_logs in access exclusive mode`;
        await test(tx);
        throw new RolledBack();
      }), RolledBack);
  } finally {
    await sql.end();
  }
}

/** Runs the job as it is scheduled, at another time. Answers how many partitions it made. */
async function runJob(tx: postgres.TransactionSql, now: string): Promise<number> {
  for (let made = 0;; made++) {
    const [{ more }] = await tx`select private.event_partition_step(${now}) as more`;
    if (!more) return made;
  }
}

async function leaves(tx: postgres.ISql): Promise<Record<string, string>> {
  const rows = await tx`
    select c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bounds
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.event_logs'::regclass`;
  return Object.fromEntries(rows.map(({ name, bounds }) => [name, bounds]));
}

async function rows(tx: postgres.ISql, session: string) {
  return await tx`
    select e.tableoid::regclass::text as leaf, e.sequence, e.content ->> 'text' as text
    from event_logs e where e.session_id = ${session} order by e.sequence`;
}

/** As the owner, who alone may say when an event was stored. */
async function log(tx: postgres.ISql, session: string, sequence: number, at: string): Promise<void> {
  await tx`
    insert into event_logs (session_id, sequence, user_id, event_type, content, occurred_at, created_at)
    values (${session}, ${sequence}, 'x', 'system', ${tx.json({ text: at })}, ${at}, ${at})`;
}

async function newSession(tx: postgres.ISql): Promise<string> {
  const id = uuid();
  await tx`insert into sessions (id, user_id) values (${id}, 'x')`;
  return id;
}

Deno.test("the job makes this month's partition and three ahead, and nothing when it runs again", () =>
  rolledBack(async (tx) => {
    const before = await leaves(tx);
    assertEquals(await runJob(tx, "2031-11-30T23:59:59Z"), 4);
    assertEquals(await runJob(tx, "2031-11-30T23:59:59Z"), 0);
    assertEquals(await runJob(tx, "2031-12-01T00:00:00Z"), 1, "a month later, one more");
    const made = Object.entries(await leaves(tx)).filter(([name]) => !(name in before)).toSorted();
    await tx`set local timezone = 'America/New_York'`; // a job's session may have any
    assertEquals(
      made.map(([name]) => name),
      [11, 12].map((m) => `event_logs_2031_${m}`).concat(
        ["01", "02", "03"].map((m) => `event_logs_2032_${m}`),
      ),
    );
    assertEquals(made[0][1], "FOR VALUES FROM ('2031-11-01 00:00:00+00') TO ('2031-12-01 00:00:00+00')");
    // From elsewhere the borders are those of UTC all the same.
    assertEquals(await runJob(tx, "2033-01-01T03:00:00Z"), 4);
    await tx`set local timezone = 'UTC'`;
    assertEquals(
      (await leaves(tx)).event_logs_2033_01,
      "FOR VALUES FROM ('2033-01-01 00:00:00+00') TO ('2033-02-01 00:00:00+00')",
    );
  }));

Deno.test("a clock that is behind makes partitions of the past, and disturbs nothing", () =>
  rolledBack(async (tx) => {
    const session = await newSession(tx);
    await log(tx, session, 1, new Date().toISOString());
    const [{ leaf }] = await rows(tx, session);
    assertEquals(await runJob(tx, "2019-02-10T00:00:00Z"), 4);
    await log(tx, session, 2, "2019-03-31T23:59:59.999999Z");
    await log(tx, session, 3, "2019-04-01T00:00:00Z");
    assertEquals((await rows(tx, session)).map((row) => row.leaf), [
      leaf,
      "private.event_logs_2019_03",
      "private.event_logs_2019_04",
    ]);
  }));

Deno.test("a job that did not run for months: no event was refused, and each moves where it belongs", () =>
  rolledBack(async (tx) => {
    const session = await newSession(tx);
    const times = ["2031-01-01T00:00:00Z", "2031-01-31T23:59:59Z", "2031-03-15T12:00:00Z", "2031-06-01T00:00:00Z"];
    for (const [i, at] of times.entries()) await log(tx, session, i + 1, at);
    assertEquals(new Set((await rows(tx, session)).map((row) => row.leaf)), new Set(["private.event_logs_default"]));

    assertEquals(await runJob(tx, "2031-05-20T00:00:00Z"), 6, "May to August, and what waited from January and March");
    assertEquals((await rows(tx, session)).map((row) => [row.leaf, row.text]), [
      ["private.event_logs_2031_01", times[0]],
      ["private.event_logs_2031_01", times[1]],
      ["private.event_logs_2031_03", times[2]],
      ["private.event_logs_2031_06", times[3]],
    ]);
    assertEquals((await tx`select from private.event_logs_default`).length, 0);
  }));

Deno.test("more events than can move in about a second stay where they are, and the months after get their partitions", () =>
  rolledBack(async (tx) => {
    const session = await newSession(tx);
    await tx`
      insert into event_logs (session_id, sequence, user_id, event_type, content, occurred_at, created_at)
      select ${session}, n, 'x', 'system', '0', '2031-01-05', '2031-01-05' from generate_series(1, 100001) n`;
    await log(tx, session, 200_000, "2031-02-01T00:00:00Z");
    assertEquals(await runJob(tx, "2031-01-20T00:00:00Z"), 3);
    const [{ first, last }] = await tx`
      select min(tableoid::regclass::text) filter (where sequence = 1) as first,
        min(tableoid::regclass::text) filter (where sequence = 200000) as last
      from event_logs where session_id = ${session}`;
    assertEquals([first, last], ["private.event_logs_default", "private.event_logs_2031_02"]);
    await tx`select private.make_event_partition('2031-01-01')`;
    assertEquals((await tx`select from private.event_logs_default`).length, 0, "somebody did it by hand");
  }));

Deno.test("a new partition is closed to every client, and has the indexes, the key and the trigger of the others", () =>
  rolledBack(async (tx) => {
    await runJob(tx, "2031-05-20T00:00:00Z");
    const describe = async (leaf: string) =>
      (await tx`
        select c.relrowsecurity, c.relforcerowsecurity, c.relacl::text as acl,
          (select count(*)::int from pg_index i where i.indrelid = c.oid and i.indisvalid) as indexes,
          (select array_agg(t.tgname::text order by t.tgname) from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal) as triggers,
          (select array_agg(k.conname::text order by k.contype, k.conname) from pg_constraint k where k.conrelid = c.oid and k.contype in ('c', 'f')) as constraints,
          (select count(*)::int from pg_policy p where p.polrelid = c.oid) as policies
        from pg_class c where c.oid = ${`private.${leaf}`}::regclass`)[0];
    const made = await describe("event_logs_2031_05");
    assertEquals(made, await describe("event_logs_default"));
    assertEquals([made.relrowsecurity, made.relforcerowsecurity, made.indexes, made.policies], [true, true, 3, 1]);
    assertEquals(made.triggers, ["number_event"]);
    for (const role of ["anon", "authenticated", "service_role"]) {
      const [{ reach }] =
        await tx`select has_table_privilege(${role}, 'private.event_logs_2031_05', 'select') as reach`;
      assertEquals(reach, false, role);
    }
  }));

Deno.test("a table in use makes the job give way at once and say so; those who write go on", async () => {
  const writer = connect();
  const job = connect();
  const session = await newSession(writer);
  const release = Promise.withResolvers<void>();
  const holding = Promise.withResolvers<void>();
  const long = writer.begin(async (tx) => {
    await log(tx, session, 1, "2041-01-01T00:00:00Z"); // into the default partition, and not committed for a while
    holding.resolve();
    await release.promise;
    throw new RolledBack();
  });
  await holding.promise;
  const started = performance.now();
  const [{ more }] = await job`select private.event_partition_step('2041-01-01') as more`;
  const waited = performance.now() - started;
  assertEquals(more, false);
  assertEquals(waited < 5000, true, `it waited ${waited} ms for a transaction that would not end`);
  assertEquals(Object.keys(await leaves(job)).includes("event_logs_2041_01"), false);
  await job`insert into event_logs (session_id, event_type, content) values (${session}, 'system', '{}')`;
  release.resolve();
  await assertRejects(() => long, RolledBack);
  await job`delete from sessions where id = ${session}`;
  await writer.end();
  await job.end();
});

Deno.test("no client role runs the job, or a step of it", async () => {
  const sql = connect();
  for (const role of ["anon", "authenticated", "service_role"]) {
    for (const call of ["event_partition_step(now())", "make_event_partition(now())", "schedule_jobs()"]) {
      const error = await assertRejects(() =>
        sql.begin(async (tx) => {
          await tx.unsafe(`set local role ${role}`);
          await tx.unsafe(`select private.${call}`);
        })
      );
      assertEquals((error as { code?: string }).code, "42501", `${role}: ${call}`);
    }
  }
  const [{ more }] = await sql`select private.event_partition_step() as more`;
  assertEquals(more, false, "the owner does, and there is nothing to do");
  await sql.end();
});
