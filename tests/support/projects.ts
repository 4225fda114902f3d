// Supabase projects of somebody else's, as `npm run add` finds them, and what it did to them.
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { pushMigrations } from "../../local/platform.ts";

export const root = fileURLToPath(new URL("../..", import.meta.url));

export interface Project extends AsyncDisposable {
  path: string;
  write: (file: string, source: string) => Promise<void>;
  read: (file: string) => Promise<string>;
  /** Every file below supabase/, by path, with its text. */
  files: () => Promise<Map<string, string>>;
}

/** What `supabase init` makes, with these files. */
export async function newProject(files: Record<string, string>): Promise<Project> {
  const path = await directory();
  await run(join(root, "node_modules/.bin/supabase"), ["init", "--workdir", path]);
  const project: Project = {
    path,
    async write(file, source) {
      await Deno.mkdir(dirname(join(path, file)), { recursive: true });
      await Deno.writeTextFile(join(path, file), source);
    },
    read: (file) => Deno.readTextFile(join(path, file)),
    files: async () => new Map(await readTree(path, "supabase")),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
  // The CLI of this repository, Postgres and Deno, for what is started in the project.
  await Deno.symlink(join(root, "node_modules"), join(path, "node_modules"));
  for (const [file, source] of Object.entries(files)) await project.write(file, source);
  return project;
}

/** Another state of this repository: a copy to change. */
export async function newRelease(): Promise<Project> {
  const release = await newProject({});
  for (const name of ["supabase", "local", "package.json", "deno.json", "deno.lock"]) {
    await run("cp", ["-R", join(root, name), release.path]);
  }
  return release;
}

/** `npm run add -- PROJECT …`, of this repository or of another state of it. */
export async function add(project: Project, args: string[] = [], from = root) {
  return await run(
    Deno.execPath(),
    ["run", "-A", "--config", join(from, "deno.json"), join(from, "local/add.ts"), project.path, ...args],
    { fails: true },
  );
}

/** `supabase db push`. */
export const push = ({ path }: Project, url: string) => pushMigrations(path, url, { seed: false });

async function directory(): Promise<string> {
  return await Deno.makeTempDir({ dir: tmpdir(), prefix: "threadbase-test-" });
}

async function readTree(path: string, below: string): Promise<[string, string][]> {
  const entries = await Array.fromAsync(Deno.readDir(join(path, below)));
  const read = async ({ name, isDirectory }: Deno.DirEntry): Promise<[string, string][]> => {
    const file = `${below}/${name}`;
    return isDirectory ? await readTree(path, file) : [[file, await Deno.readTextFile(join(path, file))]];
  };
  return (await Promise.all(entries.map(read))).flat();
}

async function run(command: string, args: string[], { fails = false } = {}) {
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    stdin: "null",
    env: { NO_COLOR: "1", DO_NOT_TRACK: "1", SUPABASE_TELEMETRY_DISABLED: "1" },
  }).output();
  const output = { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
  if (code !== 0 && !fails) throw new Error(`${command} ${args.join(" ")}\n${output.stderr}`);
  return output;
}
