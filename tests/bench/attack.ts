/** Level 4: what one user feels while another does the worst that the limits allow, through the local stack. */
import type { Orders, Sent } from "./attacker.ts";
import { attacks, type Things } from "./attacks.ts";
import { connect } from "./peers/peer.ts";
import type { Progress } from "./progress.ts";
import { barOf, count, ms, type Section } from "./report.ts";
import type { Stack } from "./stack.ts";
import { milliseconds, quantile } from "./stats.ts";

export interface Sizes {
  /** Interleaved pairs of idle and attacked. */
  pairs: number;
  seconds: number;
}

export const FULL: Sizes = { pairs: 5, seconds: 4 };
export const QUICK: Sizes = { pairs: 1, seconds: 2 };

const KINDS = ["append", "load", "database"] as const;
type Kind = typeof KINDS[number];

const CONNECTIONS = 8;
const MAX_RATIO = 3;

const ABOUT =
  `One user appends a message and loads 20, over and over, with one connection. Another one has ${CONNECTIONS} connections and does
one thing as fast as it is answered, refusals included. Idle and attacked take turns; a ratio is the median of the pairs, with the
least and the most. The last three columns are both calls of the one user made in SQL: what the other one's calls, at the rate at
which the stack lets them through, cost in Postgres. Through the local stack the two share one process for each function and one for
the gateway and the stand-in for PostgREST, each with one thread: whatever one of them has to read of another's 4 MB is waited for.
On the platform functions run in as many isolates as there is work for, and PostgREST in threads.`;

export const STEPS = 1 + attacks({ conversation: "", written: "", writtenSession: "" }).length;

