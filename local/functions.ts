/**
 * Serves supabase/functions as the edge runtime does: one process per function, restarted when it crashes,
 * replaced when its code changes.
 */
import { join, relative, sep } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseEnv, stripVTControlCharacters } from "node:util";
import { exists } from "./files.ts";
import { forward } from "./forward.ts";
import { failure } from "./responses.ts";
import { startWorker, type Worker } from "./worker.ts";

export interface Functions extends AsyncDisposable {
  /** Those that listen. */
  names: string[];
  /** Why the others do not, by name. */
  failed: Map<string, string>;
  /** What a function has printed last, a line each. */
  lastLines: (name: string) => string[];
  /** Has the function answer, or nobody where there is none of that name. `path` begins with the name. */
  fetch: (name: string, path: string, request: Request) => Promise<Response> | undefined;
}

export interface FunctionsOptions {
  directory: string;
  /** What the platform sets. {@link readSecrets} is added to it. */
  env: Record<string, string>;
  log: (line: string) => void;
}

const LAST_LINES = 10;
const DEBOUNCE_MS = 100;
const DRAIN_MS = 10_000;
const STOP_MS = 1_000;

/** Resolves when every function listens or has failed to start; the callers of those get 503. */
export async function startFunctions({ directory, env, log }: FunctionsOptions): Promise<Functions> {
  const functions = new Map<string, EdgeFunction>();
  let secrets = await readSecrets(directory, log);
  const add = (name: string) => {
    const prefixed = (line: string) => log(`[${name}] ${line}`);
    functions.set(name, new EdgeFunction(join(directory, name), () => ({ ...secrets, ...env }), prefixed));
  };
  (await functionNames(directory)).forEach(add);

  const watcher = watch(directory, async (changed) => {
    if (changed.has(SECRETS_FILE)) secrets = await readSecrets(directory, log);
    for (const name of await functionNames(directory)) {
      if (!functions.has(name)) add(name);
      // What is no function's own, such as _shared, may be part of any of them.
      else if (changed.has(name) || [...changed].some((other) => !functions.has(other))) functions.get(name)!.reload();
    }
  });

  const failed = new Map<string, string>();
  await Promise.all([...functions].map(async ([name, edge]) => {
    const reason = await edge.failure();
    if (reason) failed.set(name, reason);
  }));
  return {
    names: [...functions.keys()].filter((name) => !failed.has(name)),
    failed,
    lastLines: (name) => functions.get(name)?.lastLines ?? [],
    fetch: (name, path, request) => functions.get(name)?.fetch(path, request),
    async [Symbol.asyncDispose]() {
      watcher.close();
      await Promise.all([...functions.values()].map((edge) => edge.stop()));
    },
  };
}

class EdgeFunction {
  readonly lastLines: string[] = [];
  #current!: Promise<Worker>;
  #reloaded = Promise.resolve();
  #crashes = 0;
  readonly #end = new AbortController();
  readonly #start: () => Promise<Worker>;
  readonly #log: (line: string) => void;

  constructor(directory: string, env: () => Record<string, string>, log: (line: string) => void) {
    const print = (line: string) => {
      this.lastLines.push(stripVTControlCharacters(line));
      if (this.lastLines.length > LAST_LINES) this.lastLines.shift();
      log(line);
    };
    this.#start = () => startWorker({ directory, env: env(), log: print, signal: this.#end.signal });
    this.#log = log;
    this.#run(this.#start());
  }

  async fetch(path: string, request: Request): Promise<Response> {
    const worker = await this.#current.catch(() => {});
    if (!worker) return failure(503, "BOOT_ERROR", "Function failed to start (please check logs)");

    try {
      return await forward(worker.origin + path, request, request.headers);
    } catch {
      return failure(500, "WORKER_ERROR", "Function exited due to an error (please check logs)");
    }
  }

  /** Why it does not listen, if it does not. */
  failure(): Promise<string | undefined> {
    return this.#current.then(() => undefined, (error) => error.message);
  }

  /** One at a time, so that the last change is the one that stays. */
  reload(): void {
    this.#reloaded = this.#reloaded.then(() => this.#replace());
  }

  /** Puts new code in charge once it listens. If it never does, the old code stays. */
  async #replace(): Promise<void> {
    const next = this.#start();
    if (!await next.then(() => true, () => false)) {
      const serving = await this.failure() ? "" : "; the code before the change keeps serving";
      return this.#log(`did not start${serving}`);
    }
    const previous = this.#current;
    this.#run(next);
    this.#log("reloaded");
    previous.then((worker) => worker.stop(DRAIN_MS), () => {});
  }

  async stop(): Promise<void> {
    const last = this.#current;
    this.#current = Promise.reject(new Error("stopped"));
    this.#current.catch(() => {});
    this.#end.abort();
    await last.then((worker) => worker.stop(STOP_MS), () => {});
  }

  #run(starting: Promise<Worker>): void {
    this.#current = starting;
    starting.then(async (worker) => {
      const startedAt = Date.now();
      const { code, signal } = await worker.exited;
      if (this.#current !== starting) return; // replaced or stopped on purpose

      this.#crashes = Date.now() - startedAt > 10_000 ? 0 : this.#crashes + 1;
      const pause = Math.min(50 * 2 ** this.#crashes, 5_000);
      this.#log(`crashed (${signal ?? `exit code ${code}`}), restarting`);
      this.#run(delay(pause, undefined, { signal: this.#end.signal }).then(this.#start));
    }).catch(() => {}); // the log says why it did not start
  }
}

const SECRETS_FILE = ".env";

/** Settings of one's own, read from where `supabase functions serve` reads them. The platform's names are its own. */
async function readSecrets(directory: string, log: (line: string) => void): Promise<Record<string, string>> {
  const file = join(directory, SECRETS_FILE);
  if (!await exists(file)) return {};
  const all = Object.entries(parseEnv(await Deno.readTextFile(file))) as [name: string, value: string][];
  const isReserved = (name: string) => name.startsWith("SUPABASE_");
  for (const [name] of all) if (isReserved(name)) log(`${file}: names cannot start with SUPABASE_, skipping ${name}`);
  const secrets = all.filter(([name]) => !isReserved(name));
  if (secrets.length > 0) log(`Functions are given ${secrets.map(([name]) => name).join(", ")} from ${file}`);
  return Object.fromEntries(secrets);
}

/** The directories that the edge runtime would serve. */
export async function functionNames(directory: string): Promise<string[]> {
  const names = [];
  for await (const { name } of Deno.readDir(directory)) {
    if (!name.startsWith("_") && await exists(join(directory, name, "index.ts"))) names.push(name);
  }
  return names;
}

/** Reports which entries of `directory` have changed, together when several files are saved at once. */
function watch(directory: string, onChange: (changed: Set<string>) => void): Deno.FsWatcher {
  const watcher = Deno.watchFs(directory);
  let changed = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const report = () => {
    onChange(changed);
    changed = new Set();
  };
  (async () => {
    for await (const { kind, paths } of watcher) {
      if (kind === "access") continue;
      for (const path of paths) changed.add(relative(directory, path).split(sep)[0]);
      clearTimeout(timer);
      timer = setTimeout(report, DEBOUNCE_MS);
    }
    clearTimeout(timer);
  })();
  return watcher;
}
