import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import type { Document, Json } from "../support/filters.ts";
import { type Answer, backend, connect, newClient, patiently, secretKey, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();

/** A collection of its own for each test: `call("find", { filters })`. */
function newCollection(request = alice.request, name = `c_${uuid()}`) {
  const call = (verb: string, body: unknown = {}, headers = {}) =>
    request("POST", `/documents/${name}/${verb}`, { body, headers });
  return { name, call, insert: (...documents: Json[]) => call("insert_many", { documents }) };
}

const ids = ({ body }: Answer): string[] => body.items.map((document: Document) => document.id);
/** The n-th second of a day, as Python's isoformat() writes it. */
const at = (n: number) =>
  `2026-01-01T00:${String(Math.floor(n / 60)).padStart(2, "0")}:${String(n % 60).padStart(2, "0")}+00:00`;

// ---- documents ------------------------------------------------------------------------------------------------------

Deno.test("a document is answered as it was inserted", async () => {
  const { call } = newCollection();
  const text =
    `{"id": "d1", "version": "0.8.0", "creation_utc": "2026-01-01T12:00:00.000001+02:00", "__proto__": {"a": 1},
    "constructor": null, "": [], "nested": {"id": 5, "version": null, "a.b": [1, 1.5, -0.1, 1e-7, true, null, {}]},
    "text": "é\\u0001 \\ud83d\\ude00 ' \\" \\\\ $1", "owner_id": "mine", "data": {"sort_at": 1}}`;
  const { status, body } = await call("insert_one", `{"document": ${text}}`);
  assertEquals([status, body.document], [201, JSON.parse(text)]);
  assertEquals((await call("find_one", { filters: { id: "d1" } })).body.document, JSON.parse(text));
  assertEquals((await call("find")).body.items, [JSON.parse(text)]);
});

Deno.test("what a document does not say of itself: an id, the time, no version", async () => {
  const { call, insert } = newCollection();
  const { body } = await insert({ n: 1 }, { n: 2 }, { n: 3 });
  for (const { id, creation_utc, ...rest } of body.documents) {
    assertMatch(id, /^[0-9a-f-]{36}$/);
    assertMatch(creation_utc, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/);
    assertEquals(Object.keys(rest), ["n"]);
  }
  assertEquals((await call("find")).body.items, body.documents, "in the order of the batch");
});

Deno.test("what cannot be stored is 400 with its path, and nothing is", async () => {
  const { call, insert } = newCollection();
  for (
    const [document, path] of [
      [{ id: 5 }, "id"],
      [{ id: "" }, "id"],
      [{ id: null }, "id"],
      [{ id: "x".repeat(257) }, "id"],
      [{ version: 1 }, "version"],
      [{ version: null }, "version"],
      [{ creation_utc: "yesterday" }, "creation_utc"],
      [{ creation_utc: "2026-02-30T00:00:00Z" }, "creation_utc"],
      [{ creation_utc: 1767225600 }, "creation_utc"],
      [{ version: "\0" }, "version"],
      [[], ""],
      [null, ""],
    ] as [Json, string][]
  ) {
    const { status, body } = await insert({ id: "good" }, document);
    assertEquals([status, body.code], [400, "invalid_request"], JSON.stringify(document));
    assertEquals(body.details[0].path, ["documents[1]", path].filter(Boolean).join("."));
  }
  for (const documents of [[], Array(1001).fill({}), {}, null]) {
    assertEquals((await call("insert_many", { documents })).status, 400);
  }
  assertEquals((await call("insert_one", { document: {}, other: 1 })).body.details[0].path, "other");
  assertEquals((await call("find")).body.total_count, 0);
  assertEquals((await insert({ id: "good" })).status, 201);
});

Deno.test("an id is there once in a collection of an owner: 409, and nothing of the batch is stored", async () => {
  const bob = await signUp();
  const { name, call, insert } = newCollection();
  assertEquals((await insert({ id: "a", n: 1 })).status, 201);
  const taken = await call("insert_one", { document: { id: "a", n: 2 } });
  assertEquals([taken.status, taken.body.code], [409, "document_exists"]);
  const batch = await insert({ id: "b" }, { id: "a" });
  assertEquals([batch.status, batch.body.code, batch.body.details], [
    409,
    "document_exists",
    "documents[1].id belongs to another document.",
  ]);
  const twice = await insert({ id: "c" }, { id: "d" }, { id: "c" });
  assertEquals([twice.status, twice.body.details], [409, "documents[2].id belongs to another document."]);
  assertEquals((await call("find")).body.items.map((document: Json) => document.n), [1]);
  for (const other of [newCollection(), newCollection(bob.request, name), newCollection(backend(), name)]) {
    assertEquals((await other.insert({ id: "a" })).status, 201);
  }
});

Deno.test("a repeated insert with its key answers as the first time; another body is 409", async () => {
  const { call } = newCollection();
  const insert = (n: number, verb = "insert_one", key = "k") =>
    call(verb, verb === "insert_one" ? { document: { n } } : { documents: [{ n }, { n }] }, { "idempotency-key": key });
  for (const [verb, key] of [["insert_one", "one"], ["insert_many", "many"]]) {
    const first = await insert(1, verb, key);
    const again = await insert(1, verb, key);
    assertEquals([again.status, again.headers.get("idempotent-replayed"), again.body], [201, "true", first.body]);
    assertEquals(first.headers.get("idempotent-replayed"), null);
    const other = await insert(2, verb, key);
    assertEquals([other.status, other.body.code], [409, "idempotency_mismatch"]);
  }
  assertEquals((await call("count")).body, { count: 3 });
  await call("delete_many", { filters: {} });
  assertEquals((await insert(1, "insert_one", "one")).body, { document: null });
});

Deno.test("owners are apart: a user, another user, the user of a backend, and the backend's own store", async () => {
  const bob = await signUp();
  const name = `c_${uuid()}`;
  const stores = {
    alice: newCollection(alice.request, name),
    bob: newCollection(backend(bob.id), name),
    service: newCollection(backend(), name),
  };
  for (const [owner, { insert }] of Object.entries(stores)) await insert({ id: "same", owner });
  for (const [owner, { call }] of Object.entries(stores)) {
    assertEquals((await call("find")).body.items.map((document: Json) => document.owner), [owner]);
  }
  const ofBob = newCollection(bob.request, name);
  assertEquals((await ofBob.call("find_one")).body.document.owner, "bob");
  assertEquals((await ofBob.call("delete_many", { filters: {} })).body, { deleted_count: 1 });
  assertEquals((await stores.alice.call("count")).body, { count: 1 });
  const zero = await backend("00000000-0000-0000-0000-000000000000")("POST", `/documents/${name}/find`, { body: {} });
  assertEquals([zero.status, zero.body.code], [404, "user_not_found"]);
  const unknown = await backend(uuid())("POST", `/documents/${name}/find`, { body: {} });
  assertEquals([unknown.status, unknown.body.code], [404, "user_not_found"]);
});

// ---- lists ----------------------------------------------------------------------------------------------------------

Deno.test("documents come by creation_utc and id, page by page, in both directions, while others come and go", async () => {
  const { call, insert } = newCollection();
  await insert(...["c", "a", "b", "Z", "é"].map((id) => ({ id, creation_utc: at(1) })), {
    id: "0",
    creation_utc: at(2),
  }, {
    id: "x",
    creation_utc: "2026-01-01T00:00:00.5Z",
  });
  const order = ["x", "Z", "a", "b", "c", "é", "0"];
  assertEquals(ids(await call("find")), order);
  assertEquals(ids(await call("find", { sort: "desc" })), order.toReversed());

  const first = await call("find", { limit: 3 });
  assertEquals([ids(first), first.body.total_count, first.body.has_more], [["x", "Z", "a"], 7, true]);
  assertEquals(atob(first.body.next_cursor), `${at(1)}|a`, "as Parlant's API writes it");
  await insert({ id: "aa", creation_utc: at(1) }, { id: "A", creation_utc: at(1) });
  await call("delete_one", { filters: { id: "a" } });
  const second = await call("find", { limit: 3, cursor: first.body.next_cursor });
  assertEquals([ids(second), second.body.total_count], [["aa", "b", "c"], 8]);
  const third = await call("find", { limit: 3, cursor: second.body.next_cursor });
  assertEquals([ids(third), third.body.has_more, third.body.next_cursor], [["é", "0"], false, null]);
  const back = await call("find", { limit: 2, cursor: second.body.next_cursor, sort: "desc" });
  assertEquals(ids(back), ["b", "aa"]);
  const uncounted = await call("find", { limit: 2, count: false });
  assertEquals([uncounted.body.total_count, uncounted.body.has_more], [null, true]);
});

Deno.test("a cursor that cannot be decoded is ignored", async () => {
  const { call, insert } = newCollection();
  await insert({ id: "a" }, { id: "b" });
  for (
    const cursor of [
      "",
      "invalid",
      "%%%",
      btoa("no separator"),
      btoa("yesterday|a"),
      btoa("|a"),
      btoa("2026-01-01|"),
      btoa("\xff|a"),
      null,
    ]
  ) {
    assertEquals(ids(await call("find", { cursor })), ["a", "b"], String(cursor));
  }
  assertEquals(ids(await call("find", { cursor: btoa("9000-01-01|a") })), []);
  assertEquals((await call("find", { cursor: 5 })).status, 400);
});

Deno.test("2,500 documents come back complete past the row cap, and an answer is bounded in bytes", async () => {
  const { call, insert } = newCollection();
  for (let batch = 0; batch < 5; batch++) {
    await insert(
      ...Array.from(
        { length: 500 },
        (_, n) => ({ id: String(batch * 500 + n).padStart(4, "0"), creation_utc: at(batch) }),
      ),
    );
  }
  const all = await call("find");
  assertEquals([all.body.items.length, all.body.total_count, all.body.has_more], [2500, 2500, false]);
  assertEquals(ids(all), Array.from({ length: 2500 }, (_, n) => String(n).padStart(4, "0")));

  const large = newCollection();
  for (let n = 0; n < 5; n++) await large.insert({ id: String(n), creation_utc: at(n), text: "x".repeat(3_000_000) });
  const first = await large.call("find");
  assertEquals([ids(first), first.body.total_count, first.body.has_more], [["0", "1"], 5, true]);
  const second = await large.call("find", { cursor: first.body.next_cursor });
  assertEquals(ids(second), ["2", "3"]);
  assertEquals(ids(await large.call("find", { cursor: second.body.next_cursor })), ["4"]);
});

Deno.test("find_one sorts by fields: what is neither text nor number first, then text, then numbers", async () => {
  const { call, insert } = newCollection();
  const long = "y".repeat(300);
  const values = [5, -1, "b", "B", `${long}b`, `${long}a`, null, 1e9, undefined, true];
  await insert(...values.map((value, n) => ({ id: String(n), creation_utc: at(n), value, group: n % 2 })));
  const order = async (sort: Json): Promise<string[]> => {
    const found: string[] = [];
    for (;;) {
      const { body } = await call("find_one", { filters: { id: { $nin: found } }, sort });
      if (!body.document) return found;
      found.push(body.document.id);
    }
  };
  assertEquals(await order([{ field: "value" }]), ["6", "8", "9", "3", "2", "5", "4", "1", "0", "7"]);
  assertEquals(await order([{ field: "value", direction: "desc" }]), [
    "7",
    "0",
    "1",
    "4",
    "5",
    "2",
    "3",
    "6",
    "8",
    "9",
  ]);
  assertEquals((await order([{ field: "group", direction: "desc" }, { field: "id", direction: "desc" }])).slice(0, 6), [
    "9",
    "7",
    "5",
    "3",
    "1",
    "8",
  ]);
  assertEquals((await call("find_one", { sort: "desc" })).body.document.id, "9");
  for (const sort of [[], "random()", [{ field: 1 }], [{ field: "a", direction: "up" }], [{ field: "a", other: 1 }]]) {
    assertEquals((await call("find_one", { sort })).status, 400, JSON.stringify(sort));
  }
});

// ---- changes --------------------------------------------------------------------------------------------------------

Deno.test("update_one merges the top level of the first document that matches", async () => {
  const { call, insert } = newCollection();
  await insert({ id: "a", version: "1", creation_utc: at(1), n: 1, nested: { x: 1, y: 2 } }, {
    id: "b",
    creation_utc: at(2),
    n: 1,
  });
  const { status, body } = await call("update_one", {
    filters: { n: 1 },
    params: { nested: { z: 3 }, more: null, "a.b": 1 },
  });
  const expected = { id: "a", version: "1", creation_utc: at(1), n: 1, nested: { z: 3 }, more: null, "a.b": 1 };
  assertEquals([status, body], [200, { matched_count: 1, modified_count: 1, updated_document: expected }]);
  const same = await call("update_one", { filters: { id: "a" }, params: { n: 1 } });
  assertEquals(same.body, { matched_count: 1, modified_count: 0, updated_document: expected });
  const none = await call("update_one", { filters: { id: "c" }, params: { n: 1 } });
  assertEquals(none.body, { matched_count: 0, modified_count: 0, updated_document: null });

  // id and creation_utc are fields like any other.
  const moved = await call("update_one", { filters: { id: "a" }, params: { id: "z", creation_utc: at(3) } });
  assertEquals(moved.body.updated_document, { ...expected, id: "z", creation_utc: at(3) });
  assertEquals(ids(await call("find")), ["b", "z"]);
  const taken = await call("update_one", { filters: { id: "z" }, params: { id: "b" } });
  assertEquals([taken.status, taken.body.code], [409, "document_exists"]);
  for (const params of [{ id: 5 }, { creation_utc: "now" }, { version: null }, [], null]) {
    assertEquals((await call("update_one", { filters: {}, params })).status, 400, JSON.stringify(params));
  }
  for (const verb of ["update_one", "delete_one", "delete_many"]) {
    assertEquals((await call(verb, { params: {} })).status, 400, `${verb} says what`);
  }
});

Deno.test("an upsert without a match inserts its params and says so", async () => {
  const { call } = newCollection();
  const params = { id: "v1", creation_utc: at(1), key: "DEFAULT", data: 1 };
  const first = await call("update_one", { filters: { key: "DEFAULT" }, params, upsert: true });
  assertEquals(first.body, { matched_count: 0, modified_count: 0, updated_document: params });
  const second = await call("update_one", { filters: { key: "DEFAULT" }, params: { data: 2 }, upsert: true });
  assertEquals(second.body, { matched_count: 1, modified_count: 1, updated_document: { ...params, data: 2 } });
  const other = await call("update_one", { filters: { key: "other" }, params: { id: "v1" }, upsert: true });
  assertEquals([other.status, other.body.code], [409, "document_exists"]);
});

Deno.test("if_version: what has moved on is 409 and stays", async () => {
  const { call, insert } = newCollection();
  await insert({ id: "a", version: "1", n: 0 }, { id: "b" });
  const update = (id: string, if_version: string, more = {}) =>
    call("update_one", { filters: { id }, params: { version: "2", n: 1 }, if_version, ...more });
  assertEquals((await update("a", "1")).body.updated_document.version, "2");
  const late = await update("a", "1");
  assertEquals([late.status, late.body.code, late.body.details], [
    409,
    "version_conflict",
    "The document is at version 2.",
  ]);
  assertEquals((await update("b", "1")).body.details, "The document has no version.");
  assertEquals((await update("c", "1")).body.matched_count, 0);
  assertEquals((await update("c", "1", { upsert: true })).body.details, "There is no such document.");
  assertEquals((await call("count")).body, { count: 2 });

  await insert({ id: "race", version: "1" });
  const answers = await Promise.all(Array.from({ length: 20 }, () => update("race", "1")));
  assertEquals(answers.filter(({ status }) => status === 200).length, 1);
  assertEquals(answers.filter(({ status }) => status === 409).length, 19);
});

Deno.test("200 concurrent updates of one document with disjoint fields lose none", async () => {
  const { call, insert } = newCollection();
  await insert({ id: "a", n: 1 });
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => call("update_one", { filters: { n: 1 }, params: { [`field${i}`]: i } })),
  );
  assertEquals(answers.filter(({ body }) => body.modified_count === 1).length, 200);
  const { body: { document: { id, n, creation_utc: _, ...fields } } } = await call("find_one");
  assertEquals([id, n], ["a", 1]);
  assertEquals(fields, Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`field${i}`, i])));
});

