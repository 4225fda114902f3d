/** Level 1: every system in the same database, by the same driver, one statement after the other. */
import type pg from "pg";
import { peers as allPeers } from "./peers/all.ts";
import { connect, type Message, type Peer, type Turn } from "./peers/peer.ts";
import type { Progress } from "./progress.ts";
import { type Bar, barOf, count, kilobytes, ms, NONE, type Section, type Table } from "./report.ts";
import type { Stack } from "./stack.ts";
import { milliseconds, quantile, steadyP95, summarize } from "./stats.ts";
import { text } from "./text.ts";

const WRITERS = 32;
const PAGE = 20;

export interface Sizes {
  turns: number;
  /** Conversations that are appended to, one after the other. */
  conversations: number;
  loads: number;
  foreignRows: number;
  turnsPerWriter: number;
  forked: number;
  repeats: number;
}

export const FULL: Sizes = {
  turns: 400,
  conversations: 3,
  loads: 200,
  foreignRows: 200_000,
  turnsPerWriter: 20,
  forked: 10_000,
  repeats: 5,
};

export const QUICK: Sizes = {
  turns: 80,
  conversations: 1,
  loads: 60,
  foreignRows: 5000,
  turnsPerWriter: 4,
  forked: 1000,
  repeats: 3,
};

export const STEPS = 6;

let turnNumber = 0;
/** Of 1 KB. No two are equal, so that a lost one is noticed. */
export function newTurn(): Turn {
  const label = `turn ${++turnNumber} `;
  return {
    user: label + text(512 - label.length),
    assistant: label + text(512 - label.length),
  };
}

/** A figure for each system, by its name. */
type By<T> = Map<string, T>;

export async function sqlLevel(
  stack: Stack,
  sizes: Sizes,
  progress: Progress,
): Promise<Section> {
  const admin = connect(stack.adminDbUrl);
  const peers = allPeers.map((Peer) => new Peer(stack));
  try {
    progress.step(`SQL: storage, ${sizes.turns} turns into empty tables`);
    const storage = await measureStorage(admin, peers, sizes);

    progress.step(`SQL: append, ${sizes.conversations} × ${sizes.turns} turns`);
    const ids = new Map<string, string[]>(peers.map(({ name }) => [name, []]));
    const appends = await measureAppends(peers, ids, sizes);

    progress.step("SQL: load");
    const loads = await measureLoads(peers, ids, sizes);

    progress.step(`SQL: load among ${count(sizes.foreignRows)} foreign rows`);
    await fill(admin, peers, sizes.foreignRows);
    const loadsAmongForeign = await measureLoads(peers, ids, sizes);

    progress.step("SQL: fork, delete, search");
    const others = await measureOthers(peers, sizes);

    progress.step(`SQL: ${WRITERS} writers at once`);
    const writers = await measureWriters(stack, sizes);

    return section(peers, sizes, {
      storage,
      appends,
      loads,
      loadsAmongForeign,
      others,
      writers,
    });
  } finally {
    for (const peer of peers) await peer[Symbol.asyncDispose]();
    await admin.end();
  }
}

// ---- measuring ------------------------------------------------------------------------------------------------------

/** Each system in turn does one thing, every time beginning with another one: noise hits all alike. */
async function interleave(
  rounds: number,
  peers: Peer[],
  run: (peer: Peer, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < peers.length; i++) {
      await run(peers[(i + round) % peers.length], round);
    }
  }
}

const marks = (turns: number) => [turns / 8, turns / 4, turns / 2, turns].map(Math.ceil);

