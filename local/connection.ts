/** The connection of @supabase/lite, corrected where its SQL or its context differ from PostgREST's. */
import { PostgresConnection } from "@supabase/lite/postgres";
import { CompiledQuery, type Kysely } from "kysely";
import { AsyncLocalStorage } from "node:async_hooks";
import type postgres from "postgres";
import { parseExactly } from "./payload.ts";
import { InsertsAsPostgrest } from "./inserts.ts";

/** The request that is being answered, for `request.headers` and the like. */
export const answering = new AsyncLocalStorage<Request>();

type WithContext = PostgresConnection["withContext"];
type Context = NonNullable<Parameters<WithContext>[0]>;

export class Connection extends PostgresConnection {
  #roleSettings?: Promise<Map<string, Record<string, string>>>;
  #preRequest?: Promise<string | undefined>;

  /** @param onclose When the server, or the network to it, ends one of its connections. */
  constructor(url: string, onclose: () => void) {
    super({
      url,
      postgresOptions: {
        max: 20,
        backoff: false, // a server that is back is used at once
        connect_timeout: 5,
        onnotice: () => {},
        onclose,
        max_lifetime: 0, // else they end by themselves
        connection: { statement_timeout: 8_000 }, // authenticator's on the platform; SET ROLE does not bring it along
        types: { timestamptz, json: json(114), jsonb: json(3802) },
      },
    });
    this.kysely = this.kysely.withPlugin(new InsertsAsPostgrest());
    // The method grants everything on every table to every API role, which would undo the grants that the migrations
    // make. Roles and grants are the platform's and the migrations' here. (It is private in the types only.)
    Object.defineProperty(this, "ensureRlsContext", { value: () => Promise.resolve(true) });
  }

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

  /**
   * PostgREST's transaction: read-only for reads and for functions that are not volatile, and everything that a function
   * may ask about the request set in one statement, the settings of the role included.
   */
  override async withContext<T>(
    context: Context | undefined,
    // deno-lint-ignore no-explicit-any -- the library's own type
    work: (db: Kysely<any>) => Promise<T>,
    options?: Parameters<WithContext>[2],
  ): Promise<T> {
    const request = answering.getStore();
    if (!context?.auth || !request || options?.transaction) return await super.withContext(context, work, options);
    const { role, jwt } = context.auth as { role: string; jwt: object | null };
    const path = new URL(request.url).pathname.replace(/^\/rest\/v1/, "");
    const settings = {
      search_path: '"public", "public", "extensions"', // the schema and db-extra-search-path, as PostgREST writes them
      ...(await this.#settings()).get(role),
      role,
      "request.jwt.claims": JSON.stringify({ ...jwt, role }),
      "request.method": request.method,
      "request.path": path,
      "request.headers": JSON.stringify(Object.fromEntries(request.headers)),
      ...await this.#isRead(request.method, path) && { transaction_read_only: "on" },
    };
    const calls = Object.keys(settings).map((_, i) => `set_config($${2 * i + 1}, $${2 * i + 2}, true)`);
    return await this.kysely.transaction().execute(async (transaction) => {
      await transaction.executeQuery(
        CompiledQuery.raw(`select ${calls.join(", ")}`, Object.entries(settings).flat()),
      );
      const preRequest = await this.#hook();
      if (preRequest) await transaction.executeQuery(CompiledQuery.raw(`select ${preRequest}()`));
      return await work(transaction);
    });
  }

  /** `notify pgrst, 'reload config'` */
  reloadConfig(): void {
    this.#preRequest = undefined;
  }

  /** The function that PostgREST calls first in every transaction, as the role of the request: `db-pre-request`. */
  #hook() {
    return this.#preRequest ??= (async () => {
      const [row] = await this.driver<{ hook: string }[]>`
        select split_part(c.setting, '=', 2) as hook
        from pg_db_role_setting s, unnest(s.setconfig) as c (setting)
        where s.setrole = 'authenticator'::regrole
          and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
          and c.setting like 'pgrst.db_pre_request=%'
        order by s.setdatabase desc`;
      return row?.hook;
    })();
  }

  async #isRead(method: string, path: string): Promise<boolean> {
    if (method === "GET" || method === "HEAD") return true;
    const [, rpc, name] = path.split("/");
    if (rpc !== "rpc") return false;
    const { functions = [] } = await this.introspect({ useCache: true });
    const called = functions.filter((f) => f.schema === "public" && f.name === name);
    return called.length > 0 && called.every(({ volatility }) => volatility !== "v");
  }

  /** What `alter role … set` says of the roles that PostgREST may take. */
  #settings() {
    return this.#roleSettings ??= (async () => {
      const rows = await this.driver<{ rolname: string; rolconfig: string[] }[]>`
        select r.rolname, r.rolconfig
        from pg_auth_members m join pg_roles r on r.oid = m.roleid
        where m.member = 'authenticator'::regrole and r.rolconfig is not null`;
      return new Map(rows.map(({ rolname, rolconfig }) => {
        return [rolname, Object.fromEntries(rolconfig.map((setting) => setting.split(/=(.*)/s, 2)))] as const;
      }));
    })();
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

export function isPostgresError(value: unknown): value is postgres.PostgresError {
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
  parse: parseExactly,
});
