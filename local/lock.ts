/**
 * `npm run lock`: brings the three locks up to date after an import has changed. Without imports from npm, because Deno
 * runs nothing else of this repository while its lock is out of date.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readArguments, run } from "./command.ts";
import { StackError } from "./errors.ts";
import { removeIfExists } from "./files.ts";
import { functionNames } from "./functions.ts";
import { FUNCTIONS_LOCK, resolution } from "./worker.ts";

const HELP = `Brings deno.lock, tests/bench/deno.lock and local/functions.lock up to date with what is imported.

Usage: npm run lock`;

const root = fileURLToPath(new URL("..", import.meta.url));

async function cache(...args: string[]): Promise<void> {
  const { success } = await new Deno.Command(Deno.execPath(), { args: ["cache", "--quiet", ...args], cwd: root })
    .spawn().status;
  if (!success) throw new StackError("The locks are not up to date.");
}

const modules = (directory: string) =>
  [...Deno.readDirSync(join(root, directory))].map(({ name }) => `${directory}/${name}`)
    .filter((path) => path.endsWith(".ts"));

await run(async () => {
  readArguments(HELP, {});
  const tests = ["database", "http", "soak", "support", "unit"].flatMap((name) => modules(`tests/${name}`));
  await cache("--frozen=false", "--config", "deno.json", ...modules("local"), "tests/bench/run.ts", ...tests);
  const bench = ["tests/bench/main.ts", "tests/bench/overhead.ts", ...modules("tests/bench/wrappers")];
  await cache("--frozen=false", "--config", "tests/bench/deno.json", ...bench);

  // From nothing: without a config, Deno would keep what no function imports any more.
  await removeIfExists(FUNCTIONS_LOCK);
  const functions = join(root, "supabase/functions");
  for (const name of (await functionNames(functions)).toSorted()) {
    const directory = join(functions, name);
    await cache(...resolution(directory, { frozen: false }), join(directory, "index.ts"));
  }
});
