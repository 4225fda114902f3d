/**
 * The npm registry as it may be the day after tomorrow: all that the real one has and, of every package that this
 * repository locks, a patch release more. A process of its own, to try things by hand:
 *
 *   deno run -A tests/support/registry.ts
 *   NPM_CONFIG_REGISTRY=http://127.0.0.1:… npm start
 */
import { compare, format, increment, parse, tryParse } from "@std/semver";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Past the 24 hours that Deno lets a release rest by default. */
const AGE_MS = 48 * 60 * 60 * 1000;

const root = fileURLToPath(new URL("../..", import.meta.url));

export interface FutureRegistry extends AsyncDisposable {
  url: string;
}

interface Packument {
  "dist-tags": Record<string, string>;
  time: Record<string, string>;
  versions: Record<string, Manifest>;
}

interface Manifest {
  version: string;
  dist: { tarball: string };
}

/** Serves on a free port of this machine. */
export async function startFutureRegistry(): Promise<FutureRegistry> {
  const upstream = await upstreamRegistry();
  const locked = await lockedVersions();
  const tarballs = new Map<string, () => Promise<BodyInit>>();

  const packumentOf = memoize(async (name: string) => {
    const packument: Packument = await (await passThrough(`${upstream}/${name.replace("/", "%2f")}`)).json();
    const { versions, time, "dist-tags": tags } = packument;
    for (const [version, { dist }] of Object.entries(versions)) {
      const { tarball } = dist;
      tarballs.set(tarballPath(name, version), async () => (await passThrough(tarball)).body!);
    }
    // Two locked versions may have the next one in common.
    const releases = new Map((locked.get(name) ?? []).map((version) => [nextRelease(versions, version), version]));
    for (const [release, version] of releases) {
      const tarball = await repack(await passThrough(versions[version].dist.tarball), release);
      tarballs.set(tarballPath(name, release), () => Promise.resolve(tarball));
      const dist = {
        tarball: "",
        shasum: createHash("sha1").update(tarball).digest("hex"),
        integrity: `sha512-${createHash("sha512").update(tarball).digest("base64")}`,
      };
      versions[release] = { ...versions[version], version: release, dist };
      time[release] = new Date(Date.now() - AGE_MS).toISOString();
      if (compare(parse(release), parse(tags.latest)) > 0) tags.latest = release;
    }
    for (const [version, { dist }] of Object.entries(versions)) {
      dist.tarball = `http://127.0.0.1:${server.addr.port}${tarballPath(name, version)}`;
    }
    return JSON.stringify(packument);
  });

  const answer = async (path: string): Promise<Response> => {
    if (!path.endsWith(".tgz")) {
      return new Response(await packumentOf(path.slice(1)), { headers: { "content-type": "application/json" } });
    }
    // Who has a lock asks for a tarball without having asked where it is.
    const tarball = tarballs.get(path);
    return tarball ? new Response(await tarball()) : await passThrough(upstream + path);
  };
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) =>
      answer(decodeURIComponent(new URL(request.url).pathname)).catch((error) =>
        new Response(error.message, { status: 404 })
      ),
  );
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const tarballPath = (name: string, version: string) => `/${name}/-/${name.split("/").at(-1)}-${version}.tgz`;

/** Where npm itself would ask. */
async function upstreamRegistry(): Promise<string> {
  const { stdout } = await new Deno.Command("npm", { args: ["config", "get", "registry"], cwd: root }).output();
  return new TextDecoder().decode(stdout).trim().replace(/\/$/, "");
}

/**
 * From the real registry, or what it said the last time: a tarball never changes, and what else is old does no harm.
 * Deno keeps it in its own directory.
 */
async function passThrough(url: string): Promise<Response> {
  const cache = await caches.open("registry");
  const known = await cache.match(url);
  if (known && url.endsWith(".tgz")) return known;
  await known?.body?.cancel();
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(60_000) });
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    await cache.put(url, response);
  } catch (error) {
    if (!known) throw error;
  }
  return (await cache.match(url))!;
}

/** Every version that a lock of this repository names, by package. */
async function lockedVersions(): Promise<Map<string, string[]>> {
  const ids: string[] = [];
  for (const path of ["deno.lock", "tests/bench/deno.lock", "local/functions.lock"]) {
    const { npm } = JSON.parse(await Deno.readTextFile(join(root, path)));
    ids.push(...Object.keys(npm).map((id) => id.match(/^.[^@]*@[^_]+/)![0])); // of name@version_peer@version
  }
  const { packages } = JSON.parse(await Deno.readTextFile(join(root, "package-lock.json")));
  for (const [path, { version }] of Object.entries<{ version: string }>(packages)) {
    if (path) ids.push(`${path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length)}@${version}`);
  }
  const versions = new Map<string, string[]>();
  for (const id of ids) {
    const at = id.lastIndexOf("@");
    const name = id.slice(0, at);
    versions.set(name, [...versions.get(name) ?? [], id.slice(at + 1)]);
  }
  return versions;
}

/** One patch above all that a range beginning with `^version` allows. */
function nextRelease(versions: Packument["versions"], version: string): string {
  const { major, minor } = parse(version);
  const line = Object.keys(versions).flatMap((known) => tryParse(known) ?? [])
    .filter((known) => known.major === major && (major > 0 || known.minor === minor));
  const { prerelease: _, ...newest } = line.sort(compare).at(-1)!;
  return format(increment(newest, "patch"));
}

/** The same package under another version. */
async function repack(tarball: Response, version: string): Promise<Uint8Array<ArrayBuffer>> {
  const directory = await Deno.makeTempDir({ dir: tmpdir(), prefix: "threadbase-test-" });
  try {
    const content = join(directory, "package");
    await Deno.mkdir(content);
    await Deno.writeFile(join(directory, "from.tgz"), tarball.body!);
    await tar("-xzf", join(directory, "from.tgz"), "--strip-components=1", "-C", content);
    const manifest = join(content, "package.json");
    const written = JSON.parse(await Deno.readTextFile(manifest));
    await Deno.writeTextFile(manifest, JSON.stringify({ ...written, version }));
    await tar("-czf", join(directory, "to.tgz"), "-C", directory, "package");
    return await Deno.readFile(join(directory, "to.tgz"));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function tar(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("tar", { args }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

function memoize<T>(load: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const loaded = new Map<string, Promise<T>>();
  return (key) => {
    const known = loaded.get(key) ?? load(key);
    loaded.set(key, known);
    return known;
  };
}

if (import.meta.main) {
  const { url } = await startFutureRegistry();
  console.log(url);
}
