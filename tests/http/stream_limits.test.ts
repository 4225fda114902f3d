// How often a stream asks the database, and when it ends by itself: the function runs in this process, its calls counted.
import { assert, assertEquals } from "@std/assert";
import { countCalls } from "../support/calls.ts";
import { secretKey, signUp } from "../support/stack.ts";

Deno.test("a stream that nothing happens on asks less and less, beats, and ends when its time is up", async () => {
  Deno.env.set("STREAM_SECONDS", "8");
  await using counted = countCalls();
  const { app } = await import("../../supabase/functions/sessions/app.ts");
  const alice = await signUp();
  const headers = { apikey: secretKey, "x-user-id": alice.id };
  const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });

  counted.calls.length = 0;
  const started = performance.now();
  const response = await app.request(`/sessions/${id}/events/stream`, { headers });
  const text = await response.text();
  const seconds = (performance.now() - started) / 1000;
  assertEquals(text, "retry: 1000\n\n");
  assert(seconds > 7 && seconds < 12, `${seconds} s`);
  const calls = counted.calls.filter((path) => path.endsWith("/list_events")).length;
  // At once, after 1, 2.5, 4.75 and 8 seconds.
  assert(calls >= 4 && calls <= 6, `${calls} calls`);
});

Deno.test("a reader that goes away is not read for any longer", async () => {
  await using counted = countCalls();
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