/** Bytes on disk beyond the empty tables, with indexes and TOAST. */
async function measureStorage(
  admin: pg.Pool,
  peers: Peer[],
  { turns }: Sizes,
): Promise<By<number[]>> {
  const stored = peers.filter(({ tables }) => tables.length > 0);
  const size = async ({ tables }: Peer): Promise<number> => {
    for (const table of tables) await admin.query(`vacuum ${table}`);
    const { rows } = await admin.query(
      "select sum(pg_total_relation_size(t::regclass))::float8 as bytes from unnest($1::text[]) t",
      [tables],
    );
    return rows[0].bytes;
  };
  const result: By<number[]> = new Map();
  const empty = new Map<Peer, number>();
  const ids = new Map<Peer, string>();
  for (const peer of stored) {
    await admin.query(`truncate ${peer.tables.join(", ")} cascade`);
    empty.set(peer, await size(peer));
    ids.set(peer, await peer.create());
    result.set(peer.name, []);
  }
  for (let n = 1; n <= turns; n++) {
    const turn = newTurn();
    for (const peer of stored) await peer.append(ids.get(peer)!, turn);
    if (!marks(turns).includes(n)) continue;
    for (const peer of stored) {
      result.get(peer.name)!.push(await size(peer) - empty.get(peer)!);
    }
  }
  return result;
}

interface Appends {
  first: number[];
  last: number[];
  all: number[];
}

async function measureAppends(
  peers: Peer[],
  ids: By<string[]>,
  { turns, conversations }: Sizes,
): Promise<By<Appends>> {
  const result: By<Appends> = new Map(
    peers.map(({ name }) => [name, { first: [], last: [], all: [] }]),
  );
  for (let c = 0; c < conversations; c++) {
    for (const peer of peers) ids.get(peer.name)!.push(await peer.create());
    const turn = Array.from({ length: turns }, newTurn);
    await interleave(turns, peers, async (peer, round) => {
      const time = await milliseconds(() => peer.append(ids.get(peer.name)![c], turn[round]));
      const { first, last, all } = result.get(peer.name)!;
      all.push(time);
      if (round < 20) first.push(time);
      if (round >= turns - 20) last.push(time);
    });
  }
  return result;
}

interface Loads {
  all: number[];
  last: number[];
}

async function measureLoads(
  peers: Peer[],
  ids: By<string[]>,
  { loads, turns }: Sizes,
): Promise<By<Loads>> {
  const result: By<Loads> = new Map(
    peers.map(({ name }) => [name, { all: [], last: [] }]),
  );
  const measure = async (
    kind: keyof Loads,
    expected: number,
    load: (peer: Peer, id: string) => Promise<Message[]>,
  ) => {
    const warmUp = 10;
    await interleave(warmUp + loads, peers, async (peer, round) => {
      const own = ids.get(peer.name)!;
      let messages: Message[] = [];
      const time = await milliseconds(async () => messages = await load(peer, own[round % own.length]));
      if (messages.length !== expected) {
        throw new Error(
          `${peer.name} loaded ${messages.length} of ${expected} messages`,
        );
      }
      if (round >= warmUp) result.get(peer.name)![kind].push(time);
    });
  };
  await measure("all", turns * 2, (peer, id) => peer.loadAll(id));
  await measure("last", PAGE, (peer, id) => peer.loadLast(id, PAGE));
  return result;
}

async function fill(
  admin: pg.Pool,
  peers: Peer[],
  rows: number,
): Promise<void> {
  const texts = Array.from({ length: 1000 }, () => text(512));
  for (const peer of peers) await peer.fill?.(admin, rows, texts);
  // What autovacuum would do before long.
  for (const { tables } of peers) {
    for (const table of tables) await admin.query(`vacuum analyze ${table}`);
  }
  await admin.query("checkpoint");
}

interface Others {
  fork: number[];
  remove: number[];
  search: number[];
}

