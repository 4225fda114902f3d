// Random trees of responses against a model that copies every history; and what it costs to store them.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { ownDatabase } from "../support/database.ts";
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

/** The naive way: a response has a copy of the whole history. */
interface Copy {
  body: { previous_response_id?: string; input: Item[]; output: Item[]; model: string; provider: string };
  history: Item[];
}

/** One thing to do with a response: store this body under its id, or delete it. */
interface Operation {
  id: string;
  body?: Copy["body"];
}

/** What became of a tree: an answer for each operation, what is stored when all are done, and what deleting that leaves. */
interface Outcome {
  answers: { created?: boolean; replayed?: boolean; continued?: string }[];
  loaded: Record<string, Item[]>;
  stored: Item[];
  left: { conversations: number; messages: number; marks: number };
}

const SEQUENCES = 1000;
const USERS = 50;
const STEPS = 14;

/** Operations for a new tree, and the model's copies when they are done. */
function randomTree(seed: number) {
  const next = random(seed);
  const int = (n: number) => Math.floor(next() * n);
  const pick = <T>(values: T[]): T => values[int(values.length)];
  const model = new Map<string, Copy>();
  const operations: Operation[] = [];
  const expected: Outcome["answers"] = [];
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
  const store = (id: string, previous?: string) => {
    const body = {
      ...(previous && { previous_response_id: previous }),
      input: items(2),
      output: items(2),
      model: `m${++written}`,
      provider: "p",
    };
    operations.push({ id, body });
    expected.push({ created: !model.has(id) });
    const before = previous ? model.get(previous)!.history : [];
    model.set(id, { body, history: [...before, ...body.input, ...body.output] });
  };

  for (let step = 0; step < STEPS; step++) {
    const ids = [...model.keys()];
    const dice = next();
    if (ids.length === 0 || dice < 0.08) {
      store(`r${step}`);
    } else if (dice < 0.55) {
      store(`r${step}`, next() < 0.6 ? ids.at(-1) : pick(ids));
    } else if (dice < 0.67) {
      const id = pick(ids);
      operations.push({ id, body: model.get(id)!.body });
      expected.push({ replayed: true });
    } else if (dice < 0.79) {
      const id = pick(ids);
      store(id, pick([undefined, ...ids.filter((other) => other !== id)]));
    } else {
      const id = pick(ids);
      operations.push({ id });
      expected.push({ continued: "previous_response_not_found" });
      model.delete(id);
    }
  }
  return { model, operations, expected };
}

/** Does the operations of a tree for the user whose claims are set, reads everything, and deletes it: all in one call. */
const PLAY = `
  create function pg_temp.play(p_operations jsonb, p_user_id uuid) returns jsonb language plpgsql as $$
  declare
    v_operation jsonb;
    v_answers jsonb := '[]';
    v_answer jsonb;
    v_loaded jsonb;
    v_stored jsonb;
  begin
    for v_operation in select value from jsonb_array_elements(p_operations) loop
      if v_operation ? 'body' then
        v_answer := public.put_response(v_operation ->> 'id', v_operation -> 'body');
      else
        perform public.delete_response(v_operation ->> 'id');
        -- Nothing goes on from what is deleted.
        begin
          perform public.put_response('none', jsonb_build_object(
            'previous_response_id', v_operation -> 'id', 'model', 'm', 'provider', 'p'
          ) || '{"input": [], "output": []}');
          v_answer := '{}';
        exception when sqlstate 'PT409' then
          v_answer := jsonb_build_object('continued', sqlerrm);
        end;
      end if;
      v_answers := v_answers || v_answer;
    end loop;
    select coalesce(jsonb_object_agg(s.response_id, public.get_response(s.response_id) -> 'input_items'), '{}')
    into v_loaded from public.conversation_states s where s.user_id = p_user_id;
    select coalesce(jsonb_agg(private.items_from_message(m) -> 0), '[]')
    into v_stored from public.conversation_messages m where m.user_id = p_user_id;
    perform public.delete_response(id) from jsonb_object_keys(v_loaded) id;
    return jsonb_build_object('answers', v_answers, 'loaded', v_loaded, 'stored', v_stored, 'left', (
      select jsonb_build_object(
        'conversations', (select count(*) from public.conversations where user_id = p_user_id),
        'messages', (select count(*) from public.conversation_messages where user_id = p_user_id),
        'marks', (select count(*) from private.response_conversations where user_id = p_user_id)
      )
    ));
  end $$`;

