// How often a stream asks the database, and when it ends by itself: the function runs in this process, its calls counted.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { countCalls } from "../support/calls.ts";
import { secretKey, signUp } from "../support/stack.ts";

Deno.test("a stream on which nothing happens asks less and less, beats, and ends when its time is up", async () => {
  await using counted = await countCalls();
  Deno.env.set("STREAM_SECONDS", "20");
  const { app } = await import("../../supabase/functions/sessions/app.ts");
  const alice = await signUp();
  const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });
  const response = await app.request(`/sessions/${id}/events/stream`, {
    headers: { apikey: secretKey, "x-user-id": alice.id },
  });
  // At once and after about 1, 2.5, 4.8, 8.1, 13.1 and 18.1 seconds; on a slow machine after fewer.
  assertMatch(await response.text(), /^retry: 1000\n\n(: heartbeat\n\n){2,7}$/);
  assert(counted.calls.length >= 3 && counted.calls.length <= 7, `${counted.calls.length} calls`);
});

Deno.test("a reader that goes away is not read for any longer", async () => {
  await using counted = await countCalls();
  const { app } = await import("../../supabase/functions/sessions/app.ts");
  const alice = await signUp();
  const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });
  await using server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    (request) => app.fetch(request),
  );
  const open = async () => {
    const response = await fetch(`http://127.0.0.1:${server.addr.port}/sessions/${id}/events/stream`, {
      headers: { apikey: secretKey, "x-user-id": alice.id },
    });
    const reader = response.body!.getReader();
    await reader.read();
    return reader;
  };
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const left = await open();
  await left.cancel();
  await wait(4000); // the next poll writes, and finds nobody
  counted.calls.length = 0;
  await wait(7000);
  assertEquals(counted.calls, []);
  const stays = await open();
  await wait(7000);
  assert(counted.calls.length > 1, "the control");
  await stays.cancel();
  await wait(6000);
});

Deno.test("a stream that has sent 8 MiB ends, and its reader goes on where it was", async () => {
  await using counted = await countCalls();
  const { app } = await import("../../supabase/functions/sessions/app.ts");
  const alice = await signUp();
  const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });
  const text = "x".repeat(3 * 1024 * 1024);
  for (let n = 0; n < 4; n++) {
    const events = [{ event_type: "ai_message", content: { text } }];
    assertEquals((await alice.request("POST", `/sessions/${id}/events`, { body: { events } })).status, 201);
  }
  await alice.request("POST", `/sessions/${id}/end`, { body: {} });
  const read = async (lastEventId = "") => {
    const headers = { apikey: secretKey, "x-user-id": alice.id, "last-event-id": lastEventId };
    const response = await app.request(`/sessions/${id}/events/stream`, { headers });
    return (await response.text()).match(/^(id|event: end).*$/gm);
  };
  const first = await read();
  assertEquals(first, ["id: 1", "id: 2", "id: 3"]);
  assertEquals(await read("3"), ["id: 4", "event: end"]);
  assert(counted.calls.length > 2);
});
