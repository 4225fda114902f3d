/** `/rest/v1` and `/auth/v1`: @supabase/lite in this process, corrected where it differs from the platform. */
import { App } from "@supabase/lite";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { completeAuth, MINIMUM_PASSWORD_LENGTH } from "./admin.ts";
import { answering, Connection, isPostgresError } from "./connection.ts";
import type { Keys } from "./keys.ts";
import { passToPostgrest } from "./postgrest.ts";
import { withExactPayload, withLeeway } from "./payload.ts";
import { failure } from "./responses.ts";

export interface RestApi extends AsyncDisposable {
  fetch: (request: Request) => Promise<Response>;
}

export interface RestOptions {
  databaseUrl: string;
  keys: Keys;
  /** PostgREST's cap on the rows of one answer. */
  maxRows: number;
  /** A PostgREST that serves `/rest/v1` instead. */
  restUrl?: string;
}

/** PostgREST gives up like this on a database that hangs, Auth on its own; later than any statement is ended. */
const TIMEOUT_MS = 9_000;
const LOSS_MS = 1_000;
const POLL_MS = 100;

/** @throws When the database does not answer. Later it may be away for a while: then requests get 503. */
export async function startRest(options: RestOptions): Promise<RestApi> {
  const unmute = muteDatabaseErrors();
  const surviving = surviveLostConnections();
  let current: Promise<Instance> | undefined;
  /** The driver never sends again on a connection that was closed amid a write: after a loss, all of them are made anew. */
  const instance = () => {
    const opening = current ??= open(options);
    const forget = () => current === opening && (current = undefined);
    opening.then(({ closed }) => closed.then(forget), forget);
    return opening;
  };
  await instance();
  return {
    async fetch(request) {
      const answer = async () => {
        const serving = await instance().catch(() => undefined);
        const response = serving && await Promise.race([serving.fetch(request), serving.ended]);
        if (response && (response.status !== 500 || await serving.ping())) return response;
        return unavailable(503, "PGRST001", "Database client error. Retrying the connection.");
      };
      const timer = Promise.withResolvers<Response>();
      const timeout = setTimeout(
        () => timer.resolve(unavailable(504, "PGRST003", "Timed out acquiring connection from connection pool.")),
        TIMEOUT_MS,
      );
      return await Promise.race([answer(), timer.promise]).finally(() => clearTimeout(timeout));
    },
    async [Symbol.asyncDispose]() {
      unmute();
      surviving();
      await current?.then((instance) => instance.end(), () => {});
    },
  };
}

/** REST and Auth on connections of their own. */
interface Instance {
  fetch: RestApi["fetch"];
  ping: () => Promise<boolean>;
  /** When one of its connections is lost, and the server is there. The others may finish within {@link LOSS_MS}. */
  closed: Promise<void>;
  ended: Promise<void>;
  end: () => Promise<void>;
}

async function open({ databaseUrl, keys, maxRows, restUrl }: RestOptions): Promise<Instance> {
  const { promise: lost, resolve: onclose } = Promise.withResolvers<void>();
  let isOver = false;
  const connection = new Connection(databaseUrl, onclose);
  const end = async () => {
    isOver = true;
    await connection.driver.end({ timeout: LOSS_MS / 1000 });
  };
  // A server that hangs lets no connection in, which is closed as well: the others are as good as they were.
  const closed = lost.then(async () => {
    while (!isOver && !await accepts(databaseUrl)) await delay(POLL_MS);
  });
  const ended = closed.then(end);
  const app = new App({
    connection,
    api: { schemas: ["public"], max_rows: maxRows },
    auth: {
      enabled: true,
      enable_signup: true,
      email: { enable_signup: true, enable_confirmations: false },
      minimum_password_length: MINIMUM_PASSWORD_LENGTH,
      enable_refresh_token_rotation: true, // a reused refresh token ends its session
      jwt_expiry: 3600,
      jwt_secret: keys.jwtSecret,
      publishable_key: keys.publishableKey,
      secret_key: keys.secretKey,
    },
    studio: { enabled: false },
  });
  try {
    await app.init();
    await connection.introspect();
    await connection.driver.listen("pgrst", (reload) => {
      if (reload !== "reload schema") connection.reloadConfig();
      if (reload !== "reload config") void connection.introspect();
    });
  } catch (error) {
    await end();
    throw error;
  }

  const next: RestApi["fetch"] = async (request) => await app.fetch(request);
  const auth = completeAuth(connection.driver, keys, next);
  const rest = restUrl ? passToPostgrest({ url: restUrl, keys }) : asPostgrest(connection, keys, next);
  return {
    fetch: (request) => (new URL(request.url).pathname.startsWith("/auth/") ? auth : rest)(request),
    ping: async () => !isOver && await connection.ping() === true,
    closed,
    ended,
    end,
  };
}

/** Whether the server takes a connection, and answers on it. */
async function accepts(databaseUrl: string): Promise<boolean> {
  const sql = postgres(databaseUrl, { max: 1, connect_timeout: 2, onnotice: () => {} });
  try {
    await sql`select`;
    return true;
  } catch {
    return false;
  } finally {
    await sql.end({ timeout: 0 });
  }
}

/** As PostgREST says it. */
const unavailable = (status: number, code: string, message: string) =>
  failure(status, code, message, { details: null, hint: null });

/** Has a request answered as PostgREST does. */
function asPostgrest(connection: Connection, keys: Keys, next: RestApi["fetch"]): RestApi["fetch"] {
  const secret = new TextEncoder().encode(keys.jwtSecret);
  return (original) =>
    answering.run(original, async () => {
      const catalogue = await connection.introspect({ useCache: true });
      let request = await withExactPayload(await withLeeway(original, secret), catalogue);
      const isHead = request.method === "HEAD" && request.url.includes("/rest/v1/rpc/");
      if (isHead) request = new Request(request, { method: "GET" }); // the library has no HEAD for functions
      const response = await next(request);
      if (!isHead) return response;
      await response.body?.cancel();
      return new Response(null, response);
    });
}

/**
 * The library prints each SQL error with its detail, which may be a whole row with the text of a message in it.
 * The caller gets the error, and Postgres' own log keeps it without that detail. A table that does not exist is the
 * caller's business alone.
 */
function muteDatabaseErrors(): () => void {
  const original = console.error;
  const muted = (value: unknown) =>
    isPostgresError(value) || (value as Error)?.message?.startsWith("Could not find the table") ||
    isConnectionError(value) || (value as { code?: string })?.code?.startsWith("PGRST");
  console.error = (...values) => values.some(muted) || original(...values);
  return () => console.error = original;
}

/**
 * Where a backend dies, the driver throws into the event loop (postgres.js, issue 1208) and leaves promises of its own
 * rejected, which nobody can catch and which ends the process. Whoever waits for that connection hears of its end all the
 * same.
 */
export function surviveLostConnections(): () => void {
  const survive = (event: Event, error: Error | undefined) => {
    if (isConnectionError(error) || /at .*nextWrite .*[/\\]postgres[/\\]/.test(error?.stack ?? "")) {
      event.preventDefault();
    }
  };
  const onError = (event: ErrorEvent) => survive(event, event.error);
  const onRejection = (event: PromiseRejectionEvent) => survive(event, event.reason);
  addEventListener("error", onError);
  addEventListener("unhandledrejection", onRejection);
  return () => {
    removeEventListener("error", onError);
    removeEventListener("unhandledrejection", onRejection);
  };
}

const isConnectionError = (value: unknown) =>
  /^(ECONN|EPIPE|CONNECTION_|CONNECT_TIMEOUT)/.test((value as { code?: string })?.code ?? "");
