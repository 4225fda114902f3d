/** One Postgres cluster, run from its binaries so that every engine goes the same way. */
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Account, clusterHome, embeddedBinaries, publicHome, unprivilegedAccount } from "./engine.ts";
import { StackError } from "./errors.ts";
import { exists, removeIfExists } from "./files.ts";

export interface PostgresOptions {
  root: string;
  dataDir: string;
  port: number;
  /** A directory with initdb and postgres, instead of the embedded ones. */
  binDir?: string;
  log: (line: string) => void;
}

export interface Postgres extends AsyncDisposable {
  /** Such as `17.10`. */
  version: string;
  pid: number;
  /** Settles when the server is gone, for whatever reason. */
  exited: Promise<void>;
}

/** Local only, on a loopback address, so it is no secret; the keys of the API are. */
const PASSWORD = "postgres";
const STOP_TIMEOUT_MS = 10_000;
const TAKEOVER_TIMEOUT_MS = 30_000;
const POLL_MS = 20;
const FULL_PAUSE_MS = 60_000;

export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const { root, dataDir, port, log } = options;
  const account = await unprivilegedAccount();
  const home = await clusterHome(dataDir, account);
  if (home !== dataDir) log(`Postgres may not enter ${dataDir}: its files are in ${home}`);
  const bin = options.binDir ?? await embeddedBinaries(root, home, account);
  const run = (name: string, args: string[]) =>
    new Deno.Command(join(bin, name), {
      args,
      cwd: "/", // a directory that every account may enter
      clearEnv: true, // PGDATA, PGPORT and the like would win over what is asked for here
      env: { PATH: Deno.env.get("PATH") ?? "", LC_ALL: "C", TZ: "UTC" },
      stdin: "null",
      stderr: "piped",
      ...account,
    });

  const version = await serverVersion(run("postgres", ["--version"]), bin);
  const major = parseInt(version);
  const cluster = join(home, "db");
  if (!await exists(cluster)) await initialise(cluster, major, run, account);
  const initialisedBy = (await Deno.readTextFile(join(cluster, "PG_VERSION"))).trim();
  if (initialisedBy !== `${major}`) {
    throw new StackError(
      `${cluster} was made by Postgres ${initialisedBy}, and this is ${version}: ` +
        "use the other one, or start over with --fresh.",
    );
  }

  const settings = {
    listen_addresses: "127.0.0.1",
    port,
    unix_socket_directories: "",
    max_connections: 200,
    timezone: "UTC",
    log_timezone: "UTC",
    log_error_verbosity: "terse", // the DETAIL of a failed check is the whole row, messages included
    ...await exists(join(bin, "..", "lib", "pg_cron.so")) && {
      shared_preload_libraries: "pg_cron",
      "cron.database_name": "postgres",
      "cron.use_background_workers": "on", // otherwise pg_cron connects by itself and needs a password
      max_worker_processes: 16,
    },
  };
  const command = run("postgres", [
    ...["-D", cluster],
    ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ]);
  const logFile = join(dataDir, "postgres.log");
  const lastLines = async () => (await Deno.readTextFile(logFile)).trim().split("\n").slice(-5).join("\n");
  let saidAt = -Infinity;
  const onFull = () => {
    if (Date.now() < saidAt + FULL_PAUSE_MS) return;
    saidAt = Date.now();
    log(`No space is left on the disk of ${home}: what cannot be written is refused until there is some.`);
  };
  const deadline = Date.now() + TAKEOVER_TIMEOUT_MS;
  let server = await launch(command, cluster, logFile, onFull);
  // A backend of a killed server finishes its statement before it notices, and until then the files are its own.
  while (!server && Date.now() < deadline && (await lastLines()).includes("pre-existing shared memory")) {
    await delay(500);
    server = await launch(command, cluster, logFile, onFull);
  }
  if (!server) throw new StackError(`Postgres did not start. From ${logFile}:\n${await lastLines()}`);
  return { ...server, version };
}

/** Resolves when the server accepts connections, or to nothing when it has exited instead. */
async function launch(
  command: Deno.Command,
  cluster: string,
  logFile: string,
  onFull: () => void,
): Promise<Omit<Postgres, "version"> | undefined> {
  const { pid, stderr, status } = command.spawn();
  const file = await Deno.open(logFile, { create: true, write: true, truncate: true, mode: 0o600 });
  const logged = copy(stderr, file, onFull);
  let running = true;
  const exited = status.then(() => {
    running = false;
  });
  // As pg_ctl does it: the last line of postmaster.pid says `ready` once recovery is over.
  const isReady = async () => {
    const lines = (await Deno.readTextFile(join(cluster, "postmaster.pid")).catch(() => "")).split("\n");
    return Number(lines[0]) === pid && lines[7]?.trim() === "ready";
  };
  while (running && !await isReady()) await delay(POLL_MS);
  if (!running) return void await logged;
  return {
    pid,
    exited,
    async [Symbol.asyncDispose]() {
      await stopProcess(pid, exited);
      await logged;
    },
  };
}

