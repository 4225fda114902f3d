/** One process that serves one edge function. */
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export interface WorkerOptions {
  /** The directory of the function: its index.ts runs with the imports of its deno.json. */
  directory: string;
  env: Record<string, string>;
  /** Receives what the function prints, line by line. */
  log: (line: string) => void;
  /** Stops it whatever it does, even while it starts. */
  signal: AbortSignal;
}

export interface Worker {
  origin: string;
  pid: number;
  exited: Promise<Deno.CommandStatus>;
  /** Lets it finish the requests it has, within the time given. */
  stop: (graceMs: number) => Promise<void>;
}

/** For its modules to load, once they are on this machine: seconds, unless all functions start at once on a busy one. */
const START_TIMEOUT_MS = 60_000;

/** The versions of all that functions load. Outside supabase/: older edge runtimes refuse a lock that they find. */
export const FUNCTIONS_LOCK = fileURLToPath(new URL("functions.lock", import.meta.url));

/**
 * How Deno resolves the imports of a function: by its own deno.json, to the versions in the lock and no others. The
 * deno.json comes as an import map, because Deno refuses a lock that lists more than its config imports.
 */
export const resolution = (directory: string, { frozen = true } = {}): string[] => [
  ...["--no-config", "--import-map", join(directory, "deno.json"), "--node-modules-dir=none"],
  ...["--lock", FUNCTIONS_LOCK, `--frozen=${frozen}`],
];

/** Resolves once the function listens; rejects if it exits before that, after its error has gone to the log. */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  await fetchPackages(options);
  const { directory, env, log, signal } = options;
  const announcement = crypto.randomUUID();
  // DENO_DIR and NPM_CONFIG_REGISTRY say where the packages are.
  const inherited = ["PATH", "HOME", "DENO_DIR", "NPM_CONFIG_REGISTRY"]
    .map((name) => [name, Deno.env.get(name)]).filter(([, value]) => value);
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-prompt", "--quiet", "--cached-only"],
      ...[...resolution(directory), fileURLToPath(new URL("function.ts", import.meta.url))],
      ...[pathToFileURL(join(directory, "index.ts")).href, announcement],
    ],
    cwd: directory,
    clearEnv: true,
    env: { ...Object.fromEntries(inherited), ...env },
    stdin: "piped", // held open: see function.ts
    stdout: "piped",
    stderr: "piped",
    signal,
  }).spawn();

  const listening = Promise.withResolvers<string>();
  forEachLine(child.stdout, (line) => {
    if (line.startsWith(announcement)) listening.resolve(line.slice(announcement.length + 1));
    else log(line);
  });
  const errorsLogged = forEachLine(child.stderr, log);
  child.status.then(async ({ code }) => {
    child.stdin.close().catch(() => {});
    await errorsLogged;
    listening.reject(new Error(`exited with code ${code} before it listened`));
  });

  const kill = (signal: Deno.Signal) => {
    try {
      child.kill(signal);
    } catch { /* it is gone */ }
  };
  const overdue = setTimeout(() => {
    listening.reject(new Error(`did not listen within ${START_TIMEOUT_MS / 1000} s`));
    kill("SIGKILL");
  }, START_TIMEOUT_MS);
  const port = await listening.promise.finally(() => clearTimeout(overdue));
  return {
    origin: `http://127.0.0.1:${port}`,
    pid: child.pid,
    exited: child.status,
    async stop(graceMs) {
      kill("SIGTERM");
      const deadline = setTimeout(() => kill("SIGKILL"), graceMs);
      await child.status;
      clearTimeout(deadline);
    },
  };
}

/** A step of its own, because the network may need what functions are not shown: proxies, certificates, a mirror. */
async function fetchPackages({ directory, log, signal }: WorkerOptions): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", ...resolution(directory), join(directory, "index.ts")],
    signal,
  }).output();
  if (success) return;
  const reason = new TextDecoder().decode(stderr).trim();
  reason.split("\n").forEach(log);
  if (reason.includes("lockfile is out of date")) {
    log("Its imports are not those in local/functions.lock: npm run lock");
  }
  throw new Error("not all of its modules could be loaded");
}

async function forEachLine(stream: ReadableStream<Uint8Array>, use: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop()!;
    lines.forEach(use);
  }
  if (rest) use(rest);
}
