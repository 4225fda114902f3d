// Documents as Parlant writes them and the queries that its stores make, call for call, in a backend's own store.
import { assertEquals } from "@std/assert";
import type { Document, Json } from "../support/filters.ts";
import { backend, uuid } from "../support/stack.ts";

const service = backend();
/** All stores of one server, beside each other: the collections of this test alone. */
const prefix = `parlant_${uuid()}`;

async function call(collection: string, verb: string, body: Json): Promise<Json> {
  const answer = await service("POST", `/documents/${prefix}_${collection}/${verb}`, { body });
  if (answer.status >= 300) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}
const insert = (collection: string, document: Json) => call(collection, "insert_one", { document });
const find = (collection: string, filters: Json, more = {}) => call(collection, "find", { filters, ...more });

/** nanoid's length and alphabet. */
const generateId = () =>
  btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24)))).replace(/[+/=]/g, "").slice(0, 10);
let clock = Date.UTC(2026, 4, 1, 12);
/** datetime.now(timezone.utc).isoformat(): without a fraction at the full second. */
const now = () => new Date(clock += 400).toISOString().replace(".000Z", "+00:00").replace("Z", "000+00:00");

function newSession(fields: Json = {}): Json {
  return {
    id: generateId(),
    version: "0.9.0",
    creation_utc: now(),
    customer_id: "guest",
    agent_id: "agent",
    mode: "auto",
    title: null,
    consumption_offsets: { client: 0 },
    agent_states: [{ trace_id: "t", applied_guideline_ids: ["g1"], journey_paths: { j: ["a", null] } }],
    metadata: {},
    labels: [],
    ...fields,
  };
}

/** create_event: the offset is the newest one's plus 1. */
async function createEvent(session_id: string, fields: Json): Promise<Json> {
  const { document: latest } = await call("events", "find_one", {
    filters: { session_id: { $eq: session_id } },
    sort: [{ field: "offset", direction: "desc" }],
  });
  const event = {
    id: generateId(),
    version: "0.8.0",
    creation_utc: now(),
    session_id,
    offset: latest ? latest.offset + 1 : 0,
    metadata: null,
    deleted: false,
    ...fields,
  };
  await insert("events", event);
  return event;
}

const message = (text: string) => ({
  message: text,
  participant: { id: "guest", display_name: "Guest" },
  flagged: false,
  tags: [],
  draft: "d",
  chunks: [text, null],
});
const tools = {
  tool_calls: [{ tool_id: "local:add", arguments: { a: 1 }, result: { data: 2, metadata: {}, control: {} } }],
};

/** list_events: a branch for each kind, with the other conditions repeated in it. */
async function listEvents(
  session_id: string,
  { kinds = [], source, trace_id, min_offset }: {
    kinds?: string[];
    source?: string;
    trace_id?: string;
    min_offset?: number;
  } = {},
): Promise<number[]> {
  const base = {
    session_id: { $eq: session_id },
    ...(source && { source: { $eq: source } }),
    ...(min_offset && { offset: { $gte: min_offset } }),
    ...(trace_id && { trace_id: { $eq: trace_id } }),
    deleted: { $eq: false },
  };
  const filters = kinds.length > 0 ? { $or: kinds.map((kind) => ({ ...base, kind: { $eq: kind } })) } : base;
  return (await find("events", filters)).items.map((event: Json) => event.offset);
}