Deno.test("whoever waited for another writer looks again at what matches", async () => {
  const { call, insert } = newCollection();
  await insert(...Array.from({ length: 20 }, (_, n) => ({ id: String(n), creation_utc: at(n), state: "open" })));
  const claims = await Promise.all(
    Array.from(
      { length: 25 },
      (_, worker) => call("update_one", { filters: { state: "open" }, params: { state: "taken", worker } }),
    ),
  );
  const taken = claims.filter(({ body }) => body.matched_count === 1).map(({ body }) => body.updated_document.id);
  assertEquals(new Set(taken).size, 20, "each task once");
  assertEquals(taken.length, 20);
  const deleted = await Promise.all(
    Array.from({ length: 25 }, () => call("delete_one", { filters: { state: "taken" } })),
  );
  assertEquals(deleted.reduce((sum, { body }) => sum + body.deleted_count, 0), 20);
  assertEquals((await call("count")).body, { count: 0 });
});

Deno.test("concurrent upserts of one logical document store one, whatever their filters look like", async () => {
  const { call } = newCollection();
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      call("update_one", {
        filters: i % 2
          ? { variable_id: "v", key: "k" }
          : { $and: [{ key: { $eq: "k" } }, { variable_id: { $in: ["v"] } }] },
        params: { id: uuid(), variable_id: "v", key: "k", [`field${i}`]: i },
        upsert: true,
      })),
  );
  assertEquals(answers.filter(({ body }) => body.matched_count === 0).length, 1);
  const { body } = await call("find");
  assertEquals([body.items.length, Object.keys(body.items[0]).filter((key) => key.startsWith("field")).length], [
    1,
    40,
  ]);
});