async function measureOthers(
  peers: Peer[],
  { forked, repeats }: Sizes,
): Promise<By<Others>> {
  const result: By<Others> = new Map(
    peers.map(({ name }) => [name, { fork: [], remove: [], search: [] }]),
  );
  const history: Message[] = Array.from({ length: forked / 2 }, () => [
    { role: "user", content: text(512) } as const,
    { role: "assistant", content: text(512) } as const,
  ]).flat();
  const words = history[forked / 2].content.split(" ").slice(1, 3).join(" ");
  await interleave(repeats, peers, async (peer) => {
    const { fork, remove, search } = result.get(peer.name)!;
    const [kept, removed] = [
      await peer.create(history),
      await peer.create(history),
    ];
    if (peer.fork) fork.push(await milliseconds(() => peer.fork!(kept)));
    if (peer.search) search.push(await milliseconds(() => peer.search!(words)));
    remove.push(await milliseconds(() => peer.remove(removed)));
  });
  return result;
}

interface Writers {
  /** Turns a second. */
  one: number;
  many: number;
  verdict: string;
}

async function measureWriters(
  stack: Stack,
  { turnsPerWriter }: Sizes,
): Promise<By<Writers>> {
  const result: By<Writers> = new Map();
  for (const Peer of allPeers) {
    await using peer = new Peer(stack);
    const write = async (ids: string[]) => {
      // Connections are made before the clock runs.
      await Promise.all(ids.map(() => peer.loadLast(ids[0], 1)));
      const turns = ids.map(() => Array.from({ length: turnsPerWriter }, newTurn));
      const failures: unknown[] = [];
      const time = await milliseconds(() =>
        Promise.all(ids.map(async (id, writer) => {
          for (const turn of turns[writer]) {
            await peer.append(id, turn).catch((error) => failures.push(error));
          }
        }))
      );
      return {
        turns: turns.flat(),
        rate: turns.flat().length / time * 1000,
        failures,
      };
    };
    const many = await Promise.all(
      Array.from({ length: WRITERS }, () => peer.create()),
    );
    const apart = await write(many);
    const shared = await peer.create();
    const together = await write(Array.from({ length: WRITERS }, () => shared));
    const failures = [...apart.failures, ...together.failures].length;
    result.set(peer.name, {
      one: together.rate,
      many: apart.rate,
      verdict: judge(await peer.loadAll(shared), together.turns) +
        (failures > 0 ? `; ${failures} calls failed` : ""),
    });
  }
  return result;
}

