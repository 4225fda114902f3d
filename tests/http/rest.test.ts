// The tables through the REST API, as applications on the older schema use them.
import { assertEquals } from "@std/assert";
import { decodeJwt, SignJWT } from "jose";
import { apiUrl, newClient, newConversation, publishableKey, secretKey, signUp } from "../support/stack.ts";

const alice = await signUp();

/** One plain request below `/rest/v1`, by alice. */
async function rest(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(`${apiUrl}/rest/v1/${path}`, {
    method,
    headers: {
      apikey: publishableKey,
      authorization: `Bearer ${alice.token}`,
      ...body !== undefined && { "content-type": "application/json" },
      ...headers,
    },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, text, body: text && JSON.parse(text) };
}

Deno.test("plain inserts are owned and numbered by the database", async () => {
  const { data: conversation } = await alice.client.from("conversations")
    .insert({ title: "plain", metadata: { a: 1 } }).select().single().throwOnError();
  assertEquals(conversation.user_id, alice.id);
  await alice.client.from("conversation_messages").insert([
    { conversation_id: conversation.id, role: "user", content: "What is 2 + 2?" },
    { conversation_id: conversation.id, role: "assistant", function_call: { name: "add", arguments: "[2,2]" } },
  ]).throwOnError();
  await alice.client.from("conversation_messages")
    .insert({ conversation_id: conversation.id, role: "function", name: "add", content: "4", sequence_order: 3 })
    .throwOnError();

  const { body } = await alice.request("GET", `/conversations/${conversation.id}/messages`);
  assertEquals(body.data.map((m: { sequence_order: number }) => m.sequence_order), [1, 2, 3]);
  assertEquals(body.data[1].function_call, { name: "add", arguments: "[2,2]" });
});

Deno.test("a number that is not the next is 409", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "one" }] });
  for (const sequence_order of [1, 3]) {
    const { error, status } = await alice.client.from("conversation_messages")
      .insert({ conversation_id: id, role: "user", content: "x", sequence_order });
    assertEquals([status, error?.message], [409, "sequence_conflict"]);
  }
});

Deno.test("concurrent plain inserts get different numbers", async () => {
  const id = await newConversation(alice);
  await Promise.all(
    Array.from(
      { length: 40 },
      (_, i) =>
        alice.client.from("conversation_messages").insert({ conversation_id: id, role: "user", content: `m${i}` })
          .throwOnError(),
    ),
  );
  const { body } = await alice.request("GET", `/conversations/${id}/messages`);
  assertEquals(
    body.data.map((m: { sequence_order: number }) => m.sequence_order),
    Array.from({ length: 40 }, (_, i) => i + 1),
  );
});

Deno.test("a message is immutable, for its owner and for a backend", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "original" }] });
  for (const client of [alice.client, newClient(secretKey)]) {
    const update = await client.from("conversation_messages").update({ content: "forged" }).eq("conversation_id", id);
    assertEquals(update.error?.code, "42501");
    const removal = await client.from("conversation_messages").delete().eq("conversation_id", id);
    assertEquals(removal.error?.code, "42501");
    const { data } = await client.from("conversation_messages").select("content").eq("conversation_id", id);
    assertEquals(data, [{ content: "original" }]);
  }
});

Deno.test("a backend inserts for the conversation's owner, marked as its own", async () => {
  const id = await newConversation(alice);
  const service = newClient(secretKey);
  const { data } = await service.from("conversation_messages")
    .insert({ conversation_id: id, role: "assistant", content: "Hi" }).select().single().throwOnError();
  assertEquals([data.sequence_order, data.user_id, data.author], [1, alice.id, "service"]);
});

