// What retention removes and what it keeps. It looks at everybody's rows, so it has a stack of its own; rows are made old
// instead of waited for.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startScheduler } from "../../local/scheduler.ts";
import { type Stack, startStack } from "../../local/stack.ts";
import { ownDatabase } from "../support/database.ts";

const DAY = 86_400_000;
const ago = (days: number) => new Date(Date.now() - days * DAY).toISOString();

interface Run {
  id: number;
  status: string;
  removed: Record<string, number>;
  errors: { kind: string; sqlstate: string; constraint: string | null }[];
  steps: number;
  finished_at: string | null;
}

class Bench implements AsyncDisposable {
  readonly #connections: postgres.Sql[] = [];
  sql: postgres.Sql;
  readonly user = crypto.randomUUID();

  private constructor(readonly dbUrl: string, readonly stack: Stack | null, readonly close: () => PromiseLike<void>) {
    this.sql = this.connect();
  }

  static async start(): Promise<Bench> {
    const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
    const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;
    const stack = await startStack({ port: 0, dbPort: 0, dataDir, postgresBin });
    return await new Bench(stack.dbUrl, stack, async () => {
      await stack.stop();
      await Deno.remove(dataDir, { recursive: true });
    }).#prepare();
  }

  /** Without an API, which takes as long to start as all the rest. */
  static async startDatabase(): Promise<Bench> {
    const database = await ownDatabase();
    return await new Bench(database.url, null, () => database[Symbol.asyncDispose]()).#prepare();
  }

