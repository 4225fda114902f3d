// What the repository promises about itself.
import { assert, assertEquals } from "@std/assert";

const root = new URL("../../", import.meta.url);
const readJson = async (path: string) => JSON.parse(await Deno.readTextFile(new URL(path, root)));

const functions = [...Deno.readDirSync(new URL("supabase/functions/", root))]
  .filter((entry) => entry.isDirectory && !entry.name.startsWith("_"))
  .map((entry) => entry.name);

for (const name of functions) {
  Deno.test(`${name}: deno.json, which deploys, agrees with the root's`, async () => {
    const { imports: ours } = await readJson("deno.json");
    const { imports } = await readJson(`supabase/functions/${name}/deno.json`);
    for (const [specifier, target] of Object.entries<string>(imports)) {
      assertEquals(ours[specifier], target, specifier);
      assert(/@\d+\.\d+\.\d+/.test(target), `${specifier} is pinned to an exact version`);
    }
  });

  Deno.test(`${name}: config.toml has its entry`, async () => {
    const config = await Deno.readTextFile(new URL("supabase/config.toml", root));
    assert(config.includes(`[functions.${name}]`));
  });

  Deno.test(`${name}: only repo.ts and app.ts's health talk to the database, and no function imports another`, async () => {
    const directory = new URL(`supabase/functions/${name}/`, root);
    for (const { name: file } of Deno.readDirSync(directory)) {
      if (!file.endsWith(".ts")) continue;
      const source = await Deno.readTextFile(new URL(file, directory));
      // On the platform it is aborted by a normal answer.
      assertEquals(source.match(/\b(req|raw|request)\.signal\b/), null, file);
      const calls = [...source.matchAll(/\.(?:rpc|from)\("(\w+)"/g)].map((match) => match[1]);
      if (file !== "repo.ts") assertEquals(calls.filter((call) => call !== "health"), [], file);
      for (const [, path] of source.matchAll(/from "(\.\.\/[^"]+)"/g)) assert(path.startsWith("../_shared/"), path);
    }
  });
}

Deno.test("local/functions.lock has what the functions' deno.json name, and every package once", async () => {
  const { specifiers, npm } = await readJson("local/functions.lock");
  const named = new Set<string>();
  for (const name of functions) {
    const { imports } = await readJson(`supabase/functions/${name}/deno.json`);
    for (const target of Object.values<string>(imports)) {
      named.add(target.replace(/^npm:\/?((?:@[^/]+\/)?[^/]+).*$/, "npm:$1"));
    }
  }
  assertEquals(Object.keys(specifiers).sort(), [...named].sort());
  const packages = Object.keys(npm).map((id) => id.match(/^.[^@]*/)![0]);
  assertEquals(packages, [...new Set(packages)]);
});

Deno.test("the benchmark's deno.json pins exact versions, and agrees with the root's where both have a package", async () => {
  const { imports: ours } = await readJson("deno.json");
  const { imports } = await readJson("tests/bench/deno.json");
  for (const [specifier, target] of Object.entries<string>(imports)) {
    assertEquals(ours[specifier] ?? target, target, specifier);
    assert(/@\d+\.\d+\.\d+/.test(target), `${specifier} is pinned to an exact version`);
  }
});

Deno.test("what only the benchmark compares with is a dependency of nothing else", async () => {
  const { imports } = await readJson("tests/bench/deno.json");
  const { imports: ours } = await readJson("deno.json");
  // LangChain's messages are a format, and tested with.
  const peers = Object.keys(imports).filter((specifier) =>
    /^@langchain\/(?!core\/messages$)/.test(specifier) || specifier === "pg"
  );
  assert(peers.length > 0);
  for (const specifier of peers) assertEquals(ours[specifier], undefined, specifier);
});

Deno.test("no file imports itself by way of others", async () => {
  const imports = new Map<string, string[]>();
  const read = async (directory: URL): Promise<void> => {
    for await (const { name, isDirectory } of Deno.readDir(directory)) {
      if (isDirectory) await read(new URL(`${name}/`, directory));
      if (!name.endsWith(".ts")) continue;
      const source = await Deno.readTextFile(new URL(name, directory));
      const found = [...source.matchAll(/from "(\.[^"]+)"/g)].map(([, path]) =>
        new URL(path, new URL(name, directory))
      );
      imports.set(new URL(name, directory).href, found.map(({ href }) => href));
    }
  };
  for (const directory of ["local/", "supabase/functions/", "tests/"]) await read(new URL(directory, root));
  assertEquals(findCircle(imports), undefined);
  assertEquals(findCircle(new Map([["a", ["b"]], ["b", ["c", "d"]], ["d", ["b"]]])), ["b", "d", "b"], "one is found");
});

/** The first circle, from a file back to itself. */
function findCircle(imports: Map<string, string[]>): string[] | undefined {
  const done = new Set<string>();
  const follow = (file: string, way: string[]): string[] | undefined => {
    if (way.includes(file)) return [...way.slice(way.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const next of imports.get(file) ?? []) {
      const circle = follow(next, [...way, file]);
      if (circle) return circle;
    }
    done.add(file);
  };
  for (const file of imports.keys()) {
    const circle = follow(file, []);
    if (circle) return circle;
  }
}
