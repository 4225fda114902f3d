/** How Threadbase grows: the same few operations while a conversation, or what lies around it, grows tenfold. */
import pg from "pg";
import { emptyTables } from "./peers/all.ts";
import { Limit } from "./peers/limit.ts";
import { connect, type Message, Statement } from "./peers/peer.ts";
import { connectAsUser, Threadbase } from "./peers/threadbase.ts";
import type { Progress } from "./progress.ts";
import { count, ms, type Plot, type Section, type Table } from "./report.ts";
import type { Stack } from "./stack.ts";
import { exponent, milliseconds, quietP50 } from "./stats.ts";
import { type LinePlot, linePlot } from "./svg.ts";
import { newTurn, text } from "./text.ts";

const PAGE = 20;

export interface Sizes {
  samples: number;
  conversation: number[];
  rows: number[];
  events: number[];
  documents: number[];
}

export const FULL: Sizes = {
  samples: 100,
  conversation: [1e2, 1e3, 1e4, 1e5],
  rows: [1e4, 1e5, 1e6, 1e7],
  events: [1e4, 1e5, 1e6, 1e7],
  documents: [1e3, 1e4, 1e5, 1e6],
};

export const QUICK: Sizes = {
  samples: 20,
  conversation: [1e2, 1e3],
  rows: [1e4, 1e5],
  events: [1e4, 1e5],
  documents: [1e3, 1e4],
};

const ABOUT =
  `Threadbase's RPCs called as in level 1, while a conversation, or what lies around it, grows tenfold. Milliseconds: the p50
of the quietest of five parts of the samples, because sizes are measured one after the other, and a noise in between would
pass for growth. The exponent is that of the power of the size that fits best: 0 is flat, 1 is in proportion.`;

export function steps({ rows, events, documents }: Sizes): number {
  return 1 + rows.length + events.length + documents.length;
}

/** Milliseconds of each operation at each size. */
type Curves = Map<string, [size: number, milliseconds: number][]>;
type Operations = Record<string, () => Promise<unknown>>;

export async function growthLevel(stack: Stack, sizes: Sizes, progress: Progress): Promise<Section> {
  const admin = connect(stack.adminDbUrl);
  const threadbase = new Threadbase(stack);
  const limit = new Limit(stack);
  const user = connectAsUser(stack);
  try {
    const groups = [await growConversation(threadbase, limit, user, sizes, progress)];
    await emptyTables(stack);
    groups.push(
      await growTable(admin, threadbase, limit, user, sizes, progress),
      await growEvents(admin, user, sizes, progress),
      await growDocuments(admin, user, stack, sizes, progress),
    );
    return section(groups);
  } finally {
    await threadbase[Symbol.asyncDispose]();
    await limit[Symbol.asyncDispose]();
    await user.end();
    await admin.end();
  }
}

interface Group {
  title: string;
  about: string;
  file: string;
  unit: string;
  curves: Curves;
}

// ---- measuring ------------------------------------------------------------------------------------------------------

/** The operations take turns. */
async function measure(curves: Curves, size: number, operations: Operations, samples: number): Promise<void> {
  const times: Record<string, number[]> = {};
  for (let i = -5; i < samples; i++) {
    for (const [name, run] of Object.entries(operations)) {
      const time = await milliseconds(run);
      if (i >= 0) (times[name] ??= []).push(time);
    }
  }
  for (const [name, values] of Object.entries(times)) {
    if (!curves.has(name)) curves.set(name, []);
    curves.get(name)!.push([size, quietP50(values)]);
  }
}

function messageOperations(
  threadbase: Threadbase,
  limit: Limit,
  user: pg.Pool,
  ours: string,
  bare: string,
): Operations {
  const context = new Statement(user, "select public.get_context($1, 8192) as value");
  return {
    "append": () => threadbase.append(ours, newTurn()),
    [`load ${PAGE}`]: () => threadbase.loadLast(ours, PAGE),
    "context of 8,192 tokens": () => context.run(ours),
    "append, bare limit": () => limit.append(bare, newTurn()),
    [`load ${PAGE}, bare limit`]: () => limit.loadLast(bare, PAGE),
  };
}

function history(messages: number): Message[] {
  return Array.from({ length: messages }, (_, i) => ({ role: i % 2 ? "assistant" : "user", content: text(512) }));
}

async function growConversation(
  threadbase: Threadbase,
  limit: Limit,
  user: pg.Pool,
  { conversation, samples }: Sizes,
  progress: Progress,
): Promise<Group> {
  progress.step(`Growth: conversations of up to ${count(conversation.at(-1)!)} messages`);
  const curves: Curves = new Map();
  for (const size of conversation) {
    const messages = history(size);
    const operations = messageOperations(
      threadbase,
      limit,
      user,
      await threadbase.create(messages),
      await limit.create(messages),
    );
    await measure(curves, size, operations, samples);
  }
  const about = "One conversation, 0.5 KB a message.";
  return { title: "Messages in a conversation", about, file: "conversation", unit: "messages", curves };
}

