/**
 * What fifty readers of event streams cost the database. Starts a stack of its own.
 *
 *     node local/run.mjs tests/bench/stream.ts
 */
import postgres from "postgres";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startStack } from "../../local/stack.ts";

const READERS = 50;
const SECONDS = 30;

const dataDir = join(tmpdir(), `threadbase-bench-${crypto.randomUUID()}`);
const stack = await startStack({ port: 0, dbPort: 0, dataDir, log: (line) => console.error(line) });
const sql = postgres(stack.adminDbUrl, { max: 1 });
const headers = { apikey: stack.secretKey, "x-user-id": "bench", "content-type": "application/json" };
const post = async (path: string, body: unknown) => {
  const response = await fetch(`${stack.apiUrl}/functions/v1/sessions${path}`, {
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
  return await response.json();
};

/** Reads until told to stop; calls back for each event. */
async function read(id: string, signal: AbortSignal, onEvent: (sentAt: number) => void): Promise<void> {
  try {
    const response = await fetch(`${stack.apiUrl}/functions/v1/sessions/${id}/events/stream`, { headers, signal });
    let rest = "";
    for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + text).split("\n\n");
      rest = blocks.pop()!;
      for (const block of blocks) {
        const data = block.match(/^data: (.*)$/m)?.[1];
        if (data) onEvent(JSON.parse(data).content.at);
      }
    }
  } catch {
    if (!signal.aborted) throw new Error("a reader was cut off");
  }
}

const quantile = (values: number[], q: number) => values.toSorted((a, b) => a - b)[Math.floor(values.length * q)];

/** The transactions and the processor time of Postgres while the work runs. */
async function measure(name: string, eventsPerSecond: number): Promise<void> {
  const { id } = await post("", {});
  const stop = new AbortController();
  const delays: number[] = [];
  const readers = Array.from({ length: READERS }, () => read(id, stop.signal, (at) => delays.push(Date.now() - at)));
  await new Promise((resolve) => setTimeout(resolve, 2000));

  const counters = async () => {
    await sql`select pg_stat_clear_snapshot()`;
    const [row] = await sql`
      select calls::int, total_time as ms from pg_stat_user_functions where funcname = 'list_events' and schemaname = 'public'`;
    return row ?? { calls: 0, ms: 0 };
  };
  const before = await counters();
  const end = Date.now() + SECONDS * 1000;
  while (Date.now() < end) {
    if (eventsPerSecond === 0) await new Promise((resolve) => setTimeout(resolve, 1000));
    else {
      await post(`/${id}/events`, { events: [{ event_type: "ai_chunk", content: { text: "word ", at: Date.now() } }] });
      await new Promise((resolve) => setTimeout(resolve, 1000 / eventsPerSecond));
    }
  }
  const after = await counters();
  stop.abort();
  await Promise.all(readers);
  const calls = after.calls - before.calls;
  console.log(
    `${name.padEnd(28)} ${(calls / SECONDS).toFixed(1).padStart(6)} calls/s  ${
      ((after.ms - before.ms) / SECONDS / 10).toFixed(2).padStart(6)
    } % of one core` +
      (delays.length ? `  events seen after p50 ${quantile(delays, 0.5)} ms, p95 ${quantile(delays, 0.95)} ms` : ""),
  );
}

try {
  await sql`alter system set track_functions = 'all'`;
  await sql`select pg_reload_conf()`;
  console.log(`${READERS} readers of one session, ${SECONDS} s each`);
  await measure("nothing happens", 0);
  await measure("five events a second", 5);
} finally {
  await sql.end();
  await stack.stop();
  await Deno.remove(dataDir, { recursive: true });
}
