/** Brings a cluster to the state of a Supabase project: the platform's own objects, then migrations and seed. */
import { getAuthSchemaSql, SUPABASE_AUTH_HELPERS_SQL } from "@supabase/lite";
import { join } from "node:path";
import postgres from "postgres";
import { StackError } from "./errors.ts";

/** Makes roles, schemas and extensions that exist before the first migration, unless they are there. */
export async function bootstrap(adminUrl: string): Promise<void> {
  const sql = postgres(adminUrl, { max: 1, onnotice: () => {} });
  try {
    const [{ done }] = await sql`select to_regrole('authenticator') is not null as done`;
    if (done) return;
    const platform = await Deno.readTextFile(new URL("bootstrap.sql", import.meta.url));
    await sql.begin((transaction) =>
      transaction.unsafe([SUPABASE_AUTH_HELPERS_SQL, getAuthSchemaSql(), platform].join("\n"))
    );
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Applies what is new in supabase/migrations and the seed, by the real CLI, as the role that does so on Supabase. */
export async function pushMigrations(
  root: string,
  url: string,
  { seed = true, signal }: { seed?: boolean; signal?: AbortSignal } = {},
): Promise<void> {
  const options = [...seed ? ["--include-seed"] : [], "--yes", `--remote=${url}?sslmode=disable`, "--workdir", root];
  const { success, stdout, stderr } = await new Deno.Command(join(root, "node_modules/.bin/supabase"), {
    args: ["db", "push", ...options],
    env: { SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", SUPABASE_NO_UPDATE_NOTIFIER: "1" },
    stdin: "null",
    signal,
  }).output();
  if (success) return;
  const output = new TextDecoder().decode(stderr) + new TextDecoder().decode(stdout);
  // From the file that failed to the hint about --debug, which is of no use here.
  const [, reason = output] = output.match(/.*((?:Applying migration|Seeding data).*?)(?:Try rerunning|$)/s) ?? [];
  throw new StackError(`The database could not be brought up to date.\n${reason.trim()}`);
}
