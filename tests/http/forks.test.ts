import { assert, assertEquals } from "@std/assert";
import { connect, newConversation, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();
const user = (content: string) => ({ role: "user", content });

async function fork(id: string, at: number): Promise<string> {
  const { status, body } = await alice.request("POST", `/conversations/${id}/fork`, { body: { at } });
  assertEquals(status, 201, JSON.stringify(body));
  return body.id;
}
const append = (id: string, ...contents: string[]) =>
  alice.request("POST", `/conversations/${id}/messages`, { body: { messages: contents.map(user) } });
async function contents(id: string, query = "limit=1000"): Promise<string[]> {
  const { status, body } = await alice.request("GET", `/conversations/${id}/messages?${query}`);
  assertEquals(status, 200);
  for (const message of body.data) assertEquals(message.conversation_id, id);
  return body.data.map((m: { content: string }) => m.content);
}

Deno.test("a fork shows its prefix and goes its own way", async () => {
  const id = await newConversation(alice, {
    title: "T",
    metadata: { a: 1 },
    messages: ["1", "2", "3", "4"].map(user),
  });
  await alice.request("PATCH", `/conversations/${id}`, { body: { summary: "all four" } });
  const { body: created } = await alice.request("POST", `/conversations/${id}/fork`, { body: { at: 2 } });
  assertEquals(
    [
      created.title,
      created.metadata,
      created.summary,
      created.parent_id,
      created.fork_sequence,
      created.last_sequence_order,
    ],
    ["T", { a: 1 }, null, id, 2, 2],
  );
  await append(created.id, "3'", "4'");
  await append(id, "5");
  assertEquals(await contents(created.id), ["1", "2", "3'", "4'"]);
  assertEquals(await contents(id), ["1", "2", "3", "4", "5"]);
});

Deno.test("a fork of a fork of a fork loads in the right order, in both directions and by pages", async () => {
  const a = await newConversation(alice, { messages: ["1", "2", "3"].map(user) });
  const b = await fork(a, 2);
  await append(b, "3b", "4b");
  const c = await fork(b, 3);
  await append(c, "4c");
  const d = await fork(c, 4);
  await append(d, "5d");
  assertEquals(await contents(d), ["1", "2", "3b", "4c", "5d"]);
  assertEquals(await contents(d, "order=desc"), ["5d", "4c", "3b", "2", "1"]);
  assertEquals(await contents(d, "after=1&limit=2"), ["2", "3b"]);
  assertEquals(await contents(d, "before=5&order=desc&limit=3"), ["4c", "3b", "2"]);
  assertEquals(await contents(d, "after=2&before=5"), ["3b", "4c"]);

  // A fork below the parent's own fork points at the ancestor that owns the message.
  const low = await fork(d, 1);
  assertEquals((await alice.request("GET", `/conversations/${low}`)).body.parent_id, a);
  assertEquals(await contents(low), ["1"]);
  const empty = await fork(d, 0);
  assertEquals([(await alice.request("GET", `/conversations/${empty}`)).body.parent_id, await contents(empty)], [
    null,
    [],
  ]);
});

Deno.test("a fork beyond the end is refused", async () => {
  const id = await newConversation(alice, { messages: [user("1")] });
  for (const at of [2, -1, 1.5, "1"]) {
    const { status, body } = await alice.request("POST", `/conversations/${id}/fork`, { body: { at } });
    assertEquals([status, body.code], [400, "invalid_request"]);
  }
});

Deno.test("forking 10,000 messages adds one small row", async () => {
  const sql = connect();
  const id = await newConversation(alice);
  await sql.begin(async (tx) => {
    await tx`
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
      select ${id}, ${alice.id}, n, 'user', 'message ' || n from generate_series(1, 10000) n`;
    await tx`update conversations set last_sequence_order = 10000 where id = ${id}`;
  });
  const rows = async () =>
    (await sql`select count(*)::int n from conversation_messages where user_id = ${alice.id}`)[0].n;
  const before = await rows();
  const forked = await fork(id, 9_000);
  assertEquals(await rows(), before);
  const [{ bytes }] = await sql`select pg_column_size(c) as bytes from conversations c where id = ${forked}`;
  assert(bytes < 2048, `${bytes} bytes`);
  assertEquals(await contents(forked, "order=desc&limit=2"), ["message 9000", "message 8999"]);
  await sql.end();
});

Deno.test("deleting a parent keeps exactly what living forks show, deleting the last fork frees it", async () => {
  const a = await newConversation(alice, { title: "secret", messages: ["1", "2", "3", "4"].map(user) });
  const b = await fork(a, 3);
  await append(b, "4b");
  const c = await fork(b, 2);
  const sql = connect();
  const stored = async () =>
    (await sql`select content from conversation_messages where conversation_id in ${sql([a, b, c])} order by content`)
      .map((row) => row.content);

  assertEquals((await alice.request("DELETE", `/conversations/${a}`)).status, 204);
  assertEquals((await alice.request("GET", `/conversations/${a}`)).status, 404);
  assertEquals((await alice.request("DELETE", `/conversations/${a}`)).status, 404);
  assertEquals(await contents(b), ["1", "2", "3", "4b"]);
  assertEquals(await stored(), ["1", "2", "3", "4b"], "message 4 was shown by the parent alone");
  const { data: hidden } = await alice.client.from("conversations").select().eq("id", a);
  const { data: messages } = await alice.client.from("conversation_messages").select().eq("conversation_id", a);
  assertEquals([hidden, messages], [[], []], "the tombstone and its messages are hidden from the REST API");
  const [tombstone] = await sql`select title, summary, metadata, video_id from conversations where id = ${a}`;
  assertEquals({ ...tombstone }, { title: null, summary: null, metadata: {}, video_id: null });

  await alice.request("DELETE", `/conversations/${b}`);
  assertEquals([await contents(c), await stored()], [["1", "2"], ["1", "2"]]);
  await alice.request("DELETE", `/conversations/${c}`);
  assertEquals([await stored(), (await sql`select from conversations where id in ${sql([a, b, c])}`).length], [[], 0]);
  await sql.end();
});

Deno.test("a deleted message is gone from every fork, and its number stays unused", async () => {
  const a = await newConversation(alice, { messages: ["1", "2", "3"].map(user) });
  const b = await fork(a, 2);
  const { body } = await alice.request("GET", `/conversations/${a}/messages`);
  const [, second, third] = body.data;
  // Through the fork, which shows the second message but not the third.
  const unseen = await alice.request("DELETE", `/conversations/${b}/messages/${third.id}`);
  assertEquals([unseen.status, unseen.body.code], [404, "message_not_found"]);
  assertEquals((await alice.request("DELETE", `/conversations/${b}/messages/${second.id}`)).status, 204);
  assertEquals((await alice.request("DELETE", `/conversations/${b}/messages/${second.id}`)).status, 404);
  assertEquals([await contents(a), await contents(b)], [["1", "3"], ["1"]]);
  await alice.request("DELETE", `/conversations/${a}/messages/${third.id}`);
  const appended = await append(a, "4");
  assertEquals(appended.body.messages[0].sequence_order, 4);
});

Deno.test("a parent and its fork deleted at the same time leave nothing behind", async () => {
  const pairs = await Promise.all(Array.from({ length: 40 }, async () => {
    const parent = await newConversation(alice, { messages: [user("1"), user("2")] });
    return [parent, await fork(parent, 1)];
  }));
  await Promise.all(pairs.flat().map((id) => alice.request("DELETE", `/conversations/${id}`)));
  const sql = connect();
  const left = await sql`select from conversations where id in ${sql(pairs.flat())}`;
  await sql.end();
  assertEquals(left.length, 0);
});

Deno.test("a deletion waits for one that is under way below it", async () => {
  // The same as above with the interleaving fixed: the fork's deletion is not committed when the parent's begins.
  const parent = await newConversation(alice, { messages: [user("1"), user("2")] });
  const child = await fork(parent, 1);
  const sql = connect();
  const asAlice = (id: string, then: Promise<void> | null) =>
    sql.begin(async (tx) => {
      await tx`select set_config('request.jwt.claims', ${
        JSON.stringify({ sub: alice.id, role: "authenticated" })
      }, true)`;
      await tx`select delete_conversation(${id})`;
      await then;
    });
  const commit = Promise.withResolvers<void>();
  const first = asAlice(child, commit.promise);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const second = asAlice(parent, null);
  await new Promise((resolve) => setTimeout(resolve, 100));
  commit.resolve();
  await Promise.all([first, second]);
  assertEquals((await sql`select from conversations where id in ${sql([parent, child])}`).length, 0);
  await sql.end();
});

Deno.test("forks, appends and deletions at once leave nothing half done", async () => {
  const root = await newConversation(alice, { messages: Array.from({ length: 20 }, (_, i) => user(`${i + 1}`)) });
  const forks: string[] = [];
  await Promise.all(Array.from({ length: 24 }, async (_, i) => {
    const at = 1 + i % 20;
    const { status, body } = await alice.request("POST", `/conversations/${root}/fork`, { body: { at } });
    if (i === 12) assertEquals((await alice.request("DELETE", `/conversations/${root}`)).status, 204);
    if (status !== 201) return assertEquals(status, 404);
    forks.push(body.id);
    assertEquals((await append(body.id, "own")).status, 201);
    assertEquals(await contents(body.id), [...Array.from({ length: at }, (_, n) => `${n + 1}`), "own"]);
  }));
  await Promise.all(forks.map((id) => alice.request("DELETE", `/conversations/${id}`)));
  const sql = connect();
  assertEquals((await sql`select from conversations where id in ${sql([root, ...forks])}`).length, 0);
  await sql.end();
  assertEquals((await alice.request("GET", `/conversations/${uuid()}`)).status, 404);
});
