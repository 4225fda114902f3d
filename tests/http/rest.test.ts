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
