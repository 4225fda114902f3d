import { assertEquals, assertNotEquals } from "@std/assert";
import {
  apiUrl,
  backend,
  connect,
  newConversation,
  patiently,
  publishableKey,
  signUp,
  uuid,
} from "../support/stack.ts";

const alice = await signUp();
const user = (content: string) => ({ role: "user", content });

Deno.test("a repeated append answers as the first time and stores nothing", async () => {
  const id = await newConversation(alice);
  const append = (key: string, ...contents: string[]) =>
    alice.request("POST", `/conversations/${id}/messages`, {
      body: { messages: contents.map(user) },
      headers: { "idempotency-key": key },
    });
  const first = await append("k1", "one", "two");
  assertEquals([first.status, first.headers.get("idempotent-replayed")], [201, null]);
  await append("k2", "three");

  const again = await append("k1", "one", "two");
  assertEquals([again.status, again.headers.get("idempotent-replayed")], [201, "true"]);
  assertEquals(again.body, first.body);

  const other = await append("k1", "one", "TWO");
  assertEquals([other.status, other.body.code], [409, "idempotency_mismatch"]);
  const { body } = await alice.request("GET", `/conversations/${id}`);
  assertEquals(body.last_sequence_order, 3, "a replay consumes no number");
});

Deno.test("a key means something for its user, route and conversation only", async () => {
  const bob = await signUp();
  const headers = { "idempotency-key": uuid() };
  const create = { body: { title: "t" }, headers };
  const first = await alice.request("POST", "/conversations", create);
  const again = await alice.request("POST", "/conversations", create);
  assertEquals([again.status, again.body, again.headers.get("idempotent-replayed")], [201, first.body, "true"]);
  assertNotEquals((await bob.request("POST", "/conversations", create)).body.id, first.body.id);
  assertEquals((await backend(alice.id)("POST", "/conversations", create)).body.id, first.body.id);

  for (const id of [first.body.id, await newConversation(alice)]) {
    const append = await alice.request("POST", `/conversations/${id}/messages`, {
      body: { messages: [user("x")] },
      headers,
    });
    assertEquals([append.status, append.headers.get("idempotent-replayed")], [201, null]);
  }
});

Deno.test("a repeated fork is one fork", async () => {
  const id = await newConversation(alice, { messages: [user("1")] });
  const fork = (at: number) =>
    alice.request("POST", `/conversations/${id}/fork`, { body: { at }, headers: { "idempotency-key": "f" } });
  const first = await fork(1);
  const again = await fork(1);
  assertEquals([again.status, again.body, again.headers.get("idempotent-replayed")], [201, first.body, "true"]);
  assertEquals((await fork(0)).body.code, "idempotency_mismatch");
});

Deno.test("a failed request leaves its key free", async () => {
  const id = await newConversation(alice);
  const append = (expected_sequence: number) =>
    alice.request("POST", `/conversations/${id}/messages`, {
      body: { messages: [user("x")], expected_sequence },
      headers: { "idempotency-key": "once" },
    });
  assertEquals((await append(5)).status, 409);
  assertEquals((await append(0)).status, 201);
});

Deno.test("a malformed key is refused", async () => {
  const headers = { "idempotency-key": "x".repeat(256) };
  const { status, body } = await alice.request("POST", "/conversations", { body: {}, headers });
  assertEquals([status, body.details[0].path], [400, "idempotency-key"]);
});

Deno.test("concurrent duplicates store once", async () => {
  const id = await newConversation(alice);
  const answers = await Promise.all(
    Array.from({ length: 16 }, () =>
      patiently(() =>
        alice.request("POST", `/conversations/${id}/messages`, {
          body: { messages: [user("once"), user("more")] },
          headers: { "idempotency-key": "same" },
        })
      )),
  );
  assertEquals(answers.map((answer) => answer.status), Array(16).fill(201));
  assertEquals(answers.filter((answer) => answer.headers.get("idempotent-replayed") === null).length, 1);
  for (const answer of answers) assertEquals(answer.body, answers[0].body);
  assertEquals((await alice.request("GET", `/conversations/${id}/messages`)).body.data.length, 2);
});

