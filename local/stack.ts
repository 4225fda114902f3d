/** The local stack: what `supabase start` runs in containers, as one tree of processes. */
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readConfig } from "./config.ts";
import { StackError } from "./errors.ts";
import { exists, removeIfExists } from "./files.ts";
import { startFunctions } from "./functions.ts";
import { jwks, type Services, startGateway } from "./gateway.ts";
import { checkHealth } from "./health.ts";
import { createHome } from "./home.ts";
import { type Keys, loadKeys } from "./keys.ts";
import { bootstrap, pushMigrations } from "./platform.ts";
import { freePort, probe } from "./ports.ts";
import { databaseUrl, removePostgres, startPostgres, stopLeftover } from "./postgres.ts";
import { awaitPostgrest, checkRestUrl, postgrestSettings } from "./postgrest.ts";
import { startRest } from "./rest.ts";
import { startScheduler } from "./scheduler.ts";

export interface StackOptions {
  /** The directory that holds supabase/ and node_modules/. Default: this repository. */
  root?: string;
  /** Where the API listens. Default: 127.0.0.1; Postgres stays there in any case. */
  host?: string;
  /** Default: as in supabase/config.toml; 0 takes a free port. */
  port?: number;
  dbPort?: number;
  /** Default: .local in the root. One that does not exist yet is made so that Postgres can enter it. */
  dataDir?: string;
  /** Deletes what earlier starts left in the data directory. */
  fresh?: boolean;
  /** A directory with initdb and postgres, instead of the embedded ones. */
  postgresBin?: string;
  /** Where a PostgREST serves `/rest/v1`, instead of the stand-in. The log says how to start it. */
  restUrl?: string;
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
 * Starts everything, or nothing: what has started by the time of a failure is stopped again. Everything has answered once
 * when it resolves.
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
  const { root = dirname(dirname(fileURLToPath(import.meta.url))), host = "127.0.0.1", signal, log = () => {} } =
    options;
  const dataDir = resolve(options.dataDir ?? join(root, ".local"));
  if (options.restUrl !== undefined) checkRestUrl(options.restUrl);
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
    takePort(
      options.port ?? config.apiPort,
      "--port",
      (port) => listenOn(host, () => startGateway(host, port, keys.jwtSecret, services.promise)),
    ),
  );
  const apiUrl = `http://${reachable(host)}:${gateway.port}`;
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
  const died = postgres.exited.then((): never => {
    throw new StackError(`Postgres has stopped: see ${join(dataDir, "postgres.log")}`);
  });
  /** Ctrl-C ends Postgres as well, and a statement that it had begun would be waited for without end. */
  const orDied = <T>(work: Promise<T>) => Promise.race([work, died]);
  died.catch(() => {}); // later it is what `exited` tells
  await step(() => orDied(bootstrap(adminDbUrl)), () => "Roles, schemas and extensions of the platform");
  await step(() => pushMigrations(root, dbUrl, { signal }), () => "Migrations and seed");
  if (options.restUrl) {
    const settings = postgrestSettings({ url: options.restUrl, keys, dbPort, maxRows: config.maxRows });
    await awaitPostgrest({ url: options.restUrl, keys }, settings, log, signal);
  }
  const rest = running.use(
    await step(
      () => orDied(startRest({ databaseUrl: adminDbUrl, keys, maxRows: config.maxRows, restUrl: options.restUrl })),
      () => options.restUrl ? `Auth, and REST at ${options.restUrl}` : "REST and Auth",
    ),
  );
  running.use(
    await step(
      () => orDied(startScheduler(dbUrl, log)),
      ({ jobs }) => `Scheduled jobs: ${jobs.join(", ") || "run by pg_cron"}`,
    ),
  );
  const functions = await starting;
  services.resolve({ rest, functions, home: createHome(root, keys.publishableKey, functions) });
  running.use(gateway); // once more, so that callers are turned away before anything else stops
  await step(
    () => checkHealth({ apiUrl, dbUrl, keys, functions, signal }),
    () => "Every function, REST, Auth and Postgres answer",
  );
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

/** A name for an address that one can listen on, but not connect to everywhere. */
function reachable(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}

function listenOn<T>(host: string, listen: () => T): T {
  try {
    return listen();
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) throw error;
    throw new StackError(`The API cannot listen on ${host}, see --host: ${(error as Error).message}`);
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
