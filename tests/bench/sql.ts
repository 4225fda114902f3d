/** Level 1: every system in the same database, by the same driver, one call after the other. */
import type pg from "pg";
import { peers as allPeers } from "./peers/all.ts";
import { connect, type Message, type Peer, POOL_SIZE } from "./peers/peer.ts";
import type { Progress } from "./progress.ts";
import { type Bar, barOf, count, kilobytes, ms, NONE, type Plot, type Section, type Table } from "./report.ts";
import type { Stack } from "./stack.ts";
import { milliseconds, quantile, steadyP95, summarize } from "./stats.ts";
import { linePlot, type Series } from "./svg.ts";
import { newTurn, text, type Turn } from "./text.ts";

const WRITERS = 32;
const PAGE = 20;
/** How often a system does a thing before the next one has its turn: what a scan leaves of the caches is not the others' doing. */
const BURST = 20;
/** The turns at the beginning and at the end of a conversation that are compared. */
const WINDOW = 20;

export interface Sizes {
  turns: number;
  /** Conversations that are appended to, one after the other. */
  conversations: number;
  loads: number;
  foreignRows: number;
  turnsPerWriter: number;
  /** Messages in a conversation that is forked, searched and deleted. */
  forked: number;
  repeats: number;
}

export const FULL: Sizes = {
  turns: 400,
  conversations: 3,
  loads: 300,
  foreignRows: 200_000,
  turnsPerWriter: 20,
  forked: 10_000,
  repeats: 5,
};

export const QUICK: Sizes = {
  turns: 60,
  conversations: 1,
  loads: 40,
  foreignRows: 4000,
  turnsPerWriter: 3,
  forked: 600,
  repeats: 3,
};

export const STEPS = 6;

export async function sqlLevel(stack: Stack, sizes: Sizes, progress: Progress): Promise<Section> {
  const admin = connect(stack.adminDbUrl);
  const peers = allPeers.map((Peer) => new Peer(stack));
  try {
    progress.step(`SQL: storage of ${sizes.turns} turns`);
    const storage = await measureStorage(admin, peers, sizes);

    progress.step(`SQL: append, ${sizes.conversations} × ${sizes.turns} turns`);
    const ids: By<string[]> = new Map(peers.map(({ name }) => [name, []]));
    const appends = await measureAppends(peers, ids, sizes);

    progress.step("SQL: load");
    const loads = await measureLoads(peers, ids, sizes);

    progress.step(`SQL: load among ${count(sizes.foreignRows)} foreign rows`);
    await fill(admin, peers, sizes.foreignRows);
    const loadsAmongForeign = await measureLoads(peers, ids, sizes);

    progress.step("SQL: fork, delete, search");
    const others = await measureOthers(admin, peers, sizes);

    progress.step(`SQL: ${WRITERS} writers at once`);
    const writers = await measureWriters(stack, sizes);

    const results = { storage, appends, loads, loadsAmongForeign, others, writers };
    return {
      title: "Level 1: SQL",
      about: ABOUT,
      headlines: headlines(sizes, results),
      tables: tables(peers, sizes, results),
      bars: bars(sizes, results),
      plots: [appendPlot(appends)],
    };
  } finally {
    for (const peer of peers) await peer[Symbol.asyncDispose]();
    await admin.end();
  }
}

