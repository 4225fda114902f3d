/** `npm test`: formatting, lint and types, then every test against a stack of its own. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { readArguments, run } from "../local/command.ts";
import { StackError } from "../local/errors.ts";
import { type Stack, startStack } from "../local/stack.ts";

const HELP = `Checks formatting, lint and types, then runs every test against a stack of its own.

Usage: npm test -- [FILE...] [options]

  FILE                 only these tests, without the checks
  --filter TEXT        only the tests with this in their name
  --postgres-bin DIR   initdb and postgres of another Postgres (default: the embedded one; or set POSTGRES_BIN)
  --rest-url URL       a PostgREST that serves /rest/v1 instead of the stand-in: prints the settings it needs, and waits for it
  --running            against the stack in API_URL, DB_URL, PUBLISHABLE_KEY and SECRET_KEY
  --help`;

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
/** Where the tests find their stack: also what `supabase status -o env` prints. */
const STACK_VARIABLES = ["API_URL", "DB_URL", "PUBLISHABLE_KEY", "SECRET_KEY"];

async function deno(args: string[], env: Record<string, string> = {}): Promise<void> {
  const { success } = await new Deno.Command(Deno.execPath(), { args, env, cwd: root }).spawn().status;
  if (!success) throw new StackError(`deno ${args[0]} failed`);
}

async function main(): Promise<void> {
  const { values, positionals } = readArguments(HELP, {
    "postgres-bin": { type: "string" },
    "rest-url": { type: "string" },
    running: { type: "boolean" },
    filter: { type: "string" },
  }, [0, Infinity]);
  const missing = STACK_VARIABLES.filter((name) => !Deno.env.get(name));
  if (values.running && missing.length > 0) {
    throw new StackError(`--running needs ${missing.join(", ")} in the environment.`);
  }
  if (positionals.length === 0) {
    await deno(["fmt", "--check", "--quiet"]);
    await deno(["lint", "--quiet"]);
    await deno(["check", "--quiet", "local", "supabase/functions", ...CHECKED_TESTS]);
  }
  const tests = ["test", "--allow-all", "--no-check", "--parallel"];
  if (values.filter) tests.push("--filter", values.filter);
  tests.push(...positionals.length > 0 ? positionals : ["tests"]);
  if (values.running) {
    console.log(`Against the stack at ${Deno.env.get("API_URL")}`);
    return await deno(tests);
  }

  const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  const postgresBin = values["postgres-bin"] ?? Deno.env.get("POSTGRES_BIN");
  const restUrl = values["rest-url"];
  const stack = await startStack({
    port: 0,
    dbPort: 0,
    dataDir,
    postgresBin,
    restUrl,
    log: (line) => console.log(line),
  });
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

await run(main);
