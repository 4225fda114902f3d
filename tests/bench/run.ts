/** `npm run bench`: measures Threadbase beside what people would use instead, on the same machine in the same run. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { readArguments, run } from "../../local/command.ts";
import { StackError } from "../../local/errors.ts";
import { edgeEnvironment, type Stack as LocalStack, startStack } from "../../local/stack.ts";
import type { Stack } from "./stack.ts";

const HELP = `Starts a stack of its own on a fresh database and measures it beside what people would use instead.

Usage: npm run bench -- [options]

                       everything, half an hour; writes docs/benchmarks.md and its plots
  --quick              smaller sizes, under two minutes; prints the tables
  --write              with --quick: writes the page as well; with --level attack: docs/reliability.md
  --level LEVEL        only sql, http, growth or attack; prints its tables
  --postgres-bin DIR   initdb and postgres of another Postgres (default: the embedded one; or set POSTGRES_BIN)
  --rest-url URL       a PostgREST that serves /rest/v1 instead of the stand-in: prints the settings it needs, and waits for it
  --help`;

const root = fileURLToPath(new URL("../..", import.meta.url));
const LEVELS = ["sql", "http", "growth", "attack"];

function readOptions() {
  const { values } = readArguments(HELP, {
    quick: { type: "boolean" },
    write: { type: "boolean" },
    level: { type: "string" },
    "postgres-bin": { type: "string" },
    "rest-url": { type: "string" },
  });
  const { quick, write, level } = values;
  if (level !== undefined && !LEVELS.includes(level)) throw new StackError(`--level is one of ${LEVELS.join(", ")}.`);
  return {
    postgresBin: values["postgres-bin"] ?? (Deno.env.get("POSTGRES_BIN") || undefined),
    restUrl: values["rest-url"],
    forwarded: [...quick ? ["--quick"] : [], ...write ? ["--write"] : [], ...level ? ["--level", level] : []],
  };
}

async function describe(local: LocalStack, restUrl?: string): Promise<Stack> {
  const { apiUrl, dbUrl, adminDbUrl, publishableKey, secretKey, jwtSecret } = local;
  const sql = postgres(adminDbUrl, { max: 1 });
  const [{ server_version }] = await sql`show server_version`;
  await sql.end();
  const response = await fetch(`${apiUrl}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: publishableKey, "content-type": "application/json" },
    body: JSON.stringify({ email: "bench@example.com", password: crypto.randomUUID() }),
  });
  return {
    ...{ dbUrl, adminDbUrl, publishableKey, secretKey, jwtSecret, restUrl },
    postgresVersion: server_version,
    functionEnvironment: edgeEnvironment(apiUrl, dbUrl, local),
    userId: (await response.json()).user.id,
  };
}

async function main(): Promise<number> {
  const { forwarded, ...options } = readOptions();
  const dataDir = join(tmpdir(), `threadbase-bench-${crypto.randomUUID()}`);
  const local = await startStack({ port: 0, dbPort: 0, dataDir, ...options, log: (line) => console.error(line) });
  try {
    // A process of its own, with the imports of the peers: nothing else in the project needs them.
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--check", "--quiet", "--config", "tests/bench/deno.json"],
        ...["tests/bench/main.ts", ...forwarded],
      ],
      cwd: root,
      env: { BENCH_STACK: JSON.stringify(await describe(local, options.restUrl)) },
    }).spawn().status;
    return success ? 0 : 1;
  } finally {
    await local.stop();
    await Deno.remove(dataDir, { recursive: true });
  }
}

await run(main);
