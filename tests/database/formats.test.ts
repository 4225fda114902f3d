// What SQL and TypeScript both know of formats, they know alike.
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { FORMATS, RULES } from "../../supabase/functions/_shared/formats/formats.ts";
import { fromItem, isOpenAiId, PREFIXES, toItem } from "../../supabase/functions/_shared/formats/responses.ts";
import { THINGS } from "../support/matrix.ts";
import { connect } from "../support/stack.ts";

Deno.test("what a format leaves out of a context is one table", async () => {
  await using sql = { db: connect(), [Symbol.asyncDispose]: () => sql.db.end() };
  const types = ["reasoning", "thinking", "thought", "reasoning_text", "compaction"] as const;
  const [{ out }] = await sql.db`
    select jsonb_object_agg(t || ' ' || f, private.format_leaves_out(t, f)) as out
    from unnest(${types as unknown as string[]}::text[]) t, unnest(${["message", ...FORMATS]}::text[]) f`;
  for (const type of types) {
    assertEquals(out[`${type} message`], false);
    for (const format of FORMATS) {
      assertEquals(out[`${type} ${format}`], RULES[type][format] === "out", `${type} ${format}`);
    }
  }
  for (const [type, rules] of Object.entries(RULES)) {
    if (types.includes(type as never) || type === "shown") continue;
    assertEquals(Object.values(rules).includes("out"), false, `${type} is what somebody said`);
  }
});

Deno.test("an item is the same columns and comes back the same, by the OpenAI API and by the conversations API", async () => {
  await using sql = { db: connect(), [Symbol.asyncDispose]: () => sql.db.end() };
  const json = fc.jsonValue({ maxDepth: 2 });
  const items = [
    ...THINGS.map(({ item }) => item),
    ...fc.sample(
      fc.tuple(
        fc.constantFrom(...THINGS.map(({ item }) => item)),
        fc.dictionary(
          fc.constantFrom("id", "type", "role", "status", "name", "content", "output", "call_id", "arguments"),
          json,
          {
            noNullPrototype: true,
            maxKeys: 2,
          },
        ),
      ).map(([item, wrong]) => ({ ...item, ...wrong })),
      { numRuns: 2000, seed: 20261128 },
    ),
    // What Postgres cannot store is escaped before it gets there.
  ].filter((item) => !/\\u0000|\\ud[89a-f]/i.test(JSON.stringify(item)));
  const rows = await sql.db`
    select i.value as item, m.value as message, private.items_from_message(r) -> 0 as again
    from jsonb_array_elements(${JSON.stringify(items)}::text::jsonb) with ordinality as i (value, n)
    cross join lateral (select private.message_from_item(i.value)) m (value)
    cross join lateral jsonb_populate_record(null::conversation_messages, m.value) r
    order by i.n`;
  const present = (row: object) => Object.fromEntries(Object.entries(row).filter(([, value]) => value != null));
  for (const { item, message, again } of rows) {
    assertEquals(JSON.parse(JSON.stringify(present(fromItem(item)))), present(message), JSON.stringify(item));
    assertEquals(JSON.parse(JSON.stringify(toItem(message))), again, JSON.stringify(item));
  }
});

Deno.test("which ids OpenAI takes is one rule", async () => {
  await using sql = { db: connect(), [Symbol.asyncDispose]: () => sql.db.end() };
  const types = [...Object.keys(PREFIXES), "thing_of_tomorrow"];
  const ids = Object.values(PREFIXES).flatMap((
    prefix,
  ) => [prefix, `${prefix}1`, prefix.slice(0, 2), `${prefix}ü`, prefix + "x".repeat(64)]);
  const rows = await sql.db`
    select t as type, private.item_prefix(t) as prefix, array_agg(private.is_openai_id(i.id, t) order by i.n) as taken
    from unnest(${types}::text[]) t, unnest(${ids}::text[]) with ordinality i (id, n)
    group by t`;
  assertEquals(rows.length, types.length);
  for (const { type, prefix, taken } of rows) {
    assertEquals(prefix ?? undefined, PREFIXES[type], type);
    assertEquals(taken, ids.map((id) => isOpenAiId(id, type)), type);
  }
});
