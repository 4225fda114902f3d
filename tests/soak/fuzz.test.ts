// Requests of all kinds to every route, by a user with much data: none is an error of ours, none takes long, needs much
// memory, or cannot be cancelled.
//
// FUZZ_RUNS=1000 sends so many to each route, FUZZ_SEED=1 others.
import { assert, assertEquals, AssertionError, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { type Stack, startStack } from "../../local/stack.ts";
import { type Pool, type Request, routes } from "./requests.ts";

const RUNS = Number(Deno.env.get("FUZZ_RUNS") ?? 8);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 20260101);
const ANSWER_MS = 3_000;
/** What the machine does beside it is not the request's: the quickest of so many counts, on a slow machine later. */
const ATTEMPTS = 3;
/** What takes a machine with nothing else to do so long. */
const YARDSTICK = "select count(*) from generate_series(1, 2000000)";
const YARDSTICK_MS = 300;
const BACKEND_MB = 256;
const CANCEL_MS = 1_000;
/** These may take as long as there is something to send; what each piece may cost has a test of its own. */
const LONG = /export|import|stream/;
/** Gateways refuse more, and so does the client. */
const MAX_URL = 60_000;

const alice = "a11ce000-0000-4000-8000-000000000001";
/** How much slower than that this machine is: at least 1. */
let slowness = 1;
/** Alice's, once there is a stack. */
let credentials: Record<string, string>;

Deno.test("no request of a user with much data hurts anybody", async (t) => {
  const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  const stack = await startStack({
    port: 0,
    dbPort: 0,
    dataDir,
    postgresBin: Deno.env.get("POSTGRES_BIN") || undefined,
  });
  const sql = postgres(stack.adminDbUrl, { max: 2, onnotice: () => {} });
  try {
    credentials = { apikey: stack.secretKey, "x-user-id": alice };
    const pool = await furnish(sql);
    const startedAt = performance.now();
    await sql.unsafe(YARDSTICK);
    slowness = Math.max(1, (performance.now() - startedAt) / YARDSTICK_MS);
    const watch = new Watch(sql, BACKEND_MB);
    for (const { name, requests } of routes(pool)) {
      await t.step(name, async () => {
        await fc.assert(
          fc.asyncProperty(requests, async (request) => {
            fc.pre(request.path.length < MAX_URL);
            await answers(stack.apiUrl, request, LONG.test(name));
          }),
          { numRuns: RUNS, seed: SEED, endOnFailure: true },
        );
        assertEquals(watch.problems.splice(0), []);
      });
    }
    console.log(`The largest backend had ${watch.largestMb} MB of its own.`);
    await t.step("planted faults are found", () => findsFaults(stack, watch));
    await watch.end();
  } finally {
    await sql.end();
    await stack.stop();
    await Deno.remove(dataDir, { recursive: true });
  }
});

/** Sends it and asserts what has to hold of the answer. */
async function answers(
  apiUrl: string,
  { method, path, headers, body }: Request,
  mayBeLong: boolean,
): Promise<void> {
  for (let attempt = 1;; attempt++) {
    const startedAt = performance.now();
    const response = await fetch(`${apiUrl}/functions/v1${path}`, {
      method,
      body,
      headers: { ...credentials, ...headers },
      signal: mayBeLong ? AbortSignal.timeout(path.includes("/stream") ? ANSWER_MS : 10 * ANSWER_MS) : undefined,
    });
    const text = await response.text().catch(() => ""); // a stream that is left
    const ms = performance.now() - startedAt;
    assert(response.status < 500, `${response.status} ${text.slice(0, 500)}`);
    if (ms <= ANSWER_MS * slowness || mayBeLong) return;
    assert(attempt < ATTEMPTS, `took ${ms.toFixed(0)} ms`);
  }
}

async function findsFaults({ adminDbUrl }: Stack, watch: Watch): Promise<void> {
  const faulty = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    if (request.url.endsWith("/slow")) await delay(ANSWER_MS * slowness + 200);
    return new Response("", { status: request.url.endsWith("/error") ? 500 : 200 });
  });
  const send = (path: string) =>
    answers(`http://127.0.0.1:${faulty.addr.port}`, { method: "GET", path, headers: {} }, false);
  await send("/fine");
  await assertRejects(() => send("/error"), AssertionError, "500");
  await assertRejects(() => send("/slow"), AssertionError, "took");
  await faulty.shutdown();

  const sql = postgres(adminDbUrl, { max: 1, onnotice: () => {} });
  const strict = new Watch(watch.sql, 40);
  await sql.unsafe(
    "do $$ declare n integer := 60; t text := repeat(repeat('x', 1024), n * 1024); begin perform pg_sleep(0.5); end $$",
  );
  await strict.end();
  assertMatch(strict.problems.join("\n"), /^\d+ MB: do/m);
  await assertRejects(() => sql`select pg_sleep(60)`, Error, "canceling statement"); // as it should be
  assertEquals(watch.problems.splice(0), []);
  const [{ pid }] = await sql`select pg_backend_pid() as pid`;
  const stuck = assertRejects(() => sql`select pg_sleep(60)`);
  await delay(200);
  Deno.kill(pid, "SIGSTOP");
  for (let i = 0; i < 300 && watch.problems.length === 0; i++) await delay(100);
  Deno.kill(pid, "SIGCONT");
  await stuck;
  assertStringIncludes(watch.problems.splice(0).join(), "cannot be cancelled");
  await sql.end();
}