const ABOUT =
  `One database, one driver (\`pg\`), a pool of ${POOL_SIZE} connections for each system. A time is that from a call to
its decoded answer. The systems take turns of ${BURST} calls, every time beginning with another one, so that noise hits all alike.

- **Threadbase**: the RPCs that the API calls, as role \`authenticated\` with row level security on, and the claims of a
  user's token set as PostgREST sets them (here once for each connection; PostgREST does with each request).
- **bare limit**: the rows that Threadbase stores, in Threadbase's own tables with all their indexes, checks, foreign
  keys and the counter, by one hand-written prepared statement and one round trip for each operation, as a role that row
  level security does not hold. The append moves the counter, inserts the turn's two rows with the numbers from it (a
  data-modifying CTE) and returns them; the load selects the newest rows by number; both with every column that the API
  answers. It validates nothing, checks nobody's rights, and knows no forks and no idempotency.
- **LangGraph**: \`PostgresSaver\` and a graph of one node; a turn is one \`invoke\`, a load is \`getState\`.
- **LangChain**: \`PostgresChatMessageHistory\`.
- **Plano**: the table, indexes and statements of its \`conversation_states\`, written by hand: each response stores the
  history again.
- **JSONB upsert**: one row for each chat; a turn reads it and writes it again, as the AI SDK's guide does.
- **ai-chatbot**: the tables and queries of vercel/ai-chatbot, written by hand.

What is written by hand is prepared once for each connection; libraries send what they send. The peers work as the owner
of their tables: no row level security, no rights to check. They load all of a conversation to answer its newest
messages, because that is what they have. None of them searches messages. Text is made of 5,000 words by Zipf's law.`;

// ---- measuring ------------------------------------------------------------------------------------------------------

/** A figure for each system, by its name. */
type By<T> = Map<string, T>;

/** The systems take turns of `burst` rounds, each time beginning with another one. */
async function interleave(
  rounds: number,
  peers: Peer[],
  run: (peer: Peer, round: number) => Promise<void>,
  burst = BURST,
): Promise<void> {
  for (let start = 0; start < rounds; start += burst) {
    for (let i = 0; i < peers.length; i++) {
      const peer = peers[(i + start / burst) % peers.length];
      for (let round = start; round < Math.min(start + burst, rounds); round++) await run(peer, round);
    }
  }
}

/** After how many turns storage is measured. */
const marks = (turns: number) => [turns / 8, turns / 4, turns / 2, turns].map(Math.ceil);

/** Bytes beyond the empty tables, with indexes and TOAST. Also the warm-up of what follows. */
async function measureStorage(admin: pg.Pool, peers: Peer[], { turns }: Sizes): Promise<By<number[]>> {
  const stored = peers.filter(({ tables }) => tables.length > 0);
  const size = async (peer: Peer): Promise<number> => {
    const { tables } = peer;
    await peer.settle?.(admin);
    for (const table of tables) await admin.query(`vacuum ${table}`);
    const { rows: [{ bytes }] } = await admin.query(
      "select sum(pg_total_relation_size(t::regclass))::float8 as bytes from unnest($1::text[]) t",
      [tables],
    );
    return bytes;
  };
  const result: By<number[]> = new Map(stored.map(({ name }) => [name, []]));
  const empty = new Map<Peer, number>();
  const ids = new Map<Peer, string>();
  for (const peer of stored) {
    await admin.query(`truncate ${peer.tables.join(", ")} cascade`);
    empty.set(peer, await size(peer));
    ids.set(peer, await peer.create());
  }
  for (let n = 1; n <= turns; n++) {
    const turn = newTurn();
    for (const peer of stored) await peer.append(ids.get(peer)!, turn);
    if (!marks(turns).includes(n)) continue;
    for (const peer of stored) result.get(peer.name)!.push(await size(peer) - empty.get(peer)!);
  }
  return result;
}

/** For each turn, what it took in each of the conversations. */
type Appends = number[][];

const firstOf = (appends: Appends) => appends.slice(0, WINDOW).flat();
const lastOf = (appends: Appends) => appends.slice(-WINDOW).flat();

async function measureAppends(
  peers: Peer[],
  ids: By<string[]>,
  { turns, conversations }: Sizes,
): Promise<By<Appends>> {
  const result: By<Appends> = new Map(peers.map(({ name }) => [name, Array.from({ length: turns }, () => [])]));
  for (let c = 0; c < conversations; c++) {
    for (const peer of peers) ids.get(peer.name)!.push(await peer.create());
    const turn = Array.from({ length: turns }, newTurn);
    await interleave(turns, peers, async (peer, round) => {
      const time = await milliseconds(() => peer.append(ids.get(peer.name)![c], turn[round]));
      result.get(peer.name)![round].push(time);
    });
  }
  return result;
}

