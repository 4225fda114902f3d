// The import functions called directly: what the edge checks politely, the database does not take on trust.
import { assertEquals } from "@std/assert";
import { connect, newConversation, signUp } from "../support/stack.ts";

const alice = await signUp();
const message = (sequence_order: number, extra = {}) => ({ sequence_order, role: "user", content: "x", ...extra });
// deno-lint-ignore no-explicit-any -- wrong on purpose
const importRpc = (p_conversation: any, p_messages: any = []) =>
  alice.client.rpc("import_conversation", { p_conversation, p_messages });

Deno.test("what an import cannot be is refused", async () => {
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
  for (
    const [conversation, messages] of [
      [{ created_at: tomorrow }, []],
      [{ created_at: "-infinity" }, []],
      [{ created_at: "0044-01-01 BC" }, []],
      [{}, [message(1, { created_at: tomorrow })]],
      [{}, [message(2_147_483_647)]],
      [{ last_sequence_order: 2_147_483_647 }, []],
      [{ metadata: [] }, []],
    ] as const
  ) {
    const { status, error } = await importRpc(conversation, messages);
    assertEquals([status, error?.message], [400, "invalid_request"], JSON.stringify([conversation, messages]));
  }
  assertEquals((await importRpc({ created_at: "2020-01-01T00:00:00Z" }, [message(2_000_000_000)])).status, 200);
});

Deno.test("an import that broke off goes with the next one, a day later, and frees what it held", async () => {
  const parent = await newConversation(alice, { messages: [{ role: "user", content: "shared" }] });
  const { data } = await importRpc({ parent_id: parent, fork_sequence: 1, more: true });
  const abandoned = (data as { id: string }).id;
  assertEquals((await alice.request("DELETE", `/conversations/${parent}`)).status, 204);

  const sql = connect();
  const left = async () => (await sql`select from conversations where id in (${parent}, ${abandoned})`).length;
  await importRpc({});
  assertEquals(await left(), 2, "it may still be continued");
  await sql`update private.imports set created_at = now() - interval '25 hours' where conversation_id = ${abandoned}`;
  await importRpc({});
  assertEquals(await left(), 0);
  await sql.end();
});

Deno.test("finish_import knows somebody else's conversation as little as one that does not exist", async () => {
  const bob = await signUp();
  const ids = [await newConversation(bob), crypto.randomUUID()];
  const { data } = await alice.client.rpc("finish_import", { p_ids: ids });
  assertEquals((data as string[]).toSorted(), ids.toSorted());
  const own = await newConversation(alice);
  assertEquals((await alice.client.rpc("finish_import", { p_ids: [own] })).data, []);
});
