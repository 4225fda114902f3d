import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import { setTimeout as delay } from "node:timers/promises";
import type { AppEnv } from "../_shared/caller.ts";
import { describeError } from "../_shared/app.ts";
import { ApiError } from "../_shared/errors.ts";
import { invalidRequest } from "../_shared/http.ts";
import { readEvents } from "./repo.ts";

/** Between two reads that found nothing: from the first wait, growing by the factor, up to the last. */
const POLL_MS = { first: 1000, factor: 1.5, last: 5000 };
/** How soon a reader that was cut off comes back. */
const RETRY_MS = 1000;
/** The reader asks again with a fresh token: this much before the old one expires. */
const EXPIRY_MARGIN_MS = 5000;
/** What is read at once; a page also ends at about 8 MiB. */
const PAGE = 500;
/** So much, and the reader comes back for the rest: an isolate has little CPU for all that it ever streams. */
const MAX_BYTES = 8 * 1024 * 1024;
/** With the longest wait before it, a poll that hangs is told of within 10 seconds. */
const POLL_TIMEOUT_MS = 4000;
/** A database that is away this many times in a row is left to the reader's own retry. */
const MAX_FAILURES = 3;

/** The platform ends a worker after 150 s (400 s on paid plans). Closing before that lets a reader miss nothing. */
const maxMs = () => Number(Deno.env.get("STREAM_SECONDS") ?? 140) * 1000;

/**
 * The events of a session as server-sent events: what is there after `after`, then what comes, until the session has ended
 * (`event: end` with the session), 8 MiB are sent, the token expires or the worker's time is up. The id of an event is its
 * sequence, so a reader that comes back with `Last-Event-ID` goes on where it was. One database call for each page or poll,
 * polls 1 to 5 seconds apart. One that finds nothing sends a comment, which keeps proxies from closing the connection and
 * shows whether the reader is still there. When one fails, `event: error` says so with the body of the error; the stream
 * goes on once the database answers again, and ends if it does not.
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
  const { caller } = c.var;
  const read = async (signal?: AbortSignal) => {
    const page = (await readEvents(caller, id, { after, types: undefined, limit: PAGE }, signal)).members();
    return { events: page.data.elements(), has_more: page.has_more.parse(), session: page.session.parse() };
  };
  let page: Awaited<ReturnType<typeof read>> | undefined = await read();
  if (after > page.session.last_sequence) {
    // It would wait for numbers that mean other events by the time they come.
    throw invalidRequest([{ path: isReconnect ? "last-event-id" : "after", message: "Is beyond the newest event." }]);
  }
  if (isReconnect && page.session.end_time && page.events.length === 0) return c.body(null, 204);
  if (c.req.method === "HEAD") return c.body(null, 200, { "content-type": "text/event-stream" });

  c.header("X-Accel-Buffering", "no"); // nginx would hold events back to fill a buffer
  return streamSSE(c, async (stream) => {
    const closed = new AbortController();
    const close = () => closed.abort();
    // Noticed with the next write. The request's own signal says nothing: on the platform it may be aborted by a normal answer.
    stream.onAbort(close);
    // Also ends a write that a reader does not take.
    const timer = setTimeout(close, closesIn(c));
    const whenClosed = new Promise<unknown>((resolve) => closed.signal.addEventListener("abort", resolve));
    const write = (text: string) => Promise.race([stream.write(text), whenClosed]);

    try {
      await write(`retry: ${RETRY_MS}\n\n`);
      let wait = POLL_MS.first;
      let failures = 0;
      let sent = 0;
      while (!closed.signal.aborted) {
        for (const event of page?.events ?? []) {
          if (closed.signal.aborted || sent > MAX_BYTES) return;
          const { sequence } = event.members();
          await write(`id: ${sequence}\ndata: ${event}\n\n`);
          sent += event.bytes.length;
          after = sequence.parse();
        }
        if (page?.session.end_time && !page.has_more) {
          await write(`event: end\ndata: ${JSON.stringify(page.session)}\n\n`);
          return;
        }

        if (page && page.events.length > 0) wait = POLL_MS.first;
        else await write(": heartbeat\n\n");
        const waits = !page?.has_more;
        if (waits) {
          await delay(wait, undefined, { signal: closed.signal }).catch(() => {});
          wait = Math.min(wait * POLL_MS.factor, POLL_MS.last);
        }
        if (closed.signal.aborted) return;
        try {
          // A page that follows at once has the time that every call has.
          const late = waits ? [AbortSignal.timeout(POLL_TIMEOUT_MS)] : [];
          page = await read(AbortSignal.any([closed.signal, ...late]));
          failures = 0;
        } catch (error) {
          if (closed.signal.aborted) return;
          const body = describeError(c, error); // logs what is the server's fault
          page = undefined;
          // What is the reader's (the session is gone, the token is no good) it is told when it asks again.
          if (error instanceof ApiError && error.status < 500) return;
          if (failures++ === 0) await write(`event: error\ndata: ${JSON.stringify(body)}\n\n`);
          if (failures >= MAX_FAILURES) return;
        }
      }
    } finally {
      clearTimeout(timer);
    }
  });
}

/** Before the worker's time is up, and before a user's token expires: the next one is checked anew. */
function closesIn(c: Context<AppEnv>): number {
  const { expiresAt: exp } = c.var.caller;
  return Math.max(Math.min(maxMs(), exp ? exp * 1000 - EXPIRY_MARGIN_MS - Date.now() : Infinity), 0);
}
