/** `npm start`: runs the local stack until Ctrl-C. */
import { readArguments, run } from "./command.ts";
import { envFile, envOf, formatEnv } from "./env.ts";
import { StackError } from "./errors.ts";
import { removeIfExists } from "./files.ts";
import { type Stack, type StackOptions, startStack } from "./stack.ts";

const HELP = `Runs Threadbase on this machine: Postgres, REST, Auth and the edge functions. No Docker.

Usage: npm start -- [options]

  --port PORT          of the API (default: from supabase/config.toml)
  --host HOST          where the API listens (default: 127.0.0.1; 0.0.0.0 for every network of this machine)
  --db-port PORT       of Postgres (default: from supabase/config.toml)
  --data-dir DIR       what is kept between starts (default: .local)
  --fresh              delete that first
  --postgres-bin DIR   initdb and postgres of another Postgres (default: the embedded one; or set POSTGRES_BIN)
  --rest-url URL       a PostgREST that serves /rest/v1 instead of the stand-in: prints the settings it needs, and waits for it
  --help`;

function readOptions(): StackOptions {
  const { values } = readArguments(HELP, {
    host: { type: "string" },
    port: { type: "string" },
    "db-port": { type: "string" },
    "data-dir": { type: "string" },
    fresh: { type: "boolean" },
    "postgres-bin": { type: "string" },
    "rest-url": { type: "string" },
  });
  return {
    host: values.host,
    port: portNumber("--port", values.port),
    dbPort: portNumber("--db-port", values["db-port"]),
    dataDir: values["data-dir"],
    fresh: values.fresh,
    postgresBin: values["postgres-bin"] ?? (Deno.env.get("POSTGRES_BIN") || undefined),
    restUrl: values["rest-url"],
  };
}

function portNumber(flag: string, value?: string): number | undefined {
  if (value === undefined) return undefined;
  const port = Number(value);
  if (value && Number.isInteger(port) && port >= 0 && port <= 65535) return port;
  throw new StackError(`${flag} ${value} is no port number.`);
}

/** Where other machines reach an API that listens on every network, or nothing. */
function networkUrls(apiUrl: string, host?: string): string[] {
  if (host !== "0.0.0.0" && host !== "::") return [];
  return Deno.networkInterfaces()
    .filter(({ family, address }) => family === "IPv4" && !address.startsWith("127."))
    .map(({ address }) => apiUrl.replace("127.0.0.1", address));
}

function welcome({ apiUrl, dbUrl, publishableKey, secretKey }: Stack, seconds: string, host?: string): string {
  return `
Threadbase is ready after ${seconds} s. Ctrl-C stops it.

  API              ${[`${apiUrl} (links to everything)`, ...networkUrls(apiUrl, host)].join("\n                   ")}
  Functions        ${apiUrl}/functions/v1
  Database         ${dbUrl}
  Publishable key  ${publishableKey}
  Secret key       ${secretKey}
  Demo users       alice@example.com and bob@example.com, password threadbase-demo

A first call, to paste into another terminal:

  TOKEN=$(curl -s '${apiUrl}/auth/v1/token?grant_type=password' \\
    -H 'apikey: ${publishableKey}' -H 'Content-Type: application/json' \\
    -d '{"email":"alice@example.com","password":"threadbase-demo"}' \\
    | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')

  curl '${apiUrl}/functions/v1/conversations' \\
    -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
    -d '{"title":"First contact","messages":[{"role":"user","content":"Remember me."}]}'
`;
}

async function main(): Promise<number> {
  const startedAt = performance.now();
  const options = readOptions();
  const interrupted = new AbortController();
  const onInterrupt = new Promise<"interrupted">((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      Deno.addSignalListener(signal, () => {
        interrupted.abort();
        resolve("interrupted");
      });
    }
  });

  let stack: Stack;
  try {
    stack = await startStack({ ...options, signal: interrupted.signal, log: console.log });
  } catch (error) {
    if (interrupted.signal.aborted) return 0;
    throw error;
  }
  const file = envFile(stack.dataDir);
  await Deno.writeTextFile(file, formatEnv(envOf(stack)), { mode: 0o600 });
  console.log(welcome(stack, ((performance.now() - startedAt) / 1000).toFixed(1), options.host));

  const cause = await Promise.race([onInterrupt, stack.exited.then(() => "postgres exited" as const)]);
  // Ctrl-C reaches Postgres too, and its exit may be noticed first.
  const failed = cause === "postgres exited" && !interrupted.signal.aborted;
  if (failed) console.error(`Postgres has stopped unexpectedly: see ${stack.dataDir}/postgres.log. Stopping the rest.`);
  await removeIfExists(file);
  await stack.stop();
  return failed ? 1 : 0;
}

await run(main);
