// What runs is what is pinned, whatever has been released since: everything is fetched into empty caches, from a registry
// that offers a newer release of every package. Half a minute, and no network once it has been asked.
import { assertEquals } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { removeIfExists } from "../../local/files.ts";
import { functionNames } from "../../local/functions.ts";
import { startFutureRegistry } from "../support/registry.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const functions = join(root, "supabase/functions");
/** Starts the function in a directory as the local stack does, and stops it. */
const START_WORKER = `
  import { startWorker } from "${new URL("../../local/worker.ts", import.meta.url)}";
  const [directory] = Deno.args;
  const options = { directory, env: {}, log: (line) => console.error(line), signal: new AbortController().signal };
  await (await startWorker(options)).stop(1000);
  Deno.exit();`;

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const registry = await startFutureRegistry();
Deno.test.afterAll(async () => await registry[Symbol.asyncDispose]());

/** A folder's path, until the test is over. */
function temporary() {
  const path = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  return { path, [Symbol.asyncDispose]: () => removeIfExists(path) };
}

/** An empty DENO_DIR, and the environment of who uses it with the registry. */
function emptyCache() {
  const { path, [Symbol.asyncDispose]: remove } = temporary();
  const directories = (...names: string[]) =>
    [...Deno.readDirSync(join(path, "npm", ...names))].filter((entry) => entry.isDirectory).map(({ name }) => name);
  return {
    env: { DENO_DIR: path, NPM_CONFIG_REGISTRY: registry.url, NO_COLOR: "1" },
    /** `name@version` of every package that was fetched. */
    packages(): string[] {
      const [host] = directories();
      return directories(host)
        .flatMap((name) => name.startsWith("@") ? directories(host, name).map((part) => `${name}/${part}`) : [name])
        .flatMap((name) => directories(host, name).map((version) => `${name}@${version}`));
    },
    [Symbol.asyncDispose]: remove,
  };
}

/** What `deno` prints. */
async function deno(args: string[], env: Record<string, string>): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, env, cwd: root }).output();
  if (!success) throw new Error(text(stderr));
  return text(stdout);
}

/** `name@version` of every package in a lock of Deno. */
async function locked(path: string): Promise<string[]> {
  const { npm } = JSON.parse(await Deno.readTextFile(join(root, path)));
  return Object.keys(npm).map((id) => id.match(/^.[^@]*@[^_]+/)![0]); // of name@version_peer@version
}

const nameOf = (id: string) => id.slice(0, id.lastIndexOf("@"));

/** The names that are there in more than one version. */
function twice(ids: string[]): string[] {
  const byName = Map.groupBy(new Set(ids), nameOf);
  return [...byName].flatMap(([name, versions]) => versions.length > 1 ? [name] : []);
}

Deno.test("npm start with an empty cache: every function answers, and nothing is fetched that no lock names", async () => {
  await using cache = emptyCache();
  await using data = temporary();
  const child = new Deno.Command("node", {
    args: ["local/run.mjs", "local/start.ts", "--port=0", "--db-port=0", `--data-dir=${data.path}`],
    env: cache.env,
    cwd: root,
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let output = "";
  const ready = Promise.withResolvers<void>();
  const drained = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      output += chunk;
      if (output.includes("Remember me.")) ready.resolve();
    }
    ready.reject(new Error(output));
  })();
  try {
    await ready.promise;
    const [, apiUrl] = output.match(/API +(\S+)/)!;
    for (const name of await functionNames(functions)) {
      const response = await fetch(`${apiUrl}/functions/v1/${name}/health`);
      assertEquals([response.status, await response.text()], [200, '{"status":"ok","database":"ok"}'], name + output);
    }
  } finally {
    try {
      child.kill("SIGTERM");
    } catch { /* it has ended by itself, and `ready` says so */ }
    await Promise.all([child.status, drained]);
  }
  const pinned = await locked("local/functions.lock");
  const fetched = cache.packages();
  assertEquals(pinned.filter((id) => !fetched.includes(id)), []);
  pinned.push(...await locked("deno.lock"));
  assertEquals(fetched.filter((id) => !pinned.includes(id)), []);
});

Deno.test("bundled as it deploys, without a lock, no function has a package twice, and only these float", async () => {
  await using cache = emptyCache();
  const pinned = await locked("local/functions.lock");
  for (const name of await functionNames(functions)) {
    const directory = join(functions, name);
    const options = ["--no-lock", "--config", join(directory, "deno.json")];
    const { npmPackages } = JSON.parse(
      await deno(["info", "--json", ...options, join(directory, "index.ts")], cache.env),
    );
    const bundled = Object.values<{ name: string; version: string }>(npmPackages)
      .map(({ name, version }) => `${name}@${version}`);
    assertEquals(twice(bundled), [], name);
    assertEquals(
      bundled.filter((id) => !pinned.includes(id)).map(nameOf).sort(),
      ["@supabase/middleware", "iceberg-js", "jose", "std-env"], // docs/decisions/0017-pinned-versions.md
      name,
    );
  }
});

Deno.test("the order of imports decides nothing, where without the lock it decides which supabase-js is loaded", async () => {
  const peerFirst = ["@supabase/server/core", "@supabase/supabase-js"];
  for (const [specifiers, withoutLock] of [[peerFirst, ["@supabase/supabase-js"]], [peerFirst.toReversed(), []]]) {
    await using directory = temporary();
    await Deno.mkdir(directory.path);
    const config = join(directory.path, "deno.json");
    await Deno.copyFile(join(functions, "conversations/deno.json"), config);
    const index = join(directory.path, "index.ts");
    const imports = specifiers.map((specifier) => `import "${specifier}";\n`).join("");
    await Deno.writeTextFile(index, `${imports}export default { fetch: () => new Response() };\n`);

    await using cache = emptyCache();
    await deno(["eval", "--no-config", "--no-lock", START_WORKER, directory.path], cache.env);
    assertEquals(twice(cache.packages()), []);

    await using other = emptyCache();
    const url = pathToFileURL(index).href;
    await deno(["eval", "--no-lock", "--config", config, "await import(Deno.args[0]); Deno.exit()", url], other.env);
    assertEquals(twice(other.packages()), withoutLock);
  }
});
