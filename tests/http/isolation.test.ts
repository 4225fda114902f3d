import { assert, assertEquals } from "@std/assert";
import { functions } from "../support/apps.ts";
import {
  backend,
  connect,
  newClient,
  newConversation,
  patiently,
  publishableKey,
  request,
  signUp,
} from "../support/stack.ts";

const alice = await signUp();
const mallory = await signUp();

/** Ids of documents of Alice's: one in its collection, one in quarantine. */
const DOCUMENTS = { stored: crypto.randomUUID(), failed: crypto.randomUUID() };

/** What each function needs for its routes to be called. A new route without an entry sends none and fails its control. */
const FIXTURES: Record<string, {
  /** A valid body for each route that takes one. */
  bodies: Record<string, unknown>;
  /** The query string of each route that requires one. */
  queries: Record<string, string>;
  /** Routes of backends alone: 403 for every user. */
  backendOnly?: string[];
  /** Routes that name a row in the body: 404 for a stranger, as those are with an id in the path. */
  rowInBody?: string[];
  /** The code that a stranger's request for Alice's row answers, with 404. */
  notFound: string | ((path: string) => string);
  /** Where it is another code, with 409, or where a stranger may use the same id for a row of their own: its status. */
  answers?: Record<string, string | number>;
  /** The code of a request without credentials, where it is not `unauthorized`. */
  unauthorized?: string;
  /** Makes a row of Alice's and says what the path's parameters are; none of them occurs in an answer to a stranger. */
  create: (route: string) => Promise<Record<string, string>>;
}> = {
  conversations: {
    bodies: {
      "POST /conversations": {},
      "PATCH /conversations/:id": { title: "x" },
      "POST /conversations/import": [],
      "POST /conversations/:id/fork": { at: 1 },
      "POST /conversations/:id/messages": { messages: [{ role: "user", content: "x" }] },
    },
    queries: { "GET /conversations/search": "?q=secret", "DELETE /conversations": "?confirm=all" },
    notFound: (path) => path.includes("/erasures/") ? "erasure_not_found" : "conversation_not_found",
    create: async (route): Promise<Record<string, string>> => {
      if (route === "GET /conversations/erasures/:id") {
        return { id: (await alice.request("DELETE", "/conversations?confirm=all")).body.id };
      }
      const id = await newConversation(alice, { title: "secret", messages: [{ role: "user", content: "secret" }] });
      const { body: { data: [message] } } = await alice.request("GET", `/conversations/${id}/messages`);
      return { id, message_id: message.id };
    },
  },
  sessions: {
    bodies: {
      "POST /sessions": {},
      "POST /sessions/:id/end": { summary: "secret" },
      "POST /sessions/:id/events": { events: [{ event_type: "user_message", content: "secret" }] },
    },
    // What this test takes must not stay away from the tests of the queue.
    queries: { "GET /sessions/unsummarized": "?limit=1&lease_seconds=1" },
    backendOnly: ["GET /sessions/unsummarized"],
    notFound: "session_not_found",
    create: async () => {
      const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });
      const events = [{ event_type: "user_message", content: { text: "secret" } }];
      await alice.request("POST", `/sessions/${id}/events`, { body: { events } });
      await alice.request("POST", `/sessions/${id}/end`, { body: {} }); // or its stream would not end
      return { id };
    },
  },
  openai: {
    bodies: {
      "POST /openai/v1/conversations": {},
      "POST /openai/v1/conversations/:conversation_id": { metadata: {} },
      "POST /openai/v1/conversations/:conversation_id/items": { items: [{ role: "user", content: "x" }] },
    },
    queries: {},
    notFound: (path) => path.includes("/responses/") ? "response_not_found" : "conversation_not_found",
    unauthorized: "invalid_api_key",
    create: async () => {
      const id = await newConversation(alice, {
        messages: [{ role: "user", content: "secret", item_id: "msg_secret" }],
      });
      const response_id = `resp_${crypto.randomUUID()}`;
      const response = { input: "secret", output: [], model: "m", provider: "p" };
      const stored = await alice.request("PUT", `/responses/${response_id}`, { body: response });
      assertEquals(stored.status, 201);
      return { conversation_id: `conv_${id.replaceAll("-", "")}`, item_id: "msg_secret", response_id };
    },
  },
  responses: {
    bodies: {
      "PUT /responses/:id": { input: "x", output: [], model: "m", provider: "p" },
      "POST /responses/:id/merge": { input: "x" },
    },
    queries: {},
    // Everybody has ids of their own: PUT makes one, and what one continues must be there.
    answers: { "PUT /responses/:id": 201, "POST /responses/:id/merge": "previous_response_not_found" },
    notFound: "response_not_found",
    create: async () => {
      const id = `resp_${crypto.randomUUID()}`;
      const body = { input: "secret", output: [], model: "m", provider: "p" };
      await alice.request("PUT", `/responses/${id}`, { body });
      return { id };
    },
  },
  documents: {
    bodies: {
      "POST /documents/:collection/find": {},
      "POST /documents/:collection/find_one": {},
      "POST /documents/:collection/count": {},
      "POST /documents/:collection/insert_one": { document: { text: "mine" } },
      "POST /documents/:collection/insert_many": { documents: [{ text: "mine" }] },
      "POST /documents/:collection/update_one": { filters: { text: "secret" }, params: { text: "mine" }, upsert: true },
      "POST /documents/:collection/delete_one": { filters: {} },
      "POST /documents/:collection/delete_many": { filters: { text: "secret" } },
      "PUT /documents/:collection/version": { version: "1", expected_version: null },
      "POST /documents/:collection/failures": { id: DOCUMENTS.stored, reason: "x" },
      "POST /documents/:collection/failures/restore": { id: DOCUMENTS.failed },
      "POST /documents/:collection/indexes": { field: "text" },
    },
    queries: { "DELETE /documents/:collection/indexes": "?field=text" },
    backendOnly: [
      "GET /documents/:collection/indexes",
      "POST /documents/:collection/indexes",
      "DELETE /documents/:collection/indexes",
    ],
    rowInBody: ["POST /documents/:collection/failures", "POST /documents/:collection/failures/restore"],
    notFound: "document_not_found",
    create: async (route): Promise<Record<string, string>> => {
      const collection = `secret_${crypto.randomUUID()}`;
      const documents = Object.values(DOCUMENTS).map((id) => ({ id, text: "secret" }));
      await alice.request("POST", `/documents/${collection}/insert_many`, { body: { documents } });
      await alice.request("POST", `/documents/${collection}/failures`, { body: { id: DOCUMENTS.failed, reason: "x" } });
      if (route === "DELETE /documents/:collection/indexes") {
        const index = { body: { field: "text" } };
        await patiently(() => backend()("POST", `/documents/${collection}/indexes`, index));
      }
      return { collection, id: DOCUMENTS.stored };
    },
  },
  users: {
    bodies: {},
    queries: { "DELETE /users/me": "?confirm=all" },
    backendOnly: ["DELETE /users/me", "GET /users/erasures/:id"],
    notFound: "not_found",
    create: async (route): Promise<Record<string, string>> => {
      if (route === "GET /users/erasures/:id") {
        return { id: (await backend(alice.id)("DELETE", "/users/me?confirm=all")).body.id };
      }
      const id = await newConversation(alice, { messages: [{ role: "user", content: "secret" }] });
      const { body: session } = await alice.request("POST", "/sessions", { body: {} });
      return { id, session_id: session.id };
    },
  },
  retention: {
    bodies: {},
    queries: {},
    backendOnly: ["GET /retention/policies", "GET /retention/runs", "GET /retention/preview"],
    notFound: "not_found",
    create: () => Promise.resolve({}),
  },
};

