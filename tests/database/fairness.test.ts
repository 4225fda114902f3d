// What jobs do with a lot that one user has left behind, while another one wants something. They look at everybody's rows:
// a database of its own.
import { assert, assertEquals } from "@std/assert";
import postgres from "postgres";
import { ownDatabase } from "../support/database.ts";

const MALLORY = "00000000-0000-4000-8000-00000000000a";
const ALICE = "ffffffff-0000-4000-8000-00000000000a";

Deno.test("fair jobs", async (t) => {
  await using database = await ownDatabase();
  const { sql } = database;
  await using cleanUp = new AsyncDisposableStack();
  const alice = postgres(database.url, { max: 1, onnotice: () => {} });
  cleanUp.defer(() => alice.end());
  await alice`select set_config('request.jwt.claims', ${JSON.stringify({ sub: ALICE, role: "authenticated" })}, false)`;
  // Without the jobs themselves: pg_cron would come in between.
  const jobs = await sql`select name, command from private.scheduled_jobs order by name`;
  await sql`update private.scheduled_jobs set schedule = '0 0 30 2 *'`;
  await sql`select private.schedule_jobs()`;
  await sql`insert into auth.users (id, aud, role) select u, 'authenticated', 'authenticated' from unnest(${[
    MALLORY,
    ALICE,
  ]}::uuid[]) u`;

  /** Quiet conversations of as many messages, which have filters to be made. */
  const conversations = async (user: string, count: number, messages: number, content = "hello"): Promise<string[]> => {
    const rows = await sql`
      with c as (
        insert into conversations (user_id, last_sequence_order, updated_at)
        select ${user}, ${messages}::int, now() - interval '1 hour' from generate_series(1, ${count}::int)
        returning id, user_id
      ),
      m as (
        insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
        select c.id, c.user_id, n, 'user', ${content} || n from c, generate_series(1, ${messages}::int) n
      )
      select id from c`;
    return rows.map(({ id }) => id);
  };
  const count = async (table: string, where: string): Promise<number> =>
    (await sql.unsafe(`select count(*)::int as n from ${table} where ${where}`))[0].n;
  /** Some steps of a job in one statement, as its command makes all of them. */
  const steps = async (step: string, n: number): Promise<void> => {
    await sql.unsafe(
      `do $$ begin for i in 1 .. ${n} loop exit when not private.${step}(); commit; end loop; end $$`,
    ).simple();
  };

  await t.step("a user's deletion waits a second for no job, whatever that finds of another's", async () => {
    const words = Array.from({ length: 4000 }, (_, i) => `word${i}`).join(" ");
    await conversations(MALLORY, 3, 128, words);
    await sql`update conversations set expires_at = now() where id = any (${await conversations(
      MALLORY,
      2000,
      2,
    )}::uuid[])`;
    await sql`select private.hide_conversations(${await conversations(MALLORY, 300, 30)}::uuid[])`;
    await sql`
      insert into private.idempotency_keys (user_id, scope, key, request_hash, created_at)
      select ${MALLORY}, 'x', n::text, '', now() - interval '2 days' from generate_series(1, 10000) n`;
    await sql`
      insert into sessions (user_id, start_time, created_at)
      select ${MALLORY}, now() - interval '1 day', now() - interval '1 day' from generate_series(1, 2000)`;
    await sql`insert into private.erasures (scope, user_id) values ('user', 'mallory')`;

    const waits: Record<string, number> = {};
    for (const { name, command } of jobs) {
      const mine = await conversations(ALICE, 100, 65);
      let isOver = false;
      const job = sql.unsafe(command).simple().then(() => isOver = true);
      waits[name] = 0;
      for (let i = 0; i < mine.length && (i < 10 || !isOver); i++) {
        const from = performance.now();
        if (i % 2) await alice`select delete_conversation(${mine[i]})`;
        else {await alice`select delete_message(${mine[i]}, id) from conversation_messages where conversation_id = ${
            mine[i]
          } limit 1`;}
        waits[name] = Math.max(waits[name], performance.now() - from);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await job;
    }
    assert(Object.values(waits).every((ms) => ms < 1000), JSON.stringify(waits));
    // They did what they are there for.
    assertEquals(
      [
        await count("conversations", `user_id = '${MALLORY}'`),
        await count("private.prune_queue", "true"),
        await count("private.search_filters", "words is null"),
        await count("private.idempotency_keys", "true"),
        await count("sessions", "end_time is null"),
        await count("private.erasures", "finished_at is null"),
      ],
      [3, 0, 0, 0, 0, 0],
    );
  });

  await t.step("retention: one kind's many rows leave the others their turn, and the next run goes on", async () => {
    await sql`delete from conversations`;
    const imported = await conversations(MALLORY, 4000, 1);
    await sql`
      insert into private.imports (user_id, conversation_id, incomplete, tombstone, created_at)
      select ${MALLORY}, id, true, false, now() - interval '3 days' from unnest(${imported}::uuid[]) id`;
    await sql`
      insert into private.idempotency_keys (user_id, scope, key, request_hash, created_at)
      values (${ALICE}, 'x', 'old', '', now() - interval '2 days')`;
    await steps("retention_step", 12);
    assertEquals(await count("private.idempotency_keys", "true"), 0);
    const left = await count("private.imports", "true");
    assert(left > 0 && left < 4000, `${left} of 4000`);

    await sql`update private.retention_runs set last_step_at = last_step_at - interval '1 hour'`;
    const kinds = async () =>
      (await sql`select kinds_left from private.retention_runs order by id desc limit 1`)[0].kinds_left;
    const stopped = await kinds();
    await steps("retention_step", 1);
    assertEquals((await kinds()).slice(0, stopped.length), stopped);

    const overdue = async () => (await sql`select list_retention_runs() -> 'overdue' as overdue`)[0].overdue;
    const [{ kind, since }] = await overdue();
    assertEquals([kind, Math.round((Date.now() - Date.parse(since)) / 86_400_000)], ["imports", 2]);
    await sql`delete from private.imports`;
    assertEquals((await overdue()).filter((due: { kind: string }) => due.kind !== "prune_queue"), []);
  });

  await t.step("what deletions left, and summaries: owners in turn, however much one of them has", async () => {
    await sql`delete from conversations`;
    await sql`select private.hide_conversations(${await conversations(MALLORY, 300, 30)}::uuid[])`;
    await sql`select private.hide_conversations(${await conversations(ALICE, 1, 30)}::uuid[])`;
    for (let i = 0; i < 3; i++) await sql`select private.drain_prune_queue(100)`;
    assertEquals(await count("conversations", `user_id = '${ALICE}'`), 0);
    assert(await count("conversations", `user_id = '${MALLORY}'`) > 280);

    await sql`delete from sessions`;
    for (const [user, n] of [[MALLORY, 500], [ALICE, 3]] as const) {
      await sql`
        insert into sessions (user_id, start_time, end_time)
        select ${user}, now() - interval '1 day', now() - interval '1 hour' from generate_series(1, ${n}::int)`;
    }
    const [{ owners }] = await sql.begin(async (tx) => {
      await tx`select set_config('request.jwt.claims', '{"role": "service_role"}', true)`;
      return await tx`
        select array_agg(s ->> 'user_id') as owners from jsonb_array_elements(take_unsummarized(6) -> 'data') s`;
    });
    assertEquals(owners.filter((owner: string) => owner === ALICE).length, 3);
  });
});
