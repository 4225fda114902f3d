/** `npm test`: formatting, lint and types, then every test against a stack of its own. */
import { constants } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { readArguments, run } from "../local/command.ts";
import { StackError } from "../local/errors.ts";
import { type Stack, startStack } from "../local/stack.ts";
import { startRun } from "./support/janitor.ts";

/** In this order: what fails soonest comes first. */
const KINDS = ["unit", "database", "http", "soak"];
/** They break things and measure how long others take: they have the machine for themselves. */
const ALONE = ["soak"];

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
  "soak",
  "support",
  "unit",
]
  .map((path) => `tests/${path}`);
/** Where the tests find their stack: also what `supabase status -o env` prints. */
const STACK_VARIABLES = ["API_URL", "DB_URL", "PUBLISHABLE_KEY", "SECRET_KEY"];

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.addSignalListener(signal, () => interrupted.abort(signal));
}
// Who started this process may be killed and tell nobody.
const parent = Deno.ppid;
Deno.unrefTimer(setInterval(() => Deno.ppid === parent || interrupted.abort("SIGTERM"), 250));

async function deno(args: string[], env: Record<string, string> = {}): Promise<void> {
  const { signal } = interrupted;
  const { success } = await new Deno.Command(Deno.execPath(), { args, env, cwd: root, signal }).spawn().status;
  signal.throwIfAborted();
  if (!success) throw new StackError(`deno ${args[0]} failed`);
}

/** What has run, and how long it took. */
const times: string[] = [];

async function timed(name: string, work: () => Promise<void>): Promise<void> {
  const startedAt = performance.now();
  await work().finally(() => times.push(`${name} ${Math.round((performance.now() - startedAt) / 1000)} s`));
}

async function check(): Promise<void> {
  await deno(["fmt", "--check", "--quiet"]);
  await deno(["lint", "--quiet"]);
  await deno(["check", "--quiet", "local", "supabase/functions", ...CHECKED_TESTS]);
}

/** Runs these, or every kind after the other. One that fails does not keep the others from running. */
async function test(paths: string[], filter?: string, env?: Record<string, string>): Promise<void> {
  const run = (paths: string[]) => {
    const isAlone = paths.some((path) => ALONE.some((kind) => path.includes(`tests/${kind}`)));
    const options = [...isAlone ? [] : ["--parallel"], ...filter ? ["--filter", filter] : []];
    return deno(["test", "--allow-all", "--no-check", ...options, ...paths], env);
  };
  if (paths.length > 0) return await run(paths);
  const errors: unknown[] = [];
  for (const kind of KINDS) {
    await timed(kind, () => run([`tests/${kind}`])).catch((error) => errors.push(error));
    interrupted.signal.throwIfAborted();
  }
  if (errors.length > 0) throw errors[0];
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

  await using testRun = await startRun();
  if (positionals.length === 0) await timed("formatting, lint and types", check);
  if (values.running) {
    console.log(`Against the stack at ${Deno.env.get("API_URL")}`);
    return await test(positionals, values.filter);
  }

  const postgresBin = values["postgres-bin"] ?? (Deno.env.get("POSTGRES_BIN") || undefined);
  const restUrl = values["rest-url"];
  let stack: Stack | undefined;
  try {
    await timed("start", async () => {
      stack = await startStack({
        port: 0,
        dbPort: 0,
        dataDir: join(testRun.directory, "stack"),
        postgresBin,
        restUrl,
        signal: interrupted.signal,
        log: (line) => console.log(line),
      });
      await installPgtap(stack.adminDbUrl);
    });
    await test(positionals, values.filter, environment(stack!, postgresBin));
  } finally {
    await stack?.stop();
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

await run(async () => {
  try {
    await main();
  } catch (error) {
    const { aborted, reason } = interrupted.signal;
    if (!aborted) throw error;
    return 128 + constants.signals[reason as keyof typeof constants.signals];
  } finally {
    if (times.length > 0) console.log(`Time: ${times.join(", ")}`);
  }
});
