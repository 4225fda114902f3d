// Random trees of responses against a model that copies every history; and what it costs to store them.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startStack } from "../../local/stack.ts";
import { connect } from "../support/stack.ts";

type Item = { [key: string]: postgres.JSONValue };

/** A small, seeded generator: a failure names its seed and comes again. (Mulberry32) */
function random(seed: number): () => number {
  return () => {
    seed = seed + 0x6D2B79F5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

/** A new user, whose own client the transaction acts for from here on. */
async function become(tx: postgres.TransactionSql): Promise<string> {
  const me = crypto.randomUUID();
  await tx`
    with me as (insert into auth.users (id, email) values (${me}, ${me + "@example.com"}) returning id)
    select set_config('request.jwt.claims', json_build_object('sub', id, 'role', 'authenticated')::text, true) from me`;
  return me;
}

/** The naive way: a response has a copy of the whole history. */
interface Copy {
  body: { previous_response_id?: string; input: Item[]; output: Item[]; model: string; provider: string };
  history: Item[];
}

const SEQUENCES = 1000;
const STEPS = 14;

Deno.test(`${SEQUENCES} random trees of responses equal a model that copies`, async () => {
  const sql = connect();
  const done = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      let me = "";
      for (let seed = 1; seed <= SEQUENCES; seed++) {
        // Nothing is vacuumed or analysed within a transaction: a new user's rows are few for an index, and plans that were
        // made for empty tables are made again.
        if (seed % 20 === 1) {
          me = await become(tx);
          await tx`discard plans`;
        }
        const next = random(seed);
        const int = (n: number) => Math.floor(next() * n);
        const pick = <T>(values: T[]): T => values[int(values.length)];
        const model = new Map<string, Copy>();
        let written = 0;
        // The number makes an item one of its kind, and says which of them are stored. Some ids come again.
        const item = (): Item => {
          const n = `${seed}/${++written}`;
          return pick<() => Item>([
            () => ({ type: "message", role: "user", content: [{ type: "input_text", text: n }] }),
            () => ({ role: "user", content: n }),
            () => ({
              type: "message",
              id: `msg_${int(6)}`,
              role: "assistant",
              status: "completed",
              content: [{ type: "output_text", text: n, annotations: [], logprobs: [] }],
            }),
            () => ({ type: "function_call", id: `fc_${int(6)}`, call_id: n, name: "f", arguments: "{}" }),
            () => ({ type: "function_call_output", call_id: "c", output: n }),
            () => ({ type: "reasoning", id: `rs_${int(6)}`, summary: [], note: n }),
          ])();
        };
        const items = (max: number) => Array.from({ length: int(max + 1) }, item);
        const put = async (id: string, body: Copy["body"]): Promise<Item> => {
          const [{ r }] = await tx`select put_response(${id}, ${tx.json(body)}) as r`;
          return r;
        };
        const store = async (id: string, previous?: string) => {
          const body = {
            ...(previous && { previous_response_id: previous }),
            input: items(2),
            output: items(2),
            model: `m${++written}`,
            provider: "p",
          };
          const answer = await put(id, body);
          assertEquals(answer.created, !model.has(id), `seed ${seed}`);
          const before = previous ? model.get(previous)!.history : [];
          model.set(id, { body, history: [...before, ...body.input, ...body.output] });
        };

        for (let step = 0; step < STEPS; step++) {
          const ids = [...model.keys()];
          const dice = next();
          if (ids.length === 0 || dice < 0.08) {
            await store(`r${step}`);
          } else if (dice < 0.55) {
            await store(`r${step}`, next() < 0.6 ? ids.at(-1) : pick(ids));
          } else if (dice < 0.67) {
            const id = pick(ids);
            assertEquals((await put(id, model.get(id)!.body)).replayed, true, `seed ${seed}`);
          } else if (dice < 0.79) {
            const id = pick(ids);
            await store(id, pick([undefined, ...ids.filter((other) => other !== id)]));
          } else {
            const id = pick(ids);
            await tx`select delete_response(${id})`;
            model.delete(id);
            const body = { previous_response_id: id, input: [], output: [], model: "m", provider: "p" };
            await assertRejects(
              () => tx.savepoint((nested) => nested`select put_response('none', ${nested.json(body)})`),
              Error,
              "previous_response_not_found",
            );
          }
        }

        // Every history equals its copy, every item of every type.
        const loaded = await tx`
        select s.response_id, get_response(s.response_id) -> 'input_items' as items
        from conversation_states s where s.user_id = ${me}`;
        assertEquals(new Set(loaded.map((row) => row.response_id)), new Set(model.keys()), `seed ${seed}`);
        for (const { response_id, items } of loaded) {
          assertEquals(items, model.get(response_id)!.history, `seed ${seed}`);
        }
        // Each item is stored once, and none that no response shows.
        const number = (item: Item) => JSON.stringify(item).match(/\d+\/\d+/)![0];
        const shown = new Set([...model.values()].flatMap((copy) => copy.history.map(number)));
        const stored =
          await tx`select private.items_from_message(m) -> 0 as item from conversation_messages m where user_id = ${me}`;
        assertEquals(stored.map(({ item }) => number(item)).sort(), [...shown].sort(), `seed ${seed}`);

        for (const id of model.keys()) await tx`select delete_response(${id})`;
        const [left] = await tx`
        select (select count(*)::int from conversations where user_id = ${me}) as conversations,
          (select count(*)::int from conversation_messages where user_id = ${me}) as messages,
          (select count(*)::int from private.response_conversations where user_id = ${me}) as marks`;
        assertEquals({ ...left }, { conversations: 0, messages: 0, marks: 0 }, `seed ${seed}: something is left`);
      }
      throw done;
    });
  } catch (error) {
    if (error !== done) throw error;
  } finally {
    await sql.end();
  }
});

