// Random trees of forks, with messages and conversations deleted, against a model that copies every history.
import { assert, assertEquals } from "@std/assert";
import { connect } from "../support/stack.ts";

/** A small, seeded generator: a failure names its seed and comes again. (Mulberry32) */
function random(seed: number): () => number {
  return () => {
    seed = seed + 0x6D2B79F5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

/** The naive way: a fork copies the prefix, deleting a message deletes it in every copy. */
interface Copy {
  last: number;
  messages: { id: string; sequence: number; content: string }[];
}

const SEQUENCES = 1000;
const STEPS = 14;

Deno.test(`${SEQUENCES} random sequences of operations equal a model that copies`, async () => {
  const sql = connect();
  const done = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const me = crypto.randomUUID();
      await tx`insert into auth.users (id, email) values (${me}, ${me + "@example.com"})`;
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, true)`;

      for (let seed = 1; seed <= SEQUENCES; seed++) {
        const next = random(seed);
        const pick = <T>(values: T[]): T => values[Math.floor(next() * values.length)];
        const model = new Map<string, Copy>();
        let written = 0;
        for (let step = 0; step < STEPS; step++) {
          const ids = [...model.keys()];
          const dice = next();
          if (ids.length === 0 || dice < 0.1) {
            const [{ c }] = await tx`select create_conversation() as c`;
            model.set(c.id, { last: 0, messages: [] });
          } else if (dice < 0.45) {
            const id = pick(ids);
            const batch = Array.from({ length: 1 + Math.floor(next() * 3) }, () => `${seed}/${++written}`);
            const [{ a }] = await tx`
              select append_messages(${id}, ${tx.json(batch.map((content) => ({ role: "user", content })))}) as a`;
            const copy = model.get(id)!;
            for (const [i, content] of batch.entries()) {
              copy.messages.push({ id: a.messages[i].id, sequence: ++copy.last, content });
            }
          } else if (dice < 0.75) {
            const id = pick(ids);
            const source = model.get(id)!;
            const at = Math.floor(next() * (source.last + 1));
            const [{ f }] = await tx`select fork_conversation(${id}, ${at}) as f`;
            model.set(f.id, { last: at, messages: source.messages.filter((m) => m.sequence <= at) });
          } else if (dice < 0.87) {
            const id = pick(ids);
            const message = pick(model.get(id)!.messages);
            if (!message) continue;
            await tx`select delete_message(${id}, ${message.id})`;
            for (const copy of model.values()) copy.messages = copy.messages.filter((m) => m.id !== message.id);
          } else {
            const id = pick(ids);
            await tx`select delete_conversation(${id})`;
            model.delete(id);
          }
        }

        // Every history equals its copy, whole and by a random page.
        for (const [id, copy] of model) {
          const expected = copy.messages.map((m) => [m.sequence, m.content]);
          const after = Math.floor(next() * (copy.last + 1));
          const [row] = await tx`
            select list_messages(${id}, p_limit => 1000) as whole,
              list_messages(${id}, p_after => ${after}, p_limit => 2, p_order => 'desc') as page`;
          const shape = (m: { sequence_order: number; content: string }) => [m.sequence_order, m.content];
          assertEquals(row.whole.data.map(shape), expected, `seed ${seed}`);
          const page = expected.filter(([sequence]) => Number(sequence) > after).reverse().slice(0, 2);
          assertEquals(row.page.data.map(shape), page, `seed ${seed}`);
        }
        // And nothing is stored that nothing shows.
        const shown = new Set([...model.values()].flatMap((copy) => copy.messages.map((m) => m.id)));
        const [{ stored, hidden }] = await tx`
          select
            (select coalesce(jsonb_agg(id), '[]') from conversation_messages where user_id = ${me}) as stored,
            (select count(*)::int from conversations c where c.user_id = ${me} and c.deleted_at is not null
              and not exists (select from conversations f where f.parent_id = c.id)) as hidden`;
        assertEquals(new Set(stored), shown, `seed ${seed}`);
        assertEquals(hidden, 0, `seed ${seed}: a tombstone without a fork`);
        for (const id of model.keys()) await tx`select delete_conversation(${id})`;
        const [{ left }] = await tx`select count(*)::int as left from conversations where user_id = ${me}`;
        assertEquals(left, 0, `seed ${seed}: deleting the last fork frees everything`);
      }
      throw done;
    });
  } catch (error) {
    if (error !== done) throw error;
  } finally {
    await sql.end();
  }
});

Deno.test("a page of a line of 1,000 forks stops when it is full", async () => {
  const sql = connect();
  const done = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const me = crypto.randomUUID();
      await tx`insert into auth.users (id, email) values (${me}, ${me + "@example.com"})`;
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, true)`;
      let [{ id }] = await tx`select create_conversation() ->> 'id' as id`;
      [{ id }] = await tx`
        select id from (select ${id}::uuid as id) c, lateral (select append_messages(c.id, '[{"role":"user","content":"1"}]')) a`;
      for (let depth = 1; depth < 1000; depth++) {
        const [{ f }] = await tx`select fork_conversation(${id}, ${depth}) ->> 'id' as f`;
        await tx`select append_messages(${f}, ${tx.json([{ role: "user", content: `${depth + 1}` }])})`;
        id = f;
      }
      const buffers = async (query: string) => {
        const [row] = await tx.unsafe(`explain (analyze, buffers, format json) ${query}`);
        return row["QUERY PLAN"][0].Plan["Shared Hit Blocks"] as number;
      };
      const newest = await buffers(`select list_messages('${id}', p_limit => 20, p_order => 'desc')`);
      const whole = await buffers(`select list_messages('${id}', p_limit => 1000)`);
      const [{ page }] = await tx`select list_messages(${id}, p_limit => 1000) as page`;
      assertEquals(
        page.data.map((m: { content: string }) => m.content),
        Array.from({ length: 1000 }, (_, i) => `${i + 1}`),
      );
      assert(newest < whole / 10, `${newest} blocks for the newest 20, ${whole} for all`);
      throw done;
    });
  } catch (error) {
    if (error !== done) throw error;
  } finally {
    await sql.end();
  }
});