/** Right: every message is there once, and each turn's answer follows its question. */
function judge(stored: Message[], turns: Turn[]): string {
  const place = new Map(stored.map(({ content }, i) => [content, i]));
  const lost = turns.flatMap(({ user, assistant }) => [user, assistant]).filter(
    (content) => !place.has(content),
  );
  if (lost.length > 0) {
    return `${count(lost.length)} of ${count(turns.length * 2)} messages lost`;
  }
  const torn = turns.filter(({ user, assistant }) => place.get(assistant)! - place.get(user)! !== 1);
  if (torn.length > 0) {
    return `${count(torn.length)} of ${count(turns.length)} turns torn apart`;
  }
  return stored.length === turns.length * 2 ? "right" : `${stored.length} messages of ${turns.length * 2}`;
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

const both = (values: number[]) => {
  if (values.length === 0) return NONE;
  const { p50, p95 } = summarize(values);
  return `${ms(p50)} / ${ms(p95)}`;
};
const p50 = (values: number[]) => values.length === 0 ? NONE : ms(quantile(values, 0.5));

function section(peers: Peer[], sizes: Sizes, results: Results): Section {
  const { storage, appends, loads, loadsAmongForeign, others, writers } = results;
  const { turns, conversations, foreignRows, forked } = sizes;
  const table = (
    title: string,
    about: string,
    columns: string[],
    row: (name: string) => string[],
  ): Table => ({
    title,
    about,
    columns: ["", ...columns],
    rows: peers.map(({ name }) => [name, ...row(name)]),
  });
  const tables = [
    table(
      "Append a turn",
      `Milliseconds, p50 / p95, of the first and the last 20 of ${turns} turns of 1 KB, in ${conversations} conversations.`,
      ["first 20", "last 20", `all ${turns}, p50`],
      (name) => {
        const { first, last, all } = appends.get(name)!;
        return [both(first), both(last), p50(all)];
      },
    ),
    table(
      "Load",
      `Milliseconds, p50 / p95, of ${sizes.loads} loads from those conversations: all ${
        turns * 2
      } messages, and the newest ` +
        `${PAGE}. Both again after ${count(foreignRows)} rows of others.`,
      [
        "all",
        `last ${PAGE}`,
        "all, among foreign rows",
        `last ${PAGE}, among foreign rows`,
      ],
      (name) => {
        const [alone, among] = [loads.get(name)!, loadsAmongForeign.get(name)!];
        return [
          both(alone.all),
          both(alone.last),
          both(among.all),
          both(among.last),
        ];
      },
    ),
    table(
      "Storage",
      "Kilobytes (1000) of tables, indexes and TOAST beyond the empty schema, after vacuum.",
      marks(turns).map((mark) => `${mark} turns`),
      (name) => storage.get(name)?.map(kilobytes) ?? marks(turns).map(() => NONE),
    ),
    table(
      `${WRITERS} writers at once`,
      `Turns a second of ${WRITERS} callers, ${sizes.turnsPerWriter} turns each, on one conversation and on one each; and what the ` +
        "shared conversation holds afterwards.",
      [
        "one conversation",
        `${WRITERS} conversations`,
        "the one conversation is",
      ],
      (name) => {
        const { one, many, verdict } = writers.get(name)!;
        return [count(one), count(many), verdict];
      },
    ),
    table(
      `Fork, delete, search`,
      `Milliseconds, p50, with a conversation of ${
        count(forked)
      } messages, among the foreign rows. ${NONE}: the system has no such thing.`,
      ["fork", "delete", "search"],
      (name) => {
        const { fork, remove, search } = others.get(name)!;
        return [p50(fork), p50(remove), p50(search)];
      },
    ),
  ];
  return {
    title: "Level 1: SQL",
    about: ABOUT,
    tables,
    bars: bars(sizes, results),
    plots: [],
  };
}

function bars({ turns, foreignRows }: Sizes, results: Results): Bar[] {
  const { storage, appends, loads, loadsAmongForeign, writers } = results;
  const [ours, limit] = ["Threadbase", "bare limit"];
  const median = (values: number[]) => quantile(values, 0.5);
  const change = (kind: keyof Loads) =>
    (steadyP95(loadsAmongForeign.get(ours)![kind]) /
        steadyP95(loads.get(ours)![kind]) - 1) * 100;
  const { first, last, all } = appends.get(ours)!;
  return [
    barOf(
      `Append p50, last 20 of ${turns} turns : first 20`,
      median(last) / median(first),
      1.3,
    ),
    barOf(
      "Append p50 : bare limit",
      median(all) / median(appends.get(limit)!.all),
      1.5,
    ),
    barOf(
      `Load ${PAGE} p50 : bare limit`,
      median(loads.get(ours)!.last) / median(loads.get(limit)!.last),
      1.2,
    ),
    // A smaller run has no such bar: what is fixed in an index weighs more in it.
    ...turns === FULL.turns
      ? [
        barOf(
          `${turns} turns of 1 KB with indexes`,
          storage.get(ours)!.at(-1)! / 1e6,
          1.2,
          " MB",
        ),
      ]
      : [],
    barOf(
      `Load all p95, change by ${count(foreignRows)} foreign rows`,
      change("all"),
      25,
      " %",
    ),
    barOf(
      `Load ${PAGE} p95, change by ${count(foreignRows)} foreign rows`,
      change("last"),
      25,
      " %",
    ),
    {
      name: `${WRITERS} writers on one conversation`,
      value: writers.get(ours)!.verdict,
      met: writers.get(ours)!.verdict === "right",
    },
  ];
}

const ABOUT = "";
