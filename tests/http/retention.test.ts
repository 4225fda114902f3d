// What a backend is told about retention. What retention does is in tests/database/retention.test.ts.
import { assert, assertEquals } from "@std/assert";
import { backend, connect, newClient, secretKey, signUp } from "../support/stack.ts";

const get = (path: string) => backend()("GET", `/retention${path}`);

Deno.test("the defaults are those of the README, durations in ISO 8601", async () => {
  const { status, body } = await get("/policies");
  assertEquals([status, body.has_more, body.next_cursor], [200, false, null]);
  assertEquals(
    body.data.map(({ kind, collection, keep }: Record<string, string>) => [kind, collection, keep]),
    [
      ["conversation_states", null, "P7D"],
      ["conversations", null, null],
      ["event_logs", null, null],
      ["idempotency_keys", null, "PT24H"],
      ["job_run_details", null, "P7D"],
      ["retention_runs", null, "P90D"],
      ["sessions", null, null],
    ],
  );
});

Deno.test("runs are paged, the newest first, and say how they ended", async () => {
  const sql = connect();
  const rows = await sql`
    insert into private.retention_runs (started_at, last_step_at, finished_at, complete, removed, errors, kinds_left)
    values
      ('2001-01-01 00:00Z', '2001-01-01 00:01Z', null, false, '{"conversations": 7}', '[]', '{sessions}'),
      ('2001-01-02 00:00Z', now() + interval '1 hour', null, false, '{}', '[]', '{sessions}'),
      ('2001-01-03 00:00Z', '2001-01-03 00:01Z', '2001-01-03 00:01Z', false, '{}', '[]', '{sessions}'),
      ('2001-01-04 00:00Z', '2001-01-04 00:00:02.5Z', '2001-01-04 00:00:02.5Z', true, '{"sessions": 3}', '[]', '{}'),
      ('2001-01-05 00:00Z', '2001-01-05 00:00Z', '2001-01-05 00:00Z', true, '{}',
        '[{"kind": "event_logs", "sqlstate": "55P03", "constraint": null}]', '{}')
    returning id::int`;
  try {
    const seen: Record<string, unknown>[] = [];
    for (let path: string | null = "/runs?limit=2"; path;) {
      const { status, body }: Awaited<ReturnType<typeof get>> = await get(path);
      assertEquals(status, 200);
      assert(body.data.length <= 2);
      seen.push(...body.data);
      path = body.next_cursor && `/runs?limit=2&cursor=${body.next_cursor}`;
    }
    assertEquals(seen.map(({ id }) => id), seen.map(({ id }) => id).toSorted((a, b) => Number(b) - Number(a)));
    const ours = rows.map((row) => seen.find(({ id }) => id === row.id)!);
    assertEquals(ours.map(({ status }) => status), ["failed", "running", "stopped", "finished", "failed"]);
    assertEquals(ours[3], {
      id: rows[3].id,
      status: "finished",
      started_at: "2001-01-04T00:00:00+00:00",
      finished_at: "2001-01-04T00:00:02.5+00:00",
      duration: 2.5,
      steps: 0,
      longest_step_ms: 0,
      removed: { sessions: 3 },
      errors: [],
    });
    assertEquals(ours[4].errors, [{ kind: "event_logs", sqlstate: "55P03", constraint: null }]);
  } finally {
    await sql`delete from private.retention_runs where id = any (${rows.map(({ id }) => id)})`;
    await sql.end();
  }
});

Deno.test("a preview looks ahead as far as it is asked to, and removes nothing", async () => {
  const user = await signUp();
  const expires_at = "2098-01-01T00:00:00Z";
  const body = { expires_at, messages: [{ role: "user", content: "x" }] };
  const { body: { id } } = await user.request("POST", "/conversations", { body });
  const conversations = async (now: string) => {
    const answer = await get(`/preview?now=${encodeURIComponent(now)}`);
    assertEquals([answer.status, Date.parse(answer.body.now)], [200, Date.parse(now)]);
    const { removes } = answer.body.data.find(({ kind }: { kind: string }) => kind === "conversations");
    return removes;
  };
  const before = await conversations("2097-12-31T23:59:59Z");
  const then = await conversations("2098-01-01T01:00:00+01:00");
  // Other tests have what expires, too, but not at that time.
  assertEquals(then.conversations - before.conversations, 1);
  assert(then.conversation_messages > before.conversation_messages);
  assertEquals((await user.request("GET", `/conversations/${id}`)).status, 200);
  assertEquals((await get("/preview")).status, 200);
  assertEquals((await get("/preview?now=tomorrow")).body.details[0].path, "now");
});

Deno.test("through the REST API only the secret key reads, and nobody sets or runs anything", async () => {
  const user = await signUp();
  const service = newClient(secretKey);
  for (const name of ["get_retention_policies", "list_retention_runs", "retention_preview"] as const) {
    assertEquals((await user.client.rpc(name)).error?.code, "42501", name);
    assertEquals((await service.rpc(name)).error, null, name);
  }
  for (const client of [user.client, service]) {
    for (const name of ["set_retention_policy", "retention_step", "retain_conversations"]) {
      // deno-lint-ignore no-explicit-any -- functions that are not there
      const { error } = await (client as any).rpc(name, {});
      assertEquals(error?.code, "PGRST202", name);
      // deno-lint-ignore no-explicit-any -- a schema that is not exposed
      const { error: hidden } = await (client as any).schema("private").rpc(name, {});
      assert(hidden, name);
    }
    // deno-lint-ignore no-explicit-any -- a table that is not there
    assert((await (client as any).from("retention_policies").select()).error);
  }
});