Deno.test("concurrent batches that overlap do not deadlock: one is stored, the others are 409", async () => {
  const { call, insert } = newCollection();
  const batch = Array.from({ length: 50 }, (_, n) => ({ id: `d${n}` }));
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, i) => insert(...(i % 2 ? batch : batch.toReversed()))),
  );
  assertEquals(answers.map(({ status }) => status).sort(), [201, ...Array(9).fill(409)]);
  assertEquals((await call("count")).body, { count: 50 });
});

Deno.test("delete_one answers the document, delete_many the number, count counts", async () => {
  const { call, insert } = newCollection();
  const { body: { documents } } = await insert(...[1, 2, 3, 4, 5].map((n) => ({ n, creation_utc: at(n) })));
  assertEquals((await call("count", { filters: { n: { $gt: 2 } } })).body, { count: 3 });
  assertEquals((await call("delete_one", { filters: { n: { $gte: 2 } } })).body, {
    deleted_count: 1,
    deleted_document: documents[1],
  });
  assertEquals((await call("delete_one", { filters: { n: 2 } })).body, { deleted_count: 0, deleted_document: null });
  assertEquals((await call("delete_many", { filters: { n: { $nin: [1, 5] } } })).body, { deleted_count: 2 });
  assertEquals((await call("find")).body.items, [documents[0], documents[4]]);
  assertEquals((await call("delete_many", { filters: {} })).body, { deleted_count: 2 });
});