Deno.test("a message that is there is skipped where duplicates are, else refused", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "one", item_id: "i" }] });
  const { data: [existing] } = await alice.client.from("conversation_messages").select("id").eq("conversation_id", id)
    .throwOnError();
  const again = { id: existing.id, conversation_id: id, role: "user", content: "two", item_id: "i" };
  const refused = await alice.client.from("conversation_messages").insert(again);
  assertEquals([refused.status, refused.error?.code], [409, "23505"]);
  const other = { ...again, id: crypto.randomUUID(), item_id: "j" };
  const skipped = await alice.client.from("conversation_messages")
    .upsert([again, other, again], { ignoreDuplicates: true }).select("id, sequence_order").throwOnError();
  assertEquals(skipped.data, [{ id: other.id, sequence_order: 2 }]);
  const { body } = await alice.request("GET", `/conversations/${id}`);
  assertEquals(body.last_sequence_order, 2);
});

Deno.test("one message id in two conversations at once is stored in one, and the other has no gap", async () => {
  const conversations = [await newConversation(alice), await newConversation(alice)];
  const stored = new Map<string, number[]>(conversations.map((id) => [id, []]));
  for (let pair = 0; pair < 100; pair++) {
    const id = crypto.randomUUID();
    const answers = await Promise.all(conversations.map((conversation_id) =>
      alice.client.from("conversation_messages")
        .upsert({ id, conversation_id, role: "user", content: "x" }, { ignoreDuplicates: true })
        .select("conversation_id, sequence_order").throwOnError()
    ));
    const rows = answers.flatMap(({ data }) => data);
    assertEquals(rows.length, 1);
    stored.get(rows[0].conversation_id)!.push(rows[0].sequence_order);
  }
  for (const [id, numbers] of stored) {
    assertEquals(numbers, numbers.map((_, i) => i + 1));
    const { body } = await alice.request("GET", `/conversations/${id}`);
    assertEquals(body.last_sequence_order, numbers.length);
  }
});

Deno.test("an item_id is unique over the lineage for plain inserts too", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "one", item_id: "i" }] });
  const { body: fork } = await alice.request("POST", `/conversations/${id}/fork`, { body: { at: 1 } });
  for (const conversation_id of [id, fork.id]) {
    const { error, status } = await alice.client.from("conversation_messages")
      .insert({ conversation_id, role: "user", content: "other", item_id: "i" });
    assertEquals([status, error?.message], [409, "item_conflict"]);
  }
});

Deno.test("the functions check their arguments when they are called directly", async () => {
  const id = await newConversation(alice);
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const rpc = (name: string, args: any) => alice.client.rpc(name as "append_messages", args);
  const message = (extra: object) => ({
    p_conversation_id: id,
    p_messages: [{ role: "user", content: "x", ...extra }],
  });
  for (
    const [name, args] of [
      ["append_messages", { p_conversation_id: id, p_messages: null }],
      ["append_messages", { p_conversation_id: id, p_messages: {} }],
      ["append_messages", message({ name: { a: 1 } })],
      ["append_messages", message({ model: 5 })],
      ["append_messages", message({ item_id: 5 })],
      ["append_messages", message({ unknown: 1 })],
      ["create_conversation", { p_conversation: { title: { a: 1 } } }],
      ["update_conversation", { p_conversation_id: id, p_changes: { summary: [1] } }],
      ["update_conversation", { p_conversation_id: id, p_changes: null }],
      ["update_conversation", { p_conversation_id: id, p_changes: { metadata: [] } }],
      ["fork_conversation", { p_conversation_id: id, p_at: null }],
      ["list_messages", { p_conversation_id: id, p_limit: -1 }],
      ["list_messages", { p_conversation_id: id, p_limit: null }],
      ["list_messages", { p_conversation_id: id, p_order: "random()" }],
      ["list_conversations", { p_limit: 5000 }],
    ] as const
  ) {
    const { error, status } = await rpc(name, args);
    assertEquals([status, error?.message], [400, "invalid_request"], `${name} ${JSON.stringify(args)}`);
  }
  assertEquals((await rpc("append_messages", message({ name: "n", model: "m", item_id: "i" }))).status, 200);
});

