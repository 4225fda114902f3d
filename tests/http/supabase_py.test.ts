// The requests that supabase-py sends for table(…).upsert/insert/update/select, as it sends them: a backend that was
// written for two plain tables works on these. https://github.com/supabase/postgrest-py
import { assertEquals } from "@std/assert";
import { apiUrl, connect, secretKey, signUp, uuid } from "../support/stack.ts";

const headers = {
  apikey: secretKey,
  authorization: `Bearer ${secretKey}`,
  accept: "application/json",
  "accept-profile": "public",
  "content-profile": "public",
  "content-type": "application/json",
};

async function rest(method: string, path: string, prefer: string, body?: unknown) {
  const response = await fetch(`${apiUrl}/rest/v1/${path}`, {
    method,
    headers: { ...headers, ...(prefer && { prefer }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
}

const upsert = (row: unknown) => rest("POST", "sessions", "return=representation,resolution=merge-duplicates", row);
const insert = (row: unknown) => rest("POST", "event_logs", "return=representation", row);

Deno.test("upsert a session, insert its events, read them back in order, end it with a summary", async () => {
  const id = uuid();
  const opened = await upsert({ id, user_id: "anonymous_user" });
  assertEquals([opened.status, opened.body[0].id, opened.body[0].last_sequence], [201, id, 0]);

  for (const [i, [event_type, text]] of [["user_message", "Hello"], ["ai_response", "Hi!"]].entries()) {
    const { status, body } = await insert({ session_id: id, event_type, content: { text } });
    assertEquals([status, body[0].sequence, body[0].user_id], [201, i + 1, "anonymous_user"]);
  }
  const many = await insert(
    ["a", "b", "c"].map((text) => ({ session_id: id, event_type: "ai_chunk", content: { text } })),
  );
  assertEquals(many.body.map((row: { sequence: number }) => row.sequence), [3, 4, 5]);

  // The page was refreshed: the same upsert again changes nothing.
  const again = await upsert({ id, user_id: "anonymous_user" });
  assertEquals([again.body[0].last_sequence, again.body[0].start_time], [5, opened.body[0].start_time]);

  const logs = await rest("GET", `event_logs?select=*&session_id=eq.${id}&order=created_at.asc`, "");
  assertEquals(logs.body.map((row: { content: { text: string } }) => row.content.text), [
    "Hello",
    "Hi!",
    "a",
    "b",
    "c",
  ]);

  const ended = await rest("PATCH", `sessions?id=eq.${id}`, "return=representation", {
    end_time: "2099-01-01T10:00:00.123456", // datetime.now().isoformat(): without a zone
    summary: "Said hello.",
  });
  assertEquals([ended.status, ended.body[0].summary, ended.body[0].duration > 0], [200, "Said hello.", true]);
});

Deno.test("forty inserts at once are numbered without a gap, together with the function's own", async () => {
  const id = uuid();
  await upsert({ id, user_id: "anonymous_user" });
  await Promise.all(Array.from({ length: 40 }, async (_, i) => {
    if (i % 4) return await insert({ session_id: id, event_type: "ai_chunk", content: { text: `${i}` } });
    const response = await fetch(`${apiUrl}/functions/v1/sessions/${id}/events`, {
      method: "POST",
      headers: { apikey: secretKey, "content-type": "application/json" },
      body: JSON.stringify({ events: [{ event_type: "ai_chunk", content: { text: `${i}` } }] }),
    });
    assertEquals([response.status, (await response.json()).events.length], [201, 1]);
  }));
  const { body } = await rest("GET", `event_logs?select=sequence&session_id=eq.${id}&order=sequence`, "");
  assertEquals(body.map((row: { sequence: number }) => row.sequence), Array.from({ length: 40 }, (_, i) => i + 1));
  const sql = connect();
  const [{ counted }] = await sql`select sum(count)::int as counted from private.event_counts where session_id = ${id}`;
  await sql.end();
  assertEquals(counted, 40);
});

Deno.test("rows of one insert may have different columns: what a row leaves out is null", async () => {
  const id = uuid();
  const sessions = 'sessions?columns="id","user_id","start_time","metadata"';
  assertEquals((await rest("POST", sessions, "return=minimal", [{ id, user_id: "x" }])).status, 201);
  const events = 'event_logs?columns="session_id","event_type","content","occurred_at","source"';
  const inserted = await rest("POST", events, "return=minimal", [
    { session_id: id, event_type: "ai_chunk", content: {}, occurred_at: new Date().toISOString(), source: "tts" },
    { session_id: id, event_type: "ai_chunk", content: {} },
  ]);
  assertEquals(inserted.status, 201);
  const sql = connect();
  const stored =
    await sql`select sequence, occurred_at = created_at as now from event_logs where session_id = ${id} order by 1`;
  assertEquals(stored.map((row) => [row.sequence, row.now]), [[1, false], [2, true]]);
  await sql.end();
});

Deno.test("bulk inserts over several sessions, in the order of their sessions, do not deadlock", async () => {
  const ids = Array.from({ length: 4 }, () => uuid()).toSorted();
  for (const id of ids) await upsert({ id, user_id: "buffered" });
  const bulk = ids.flatMap((session_id) =>
    Array.from({ length: 10 }, (_, i) => ({ session_id, event_type: "ai_chunk", content: { text: `${i}` } }))
  );
  const answers = await Promise.all(Array.from({ length: 8 }, () => insert(bulk)));
  assertEquals(answers.map(({ status }) => status), Array(8).fill(201));
  for (const id of ids) {
    const { body } = await rest("GET", `sessions?id=eq.${id}&select=last_sequence`, "");
    assertEquals(body, [{ last_sequence: 80 }]);
  }
});

Deno.test("what a user says of time is about now; a backend may bring its history", async () => {
  const alice = await signUp();
  const claims: Record<string, string>[] = [{ start_time: "9999-12-30" }, { start_time: "1970-01-02" }, {
    end_time: "9999-12-30",
  }];
  for (const row of claims) {
    const { error } = await alice.client.from("sessions").insert(row as { start_time: string });
    assertEquals(error?.message, "invalid_request", JSON.stringify(row));
  }
  const { data } = await alice.client.from("sessions").insert({ metadata: {} }).select().single().throwOnError();
  const moved = await alice.client.from("sessions").update({ end_time: "1971-01-01" }).eq("id", data.id);
  assertEquals(moved.error?.message, "invalid_request");
  await alice.client.from("sessions").update({ end_time: new Date().toISOString() }).eq("id", data.id).throwOnError();
  const old = await upsert({
    id: uuid(),
    user_id: alice.id,
    start_time: "2020-01-01T10:00:00Z",
    end_time: "2020-01-01T10:01:00Z",
  });
  assertEquals([old.status, old.body[0].duration], [201, 60]);
});

Deno.test("nobody forges a number, an owner or a time, changes an event, or moves a session to another user", async () => {
  const id = uuid();
  await upsert({ id, user_id: "one" });
  const event = { session_id: id, event_type: "system", content: {} };
  for (const column of [{ sequence: 9 }, { user_id: "two" }, { created_at: "2020-01-01" }]) {
    assertEquals((await insert({ ...event, ...column })).body.code, "42501", JSON.stringify(column));
  }
  assertEquals((await insert(event)).status, 201);
  assertEquals((await upsert({ id, user_id: "two" })).body.code, "PT409");
  assertEquals((await rest("PATCH", `event_logs?session_id=eq.${id}`, "", { content: {} })).body.code, "42501");
  assertEquals((await rest("DELETE", `event_logs?session_id=eq.${id}`, "")).body.code, "42501");
  assertEquals((await rest("DELETE", `sessions?id=eq.${id}`, "")).body.code, "42501");
  assertEquals((await rest("PATCH", `sessions?id=eq.${id}`, "", { last_sequence: 0 })).body.code, "42501");
  const unknown = await insert({ ...event, session_id: uuid() });
  assertEquals([unknown.status, unknown.body.message], [404, "session_not_found"]);
});

Deno.test("a user writes to their own sessions alone", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const { data } = await alice.client.from("sessions").insert({ metadata: {} }).select().single().throwOnError();
  assertEquals(data.user_id, alice.id);
  const event = { session_id: data.id, event_type: "user_message", content: { text: "mine" } };
  const { data: stored } = await alice.client.from("event_logs").insert(event).select().single().throwOnError();
  assertEquals([stored.sequence, stored.user_id], [1, alice.id]);
  const foreign = await bob.client.from("event_logs").insert(event);
  assertEquals([foreign.status, foreign.error?.message], [404, "session_not_found"]);
  const posing = await bob.client.from("sessions").insert({ user_id: alice.id });
  assertEquals(posing.error?.code, "42501");
  assertEquals((await bob.client.from("event_logs").select().eq("session_id", data.id)).data, []);
});

Deno.test("a partition is not there for the REST API, whatever the schema asked for", async () => {
  const sql = connect();
  const leaves = (await sql`
    select c.relname as name, n.nspname as schema
    from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_namespace n on n.oid = c.relnamespace
    where i.inhparent = 'public.event_logs'::regclass`).map((row) =>
    row as unknown as { name: string; schema: string }
  );
  await sql.end();
  assertEquals([leaves.length >= 5, new Set(leaves.map(({ schema }) => schema))], [true, new Set(["private"])]);
  for (const { name } of leaves) {
    for (const profile of ["public", "private"]) {
      const response = await fetch(`${apiUrl}/rest/v1/${name}`, { headers: { ...headers, "accept-profile": profile } });
      await response.body?.cancel();
      assertEquals(response.status >= 400, true, `${profile}.${name} answered ${response.status}`);
    }
  }
  assertEquals((await rest("GET", "event_logs?limit=1", "")).status, 200);
});