// ---- collections ----------------------------------------------------------------------------------------------------

Deno.test("collections are listed by name, and dropped with all that belongs to them", async () => {
  const bob = await signUp();
  const names = ["b_second", "a_first", "Zebra"];
  for (const name of names) await newCollection(bob.request, name).insert({ id: "x" }, { id: "y" });
  await bob.request("PUT", "/documents/Zebra/version", { body: { version: "1", expected_version: null } });
  await bob.request("POST", "/documents/Zebra/failures", { body: { id: "y", reason: "bad" } });
  const { body } = await bob.request("GET", "/documents?limit=2");
  assertEquals(body, {
    data: [
      { collection: "Zebra", documents: 1, failures: 1, version: "1" },
      { collection: "a_first", documents: 2, failures: 0, version: null },
    ],
    has_more: true,
    next_cursor: "a_first",
  });
  const rest = await bob.request("GET", `/documents?limit=2&cursor=${body.next_cursor}`);
  assertEquals(rest.body.data.map((row: Json) => row.collection), ["b_second"]);

  await newCollection(alice.request, "Zebra").insert({ id: uuid() });
  assertEquals((await newCollection(bob.request, "Zebra").call("drop", { filters: { id: "x" } })).status, 400);
  assertEquals((await newCollection(bob.request, "Zebra").call("drop")).body, { deleted_count: 1 });
  assertEquals((await bob.request("GET", "/documents/Zebra/version")).body, { version: null });
  assertEquals((await bob.request("GET", "/documents/Zebra/failures")).body.data, []);
  assert((await newCollection(alice.request, "Zebra").call("count")).body.count > 0, "the other owner's stays");
  for (const name of ["-a", ".a", "a b", "a%2Fb", "x".repeat(129)]) {
    assertEquals((await alice.request("POST", `/documents/${name}/find`, { body: {} })).status, 400, name);
  }
  assertEquals((await alice.request("POST", `/documents/${"x".repeat(128)}/find`, { body: {} })).status, 200);
});

