// Every write of docs/openapi.json, repeated with its Idempotency-Key: once after the other, and twice at the same moment.
import { assert, assertEquals } from "@std/assert";
import { functions } from "../support/apps.ts";
import { apiUrl, backend, newConversation, request, secretKey, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();
const as = backend(alice.id);

interface Prepared {
  path: string;
  body?: unknown;
  /** What is another request under the same key; without one, the body's first member is another. */
  other?: unknown;
  /** How often the work was done, seen from outside. */
  count?: () => Promise<number>;
}

const user = { role: "user", content: "x" };
const item = { type: "message", role: "user", content: "x" };
const idOf = async (answer: Promise<{ body: { id: string } }>) => (await answer).body.id;
const newItems = () => idOf(as("POST", "/openai/v1/conversations", { body: { items: [item] } }));
const newSession = () => idOf(as("POST", "/sessions", { body: {} }));
const putResponse = async () => {
  const id = `resp_${uuid()}`;
  await as("PUT", `/responses/${id}`, { body: { input: "x", output: [], model: "m", provider: "p" } });
  return id;
};
const collectionOf = async (documents: object[]) => {
  const collection = `c_${uuid()}`;
  if (documents.length > 0) await as("POST", `/documents/${collection}/insert_many`, { body: { documents } });
  return `/documents/${collection}`;
};
const countDocuments = (path: string) => async () => (await as("POST", `${path}/count`, { body: {} })).body.count;
const messagesOf = (id: string) => async () => (await as("GET", `/conversations/${id}/messages`)).body.data.length;
const titled = (title: string) => async () =>
  (await as("GET", "/conversations?limit=1000")).body.data.filter((row: { title: string }) => row.title === title)
    .length;

/** How each write is asked. One without an entry fails the test. */
const WRITES: Record<string, () => Promise<Prepared>> = {
  "POST /conversations": async () => {
    const title = await Promise.resolve(uuid());
    return { path: "/conversations", body: { title }, other: {}, count: titled(title) };
  },
  "DELETE /conversations": async () => {
    await newConversation(alice);
    return { path: "/conversations?confirm=all" };
  },
  "POST /conversations/import": async () => {
    const title = await Promise.resolve(uuid());
    const line = (id: string, title: string) => `{"type":"conversation","id":"${id}","title":"${title}"}\n`;
    return {
      path: "/conversations/import",
      body: line("a", title) + line("b", "x"),
      other: line("a", "y"),
      count: titled(title),
    };
  },
  "PATCH /conversations/:id": async () => ({
    path: `/conversations/${await newConversation(alice)}`,
    body: { title: "a" },
    other: { title: "b" },
  }),
  "DELETE /conversations/:id": async () => ({ path: `/conversations/${await newConversation(alice)}` }),
  "POST /conversations/:id/messages": async () => {
    const id = await newConversation(alice);
    return {
      path: `/conversations/${id}/messages`,
      body: { messages: [user] },
      other: { messages: [user, user] },
      count: messagesOf(id),
    };
  },
  "DELETE /conversations/:id/messages/:message_id": async () => {
    const id = await newConversation(alice, { messages: [user, user] });
    const [message] = (await as("GET", `/conversations/${id}/messages`)).body.data;
    return { path: `/conversations/${id}/messages/${message.id}`, count: messagesOf(id) };
  },
  "POST /conversations/:id/fork": async () => {
    const title = uuid();
    const id = await newConversation(alice, { title, messages: [user] });
    const count = async () => await titled(title)() - 1;
    return { path: `/conversations/${id}/fork`, body: { at: 1 }, other: { at: 0 }, count };
  },
  "POST /sessions": async () => {
    const count = async () => (await as("GET", "/sessions?limit=1000")).body.data.length - before;
    const before = (await as("GET", "/sessions?limit=1000")).body.data.length;
    return { path: "/sessions", body: {}, other: { metadata: { a: 1 } }, count };
  },
  "POST /sessions/:id/end": async () => ({
    path: `/sessions/${await newSession()}/end`,
    body: {},
    other: { summary: "x" },
  }),
  "POST /sessions/:id/events": async () => {
    const path = `/sessions/${await newSession()}/events`;
    const events = [{ event_type: "user_message", content: "x" }];
    const count = async () => (await as("GET", path)).body.data.length;
    return { path, body: { events }, other: { events: [...events, ...events] }, count };
  },
  "POST /documents/:collection/insert_one": async () => {
    const path = await collectionOf([]);
    return {
      path: `${path}/insert_one`,
      body: { document: {} },
      other: { document: { a: 1 } },
      count: countDocuments(path),
    };
  },
  "POST /documents/:collection/insert_many": async () => {
    const path = await collectionOf([]);
    return {
      path: `${path}/insert_many`,
      body: { documents: [{}] },
      other: { documents: [{}, {}] },
      count: countDocuments(path),
    };
  },
  "POST /documents/:collection/update_one": async () => {
    const path = await collectionOf([]);
    const body = { filters: { a: { $eq: 1 } }, params: { b: 2 }, upsert: true }; // what it inserts does not match
    return { path: `${path}/update_one`, body, other: { ...body, upsert: false }, count: countDocuments(path) };
  },
  "POST /documents/:collection/delete_one": async () => {
    const path = await collectionOf([{}, {}]);
    return {
      path: `${path}/delete_one`,
      body: { filters: {} },
      other: { filters: { a: { $eq: 1 } } },
      count: countDocuments(path),
    };
  },
  "POST /documents/:collection/delete_many": async () => ({
    path: `${await collectionOf([{}, {}])}/delete_many`,
    body: { filters: {} },
    other: { filters: { a: { $eq: 1 } } },
  }),
  "POST /documents/:collection/drop": async () => ({ path: `${await collectionOf([{}, {}])}/drop`, body: {} }),
  "PUT /documents/:collection/version": async () => ({
    path: `${await collectionOf([])}/version`,
    body: { version: "2", expected_version: null },
    other: { version: "3", expected_version: null },
  }),
  "POST /documents/:collection/failures": async () => ({
    path: `${await collectionOf([{ id: "a" }])}/failures`,
    body: { id: "a", reason: "x" },
    other: { id: "a", reason: "y" },
  }),
  "POST /documents/:collection/failures/restore": async () => {
    const path = `${await collectionOf([{ id: "a" }])}/failures`;
    await as("POST", path, { body: { id: "a", reason: "x" } });
    return { path: `${path}/restore`, body: { id: "a" }, other: { id: "b" } };
  },
  "POST /documents/:collection/indexes": async () => ({
    path: `${await collectionOf([])}/indexes`,
    body: { field: "a" },
    other: { field: "b" },
  }),
  "DELETE /documents/:collection/indexes": async () => {
    const path = `${await collectionOf([])}/indexes`;
    await as("POST", path, { body: { field: "a" } });
    return { path: `${path}?field=a` };
  },
  "POST /openai/v1/conversations": async () => ({
    path: "/openai/v1/conversations",
    body: await Promise.resolve({ metadata: { a: "1" } }),
    other: {},
  }),
  "POST /openai/v1/conversations/:conversation_id": async () => ({
    path: `/openai/v1/conversations/${await newItems()}`,
    body: { metadata: { a: "1" } },
    other: { metadata: {} },
  }),
  "DELETE /openai/v1/conversations/:conversation_id": async () => ({
    path: `/openai/v1/conversations/${await newItems()}`,
  }),
  "POST /openai/v1/conversations/:conversation_id/items": async () => {
    const path = `/openai/v1/conversations/${await newItems()}/items`;
    const count = async () => (await as("GET", path)).body.data.length - 1;
    return { path, body: { items: [item] }, other: { items: [item, item] }, count };
  },
  "DELETE /openai/v1/conversations/:conversation_id/items/:item_id": async () => {
    const path = `/openai/v1/conversations/${await newItems()}/items`;
    return { path: `${path}/${(await as("GET", path)).body.data[0].id}` };
  },
  "DELETE /openai/v1/responses/:response_id": async () => ({ path: `/openai/v1/responses/${await putResponse()}` }),
  "DELETE /responses/:id": async () => ({ path: `/responses/${await putResponse()}` }),
  "PUT /responses/:id": async () => ({
    path: `/responses/resp_${await Promise.resolve(uuid())}`,
    body: { input: "x", output: [], model: "m", provider: "p" },
  }),
  "DELETE /users/me": async () => ({ path: await Promise.resolve("/users/me?confirm=all") }),
};
/** They are asked by POST, and write nothing. */
const READS = /\/(find|find_one|count|merge)$/;

const paths = JSON.parse(await Deno.readTextFile(new URL("../../docs/openapi.json", import.meta.url))).paths as Record<
  string,
  Record<string, { parameters: { name: string }[]; responses: { default: { description: string } } }>
>;

/** Repeats what may be repeated, as a client does: other tests keep tables busy. */
async function send(method: string, prepared: Prepared, key: string) {
  let answer = await sendOnce(method, prepared, key);
  for (let attempt = 1; attempt < 30 && answer.status === 503; attempt++) {
    answer = await sendOnce(method, prepared, key);
  }
  return answer;
}

async function sendOnce(method: string, { path, body }: Prepared, key: string) {
  const response = await fetch(`${apiUrl}/functions/v1${path}`, {
    method,
    headers: {
      apikey: secretKey,
      "x-user-id": alice.id,
      "idempotency-key": key,
      ...(body !== undefined &&
        { "content-type": typeof body === "string" ? "application/x-ndjson" : "application/json" }),
    },
    body: typeof body === "string" || body === undefined ? body : JSON.stringify(body),
  });
  const { status, headers } = response;
  return {
    status,
    text: await response.text(),
    replayed: headers.get("idempotent-replayed"),
    location: headers.get("location"),
  };
}

for (const [path, methods] of Object.entries(paths)) {
  for (const [verb, operation] of Object.entries(methods)) {
    const method = verb.toUpperCase();
    if (method === "GET" || READS.test(path)) continue;
    const name = `${method} ${path.replaceAll(/\{(\w+)\}/g, ":$1")}`;
    Deno.test(`${name}, repeated with its key`, async () => {
      const prepared = await WRITES[name]();
      const key = uuid();
      if (!operation.parameters.some((parameter) => parameter.name === "idempotency-key")) {
        const { status, text } = await send(method, prepared, key);
        assertEquals([status, JSON.parse(text).code], [400, "idempotency_key_useless"]);
        assert(operation.responses.default.description.includes("idempotency_key_useless"));
        return;
      }
      // Twice at the same moment, and once more: one of them did it.
      const [one, two] = await Promise.all([send(method, prepared, key), send(method, prepared, key)]);
      const [first, second] = one.replayed ? [two, one] : [one, two];
      assert(first.status < 300, first.text);
      const third = await send(method, prepared, key);
      const replays = name === "POST /conversations/import" ? null : "true"; // each conversation by itself
      assertEquals([first.replayed, second.replayed, third.replayed], [null, replays, replays]);
      for (const again of [second, third]) {
        assertEquals([again.status, again.location], [first.status, first.location]);
        // What a deletion took away is kept nowhere, to be answered again.
        if (name.endsWith("/delete_one")) {
          assertEquals(JSON.parse(again.text), { deleted_count: 1, deleted_document: null });
        } else assertEquals(again.text, first.text);
      }
      if (prepared.count) assertEquals(await prepared.count(), 1);
      if (prepared.other !== undefined) {
        const { status, text } = await send(method, { ...prepared, body: prepared.other }, key);
        assertEquals([status, /"code":"(\w+)"/.exec(text)?.[1]], [409, "idempotency_mismatch"]);
      }
    });
  }
}

Deno.test("every write has been looked at, and no key is without bounds", async () => {
  const writes = functions.flatMap((edge) => edge.routes).filter(({ method, path }) =>
    method !== "GET" && !READS.test(path)
  );
  assertEquals(writes.map(({ name }) => name).toSorted(), Object.keys(WRITES).toSorted());
  const { status } = await as("DELETE", `/conversations/${uuid()}`, {
    headers: { "idempotency-key": "x".repeat(256) },
  });
  assertEquals(status, 400);
});

Deno.test("a call that failed leaves its key free, and somebody else's key is another", async () => {
  const id = await newConversation(alice);
  const bob = await signUp();
  const headers = { "idempotency-key": uuid() };
  const remove = (by: typeof request) => by("DELETE", `/conversations/${id}`, { headers });
  assertEquals((await remove(bob.request)).status, 404);
  assertEquals((await remove(alice.request)).status, 204);
  assertEquals((await remove(alice.request)).status, 204);
  assertEquals((await remove(bob.request)).status, 404);
});

Deno.test("what is not meant to be called by name is not", async () => {
  const client = { apikey: secretKey, authorization: `Bearer ${alice.token}`, "content-type": "application/json" };
  const call = async (p_function: string, p_arguments: unknown) => {
    const body = JSON.stringify({ p_function, p_arguments, p_idempotency_key: uuid() });
    const response = await fetch(`${apiUrl}/rest/v1/rpc/call_once`, { method: "POST", headers: client, body });
    return { status: response.status, message: (await response.json()).message };
  };
  const refused = { status: 400, message: "invalid_request" };
  const id = await newConversation(alice);
  assertEquals(await call("get_conversation", { p_conversation_id: id }), refused);
  assertEquals(await call("pg_sleep", {}), refused);
  assertEquals(await call("delete_conversation", { p_conversation_id: id, p_force: true }), refused);
  assertEquals((await call("create_document_index", { p_collection: "c", p_field: "a" })).status, 403);
  assertEquals((await call("delete_conversation", { p_conversation_id: id })).status, 200);
});
