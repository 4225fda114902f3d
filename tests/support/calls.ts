// For tests that run a function in their own process, against the real REST API behind a counter.
import { apiUrl, publishableKey, secretKey } from "./stack.ts";

export interface Counter extends AsyncDisposable {
  /** The paths asked for, in order. */
  calls: string[];
}

/** Points functions that run in this process at the stack under test, and counts what they ask it. */
export function countCalls(): Counter {
  const calls: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    calls.push(pathname);
    const answer = await fetch(`${apiUrl}${pathname}${search}`, {
      method: request.method,
      headers: request.headers,
      body: await request.arrayBuffer(),
    });
    const bytes = await answer.arrayBuffer();
    return new Response(answer.status === 204 ? null : bytes, { status: answer.status, headers: answer.headers });
  });
  Deno.env.set("SUPABASE_URL", `http://127.0.0.1:${server.addr.port}`);
  Deno.env.set("SUPABASE_PUBLISHABLE_KEYS", JSON.stringify({ default: publishableKey }));
  Deno.env.set("SUPABASE_SECRET_KEYS", JSON.stringify({ default: secretKey }));
  return { calls, [Symbol.asyncDispose]: () => server.shutdown() };
}