Deno.test("a JSON value is stored as it is: a string stays one, a number keeps its digits", async () => {
  const id = await newConversation(alice);
  const messages = [{ role: "user", content: "x" }];
  const append = (p_messages: unknown) => rest("POST", "rpc/append_messages", { p_conversation_id: id, p_messages });
  assertEquals([(await append(JSON.stringify(messages))).status, (await append(messages)).status], [400, 200]);

  for (const [method, path] of [["POST", "conversations"], ["PATCH", `conversations?id=eq.${id}`]]) {
    const refused = await rest(method, path, { metadata: '{"a":1}' });
    assertEquals([refused.status, refused.body.code], [400, "23514"], "a string is no object");
    assertEquals((await rest(method, path, { metadata: { a: 1 } })).status, method === "POST" ? 201 : 204);
  }

  // As text: JavaScript would lose these digits on its way here as well.
  const metadata = '{"one": 1.0, "large": 12345678901234567890, "small": 0.12345678901234567890}';
  const created = await rest("POST", "rpc/create_conversation", `{"p_conversation":{"metadata":${metadata}}}`);
  await rest("PATCH", `conversations?id=eq.${id}`, `{"metadata":${metadata}}`);
  for (const conversation of [created.body.id, id]) {
    const { text } = await rest("GET", `conversations?select=metadata&id=eq.${conversation}`);
    const digits = [/"one":\s*([\d.]+)/, /"large":\s*(\d+)/, /"small":\s*([\d.]+)/].map((name) => name.exec(text)?.[1]);
    assertEquals(digits, ["1.0", "12345678901234567890", "0.12345678901234567890"]);
  }
});

Deno.test("HEAD on a function answers as GET does, without a body; neither may write", async () => {
  const read = await rest("HEAD", "rpc/list_conversations?p_limit=1");
  assertEquals([read.status, read.text], [200, ""]);
  const write = await rest("GET", "rpc/create_conversation?p_conversation=%7B%7D");
  assertEquals([write.status, write.body.code], [405, "25006"]);
  assertEquals((await rest("HEAD", "rpc/create_conversation?p_conversation=%7B%7D")).status, 405);
});

Deno.test("an upsert or a PUT sets the id too, which nobody may; PATCH sets the title alone", async () => {
  const id = await newConversation(alice, { title: "before" });
  const row = { id, title: "after" };
  for (
    const upsert of [
      await rest("POST", "conversations", row, { prefer: "resolution=merge-duplicates" }),
      await rest("PUT", `conversations?id=eq.${id}`, row),
    ]
  ) assertEquals([upsert.status, upsert.body.code], [403, "42501"]);
  const title = async () => (await rest("GET", `conversations?select=title&id=eq.${id}`)).body[0].title;
  assertEquals(await title(), "before");
  assertEquals((await rest("PATCH", `conversations?id=eq.${id}`, { title: "after" })).status, 204);
  assertEquals(await title(), "after");
});

Deno.test("a column that a row of a bulk insert leaves out is null, or its default where that is asked for", async () => {
  const rows = [{ title: "a" }, { title: "b", metadata: { b: 1 } }];
  const nulls = await alice.client.from("conversations").insert(rows);
  assertEquals([nulls.status, nulls.error?.code], [400, "23502"]);
  const { data } = await alice.client.from("conversations").insert(rows, { defaultToNull: false })
    .select("title, metadata").throwOnError();
  assertEquals(data, [{ title: "a", metadata: {} }, { title: "b", metadata: { b: 1 } }]);
});

Deno.test("a token is taken for 30 s after it has expired, and no longer", async () => {
  const secret = Deno.env.get("LOCAL_JWT_SECRET"); // what the local stack signs with; the Docker stack's is its own
  if (!secret) return;
  const statusOf = async (secondsAgo: number) => {
    const claims = { ...decodeJwt(alice.token), exp: Math.floor(Date.now() / 1000) - secondsAgo };
    const token = await new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(new TextEncoder().encode(secret));
    const { status } = await rest("GET", "conversations?limit=1", undefined, { authorization: `Bearer ${token}` });
    return status;
  };
  assertEquals([await statusOf(-60), await statusOf(5), await statusOf(45)], [200, 200, 401]);
});
