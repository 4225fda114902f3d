// What Postgres cannot store: what becomes of it on the way there, and on the way back.
import { assert, assertEquals } from "@std/assert";
import { fromDatabase } from "../../supabase/functions/_shared/errors.ts";
import {
  escapeJson,
  RawJson,
  unescapeJson,
  unescapingStream,
  unstorable,
} from "../../supabase/functions/_shared/json.ts";
import { toExportPage } from "../../supabase/functions/_shared/ndjson.ts";

const RUNS = 10_000;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

const stored = (value: unknown) => decoder.decode(escapeJson(JSON.stringify(value)));
const read = (json: string) => decoder.decode(unescapeJson(encoder.encode(json)));

/** What is told apart wrongly if anything is: the characters themselves, what stands for them, and what looks like that. */
const PIECES = [
  ...["\0", "\ud83e", "\uddf5", "\ud800", "\udfff", "🧵", "\ufdd0", "\ufdd1", "\ufdd00000", "\ufdd0fdd0"],
  ...["0000", "d83e", "fdd0", "D83E", "u", "u0000", "\\", "\\\\", "\\u0000", "\\ud83e", "\\ufdd0"],
  ...['"', "{", ",", "\n", "\u0001", "a", "é", "数，据", "\ufeff"],
];

/** https://en.wikipedia.org/wiki/Xorshift */
function generator(seed: number) {
  let state = seed | 1;
  const below = (n: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
  const text = () => Array.from({ length: below(12) }, () => PIECES[below(PIECES.length)]).join("");
  const json = (depth = 0): unknown => {
    const kind = below(depth < 3 ? 7 : 4);
    if (kind < 4) return text();
    if (kind === 4) return [null, true, -1.5, 0][below(4)];
    const members = Array.from({ length: below(4) }, () => json(depth + 1));
    return kind === 5 ? members : Object.fromEntries(members.map((member) => [text(), member]));
  };
  return { below, text, json };
}

const seed = Number(Deno.env.get("SEED") ?? Date.now() % 2 ** 31);
console.log(`SEED=${seed}`);

/** Every string of a value, names of fields included. */
function* strings(value: unknown): Generator<string> {
  if (typeof value === "string") yield value;
  else if (Array.isArray(value)) { for (const element of value) yield* strings(element); }
  else if (typeof value === "object" && value !== null) {
    for (const [name, member] of Object.entries(value)) yield* (yield name, strings(member));
  }
}

Deno.test(`${RUNS} random values are equal again, and Postgres can store what they become`, () => {
  const { json } = generator(seed);
  let changed = 0;
  for (let run = 0; run < RUNS; run++) {
    const value = json();
    const there = stored(value);
    for (const text of strings(JSON.parse(there))) {
      assert(text.isWellFormed() && !text.includes("\0"), `SEED=${seed} ${JSON.stringify(value)}`);
    }
    assertEquals(JSON.stringify(JSON.parse(read(there))), JSON.stringify(value), `SEED=${seed}`);
    // Postgres prints jsonb anew: with a space behind each colon and comma.
    const printed = JSON.stringify(JSON.parse(there), null, 1);
    assertEquals(JSON.stringify(JSON.parse(read(printed))), JSON.stringify(value), `SEED=${seed}`);
    if (there !== JSON.stringify(value)) changed++;
  }
  assert(changed > RUNS / 4 && changed < RUNS, `${changed} had to be changed`);
});

Deno.test(`${RUNS} random texts that somebody has stored by /rest/v1 are read by one rule, and none is an error`, () => {
  const { text } = generator(seed + 1);
  for (let run = 0; run < RUNS; run++) {
    const there = text().toWellFormed().replaceAll("\0", "");
    const expected = there.replace(
      /\ufdd0(0000|d[89a-f][0-9a-f]{2}|fdd0)/g,
      (_, digits) => String.fromCharCode(parseInt(digits, 16)),
    );
    assertEquals(JSON.parse(read(JSON.stringify(there))), expected, `SEED=${seed} ${JSON.stringify(there)}`);
  }
});

Deno.test("U+FDD0 alone, or before anything but the digits of what is escaped, is itself", () => {
  for (
    const text of [
      "\ufdd0",
      "\ufdd0000",
      "\ufdd00001",
      "\ufdd0d7ff",
      "\ufdd0e000",
      "\ufdd0D83E",
      "\ufdd0FDD0",
      "\ufdd0fdd1",
    ]
  ) {
    assertEquals(JSON.parse(read(JSON.stringify(text))), text);
    assertEquals(JSON.parse(read(stored(text))), text, "and comes back as it is when it is written again");
  }
  assertEquals(JSON.parse(read('"\ufdd0\ufdd00000\ufdd0d8"')), "\ufdd0\0\ufdd0d8");
  assertEquals(JSON.parse(read('"\ufdd0d83e\ufdd0ddf5"')), "🧵");
  // Cut off in the middle of a character: nothing reads beyond the end.
  for (const json of ['"\ufdd0000', '"\ufdd0']) {
    const cut = encoder.encode(json);
    for (let end = 0; end <= cut.length; end++) assertEquals(unescapeJson(cut.slice(0, end)), cut.slice(0, end));
  }
});

Deno.test("what needs no escape is passed on as it is", () => {
  for (const json of ["{}", '{"a":"\\\\u0000 \\\\\\\\ud83e 🧵，\\n"}', '"\\ud7ff\\ue000\\u0001"', '"，\ufdd1\ufeff"']) {
    assertEquals(decoder.decode(escapeJson(json)), json);
    const bytes = encoder.encode(json);
    assertEquals(unescapeJson(bytes).length, bytes.length);
    assertEquals(decoder.decode(unescapeJson(bytes)), json);
  }
  assertEquals(escapeJson('"\\\\\\u0000\\\\u0000"'), encoder.encode('"\\\\\ufdd00000\\\\u0000"'));
});

Deno.test(`JSON in a string of JSON is JSON again: a page of an export, the details of an error`, () => {
  const { json } = generator(seed + 2);
  for (let run = 0; run < RUNS / 10; run++) {
    const values = [json(), json()];
    const page = JSON.stringify({ next: null, lines: values.map((value) => stored(value)).join("\n"), messages: 2 });
    const { lines: bytes, counts } = toExportPage(new RawJson(unescapeJson(encoder.encode(page))));
    const lines = decoder.decode(bytes);
    assertEquals(
      lines.split("\n").map((line) => JSON.stringify(JSON.parse(line))),
      values.map((v) => JSON.stringify(v)),
    );
    assertEquals(counts, { messages: 2 });
  }
  const details = [{ path: "filters.a\0\ud83e.$foo", message: "No." }];
  const answer = JSON.parse(read(JSON.stringify({ details: stored(details) })));
  const error = { code: "PT400", message: "invalid_request", ...answer };
  assertEquals(fromDatabase(error, 400).extra.details, details);
});

Deno.test("in whatever pieces it comes, it is the same", async () => {
  const { below, json } = generator(seed + 3);
  for (let run = 0; run < RUNS / 10; run++) {
    const there = escapeJson(JSON.stringify([json(), "\ufdd0", "，", json(), run % 2 ? "\0" : "\ufdd0d83e"]));
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    for (let at = 0; at < there.length;) {
      const end = at + below(run % 3 ? 9 : 60);
      pieces.push(there.slice(at, end));
      at = end;
    }
    const came = await new Response(ReadableStream.from(pieces).pipeThrough(unescapingStream())).bytes();
    assertEquals(decoder.decode(came), read(decoder.decode(there)), `SEED=${seed}`);
  }
  for (const end of ["，", "\ufdd0", "\ufdd0000"]) {
    const came = ReadableStream.from([encoder.encode(end)]).pipeThrough(unescapingStream());
    assertEquals(await new Response(came).text(), end, "and ends with what it ends with");
  }
});

Deno.test("what names something is looked at for each of them", () => {
  for (const text of ["", "a", "🧵", "\ufdd1", "\ud7ff\ue000", "\u0001"]) assertEquals(unstorable(text), undefined);
  for (
    const [text, named] of [["a\0", "NUL"], ["\ud83e", "surrogate"], ["\uddf5🧵", "surrogate"], ["\ufdd0", "U+FDD0"]]
  ) {
    assert(unstorable(text)?.includes(named), named);
  }
});
