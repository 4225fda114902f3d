// JSON as bytes: what is seen of it before it is parsed, and what is taken out of it without.
import { assert, assertEquals } from "@std/assert";
import {
  countMembers,
  findDuplicate,
  joinJson,
  MAX_DEPTH,
  MAX_NAMES,
  MAX_VALUES,
  RawJson,
  shapeOf,
} from "../../supabase/functions/_shared/json.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const raw = <T>(text: string) => new RawJson<T>(bytes(text));

Deno.test("the shape of JSON: how deep it is, how many values and different names it has", () => {
  for (
    const [text, depth, values, names] of [
      ["", 0, 0, 0],
      ["1", 0, 1, 0],
      ["[]", 0, 1, 0],
      ['[1,"a",null,true,false,-1.5e3]', 0, 7, 0],
      ['{"a":{"b":[{}]},"c":"\\":[{"}', 3, 5, 0],
      [" [ 1 , [ 2 ,\n[ ] ] ] ", 2, 5, 0],
      ['"\\\\","[[["', 0, 2, 0],
    ] as const
  ) {
    const shape = shapeOf(bytes(text));
    assertEquals([shape.depth, shape.values], [depth, values], text);
    assert(shape.names >= names);
  }
  const names = (count: number, from = 0) =>
    `{${Array.from({ length: count }, (_, i) => `"name ${i + from}":${i}`).join(",")}}`;
  const counted = shapeOf(bytes(names(10_000))).names;
  assert(counted > 9000 && counted <= 10_000, `${counted}`);
  const repeated = shapeOf(bytes(`[${Array(20).fill(names(500)).join(",")}]`)).names;
  assert(repeated > 490 && repeated <= 500, `${repeated}`);
});

Deno.test("it ends early at JSON that is more than may be", () => {
  const million = "0,".repeat(1_000_000);
  assertEquals(shapeOf(bytes(million)).values, MAX_VALUES + 1);
  assertEquals(shapeOf(bytes(million), 7).values, 8);
  assertEquals(shapeOf(bytes("[".repeat(1_000_000))).depth, MAX_DEPTH + 1);
  assertEquals(shapeOf(bytes(`{${Array.from({ length: 100_000 }, (_, i) => `"${i}":0`)}}`)).names, MAX_NAMES + 1);
});

Deno.test("numbers that may not be kept exactly are suspected, and little else", () => {
  for (const text of ["9007199254740993", "[1e400]", "-1E5", "123456789012345678"]) {
    assert(shapeOf(bytes(text)).suspicious, text);
  }
  for (
    const text of [
      '"\\u00e9"',
      '"\\ud55c"',
      '"\\u0000\\ud83e\\uDFFF"',
      "900719925474099",
      "[true,false,null]",
      '"9007199254740993"',
      '"🧵 1e400 \\\\u0000"',
    ]
  ) assert(!shapeOf(bytes(text)).suspicious, text);
});

Deno.test("a name that an object has twice is found, however it is written, and no other", () => {
  for (
    const [text, path] of [
      ['{"a":1,"a":2}', ["a"]],
      ['{"a":{"b":[0,{"c":":{","d":1},{"c":1,"c" : 2}]}}', ["a", "b", 2, "c"]],
      ['[[],[1,2,{"\\u0061":1,"b":{},"a":2}]]', [1, 2, "a"]],
      ['{"__proto__":1,"__proto__":{"a":1}}', ["__proto__"]],
      ['{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"":"a:","c":"\\"a\\":"}', undefined],
      ['{"1":{},"01":{},"constructor":1,"toString":2,"__proto__":3}', undefined],
      ['"a:a:a"', undefined],
    ] as [string, PropertyKey[] | undefined][]
  ) {
    assertEquals(findDuplicate(bytes(text)), path, text);
    assertEquals(countMembers(JSON.parse(text)) < shapeOf(bytes(text)).members, path !== undefined, text);
  }
});

Deno.test("members and elements are found by brackets and quotes, whatever stands in them", () => {
  for (
    const value of [
      {},
      { a: 1 },
      { data: [1, { "x,y": "]}" }, []], has_more: false, 'ключ "\\ \n': "\\", empty: {}, "": null },
      { nested: { "}": "{", "[": ['\\"', "🧵,"] }, text: 'a","b":[' },
    ]
  ) {
    for (const text of [JSON.stringify(value), JSON.stringify(value, null, 2), ` ${JSON.stringify(value)}\n`]) {
      const members = raw<Record<string, unknown>>(text).members();
      assertEquals(
        Object.fromEntries(Object.entries(members).map(([name, json]) => [name, json.parse()])),
        value,
        text,
      );
      assertEquals(joinJson<Record<string, unknown>>(members).parse(), value);
    }
  }
  for (const value of [[], [1], ["a", ["b", []], {}, "]", ","], [[[]]], [null, " "]]) {
    for (const text of [JSON.stringify(value), JSON.stringify(value, null, 2)]) {
      assertEquals<unknown>(raw<unknown[]>(text).elements().map((json) => json.parse()), value, text);
    }
  }
  assertEquals(raw<{ n: number }>('{"n" : 12 }').members().n.toString(), "12");
});

Deno.test("an object is joined of what is JSON already and what is not, without what is undefined", () => {
  const joined = joinJson<{ data: number[]; next_cursor: string | null; left_out?: number; 'a "b"': null }>({
    data: raw("[1, 2]"),
    next_cursor: 'x"',
    left_out: undefined,
    'a "b"': null,
  });
  assertEquals(joined.toString(), '{"data":[1, 2],"next_cursor":"x\\"","a \\"b\\"":null}');
  assertEquals(joinJson({}).toString(), "{}");
});
