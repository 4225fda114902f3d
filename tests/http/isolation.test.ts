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
  /** Routes that name a row in the body: 404 for a stranger, as those with an `:id` are. */
  rowInBody?: string[];
  /** The code that a stranger's request for Alice's row answers. */
  notFound: string;
  /** Makes a row of Alice's and says what the path's parameters are; `id` occurs in no answer to a stranger. */
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
    queries: { "GET /conversations/search": "?q=secret" },
    notFound: "conversation_not_found",
    create: async () => {
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
    queries: {},
    notFound: "session_not_found",
    create: async () => {
      const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });
      const events = [{ event_type: "user_message", content: { text: "secret" } }];
      await alice.request("POST", `/sessions/${id}/events`, { body: { events } });
      await alice.request("POST", `/sessions/${id}/end`, { body: {} }); // or its stream would not end
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
    create: async (route) => {
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
};

for (const { name: functionName, routes, operations } of functions) {
  const { bodies, queries, backendOnly = [], rowInBody = [], notFound, create } = FIXTURES[functionName];

  Deno.test(`${functionName}: the route table is what this test believes it to be`, () => {
    assert(routes.length >= 7, `${routes.length} routes`);
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
      assertEquals([anonymous.status, anonymous.body.code], [401, "unauthorized"]);

      if (backendOnly.includes(name)) {
        const refused = await alice.request(method, target, options);
        assertEquals([refused.status, refused.body.code], [403, "forbidden"]);
      } else {
        for (const stranger of [mallory.request, backend(mallory.id)]) {
          const answer = await stranger(method, target, options);
          if (path.includes(":id") || rowInBody.includes(name)) {
            assertEquals([answer.status, answer.body.code], [404, notFound]);
          } else {
            // 409: what the stranger has stored there a moment ago, as themself.
            assert(answer.status < 300 || stranger !== mallory.request && answer.status === 409, `${answer.status}`);
            assert(!JSON.stringify(answer.body).includes(parameters.id));
          }
        }
      }

      const asOwner = backendOnly.includes(name) ? backend() : alice.request;
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