function checkTree(seed: number, { model, expected }: ReturnType<typeof randomTree>, outcome: Outcome): void {
  const answers = outcome.answers.map(({ created, replayed, continued }) => ({
    ...(created !== undefined && { created }),
    ...(replayed && { replayed }),
    ...(continued && { continued }),
  }));
  assertEquals(answers, expected, `seed ${seed}`);
  // Every history equals its copy, every item of every type.
  const copies = Object.fromEntries([...model].map(([id, { history }]) => [id, history]));
  assertEquals(outcome.loaded, copies, `seed ${seed}`);
  // Each item is stored once, and none that no response shows.
  const number = (item: Item) => JSON.stringify(item).match(/\d+\/\d+/)![0];
  const shown = new Set([...model.values()].flatMap((copy) => copy.history.map(number)));
  assertEquals(outcome.stored.map(number).sort(), [...shown].sort(), `seed ${seed}`);
  const nothing = { conversations: 0, messages: 0, marks: 0 };
  assertEquals(outcome.left, nothing, `seed ${seed}: something is left`);
}

Deno.test(`${SEQUENCES} random trees of responses equal a model that copies`, async () => {
  const sql = connect();
  const done = new Error("rolled back");
  try {
    let seed = 1;
    for (let user = 0; user < USERS; user++) {
      await sql.begin(async (tx) => {
        const me = crypto.randomUUID();
        await tx`
          with me as (insert into auth.users (id, email) values (${me}, ${me + "@example.com"}) returning id)
          select set_config('request.jwt.claims', json_build_object('sub', id, 'role', 'authenticated')::text, true) from me`;
        await tx.unsafe(PLAY);
        // Those that were made for empty tables read through all that has been rolled back.
        await tx`discard plans`;
        for (const last = seed + SEQUENCES / USERS; seed < last; seed++) {
          const tree = randomTree(seed);
          const [{ outcome }] = await tx`
            select pg_temp.play(${JSON.stringify(tree.operations)}::text::jsonb, ${me}) as outcome`;
          checkTree(seed, tree, outcome);
        }
        throw done;
      }).catch((error) => {
        if (error !== done) throw error;
      });
    }
  } finally {
    await sql.end();
  }
});

// ---- storage --------------------------------------------------------------------------------------------------------

const TURNS = 400;

Deno.test(`${TURNS} turns of 1 KB take at most 1.2 MB with all indexes, and as much again for as many more`, async () => {
  await Promise.all(["a language", "random hex"].map(async (kind) => {
    const rand = random(1);
    const int = (n: number) => Math.floor(rand() * n);
    const hex = (length: number) => Array.from({ length }, () => int(16).toString(16)).join("");
    // As words are distributed: the n-th most frequent one occurs about 1/n times as often as the first.
    const vocabulary = Array.from({ length: 20_000 }, (_, n) => hex(2 + Math.floor(2 * Math.log10(n + 1))));
    const word = () => kind === "a language" ? vocabulary[Math.floor(vocabulary.length ** rand()) - 1] : hex(8);
    const text = (): string => {
      let written = "";
      while (written.length < 512) written += `${word()} `;
      return written.slice(0, 512);
    };

    // A database of its own: in one where other tests write, room may be free already.
    await using database = await ownDatabase();
    const { sql } = database;
    const me = crypto.randomUUID();
    await sql`insert into auth.users (id) values (${me})`;
    await sql`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, false)`;
    const size = async (): Promise<number> => {
      // With the filters of all that is complete, as the job leaves them.
      await sql`do $$ begin loop exit when not private.search_filter_step(); commit; end loop; end $$`;
      const [{ bytes }] = await sql`
        select sum(pg_total_relation_size(c.oid))::int as bytes from pg_class c
        where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind = 'r'`;
      return bytes;
    };
    const sizes: number[] = [];
    let previous: string | null = null;
    // Turn 0 makes the first page of everything.
    for (let turn = 0; turn <= 2 * TURNS; turn++) {
      const id: string = `resp_${hex(48)}`;
      const output = {
        id: `msg_${hex(48)}`,
        type: "message",
        status: "completed",
        role: "assistant",
        content: [{ type: "output_text", text: text(), annotations: [], logprobs: [] }],
      };
      const body: postgres.JSONValue = {
        previous_response_id: previous,
        input: text(),
        output: [output],
        model: "gpt-5-mini",
        provider: "openai",
      };
      await sql`select put_response(${id}, ${sql.json(body)})`;
      previous = id;
      if (turn % TURNS === 0) sizes.push(await size());
    }
    const [first, once, twice] = sizes;
    console.log(`${kind}: ${once - first} bytes for ${TURNS} turns, ${twice - once} for the next ${TURNS}`);
    assert(once - first <= 1_200_000, kind);
    assert(twice - once <= 1_200_000, kind);
    const [{ r }] = await sql`select get_response(${previous!}) as r`;
    assertEquals(r.input_items.length, 4 * TURNS + 2);
  }));
});