Deno.test("sessions and events: every query of the store, and never another session's events", async () => {
  const [first, second] = [newSession(), newSession()];
  for (const session of [first, second]) await insert("sessions", session);
  assertEquals((await call("sessions", "find_one", { filters: { id: { $eq: first.id } } })).document, first);

  for (const session of [first, second]) {
    await createEvent(session.id, { source: "customer", kind: "message", trace_id: "t1", data: message("Hi") });
    await createEvent(session.id, {
      source: "ai_agent",
      kind: "status",
      trace_id: "t1",
      data: { status: "typing", data: {} },
    });
    await createEvent(session.id, { source: "ai_agent", kind: "tool", trace_id: "t1", data: tools });
    await createEvent(session.id, { source: "ai_agent", kind: "message", trace_id: "t1", data: message("Hello") });
    await createEvent(session.id, { source: "system", kind: "custom", trace_id: "t2", data: { any: "thing" } });
  }
  assertEquals(await listEvents(first.id), [0, 1, 2, 3, 4]);
  assertEquals(await listEvents(first.id, { kinds: ["message"] }), [0, 3]);
  assertEquals(await listEvents(first.id, { kinds: ["message", "tool"] }), [0, 2, 3]);
  assertEquals(await listEvents(first.id, { kinds: ["message", "tool"], min_offset: 1 }), [2, 3]);
  assertEquals(await listEvents(first.id, { source: "ai_agent", trace_id: "t1" }), [1, 2, 3]);
  assertEquals(await listEvents(first.id, { kinds: ["message"], source: "customer", min_offset: 1 }), []);

  const { items: [event] } = await find("events", { session_id: { $eq: first.id } }, { limit: 1 });
  await call("events", "update_one", { filters: { id: { $eq: event.id } }, params: { deleted: true } });
  assertEquals(await listEvents(first.id), [1, 2, 3, 4]);
  const { matched_count } = await call("events", "update_one", {
    filters: { id: { $eq: event.id }, session_id: { $eq: first.id }, deleted: { $ne: true } },
    params: { metadata: { a: 1 } },
  });
  assertEquals(matched_count, 0);

  // delete_session: each event by its id.
  for (const { id } of (await find("events", { session_id: { $eq: first.id } })).items) {
    await call("events", "delete_one", { filters: { id: { $eq: id } } });
  }
  assertEquals([await listEvents(first.id), (await listEvents(second.id)).length], [[], 5]);
});

Deno.test("a session's updates keep what they do not name, and answer the document", async () => {
  const session = newSession();
  await insert("updates", session);
  const params = { consumption_offsets: { client: 3 }, mode: "manual", metadata: { a: [1] }, labels: ["vip"] };
  const { updated_document } = await call("updates", "update_one", { filters: { id: { $eq: session.id } }, params });
  assertEquals(updated_document, { ...session, ...params });
});

Deno.test("seven sessions come in pages of 3, 3 and 1, in both directions; an invalid cursor begins anew", async () => {
  const sessions = Array.from({ length: 7 }, () => newSession({ customer_id: "customer" }));
  for (const session of sessions.toReversed()) await insert("pages", session);
  await insert("pages", newSession());
  const filters = { agent_id: { $eq: "agent" }, customer_id: { $eq: "customer" } };
  for (const sort of ["asc", "desc"]) {
    const pages: Document[][] = [];
    let cursor: string | null = null;
    do {
      const page: Json = await find("pages", filters, { limit: 3, cursor, sort });
      assertEquals([page.total_count, page.has_more], [7, page.next_cursor !== null]);
      pages.push(page.items);
      cursor = page.next_cursor;
    } while (cursor);
    assertEquals(pages.map((page) => page.length), [3, 3, 1]);
    assertEquals(pages.flat(), sort === "asc" ? sessions : sessions.toReversed());
  }
  const again = await find("pages", filters, { limit: 3, cursor: "invalid" });
  assertEquals(again.items, sessions.slice(0, 3));
});