Deno.test("the version of a store is set by compare and set", async () => {
  const { name } = newCollection();
  const put = (version: string, expected_version: string | null) =>
    alice.request("PUT", `/documents/${name}/version`, { body: { version, expected_version } });
  assertEquals((await alice.request("GET", `/documents/${name}/version`)).body, { version: null });
  const racers = await Promise.all(Array.from({ length: 10 }, (_, i) => put(`0.${i}.0`, null)));
  const winner = racers.find(({ status }) => status === 200)!.body.version;
  assertEquals(racers.filter(({ status }) => status === 409).length, 9);
  assertEquals((await alice.request("GET", `/documents/${name}/version`)).body, { version: winner });
  const wrong = await put("2.0.0", "0.0.1");
  assertEquals([wrong.status, wrong.body.code, wrong.body.details], [
    409,
    "version_conflict",
    `The collection is at version ${winner}.`,
  ]);
  assertEquals((await put("2.0.0", winner)).body, { version: "2.0.0" });
  assertEquals((await alice.request("PUT", `/documents/${name}/version`, { body: { version: "3" } })).status, 400);
});

Deno.test("what cannot be converted goes to quarantine with the reason, is listed, and comes back as it was", async () => {
  const { name, call, insert } = newCollection();
  const { body: { documents } } = await insert(
    { id: "old", version: "0.1.0", creation_utc: at(1), text: "x" },
    { id: "broken", version: "0.0.1", creation_utc: at(2) },
    { id: "new", version: "0.2.0", creation_utc: at(3) },
  );
  assertEquals(ids(await call("find", { filters: { version: { $ne: "0.2.0" } } })), ["old", "broken"], "what is stale");
  const failed = await call("failures", { id: "broken", reason: "No converter from 0.0.1" });
  assertEquals([failed.status, failed.body.document, failed.body.reason], [
    201,
    documents[1],
    "No converter from 0.0.1",
  ]);
  assertEquals((await call("failures", { id: "old", reason: "x" })).status, 201);
  assertEquals(ids(await call("find")), ["new"]);

  const list = (query = "") => alice.request("GET", `/documents/${name}/failures${query}`);
  const page = await list("?limit=1");
  assertEquals([page.body.data[0].document.id, page.body.has_more, page.body.next_cursor], ["broken", true, "broken"]);
  assertEquals((await list("?cursor=broken")).body.data.map((row: Json) => row.document.id), ["old"]);

  assertEquals((await call("failures", { id: "old", reason: "x" })).body.code, "document_not_found");
  assertEquals((await call("failures/restore", { id: "old" })).body, { document: documents[0] });
  assertEquals((await call("failures/restore", { id: "old" })).status, 404);
  await insert({ id: "broken", again: true });
  const taken = await call("failures/restore", { id: "broken" });
  assertEquals([taken.status, taken.body.code], [409, "document_exists"]);
  assertEquals((await call("failures", { id: "broken", reason: "x" })).status, 409);
  await call("delete_one", { filters: { id: "broken" } });
  assertEquals((await call("failures/restore", { id: "broken" })).status, 200);
  assertEquals((await call("find")).body.items, documents);
});