/** The code in an error's body: Threadbase's own, or OpenAI's. */
// deno-lint-ignore no-explicit-any -- the body of any answer
const codeOf = (body: any): string => (body.error ?? body).code;

for (const { name: functionName, routes, operations } of functions) {
  const fixture = FIXTURES[functionName];
  const { bodies, queries, backendOnly = [], rowInBody = [], notFound, answers = {}, create } = fixture;
  const { unauthorized = "unauthorized" } = fixture;

  Deno.test(`${functionName}: the route table is what this test believes it to be`, () => {
    assert(routes.length >= 3, `${routes.length} routes`);
    for (const name of [...Object.keys({ ...bodies, ...queries }), ...backendOnly, ...rowInBody]) {
      assert(routes.some((route) => route.name === name), `${name} is gone`);
    }
  });

  for (const { method, path, name } of routes) {
    if (operations[name].public) continue;
    const options = { body: bodies[name] };

    Deno.test(`${name}: 401 without a token, 404 for another user, 2xx for the owner`, async () => {
      const parameters = await create(name);
      const target = path.replaceAll(/:(\w+)/g, (_, key) => parameters[key]) + (queries[name] ?? "");
      const anonymous = await request(method, target, { ...options, headers: { apikey: publishableKey } });
      assertEquals([anonymous.status, codeOf(anonymous.body)], [401, unauthorized]);

      if (backendOnly.includes(name)) {
        const refused = await alice.request(method, target, options);
        assertEquals([refused.status, refused.body.code], [403, "forbidden"]);
      } else {
        for (const stranger of [mallory.request, backend(mallory.id)]) {
          const answer = await stranger(method, target, options);
          if (typeof answers[name] === "number") {
            // The second stranger is the same user: what is there already is theirs.
            assert([200, answers[name]].includes(answer.status) && !JSON.stringify(answer.body).includes("secret"));
          } else if (/\/:\w*id\b/.test(path) || rowInBody.includes(name)) {
            const code = typeof notFound === "string" ? notFound : notFound(path);
            assertEquals([answer.status, codeOf(answer.body)], answers[name] ? [409, answers[name]] : [404, code]);
          } else {
            // 409: what the stranger has stored there a moment ago, as themself.
            assert(answer.status < 300 || stranger !== mallory.request && answer.status === 409, `${answer.status}`);
            const { collection: _, ...ids } = parameters; // everybody has collections of any name
            const body = JSON.stringify(answer.body);
            assert(!Object.values(ids).some((id) => body.includes(id)), body);
          }
        }
      }

      const asOwner = backendOnly.includes(name) ? backend(alice.id) : alice.request;
      const owner = await patiently(() => asOwner(method, target, options));
      assert(owner.status >= 200 && owner.status < 300, `${owner.status} ${JSON.stringify(owner.body)}`);
    });
  }
}