interface Loads {
  all: number[];
  last: number[];
}

async function measureLoads(peers: Peer[], ids: By<string[]>, { loads, turns }: Sizes): Promise<By<Loads>> {
  const warmUp = BURST;
  const result: By<Loads> = new Map(peers.map(({ name }) => [name, { all: [], last: [] }]));
  const measure = async (kind: keyof Loads, expected: number, load: (peer: Peer, id: string) => Promise<Message[]>) => {
    await interleave(warmUp + loads, peers, async (peer, round) => {
      const own = ids.get(peer.name)!;
      let messages: Message[] = [];
      const time = await milliseconds(async () => messages = await load(peer, own[round % own.length]));
      if (messages.length !== expected) {
        throw new Error(`${peer.name} loaded ${messages.length} of ${expected} messages`);
      }
      if (round >= warmUp) result.get(peer.name)![kind].push(time);
    });
  };
  await measure("all", turns * 2, (peer, id) => peer.loadAll(id));
  await measure("last", PAGE, (peer, id) => peer.loadLast(id, PAGE));
  return result;
}

async function fill(admin: pg.Pool, peers: Peer[], rows: number): Promise<void> {
  const texts = Array.from({ length: 1000 }, () => text(512));
  for (const peer of peers) await peer.fill?.(admin, rows, texts);
  // What autovacuum would do before long.
  for (const table of peers.flatMap(({ tables }) => tables)) await admin.query(`vacuum analyze ${table}`);
  await admin.query("checkpoint");
}

interface Others {
  fork: number[];
  remove: number[];
  search: number[];
}

async function measureOthers(admin: pg.Pool, peers: Peer[], { forked, repeats }: Sizes): Promise<By<Others>> {
  const result: By<Others> = new Map(peers.map(({ name }) => [name, { fork: [], remove: [], search: [] }]));
  const history = Array.from({ length: forked }, (_, i): Message => ({
    role: i % 2 ? "assistant" : "user",
    content: text(512),
  }));
  const [, first, second] = history[forked / 2].content.split(" ");
  await interleave(repeats, peers, async (peer) => {
    const { fork, remove, search } = result.get(peer.name)!;
    const [kept, removed] = [await peer.create(history), await peer.create(history)];
    await peer.settle?.(admin);
    if (peer.fork) fork.push(await milliseconds(() => peer.fork!(kept)));
    if (peer.search) search.push(await milliseconds(() => peer.search!(`${first} ${second}`)));
    remove.push(await milliseconds(() => peer.remove(removed)));
  }, 1);
  return result;
}

interface Writers {
  /** Turns a second. */
  one: number;
  many: number;
  verdict: string;
}

async function measureWriters(stack: Stack, { turnsPerWriter }: Sizes): Promise<By<Writers>> {
  const result: By<Writers> = new Map();
  for (const Peer of allPeers) {
    await using peer = new Peer(stack);
    const write = async (ids: string[]) => {
      await Promise.all(ids.map((id) => peer.loadLast(id, 1))); // connects before the clock runs
      const turns = ids.map(() => Array.from({ length: turnsPerWriter }, newTurn));
      let failures = 0;
      const time = await milliseconds(() =>
        Promise.all(ids.map(async (id, writer) => {
          for (const turn of turns[writer]) await peer.append(id, turn).catch(() => failures++);
        }))
      );
      return { turns: turns.flat(), rate: turns.flat().length / time * 1000, failures };
    };
    const many = await write(await Promise.all(Array.from({ length: WRITERS }, () => peer.create())));
    const shared = await peer.create();
    const one = await write(Array(WRITERS).fill(shared));
    const failures = many.failures + one.failures;
    const verdict = judge(await peer.loadAll(shared), one.turns) + (failures > 0 ? `, ${failures} calls failed` : "");
    result.set(peer.name, { one: one.rate, many: many.rate, verdict });
  }
  return result;
}

