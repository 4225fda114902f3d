// How often a stream asks the database, and when it ends by itself: the function runs in this process, its calls counted.
import { assert, assertEquals } from "@std/assert";
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
  assertEquals(await response.text(), "retry: 1000\n\n: heartbeat\n\n");
  // At once and after about 1, 2.5, 4.8, 8.1, 13.1 and 18.1 seconds; on a slow machine after fewer.
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
  const response = await fetch(`http://127.0.0.1:${server.addr.port}/sessions/${id}/events/stream`, {
    headers: { apikey: secretKey, "x-user-id": alice.id },
  });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  await new Promise((resolve) => setTimeout(resolve, 300));
  counted.calls.length = 0;
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assertEquals(counted.calls, []);
});