Deno.test("customers and their tags: an association is there once, and goes alone", async () => {
  const customer = {
    id: "guest",
    version: "0.1.0",
    creation_utc: now(),
    name: "Guest",
    extra: { "e-mail": "g@example.com" },
  };
  await insert("customers", customer);
  const again = await service("POST", `/documents/${prefix}_customers/insert_one`, { body: { document: customer } });
  assertEquals(again.status, 409);

  // upsert_tag: looked for among the customer's tags, inserted if it is not there.
  const upsertTag = async (customer_id: string, tag_id: string) => {
    const params = { id: generateId(), version: "0.2.0", creation_utc: now(), customer_id, tag_id };
    const filters = { customer_id: { $eq: customer_id }, tag_id: { $eq: tag_id } };
    return (await call("customer_tags", "update_one", { filters, params: params, upsert: true })).matched_count;
  };
  assertEquals([await upsertTag("guest", "vip"), await upsertTag("guest", "vip"), await upsertTag("guest", "new")], [
    0,
    1,
    0,
  ]);
  await upsertTag("other", "vip");
  const tags = async () =>
    (await find("customer_tags", { customer_id: { $eq: "guest" } })).items.map((tag: Json) => tag.tag_id).sort();
  assertEquals(await tags(), ["new", "vip"]);
  await call("customer_tags", "delete_one", {
    filters: { $and: [{ customer_id: { $eq: "guest" } }, { tag_id: { $eq: "vip" } }] },
  });
  assertEquals(await tags(), ["new"]);
  assertEquals((await find("customer_tags", { tag_id: { $eq: "vip" } })).total_count, 1);

  // list_customers without a tag, and with one of several.
  await insert("customers", { ...customer, id: "c2", creation_utc: now() });
  const tagged = (await find("customer_tags", {})).items.map((tag: Json) => tag.customer_id);
  const without = await find("customers", { $and: tagged.map((id: string) => ({ id: { $ne: id } })) });
  assertEquals(without.items.map((document: Json) => document.id), ["c2"]);
  const withTag = await find("customers", { $or: tagged.map((id: string) => ({ id: { $eq: id } })) });
  assertEquals(withTag.items.map((document: Json) => document.id), ["guest"]);
});

Deno.test("a context variable's value is set twice and read once, for a customer and for all", async () => {
  const variable_id = generateId();
  const setValue = (key: string, data: Json) => {
    const last_modified = now();
    return call("values", "update_one", {
      filters: { variable_id: { $eq: variable_id }, key: { $eq: key } },
      // As the store writes it: with a new id each time.
      params: {
        id: generateId(),
        creation_utc: last_modified,
        version: "0.2.0",
        last_modified,
        variable_id,
        key,
        data,
      },
      upsert: true,
    });
  };
  for (const key of ["DEFAULT", "guest"]) {
    assertEquals((await setValue(key, { plan: "free" })).matched_count, 0);
    const second = await setValue(key, { plan: "pro" });
    assertEquals([second.matched_count, second.modified_count, second.updated_document.data], [1, 1, { plan: "pro" }]);
    const filters = { variable_id: { $eq: variable_id }, key: { $eq: key } };
    assertEquals((await find("values", filters)).items, [second.updated_document]);
  }
  assertEquals((await find("values", { variable_id: { $eq: variable_id } })).total_count, 2);
});

Deno.test("a store moves to its next version: stale documents are converted or put aside, and the next start scans none", async () => {
  const collection = `${prefix}_converted`;
  for (const version of ["0.7.0", "0.8.0", "0.9.0", "0.0.1"]) await insert("converted", newSession({ version }));
  const stale = await find("converted", { version: { $ne: "0.9.0" } });
  for (const { id, version } of stale.items) {
    if (version === "0.0.1") {
      await call("converted", "failures", { id, reason: `No converter from ${version}.` });
    } else {
      await call("converted", "update_one", {
        filters: { id: { $eq: id } },
        params: { version: "0.9.0", labels: [] },
        if_version: version,
      });
    }
  }
  assertEquals((await call("converted", "count", { filters: { version: { $ne: "0.9.0" } } })).count, 0);
  const { body } = await service("GET", `/documents/${collection}/failures`);
  assertEquals(body.data.map((failure: Json) => failure.document.version), ["0.0.1"]);
  const set = await service("PUT", `/documents/${collection}/version`, {
    body: { version: "0.9.0", expected_version: null },
  });
  assertEquals(set.status, 200);
  assertEquals((await service("GET", `/documents/${collection}/version`)).body, { version: "0.9.0" });
});
