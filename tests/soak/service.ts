/** A local stack as a process of its own, behind a network that can be cut, and what can happen to both. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { envFile, parseEnv, type StackEnv } from "../../local/env.ts";
import { freePort } from "../../local/ports.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const START_TIMEOUT_MS = 120_000;
const DISK_MB = 400;

export interface Fault {
  name: string;
  /** Does it, and repairs what does not repair itself. */
  run: () => Promise<void>;
}

export class Service implements AsyncDisposable {
  env!: StackEnv;
  /** What all its starts have printed. */
  output = "";
  readonly #ports = [freePort(), freePort()];
  readonly #network = new Network(this.#ports[0]);
  readonly #stopping = new AbortController();
  #child!: Deno.ChildProcess;
  #up: Promise<void>;
  #restarts = 0;

  /** @param postgresBin See `npm start -- --postgres-bin`. */
  private constructor(readonly dataDir: string, readonly postgresBin: string | undefined) {
    this.#up = this.#start();
  }

  static async start(dataDir: string, postgresBin?: string): Promise<Service> {
    const service = new Service(dataDir, postgresBin);
    await service.#up;
    service.env = parseEnv(await Deno.readTextFile(envFile(dataDir)));
    return service;
  }

  /** Below `/functions/v1`, through the network that may be cut. */
  get url(): string {
    return `http://127.0.0.1:${this.#network.port}/functions/v1`;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** When it is up, or up again. */
  async up(): Promise<void> {
    for (let last; last !== this.#up;) await (last = this.#up);
  }

  async sql<T>(use: (sql: postgres.Sql) => Promise<T>): Promise<T> {
    const sql = postgres(this.env.DB_URL, { max: 1, onnotice: () => {}, connect_timeout: 5 });
    try {
      return await use(sql);
    } finally {
      await sql.end({ timeout: 1 });
    }
  }

  async #start(): Promise<void> {
    const [port, dbPort] = this.#ports;
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--no-check", join(root, "local/start.ts"), "--port", `${port}`, "--db-port", `${dbPort}`],
        ...["--data-dir", this.dataDir, ...this.postgresBin ? ["--postgres-bin", this.postgresBin] : []],
      ],
      cwd: root,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#child = child;
    const ready = Promise.withResolvers<void>();
    let output = "";
    const read = async (stream: ReadableStream<Uint8Array>) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) {
        this.output += text;
        if ((output += text).includes("Threadbase is ready")) ready.resolve();
      }
    };
    // Not to its end: Postgres, which outlives the stack, has the pipe as well.
    for (const stream of [child.stdout, child.stderr]) read(stream);
    const timer = setTimeout(() => ready.reject(new Error(`The stack did not start:\n${output}`)), START_TIMEOUT_MS);
    child.status.then(() => {
      ready.reject(new Error(`The stack did not start:\n${output}`));
      if (this.#stopping.signal.aborted || this.#child !== child) return;
      this.#restarts++;
      this.#up = delay(500).then(() => this.#start());
      this.#up.catch(() => {});
    });
    await ready.promise.finally(() => clearTimeout(timer));
  }

  /** All that it can suffer on this machine, and why it is not all there is. */
  async faults(): Promise<{ faults: Fault[]; skipped: string[] }> {
    const faults: Fault[] = [
      { name: "kill -9 of a backend", run: async () => kill(pick(await this.#backends())) },
      { name: "kill -9 of a function", run: async () => kill(pick(await this.#functions())) },
      {
        name: "kill -9 of Postgres",
        run: async () => {
          const before = this.#restarts;
          kill(await this.#postmaster());
          while (this.#restarts === before) await delay(100);
          await this.up();
        },
      },
      {
        name: "kill -9 of REST, Auth and the gateway",
        run: async () => {
          const before = this.#restarts;
          this.#child.kill("SIGKILL");
          while (this.#restarts === before) await delay(100);
          await this.up();
        },
      },
      { name: "a cut of all connections", run: () => Promise.resolve(this.#network.cut()) },
      {
        name: "a database that hangs for two seconds",
        run: async () => {
          const pids = [await this.#postmaster(), ...await this.#backends()].filter((pid) => pid !== undefined);
          pids.forEach((pid) => signal(pid, "SIGSTOP"));
          await delay(2000);
          pids.forEach((pid) => signal(pid, "SIGCONT"));
        },
      },
    ];
    const skipped: string[] = [];
    if (await isSmallDisk(this.dataDir)) {
      faults.push({ name: "a full disk", run: () => this.#fillDisk() });
    } else skipped.push("a full disk: needs root and a tmpfs");
    const clock = this.postgresBin && join(this.postgresBin, CLOCK_FILE);
    if (clock && await Deno.stat(clock).then(() => true, () => false)) {
      faults.push({
        name: "a clock that jumps",
        run: async () => {
          await Deno.writeTextFile(clock, pick(["+90m", "-90m"])!);
          await delay(2000);
          await Deno.writeTextFile(clock, "+0");
        },
      });
    } else skipped.push("a clock that jumps: needs Debian's libfaketime");
    return { faults, skipped };
  }

  async #fillDisk(): Promise<void> {
    const file = join(this.dataDir, "..", "filling");
    const { success } = await new Deno.Command("dd", {
      args: ["if=/dev/zero", `of=${file}`, "bs=64k"],
      stderr: "null",
    }).output();
    if (success) throw new Error("the disk is larger than it should be");
    await delay(2000);
    await Deno.remove(file);
    // Without room for its log Postgres ends itself, and so does the stack.
    await delay(500);
    await this.up();
  }

  async #postmaster(): Promise<number> {
    return parseInt(await Deno.readTextFile(join(this.dataDir, "db/postmaster.pid")).catch(() => ""));
  }

  async #backends(): Promise<number[]> {
    const postmaster = await this.#postmaster();
    return (await processes()).filter(({ parent, command }) =>
      parent === postmaster && /postgres: \w+ postgres 127/.test(command)
    ).map(({ pid }) => pid);
  }

  async #functions(): Promise<number[]> {
    return (await processes()).filter(({ parent, command }) =>
      parent === this.#child.pid && command.includes("/index.ts")
    ).map(({ pid }) => pid);
  }

  async [Symbol.asyncDispose]() {
    await this.#up.catch(() => {});
    this.#stopping.abort();
    signal(this.#child.pid, "SIGTERM");
    await this.#child.status;
    this.#network.close();
  }
}

/** The way to the gateway: TCP, and nothing of its own. */
class Network {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.Conn>();
  readonly port = this.#listener.addr.port;

  constructor(to: number) {
    (async () => {
      for await (const from of this.#listener) this.#join(from, to).catch(() => {});
    })();
  }

  async #join(from: Deno.Conn, port: number): Promise<void> {
    this.#open.add(from);
    let to: Deno.Conn | undefined;
    try {
      to = await Deno.connect({ hostname: "127.0.0.1", port });
      this.#open.add(to);
      await Promise.all([from.readable.pipeTo(to.writable), to.readable.pipeTo(from.writable)]);
    } finally {
      for (const end of [from, to]) if (end) this.#close(end);
    }
  }

  #close(connection: Deno.Conn): void {
    this.#open.delete(connection);
    try {
      connection.close();
    } catch { /* it is */ }
  }

  cut(): void {
    for (const connection of this.#open) this.#close(connection);
  }

  close(): void {
    this.#listener.close();
    this.cut();
  }
}

const CLOCK_FILE = "clock";

/**
 * A directory like one of Postgres' own, whose server takes the time from a file. Debian's libfaketime leaves the machine's
 * clock as it is.
 *
 * @returns The directory, or nothing where the library is not installed.
 */
export async function withClock(postgresBin: string, directory: string): Promise<string | undefined> {
  const library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
  if (!await Deno.stat(library).then(() => true, () => false)) return undefined;
  const bin = join(directory, "bin");
  await Deno.mkdir(bin, { recursive: true });
  await Deno.symlink(join(postgresBin, "../lib"), join(directory, "lib")); // where extensions are looked for
  const clock = join(bin, CLOCK_FILE);
  await Deno.writeTextFile(clock, "+0");
  const environment = `FAKETIME_TIMESTAMP_FILE=${clock} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1`;
  for (const name of ["initdb", "postgres"]) {
    const start = name === "postgres" ? `LD_PRELOAD=${library} ${environment} ` : "";
    await Deno.writeTextFile(join(bin, name), `#!/bin/sh\n${start}exec "${join(postgresBin, name)}" "$@"\n`, {
      mode: 0o755,
    });
  }
  for (const path of [directory, bin, clock]) await Deno.chmod(path, 0o755);
  return bin;
}

/**
 * A directory on a disk of its own that is small enough to be filled.
 *
 * @returns How to give it back, or nothing where this process may not mount one.
 */
export async function smallDisk(directory: string): Promise<AsyncDisposable | undefined> {
  await Deno.mkdir(directory, { recursive: true });
  const run = (command: string, ...args: string[]) =>
    new Deno.Command(command, { args, stdout: "null", stderr: "null" }).output().then(
      ({ success }) => success,
      () => false,
    );
  if (!await run("mount", "-t", "tmpfs", "-o", `size=${DISK_MB}m`, "tmpfs", directory)) return undefined;
  return {
    async [Symbol.asyncDispose]() {
      await run("umount", "-l", directory);
    },
  };
}

async function isSmallDisk(dataDir: string): Promise<boolean> {
  const mounts = await Deno.readTextFile("/proc/mounts").catch(() => "");
  return mounts.includes(` ${join(dataDir, "..")} tmpfs `);
}

async function processes(): Promise<{ pid: number; parent: number; command: string }[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid=,ppid=,args="] }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => {
    const [, pid, parent, command] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line)!;
    return { pid: Number(pid), parent: Number(parent), command };
  });
}

const pick = <T>(values: T[]): T | undefined => values[Math.floor(Math.random() * values.length)];

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch { /* it is gone */ }
}

function kill(pid: number | undefined): void {
  if (pid) signal(pid, "SIGKILL");
}
