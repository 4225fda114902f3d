// Whoever waits for a row holds a connection, of which everybody together has a few.
import { assert, assertEquals } from "@std/assert";
import { type Answer, connect, newConversation, patiently, signUp } from "../support/stack.ts";

const WRITERS = 30; // more than the API has connections

Deno.test("30 writers that wait for one row leave connections for everybody else", async (t) => {
  const alice = await signUp();
  const bob = await signUp();
  const bobs = await newConversation(bob);
  const message = { messages: [{ role: "user", content: "x" }] };

  /** The longest that a request of Bob's takes while something goes on, in ms. */
  const longestOfBob = async (during: Promise<unknown>): Promise<number> => {
    let isOver = false;
    during.finally(() => isOver = true);
    let longest = 0;
    while (!isOver) {
      const path = `/conversations/${bobs}/messages`;
      const requests: Parameters<typeof bob.request>[] = [["POST", path, { body: message }], [
        "GET",
        `${path}?limit=1`,
      ]];
      for (const request of requests) {
        const from = performance.now();
        const { status } = await bob.request(...request);
        assert(status < 300, `${request[0]} answered Bob ${status}`);
        longest = Math.max(longest, performance.now() - from);
      }
    }
    return longest;
  };

  const conversation = await newConversation(alice);
  const session = (await alice.request("POST", "/sessions", { body: {} })).body.id;
  const append = () => alice.request("POST", `/conversations/${conversation}/messages`, { body: message });
  const log = () =>
    alice.request("POST", `/sessions/${session}/events`, { body: { events: [{ event_type: "x", content: "x" }] } });
  const writers: [name: string, table: string, id: string, write: () => Promise<Answer>][] = [
    ["a conversation", "conversations", conversation, append],
    ["a session", "sessions", session, log],
  ];
  for (const [name, table, id, write] of writers) {
    const together = (count: number, send = (call: () => Promise<Answer>) => call()) =>
      Promise.all(Array.from({ length: count }, () => send(write)));
    const refused = (answers: Answer[]) => answers.filter(({ status }) => status !== 201);

    await t.step(`${name}: they are refused and told when to come again`, async () => {
      await together(WRITERS); // opens the connections
      const free = together(WRITERS, patiently);
      const idle = await longestOfBob(free);
      assertEquals(refused(await free), []);

      const sql = connect();
      const longest = await sql.begin(async (tx) => {
        await tx`select from ${tx(table)} where id = ${id} for update`;
        const blocked = together(WRITERS);
        const wait = await longestOfBob(blocked);
        for (const { status, body, headers } of await blocked) {
          assertEquals([status, body.code, body.retryable], [503, "conversation_busy", true]);
          assertEquals(headers.get("retry-after"), "1");
        }
        return wait;
      });
      await sql.end();
      assert(longest < idle + 1500, `Bob waited ${longest} ms, and ${idle} ms where the row was free`);
    });

    await t.step(`${name}: those that come while a row is held for a moment get their turn`, async () => {
      const sql = connect();
      const { writing } = await sql.begin(async (tx) => {
        await tx`select from ${tx(table)} where id = ${id} for update`;
        const writing = together(8);
        await new Promise((resolve) => setTimeout(resolve, 200));
        return { writing };
      });
      await sql.end();
      assertEquals(refused(await writing), []);
    });
  }
});
