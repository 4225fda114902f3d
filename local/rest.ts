/** `/rest/v1` and `/auth/v1`: @supabase/lite in this process, corrected where it differs from the platform. */
import { App } from "@supabase/lite";
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

export async function startRest({ databaseUrl, keys, maxRows, restUrl }: RestOptions): Promise<RestApi> {
  const connection = new Connection(databaseUrl);
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
  const unmute = muteDatabaseErrors();
  await app.init();
  await connection.introspect();
  await connection.driver.listen("pgrst", () => void connection.introspect()); // notify pgrst, 'reload schema'

  const auth = completeAuth(connection.driver, keys, async (request) => await app.fetch(request));
  const rest = restUrl
    ? passToPostgrest({ url: restUrl, keys })
    : asPostgrest(connection, keys, async (request) => await app.fetch(request));
  return {
    async fetch(request) {
      const answer = async () => {
        const isAuth = new URL(request.url).pathname.startsWith("/auth/");
        const response = await (isAuth ? auth : rest)(request);
        if (response.status !== 500 || await connection.ping()) return response;
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
      await connection.driver.end({ timeout: 1 });
    },
  };
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
    /^(PGRST|ECONN|EPIPE|CONNECTION_|CONNECT_TIMEOUT)/.test((value as { code?: string })?.code ?? "");
  console.error = (...values) => values.some(muted) || original(...values);
  return () => console.error = original;
}