  async #prepare(): Promise<this> {
    await this.sql`insert into auth.users (id, aud, role) values (${this.user}, 'authenticated', 'authenticated')`;
    await this.sql`delete from conversations`; // the seed's
    // The job itself would come in between.
    await this.sql`update private.scheduled_jobs set schedule = '0 0 30 2 *'`;
    await this.sql`select private.schedule_jobs()`;
    // What ran in the minute of the start would count as old where a run is told that it is next month.
    await this.sql`select from private.retain_job_run_details('infinity', null)`;
    return this;
  }

  connect(): postgres.Sql {
    const sql = postgres(this.dbUrl, { max: 1, onnotice: () => {} });
    this.#connections.push(sql);
    return sql;
  }

  /** Waits for a server that starts again: kill -9 of a backend ends them all. */
  async reconnect(): Promise<void> {
    await this.sql.end({ timeout: 1 });
    this.sql = this.connect();
    for (let up = false; !up;) up = await this.sql`select pg_sleep(0.2)`.then(() => true, () => false);
  }

  async api(method: string, path: string, body?: unknown) {
    const response = await fetch(`${this.stack!.apiUrl}/functions/v1${path}`, {
      method,
      headers: { apikey: this.stack!.secretKey, "x-user-id": this.user, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : null };
  }

  set(kind: string, keep: string | null, collection: string | null = null) {
    return this.sql`select private.set_retention_policy(${kind}, ${keep}::text::interval, ${collection})`;
  }

  /** The job's command, at another time than now if one is given. */
  async run(now?: string, sql = this.sql): Promise<Run> {
    const [{ command }] = await sql`select command from private.scheduled_jobs where name = 'threadbase-retention'`;
    await sql.unsafe(command.replace("retention_step()", now ? `retention_step('${now}')` : "retention_step()"))
      .simple();
    return (await this.runs())[0];
  }

  async runs(): Promise<Run[]> {
    return (await this.sql`select public.list_retention_runs(1000) -> 'data' as data`)[0].data;
  }

  async preview(now?: string): Promise<{ kind: string; collection: string | null; removes: Record<string, number> }[]> {
    return (await this.sql`select public.retention_preview(coalesce(${now ?? null}, now())) -> 'data' as data`)[0].data;
  }

  async count(table: string, where = "true"): Promise<number> {
    return (await this.sql.unsafe(`select count(*)::int as n from ${table} where ${where}`))[0].n;
  }

  /** A conversation of the bench's user with messages, its last activity some days ago. */
  async conversation(days: number, messages = 2, created = days): Promise<string> {
    const id = crypto.randomUUID();
    await this.sql`
      insert into conversations (id, user_id, title, last_sequence_order, created_at, updated_at)
      values (${id}, ${this.user}, 'title', ${messages}, ${ago(created)}, ${ago(days)})`;
    await this.sql`
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
      select ${id}, ${this.user}, n, 'user', 'message ' || n from generate_series(1, ${messages}::int) n`;
    return id;
  }

  /** A session of as many events, the last of them some days ago. */
  async session(days: number, events: number, created = days): Promise<string> {
    const id = crypto.randomUUID();
    const last = ago(days);
    const first = created === days ? last : ago(created);
    await this.sql`
      insert into sessions (id, user_id, start_time, created_at, last_event_at, last_sequence)
      values (${id}, ${this.user}, ${first}, ${first}, ${events ? last : null}, ${events})`;
    await this.sql`
      insert into event_logs (session_id, sequence, user_id, event_type, content, occurred_at, created_at)
      select ${id}, n, ${this.user}, 'ai_chunk', '0', t, t
      from (
        select n, case when n = 1 then ${first}::timestamptz else ${last} end as t
        from generate_series(1, ${events}::int) n
      ) e`;
    await this.sql`
      insert into private.event_counts (session_id, slot, event_type, user_id, count)
      select ${id}, private.event_slot(${last}), 'ai_chunk', ${this.user}, ${events}::int where ${events}::int > 0`;
    return id;
  }

  async response(id: string, days: number, previous_response_id?: string): Promise<string> {
    const body = {
      input: `in ${id}`,
      output: [{ role: "assistant", content: `out ${id}` }],
      model: "m",
      provider: "p",
    };
    const { status, body: stored } = await this.api("PUT", `/responses/${id}`, { ...body, previous_response_id });
    assertEquals(status, 201);
    await this.sql`update conversation_states set updated_at = ${ago(days)} where response_id = ${id}`;
    return stored.conversation_id;
  }

  async [Symbol.asyncDispose]() {
    await Promise.all(this.#connections.map((sql) => sql.end({ timeout: 1 })));
    await this.close();
  }
}

Deno.test("retention", async (t) => {
  await using bench = await Bench.start();
  const { sql, api } = { sql: bench.sql, api: bench.api.bind(bench) };
  const [{ cron }] = await sql`select exists (select from pg_extension where extname = 'pg_cron') as cron`;
  const status = async (path: string) => (await api("GET", path)).status;
  const statuses = async (path: string, ids: string[]) => await Promise.all(ids.map((id) => status(`${path}/${id}`)));

  // A run that finds its minute over when it comes to its second step. Meanwhile it seems to have been killed.
  const timeUp = bench.connect().unsafe(`do $$ begin
    perform private.retention_step();
    update private.retention_runs set last_step_at = last_step_at - interval '1 hour';
    commit;
    perform pg_sleep(60);
    loop exit when not private.retention_step(); commit; end loop;
  end $$`).simple().execute();
  while (await bench.count("private.retention_runs") === 0) await new Promise((resolve) => setTimeout(resolve, 10));

  await t.step("without a policy, and without expires_at, what is old stays", async () => {
    const ids = [await bench.conversation(4000), await bench.conversation(1)];
    const session = await bench.session(4000, 3);
    assertEquals((await bench.run()).removed, {});
    assertEquals(await statuses("/conversations", ids), [200, 200]);
    assertEquals(await status(`/sessions/${session}`), 200);
    await sql`delete from conversations where user_id = ${bench.user}`;
    await sql`delete from sessions`;
  });

  await t.step("conversations: the last message counts; pins and expires_at come before the policy", async () => {
    const [old, active, fresh, pinned, later, soon, pinnedSoon] = [
      await bench.conversation(31, 3),
      await bench.conversation(29, 2, 300),
      await bench.conversation(1),
      await bench.conversation(300),
      await bench.conversation(300),
      await bench.conversation(0, 4),
      await bench.conversation(0),
    ];
    await sql`update conversations set pinned = true where id in (${pinned}, ${pinnedSoon})`;
    await sql`update conversations set expires_at = ${ago(-1)} where id = ${later}`;
    await sql`update conversations set expires_at = ${ago(1)} where id in (${soon}, ${pinnedSoon})`;

    const first = await bench.run();
    assertEquals([first.status, first.removed], ["finished", { conversations: 1, conversation_messages: 4 }]);
    assertEquals(
      await statuses("/conversations", [soon, old, pinnedSoon]),
      [404, 200, 200],
      "no policy: expires_at alone",
    );

    await bench.set("conversations", "30 days");
    const expected = { conversations: 1, conversation_messages: 3 };
    assertEquals((await bench.preview()).find(({ kind }) => kind === "conversations")!.removes, expected);
    assertEquals(await status(`/conversations/${old}`), 200, "looking removes nothing");
    const other = bench.connect();
    await other.begin(async (tx) => {
      await tx`select from conversations where id = ${old} for no key update`; // as an append
      assertEquals((await bench.run()).removed, {}, "it waits for nobody");
    });
    assertEquals((await bench.run()).removed, expected);
    assertEquals(await statuses("/conversations", [old, active, fresh, pinned, later, pinnedSoon]), [
      404,
      200,
      200,
      200,
      200,
      200,
    ]);
    assertEquals(await bench.count("conversations", `id in ('${old}', '${soon}')`), 0, "the rows are gone, too");
    assertEquals((await bench.run()).removed, {}, "a second run finds nothing");

    // Reading does not move the clock; a month later only what is pinned is left.
    await api("GET", `/conversations/${active}/messages`);
    const run = await bench.run(ago(-40));
    assertEquals(run.removed, { conversations: 3, conversation_messages: 6 });
    assertEquals(await statuses("/conversations", [pinned, pinnedSoon]), [200, 200]);
    await sql`delete from conversations where user_id = ${bench.user}`;
  });

  await t.step("a fork keeps what it shows of an old conversation, and the rest goes", async () => {
    const id = await bench.conversation(0, 10);
    const fork = (await api("POST", `/conversations/${id}/fork`, { at: 4 })).body.id;
    await api("POST", `/conversations/${fork}/messages`, { messages: [{ role: "user", content: "mine" }] });
    await sql`update conversations set created_at = ${ago(99)}, updated_at = ${ago(99)} where id = ${id}`;
    assertEquals((await bench.run()).removed, { conversations: 1, conversation_messages: 6 });
    assertEquals(await status(`/conversations/${id}`), 404);
    const { body } = await api("GET", `/conversations/${fork}/messages`);
    assertEquals(body.data.map((m: { content: string }) => m.content), [
      ...[1, 2, 3, 4].map((n) => `message ${n}`),
      "mine",
    ]);
    await sql`update conversations set created_at = ${ago(99)}, updated_at = ${ago(99)} where id = ${fork}`;
    assertEquals((await bench.run()).removed, { conversations: 1, conversation_messages: 5 });
    assertEquals(await bench.count("conversations"), 0);
  });

  await t.step("responses: a week by default; a history goes with the last that shows it", async () => {
    const conversation = await bench.response("r1", 8);
    assertEquals(await bench.response("r2", 1, "r1"), conversation);
    const fork = await bench.response("r1b", 8, "r1");
    assertEquals((await bench.run()).removed, { conversation_states: 2, conversation_messages: 2 });
    assertEquals(await statuses("/responses", ["r1", "r1b", "r2"]), [404, 404, 200]);
    const { body } = await api("GET", "/responses/r2");
    assertEquals(body.input_items.length, 4, "its history is whole");
    assertEquals(await bench.count("conversations", `id = '${fork}'`), 0);

    await sql`update conversation_states set updated_at = ${ago(8)}`;
    const other = bench.connect();
    await other.begin(async (tx) => {
      await tx`select from conversation_states where response_id = 'r2' for share`; // as one that continues it
      assertEquals((await bench.run()).removed, {}, "it waits for nobody");
    });
    assertEquals((await bench.run()).removed, { conversation_states: 1, conversation_messages: 4 });
    assertEquals(await bench.count("conversations", `id = '${conversation}'`), 0);

    // Somebody's own conversation stays when its responses go.
    const titled = await bench.response("r3", 8);
    await api("PATCH", `/conversations/${titled}`, { title: "mine" });
    assertEquals((await bench.run()).removed, { conversation_states: 1 });
    assertEquals((await api("GET", `/conversations/${titled}/messages`)).body.data.length, 2);
    await api("DELETE", `/conversations/${titled}`);
  });

  await t.step("sessions: since their last event, the events in batches first", async () => {
    const [old, empty, active, fresh] = [
      await bench.session(31, 12_000),
      await bench.session(31, 0),
      await bench.session(29, 3, 60),
      await bench.session(0, 3),
    ];
    await bench.set("sessions", "30 days");
    const expected = { sessions: 2, event_logs: 12_000, event_counts: 1 };
    assertEquals((await bench.preview()).find(({ kind }) => kind === "sessions")!.removes, expected);
    const run = await bench.run();
    assertEquals(run.removed, expected);
    assertEquals(await statuses("/sessions", [old, empty, active, fresh]), [404, 404, 200, 200]);
    assertEquals(await bench.count("event_logs"), 6);
    assertEquals(await bench.count("private.event_counts"), 2);

    const other = bench.connect();
    await other.begin(async (tx) => {
      await tx`select from sessions where id = ${active} for no key update`; // as an append
      assertEquals((await bench.run(ago(-10))).removed, {});
    });
    assertEquals((await bench.run(ago(-10))).removed, { sessions: 1, event_logs: 3, event_counts: 1 });
    await sql`delete from sessions`;
    await bench.set("sessions", null);
  });

  await t.step("events: whole months are dropped, the default partition is cleaned, the counts stay", async () => {
    const now = "2026-07-15T00:00:00Z";
    const session = crypto.randomUUID();
    await sql`
      insert into sessions (id, user_id, created_at, last_event_at, last_sequence)
      values (${session}, ${bench.user}, '2026-01-01', '2026-07-01', 9)`;
    for (const month of ["2026-02-01", "2026-03-01", "2026-04-01"]) {
      await sql`select private.make_event_partition(${month})`;
    }
    await sql`
      insert into event_logs (session_id, sequence, user_id, event_type, content, occurred_at, created_at)
      select ${session}, n, ${bench.user}, 'system', '0', t, t
      from unnest(array['2026-01-31','2026-02-01','2026-02-27','2026-03-01','2026-03-31','2026-04-01','2026-04-20','2026-07-01']::timestamptz[])
        with ordinality as e (t, n)`;
    await sql`insert into private.event_counts values (${session}, '2026-02-01', 'system', ${bench.user}, 8)`;
    for (const month of ["02", "03", "04"]) await sql.unsafe(`analyze private.event_logs_2026_${month}`);
    await bench.set("event_logs", "90 days"); // before 16 April
    const expected = { event_log_partitions: 2, event_logs_estimated: 4, event_logs: 1 };
    assertEquals((await bench.preview(now)).find(({ kind }) => kind === "event_logs")!.removes, expected);

    // In use: nobody waits, it is on record, and the other kinds go on.
    const reader = bench.connect();
    const old = await bench.conversation(4000);
    await reader.begin(async (tx) => {
      await tx`select from event_logs limit 1`;
      const busy = await bench.run(now);
      assertEquals([busy.status, busy.errors], [
        "failed",
        [{ kind: "event_logs", sqlstate: "55P03", constraint: null }],
      ]);
      assertEquals(busy.removed, { conversations: 1, conversation_messages: 2 });
    });
    assertEquals(await status(`/conversations/${old}`), 404);

    assertEquals((await bench.run(now)).removed, expected);
    const left = await sql`select sequence, tableoid::regclass::text as leaf from event_logs order by sequence`;
    assertEquals(left.map(({ sequence, leaf }) => [sequence, leaf]), [
      [6, "private.event_logs_2026_04"],
      [7, "private.event_logs_2026_04"],
      [8, "private.event_logs_default"],
    ]);
    assertEquals(await bench.count("private.event_counts"), 1);
    const { body } = await api("GET", `/sessions/${session}/events`);
    assertEquals(body.data.map((event: { sequence: number }) => event.sequence), [6, 7, 8]);
    const appended = await api("POST", `/sessions/${session}/events`, {
      events: [{ event_type: "system", content: 1 }],
    });
    assertEquals([appended.status, appended.body.last_sequence], [201, 10], "its numbers go on");
    assertEquals((await bench.run(now)).removed, {});
    await sql`delete from sessions where id = ${session}`;
    await bench.set("event_logs", null);
  });

  await t.step("documents: in the collections that have a policy, whoever owns them", async () => {
    const creation_utc = ago(40);
    const documents = Array.from({ length: 3 }, (_, i) => ({ id: `d${i}`, creation_utc }));
    for (const collection of ["traces", "traces2", "customers"]) {
      await api("POST", `/documents/${collection}/insert_many`, { documents: [...documents, { id: "fresh" }] });
    }
    await api("POST", "/documents/traces/failures", { id: "d0", reason: "x" });
    await sql`
      insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
      select '00000000-0000-0000-0000-000000000000', 'traces', n, ${creation_utc}, ${creation_utc}, '{}'
      from generate_series(1, 4500) n`;
    await bench.set("documents", "30 days", "traces");
    await bench.set("documents", "1 year", "customers");
    assertEquals(
      (await bench.preview()).filter(({ kind }) => kind === "documents").map((
        { collection, removes },
      ) => [collection, removes]),
      [
        ["customers", { documents: 0, document_failures: 0 }],
        ["traces", { documents: 4502, document_failures: 1 }],
      ],
    );
    assertEquals((await bench.run()).removed, { documents: 4502, document_failures: 1 });
    const left = await sql`select collection, count(*)::int as n from documents group by 1 order by 1`;
    assertEquals(left.map(({ collection, n }) => [collection, n]), [["customers", 4], ["traces", 1], ["traces2", 4]]);
    await sql`delete from private.retention_policies where kind = 'documents'`;
  });

  await t.step("keys, imports that broke off, and records", async () => {
    await sql`
      insert into private.idempotency_keys (user_id, scope, key, request_hash, created_at)
      select 'caller', 'x', n::text, '', now() - n * interval '1 hour' from generate_series(1, 30) n`;
    await sql`update private.retention_runs set started_at = started_at - interval '91 days' where id in (2, 3)`;
    const [abandoned, current] = [await bench.conversation(0, 3), await bench.conversation(0, 3)];
    await sql`update conversations set deleted_at = now() where id in (${abandoned}, ${current})`;
    await sql`
      insert into private.imports (user_id, conversation_id, incomplete, tombstone, created_at)
      values (${bench.user}, ${abandoned}, true, false, ${ago(1.1)}), (${bench.user}, ${current}, true, false, ${
      ago(0.9)
    })`;
    if (cron) {
      // As pg_cron itself writes them: not the owner of the schema.
      const admin = postgres(bench.stack!.adminDbUrl, { max: 1 });
      await admin`delete from cron.job_run_details`;
      await admin`
        insert into cron.job_run_details (jobid, runid, username, database, command, status, start_time, end_time)
        select 1, 1000000 + n, 'postgres', 'postgres', 'x', 'succeeded', t, case when n > 2 then t end
        from (select n, now() - n * interval '2 days' as t from generate_series(1, 6) n) r`;
      await admin.end();
    }
    const { removed } = await bench.run();
    const details = cron ? { job_run_details: 3 } : {};
    assertEquals(removed, { idempotency_keys: 7, imports: 1, conversation_messages: 3, retention_runs: 2, ...details });
    assertEquals(await bench.count("conversations", `id in ('${abandoned}', '${current}')`), 1);
    if (cron) assertEquals(await bench.count("cron.job_run_details", "runid > 1000000"), 3);
    await sql`delete from conversations where user_id = ${bench.user}`;
  });

  await t.step("a kind that fails is on record, without content, and the others go on", async () => {
    await sql`create table public.bookmarks (conversation_id uuid not null, constraint bookmarks_fkey foreign key (conversation_id) references conversations (id))`;
    const marked = await bench.conversation(99);
    await sql`insert into public.bookmarks values (${marked})`;
    await sql`insert into private.idempotency_keys (user_id, scope, key, request_hash, created_at) values ('caller', 'x', 'k', '', ${
      ago(2)
    })`;
    const run = await bench.run();
    assertEquals([run.status, run.errors], [
      "failed",
      [{ kind: "prune_queue", sqlstate: "23503", constraint: "bookmarks_fkey" }],
    ]);
    assertEquals(run.removed, { conversations: 1, idempotency_keys: 1 });
    assertEquals(await status(`/conversations/${marked}`), 404, "gone for those who ask");
    assertEquals((await bench.run()).status, "failed");
    await sql`drop table public.bookmarks`;
    const cured = await bench.run();
    assertEquals([cured.status, cured.removed], ["finished", { conversation_messages: 2 }]);
  });

  await t.step("more than one step of each: every row once, however many run at the same moment", async () => {
    // Most are older than the policy and active: more than a step reads, and a step ends among them.
    await sql`
      insert into conversations (user_id, title, last_sequence_order, created_at, updated_at)
      select ${bench.user}, 'x', 3, ${ago(99)}::timestamptz + n * interval '1 second',
        case when n % 12 = 0 then ${ago(98)} else now() end
      from generate_series(1, 12000) n`;
    await sql`
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
      select c.id, c.user_id, n, 'user', 'x' from conversations c, generate_series(1, 3) n
      where c.title = 'x' and (n = 1 or c.updated_at < ${ago(90)})`;
    const before = (await bench.runs()).length;
    const connections = Array.from({ length: 4 }, () => bench.connect());
    await Promise.all(connections.map((connection) => connection`select 1`));
    await Promise.all(connections.map((connection) => bench.run(undefined, connection)));
    const runs = await bench.runs();
    assertEquals(runs.length, before + 1, "one of them runs, the others leave it to that");
    assertEquals([runs[0].status, runs[0].removed], [
      "finished",
      { conversations: 1000, conversation_messages: 3000 },
    ]);
    assertEquals(await bench.count("conversations", "title = 'x'"), 11_000);
    assertEquals(await bench.count("conversation_messages", "content = 'x'"), 11_000);
  });

  await t.step(
    "no client role runs a step, or sets or reads a policy, but for reading with the secret key",
    async () => {
      for (const role of ["anon", "authenticated", "service_role"]) {
        for (
          const call of [
            "private.retention_step()",
            "private.retain_conversations(now(), null)",
            "private.set_retention_policy('conversations', '1 day')",
            "private.drop_event_partition('private.event_logs_default')",
          ]
        ) {
          const error = await assertRejects(() =>
            sql.begin(async (tx) => {
              await tx.unsafe(`set local role ${role}`);
              await tx.unsafe(`select ${call}`);
            })
          );
          assertEquals((error as { code?: string }).code, "42501", `${role}: ${call}`);
        }
        for (const name of ["get_retention_policies", "list_retention_runs", "retention_preview"]) {
          const read = sql.begin(async (tx) => {
            await tx.unsafe(`set local role ${role}`);
            return await tx.unsafe(`select public.${name}()`);
          });
          if (role === "service_role") assertEquals((await read).length, 1);
          else assertEquals((await assertRejects(() => read) as { code?: string }).code, "42501", `${role}: ${name}`);
        }
      }
      const refused = async (kind: string, keep: string | null, collection?: string) => {
        const error = await assertRejects(() => bench.set(kind, keep, collection ?? null)) as { code?: string };
        assertEquals(error.code, "PT400", `${kind} ${keep} ${collection}`);
      };
      for (const keep of ["0", "-1 day", "1 month -29 days", "1001 years"]) await refused("conversations", keep);
      await refused("messages", "1 day");
      await refused("conversations", "1 day", "traces");
      await refused("documents", "1 day");
      await refused("documents", "1 day", "../x");
    },
  );

  const ids = [await bench.conversation(99), await bench.conversation(1)];
  const before = (await bench.runs())[0].id;
  // It runs by itself from here on. pg_cron before 1.5 knows no seconds, and waits for the full minute: that passes, and the
  // rest of timeUp's, while stacks of their own are looked at.
  await sql`update private.scheduled_jobs set schedule = ${
    cron ? "* * * * *" : "* * * * * *"
  } where name = 'threadbase-retention'`;
  await using _scheduler = await startScheduler(bench.dbUrl, (line) => console.error(line));
  await sql`select private.schedule_jobs()`;

  for (const signal of ["pg_terminate_backend", "kill -9"]) {
    await t.step(`${signal} amid a run: what went is gone, nothing else is, and the next run goes on`, async () => {
      await using bench = await Bench.startDatabase();
      const old = await Promise.all([1, 2, 3].map(() => bench.conversation(99, 8_000)));
      const fresh = await bench.conversation(1, 500);
      await bench.set("conversations", "30 days");
      const messages = () => bench.count("conversation_messages", `conversation_id = any ('{${old}}')`);
      const victim = bench.connect();
      const [{ pid }] = await victim`select pg_backend_pid() as pid`;
      const died = assertRejects(() => bench.run(undefined, victim));
      while (await messages() === 24_000) await new Promise((resolve) => setTimeout(resolve, 5));
      if (signal === "kill -9") Deno.kill(pid, "SIGKILL");
      else await bench.sql`select pg_terminate_backend(${pid})`;
      await died;
      await bench.reconnect();
      const left = await messages();
      assert(left > 0 && left < 24_000, `${left} left`);
      const [killed] = await bench.runs();
      assertEquals(killed.finished_at, null);
      assertEquals(killed.removed.conversation_messages, 24_000 - left, "what is on record is what went");
      assertEquals(await bench.count("pg_locks", "locktype = 'advisory'"), 0);
      await bench.sql`update private.retention_runs set last_step_at = last_step_at - interval '2 minutes'`;
      const next = await bench.run();
      assertEquals([next.status, next.removed], ["finished", { conversation_messages: left }]);
      assertEquals((await bench.runs())[1].status, "failed", "a minute later it is known that it was killed");
      assertEquals(await bench.count("conversations", `id = any ('{${old}}')`), 0);
      assertEquals(await bench.count("conversation_messages", `conversation_id = '${fresh}'`), 500);
    });
  }

  await t.step("it runs by itself: by pg_cron, or by the local stack's scheduler", async () => {
    let run: Run | undefined;
    for (let i = 0; i < 900 && !run; i++) {
      run = (await bench.runs()).findLast(({ id, finished_at }) => id > before && finished_at);
      if (!run) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assertEquals([run?.status, run?.removed], ["finished", { conversations: 1, conversation_messages: 2 }]);
    assertEquals(await statuses("/conversations", ids), [404, 200]);
    if (cron) {
      const [{ n }] = await sql`
        select count(*)::int as n from cron.job_run_details d join cron.job j using (jobid)
        where j.jobname = 'threadbase-retention' and d.status in ('succeeded', 'running')`;
      assert(n > 0, "pg_cron ran it");
    }
  });

  await t.step("a run ends itself when its time is up, and says so", async () => {
    await timeUp;
    const run = (await bench.runs()).at(-1)!;
    assertEquals([run.id, run.status, run.steps, run.removed], [1, "stopped", 1, {}]);
  });
});

Deno.test("a preview counts what a run at that moment removes, kind by kind: forests of forks, pins, times and responses", async (t) => {
  await using bench = await Bench.startDatabase();
  const { sql, user } = bench;
  const seed = Number(Deno.env.get("SEED") ?? 16);
  let state = seed;
  const random = (max: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor(state / 2 ** 32 * max);
  };
  const chance = (percent: number) => random(100) < percent;
  const now = Date.parse("2027-01-01T00:00:00Z");
  const at = (days: number) => new Date(now + days * DAY).toISOString();
  let [kept, responsesAlone] = [0, 0];

  /** Trees of up to twelve conversations: forks of forks, pinned, expiring, old or new, deleted, made by responses. */
  const grow = async () => {
    const rows: { id: string; first: number; last: number }[] = [];
    for (let i = 1 + random(12); i > 0; i--) {
      const parent = chance(70) ? rows[random(rows.length)] : undefined;
      const shared = parent && parent.last > parent.first ? parent.first + 1 + random(parent.last - parent.first) : 0;
      const row = { id: crypto.randomUUID(), first: shared, last: shared + random(6) };
      rows.push(row);
      const touched = at(-random(60));
      await sql`
        insert into conversations (id, user_id, parent_id, fork_sequence, last_sequence_order, created_at, updated_at, pinned, expires_at)
        values (${row.id}, ${user}, ${shared > 0 ? parent!.id : null}, ${
        shared || null
      }, ${row.last}, ${touched}, ${touched},
          ${chance(20)}, ${chance(30) ? at(random(20) - 10) : null})`;
      await sql`
        insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
        select ${row.id}, ${user}, n, 'user', 'x'
        from generate_series(${row.first + 1}::integer, ${row.last}::integer) n where n % 7 <> ${random(7)}`;
      if (row.last === row.first || chance(60)) continue;
      if (chance(70)) {
        await sql`insert into private.response_conversations (user_id, conversation_id, last_sequence_order)
          select ${user}, ${row.id}, ${row.last} from conversations c where c.id = ${row.id} and not c.pinned`;
      }
      for (const end of new Set([row.last, row.first + 1 + random(row.last - row.first)])) {
        await sql`
          insert into conversation_states (user_id, response_id, conversation_id, after_sequence, input_sequence, sequence_order,
            model, provider, request_hash, updated_at)
          values (${user}, ${crypto.randomUUID()}, ${row.id}, 0, 0, ${end}, 'm', 'p', '', ${at(-random(14))})`;
      }
    }
    const deleted = rows.filter(() => chance(15)).map(({ id }) => id);
    await sql`select private.hide_conversations(${deleted}::uuid[])`;
    // Some of it is gone already, some is left to the run.
    if (chance(50)) await sql`select private.drain_prune_queue(5000)`;
  };

  await t.step(`seed ${seed}`, async () => {
    for (let round = 0; round < 20; round++) {
      await grow();
      await bench.set("conversations", chance(70) ? `${10 + random(40)} days` : null);
      await bench.set("conversation_states", chance(80) ? `${1 + random(13)} days` : null);
      const preview = async () => {
        const total: Record<string, number> = {};
        for (const { removes } of await bench.preview(at(0))) {
          for (const [table, n] of Object.entries(removes)) if (n > 0) total[table] = (total[table] ?? 0) + n;
        }
        return total;
      };
      const data = await bench.preview(at(0));
      const expected = await preview();
      const { removed, status } = await bench.run(at(0));
      assertEquals([status, removed], ["finished", expected], `round ${round}`);
      assertEquals(await preview(), {}, `after round ${round}`);
      kept += await bench.count(
        "conversation_messages m join conversations c on c.id = m.conversation_id",
        "c.deleted_at is not null",
      );
      const responses = data.find(({ kind }) => kind === "conversation_states")!.removes;
      responsesAlone += responses.conversation_messages;
    }
  });
  assert(kept > 0, "something that was deleted is kept, for what shows it");
  assert(responsesAlone > 0, "and something goes with responses alone");
});