/** Right: every message is there once, and each turn's answer follows its question. */
function judge(stored: Message[], turns: Turn[]): string {
  const place = new Map(stored.map(({ content }, i) => [content, i]));
  const lost = turns.flatMap(({ user, assistant }) => [user, assistant]).filter((content) => !place.has(content));
  if (lost.length > 0) return `${count(lost.length)} of ${count(turns.length * 2)} messages lost`;
  const torn = turns.filter(({ user, assistant }) => place.get(assistant)! - place.get(user)! !== 1);
  if (torn.length > 0) return `${count(torn.length)} of ${count(turns.length)} turns torn apart`;
  return stored.length === turns.length * 2
    ? "right"
    : `${count(stored.length)} messages of ${count(turns.length * 2)}`;
}

// ---- telling --------------------------------------------------------------------------------------------------------

interface Results {
  storage: By<number[]>;
  appends: By<Appends>;
  loads: By<Loads>;
  loadsAmongForeign: By<Loads>;
  others: By<Others>;
  writers: By<Writers>;
}

const p50 = (values: number[]) => values.length === 0 ? NONE : ms(quantile(values, 0.5));

function both(values: number[]): string {
  const { p50, p95 } = summarize(values);
  return `${ms(p50)} / ${ms(p95)}`;
}

function tables(peers: Peer[], sizes: Sizes, results: Results): Table[] {
  const { storage, appends, loads, loadsAmongForeign, others, writers } = results;
  const { turns, conversations, foreignRows, forked } = sizes;
  const rows = (cells: (name: string) => string[]) => peers.map(({ name }) => [name, ...cells(name)]);
  return [
    {
      title: "Append a turn",
      about:
        `Milliseconds, p50 / p95, of the first and the last ${WINDOW} of ${turns} turns of 1 KB; conversations: ${conversations}.`,
      columns: ["", `first ${WINDOW}`, `last ${WINDOW}`, `all ${turns}, p50`],
      rows: rows((name) => {
        const own = appends.get(name)!;
        return [both(firstOf(own)), both(lastOf(own)), p50(own.flat())];
      }),
    },
    {
      title: "Load",
      about:
        `Milliseconds, p50 / p95, of ${sizes.loads} loads from those conversations: all ${
          count(turns * 2)
        } messages, and the newest ` +
        `${PAGE}; both again among ${count(foreignRows)} messages of others, 20 in a conversation (LangGraph: 2).`,
      columns: ["", "all", `last ${PAGE}`, "all, among foreign", `last ${PAGE}, among foreign`],
      rows: rows((name) =>
        [loads, loadsAmongForeign].map((by) => by.get(name)!).flatMap(({ all, last }) => [both(all), both(last)])
      ),
    },
    {
      title: "Storage",
      about:
        "Kilobytes (1,000 bytes) of tables, indexes and TOAST beyond the empty schema, after vacuum. The bare limit has " +
        "Threadbase's tables.",
      columns: ["", ...marks(turns).map((mark) => `${mark} turns`)],
      rows: rows((name) => storage.get(name)?.map(kilobytes) ?? marks(turns).map(() => NONE)),
    },
    {
      title: `${WRITERS} writers at once`,
      about:
        `Turns a second of ${WRITERS} callers, ${sizes.turnsPerWriter} turns each, on one conversation and on one each; and what the one ` +
        "conversation holds afterwards. Right is: every message once, each answer after its question.",
      columns: ["", "one conversation", `${WRITERS} conversations`, "the one conversation is"],
      rows: rows((name) => {
        const { one, many, verdict } = writers.get(name)!;
        return [count(one), count(many), verdict];
      }),
    },
    {
      title: "Fork, delete, search",
      about:
        `Milliseconds, p50, with a conversation of ${
          count(forked)
        } messages, among the messages of others. A fork is another ` +
        `conversation that begins with all of them. The search is for two words. ${NONE}: there is no such thing.`,
      columns: ["", "fork", "delete", "search"],
      rows: rows((name) => {
        const { fork, remove, search } = others.get(name)!;
        return [p50(fork), p50(remove), p50(search)];
      }),
    },
  ];
}