// ---- storage --------------------------------------------------------------------------------------------------------

const TURNS = 400;

Deno.test(`${TURNS} turns of 1 KB take at most 1.2 MB with all indexes, and as much again for as many more`, async () => {
  const rand = random(1);
  const int = (n: number) => Math.floor(rand() * n);
  const hex = (length: number) => Array.from({ length }, () => int(16).toString(16)).join("");
  // As words are distributed: the n-th most frequent one occurs about 1/n times as often as the first.
  const vocabulary = Array.from({ length: 20_000 }, (_, n) => hex(2 + Math.floor(2 * Math.log10(n + 1))));
  const words: Record<string, () => string> = {
    "a language": () => vocabulary[Math.floor(vocabulary.length ** rand()) - 1],
    "random hex": () => hex(8),
  };
  const text = (word: () => string): string => {
    let written = "";
    while (written.length < 512) written += `${word()} `;
    return written.slice(0, 512);
  };

  for (const [kind, word] of Object.entries(words)) {
    // A database of its own: in one where other tests write, room may be free already.
    const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
    const stack = await startStack({
      port: 0,
      dbPort: 0,
      dataDir,
      postgresBin: Deno.env.get("POSTGRES_BIN") || undefined,
    });
    const sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
    try {
      const [{ id: me }] = await sql`select id from auth.users where email = 'bob@example.com'`;
      await sql`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, false)`;
      const size = async (): Promise<number> =>
        (await sql`
          select sum(pg_total_relation_size(c.oid))::int as bytes from pg_class c
          where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind = 'r'`)[0].bytes;
      const sizes = [await size()];
      let previous: string | null = null;
      for (let turn = 1; turn <= 2 * TURNS; turn++) {
        const id: string = `resp_${hex(48)}`;
        const output = {
          id: `msg_${hex(48)}`,
          type: "message",
          status: "completed",
          role: "assistant",
          content: [{ type: "output_text", text: text(word), annotations: [], logprobs: [] }],
        };
        const body: postgres.JSONValue = {
          previous_response_id: previous,
          input: text(word),
          output: [output],
          model: "gpt-5-mini",
          provider: "openai",
        };
        await sql`select put_response(${id}, ${sql.json(body)})`;
        previous = id;
        if (turn % TURNS === 0) sizes.push(await size());
      }
      const [empty, once, twice] = sizes;
      console.log(`${kind}: ${once - empty} bytes for ${TURNS} turns, ${twice - once} for the next ${TURNS}`);
      assert(once - empty <= 1_200_000, kind);
      assert(twice - once <= 1_200_000, kind);
      const [{ r }] = await sql`select get_response(${previous!}) as r`;
      assertEquals(r.input_items.length, 4 * TURNS);
    } finally {
      await sql.end();
      await stack.stop();
      await Deno.remove(dataDir, { recursive: true });
    }
  }
});