// ---- indexes --------------------------------------------------------------------------------------------------------

Deno.test("a backend makes, lists and drops the indexes of fields; a user does not", async () => {
  const { name, insert } = newCollection(backend());
  await insert({ n: 1, text: "y".repeat(100_000) }, { n: "1" }, { n: null }, {});
  const path = `/documents/${name}/indexes`;
  const service = backend();
  const create = (field: string) => patiently(() => service("POST", path, { body: { field } }));
  const fields = ["n", "text", 'it\'s "a" \\ field; --', "a.b.0", "日本"];
  for (const field of fields) {
    const first = await create(field);
    assertEquals([first.status, first.body.field, first.body.collection], [201, field, name]);
    assertMatch(
      first.body.definition,
      /^create index concurrently if not exists idx_documents_field_\w+ on public\.documents /,
    );
    assertEquals([(await create(field)).status, (await create(field)).body], [200, first.body]);
  }
  const { body } = await service("GET", path);
  assertEquals(new Set(body.data.map((index: Json) => index.field)), new Set(fields));
  assertEquals((await insert({ text: "z".repeat(100_000), n: 1e15 })).status, 201, "what is long can be stored still");

  for (const method of ["GET", "POST", "DELETE"]) {
    const refused = await alice.request(method, `${path}${method === "DELETE" ? "?field=n" : ""}`, {
      body: method === "POST" ? { field: "n" } : undefined,
    });
    assertEquals([refused.status, refused.body.code], [403, "forbidden"]);
  }
  const rpc = await alice.client.rpc("create_document_index", { p_collection: name, p_field: "n" });
  assertEquals(rpc.error?.code, "42501");
  for (const field of ["id", "version", "creation_utc", "id.x", "", "x".repeat(257)]) {
    assertEquals((await service("POST", path, { body: { field } })).status, 400, field);
  }

  for (const field of ["x", "y", "z"]) assertEquals((await create(field)).status, 201);
  const full = await create("one too many");
  assertEquals([full.status, full.body.code], [409, "index_limit"]);
  for (const field of [...fields, "x", "y", "z"]) {
    const drop = () => service("DELETE", `${path}?field=${encodeURIComponent(field)}`);
    assertEquals((await patiently(drop)).status, 204, field);
    assertEquals((await patiently(drop)).status, 404);
  }
  assertEquals((await service("GET", path)).body.data, []);
  const sql = connect();
  const left = await sql`select stxname from pg_statistic_ext where stxname like 'idx_documents_field_%'
    and stxname not in (select c.relname || s from pg_class c, unnest(array['_number', '_string']) s)`;
  await sql.end();
  assertEquals(left.length, 0, "their statistics go with them");
});