async function growTable(
  admin: pg.Pool,
  threadbase: Threadbase,
  limit: Limit,
  user: pg.Pool,
  { rows, samples }: Sizes,
  progress: Progress,
): Promise<Group> {
  const messages = history(200);
  const operations = messageOperations(
    threadbase,
    limit,
    user,
    await threadbase.create(messages),
    await limit.create(messages),
  );
  const curves: Curves = new Map();
  for (const size of rows) {
    progress.step(`Growth: ${count(size)} messages of others`);
    await inBulk(admin, "conversation_messages", size, async (client, missing) => {
      await client.query(
        `with c as (
           insert into public.conversations (user_id, last_sequence_order)
           select '${OTHER}', 100 from generate_series(1, $1::integer / 100)
           returning id, user_id
         )
         insert into public.conversation_messages (
           conversation_id, user_id, sequence_order, type, role, content, item, author
         )
         select c.id, c.user_id, n, 'message', 'user', case when n % 10 = 0 then 'message ' || n end, '{}', 'user'
         from c, generate_series(1, 100) n`,
        [missing],
      );
    });
    await measure(curves, size, operations, samples);
  }
  const about =
    "A conversation of 200 messages in a table of ever more rows of others, 100 in a conversation. (To fill it in " +
    "minutes, nine of ten have no text, and no foreign keys are checked meanwhile. All indexes are there.)";
  return { title: "Messages in the table", about, file: "table", unit: "rows", curves };
}

async function growEvents(
  admin: pg.Pool,
  user: pg.Pool,
  { events, samples }: Sizes,
  progress: Progress,
): Promise<Group> {
  const open = new Statement(user, "select public.open_session($1) as value");
  const append = new Statement(user, "select public.append_events($1, $2) as value");
  const list = new Statement(user, "select public.list_events($1, p_limit => 20) as value");
  const id = crypto.randomUUID();
  await open.run({ id });
  const event = { event_type: "ai_chunk", content: { text: "and so on" } };
  const operations = {
    "append an event": () => append.run(id, JSON.stringify([event])),
    "append 20 events": () => append.run(id, JSON.stringify(Array(20).fill(event))),
    "load 20 events": () => list.run(id),
  };
  const curves: Curves = new Map();
  for (const size of events) {
    progress.step(`Growth: ${count(size)} events`);
    await inBulk(admin, "event_logs", size, async (client, missing) => {
      await client.query(
        `with s as (
           insert into public.sessions (user_id, last_sequence)
           select 'caller ' || n, 1000 from generate_series(1, $1::integer / 1000) n
           returning id, user_id
         )
         insert into public.event_logs (session_id, sequence, user_id, event_type, content)
         select s.id, n, s.user_id, 'ai_chunk', '{"text": "and so on"}' from s, generate_series(1, 1000) n`,
        [missing],
      );
    });
    await measure(curves, size, operations, samples);
  }
  const about = "A session among ever more events of others in the same partition, 1,000 in a session.";
  return { title: "Events", about, file: "events", unit: "events", curves };
}

async function growDocuments(
  admin: pg.Pool,
  user: pg.Pool,
  { userId }: Stack,
  { documents, samples }: Sizes,
  progress: Progress,
): Promise<Group> {
  const find = new Statement(user, "select public.find_documents('bench', $1, p_limit => $2, p_count => $3) as value");
  const operations = {
    "find 20 by a field, counted": () => find.run({ team: { $eq: 17 } }, PAGE, true),
    "find by id": () => find.run({ id: { $eq: "d17" } }, PAGE, true),
    "first page of all": () => find.run({}, PAGE, false),
  };
  const curves: Curves = new Map();
  for (const size of documents) {
    progress.step(`Growth: ${count(size)} documents`);
    await inBulk(admin, "documents", size, async (client, missing) => {
      await client.query(
        `insert into public.documents (owner_id, collection, id, creation_utc, sort_at, data)
         select
           $1, 'bench', 'd' || n, to_json(t.at) #>> '{}', t.at,
           jsonb_build_object('name', 'Person ' || n, 'team', n / 20, 'age', n % 90, 'tags', '["a", "b"]'::jsonb)
         from generate_series($2::integer - $3::integer, $2::integer - 1) n,
           lateral (select timestamptz '2026-01-01' + n * interval '1 second' as at) t`,
        [userId, size, missing],
      );
    });
    await measure(curves, size, operations, samples);
  }
  const about = "One collection of one owner. 20 documents are in the team that is looked for.";
  return { title: "Documents in a collection", about, file: "documents", unit: "documents", curves };
}

const OTHER = "b0b00000-0000-4000-8000-000000000002";
const BATCH = 1e6;
const filled = new Map<string, number>();

/** Brings a table to that many rows, by the owner, without the triggers. Then what autovacuum would do before long. */
async function inBulk(
  admin: pg.Pool,
  table: string,
  size: number,
  insert: (client: pg.PoolClient, rows: number) => Promise<void>,
): Promise<void> {
  const client = await admin.connect();
  try {
    await client.query("set session_replication_role = replica");
    for (let rows = filled.get(table) ?? 0; rows < size; rows += BATCH) {
      await insert(client, Math.min(size - rows, BATCH));
    }
    filled.set(table, size);
    await client.query("reset session_replication_role");
    await client.query(`vacuum analyze public.${table}`);
    await client.query("checkpoint");
  } finally {
    client.release();
  }
}

// ---- telling --------------------------------------------------------------------------------------------------------

function section(groups: Group[]): Section {
  const tables = groups.map(({ title, about, curves }): Table => {
    const sizes = [...curves.values()][0].map(([size]) => size);
    return {
      title,
      about,
      columns: ["", ...sizes.map(count), "last : first", "exponent"],
      rows: [...curves].map(([name, points]) => [
        name,
        ...points.map(([, y]) => ms(y)),
        (points.at(-1)![1] / points[0][1]).toFixed(2),
        exponent(points).toFixed(2),
      ]),
    };
  });
  const plots = groups.map(({ title, file, unit, curves }): Plot => {
    const series = [...curves].map(([name, points]) => ({ name, points, reference: name.includes("bare limit") }));
    const plot: LinePlot = { title, xLabel: unit, yLabel: "ms", logX: true, series };
    return { file: `benchmarks-${file}.svg`, title, svg: linePlot(plot) };
  });
  return { title: "Growth", about: ABOUT, headlines: [], tables, bars: [], plots };
}
