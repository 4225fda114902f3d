/** The local stack: what `supabase start` runs in containers, as one tree of processes. */
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readConfig } from "./config.ts";
import { StackError } from "./errors.ts";
import { exists, removeIfExists } from "./files.ts";
import { startFunctions } from "./functions.ts";
import { jwks, type Services, startGateway } from "./gateway.ts";
import { type Keys, loadKeys } from "./keys.ts";
import { bootstrap, pushMigrations } from "./platform.ts";
import { freePort, probe } from "./ports.ts";
import { databaseUrl, removePostgres, startPostgres, stopLeftover } from "./postgres.ts";
import { startRest } from "./rest.ts";
import { startScheduler } from "./scheduler.ts";

export interface StackOptions {
  /** The directory that holds supabase/ and node_modules/. Default: this repository. */
  root?: string;
  /** Default: as in supabase/config.toml; 0 takes a free port. */
  port?: number;
  dbPort?: number;
  /** Default: .local in the root. One that does not exist yet is made so that Postgres can enter it. */
  dataDir?: string;
  /** Deletes what earlier starts left in the data directory. */
  fresh?: boolean;
  /** A directory with initdb and postgres, instead of the embedded ones. */
  postgresBin?: string;
  /** Gives up starting. */
  signal?: AbortSignal;
  /** Receives progress, and what functions print, line by line. */
  log?: (line: string) => void;
}

export interface Stack extends Keys {
  apiUrl: string;
  /** As `postgres`, the role that runs migrations on the platform. */
  dbUrl: string;
  /** As `supabase_admin`, a superuser. */
  adminDbUrl: string;
  dataDir: string;
  postgresPid: number;
  /** Settles when Postgres is gone, by `stop` or by itself. */
  exited: Promise<void>;
  stop: () => Promise<void>;
}

/**
 * Starts everything, or nothing: what has started by the time of a failure is stopped again.
 *
 * @example
 * const stack = await startStack({ port: 0, dbPort: 0, dataDir: "/tmp/threadbase-test" });
 * await fetch(`${stack.apiUrl}/rest/v1/`, { headers: { apikey: stack.secretKey } });
 * await stack.stop();
 *
 * @throws {StackError} With a message meant for the terminal.
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const running = new AsyncDisposableStack();
  try {
    return await start(options, running);
  } catch (error) {
    await running.disposeAsync();
    throw error;
  }
}

async function start(options: StackOptions, running: AsyncDisposableStack): Promise<Stack> {
  const { root = dirname(dirname(fileURLToPath(import.meta.url))), signal, log = () => {} } = options;
  const dataDir = resolve(options.dataDir ?? join(root, ".local"));
  const config = await readConfig(root);
  const step = progress(log, signal);

  running.use(await lock(dataDir));
  await stopLeftover(dataDir);
  const dbPort = options.dbPort === 0 ? freePort() : takePort(options.dbPort ?? config.dbPort, "--db-port", probe);
  if (options.fresh) await removeData(dataDir);
  const keys = await loadKeys(dataDir);

  const services = Promise.withResolvers<Services>();
  services.promise.catch(() => {}); // nobody may be waiting when it fails
  running.defer(() => services.reject(new StackError("The stack has stopped.")));
  const gateway = running.use(
    takePort(options.port ?? config.apiPort, "--port", (port) => startGateway(port, keys.jwtSecret, services.promise)),
  );
  const apiUrl = `http://127.0.0.1:${gateway.port}`;
  const dbUrl = databaseUrl("postgres", dbPort);
  const adminDbUrl = databaseUrl("supabase_admin", dbPort);

  // Functions need no database to start, only to answer.
  const starting = step(
    () =>
      startFunctions({ directory: join(root, "supabase/functions"), env: edgeEnvironment(apiUrl, dbUrl, keys), log }),
    ({ names }) => `Edge functions: ${names.join(", ") || "none"}`,
  );
  running.defer(async () => await (await starting.catch(() => undefined))?.[Symbol.asyncDispose]());

  const postgres = running.use(
    await step(
      () => startPostgres({ root, dataDir, port: dbPort, binDir: options.postgresBin, log }),
      ({ version }) => `Postgres ${version}`,
    ),
  );
  await step(() => bootstrap(adminDbUrl), () => "Roles, schemas and extensions of the platform");
  await step(() => pushMigrations(root, dbUrl, { signal }), () => "Migrations and seed");
  const rest = running.use(
    await step(
      () => startRest({ databaseUrl: adminDbUrl, keys, maxRows: config.maxRows }),
      () => "REST and Auth",
    ),
  );
  running.use(
    await step(
      () => startScheduler(dbUrl, log),
      ({ jobs }) => `Scheduled jobs: ${jobs.join(", ") || "run by pg_cron"}`,
    ),
  );
  services.resolve({ rest, functions: await starting });
  running.use(gateway); // once more, so that callers are turned away before anything else stops
  signal?.throwIfAborted();

  let stopped: Promise<void> | undefined;
  return {
    ...keys,
    apiUrl,
    dbUrl,
    adminDbUrl,
    dataDir,
    postgresPid: postgres.pid,
    exited: postgres.exited,
    stop: () => stopped ??= running.disposeAsync(),
  };
}

/** What the edge runtime puts into the environment of every function. */
export function edgeEnvironment(apiUrl: string, dbUrl: string, keys: Keys): Record<string, string> {
  return {
    SUPABASE_URL: apiUrl,
    SUPABASE_DB_URL: dbUrl,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
    SUPABASE_JWKS: jwks(keys.jwtSecret),
    SUPABASE_ANON_KEY: keys.publishableKey,
    SUPABASE_SERVICE_ROLE_KEY: keys.secretKey,
  };
}

/** Deletes what a stopped stack has kept in its data directory, and elsewhere on its behalf. */
export async function removeData(dataDir: string): Promise<void> {
  await removePostgres(dataDir);
  for (const name of ["keys.json", "postgres.log", "stack.env"]) await removeIfExists(join(dataDir, name));
}

/** The kernel releases the lock with the process, however that ends. */
async function lock(dataDir: string): Promise<Disposable> {
  if (!await exists(dataDir)) {
    await Deno.mkdir(dataDir, { recursive: true });
    await Deno.chmod(dataDir, 0o755); // what is private in it is protected by itself
  }
  const file = await Deno.open(join(dataDir, "lock"), { create: true, write: true });
  if (await file.tryLock(true)) return file;
  file.close();
  throw new StackError(`A stack is running on ${dataDir}: stop it, or give this one --data-dir, --port and --db-port.`);
}

function takePort<T>(port: number, flag: string, listen: (port: number) => T): T {
  try {
    return listen(port);
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new StackError(`Port ${port} is in use: stop what listens there, or choose another one with ${flag}.`);
  }
}

function progress(log: (line: string) => void, signal?: AbortSignal) {
  return async <T>(work: () => Promise<T>, label: (result: T) => string): Promise<T> => {
    signal?.throwIfAborted();
    const startedAt = performance.now();
    const result = await work();
    log(`✓ ${label(result)} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
    return result;
  };
}