// ---- direct calls ---------------------------------------------------------------------------------------------------

Deno.test("a user reads their own rows through the REST API and writes none", async () => {
  const bob = await signUp();
  const { insert } = newCollection(bob.request, "rest");
  await insert({ id: "mine", n: 1 });
  const read = await bob.client.from("documents").select("id, data");
  assertEquals(read.data, [{ id: "mine", data: { n: 1 } }]);
  assertEquals((await alice.client.from("documents").select("id").eq("collection", "rest")).data, []);
  const row = { owner_id: bob.id, collection: "rest", id: "x", creation_utc: at(1), sort_at: at(1), data: {} };
  for (const client of [bob.client, newClient(secretKey)]) {
    assertEquals((await client.from("documents").insert(row)).error?.code, "42501");
    assertEquals((await client.from("documents").update({ data: {} }).eq("id", "mine")).error?.code, "42501");
    assertEquals((await client.from("documents").delete().eq("id", "mine")).error?.code, "42501");
  }
});

Deno.test("the functions check their arguments when they are called directly", async () => {
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const rpc = (name: string, args: any) =>
    alice.client.rpc(name as "find_documents", { p_collection: "direct", ...args });
  for (
    const [name, args] of [
      ["find_documents", { p_collection: "../x" }],
      ["find_documents", { p_collection: null }],
      ["find_documents", { p_filters: null }],
      ["find_documents", { p_filters: [] }],
      ["find_documents", { p_limit: 0 }],
      ["find_documents", { p_sort: "random()" }],
      ["find_documents", { p_sort: null }],
      ["find_document", { p_sort: [] }],
      ["find_document", { p_sort: { order: "asc", other: 1 } }],
      ["find_document", { p_sort: { order: [{ field: "a", direction: 1 }] } }],
      ["count_documents", { p_filters: { $where: 1 } }],
      ["insert_documents", { p_documents: {} }],
      ["insert_documents", { p_documents: [] }],
      ["insert_documents", { p_documents: [{ id: 5 }] }],
      ["insert_documents", { p_documents: [{ creation_utc: "tomorrow" }] }],
      ["update_document", { p_filters: {}, p_params: null }],
      ["update_document", { p_filters: null, p_params: {} }],
      ["delete_document", { p_filters: null }],
      ["delete_documents", { p_filters: [{}] }],
      ["list_collections", { p_limit: 0, p_collection: undefined }],
      ["set_collection_version", { p_version: "" }],
      ["fail_document", { p_id: "x", p_reason: "" }],
      ["list_failures", { p_limit: 1001 }],
    ] as const
  ) {
    const { error, status } = await rpc(name, args);
    assertEquals([status, error?.message], [400, "invalid_request"], `${name} ${JSON.stringify(args)}`);
  }
  assertEquals((await rpc("find_documents", { p_cursor: [], p_limit: 1 })).status, 200);
});

