// What one user has under way at once. A function has one thread and the database few cores: whoever sends eight large requests
// at a time would have everybody else wait for all of them.
import { createMiddleware } from "hono/factory";
import type { AppEnv, Caller } from "./caller.ts";
import { ApiError } from "./errors.ts";

/** Large requests of one user that an isolate works on. The others wait for their turn, in the order in which they came. */
export const MAX_AT_ONCE = 1;
/** Who waits holds next to nothing: of a large body not a byte is read before. */
export const MAX_WAITING = 100;
/** With a call of the database after it, an answer comes while its client still waits. */
export const MAX_WAIT_MS = 5_000;

interface Turns {
  working: number;
  waiting: Set<() => void>;
}

const turnsOf = new Map<string, Turns>();

/**
 * Does it when it is the user's turn. A backend that acts for nobody has no turns: its work is the project's own.
 *
 * @throws {ApiError} 429 `user_busy` where as many wait already, or the wait is over.
 */
export async function inTurn<T>({ actsFor }: Caller, work: () => Promise<T>): Promise<T> {
  if (actsFor === undefined) return await work();
  let turns = turnsOf.get(actsFor);
  if (!turns) turnsOf.set(actsFor, turns = { working: 0, waiting: new Set() });
  if (turns.working < MAX_AT_ONCE) turns.working++;
  else await waitFor(turns);
  try {
    return await work();
  } finally {
    const [next] = turns.waiting;
    if (next) next(); // which has this turn from here on
    else if (--turns.working === 0) turnsOf.delete(actsFor);
  }
}

async function waitFor({ waiting }: Turns): Promise<void> {
  const busy = () => new ApiError(429, "user_busy");
  if (waiting.size >= MAX_WAITING) throw busy();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const overdue = setTimeout(() => {
    waiting.delete(next);
    reject(busy());
  }, MAX_WAIT_MS);
  const next = () => {
    clearTimeout(overdue);
    waiting.delete(next);
    resolve();
  };
  waiting.add(next);
  await promise;
}

/** For a route that is large whatever it is asked. A request has one turn, however often it is found to be large. */
export const large = createMiddleware<AppEnv>(async (c, next) => {
  if (c.var.hasTurn) return await next();
  c.set("hasTurn", true);
  await inTurn(c.var.caller, next);
});
