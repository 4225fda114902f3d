// The entry of every npm script: makes sure the dependencies are installed, then hands over to Deno.
// Plain Node without imports from npm, because `npm start` may be the first command after a clone. An old Node has to be
// able to read it, to say that it is one.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const inRoot = (...path) => join(root, ...path);
const readJson = (...path) => JSON.parse(readFileSync(inRoot(...path), "utf8"));

/** The program that runs now: what is meant to end this process ends it. */
let child;
let interrupted;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    interrupted = signal;
    child?.kill(signal);
  });
}
if (process.env.npm_lifecycle_event) {
  // npm runs a shell, which runs this. It passes SIGTERM to the shell, which dies of it and leaves this process behind with
  // another parent; killed itself, it leaves the shell behind, which can be seen in /proc.
  const shell = process.ppid;
  const npm = parentOf(shell);
  setInterval(() => {
    if (process.ppid !== shell || parentOf(shell) !== npm) child?.kill("SIGTERM");
  }, 250).unref();
}

/** The parent of a shell; nothing for another process, and where there is no /proc. */
function parentOf(shell) {
  try {
    const [, name, parent] = /\((.*)\) \S+ (\d+)/.exec(readFileSync(`/proc/${shell}/stat`, "utf8"));
    return /sh$/.test(name) ? parent : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Runs a program to its end.
 *
 * @param use Is given what it prints on standard error, piece by piece; without it, that is shown.
 * @returns Its exit code, as a shell has it.
 */
function run(command, args, { cwd, stdout = "inherit", use } = {}) {
  if (interrupted) process.exit(128 + constants.signals[interrupted]);
  child = spawn(command, args, { cwd, stdio: ["inherit", stdout, use ? "pipe" : "inherit"] });
  if (use) child.stderr.setEncoding("utf8").on("data", use);
  return new Promise((resolve) => {
    child.on("error", (error) => {
      console.error(error.message);
      resolve(1);
    });
    child.on("close", (code, signal) => resolve(code ?? 128 + constants.signals[signal]));
  });
}

async function runOrExit(command, args, options) {
  const code = await run(command, args, options);
  if (code !== 0) process.exit(code);
}

/** Whether node_modules holds what package-lock.json asks for, optional platform packages aside. */
function isInstalled() {
  try {
    const installed = readJson("node_modules", ".package-lock.json").packages;
    return Object.entries(readJson("package-lock.json").packages).every(([path, wanted]) =>
      path === "" || installed[path]?.version === wanted.version || (wanted.optional && !installed[path])
    );
  } catch {
    return false;
  }
}

/** Has Deno download what a script imports. It prints a line for each of a hundred packages: shown is their number. */
async function downloadPackages(deno, script) {
  const startedAt = Date.now();
  const show = (text) => process.stderr.write(process.stderr.isTTY ? `\rDownloading packages … ${text}` : text);
  let output = "";
  let count = 0;
  const code = await run(deno, ["cache", "--config", inRoot("deno.json"), inRoot(script)], {
    stdout: "ignore",
    use: (text) => {
      output += text;
      const downloads = output.match(/Download \S+\.tgz$/gm)?.length ?? 0; // not what it asks the registry besides
      if (downloads === count) return;
      if (count === 0 && !process.stderr.isTTY) show("Downloading packages … ");
      count = downloads;
      if (process.stderr.isTTY) show(`${count}`);
    },
  });
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  if (count > 0) show(code === 0 ? `${count}, ${seconds} s\n` : `failed after ${seconds} s\n`);
  if (code === 0) return;
  console.error(output.split("\n").filter((line) => !line.includes("Download http")).join("\n").trim());
  process.exit(code);
}

const needed = Number(/\d+/.exec(readJson("package.json").engines.node)[0]);
if (parseInt(process.versions.node) < needed) {
  console.error(`Threadbase needs Node ${needed} or newer, and this is ${process.version}: https://nodejs.org`);
  process.exit(1);
}

if (!isInstalled()) {
  console.error("Installing dependencies (npm ci) …");
  await runOrExit("npm", ["ci", "--loglevel=error"], { cwd: root, stdout: "ignore" });
}

// The real executable instead of node_modules/.bin/deno: that may be a wrapper which dies of a signal without
// telling Deno. It is absent where npm did not run install scripts, so the package is asked to put it there.
const deno = inRoot("node_modules", "deno", process.platform === "win32" ? "deno.exe" : "deno");
if (!existsSync(deno)) await runOrExit(process.execPath, [inRoot("node_modules", "deno", "install.cjs")]);

const [script, ...args] = process.argv.slice(2);
await downloadPackages(deno, script);
process.exit(await run(deno, ["run", "-A", "--config", inRoot("deno.json"), inRoot(script), ...args]));
