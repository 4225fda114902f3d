// Quotas, on a database of its own: they are everybody's, and put triggers on the tables.
import { assert, assertEquals, assertRejects } from "@std/assert";
import postgres from "postgres";
import { ownDatabase } from "../support/database.ts";

const ALICE = "a11ce000-0000-4000-8000-00000000000a";
const BOB = "b0b00000-0000-4000-8000-00000000000b";
const WRITERS = 32;

/** What PostgREST makes of the error: `raise sqlstate 'PGRST'`. */
interface Refusal {
  code: string;
  message: string;
  details: { limit: string; message: string }[];
  status: number;
  headers: Record<string, string>;
}

function readRefusal(error: unknown): Refusal | undefined {
  const { code, message, detail } = error as { code?: string; message: string; detail: string };
  if (code !== "PGRST") return undefined;
  const body = JSON.parse(message);
  return { ...body, details: JSON.parse(body.details), ...JSON.parse(detail) };
}

async function refusalOf(call: PromiseLike<unknown>): Promise<Refusal> {
  const error = await assertRejects(async () => await call);
  const refusal = readRefusal(error);
  if (!refusal) throw error;
  return refusal;
}

Deno.test("quotas", async (t) => {
  await using database = await ownDatabase();
  const { sql } = database;
  await using cleanUp = new AsyncDisposableStack();
  // Without the job: pg_cron would come in between.
  await sql`update private.scheduled_jobs set schedule = '0 0 30 2 *'`;
  await sql`select private.schedule_jobs()`;
  await sql`insert into auth.users (id, aud, role) select u, 'authenticated', 'authenticated' from unnest(${[
    ALICE,
    BOB,
  ]}::uuid[]) u`;

  /** Connections of one who calls, as PostgREST has them. */
  const connectAs = async (role: string, user?: string, max = 1): Promise<postgres.Sql> => {
    const client = postgres(database.url, {
      max,
      onnotice: () => {},
      connection: { role, "request.jwt.claims": JSON.stringify({ sub: user, role }) } as Record<string, string>,
    });
    cleanUp.defer(() => client.end());
    await client`select`;
    return client;
  };
  const alice = await connectAs("authenticated", ALICE);
  const bob = await connectAs("authenticated", BOB);
  const message = (content = "x") => ({ role: "user", content });
  const create = async (client: postgres.Sql) =>
    (await client`insert into conversations default values returning id`)[0].id;
  const append = (client: postgres.Sql, id: string, messages: object[]) =>
    client`select append_messages(${id}, ${client.json(messages as never)})`;
  const used = async (user: string, metric: string): Promise<number> =>
    Number((await sql`select sum(${sql(metric)}) as n from private.quota_use where user_id = ${user}`)[0].n);
  const quotas = async (client: postgres.Sql) => (await client`select get_quotas() as page`)[0].page.data;
  const installed = async () => {
    const [row] = await sql`
      select
        (select count(*)::int from pg_trigger where tgname in ('count_writes', 'count_changes')) as triggers,
        (select count(*)::int from pg_db_role_setting s, unnest(setconfig) c where c like 'pgrst.%') as hooks,
        has_schema_privilege('anon', 'private', 'usage') as anon`;
    return row;
  };
  const OFF = { triggers: 0, hooks: 0, anon: false };
  /** There is no quota, and nothing used. */
  const reset = async () => {
    await sql`delete from private.quota_use`;
    await sql`delete from private.quotas`;
    await sql`select private.install_quotas()`;
  };

  await t.step("are off until one is set, and what counts is gone with the last", async () => {
    assertEquals(await installed(), OFF);
    assertEquals(await quotas(alice), []);
    await append(alice, await create(alice), [message()]);
    assertEquals(await used(ALICE, "writes"), 0);

    const tables = (await sql`select count(*)::int as n, count(*) filter (where changes <> '{}')::int as changed
      from private.counted_tables`)[0];
    await sql`select private.set_quota('bytes', 1000000)`;
    await sql`select private.set_quota('writes', 1000000, ${ALICE.toUpperCase()})`;
    assertEquals(await installed(), { ...OFF, triggers: tables.n + tables.changed });
    await sql`select private.set_quota('requests', 1000000)`;
    assertEquals(await installed(), { triggers: tables.n + tables.changed, hooks: 1, anon: true });
    await sql`select private.set_quota('bytes', null)`;
    await sql`select private.set_quota('writes', null, ${ALICE})`;
    assertEquals(await installed(), { triggers: 0, hooks: 1, anon: true });
    await sql`select private.set_quota('requests', null)`;
    assertEquals(await installed(), OFF);
  });

  await t.step("are counted wherever users write", async () => {
    // All tables of users' with rows that API roles insert, or functions on their behalf.
    const known = (await sql`select name from private.counted_tables order by name`).map(({ name }) => name);
    const owned = await sql`
      select format('%I.%I', n.nspname, c.relname) as name
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attname in ('user_id', 'owner_id')
      where n.nspname = 'public' and c.relkind in ('r', 'p')
      order by 1`;
    assertEquals(known, owned.map(({ name }) => name));
  });

  await t.step("refuse what no quota can be", async () => {
    for (
      const [metric, quota, user] of [["seconds", 1, null], ["writes", -1, null], ["writes", 1, ""], [null, 1, null]]
    ) {
      const error = await assertRejects(async () => await sql`select private.set_quota(${metric}, ${quota}, ${user})`);
      assertEquals((error as unknown as { code: string }).code, "PT400");
    }
    await assertRejects(async () => await alice`select private.set_quota('writes', 1)`, Error, "permission denied");
    assertEquals(await installed(), OFF);
  });

  await t.step("writes: rows that are added or changed, in the transaction that does it", async () => {
    await reset();
    await sql`select private.set_quota('writes', 10, ${ALICE})`;
    const id = await create(alice); // 1
    await append(alice, id, [message(), message()]); // 3
    await alice`insert into conversation_messages (conversation_id, role, content) values (${id}, 'user', 'plain')`; // 4
    await alice`update conversations set title = 'x' where id = ${id}`; // 5
    await alice`select insert_documents('c', ${alice.json([{ id: "1" }, { id: "2" }])})`; // 7
    await alice`select call_once('delete_message', ${
      alice.json({
        p_conversation_id: id,
        p_message_id: (await alice`select id from conversation_messages where conversation_id = ${id} limit 1`)[0].id,
      })
    }, 'key')`;
    assertEquals(await used(ALICE, "writes"), 7);
    const key = crypto.randomUUID();
    const once = () => alice`select append_messages(${id}, ${alice.json([message()])}, p_idempotency_key => ${key})`;
    await once(); // 8
    await once();
    assertEquals(await used(ALICE, "writes"), 8);

    const { code, message: slug, details, status, headers } = await refusalOf(
      append(alice, id, [message(), message(), message()]),
    );
    assertEquals([code, slug, status, details[0].limit], ["PT429", "quota_exceeded", 429, "writes"]);
    const until = 86_400 - Date.now() / 1000 % 86_400;
    assert(Math.abs(Number(headers["retry-after"]) - until) < 10, headers["retry-after"]);
    assertEquals(await used(ALICE, "writes"), 8, "what is refused is not counted");
    await append(alice, id, [message(), message()]);
    await refusalOf(alice`update conversations set title = 'y' where id = ${id}`);
    const [{ limit, used: told, metric, resets_at }] = await quotas(alice);
    assertEquals([metric, limit, told], ["writes", 10, 10]);
    assert(Math.abs((Date.parse(resets_at) - Date.now()) / 1000 - until) < 10);

    // What deletes is no write, and neither are another user's, a job's and the backend's own.
    await alice`select delete_conversation(${id})`;
    assertEquals(await quotas(bob), []);
    await append(bob, await create(bob), [message()]);
    await sql`insert into conversations (user_id) values (${ALICE})`;
    const backend = await connectAs("service_role");
    await backend`select insert_documents('c', ${backend.json([{ id: "1" }])})`;
    assertEquals((await sql`select distinct user_id from private.quota_use`).map((row) => row.user_id), [ALICE]);
    // What a backend writes for her is.
    await refusalOf(backend`select insert_documents('c', ${backend.json([{ id: "3" }])}, p_user_id => ${ALICE})`);
    await sql`select private.set_quota('writes', null, ${ALICE})`;
  });

  await t.step("bytes: the size of these rows; one's own quota goes before everybody's", async () => {
    await reset();
    await sql`select private.set_quota('bytes', 100000)`;
    await sql`select private.set_quota('bytes', 10000, ${BOB})`;
    for (const [client, user, quota] of [[alice, ALICE, 100000], [bob, BOB, 10000]] as const) {
      const id = await create(client);
      await append(client, id, [message("a".repeat(quota / 2))]);
      const bytes = await used(user, "bytes");
      assert(bytes > quota / 2 && bytes < quota / 2 + 1000, `${bytes}`);
      const { details } = await refusalOf(append(client, id, [message("a".repeat(quota / 2))]));
      assertEquals(details[0].limit, "bytes");
      assertEquals((await quotas(client)).map(({ limit }: { limit: number }) => limit), [quota]);
    }
    await sql`select private.set_quota('bytes', null)`;
    await sql`select private.set_quota('bytes', null, ${BOB})`;
  });

  await t.step("requests: each, where it may write; those that only read with the next that may", async () => {
    await reset();
    await sql`select private.set_quota('requests', 10)`;
    const read = () => alice.begin("read only", (tx) => tx`select private.count_request()`);
    const write = () => alice`select private.count_request()`;
    for (let i = 0; i < 3; i++) await write();
    assertEquals(await used(ALICE, "requests"), 3);
    for (let i = 0; i < 5; i++) await read();
    assertEquals(await used(ALICE, "requests"), 3);
    await write();
    assertEquals(await used(ALICE, "requests"), 9);
    await read();
    for (const refused of [read, read]) assertEquals((await refusalOf(refused())).details[0].limit, "requests");
    await refusalOf(write());
    // Others, and who is nobody.
    await bob`select private.count_request()`;
    const anon = await connectAs("anon");
    const backend = await connectAs("service_role");
    for (let i = 0; i < 20; i++) {
      await anon`select private.count_request()`;
      await backend`select private.count_request()`;
    }
    await backend.begin(async (tx) => {
      await tx`select set_config('request.headers', '{"x-user-id": "+49 30 1"}', true)`;
      await tx`select private.count_request()`;
    });
    assertEquals(await used("+49 30 1", "requests"), 1);
    assertEquals((await sql`select count(distinct user_id)::int as n from private.quota_use`)[0].n, 3);
    await sql`select private.set_quota('requests', null)`;
  });

  await t.step("requests: beside a hook of the project's own only if that calls ours", async () => {
    await sql`create function public.check_request() returns void language plpgsql as 'begin end'`;
    await sql`alter role authenticator set pgrst.db_pre_request = 'public.check_request'`;
    const error = await assertRejects(async () => await sql`select private.set_quota('requests', 10)`);
    assertEquals((error as unknown as { code: string }).code, "PT409");
    assertEquals(await sql`select from private.quotas`.then((rows) => rows.length), 0);
    await sql`create or replace function public.check_request() returns void language plpgsql
      as 'begin perform private.count_request(); end'`;
    await reset();
    await sql`select private.set_quota('requests', 1)`;
    await bob`select check_request()`;
    await refusalOf(bob`select check_request()`);
    await sql`select private.set_quota('requests', null)`;
    assertEquals(await installed(), { ...OFF, hooks: 1 }, "the project's stays");
    await sql`alter role authenticator reset pgrst.db_pre_request`;
    await sql`drop function public.check_request()`;
  });

  for (
    const { quota, batch, holds } of [
      { quota: 10, batch: 1, holds: 0 },
      { quota: 1000, batch: 1, holds: 0.005 },
      { quota: 640, batch: 20, holds: 0.01 },
    ]
  ) {
    await t.step(
      `${WRITERS} writers of ${batch}, ${quota} in all: none is refused before, and 5 % over at the most`,
      async () => {
        await reset();
        await sql`delete from conversations where user_id = ${ALICE}`;
        await sql`select private.set_quota('writes', 1000000, ${ALICE})`;
        const clients = await connectAs("authenticated", ALICE, WRITERS);
        const ids = await Promise.all(Array.from({ length: WRITERS }, () => create(clients)));
        await reset();
        await sql`select private.set_quota('writes', ${quota}, ${ALICE})`;
        let stored = 0;
        const early: number[] = [];
        await Promise.all(ids.map(async (id) => {
          for (;;) {
            const messages = Array.from({ length: batch }, () => message());
            try {
              await clients.begin(async (tx) => {
                await append(tx as unknown as postgres.Sql, id, messages);
                if (holds) await tx`select pg_sleep(${holds})`;
              });
              stored += batch;
            } catch (error) {
              if ((error as { code?: string }).code === "55P03") continue;
              if (!readRefusal(error)) throw error;
              // What is counted by then is what was there at the least.
              early.push(
                (await sql`select count(*)::int as n from conversation_messages where user_id = ${ALICE}`)[0].n,
              );
              return;
            }
          }
        }));
        assertEquals(await used(ALICE, "writes"), stored);
        assert(stored + batch > quota && stored <= quota * 1.05, `${stored} of ${quota}`);
        assert(early.every((there) => there + batch > quota), `refused at ${early}`);
        const [{ slots }] = await sql`select count(*)::int as slots from private.quota_use`;
        assert(slots <= WRITERS + 1, `${slots} slots`);
      },
    );
  }

  await t.step("a day later there is all of it again, and the counts of the day before go", async () => {
    const use = (day: number) =>
      sql`select private.use_quota(${ALICE}, '{0,3,0}', now() + make_interval(days => ${day}))`;
    await reset();
    await sql`select private.set_quota('writes', 5, ${ALICE})`;
    await use(0);
    await refusalOf(use(0));
    await use(1);
    await refusalOf(use(1));
    assertEquals((await quotas(alice))[0].used, 3);
    assertEquals((await sql`select private.quota_use_step(now() + interval '1 day') as more`)[0].more, true);
    assertEquals((await sql`select private.quota_use_step(now() + interval '1 day') as more`)[0].more, false);
    assertEquals(await used(ALICE, "writes"), 3, "the other day's");
    assertEquals((await quotas(alice))[0].used, 0);
  });

  await t.step("nothing of a deleted user's stays, and nothing comes back", async () => {
    await reset();
    const gone = "dead0000-0000-4000-8000-00000000000a";
    await sql`insert into auth.users (id, aud, role) values (${gone}, 'authenticated', 'authenticated')`;
    await sql`select private.set_quota('requests', 10, ${gone})`;
    await sql`select private.set_quota('requests', 10)`;
    const client = await connectAs("authenticated", gone);
    await client.begin("read only", (tx) => tx`select private.count_request()`);
    await sql`delete from auth.users where id = ${gone}`;
    const error = await assertRejects(async () => await client`select private.count_request()`);
    assertEquals((error as unknown as { code: string }).code, "PT401");
    // The read that its connection has noted, with the next user's write.
    await client`select set_config('request.jwt.claims', ${
      JSON.stringify({ sub: BOB, role: "authenticated" })
    }, false)`;
    await client`select private.count_request()`;
    for (const table of ["quotas", "quota_use"]) {
      assertEquals((await sql`select from private.${sql(table)} where user_id = ${gone}`).length, 0, table);
    }
    assertEquals(await used(BOB, "requests"), 1);
  });
});
