// The entry of every npm script: makes sure the dependencies are installed, then hands over to Deno.
// Plain Node without imports from npm, because `npm start` may be the first command after a clone.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const inRoot = (...path) => join(root, ...path);

/** Whether node_modules holds what package-lock.json asks for, optional platform packages aside. */
function isInstalled() {
  try {
    const packages = (lockfile) => JSON.parse(readFileSync(lockfile, "utf8")).packages;
    const installed = packages(inRoot("node_modules", ".package-lock.json"));
    return Object.entries(packages(inRoot("package-lock.json"))).every(([path, wanted]) =>
      path === "" || installed[path]?.version === wanted.version || (wanted.optional && !installed[path])
    );
  } catch {
    return false;
  }
}

function runOrExit(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
  if (status === 0) return;
  console.error(error?.message ?? `${command} ${args.join(" ")} failed`);
  process.exit(1);
}

if (!isInstalled()) {
  console.error("Installing dependencies (npm ci) …");
  runOrExit("npm", ["ci", "--loglevel=error"]);
}

// The real executable instead of node_modules/.bin/deno: that may be a wrapper which dies of a signal without
// telling Deno. It is absent where npm did not run install scripts, so the package is asked to put it there.
const deno = inRoot("node_modules", "deno", process.platform === "win32" ? "deno.exe" : "deno");
if (!existsSync(deno)) runOrExit(process.execPath, [inRoot("node_modules", "deno", "install.cjs")]);

const [script, ...args] = process.argv.slice(2);
const child = spawn(deno, ["run", "-A", "--config", inRoot("deno.json"), inRoot(script), ...args], {
  stdio: "inherit",
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
if (process.env.npm_lifecycle_event) {
  // npm passes SIGTERM to its shell, which dies of it and leaves this process behind with another parent.
  const shell = process.ppid;
  setInterval(() => process.ppid === shell || child.kill("SIGTERM"), 250).unref();
}
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