Deno.test("the tables show another user nothing through the REST API, and anon is refused", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "secret" }] });
  const sql = connect();
  const tables = (await sql`select tablename from pg_tables where schemaname = 'public'`).map((row) => row.tablename);
  await sql.end();
  assert(tables.includes("conversations") && tables.includes("conversation_messages"));
  const anon = newClient();
  for (const table of tables) {
    const { data, error } = await mallory.client.from(table as "conversations").select();
    assertEquals(
      [error, data?.filter((row) => (row.user_id ?? (row as unknown as { owner_id: string }).owner_id) !== mallory.id)],
      [null, []],
      table,
    );
    const refused = await anon.from(table as "conversations").select();
    assertEquals(refused.error?.code, "42501", table);
  }
  const { data } = await alice.client.from("conversation_messages").select().eq("conversation_id", id);
  assertEquals(data?.map((row) => row.content), ["secret"]);
});

Deno.test("no RPC answers anon, and the private schema is not exposed", async () => {
  const sql = connect();
  const functions = await sql`
    select proname as name, proargnames[1:pronargs - pronargdefaults] as required, array(select format_type(t, null) from unnest(proargtypes) t) as types
    from pg_proc where pronamespace = 'public'::regnamespace`;
  await sql.end();
  assert(functions.length >= 7);
  const anon = newClient();
  // deno-lint-ignore no-explicit-any -- the names come from the catalogue
  const rpc = (client: any, name: string, args = {}) => client.rpc(name, args);
  const samples: Record<string, unknown> = { uuid: crypto.randomUUID(), jsonb: {}, integer: 1, text: "x" };
  for (const { name, required, types } of functions) {
    const args = (required ?? []).map((arg: string, i: number) => [arg, samples[types[i]]]);
    const { error } = await rpc(anon, name, Object.fromEntries(args));
    assertEquals(error?.code, "42501", name);
  }
  const { error } = await rpc(alice.client.schema("private" as "public"), "caller_role");
  assert(error, "private is not an exposed schema");
  const { error: none } = await alice.client.rpc("list_conversations");
  assertEquals(none, null);
});
