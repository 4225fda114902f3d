/**
 * A million expired messages in ten thousand conversations among a million fresh ones: what removing them costs those who
 * write meanwhile. Starts a stack of its own.
 *
 *     node local/run.mjs tests/bench/retention.ts
 */
import postgres from "postgres";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startStack } from "../../local/stack.ts";

const CONVERSATIONS = 10_000;
const MESSAGES = 100;
const WRITERS = 4;
/** Between two appends of a writer: a steady load, not as much as the machine can take. */
const PAUSE_MS = 25;
const IDLE_SECONDS = 30;

const dataDir = join(tmpdir(), `threadbase-bench-${crypto.randomUUID()}`);
const stack = await startStack({ port: 0, dbPort: 0, dataDir, log: (line) => console.error(line) });
const sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
const watch = postgres(stack.adminDbUrl, { max: 1 });
const user = crypto.randomUUID();
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** As the owner writes them: days since the last message, of conversations numbered from..to. */
async function fill(title: string, days: number): Promise<void> {
  const batch = CONVERSATIONS / 20;
  for (let from = 0; from < CONVERSATIONS; from += batch) {
    await sql`
      with made as (
        insert into conversations (user_id, title, last_sequence_order, created_at, updated_at)
        select ${user}, ${title}, ${MESSAGES}, t, t
        from (select now() - ${days} * interval '1 day' - (n + ${from}) * interval '1 second' as t
          from generate_series(1, ${batch}::int) n) c
        returning id, user_id, created_at
      )
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content, created_at)
      select m.id, m.user_id, n, case n % 2 when 1 then 'user' else 'assistant' end,
        'Message ' || n || ' of a conversation about ' || md5(n::text) || repeat(' and some more words', 8), m.created_at
      from made m, generate_series(1, ${MESSAGES}::int) n`;
    console.error(`${title}: ${(from + batch) * MESSAGES} messages`);
  }
}

const quantile = (values: number[], q: number) => values.toSorted((a, b) => a - b)[Math.floor(values.length * q)];

/** Appends through the API, from each writer to a conversation of its own, until told to stop. */
function startWriters() {
  let latencies: number[] = [];
  let failed = 0;
  let running = true;
  const writers = Array.from({ length: WRITERS }, async () => {
    const headers = { apikey: stack.secretKey, "x-user-id": user, "content-type": "application/json" };
    const post = async (path: string, body: unknown) => {
      const response = await fetch(`${stack.apiUrl}/functions/v1/conversations${path}`, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
      });
      const answer = await response.json();
      if (!response.ok) failed++;
      return answer;
    };
    const { id } = await post("", {});
    while (running) {
      const startedAt = performance.now();
      await post(`/${id}/messages`, { messages: [{ role: "user", content: "A line that somebody writes now." }] });
      latencies.push(performance.now() - startedAt);
      await pause(PAUSE_MS);
    }
  });
  return {
    /** The latencies since the last call. */
    take: () => {
      const taken = latencies;
      latencies = [];
      return taken;
    },
    stop: async () => {
      running = false;
      await Promise.all(writers);
      return failed;
    },
  };
}

const describe = (name: string, latencies: number[]) =>
  `${name.padEnd(8)} ${latencies.length} appends, p50 ${quantile(latencies, 0.5).toFixed(1)} ms, ` +
  `p95 ${quantile(latencies, 0.95).toFixed(1)} ms, p99 ${quantile(latencies, 0.99).toFixed(1)} ms, ` +
  `max ${Math.max(...latencies).toFixed(0)} ms`;

const count = async (title: string) =>
  Number(
    (await sql`
      select count(*) as n
      from conversations c join conversation_messages m on m.user_id = c.user_id and m.conversation_id = c.id
      where c.title = ${title}`)[0].n,
  );

try {
  await sql`insert into auth.users (id, aud, role) values (${user}, 'authenticated', 'authenticated')`;
  await fill("expired", 100);
  await fill("fresh", 1);
  await watch`vacuum analyze`;
  await watch`checkpoint`;
  await sql`select private.set_retention_policy('conversations', '90 days')`;
  const startedAt = performance.now();
  const [{ removes }] = await sql`select public.retention_preview() #> '{data,1,removes}' as removes`;
  console.log(`preview  ${JSON.stringify(removes)} in ${(performance.now() - startedAt).toFixed(0)} ms`);

  const writers = startWriters();
  await pause(3000);
  writers.take();
  await pause(IDLE_SECONDS * 1000);
  const idle = writers.take();
  console.log(describe("idle", idle));

  const [{ command }] = await sql`select command from private.scheduled_jobs where name = 'threadbase-retention'`;
  let runs = 0;
  let longest = 0;
  let seconds = 0;
  let removed = 0;
  for (let complete = false; !complete; runs++) {
    const beganAt = performance.now();
    await sql.unsafe(command).simple();
    seconds += (performance.now() - beganAt) / 1000;
    const [run] = await sql`select * from private.retention_runs order by id desc limit 1`;
    complete = run.complete;
    longest = Math.max(longest, run.longest_step_ms);
    removed += run.removed.conversation_messages ?? 0;
    console.error(
      `run ${runs + 1}: ${run.steps} steps, ${JSON.stringify(run.removed)}, errors ${JSON.stringify(run.errors)}`,
    );
  }
  const during = writers.take();
  const failed = await writers.stop();
  console.log(describe("during", during));
  const ratio = quantile(during, 0.95) / quantile(idle, 0.95);
  console.log(`p95 during / idle: ${ratio.toFixed(2)}; failed appends: ${failed}`);
  console.log(`removed ${removed} messages in ${seconds.toFixed(1)} s, ${runs} runs; longest step ${longest} ms`);

  await sql.unsafe(command).simple();
  const [second] = await sql`select complete, removed from private.retention_runs order by id desc limit 1`;
  console.log(`a second run: ${JSON.stringify(second)}`);
  const left = { expired: await count("expired"), fresh: await count("fresh") };
  console.log(`left: ${JSON.stringify(left)}`);
  const good = ratio <= 2 && longest < 1000 && failed === 0 && left.expired === 0 &&
    left.fresh === CONVERSATIONS * MESSAGES && JSON.stringify(second.removed) === "{}";
  console.log(good ? "All bars hold." : "A bar does not hold.");
} finally {
  await sql.end();
  await watch.end();
  await stack.stop();
  await Deno.remove(dataDir, { recursive: true });
}
