import { assert, assertEquals } from "@std/assert";
import { takeUnsummarized } from "../../supabase/functions/sessions/repo.ts";
import { type Unsummarized, unsummarized, unsummarizedQuery } from "../../supabase/functions/sessions/schemas.ts";
import { backend, connect, newClient, secretKey, signUp, uuid } from "../support/stack.ts";

// Every test takes the sessions of a user of its own, so that none takes another's.

/** Sessions of a user that ended one after the other, and their ids in that order. */
async function endedSessions(userId: string, count: number): Promise<string[]> {
  const sql = connect();
  const rows = await sql`
    insert into sessions (id, user_id, start_time, end_time)
    select gen_random_uuid(), ${userId}, now() - interval '2 days', now() - interval '1 day' + n * interval '1 second'
    from generate_series(1, ${count}) n
    returning id, end_time`;
  await sql.end();
  return rows.toSorted((a, b) => a.end_time - b.end_time).map((row) => row.id);
}

async function take(userId: string, query = ""): Promise<Unsummarized> {
  const { status, body, headers } = await backend(userId)("GET", `/sessions/unsummarized${query}`);
  assertEquals([status, headers.get("cache-control")], [200, "no-store"], JSON.stringify(body));
  return unsummarized.parse(body);
}

const ids = ({ data }: Unsummarized) => data.map((session) => session.id);

/** The lease of a session runs out, as if the time had passed. */
async function expire(sessionIds: string[]): Promise<void> {
  const sql = connect();
  await sql`
    update private.unsummarized_sessions set lease_expires_at = now() - interval '1 second'
    where session_id in ${sql(sessionIds)}`;
  await sql.end();
}

Deno.test("ended sessions without a summary are given once, the oldest end first, until they have one", async () => {
  const userId = uuid();
  const call = backend(userId);
  const { body: open } = await call("POST", "/sessions", { body: {} });
  const { body: done } = await call("POST", "/sessions", { body: {} });
  await call("POST", `/sessions/${done.id}/end`, { body: { summary: "" } });
  const ended = await endedSessions(userId, 3);
  const { body: last } = await call("POST", "/sessions", { body: {} });
  const { body: session } = await call("POST", `/sessions/${last.id}/end`, { body: {} });

  const first = await take(userId, "?limit=3");
  assertEquals([ids(first), first.has_more], [ended, true]);
  const { data: [{ lease_expires_at, ...given }], has_more } = await take(userId, "?limit=3&lease_seconds=60");
  assertEquals([given, has_more], [{ ...session, attempts: 1 }, false]);
  const seconds = (Date.parse(lease_expires_at) - Date.now()) / 1000;
  assert(seconds > 0 && seconds < 90, `${seconds}`);
  assertEquals(await take(userId), { data: [], has_more: false });

  // The summary of the first ends its wait, an empty one as well; the others come back when their lease runs out.
  await call("POST", `/sessions/${ended[0]}/end`, { body: { summary: "They agreed." } });
  await call("POST", `/sessions/${ended[1]}/end`, { body: { summary: "" } });
  const sql = connect();
  await sql`update private.unsummarized_sessions set lease_expires_at = now() where user_id = ${userId}`;
  await sql.end();
  assertEquals(ids(await take(userId)), [ended[2], last.id]);

  await call("POST", `/sessions/${open.id}/end`, { body: {} });
  assertEquals(ids(await take(userId)), [open.id]);
});

Deno.test("a session that no worker can summarise comes after those that were taken less often", async () => {
  const userId = uuid();
  const [poison, ...old] = await endedSessions(userId, 3);
  assertEquals(ids(await take(userId, "?limit=1")), [poison]);
  await expire([poison]);
  const next = await take(userId, "?limit=2");
  assertEquals(ids(next), old);
  const again = await take(userId);
  assertEquals(again.data.map(({ id, attempts }) => [id, attempts]), [[poison, 2]]);
  // Both retried: by attempts first, then by end.
  await expire([poison, ...old]);
  const [fresh] = await endedSessions(userId, 1);
  assertEquals((await take(userId)).data.map(({ id, attempts }) => [id, attempts]), [
    [fresh, 1],
    [old[0], 2],
    [old[1], 2],
    [poison, 3],
  ]);
});

