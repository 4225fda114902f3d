// For tests that run a function in their own process, against the real REST API behind a counter.
import { apiUrl, publishableKey, secretKey } from "./stack.ts";

export interface Counter extends AsyncDisposable {
  /** The paths asked for, in order. */
  calls: string[];
}

/**
 * Points functions that run in this process at the stack under test, and counts what they ask it. The environment that
 * they read is that of all test files together, so who comes second waits until the first has disposed of its counter.
 *
 * @param intercept Answers a call in the database's stead, or does not; until it has decided, the call waits.
 */
export async function countCalls(
  intercept: () => Response | void | Promise<Response | void> = () => {},
): Promise<Counter> {
  const file = await Deno.open(new URL(import.meta.url));
  await file.lock(true);
  const calls: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    const body = await request.arrayBuffer();
    calls.push(pathname);
    const intercepted = await intercept();
    if (intercepted) return intercepted;
    const answer = await fetch(`${apiUrl}${pathname}${search}`, {
      method: request.method,
      headers: request.headers,
      body,
    });
    const bytes = await answer.arrayBuffer();
    return new Response(answer.status === 204 ? null : bytes, { status: answer.status, headers: answer.headers });
  });
  Deno.env.set("SUPABASE_URL", `http://127.0.0.1:${server.addr.port}`);
  Deno.env.set("SUPABASE_PUBLISHABLE_KEYS", JSON.stringify({ default: publishableKey }));
  Deno.env.set("SUPABASE_SECRET_KEYS", JSON.stringify({ default: secretKey }));
  return {
    calls,
    [Symbol.asyncDispose]: async () => {
      await server.shutdown();
      file.close(); // and with it the lock
    },
  };
}
