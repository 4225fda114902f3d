/**
 * What a test run leaves behind, and nothing else, goes with it, however it ends: this process outlives the run, and acts
 * when its standard input ends. Argument: the run's folder, which is the TMPDIR of all that it starts.
 */
import { setTimeout as delay } from "node:timers/promises";
import { canReach, unprivilegedAccount } from "../../local/engine.ts";
import { removeIfExists } from "../../local/files.ts";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TestRun extends AsyncDisposable {
  /** Its folder. */
  directory: string;
}

/** How long processes have to end by themselves: a Postgres that is killed leaves shared memory behind. */
const GRACE_MS = 15_000;
const POLL_MS = 100;

/** Makes the folder of a run, and has it watched. Children of this process belong to the run from then on. */
export async function startRun(): Promise<TestRun> {
  const account = await unprivilegedAccount();
  // Not below a directory that root's Postgres may not enter: each stack would put its files elsewhere.
  const parent = !account || await canReach(account, tmpdir()) ? tmpdir() : "/var/tmp";
  const directory = join(parent, `threadbase-test-${crypto.randomUUID()}`);
  const janitor = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--config",
      new URL("../../deno.json", import.meta.url).pathname,
      import.meta.filename!,
      directory,
    ],
    stdin: "piped",
    stdout: "null",
    detached: true, // Ctrl-C and the end of a terminal are not for it
  }).spawn();
  await Deno.mkdir(directory, { mode: 0o755 });
  Deno.env.set("TMPDIR", directory);
  return {
    directory,
    async [Symbol.asyncDispose]() {
      await janitor.stdin.close();
      await janitor.status;
    },
  };
}

async function cleanUp(directory: string): Promise<void> {
  const told = new Set<number>();
  const deadline = Date.now() + GRACE_MS;
  for (;;) {
    const pids = await processesOf(directory);
    if (pids.length === 0) break;
    for (const pid of pids) {
      if (Date.now() > deadline) signal(pid, "SIGKILL");
      else if (!told.has(pid)) ["SIGINT", "SIGCONT"].forEach((name) => signal(pid, name as Deno.Signal));
      told.add(pid);
    }
    await delay(POLL_MS);
  }
  await removeIfExists(directory);
}

/** Those that have the folder in their arguments or environment, and their children. */
async function processesOf(directory: string): Promise<number[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["axeww", "-o", "pid=,ppid=,stat=,args="] }).output();
  const all = new TextDecoder().decode(stdout).trim().split("\n").map((line) => {
    const [pid, parent, state] = line.trim().split(/\s+/);
    return { pid: Number(pid), parent: Number(parent), isZombie: state.startsWith("Z"), line };
  }).filter(({ pid, isZombie }) => pid !== Deno.pid && !isZombie);
  const ours = new Set(all.filter(({ line }) => line.includes(directory)).map(({ pid }) => pid));
  for (let size = 0; size < ours.size;) {
    size = ours.size;
    for (const { pid, parent } of all) if (ours.has(parent)) ours.add(pid);
  }
  return [...ours];
}

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch { /* it is gone */ }
}

if (import.meta.main) {
  // As long as the run lives, and for no longer than that.
  await Deno.stdin.readable.pipeTo(new WritableStream()).catch(() => {});
  await cleanUp(Deno.args[0]);
}