Deno.test("200 appends, each cut off after the commit and retried with its key, leave exactly 200 batches", async () => {
  const id = await newConversation(alice);
  const sql = connect();
  let replayed = 0;
  for (let i = 0; i < 200; i++) {
    const body = JSON.stringify({ messages: [user(`${i}/ask`), { role: "assistant", content: `${i}/answer` }] });
    const send = (signal?: AbortSignal) =>
      fetch(`${apiUrl}/functions/v1/conversations/${id}/messages`, {
        method: "POST",
        headers: {
          apikey: publishableKey,
          authorization: `Bearer ${alice.token}`,
          "content-type": "application/json",
          "idempotency-key": `append-${i}`,
        },
        body,
        signal,
      });
    // The connection is cut as soon as the database has committed: the client never reads an answer.
    const cut = new AbortController();
    const lost = send(cut.signal).then((response) => response.body?.cancel(), () => {});
    while ((await sql`select last_sequence_order n from conversations where id = ${id}`)[0].n < 2 * (i + 1));
    cut.abort();
    await lost;
    const retry = await send();
    assertEquals((await retry.json()).last_sequence_order, 2 * (i + 1));
    if (retry.headers.get("idempotent-replayed") === "true") replayed++;
  }
  await sql.end();
  assertEquals(replayed, 200);
  const { body } = await alice.request("GET", `/conversations/${id}/messages?limit=1000`);
  assertEquals(
    body.data.map((m: { content: string }) => m.content),
    Array.from({ length: 200 }, (_, i) => [`${i}/ask`, `${i}/answer`]).flat(),
  );
});

Deno.test("keys live 24 hours", async () => {
  const headers = { "idempotency-key": uuid() };
  const first = await alice.request("POST", "/conversations", { body: {}, headers });
  const sql = connect();
  await sql`update private.idempotency_keys set created_at = now() - interval '25 hours'
    where user_id = ${alice.id} and key = ${headers["idempotency-key"]}`;
  await sql.end();
  const later = await alice.request("POST", "/conversations", { body: {}, headers });
  assertEquals([later.status, later.headers.get("idempotent-replayed")], [201, null]);
  assertNotEquals(later.body.id, first.body.id);
});

Deno.test("what is kept for a key is no content", async () => {
  const marker = uuid();
  const id = await newConversation(alice);
  await alice.request("POST", `/conversations/${id}/messages`, {
    body: { messages: [user(marker)] },
    headers: { "idempotency-key": "k" },
  });
  const sql = connect();
  const kept = await sql`select k::text as row from private.idempotency_keys k where scope like ${`%${id}%`}`;
  await sql.end();
  assertEquals(kept.length, 1);
  assertEquals(kept[0].row.includes(marker), false);
});

Deno.test("an item_id stores its message once: equal content replays, other content is 409", async () => {
  const id = await newConversation(alice);
  const append = (messages: unknown[]) =>
    alice.request("POST", `/conversations/${id}/messages`, { body: { messages } });
  const item = { ...user("hello"), item_id: "item-1", metadata: { a: [1, { b: null }] } };
  const first = await append([item]);
  const again = await append([item]);
  assertEquals([again.status, again.body], [201, first.body]);

  const other = await append([{ ...item, content: "HELLO" }]);
  assertEquals([other.status, other.body.code], [409, "item_conflict"]);
  const twice = await append([{ ...user("x"), item_id: "item-2" }, { ...user("x"), item_id: "item-2" }]);
  assertEquals([twice.status, twice.body.code], [409, "item_conflict"]);

  // Known and new messages in one batch: each keeps, or gets, its place.
  const mixed = await append([user("new 1"), item, { ...user("new 2"), item_id: "item-3" }]);
  assertEquals(mixed.body.messages.map((m: { sequence_order: number }) => m.sequence_order), [2, 1, 3]);
  assertEquals(mixed.body.last_sequence_order, 3);
});

Deno.test("an item_id is one message's over the whole lineage", async () => {
  const id = await newConversation(alice, {
    messages: [{ ...user("shared"), item_id: "a" }, { ...user("parent only"), item_id: "b" }],
  });
  const { body: fork } = await alice.request("POST", `/conversations/${id}/fork`, { body: { at: 1 } });
  const append = (message: unknown) =>
    alice.request("POST", `/conversations/${fork.id}/messages`, { body: { messages: [message] } });
  const shared = await append({ ...user("shared"), item_id: "a" });
  assertEquals([shared.body.messages[0].sequence_order, shared.body.last_sequence_order], [1, 1]);
  assertEquals((await append({ ...user("different"), item_id: "a" })).body.code, "item_conflict");
  // What the fork does not show is no conflict: regenerating stores its own answer.
  const own = await append({ ...user("regenerated"), item_id: "b" });
  assertEquals([own.status, own.body.messages[0].sequence_order], [201, 2]);
});

Deno.test("concurrent appends of one item store it once", async () => {
  const id = await newConversation(alice);
  const answers = await Promise.all(
    Array.from({ length: 16 }, () =>
      alice.request("POST", `/conversations/${id}/messages`, {
        body: { messages: [{ ...user("once"), item_id: "only" }] },
      })),
  );
  assertEquals(new Set(answers.map((answer) => `${answer.status} ${answer.body.messages[0].id}`)).size, 1);
  assertEquals((await alice.request("GET", `/conversations/${id}`)).body.last_sequence_order, 1);
});
