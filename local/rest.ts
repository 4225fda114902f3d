/** `/rest/v1` and `/auth/v1`: @supabase/lite in this process, corrected where it differs from the platform. */
import { App } from "@supabase/lite";
import { PostgresConnection } from "@supabase/lite/postgres";
import type postgres from "postgres";
import type { Keys } from "./keys.ts";
import { failure } from "./responses.ts";

export interface RestApi extends AsyncDisposable {
  fetch: (request: Request) => Promise<Response>;
}

export interface RestOptions {
  databaseUrl: string;
  keys: Keys;
  /** PostgREST's cap on the rows of one answer. */
  maxRows: number;
}

/** PostgREST gives up like this on a database that hangs, Auth on its own; later than any statement is ended. */
const TIMEOUT_MS = 9_000;

export async function startRest({ databaseUrl, keys, maxRows }: RestOptions): Promise<RestApi> {
  const connection = new Connection({
    url: databaseUrl,
    postgresOptions: {
      max: 20,
      backoff: false, // a server that is back is used at once
      connect_timeout: 5,
      onnotice: () => {},
      connection: { statement_timeout: 8_000 }, // authenticator's on the platform; SET ROLE does not bring it along
      types: { timestamptz, json: json(114), jsonb: json(3802) },
    },
  });
  // The method grants everything on every table to every API role, which would undo the grants that the migrations
  // make. Roles and grants are the platform's and the migrations' here. (It is private in the types only.)
  Object.defineProperty(connection, "ensureRlsContext", { value: () => Promise.resolve(true) });
  const app = new App({
    connection,
    api: { schemas: ["public"], max_rows: maxRows },
    auth: {
      enabled: true,
      enable_signup: true,
      email: { enable_signup: true, enable_confirmations: false },
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

  return {
    async fetch(request) {
      const answer = async () => {
        const response = await app.fetch(request);
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

class Connection extends PostgresConnection {
  /** Has PostgREST's status, such as 400 for a failed check, where it would answer 500 without a SQLSTATE. */
  override normalizeDbError(error: unknown): unknown {
    if (!isPostgresError(error) || MAPPED.test(error.code)) return error;
    const { code, message, detail: details, hint } = error;
    return {
      code: "PGRST", // its own way to let an error choose its status: `raise sqlstate 'PGRST'`
      message: JSON.stringify({ code, message, details, hint }),
      detail: JSON.stringify({ status: statusOf(code), headers: {} }),
    };
  }
}

/** The SQLSTATEs that @supabase/lite maps to a status as PostgREST does. */
const MAPPED = /^(2[12]|42|53|55|PT|23502|23503|23505|25006|PGRST)/;

/** https://docs.postgrest.org/en/stable/references/errors.html#http-status-codes, as far as not mapped already. */
function statusOf(sqlState: string): number {
  if (sqlState === "P0001") return 400;
  if (/^(08|57P)/.test(sqlState)) return 503;
  if (/^(0L|0P|28)/.test(sqlState)) return 403;
  if (/^(09|25|2D|3[89B]|40|5[478]|F0|HV|P0|XX)/.test(sqlState)) return 500;
  return 400;
}

function isPostgresError(value: unknown): value is postgres.PostgresError {
  return value instanceof Error && value.name === "PostgresError";
}

/** PostgREST prints what Postgres' own to_json() prints: 2026-01-31T12:00:00.123456+00:00. */
const timestamptz = {
  to: 1184,
  from: [1184],
  serialize: (value: string) => value,
  parse: (value: string) => value.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00"),
};

/** The library hands over some values as JSON text already; encoding them again would store a string. */
const json = (oid: number) => ({
  to: oid,
  from: [oid],
  serialize: (value: unknown) => typeof value === "string" ? value : JSON.stringify(value),
  parse: (value: string) => JSON.parse(value),
});

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