export function databaseUrl(role: string, port: number): string {
  return `postgresql://${role}:${PASSWORD}@127.0.0.1:${port}/postgres`;
}

/** Deletes the cluster, and what was put elsewhere for it. */
export async function removePostgres(dataDir: string): Promise<void> {
  for (const name of ["db", "db.unfinished"]) await removeIfExists(join(dataDir, name));
  await removeIfExists(publicHome(dataDir));
}

/** A killed stack leaves its server running. The caller holds the lock of the data directory: it is nobody's. */
export async function stopLeftover(dataDir: string): Promise<void> {
  for (const home of [dataDir, publicHome(dataDir)]) await stopServer(join(home, "db"));
}

type Run = (name: string, args: string[]) => Deno.Command;

async function serverVersion(command: Deno.Command, bin: string): Promise<string> {
  try {
    const { stdout } = await command.output();
    return new TextDecoder().decode(stdout).match(/PostgreSQL\) (\S+)/)![1];
  } catch {
    throw new StackError(`${join(bin, "postgres")} does not run.`);
  }
}

/** Under another name first, so that an interrupted initdb is never taken for a cluster. */
async function initialise(cluster: string, major: number, run: Run, account?: Account): Promise<void> {
  const unfinished = `${cluster}.unfinished`;
  await removeIfExists(unfinished);
  await Deno.mkdir(unfinished, { mode: 0o700 });
  if (account) await Deno.chown(unfinished, account.uid, account.gid);
  const passwordFile = join(dirname(cluster), `${basename(cluster)}.password`);
  await Deno.writeTextFile(passwordFile, PASSWORD);
  await Deno.chmod(passwordFile, 0o644);
  // Unicode character classes and case without the operating system's locales, where Postgres can do that.
  const locale = major >= 17
    ? ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    : ["--locale=C.UTF-8"];
  const { success, stderr } = await run("initdb", [
    ...["-D", unfinished, "-U", "supabase_admin", "-A", "scram-sha-256", "-E", "UTF8"],
    ...[`--pwfile=${passwordFile}`, ...locale],
  ]).output();
  await Deno.remove(passwordFile);
  if (!success) throw new StackError(`initdb failed:\n${new TextDecoder().decode(stderr)}`);
  await Deno.rename(unfinished, cluster);
}

async function stopServer(cluster: string): Promise<void> {
  const pidFile = join(cluster, "postmaster.pid");
  const pid = parseInt(await Deno.readTextFile(pidFile).catch(() => ""));
  if (!pid || !isAlive(pid)) return;
  const isServer = async () => (await commandLine(pid)).includes(cluster);
  if (await isServer()) {
    const gone = async () => {
      while (await isServer()) await delay(POLL_MS);
    };
    await stopProcess(pid, gone());
  } else {
    // The pid belongs to some other process by now, and Postgres would wait for that one in vain.
    await Deno.remove(pidFile);
  }
}

async function stopProcess(pid: number, exited: Promise<void>): Promise<void> {
  const signal = (name: Deno.Signal) => isAlive(pid) && Deno.kill(pid, name);
  signal("SIGINT"); // fast shutdown: roll back, disconnect everyone, checkpoint
  const timer = setTimeout(() => signal("SIGKILL"), STOP_TIMEOUT_MS);
  await exited.finally(() => clearTimeout(timer));
}

/** Not `pipeTo(file.writable)`, which keeps everything in memory until the stream ends. What has no room is left out. */
async function copy(from: ReadableStream<Uint8Array>, file: Deno.FsFile, onFull: () => void): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of from) {
    const written = await file.write(chunk).then(() => true, () => false);
    if (!written || decoder.decode(chunk).includes("No space left on device")) onFull();
  }
  file.close();
}

function isAlive(pid: number): boolean {
  try {
    Deno.kill(pid, 0 as unknown as Deno.Signal);
    return true;
  } catch {
    return false;
  }
}

/** Empty for a zombie, as a killed server becomes where nobody reaps it. */
async function commandLine(pid: number): Promise<string> {
  const args = ["-o", "args=", "-p", `${pid}`];
  return await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(async () =>
    new TextDecoder().decode((await new Deno.Command("ps", { args }).output()).stdout)
  );
}
