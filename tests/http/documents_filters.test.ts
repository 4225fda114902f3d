// Random documents and filters against the meaning of filters in TypeScript (tests/support/filters.ts), and hostile ones.
import { assert, assertEquals } from "@std/assert";
import { canonical, type Document, inOrder, type Json, matches } from "../support/filters.ts";
import { connect, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();

/** Mulberry32: the same numbers for the same seed. */
function randomFrom(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let n = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    n = (n + Math.imul(n ^ (n >>> 7), 61 | n)) ^ n;
    return ((n ^ (n >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Values that meet each other often, and differ where they look alike: 1, "1", true and "true"; é in both its forms. */
const NUMBERS = [-1, 0, 1, 1.5, 2, 10, 0.1, 123456789.125, -1e-7, 9007199254740991];
const STRINGS = [
  "",
  "a",
  "A",
  "aa",
  "b",
  "1",
  "true",
  "null",
  "é",
  "e\u0301",
  "日本",
  "😀",
  "\uffee",
  "a%b",
  "a_b",
  "\\",
  "'",
  '"',
  "{}",
];
const FIELDS = ["a", "b", "text", "n.x", "n.y.z", "tags", "tags.0", "n.list.1", "", "日本", "it's", "__proto__", "n"];
const COLUMNS = ["id", "version", "creation_utc"];
const ID_PREFIXES = ["", "Z", "z", "é", "😀", "a|b", "1"];

class Generator {
  constructor(private readonly random: () => number) {}

  int = (below: number): number => Math.floor(this.random() * below);
  pick = <T>(values: readonly T[]): T => values[this.int(values.length)];
  some = <T>(max: number, make: () => T): T[] => Array.from({ length: this.int(max + 1) }, make);

  scalar(): Json {
    return this.pick([
      () => this.pick(NUMBERS),
      () => this.pick(STRINGS),
      () => this.pick(STRINGS) + this.pick(STRINGS),
      () => this.pick([true, false]),
      () => null,
    ])();
  }

  value(depth = 2): Json {
    if (depth === 0 || this.random() < 0.7) return this.scalar();
    if (this.random() < 0.5) return this.some(3, () => this.value(depth - 1));
    return Object.fromEntries(this.some(3, () => [this.pick(["x", "y", "z", "list"]), this.value(depth - 1)]));
  }

  document(n: number): Document {
    const fields: [string, Json][] = [
      ["a", this.scalar()],
      ["b", this.value()],
      ["text", this.pick(STRINGS) + this.pick(STRINGS)],
      [
        "n",
        this.pick([this.value(), {
          x: this.scalar(),
          y: { z: this.scalar() },
          list: this.some(3, () => this.scalar()),
        }]),
      ],
      ["tags", this.pick([this.value(), this.some(3, () => this.pick(STRINGS))])],
      ["", this.scalar()],
      ["日本", this.scalar()],
      ["it's", this.value()],
      ["__proto__", this.value()],
    ];
    return Object.fromEntries([
      ...fields.filter(() => this.random() < 0.75),
      ["id", `${this.pick(ID_PREFIXES)}#${n}`],
      ...(this.random() < 0.8 ? [["version", this.pick(["0.1.0", "0.2.0", ""])]] : []),
      ["creation_utc", this.creationUtc()],
    ]) as Document;
  }

  /** Few, so that ids break ties, and the same ones in several spellings. */
  creationUtc(): string {
    const time = new Date(Date.UTC(2026, 0, 1, 0, this.int(60), 0, this.pick([0, 0, 5, 120]))).toISOString();
    const elsewhere = new Date(Date.parse(time) + 2 * 3_600_000).toISOString();
    return this.pick([
      time,
      time.replace("Z", "+00:00"),
      time.replace("T", " ").replace("Z", "+00"),
      elsewhere.replace("Z", "+02:00"),
    ]);
  }

  condition(documents: Document[]): [string, Json] {
    const isColumn = this.random() < 0.15;
    const field = this.pick(isColumn ? COLUMNS : FIELDS);
    const value = (): Json => {
      if (isColumn && this.random() < 0.8) return this.pick(documents)[field] ?? null;
      return this.random() < 0.2 ? this.value() : this.scalar();
    };
    if (this.random() < 0.15) return [field, value()];
    const text = () => this.pick(STRINGS.filter((part) => part !== "\\"));
    const operators: Record<string, () => Json> = {
      $eq: value,
      $ne: value,
      $gt: () => value() ?? 1,
      $gte: () => value() ?? "a",
      $lt: () => value() ?? true,
      $lte: () => value() ?? 2,
      $in: () => this.some(6, value),
      $nin: () => this.some(6, value),
      $exists: () => this.random() < 0.5,
      $contains: value,
      $like: () => this.pick(["%", "_", "", "a%", "\\%%", "\\\\"]) + text() + this.pick(["%", "_", ""]),
    };
    const names = Object.keys(operators);
    const condition = Object.fromEntries(
      [this.pick(names), ...this.some(1, () => this.pick(names))].map((name) => [name, operators[name]()]),
    );
    for (const name of ["$gt", "$gte", "$lt", "$lte"]) {
      if (typeof condition[name] === "object") condition[name] = this.pick(NUMBERS);
    }
    return [field, condition];
  }

  filter(documents: Document[], depth = 4): Json {
    const isEmpty = () => this.random() < 0.05;
    const parts = (max: number) => isEmpty() ? 0 : 1 + this.int(max);
    const conditions: [string, Json][] = [];
    if (depth > 0 && this.random() < 0.7) {
      const alternatives = Array.from({ length: parts(3) }, () => this.filter(documents, depth - 1));
      conditions.push([this.random() < 0.75 ? "$or" : "$and", alternatives]);
    }
    if (conditions.length === 0 || this.random() < 0.3) {
      for (let n = parts(2); n > 0; n--) conditions.push(this.condition(documents));
    }
    return Object.fromEntries(conditions);
  }
}

/** Runs the tasks, a few at a time. */
async function inParallel<T>(tasks: T[], run: (task: T) => Promise<void>): Promise<void> {
  const queue = tasks.values();
  await Promise.all(Array.from({ length: 4 }, async () => {
    for (const task of queue) await run(task);
  }));
}

Deno.test("ten thousand random documents: every filter finds what it means, page by page, in both directions", async () => {
  const seed = Math.floor(Math.random() * 1e9);
  const generator = new Generator(randomFrom(seed));
  let found = 0;
  let between = 0;
  for (let round = 0; round < 10; round++) {
    const collection = `oracle_${uuid()}`;
    const documents = inOrder(Array.from({ length: 1000 }, (_, n) => generator.document(n)));
    const texts = new Map(documents.map((document) => [document.id, canonical(document)]));
    const inserted = await alice.request("POST", `/documents/${collection}/insert_many`, {
      body: { documents: documents.toSorted((a, b) => a.id < b.id ? -1 : 1) },
    });
    assertEquals(inserted.status, 201, JSON.stringify(inserted.body).slice(0, 500));

    const queries = Array.from({ length: 20 }, () => {
      let filters = generator.filter(documents);
      // Some would have more conditions than a filter may.
      while (JSON.stringify(filters).length > 2500) filters = generator.filter(documents);
      return { filters, parts: 1 + generator.int(4), sort: generator.pick(["asc", "desc"]) };
    });
    await inParallel(
      queries.flatMap((query) => [query, { ...query, sort: query.sort === "asc" ? "desc" : "asc" }]),
      async ({ filters, parts, sort }) => {
        const expected = documents.filter((document) => matches(filters, document));
        if (sort === "desc") expected.reverse();
        const limit = Math.max(1, Math.ceil(expected.length / parts));
        const where = () => `seed ${seed}, ${sort}, ${JSON.stringify(filters)}`;
        if (expected.length > 0 && expected.length < documents.length) between++;
        let cursor: string | null = null;
        for (let start = 0; start === 0 || start < expected.length; start += limit) {
          const { status, body } = await alice.request("POST", `/documents/${collection}/find`, {
            body: { filters, limit, cursor, sort },
          });
          assertEquals(status, 200, `${where()} ${JSON.stringify(body)}`);
          const page = expected.slice(start, start + limit);
          assertEquals(body.items.map(canonical), page.map(({ id }) => texts.get(id)), where());
          const hasMore = start + limit < expected.length;
          assertEquals([body.total_count, body.has_more, body.next_cursor !== null], [
            expected.length,
            hasMore,
            hasMore,
          ], where());
          found += page.length;
          cursor = body.next_cursor;
        }
      },
    );
  }
  // The controls: filters that find something and not everything are many.
  assert(found > 5_000, `${found} documents found`);
  assert(between > 100, `${between} of 400 queries found some`);
});

const HOSTILE = [
  "'",
  "''",
  '"',
  "\\",
  "\\'",
  "$$",
  "$1",
  "$2",
  "%",
  "%s",
  "%1$s",
  "%L",
  "--",
  "/*",
  "*/",
  ";",
  "'; drop table public.documents; --",
  "'); delete from public.documents; --",
  "' or '1'='1",
  '" or 1=1 --',
  "x' or true) --",
  "' union select * from auth.users --",
  "'||(select pg_sleep(10))||'",
  "$$; select pg_sleep(10); $$",
  "{}",
  "{a,b}",
  '{"a"',
  "a,b",
  "{",
  "}",
  "[0]",
  "null",
  "NULL",
  "\n",
  "\r\n",
  "\t",
  "\u0001",
  "\u2028",
  "\ufeff",
  "é",
  "😀",
  "__proto__",
  "constructor",
  "id",
  "id.x",
  "data",
  "owner_id",
  "documents.owner_id",
  "a..b",
  ".",
  "..",
  "a.",
  ".a",
  "-1",
  "+1",
  "0",
  "1e400",
  "tags.-1",
  "00000000-0000-0000-0000-000000000000",
  "E'\\x41'",
  "U&'\\0041'",
  "x".repeat(255),
  "'".repeat(256),
  "\\".repeat(99),
  "%".repeat(500),
  "a%".repeat(499),
];

Deno.test("hostile strings are data wherever they stand: none is an error of ours, another's row, or executed", async () => {
  const collection = `hostile_${uuid()}`;
  const mallory = await signUp();
  const secret = uuid();
  await alice.request("POST", `/documents/${collection}/insert_one`, { body: { document: { id: secret, secret } } });
  const find = (body: unknown) => mallory.request("POST", `/documents/${collection}/find`, { body });

  await inParallel(HOSTILE, async (text) => {
    const everywhere = {
      $eq: text,
      $ne: text,
      $gt: text,
      $gte: text,
      $lt: text,
      $lte: text,
      $contains: text,
      $in: [text],
    };
    const bodies = [
      { filters: { $or: [{ a: everywhere }, { a: { ...everywhere, $nin: [[text], { [text]: text }] } }] } },
      {
        filters: {
          $or: [text, `a.${text}`, `${text}.b`].map((field) => ({ [field]: { ...everywhere, $exists: false } })),
        },
      },
      { filters: { a: { $like: text } } },
      { filters: { a: { $exists: text } } },
      { filters: { a: { [text]: 1 } } },
      { filters: { a: { [`$${text}`]: 1 } } },
      { filters: { [`$${text}`]: [] } },
      { filters: { a: { $contains: { [text]: { [text]: [text] } } } } },
      { filters: { $or: [{ $and: [{ [text]: text }] }] } },
      { filters: { $or: text } },
      { filters: { id: { $in: [text, 1] } } },
      { filters: { $or: [{ id: text }, { id: { $eq: text } }] } },
      { filters: text },
      { filters: {}, cursor: text },
      { filters: {}, cursor: btoa(`2026-01-01|${encodeURIComponent(text)}`) },
      { filters: {}, cursor: btoa(`${encodeURIComponent(text)}|x`) },
      { filters: {}, sort: text },
      { filters: {}, [text]: 1 },
    ];
    for (const body of bodies) {
      const answer = await find(body);
      assert([200, 400].includes(answer.status), `${answer.status} for ${JSON.stringify(body)}`);
      assert(answer.body.items === undefined || answer.body.items.length === 0, JSON.stringify(body));
      assert(!JSON.stringify(answer.body).includes(secret));
    }
    const sorted = await mallory.request("POST", `/documents/${collection}/find_one`, {
      body: { filters: {}, sort: [{ field: text, direction: "desc" }, { field: `${text}.${text}`.slice(0, 256) }] },
    });
    assertEquals([sorted.status, sorted.body.document], text.length <= 256 ? [200, null] : [400, undefined], text);
    const named = await mallory.request("POST", `/documents/${encodeURIComponent(text)}/find`, { body: {} });
    assert([200, 400, 404].includes(named.status), `${named.status} for ${text}`);
  });

  const { body } = await alice.request("POST", `/documents/${collection}/find`, { body: {} });
  assertEquals(body.items.map(({ id }: Document) => id), [secret], "all is where it was");
});

Deno.test("hostile strings come back as they went in, and are found by their names and values", async () => {
  const collection = `hostile_${uuid()}`;
  // What a filter cannot name: a dot is a path, a dollar an operator, and an id means something.
  const plain = HOSTILE.filter((text) => !/\.|^\$|^id$/.test(text) && text.length <= 200);
  const documents = plain.map((text, n) => ({
    id: `${n}${text}`.slice(0, 256),
    [text]: text,
    nested: { [text]: [text, { [text]: 1 }] },
  }));
  const inserted = await alice.request("POST", `/documents/${collection}/insert_many`, { body: { documents } });
  assertEquals(inserted.status, 201);
  await inParallel(documents.map((document, n) => ({ document, text: plain[n] })), async ({ document, text }) => {
    for (
      const filters of [
        { id: document.id },
        { [text]: text, id: document.id },
        { [text]: { $gte: text, $in: [text], $exists: true }, id: { $in: [document.id] } },
        { [`nested.${text}.0`]: text, id: document.id },
        { [`nested.${text}`]: { $contains: text }, id: document.id },
        { [`nested.${text}.1.${text}`]: { $gt: 0 }, id: document.id },
      ]
    ) {
      const { body } = await alice.request("POST", `/documents/${collection}/find`, { body: { filters } });
      assertEquals(
        body.items?.map(({ creation_utc: _, ...rest }: Document) => canonical(rest)),
        [canonical(document)],
        JSON.stringify(filters),
      );
    }
  });
});

Deno.test("a malformed filter is 400 with the path of what is wrong in it", async () => {
  const nested = (depth: number): Json => depth === 0 ? { a: 1 } : { $or: [nested(depth - 1)] };
  for (
    const [filters, path] of [
      [{ age: { $foo: 1 } }, "filters.age.$foo"],
      [{ $or: [{ a: 1 }, { age: { $foo: 1 } }] }, "filters.$or[1].age.$foo"],
      [{ $nor: [] }, "filters.$nor"],
      [{ $eq: 1 }, "filters.$eq"],
      [{ $and: {} }, "filters.$and"],
      [{ $or: [1] }, "filters.$or[0]"],
      [{ $and: [{ $or: [null] }] }, "filters.$and[0].$or[0]"],
      [{ a: { $in: 1 } }, "filters.a.$in"],
      [{ a: { $nin: {} } }, "filters.a.$nin"],
      [{ a: { $in: Array(1001).fill(1) } }, "filters.a.$in"],
      [{ a: { $exists: 1 } }, "filters.a.$exists"],
      [{ a: { $like: 1 } }, "filters.a.$like"],
      [{ a: { $like: "a\\" } }, "filters.a.$like"],
      [{ a: { $gt: null } }, "filters.a.$gt"],
      [{ a: { $lte: [1] } }, "filters.a.$lte"],
      [{ "a.b": { $gt: 1, c: 2 } }, "filters.a.b"],
      [{ ["x".repeat(257)]: 1 }, `filters.${"x".repeat(257)}`],
      [[], "filters"],
      ["a", "filters"],
      [{ a: "x".repeat(70_000) }, "filters"],
      [nested(17), `filters${".$or[0]".repeat(16)}.$or`],
    ] as [Json, string][]
  ) {
    const { status, body } = await alice.request("POST", "/documents/none/find", { body: { filters } });
    assertEquals(
      [status, body.code, body.details?.[0]?.path],
      [400, "invalid_request", path],
      JSON.stringify(filters).slice(0, 200),
    );
  }
  for (
    const filters of [nested(16), { a: {} }, { a: { b: { c: 1 } } }, { a: { $in: Array(1000).fill("x") } }, { "": 1 }]
  ) {
    const { status } = await alice.request("POST", "/documents/none/find", { body: { filters } });
    assertEquals(status, 200, JSON.stringify(filters).slice(0, 200));
  }
  const deep = JSON.parse(`{"a":`.repeat(5000) + "1" + "}".repeat(5000));
  assertEquals((await alice.request("POST", "/documents/none/find", { body: { filters: deep } })).status, 400);
});

Deno.test("no value of a filter is part of the statement it becomes, and a name only as a quoted literal", async () => {
  const sql = connect();
  const text = "needle'; --";
  const filters = {
    plain: text,
    $or: [{ id: text }, { id: { $in: [text] } }, {
      $and: [{ other: { $like: text, $gt: text, $ne: text, $contains: text } }],
    }],
  };
  const [{ compiled }] = await sql`select private.compile_filters(${JSON.stringify(filters)}::text::jsonb) as compiled`;
  const [{ named }] = await sql`select private.compile_filters(${JSON.stringify({ [text]: 1 })}::text::jsonb) as named`;
  await sql.end();
  assert(!compiled.includes("needle"), compiled);
  assert(named.includes(`'{"needle''; --"}'`), named);
});