Deno.test("two workers at once take 200 sessions: each session once, and all of them", async () => {
  const userId = uuid();
  const ended = await endedSessions(userId, 200);
  const work = async () => {
    const taken: string[] = [];
    for (let page; (page = ids(await take(userId, "?limit=7"))).length > 0;) taken.push(...page);
    return taken;
  };
  const [one, two] = await Promise.all([work(), work()]);
  const taken = [...one, ...two];
  assertEquals(new Set(taken).size, taken.length);
  // A backend that acts for nobody may have taken one meanwhile: isolation.test.ts is one, for a second.
  for (let tries = 0; taken.length < 200 && tries < 50; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    taken.push(...await work());
  }
  assertEquals(taken.toSorted(), ended.toSorted());
  assert(one.length > 0 && two.length > 0);
});

Deno.test("a session that ends through the tables waits too, and one that goes on does not", async () => {
  const userId = uuid();
  const tables = newClient(secretKey);
  const id = uuid();
  await tables.from("sessions").upsert({ id, user_id: userId, start_time: new Date().toISOString() }).throwOnError();
  assertEquals(ids(await take(userId)), []);
  const end = (values: { end_time?: string | null; summary?: string | null }) =>
    tables.from("sessions").upsert({ id, user_id: userId, ...values }).throwOnError();
  await end({ end_time: new Date().toISOString() });
  assertEquals(ids(await take(userId)), [id]);
  await expire([id]);
  await end({ end_time: null });
  assertEquals(ids(await take(userId)), []);
  await end({ end_time: new Date().toISOString(), summary: "told" });
  assertEquals(ids(await take(userId)), []);
  await end({ summary: null });
  assertEquals(ids(await take(userId)), [id]);
});

Deno.test("for backends alone, acting for one user or for nobody", async () => {
  const alice = await signUp();
  const [id] = await endedSessions(alice.id, 1);
  const refused = await alice.request("GET", "/sessions/unsummarized");
  assertEquals([refused.status, refused.body.code], [403, "forbidden"]);
  const { error } = await alice.client.rpc("take_unsummarized");
  assertEquals(error?.code, "42501");
  assertEquals(ids(await take(uuid())), []);
  assertEquals(ids(await take(alice.id)), [id]);
  await expire([id]);
  // Who acts for nobody takes from everybody's; what is given depends on the tests that run beside this one.
  const anybody = await backend()("GET", "/sessions/unsummarized?limit=1&lease_seconds=1");
  assertEquals([anybody.status, anybody.body.data.length], [200, 1]);
});

Deno.test("bad limits are refused by name, at the edge and in SQL, and other verbs with 405", async () => {
  for (
    const [query, path] of [
      ["limit=0", "limit"],
      ["limit=1001", "limit"],
      ["lease_seconds=0", "lease_seconds"],
      ["lease_seconds=86401", "lease_seconds"],
      ["user_id=x", "user_id"],
    ]
  ) {
    const { status, body } = await backend()("GET", `/sessions/unsummarized?${query}`);
    assertEquals([status, body.details?.[0].path], [400, path], query);
  }
  for (const args of [{ p_limit: 0 }, { p_lease_seconds: 86_401 }]) {
    const { error } = await newClient(secretKey).rpc("take_unsummarized", args);
    assertEquals([error?.code, error?.message], ["PT400", "invalid_request"]);
  }
  const { status, headers } = await backend()("DELETE", "/sessions/unsummarized");
  assertEquals([status, headers.get("allow")], [405, "GET"]);
});

Deno.test("one request is one RPC", async () => {
  const calls: string[] = [];
  const supabase = new Proxy(newClient(secretKey), {
    get(client, property) {
      assertEquals(property, "rpc");
      // deno-lint-ignore no-explicit-any -- whatever the repository calls
      return (name: any, args: any) => (calls.push(name), client.rpc(name, args));
    },
  });
  await takeUnsummarized({ supabase, isBackend: true, userId: uuid() }, unsummarizedQuery.parse({}));
  assertEquals(calls, ["take_unsummarized"]);
});
