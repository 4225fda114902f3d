/**
 * `npm run bench`: starts a stack of its own on a fresh database and measures it, with what people would use instead on the
 * same machine in the same run.
 *
 *   npm run bench                              everything; writes docs/benchmarks.md and its plots
 *   npm run bench -- --quick                   smaller sizes, under two minutes; prints the tables only
 *   npm run bench -- --quick --write           … and writes the page as well
 *   npm run bench -- --level sql|http|growth   one level; prints its tables only
 *   npm run bench -- --postgres-bin DIR        on another Postgres (or POSTGRES_BIN)
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { readConfig } from "../../local/config.ts";
import { edgeEnvironment, startStack } from "../../local/stack.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { values } = parseArgs({
  options: {
    quick: { type: "boolean" },
    write: { type: "boolean" },
    level: { type: "string" },
    "postgres-bin": { type: "string" },
  },
});

/** Signs up whom the conversations that are measured belong to. */
async function signUp(apiUrl: string, publishableKey: string): Promise<string> {
  const response = await fetch(`${apiUrl}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: publishableKey, "content-type": "application/json" },
    body: JSON.stringify({
      email: "bench@example.com",
      password: crypto.randomUUID(),
    }),
  });
  return (await response.json()).user.id;
}

const dataDir = join(tmpdir(), `threadbase-bench-${crypto.randomUUID()}`);
const postgresBin = values["postgres-bin"] ?? Deno.env.get("POSTGRES_BIN");
const running = await startStack({
  port: 0,
  dbPort: 0,
  dataDir,
  postgresBin,
  log: (line) => console.error(line),
});
try {
  const sql = postgres(running.adminDbUrl, { max: 1 });
  const [{ server_version }] = await sql`show server_version`;
  await sql.end();
  const stack: Stack = {
    dbUrl: running.dbUrl,
    adminDbUrl: running.adminDbUrl,
    publishableKey: running.publishableKey,
    secretKey: running.secretKey,
    jwtSecret: running.jwtSecret,
    maxRows: (await readConfig(root)).maxRows,
    postgresVersion: server_version,
    functionEnvironment: edgeEnvironment(
      running.apiUrl,
      running.dbUrl,
      running,
    ),
    userId: await signUp(running.apiUrl, running.publishableKey),
  };
  // A process of its own, with the imports of the peers, which nothing else of the project needs.
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...[
        "run",
        "-A",
        "--check",
        "--quiet",
        "--config",
        "tests/bench/deno.json",
        "--lock",
        "tests/bench/deno.lock",
      ],
      ...["tests/bench/main.ts", ...Deno.args],
    ],
    cwd: root,
    env: { BENCH_STACK: JSON.stringify(stack) },
  }).spawn().status;
  Deno.exitCode = code;
} finally {
  await running.stop();
  await Deno.remove(dataDir, { recursive: true });
}
