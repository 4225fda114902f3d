import { assert, assertEquals } from "@std/assert";
import { app } from "../../supabase/functions/conversations/app.ts";
import { backend, connect, newClient, newConversation, publishableKey, request, signUp } from "../support/stack.ts";

const alice = await signUp();
const mallory = await signUp();

/** A valid body for each route that takes one. A new route without an entry sends none and fails its control. */
const BODIES: Record<string, unknown> = {
  "POST /conversations": {},
  "PATCH /conversations/:id": { title: "x" },
  "POST /conversations/import": [],
  "POST /conversations/:id/fork": { at: 1 },
  "POST /conversations/:id/messages": { messages: [{ role: "user", content: "x" }] },
};
/** The query string of each route that requires one. */
const QUERIES: Record<string, string> = {
  "GET /conversations/search": "?q=secret",
};
const PUBLIC = ["GET /conversations/health", "GET /conversations/openapi.json"];

const routes = app.routes
  .filter(({ method, path }) => method !== "ALL" && !path.endsWith("/*"))
  .map(({ method, path }) => ({ method, path, name: `${method} ${path}` }))
  .filter(({ name }, i, all) => all.findIndex((route) => route.name === name) === i && !PUBLIC.includes(name));

Deno.test("the route table is what this test believes it to be", () => {
  assert(routes.length >= 7, `${routes.length} routes`);
  for (const name of Object.keys({ ...BODIES, ...QUERIES })) {
    assert(routes.some((route) => route.name === name), `${name} is gone`);
  }
});

for (const { method, path, name } of routes) {
  const options = { body: BODIES[name] };

  Deno.test(`${name}: 401 without a token, 404 for another user, 2xx for the owner`, async () => {
    const id = await newConversation(alice, { title: "secret", messages: [{ role: "user", content: "secret" }] });
    const { body: { data: [message] } } = await alice.request("GET", `/conversations/${id}/messages`);
    const target = path.replace(":id", id).replace(":message_id", message.id) + (QUERIES[name] ?? "");
    const anonymous = await request(method, target, { ...options, headers: { apikey: publishableKey } });
    assertEquals([anonymous.status, anonymous.body.code], [401, "unauthorized"]);

    for (const stranger of [mallory.request, backend(mallory.id)]) {
      const answer = await stranger(method, target, options);
      if (path.includes(":id")) {
        assertEquals([answer.status, answer.body.code], [404, "conversation_not_found"]);
      } else {
        assert(answer.status < 300 && !JSON.stringify(answer.body).includes(id));
      }
    }

    const owner = await alice.request(method, target, options);
    assert(owner.status >= 200 && owner.status < 300, `${owner.status} ${JSON.stringify(owner.body)}`);
  });
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
      [error, data?.filter((row) => row.user_id !== mallory.id)],
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
