import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import { setTimeout as delay } from "node:timers/promises";
import { describeError } from "../_shared/app.ts";
import { ApiError } from "../_shared/errors.ts";
import type { AppEnv } from "../_shared/http.ts";
import { readEvents } from "./repo.ts";

/** Between two reads that found nothing: from the first wait, growing by the factor, up to the last. */
const POLL_MS = { first: 1000, factor: 1.5, last: 5000 };
/** Proxies close connections on which nothing moves, most of them after 30 or 60 seconds. */
const HEARTBEAT_MS = 15_000;
/** How soon a reader that was cut off comes back. */
const RETRY_MS = 1000;
/** The reader asks again with a fresh token: this much before the old one expires. */
const EXPIRY_MARGIN_MS = 5000;
/** What is read at once; a page also ends at about 8 MiB. */
const PAGE = 500;
/** A database that is away this many times in a row is left to the reader's own retry. */
const MAX_FAILURES = 3;

/** The platform ends a worker after 150 s (400 s on paid plans). Closing before that lets a reader miss nothing. */
const maxMs = () => Number(Deno.env.get("STREAM_SECONDS") ?? 140) * 1000;

/**
 * The events of a session as server-sent events: what is there after `after`, then what comes, until the session has ended
 * (`event: end` with the session), the token expires or the worker's time is up. The id of an event is its sequence, so
 * a reader that comes back with `Last-Event-ID` goes on where it was. One database call for each page or poll, polls 1 to
 * 5 seconds apart.
 *
 * @returns 204 where a reader comes back to a session that has ended and has nothing more: an EventSource then stops.
 * @throws {ApiError} 404 `session_not_found`, and whatever the first read says: nothing is sent by then.
 */
export async function streamEvents(
  c: Context<AppEnv>,
  id: string,
  after: number,
  isReconnect: boolean,
): Promise<Response> {
  const deadline = closesAt(c);
  const { caller } = c.var;
  const read = () => readEvents(caller, id, { after, types: undefined, limit: PAGE });
  let page: Awaited<ReturnType<typeof read>> | undefined = await read();
  if (isReconnect && page.session.end_time && page.data.length === 0) return c.body(null, 204);

  c.header("X-Accel-Buffering", "no"); // nginx would hold events back to fill a buffer
  return streamSSE(c, async (stream) => {
    const closed = new AbortController();
    stream.onAbort(() => closed.abort()); // noticed with the next write
    c.req.raw.signal.addEventListener("abort", () => closed.abort()); // noticed at once
    let wait = POLL_MS.first;
    let failures = 0;
    let written = Date.now();
    await stream.write(`retry: ${RETRY_MS}\n\n`);

    while (!closed.signal.aborted) {
      for (const event of page?.data ?? []) {
        await stream.writeSSE({ id: String(event.sequence), data: JSON.stringify(event) });
        after = event.sequence;
      }
      if (page?.session.end_time && !page.has_more) {
        return await stream.writeSSE({ event: "end", data: JSON.stringify(page.session) });
      }
      if (Date.now() >= deadline) return;

      if (page && page.data.length > 0) {
        wait = POLL_MS.first;
        written = Date.now();
      } else if (Date.now() - written >= HEARTBEAT_MS) {
        await stream.write(": heartbeat\n\n");
        written = Date.now();
      }
      if (!page?.has_more) {
        await delay(Math.min(wait, Math.max(deadline - Date.now(), 0)), undefined, { signal: closed.signal }).catch(
          () => {},
        );
        wait = Math.min(wait * POLL_MS.factor, POLL_MS.last);
      }
      if (closed.signal.aborted) return;
      try {
        page = await read();
        failures = 0;
      } catch (error) {
        describeError(c, error); // logs what is the server's fault
        page = undefined;
        // What is the reader's (the session is gone, the token is no good) it is told when it asks again.
        if (++failures >= MAX_FAILURES || (error instanceof ApiError && error.status < 500)) return;
      }
    }
  });
}

/** Before the worker's time is up, and before a user's token expires: the next one is checked anew. */
function closesAt(c: Context<AppEnv>): number {
  const { exp } = c.var.supabaseContext.jwtClaims ?? {};
  return Math.min(Date.now() + maxMs(), exp ? exp * 1000 - EXPIRY_MARGIN_MS : Infinity);
}
