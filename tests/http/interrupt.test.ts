// `npm test` that is ended in the middle: nothing that it started runs on, and no folder stays.
import { assert, assertEquals } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** For a machine that has other things to do; seconds are needed. */
const TIMEOUT_MS = 180_000;

interface Process {
  pid: number;
  parent: number;
  args: string;
}

async function processes(): Promise<Process[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["axww", "-o", "pid=,ppid=,stat=,args="] }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").flatMap((line) => {
    const [, pid, parent, state, args] = line.match(/^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/) ?? [];
    return state && !state.startsWith("Z") ? [{ pid: Number(pid), parent: Number(parent), args }] : [];
  });
}

/** The process and all that descend from it. */
async function familyOf(pid: number): Promise<Process[]> {
  const all = await processes();
  const family = all.filter((process) => process.pid === pid);
  for (const { pid } of family) family.push(...all.filter(({ parent }) => parent === pid));
  return family;
}

async function eventually(condition: () => Promise<boolean>, explain: () => Promise<string>): Promise<void> {
  const deadline = Date.now() + TIMEOUT_MS;
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(await explain());
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** This test starts a stack of its own, by `npm start` in another process group. */
const WITH_A_STACK = ["tests/http/stack.test.ts", "--filter", "Ctrl-C leaves no process behind"];
const inTheMiddle = (family: Process[]) =>
  family.some(({ args }) => /postgres -D \S+\/threadbase-test-\S+\/db/.test(args));

const cases: {
  name: string;
  args: string[];
  /** When it is ended: by what it has printed, and what runs by then. */
  when: (output: string, family: Process[]) => boolean;
  /** Whom the signal is sent to: a process of the family, or the whole group. */
  whom: "group" | RegExp;
  signal: Deno.Signal;
  terminal?: true;
  /** It takes /proc, or script(1) of util-linux. */
  linux?: true;
}[] = [
  {
    name: "Ctrl-C while the stack starts",
    args: ["tests/unit/cache.test.ts"],
    when: (output) => /✓ Postgres/.test(output),
    whom: "group",
    signal: "SIGINT",
  },
  {
    name: "Ctrl-C at once",
    args: ["tests/unit/cache.test.ts"],
    when: (_, family) => family.some(({ args }) => /tests\/run\.ts/.test(args) && /deno run/.test(args)),
    whom: "group",
    signal: "SIGINT",
  },
  {
    name: "SIGTERM to the runner alone, while a test has a stack of its own",
    args: WITH_A_STACK,
    when: (_, family) => inTheMiddle(family),
    whom: /deno run .*tests\/run\.ts/,
    signal: "SIGTERM",
  },
  {
    name: "SIGKILL of the runner, while a test has a stack of its own",
    args: WITH_A_STACK,
    when: (_, family) => inTheMiddle(family),
    whom: /deno run .*tests\/run\.ts/,
    signal: "SIGKILL",
  },
  {
    name: "SIGKILL of npm",
    args: ["tests/unit/cache.test.ts"],
    when: (output) => /✓ Migrations/.test(output),
    whom: /^npm test /,
    signal: "SIGKILL",
    linux: true,
  },
  {
    name: "SIGKILL of local/run.mjs",
    args: ["tests/unit/cache.test.ts"],
    when: (output) => /✓ Migrations/.test(output),
    whom: /^node local\/run\.mjs/,
    signal: "SIGKILL",
  },
  {
    name: "the terminal is closed",
    args: ["tests/unit/cache.test.ts"],
    when: (output) => /✓ Postgres/.test(output),
    whom: /script -qefc/,
    signal: "SIGKILL",
    terminal: true,
    linux: true,
  },
];

for (const { name, args, when, whom, signal, terminal, linux } of cases) {
  const ignore = linux && Deno.build.os !== "linux";
  Deno.test(`npm test, ${name}: no process and no folder is left`, { ignore }, async () => {
    const temporary = join(tmpdir(), `threadbase-interrupt-${crypto.randomUUID()}`);
    await Deno.mkdir(temporary, { mode: 0o755 });
    const command = ["npm", "test", "--silent", "--", ...args];
    const quoted = command.map((word) => `'${word}'`).join(" ");
    const [program, ...rest] = terminal ? ["script", "-qefc", quoted, "/dev/null"] : command;
    const child = new Deno.Command(program, {
      args: rest,
      cwd: root,
      env: { TMPDIR: temporary },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true, // a process group of its own, as a shell gives it
    }).spawn();
    let output = "";
    const drained = Promise.all(
      [child.stdout, child.stderr].map((stream) =>
        stream.pipeThrough(new TextDecoderStream()).pipeTo(
          new WritableStream({ write: (text) => void (output += text) }),
        )
      ),
    );

    let family: Process[] = [];
    await eventually(async () => {
      family = await familyOf(child.pid);
      assert(family.length > 0, `npm test ended early:\n${output}`);
      return when(output, family);
    }, () => Promise.resolve(`it did not get as far:\n${output}`));
    if (whom === "group") {
      await new Deno.Command("kill", { args: [`-${signal.slice(3)}`, "--", `-${child.pid}`] }).output();
    } else {
      const target = family.find(({ args }) => whom.test(args));
      assert(target, `nobody to end: ${JSON.stringify(family)}`);
      Deno.kill(target!.pid, signal);
    }
    await child.status;

    const pids = new Set(family.map(({ pid }) => pid));
    const left = async () => [
      ...(await processes()).filter(({ pid, args }) => pids.has(pid) || args.includes(temporary)),
      ...Deno.readDirSync(temporary),
    ];
    await eventually(async () => (await left()).length === 0, async () => JSON.stringify(await left(), null, 2));
    await drained;
    await child.stdin.close().catch(() => {});
    await Deno.remove(temporary, { recursive: true });
    assert(family.length >= 4, "there was something to end");
    assertEquals(output.includes("passed"), false, "it was ended in the middle");
  });
}
