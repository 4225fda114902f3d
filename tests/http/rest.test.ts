// The tables through the REST API, as applications on the older schema use them.
import { assertEquals } from "@std/assert";
import { newClient, newConversation, secretKey, signUp } from "../support/stack.ts";

const alice = await signUp();

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

Deno.test("an insert that would be skipped does not move the counter", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "one", item_id: "i" }] });
  const { data: [existing] } = await alice.client.from("conversation_messages").select("id").eq("conversation_id", id)
    .throwOnError();
  const skip = await alice.client.from("conversation_messages")
    .upsert({ id: existing.id, conversation_id: id, role: "user", content: "two" }, { ignoreDuplicates: true });
  assertEquals([skip.status, skip.error?.message], [409, "conflict"]);
  const { body } = await alice.request("GET", `/conversations/${id}`);
  assertEquals(body.last_sequence_order, 1);
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
