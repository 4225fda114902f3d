// `npm test`: formatting, lint and types, then every test against a stack of its own.
//
//   npm test                                   everything
//   npm test -- tests/http/messages.test.ts    arguments go to `deno test`
//   npm test -- --postgres-bin DIR             on another Postgres (or POSTGRES_BIN)
//   npm test -- --running                      against the stack in API_URL, DB_URL, PUBLISHABLE_KEY and SECRET_KEY
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { type Stack, startStack } from "../local/stack.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Without tests/bench: it has imports of its own, which `npm run bench` checks and nobody else downloads. */
const CHECKED_TESTS = [
  "run.ts",
  "bench/run.ts",
  "bench/rest.ts",
  "bench/stream.ts",
  "database",
  "http",
  "support",
  "unit",
]
  .map((path) => `tests/${path}`);
const { values, positionals } = parseArgs({
  args: Deno.args,
  options: { "postgres-bin": { type: "string" }, running: { type: "boolean" }, filter: { type: "string" } },
  allowPositionals: true,
});

async function deno(args: string[], env: Record<string, string> = {}): Promise<void> {
  const { success } = await new Deno.Command(Deno.execPath(), { args, env, cwd: root }).spawn().status;
  if (!success) throw new Error(`deno ${args[0]} failed`);
}

async function main(): Promise<void> {
  if (positionals.length === 0) {
    await deno(["fmt", "--check", "--quiet"]);
    await deno(["lint", "--quiet"]);
    await deno(["check", "--quiet", "local", "supabase/functions", ...CHECKED_TESTS]);
  }
  const tests = ["test", "--allow-all", "--no-check", "--parallel"];
  if (values.filter) tests.push("--filter", values.filter);
  tests.push(...positionals.length > 0 ? positionals : ["tests"]);
  if (values.running) return await deno(tests);

  const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  const postgresBin = values["postgres-bin"] ?? Deno.env.get("POSTGRES_BIN");
  const stack = await startStack({ port: 0, dbPort: 0, dataDir, postgresBin, log: (line) => console.log(line) });
  try {
    await installPgtap(stack.adminDbUrl);
    await deno(tests, environment(stack, postgresBin));
  } finally {
    await stack.stop();
    await Deno.remove(dataDir, { recursive: true });
  }
}

/** As a superuser: on the platform, where pgTAP is an allowed extension, `supabase test db` does it. */
async function installPgtap(adminDbUrl: string): Promise<void> {
  const sql = postgres(adminDbUrl, { max: 1 });
  await sql`create extension if not exists pgtap with schema extensions`;
  await sql.end();
}

function environment(stack: Stack, postgresBin = ""): Record<string, string> {
  return {
    API_URL: stack.apiUrl,
    DB_URL: stack.dbUrl,
    PUBLISHABLE_KEY: stack.publishableKey,
    SECRET_KEY: stack.secretKey,
    LOCAL_JWT_SECRET: stack.jwtSecret,
    // The tests that start stacks of their own use the same engine.
    POSTGRES_BIN: postgresBin,
  };
}

try {
  await main();
} catch (error) {
  console.error((error as Error).message);
  Deno.exit(1);
}