/** Looks at Postgres' backends all the time. What takes too long is cancelled, and has to end. */
class Watch {
  readonly problems: string[] = [];
  largestMb = 0;
  #ended = false;
  readonly #cancelled = new Set<string>();
  readonly #done: Promise<void>;

  constructor(readonly sql: postgres.Sql, readonly limitMb: number) {
    this.#done = this.#look();
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#done;
  }

  async #look(): Promise<void> {
    while (!this.#ended) {
      const backends = await this.sql<{ pid: number; query: string; query_start: string; ms: number }[]>`
        select pid, left(query, 100) as query, query_start::text, extract(epoch from clock_timestamp() - query_start) * 1000 as ms
        from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid() and usename <> 'postgres'`;
      for (const { pid, query } of backends) {
        const mb = await anonymousMb(pid);
        this.largestMb = Math.max(this.largestMb, mb);
        if (mb > this.limitMb) this.problems.push(`${mb} MB: ${query}`);
      }
      for (const { pid, query, query_start } of backends.filter(({ ms }) => ms > ANSWER_MS * slowness)) {
        if (this.#cancelled.has(query_start)) continue;
        this.#cancelled.add(query_start);
        const runs = async () =>
          (await this.sql`
            select from pg_stat_activity
            where pid = ${pid} and query_start::text = ${query_start} and state = 'active'`).length > 0;
        if (!await runs()) continue;
        await this.sql`select pg_cancel_backend(${pid})`;
        await delay(CANCEL_MS);
        if (await runs()) this.problems.push(`cannot be cancelled: ${query}`);
      }
      await delay(100);
    }
  }
}

async function anonymousMb(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => ""); // it has ended, or there is no /proc
  return Math.round(Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}

/** Much of everything, made as the owner of the tables. */
async function furnish(sql: postgres.Sql): Promise<Pool> {
  const id = () => crypto.randomUUID();
  const [long, wide, session] = [id(), id(), id()];
  const large = JSON.stringify({
    a: Array.from({ length: 2_000 }, (_, i) => ({ [`n${i % 50}`]: "word ".repeat(20) })),
  });
  await sql`
    insert into conversations (id, user_id, title, last_sequence_order)
    values (${long}, ${alice}, 'long', 10000), (${wide}, ${alice}, 'wide', 20)`;
  await sql`
    insert into conversation_messages (conversation_id, user_id, sequence_order, role, content, item_id)
    select ${long}, ${alice}, n, case n % 2 when 1 then 'user' else 'assistant' end, 'message ' || n || ' about ' || md5(n::text), 'item_' || n
    from generate_series(1, 10000) n`;
  await sql`
    insert into conversation_messages (conversation_id, user_id, sequence_order, role, parts, item_id)
    select ${wide}, ${alice}, n, 'user', jsonb_build_array(${large}::text::jsonb), 'wide_' || n from generate_series(1, 20) n`;
  await sql`
    insert into conversations (user_id, title, metadata)
    select ${alice}, 'conversation ' || n, jsonb_build_object('n', n, 'a', jsonb_build_object('b', md5(n::text)))
    from generate_series(1, 3000) n`;
  await sql`
    insert into sessions (id, user_id, start_time, last_sequence, last_event_at)
    values (${session}, ${alice}, now() - interval '1 hour', 20000, now())`;
  await sql`
    insert into event_logs (session_id, user_id, sequence, event_type, content, occurred_at)
    select ${session}, ${alice}, n, 'type_' || n % 200, jsonb_build_object('text', 'event ' || md5(n::text)), now()
    from generate_series(1, 20000) n`;
  await sql`
    insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
    select ${alice}, 'large', 'd' || n, now()::text, now(), case when n % 500 = 0 then ${large}::text::jsonb else
      jsonb_build_object('a', jsonb_build_object('b', n), 'tags', jsonb_build_array('t' || n % 100, md5(n::text)), 'text', repeat('ab', 200)) end
    from generate_series(1, 5000) n`;
  await sql`analyze`;
  return {
    id: [long, wide, session],
    conversation_id: [long, wide].map((id) => `conv_${id.replaceAll("-", "")}`),
    collection: ["large", "other"],
    item_id: ["item_1", "wide_3"],
    response_id: ["resp_none"],
    confirm: ["nothing"],
  };
}
