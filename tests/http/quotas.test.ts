// Quotas as clients meet them: through functions, /rest/v1 and RPC, on a stack of its own.
import { createClient } from "@supabase/supabase-js";
import { assert, assertEquals } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startStack } from "../../local/stack.ts";

interface Answer {
  status: number;
  headers: Headers;
  // deno-lint-ignore no-explicit-any -- the body of any answer
  body: any;
}

Deno.test("a user who has used up a quota is told which, and when to come again", async (t) => {
  await using cleanUp = new AsyncDisposableStack();
  const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  cleanUp.defer(() => Deno.remove(dataDir, { recursive: true }));
  const stack = await startStack({
    port: 0,
    dbPort: 0,
    dataDir,
    postgresBin: Deno.env.get("POSTGRES_BIN") || undefined,
  });
  cleanUp.defer(stack.stop);
  const sql = postgres(stack.dbUrl, { max: 2, onnotice: () => {} });
  cleanUp.defer(() => sql.end());
  const setQuota = (metric: string, quota: number | null, user: string | null = null) =>
    sql`select private.set_quota(${metric}, ${quota}, ${user})`;

  const send = async (
    headers: Record<string, string>,
    method: string,
    path: string,
    body?: object,
  ): Promise<Answer> => {
    const response = await fetch(stack.apiUrl + path, {
      method,
      headers: { "content-type": "application/json", prefer: "return=representation", ...headers },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
  };
  const signUp = async () => {
    const options = { auth: { persistSession: false, autoRefreshToken: false } };
    const client = createClient(stack.apiUrl, stack.publishableKey, options);
    const { data, error } = await client.auth.signUp({
      email: `${crypto.randomUUID()}@example.com`,
      password: crypto.randomUUID(),
    });
    if (error) throw error;
    const headers = { apikey: stack.publishableKey, authorization: `Bearer ${data.session!.access_token}` };
    return {
      id: data.user!.id,
      send: (method: string, path: string, body?: object) => send(headers, method, path, body),
    };
  };
  const [alice, bob] = [await signUp(), await signUp()];
  const asBackend = (id: string) => (method: string, path: string, body?: object) =>
    send({ apikey: stack.secretKey, "x-user-id": id }, method, path, body);
  const newConversation = async ({ send }: Pick<typeof alice, "send">) =>
    (await send("POST", "/functions/v1/conversations", {})).body.id;

  /** A quota's refusal, whoever words it. */
  const assertRefused = ({ status, headers, body }: Answer, metric: string, code = "quota_exceeded") => {
    assertEquals(status, 429, JSON.stringify(body));
    const wait = Number(headers.get("retry-after"));
    assert(Math.abs(wait - (86_400 - Date.now() / 1000 % 86_400)) < 60, `retry-after: ${wait}`);
    if (code === "PT429") assertEquals([body.code, body.message], [code, "quota_exceeded"]);
    else {
      assertEquals([body.code, body.retryable], [code, true]);
      assertEquals(headers.get("x-should-retry"), "false");
    }
    const details = typeof body.details === "string" ? JSON.parse(body.details) : body.details;
    assertEquals(details[0].limit, metric);
  };
  const quotasOf = async ({ send }: Pick<typeof alice, "send">) => {
    const { status, body } = await send("GET", "/functions/v1/users/me/quotas");
    assertEquals(status, 200);
    return body.data.map(({ metric, limit, used }: Record<string, unknown>) => [metric, limit, used]);
  };

  await t.step("writes, through functions, /rest/v1 and RPC", async () => {
    const id = await newConversation(alice);
    const messages = [{ role: "user", content: "x" }];
    const writes: [name: string, code: string, write: (user: typeof alice, id: string) => Promise<Answer>][] = [
      ["a function", "quota_exceeded", (user, id) => {
        return user.send("POST", `/functions/v1/conversations/${id}/messages`, { messages });
      }],
      ["RPC", "PT429", (user, id) => {
        return user.send("POST", "/rest/v1/rpc/append_messages", { p_conversation_id: id, p_messages: messages });
      }],
      ["/rest/v1", "PT429", (user, id) => {
        return user.send("POST", "/rest/v1/conversation_messages", { conversation_id: id, ...messages[0] });
      }],
    ];
    await setQuota("writes", writes.length, alice.id);
    assertEquals(await quotasOf(alice), [["writes", 3, 0]]);
    for (const [name, , write] of writes) assert((await write(alice, id)).status < 300, name);
    assertEquals(await quotasOf(alice), [["writes", 3, 3]]);
    const bobs = await newConversation(bob);
    for (const [name, code, write] of writes) {
      assertRefused(await write(alice, id), "writes", code);
      assert((await write(bob, bobs)).status < 300, `Bob's by ${name}`);
    }
    const openai = await alice.send("POST", "/functions/v1/openai/v1/conversations", {});
    assertEquals([openai.status, openai.body.error.code], [429, "insufficient_quota"]);
    assertRefused(
      await asBackend(alice.id)("POST", `/functions/v1/conversations/${id}/messages`, { messages }),
      "writes",
    );
    // Reading and deleting go on, and the refused have left nothing.
    const { body } = await alice.send("GET", `/functions/v1/conversations/${id}/messages`);
    assertEquals(body.data.length, writes.length);
    assertEquals((await alice.send("DELETE", `/functions/v1/conversations/${id}`)).status, 204);
    // A user's own quotas alone.
    assertEquals(await quotasOf(bob), []);
    assertEquals(await quotasOf({ send: asBackend(alice.id) }), [["writes", 3, 3]]);
    const { status } = await send({ apikey: stack.publishableKey }, "POST", "/rest/v1/rpc/get_quotas", {});
    assert(status === 401 || status === 403 || status === 404, `${status}`);
    await setQuota("writes", null, alice.id);
    assertEquals(await quotasOf(alice), []);
  });

  await t.step("requests, through functions, /rest/v1 and RPC; without a quota there is no hook", async () => {
    const id = await newConversation(alice);
    const list = { p_conversation_id: id };
    const requests: [code: string, method: string, path: string, body?: object][] = [
      ["quota_exceeded", "PATCH", `/functions/v1/conversations/${id}`, { title: "x" }],
      ["quota_exceeded", "GET", `/functions/v1/conversations/${id}`],
      ["PT429", "PATCH", `/rest/v1/conversations?id=eq.${id}`, { title: "y" }],
      ["PT429", "GET", "/rest/v1/conversations?select=id"],
      ["PT429", "POST", "/rest/v1/rpc/update_conversation", { ...list, p_changes: { title: "z" } }],
      ["PT429", "POST", "/rest/v1/rpc/get_conversation", list],
    ];
    await setQuota("requests", 0, alice.id);
    const until = Date.now() + 10_000; // PostgREST hears of it by itself
    while ((await alice.send("GET", "/rest/v1/conversations?select=id")).status === 200) assert(Date.now() < until);
    for (const [code, ...request] of requests) {
      assertRefused(await alice.send(...request), "requests", code);
      assert((await asBackend(bob.id)("GET", "/functions/v1/conversations")).status === 200);
    }
    assertRefused(await asBackend(alice.id)("GET", "/functions/v1/conversations"), "requests");
    assertEquals((await bob.send("GET", "/rest/v1/conversations?select=id")).status, 200);
    assertEquals((await send({ apikey: stack.secretKey }, "GET", `/functions/v1/conversations/${id}`)).status, 200);

    await setQuota("requests", 1000, alice.id);
    for (const [code, ...request] of requests) {
      const { status } = await alice.send(...request);
      assert(status < 300, `${code} ${request} answered ${status}`);
    }
    // The connections' reads are counted by the next writes on them.
    for (let i = 0; i < 40; i++) await alice.send("PATCH", `/rest/v1/conversations?id=eq.${id}`, { title: `${i}` });
    const [[metric, limit, used]] = await quotasOf(alice);
    assertEquals([metric, limit], ["requests", 1000]);
    assert(used >= 43 && used <= 46, `${used}`);

    await setQuota("requests", null, alice.id);
    const [{ hooks }] = await sql`
      select count(*)::int as hooks from pg_db_role_setting s, unnest(setconfig) c where c like 'pgrst.db_pre_request%'`;
    assertEquals(hooks, 0);
    const back = Date.now() + 10_000;
    while ((await alice.send("GET", "/rest/v1/conversations?select=id")).status !== 200) assert(Date.now() < back);
  });
});
