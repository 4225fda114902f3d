/** Level 2: every system behind HTTP on the same runtime. */
import { connect, type Message, messagesOf, POOL_SIZE } from "./peers/peer.ts";
import { awaitTables, setUpRest } from "./peers/rest.ts";
import type { Progress } from "./progress.ts";
import { barOf, count, ms, type Section, type Table } from "./report.ts";
import { deno, denoOptions, type Server, type ServerOptions, signToken, startServer } from "./server.ts";
import { newTurn } from "./text.ts";
import type { Stack } from "./stack.ts";
import { milliseconds, quantile, summarize, type Summary } from "./stats.ts";

const CLIENTS = [1, 8, 32];
const PAGE = 20;

export interface Sizes {
  /** How often each system gets its turn, and for how long. */
  rounds: number;
  seconds: number;
  /** Conversations that the clients go round, and the turns in each of them to begin with. */
  conversations: number;
  turns: number;
  coldStarts: number;
  stubbedRequests: number;
}

export const FULL: Sizes = {
  rounds: 5,
  seconds: 1,
  conversations: 64,
  turns: 100,
  coldStarts: 5,
  stubbedRequests: 3000,
};

export const QUICK: Sizes = {
  rounds: 1,
  seconds: 0.25,
  conversations: 32,
  turns: 20,
  coldStarts: 1,
  stubbedRequests: 500,
};

export const STEPS = 2 + CLIENTS.length * 2 + 2;

const ABOUT =
  `One process of the same Deno for each system, called without the gateway of the local stack. The peers have thin Hono
wrappers: a route for each operation, the body validated by zod, no authentication. Threadbase is its \`conversations\`
function as it deploys, which verifies a user's token once a minute. Clients, servers and Postgres share the machine's
cores, and all requests are one user's.

On the platform the function calls Postgres through PostgREST. Its stand-in here is \`@supabase/lite\`, TypeScript in one
process, which costs more than PostgREST does. So everything is measured twice:

- **direct**: each process has a pool of ${POOL_SIZE} connections. The wrappers are what people deploy; the function's calls of
  \`/rest/v1/rpc\` are answered within its process, by the same kind of pool (role \`authenticated\`, claims set once for
  each connection).
- **through REST**: as deployed. The wrappers of the peers that people drive from supabase-js (Plano, JSONB upsert,
  ai-chatbot) make the same steps through the same REST API, with the secret key. *REST API alone* is the RPC without the
  function in front of it.

The clients go round conversations that the systems have been given before, as many and as long for each.`;

/** The path of the database call: a pool of its own, or the REST API. */
type Way = "pool" | "REST";

interface System {
  name: string;
  way: Way;
  server: ServerOptions;
  isFunction?: boolean;
}

const FUNCTION = "supabase/functions/conversations/index.ts";
const FUNCTION_CONFIG = "supabase/functions/conversations/deno.json";

export async function httpLevel(stack: Stack, sizes: Sizes, progress: Progress): Promise<Section> {
  progress.step("HTTP: servers");
  const owner = connect(stack.dbUrl);
  await setUpRest(owner);
  await owner.end();
  await using running = new AsyncDisposableStack();
  const rest = running.use(
    await startServer({
      entry: "tests/bench/rest.ts",
      config: "deno.json",
      env: { BENCH_STACK: JSON.stringify(stack) },
    }),
  );
  await awaitTables(rest.origin, stack.secretKey);
  const functionEnvironment = { ...stack.functionEnvironment, SUPABASE_URL: rest.origin };
  const env = { BENCH_STACK: JSON.stringify({ ...stack, functionEnvironment }), ...functionEnvironment };
  const wrapper = (name: string, file: string, way: Way): System => ({
    name,
    way,
    server: { entry: `tests/bench/wrappers/${file}.ts`, env },
  });
  const systems: System[] = [
    { ...wrapper("Threadbase", "threadbase", "pool"), isFunction: true },
    wrapper("bare limit", "limit", "pool"),
    wrapper("LangGraph", "langgraph", "pool"),
    wrapper("LangChain", "langchain", "pool"),
    wrapper("Plano", "plano", "pool"),
    wrapper("JSONB upsert", "jsonb", "pool"),
    wrapper("ai-chatbot", "ai_chatbot", "pool"),
    { name: "Threadbase", way: "REST", server: { entry: FUNCTION, config: FUNCTION_CONFIG, env }, isFunction: true },
    wrapper("Plano", "plano_rest", "REST"),
    wrapper("JSONB upsert", "jsonb_rest", "REST"),
    wrapper("ai-chatbot", "ai_chatbot_rest", "REST"),
  ];
  const token = await signToken(stack);
  const targets: Target[] = [];
  for (const system of systems) {
    const { origin } = running.use(await startServer(system.server));
    targets.push(new Target(system.name, system.way, origin, token));
  }
  targets.push(new RestTarget(targets.find(({ name, way }) => name === "Threadbase" && way === "REST")!, rest, stack));

  progress.step(`HTTP: ${sizes.conversations} conversations of ${sizes.turns} turns in each`);
  for (const target of targets) await target.seed(sizes);

  const results = new Map<string, Result>();
  for (const kind of ["append", "load"] as const) {
    for (const clients of CLIENTS) {
      progress.step(`HTTP: ${kind}, ${clients} ${clients === 1 ? "client" : "clients"}`);
      for (let round = 0; round < sizes.rounds; round++) {
        for (let i = 0; i < targets.length; i++) {
          const target = targets[(i + round) % targets.length];
          await target.run(kind, clients, sizes.seconds / 5); // warms up
          const result = await target.run(kind, clients, sizes.seconds);
          const key = `${target.way} ${target.name} ${kind} ${clients}`;
          const known = results.get(key) ?? { times: [], rates: [] };
          results.set(key, { times: [...known.times, ...result.times], rates: [...known.rates, result.rate] });
        }
      }
    }
  }

  progress.step("HTTP: the function without the database");
  const overhead: Overhead = JSON.parse(
    await deno(["run", "-A", "--quiet", ...denoOptions(), "tests/bench/overhead.ts", `${sizes.stubbedRequests}`], env),
  );

  progress.step("HTTP: cold starts");
  const colds = await measureColdStarts(systems, targets, sizes.coldStarts);

  return section(targets, results, overhead, colds, sizes);
}