export async function attackLevel(stack: Stack, sizes: Sizes, progress: Progress): Promise<Section> {
  progress.step("Attack: a victim, and an attacker with 10,000 messages, 20,000 events and 5,000 documents");
  const api = `${stack.functionEnvironment.SUPABASE_URL}/functions/v1`;
  const request = async (user: string, method: string, path: string, body?: string): Promise<string> => {
    const response = await fetch(api + path, {
      method,
      body,
      headers: {
        apikey: stack.secretKey,
        "x-user-id": user,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
    });
    return await response.text();
  };
  const attacker = crypto.randomUUID();
  const pool = connect(stack.dbUrl, '-c request.jwt.claims={"role":"service_role"}');
  const id = async (text: string, ...values: string[]): Promise<string> => (await pool.query(text, values)).rows[0]?.id;
  await id("insert into auth.users (id, aud, role) values ($1, 'authenticated', 'authenticated')", attacker);
  const conversation = await id(
    "insert into conversations (user_id, last_sequence_order) values ($1, 10000) returning id",
    attacker,
  );
  await id(
    `insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
     select $1, $2, n, 'user', 'message number ' || n || ' ' || md5(n::text) from generate_series(1, 10000) n`,
    conversation,
    attacker,
  );
  const session = await id(
    `insert into sessions (user_id, start_time, last_sequence, last_event_at)
     values ($1, now(), 20000, now()) returning id`,
    attacker,
  );
  await id(
    `insert into event_logs (session_id, user_id, sequence, event_type, content)
     select $1, $2, n, 'user_message', to_jsonb('event ' || md5(n::text)) from generate_series(1, 20000) n`,
    session,
    attacker,
  );
  await id(
    `insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
     select $1, 'attack', n::text, now()::text, now(), jsonb_build_object('a', jsonb_build_object('b1', n))
     from generate_series(1, 5000) n`,
    attacker,
  );
  const { id: written } = JSON.parse(await request(attacker, "POST", "/conversations", "{}"));
  const { id: writtenSession } = JSON.parse(await request(attacker, "POST", "/sessions", "{}"));
  const { id: victims } = JSON.parse(await request(stack.userId, "POST", "/conversations", "{}"));

  /** Milliseconds of each append and load of the victim; the same as one RPC each without what is in front of the database. */
  const feel = async (): Promise<Record<Kind, number[]>> => {
    const [append, load, database]: number[][] = [[], [], []];
    for (const end = Date.now() + sizes.seconds * 1000; Date.now() < end;) {
      const message = '{"messages":[{"role":"user","content":"A line that somebody writes."}]}';
      append.push(
        await milliseconds(() => request(stack.userId, "POST", `/conversations/${victims}/messages`, message)),
      );
      load.push(
        await milliseconds(() =>
          request(stack.userId, "GET", `/conversations/${victims}/messages?limit=20&order=desc`)
        ),
      );
      database.push(
        await milliseconds(async () => {
          await pool.query(
            "select public.append_messages($1, $2, p_user_id => $3)",
            [victims, '[{"role":"user","content":"A line that somebody writes."}]', stack.userId],
          );
          await pool.query(
            "select public.list_messages($1, p_limit => 20, p_order => 'desc', p_user_id => $2)",
            [victims, stack.userId],
          );
        }),
      );
    }
    return { append, load, database };
  };
  await feel(); // what is served first is compiled first

  const worker = new Worker(new URL("attacker.ts", import.meta.url), { type: "module" });
  const things: Things = { conversation, written, writtenSession };
  const orders: Omit<Orders, "name"> = {
    ...things,
    connections: CONNECTIONS,
    api,
    headers: { apikey: stack.secretKey, "x-user-id": attacker },
  };
  const rows: string[][] = [];
  const worst = { stack: 0, database: 0 };
  for (const { name, refused } of attacks(things)) {
    progress.step(`Attack: ${name}`);
    const pairs: Record<Kind, { idle: number; attacked: number }[]> = { append: [], load: [], database: [] };
    const calls: Sent = { sent: 0, done: 0 };
    for (let pair = 0; pair < sizes.pairs; pair++) {
      const idle = await feel();
      worker.postMessage({ ...orders, name });
      const attacked = await feel();
      const { promise, resolve } = Promise.withResolvers<Sent>();
      worker.onmessage = ({ data }) => resolve(data);
      worker.postMessage(null);
      const { sent, done } = await promise;
      calls.sent += sent;
      calls.done += done;
      for (const kind of KINDS) {
        pairs[kind].push({ idle: quantile(idle[kind], 0.99), attacked: quantile(attacked[kind], 0.99) });
      }
    }
    if (refused ? calls.done > 0 : calls.done === 0) {
      throw new Error(`${name}: ${calls.done} of ${calls.sent} were done`);
    }
    const row = [
      name,
      count(calls.sent / (sizes.pairs * sizes.seconds)),
      `${Math.round(100 * calls.done / calls.sent)} %`,
    ];
    for (const kind of KINDS) {
      const ratios = pairs[kind].map(({ idle, attacked }) => attacked / idle);
      const median = quantile(ratios, 0.5);
      worst[kind === "database" ? "database" : "stack"] = Math.max(
        worst[kind === "database" ? "database" : "stack"],
        median,
      );
      row.push(
        ms(quantile(pairs[kind].map(({ idle }) => idle), 0.5)),
        ms(quantile(pairs[kind].map(({ attacked }) => attacked), 0.5)),
        `${median.toFixed(1)} (${Math.min(...ratios).toFixed(1)}–${Math.max(...ratios).toFixed(1)})`,
      );
    }
    rows.push(row);
  }
  worker.terminate();
  await pool.end();
  return {
    title: "Others' latency under attack",
    about: ABOUT,
    headlines: [],
    tables: [{
      title: "p99 of one user's calls, in milliseconds",
      about: "",
      columns: [
        "the other user's",
        "calls a second",
        "done",
        "append idle",
        "attacked",
        "ratio",
        "load idle",
        "attacked",
        "ratio",
        "both in SQL idle",
        "attacked",
        "ratio",
      ],
      rows,
    }],
    bars: [
      barOf("p99 under attack : idle, the worst of all, in the database", worst.database, MAX_RATIO),
      barOf("p99 under attack : idle, the worst of all, through the local stack", worst.stack, MAX_RATIO),
    ],
    plots: [],
  };
}