function bars({ turns, foreignRows }: Sizes, results: Results): Bar[] {
  const of = <T>(by: By<T>) => [by.get("Threadbase")!, by.get("bare limit")!];
  const median = (values: number[]) => quantile(values, 0.5);
  const [appends, bareAppends] = of(results.appends);
  const [loads, bareLoads] = of(results.loads);
  const [loadsAmongForeign] = of(results.loadsAmongForeign);
  const [storage] = of(results.storage);
  const [{ verdict }] = of(results.writers);
  const change = (kind: keyof Loads) => (steadyP95(loadsAmongForeign[kind]) / steadyP95(loads[kind]) - 1) * 100;
  const foreign = `p95, change by ${count(foreignRows)} foreign rows`;
  const smaller = [...results.storage].filter(([, sizes]) => sizes.at(-1)! < storage.at(-1)!);
  return [
    barOf(
      `Append p50, last ${WINDOW} turns : first ${WINDOW}`,
      median(lastOf(appends)) / median(firstOf(appends)),
      1.3,
    ),
    barOf("Append p50 : bare limit", median(appends.flat()) / median(bareAppends.flat()), 1.5),
    barOf(`Load ${PAGE} p50 : bare limit`, median(loads.last) / median(bareLoads.last), 1.2),
    // A smaller run has no such bar: what is fixed in an index weighs more in it.
    ...turns === FULL.turns ? [barOf(`${turns} turns of 1 KB with indexes`, storage.at(-1)! / 1e6, 1.2, " MB")] : [],
    {
      name: `${turns} turns, smaller than every peer`,
      value: smaller.length === 0 ? "smallest" : `larger than ${smaller.map(([name]) => name).join(", ")}`,
      met: smaller.length === 0,
    },
    barOf(`Load all ${foreign}`, change("all"), 25, " %"),
    barOf(`Load ${PAGE} ${foreign}`, change("last"), 25, " %"),
    { name: `${WRITERS} writers on one conversation`, value: verdict, met: verdict === "right" },
  ];
}

/** What a turn takes, over the length of the conversation: of every turn the p50 with its neighbours. */
function appendPlot(appends: By<Appends>): Plot {
  const series = [...appends].map(([name, turns]): Series => ({
    name,
    reference: name === "bare limit",
    points: turns.flatMap((_, i) => {
      const window = turns.slice(i, i + WINDOW);
      const isShown = i % (WINDOW / 2) === 0 && window.length === WINDOW;
      return isShown ? [[i + WINDOW / 2, quantile(window.flat(), 0.5)]] : [];
    }),
  }));
  const title = "Appending a turn of 1 KB";
  return {
    file: "benchmarks-append.svg",
    title,
    svg: linePlot({ title, xLabel: "turns in the conversation", yLabel: "ms, p50", series }),
  };
}

/** What the README quotes. */
function headlines({ turns }: Sizes, { appends, storage, writers }: Results): string[] {
  const ours = "Threadbase";
  const compared = <T>(by: By<T>, figure: (value: T) => number, unit: string) =>
    [...by].filter(([name]) => name !== ours && name !== "bare limit").map(([name, value]) =>
      `${name} ${ms(figure(value))}${unit} (${Number((figure(value) / figure(by.get(ours)!)).toPrecision(2))} ×)`
    ).join(", ");
  const append = (times: Appends) => quantile(lastOf(times), 0.5);
  const megabytes = (sizes: number[]) => sizes.at(-1)! / 1e6;
  const wrong = [...writers].filter(([, { verdict }]) => verdict !== "right");
  return [
    `A turn is appended to a conversation of ${turns} in ${
      ms(append(appends.get(ours)!))
    } ms (p50), at every length the same; ` +
    `${compared(appends, append, " ms")}.`,
    `${turns} turns of 1 KB take ${ms(megabytes(storage.get(ours)!))} MB with all indexes and what the search needs; ` +
    `${compared(storage, megabytes, " MB")}.`,
    `${WRITERS} writers on one conversation: ${writers.get(ours)!.verdict}; ` +
    `${wrong.map(([name, { verdict }]) => `${name}: ${verdict}`).join(", ")}.`,
  ];
}
