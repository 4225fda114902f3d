// Whoever waits for a row holds a connection, of which everybody together has a few.
import { assert, assertEquals } from "@std/assert";
import { type Answer, connect, newConversation, signUp } from "../support/stack.ts";

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
    for (const path = `/conversations/${bobs}/messages`; !isOver;) {
      for (
        const [method, query, body, expected] of [["POST", "", message, 201], [
          "GET",
          "?limit=1",
          undefined,
          200,
        ]] as const
      ) {
        const from = performance.now();
        assertEquals(
          (await bob.request(method, path + query, { body })).status,
          expected,
        );
        longest = Math.max(longest, performance.now() - from);
      }
    }
    return longest;
  };

  const conversation = await newConversation(alice);
  const session = (await alice.request("POST", "/sessions", { body: {} })).body.id;
  const rows: [table: string, id: string, write: () => Promise<Answer>][] = [
    [
      "conversations",
      conversation,
      () =>
        alice.request("POST", `/conversations/${conversation}/messages`, {
          body: message,
        }),
    ],
    [
      "sessions",
      session,
      () =>
        alice.request("POST", `/sessions/${session}/events`, {
          body: { events: [{ event_type: "x", content: "x" }] },
        }),
    ],
  ];
  for (const [table, id, write] of rows) {
    const thirty = () => Promise.all(Array.from({ length: WRITERS }, write));

    await t.step(
      `${table}: they are refused and told when to come again`,
      async () => {
        await thirty(); // opens the connections
        const free = thirty();
        const idle = await longestOfBob(free);
        assertEquals((await free).filter(({ status }) => status !== 201), []);

        const sql = connect();
        const longest = await sql.begin(async (tx) => {
          await tx`select from ${tx(table)} where id = ${id} for update`;
          const blocked = thirty();
          const wait = await longestOfBob(blocked);
          for (const { status, body, headers } of await blocked) {
            assertEquals([status, body.code, body.retryable], [
              503,
              "conversation_busy",
              true,
            ]);
            assertEquals(headers.get("retry-after"), "1");
          }
          return wait;
        });
        await sql.end();
        assert(
          longest < idle + 1500,
          `Bob waited ${longest} ms, and ${idle} ms where the row was free`,
        );
      },
    );

    await t.step(
      `${table}: those that come while a row is held for a moment get their turn`,
      async () => {
        const sql = connect();
        const answers = await sql.begin(async (tx) => {
          await tx`select from ${tx(table)} where id = ${id} for update`;
          const writing = Promise.all(Array.from({ length: 8 }, write));
          await new Promise((resolve) => setTimeout(resolve, 200));
          return { writing };
        });
        await sql.end();
        assertEquals(
          (await answers.writing).filter(({ status }) => status !== 201),
          [],
        );
      },
    );
  }
});