// ---- measuring ------------------------------------------------------------------------------------------------------

/** What tests/bench/overhead.ts prints. */
type Overhead = Record<"append" | "load" | "firstAppend", Summary>;

interface Result {
  times: number[];
  rates: number[];
}

/** A server and the conversations on it. */
class Target {
  protected ids: string[] = [];
  #next = 0;

  constructor(readonly name: string, readonly way: Way, readonly origin: string, readonly token: string) {}

  async seed({ conversations, turns }: Sizes): Promise<void> {
    const messages: Message[] = Array.from({ length: turns }, () => messagesOf(newTurn())).flat();
    for (let i = 0; i < conversations; i++) {
      this.ids.push((await this.request("POST", "", { messages })).id);
    }
  }

  append(id: string): Promise<unknown> {
    return this.request("POST", `/${id}/messages`, { messages: messagesOf(newTurn()) });
  }

  load(id: string): Promise<{ data: unknown[] }> {
    return this.request("GET", `/${id}/messages?limit=${PAGE}&order=desc`);
  }

  async run(kind: "append" | "load", clients: number, seconds: number): Promise<{ times: number[]; rate: number }> {
    const times: number[] = [];
    const startedAt = performance.now();
    const end = startedAt + seconds * 1000;
    await Promise.all(Array.from({ length: clients }, async () => {
      while (performance.now() < end) {
        const id = this.ids[this.#next++ % this.ids.length];
        times.push(
          await milliseconds(async () => {
            const answer = await this[kind](id);
            if (kind === "load" && (answer as { data: unknown[] }).data.length !== PAGE) {
              throw new Error("A short page");
            }
          }),
        );
      }
    }));
    return { times, rate: times.length / (performance.now() - startedAt) * 1000 };
  }

  // deno-lint-ignore no-explicit-any -- every system's answer
  async request(method: string, path: string, body?: unknown): Promise<any> {
    return await this.fetch(`${this.origin}/conversations${path}`, method, body);
  }

  // deno-lint-ignore no-explicit-any -- every system's answer
  protected async fetch(url: string, method: string, body?: unknown, headers = {}): Promise<any> {
    const response = await fetch(url, {
      method,
      headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${this.name} answered ${response.status}: ${JSON.stringify(answer)}`);
    return answer;
  }
}

/** The RPCs through the REST API without the function in front. */
class RestTarget extends Target {
  readonly #seeded: Target;
  readonly #headers;

  constructor(seeded: Target, rest: Server, { publishableKey }: Stack) {
    super("REST API alone", "REST", rest.origin, seeded.token);
    this.#seeded = seeded;
    this.#headers = { apikey: publishableKey };
  }

  override seed(): Promise<void> {
    this.ids = this.#seeded["ids"];
    return Promise.resolve();
  }

  override append(id: string): Promise<unknown> {
    return this.#rpc("append_messages", { p_conversation_id: id, p_messages: messagesOf(newTurn()) });
  }

  override load(id: string): Promise<{ data: unknown[] }> {
    return this.#rpc("list_messages", { p_conversation_id: id, p_limit: PAGE, p_order: "desc" });
  }

  // deno-lint-ignore no-explicit-any -- every function's answer
  #rpc(name: string, body: unknown): Promise<any> {
    return this.fetch(`${this.origin}/rest/v1/rpc/${name}`, "POST", body, this.#headers);
  }
}

interface Cold {
  times: number[];
  modules: string;
  size: string;
}

/** From the start of the process to the first page of messages, and what it has to load for that. */
async function measureColdStarts(systems: System[], targets: Target[], rounds: number): Promise<Map<System, Cold>> {
  const result = new Map<System, Cold>();
  for (const system of systems) {
    const { entry, config } = system.server;
    // The function behind the pool imports itself when it runs.
    const graph = system.isFunction ? [FUNCTION, FUNCTION_CONFIG] : [entry, config];
    const info = await deno(["info", "--quiet", ...denoOptions(graph[1]), graph[0]!]);
    const [, modules] = info.match(/^dependencies: (\d+)/m)!;
    const [, size] = info.match(/^size: (\S+)/m)!;
    result.set(system, { times: [], modules, size });
  }
  for (let round = 0; round < rounds; round++) {
    for (const [i, system] of systems.entries()) {
      const { name, way, token } = targets[i];
      const time = await milliseconds(async () => {
        await using server = await startServer(system.server);
        const cold = new Target(name, way, server.origin, token);
        await cold.request("POST", "", { messages: messagesOf(newTurn()) });
      });
      result.get(system)!.times.push(time);
    }
  }
  return result;
}

// ---- telling --------------------------------------------------------------------------------------------------------

function section(
  targets: Target[],
  results: Map<string, Result>,
  overhead: Overhead,
  colds: Map<System, Cold>,
  sizes: Sizes,
): Section {
  const of = (target: Target, kind: string, clients: number) =>
    results.get(`${target.way} ${target.name} ${kind} ${clients}`)!;
  const rate = ({ rates }: Result) => quantile(rates, 0.5);
  const about: Record<Way, string> = {
    pool: `Each process has its own pool of connections to Postgres. Requests a second, and milliseconds p50 / p95.`,
    REST: "The same, with every call of the database over the REST API.",
  };
  const table = (kind: "append" | "load", way: Way): Table => ({
    title: `${kind === "append" ? "Append a turn" : `Load the last ${PAGE}`}, ${
      way === "pool" ? "direct" : "through REST"
    }`,
    about: about[way],
    columns: [
      "",
      ...CLIENTS.flatMap((clients) => [`${clients} client${clients === 1 ? "" : "s"}, req/s`, "p50 / p95"]),
    ],
    rows: targets.filter((target) => target.way === way).map((target) => [
      target.name,
      ...CLIENTS.flatMap((clients) => {
        const result = of(target, kind, clients);
        const { p50, p95 } = summarize(result.times);
        return [count(rate(result)), `${ms(p50)} / ${ms(p95)}`];
      }),
    ]),
  });
  const bars = (["append", "load"] as const).flatMap((kind) =>
    (["pool", "REST"] as const).map((way) => {
      const [ours, ...others] = targets.filter((target) =>
        target.way === way && !["bare limit", "REST API alone"].includes(target.name)
      );
      const behind = CLIENTS.flatMap((clients) =>
        others.filter((other) => rate(of(other, kind, clients)) > rate(of(ours, kind, clients)))
          .map(({ name }) => `${name} (${clients})`)
      );
      return {
        name: `${kind === "append" ? "Append" : `Load ${PAGE}`} ${
          way === "pool" ? "direct" : "through REST"
        }, ahead of every wrapper`,
        value: behind.length === 0 ? "ahead" : `behind ${behind.join(", ")}`,
        met: behind.length === 0,
      };
    })
  );
  const stubbed: Table = {
    title: "The function by itself",
    about:
      `\`app.fetch\` called as a value with a database that answers at once: what Hono, authentication and zod cost. A token ` +
      `is verified when it first comes, and once a minute from then on. Milliseconds of ${
        count(sizes.stubbedRequests)
      } requests.`,
    columns: ["", "p50", "p95"],
    rows: ([
      ["append", overhead.append],
      ["append with a token not seen before", overhead.firstAppend],
      [`load ${PAGE}`, overhead.load],
    ] as const).map(([name, { p50, p95 }]) => [name, ms(p50), ms(p95)]),
  };
  const cold: Table = {
    title: "Cold start",
    about:
      `From the start of the process to its first answer, a conversation created; p50 of ${sizes.coldStarts}. The module graph as ` +
      "`deno info` counts it, npm packages by their size on disk.",
    columns: ["", "database", "ms", "dependencies", "size"],
    rows: [...colds].map(([{ name, way }, { times, modules, size }]) => [
      name,
      way,
      ms(quantile(times, 0.5)),
      modules,
      size,
    ]),
  };
  return {
    title: "Level 2: HTTP",
    about: ABOUT,
    headlines: [],
    tables: [
      table("append", "pool"),
      table("append", "REST"),
      table("load", "pool"),
      table("load", "REST"),
      stubbed,
      cold,
    ],
    bars: [
      ...bars,
      barOf("Function without the database, append p50", overhead.append.p50, 1, " ms"),
      barOf("Function without the database, append with a new token p50", overhead.firstAppend.p50, 1, " ms"),
      barOf(`Function without the database, load ${PAGE} p50`, overhead.load.p50, 1, " ms"),
    ],
    plots: [],
  };
}
