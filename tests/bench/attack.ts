/** Level 4: what one user feels while another does the worst that the limits allow, through the local stack. */
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

const CONNECTIONS = 8;
const MAX_RATIO = 3;
const LARGE = 3_900_000;

const ABOUT =
  `One user appends a message and loads 20, over and over, with one connection. Another one has ${CONNECTIONS} connections and does
one thing as fast as it is answered, refusals included. Idle and attacked take turns; a row is the median of the pairs, with the
least and the most. All of it shares the machine's cores with the attacker, the gateway and the stand-in for PostgREST, which are
one process of the local stack: on the platform they are others.`;

interface Attack {
  name: string;
  send: (request: (method: string, path: string, body?: string) => Promise<void>) => Promise<void>;
}

interface Things {
  conversation: string;
  session: string;
}

const text = (length: number) => "x".repeat(length);

function attacks({ conversation, session }: Things): Attack[] {
  const find = JSON.stringify({
    filters: { $or: Array.from({ length: 20 }, (_, i) => ({ [`a.b${i}`]: { $in: [1, 2, 3, "x"] } })) },
    count: true,
  });
  return [
    {
      name: "append 3.9 MB",
      send: (request) =>
        request(
          "POST",
          `/conversations/${conversation}/messages`,
          `{"messages":[{"role":"user","content":"${text(LARGE)}"}]}`,
        ),
    },
    {
      name: "append 1,000 messages",
      send: (request) =>
        request(
          "POST",
          `/conversations/${conversation}/messages`,
          JSON.stringify({ messages: Array(1000).fill({ role: "user", content: "x" }) }),
        ),
    },
    {
      name: "a body that is refused: 4 MB of braces",
      send: (request) => request("POST", "/conversations", "[".repeat(LARGE)),
    },
    {
      name: "load 1,000 messages",
      send: (request) => request("GET", `/conversations/${conversation}/messages?limit=1000`),
    },
    {
      name: "a context of a million tokens",
      send: (request) => request("GET", `/conversations/${conversation}/context?max_tokens=1000000`),
    },
    { name: "search", send: (request) => request("GET", "/conversations/search?q=message%20number") },
    { name: "documents: 20 alternatives, counted", send: (request) => request("POST", "/documents/attack/find", find) },
    {
      name: "audit search for what nobody said",
      send: (request) =>
        request("GET", `/sessions/audit?from=${new Date(Date.now() - 86_400_000).toISOString()}&q=nobody`),
    },
    {
      name: "append 1,000 events",
      send: (request) =>
        request(
          "POST",
          `/sessions/${session}/events`,
          JSON.stringify({ events: Array(1000).fill({ event_type: "user_message", content: "x" }) }),
        ),
    },
    { name: "export", send: (request) => request("GET", "/conversations/export") },
  ];
}

export const STEPS = 1 + attacks({ conversation: "", session: "" }).length;

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
  const sql = connect(stack.dbUrl);
  await sql`insert into auth.users (id, aud, role) values (${attacker}, 'authenticated', 'authenticated')`;
  const [{ id: conversation }] = await sql`
    insert into conversations (user_id, last_sequence_order) values (${attacker}, 10000) returning id`;
  await sql`
    insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
    select ${conversation}, ${attacker}, n, 'user', 'message number ' || n || ' ' || md5(n::text) from generate_series(1, 10000) n`;
  const [{ id: session }] = await sql`
    insert into sessions (user_id, start_time, last_sequence, last_event_at)
    values (${attacker}, now(), 20000, now()) returning id`;
  await sql`
    insert into event_logs (session_id, user_id, sequence, event_type, content)
    select ${session}, ${attacker}, n, 'user_message', to_jsonb('event ' || md5(n::text)) from generate_series(1, 20000) n`;
  await sql`
    insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
    select ${attacker}, 'attack', n::text, now()::text, now(), jsonb_build_object('a', jsonb_build_object('b1', n))
    from generate_series(1, 5000) n`;
  const { id: victims } = JSON.parse(await request(stack.userId, "POST", "/conversations", "{}"));
  await sql.end();

  /** Milliseconds of each append and load of the victim. */
  const feel = async (): Promise<{ append: number[]; load: number[] }> => {
    const [append, load]: number[][] = [[], []];
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
    }
    return { append, load };
  };
  await feel(); // what is served first is compiled first

  const rows: string[][] = [];
  let worst = 0;
  for (const { name, send } of attacks({ conversation, session })) {
    progress.step(`Attack: ${name}`);
    const pairs: Record<"append" | "load", { idle: number; attacked: number }[]> = { append: [], load: [] };
    let sent = 0;
    for (let pair = 0; pair < sizes.pairs; pair++) {
      const idle = await feel();
      let running = true;
      const attacking = Array.from({ length: CONNECTIONS }, async () => {
        for (; running; sent++) await send(async (...args) => void await request(attacker, ...args));
      });
      const attacked = await feel();
      running = false;
      await Promise.all(attacking);
      for (const kind of ["append", "load"] as const) {
        pairs[kind].push({ idle: quantile(idle[kind], 0.99), attacked: quantile(attacked[kind], 0.99) });
      }
    }
    const row = [name, count(sent / (sizes.pairs * sizes.seconds))];
    for (const kind of ["append", "load"] as const) {
      const ratios = pairs[kind].map(({ idle, attacked }) => attacked / idle);
      const median = quantile(ratios, 0.5);
      worst = Math.max(worst, median);
      row.push(
        ms(quantile(pairs[kind].map(({ idle }) => idle), 0.5)),
        ms(quantile(pairs[kind].map(({ attacked }) => attacked), 0.5)),
        `${median.toFixed(1)} (${Math.min(...ratios).toFixed(1)}–${Math.max(...ratios).toFixed(1)})`,
      );
    }
    rows.push(row);
  }
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
        "append idle",
        "attacked",
        "ratio",
        "load idle",
        "attacked",
        "ratio",
      ],
      rows,
    }],
    bars: [barOf("p99 under attack : idle, the worst of all", worst, MAX_RATIO)],
    plots: [],
  };
}
