// Deletions too large for one request: gone at once, removed in pieces.
import { assert, assertEquals } from "@std/assert";
import { connect, newConversation, signUp } from "../support/stack.ts";

const sql = connect();

/** Messages as the owner of the table writes them: 20,000 a second. */
async function fill(id: string, userId: string, count: number): Promise<void> {
  await sql`
    insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
    select ${id}, ${userId}, n, 'user', 'message ' || n from generate_series(1, ${count}::int) n`;
  await sql`update conversations set last_sequence_order = ${count} where id = ${id}`;
}

const count = async (id: string): Promise<number> =>
  (await sql`select count(*)::int as n from conversation_messages where conversation_id = ${id}`)[0].n;

/** What the job does for everybody, for one user. The job itself may be faster. */
async function drain(userId: string): Promise<void> {
  for (let i = 0; i < 100; i++) {
    const [{ progress }] = await sql`select progress from private.drain_prune_queue(5000, ${userId})`;
    if (!progress) return;
  }
  throw new Error("The queue does not end.");
}

Deno.test("prune queue", async (t) => {
  const user = await signUp();

  await t.step("a conversation of 25,000 messages is gone at once, and its messages soon", async () => {
    const id = await newConversation(user);
    const kept = await newConversation(user, { messages: [{ role: "user", content: "stays" }] });
    await fill(id, user.id, 25_000);
    assertEquals((await user.request("DELETE", `/conversations/${id}`)).status, 204);
    assertEquals((await user.request("GET", `/conversations/${id}`)).status, 404);
    assertEquals((await user.request("GET", `/conversations/${id}/messages`)).status, 404);
    await drain(user.id);
    assertEquals(await count(id), 0);
    assertEquals((await sql`select from conversations where id = ${id}`).length, 0);
    assertEquals(await count(kept), 1);
  });

  await t.step("one that a fork shows keeps what the fork shows", async () => {
    const id = await newConversation(user);
    await fill(id, user.id, 25_000);
    const fork = (await user.request("POST", `/conversations/${id}/fork`, { body: { at: 12_000 } })).body.id;
    assertEquals((await user.request("DELETE", `/conversations/${id}`)).status, 204);
    await drain(user.id);
    assertEquals(await count(id), 12_000);
    const page = await user.request("GET", `/conversations/${fork}/messages?limit=1&order=desc`);
    assertEquals(page.body.data[0].sequence_order, 12_000);
    assertEquals((await user.request("DELETE", `/conversations/${fork}`)).status, 204);
    await drain(user.id);
    assertEquals((await sql`select from conversations where id in (${id}, ${fork})`).length, 0);
  });

  await t.step("what is locked stays in the queue, and a call that can do nothing says so", async () => {
    const id = await newConversation(user);
    await fill(id, user.id, 12_000);
    const other = connect();
    let progress = true;
    await other.begin(async (tx) => {
      assertEquals((await user.request("DELETE", `/conversations/${id}`)).status, 204);
      await tx`select from conversations where id = ${id} for update`;
      for (let i = 0; i < 10 && progress; i++) {
        [{ progress }] = await sql`select progress from private.drain_prune_queue(5000, ${user.id})`;
      }
    });
    await other.end();
    assert(!progress);
    assertEquals((await sql`select from private.prune_queue where conversation_id = ${id}`).length, 1);
    await drain(user.id);
    assertEquals((await sql`select from conversations where id = ${id}`).length, 0);
  });

  await t.step(
    "large messages go in pieces, too: no statement has to remove more than 64 MiB and one message",
    async () => {
      const id = await newConversation(user);
      // Of hex, which does not compress.
      await sql`
      with body as materialized (select string_agg(md5(n::text), '') as text from generate_series(1, 131072) n)
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
      select ${id}, ${user.id}, n, 'user', text from body, generate_series(1, 20) n`;
      await sql`update conversations set last_sequence_order = 20 where id = ${id}`;
      await sql.begin(async (tx) => {
        await tx`select private.hide_conversations(array[${id}::uuid])`;
        const [{ messages, progress }] = await tx`select * from private.drain_prune_queue(5000, ${user.id})`;
        assert(messages > 0 && messages < 20, `${messages} messages of 4 MiB at once`);
        assert(progress);
      });
      await drain(user.id);
      assertEquals((await sql`select from conversations where id = ${id}`).length, 0);
    },
  );

  await t.step("a parent that is locked is waited for by nobody, and goes with the next call", async () => {
    const parent = await newConversation(user, { messages: [{ role: "user", content: "x" }] });
    const fork = (await user.request("POST", `/conversations/${parent}/fork`, { body: { at: 1 } })).body.id;
    assertEquals((await user.request("DELETE", `/conversations/${parent}`)).status, 204);
    const other = connect();
    await other.begin(async (tx) => {
      await tx`select from conversations where id = ${parent} for update`;
      await sql`select private.hide_conversations(array[${fork}::uuid])`;
      await sql.begin(async (tx) => {
        await tx`set local lock_timeout = '2s'`;
        await tx`select private.drain_prune_queue(5000, ${user.id})`;
      });
      assertEquals(
        [...await sql`select conversation_id as id, error from private.prune_queue where conversation_id = ${fork}`],
        [{ id: fork, error: null }],
      );
    });
    await other.end();
    await drain(user.id);
    assertEquals((await sql`select from conversations where id in (${parent}, ${fork})`).length, 0);
  });
  await sql.end();
});