Deno.test("documents go with their user", async () => {
  const bob = await signUp();
  const { name, call, insert } = newCollection(bob.request);
  await insert({ id: "a" }, { id: "b" });
  await call("failures", { id: "b", reason: "x" });
  await bob.request("PUT", `/documents/${name}/version`, { body: { version: "1", expected_version: null } });
  const sql = connect();
  const rows = async () =>
    (await sql`select (select count(*) from documents where owner_id = ${bob.id})
      + (select count(*) from document_failures where owner_id = ${bob.id})
      + (select count(*) from private.collection_versions where owner_id = ${bob.id}) as n`)[0].n;
  assertEquals(await rows(), "3");
  await sql`delete from auth.users where id = ${bob.id}`;
  assertEquals(await rows(), "0");
  await sql.end();
});

Deno.test("an insert of the same document by two owners is two documents", async () => {
  const { name, insert } = newCollection();
  const { body: { documents: [mine] } } = await insert({ n: 1 });
  const { body: { documents: [theirs] } } = await newCollection(backend(), name).insert({ n: 1 });
  assertNotEquals(mine.id, theirs.id);
});

Deno.test("a token that has outlived its user writes nothing", async () => {
  const carol = await signUp();
  const { call, insert } = newCollection(carol.request);
  assertEquals((await insert({ id: "a" })).status, 201);
  const sql = connect();
  await sql`delete from auth.users where id = ${carol.id}`;
  for (
    const [verb, body] of [
      ["insert_one", { document: { id: "b" } }],
      ["update_one", { filters: { id: "b" }, params: { id: "b" }, upsert: true }],
      ["failures", { id: "a", reason: "x" }],
    ] as const
  ) {
    const answer = await call(verb, body);
    assertEquals([answer.status, answer.body.code], [401, "unauthorized"], verb);
  }
  const [{ left }] = await sql`select count(*)::int as left from documents where owner_id = ${carol.id}`;
  await sql.end();
  assertEquals(left, 0);
});

Deno.test("what would be too much for the query, or for an index, is refused", async () => {
  const { call, insert } = newCollection();
  await insert({ a: { b: 1 } });
  const deep = await call("find", { filters: { [Array(17).fill("a").join(".")]: 1 } });
  assertEquals([deep.status, deep.body.code], [400, "invalid_request"]);
  assertEquals((await call("find", { filters: { [Array(16).fill("a").join(".")]: 1 } })).status, 200);

  const sql = connect();
  const long = await assertRejects(() =>
    sql.begin(async (tx) => {
      await tx`select set_config('request.jwt.claims', ${
        JSON.stringify({ sub: alice.id, role: "authenticated" })
      }, true)`;
      await tx`set local role authenticated`;
      await tx`
        select public.insert_documents('digits', jsonb_build_array(jsonb_build_object('n', repeat('9', 5000)::numeric)))`;
    })
  );
  await sql.end();
  assertEquals((long as Error).message, "invalid_request");
});

Deno.test("a collection is listed for its documents, for those that failed, and for its version", async () => {
  const carol = await signUp();
  const [full, failed, versioned] = ["a_full", "b_failed", "c_versioned"].map((name) =>
    newCollection(carol.request, name)
  );
  await full.insert({ id: "1" }, { id: "2" });
  await failed.insert({ id: "1" });
  assertEquals((await failed.call("failures", { id: "1", reason: "too old" })).status < 300, true);
  const version = { version: "0.8.0", expected_version: null };
  await carol.request("PUT", `/documents/${versioned.name}/version`, { body: version });
  const first = (await carol.request("GET", "/documents?limit=2")).body;
  const second = (await carol.request("GET", `/documents?limit=2&cursor=${first.next_cursor}`)).body;
  assertEquals([...first.data, ...second.data], [
    { collection: "a_full", documents: 2, failures: 0, version: null },
    { collection: "b_failed", documents: 0, failures: 1, version: null },
    { collection: "c_versioned", documents: 0, failures: 0, version: "0.8.0" },
  ]);
});
