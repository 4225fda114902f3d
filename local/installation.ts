/** What `npm run add` would write into another Supabase project: decided as a whole before anything is written. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { hasFunction, withFunctions } from "./config.ts";
import { StackError } from "./errors.ts";
import { listFiles, readIfExists } from "./files.ts";
import { follow, type Name, type Names } from "./names.ts";
import { ALWAYS, migrationsOf, readModules } from "./schemas.ts";

/** supabase/threadbase.json of the project: what an update needs to know of the last one. */
interface Manifest {
  /** The schema of what is behind the API: `private`, unless the project has one of its own. */
  schema: string;
  /** As chosen, with what they use. */
  modules: string[];
  /** Our migrations by file name, and the path that each has there. */
  migrations: Record<string, string>;
  /** The SHA-256 of each file as it was written. */
  files: Record<string, string>;
}

export interface Options {
  /** The modules to add to those that are there. Default: those that are there, at first all. */
  only?: string[];
  schema?: string;
  /** What is in the project's database. */
  database?: { names: Names; versions: string[] };
}

/** What the project has where ours would be. */
export interface Collision extends Name {
  /** The module to leave out; undefined where the name is in every installation. */
  module?: string;
}

export interface Plan {
  before: Manifest;
  manifest: Manifest;
  /** Modules that were not asked for, and what uses them. */
  added: [module: string, user: string][];
  collisions: Collision[];
  /** The modules asked for that collide with nothing, nor does what they use. */
  free: string[];
  /** By path below the project. */
  write: Map<string, string>;
  remove: string[];
  /** Files that somebody has changed there, with ours; undefined where we have none any more. They stay. */
  edited: Map<string, string | undefined>;
  /** Migrations that we have changed since they were copied. They stay. */
  outdated: string[];
  /** The functions to deploy. */
  functions: string[];
}

export const MANIFEST = "supabase/threadbase.json";
export const CONFIG = "supabase/config.toml";
const FUNCTIONS = "supabase/functions";
/** Where the functions find what they share there: a project may have a `_shared` of its own. */
const SHARED = "_threadbase";

/** @throws {StackError} Where the directory is no Supabase project, or the options do not fit it. */
export function planInstallation(root: string, project: string, options: Options): Plan {
  const config = readIfExists(join(project, CONFIG));
  if (config === undefined) throw new StackError(`There is no ${CONFIG} in ${project}: npx supabase init makes one.`);
  const before = readManifest(project);
  const schema = chooseSchema(before.schema, options.schema);
  const { modules, added, usedBy } = chooseModules(root, before.modules, options.only);
  const plan: Plan = {
    before,
    manifest: { schema, modules, migrations: { ...before.migrations }, files: { ...before.files } },
    added,
    collisions: [],
    free: [],
    write: new Map(),
    remove: [],
    edited: new Map(),
    outdated: [],
    functions: [],
  };
  planMigrations(plan, root, project, options.database);
  planFunctions(plan, root, project, config);
  for (const [path, source] of plan.write) plan.manifest.files[path] = hash(source);
  const newConfig = withFunctions(
    config,
    readIfExists(join(root, CONFIG))!.replaceAll("_shared/", `${SHARED}/`),
    modules,
  );
  if (newConfig !== config) plan.write.set(CONFIG, newConfig);

  const collides = (name: string) => plan.collisions.some(({ module }) => module === undefined || module === name);
  plan.free = modules.filter((name) => !added.some(([module]) => module === name) && !usedBy(name).some(collides));
  return plan;
}

/** A migration is copied once. It stays what it is: it may have been applied. */
function planMigrations(plan: Plan, root: string, project: string, database: Options["database"]): void {
  const { before, manifest, write, edited, outdated, collisions } = plan;
  const theirs = migrationsThere(project, before, database);
  for (const file of migrationsOf(root)) {
    const module = file.match(/^\d+_([a-z]+)/)![1];
    const isAlways = ALWAYS.includes(module);
    if (!isAlways && !manifest.modules.includes(module)) continue;
    const source = copyOfMigration(root, file, manifest.schema);
    const known = before.migrations[file];
    const path = known ?? `supabase/migrations/${theirs.nextVersion()}_threadbase_${file.replace(/^\d+_/, "")}`;
    manifest.migrations[file] = path;
    const there = readIfExists(join(project, path));
    if (there === undefined) write.set(path, source);
    else if (hash(there) !== before.files[path]) edited.set(path, source);
    else if (there !== source) outdated.push(path);
    if (known) continue;
    for (const key of follow(new Map(), source, path).keys()) {
      const name = theirs.names.get(key);
      if (name) collisions.push({ ...name, module: isAlways ? undefined : module });
    }
  }
}

/** Files of functions follow ours, unless somebody has changed them. */
function planFunctions(plan: Plan, root: string, project: string, config: string): void {
  const { before, manifest, write, remove, edited, collisions } = plan;
  const ours = new Map<string, string>();
  for (const name of ["_shared", ...manifest.modules]) {
    const module = name === "_shared" ? undefined : name;
    const folder = `${FUNCTIONS}/${module ?? SHARED}`;
    for (const file of listFiles(join(root, FUNCTIONS, name))) {
      const source = Deno.readTextFileSync(join(root, FUNCTIONS, name, file));
      ours.set(`${folder}/${file}`, source.replaceAll("_shared/", `${SHARED}/`));
    }
    if (Object.keys(before.files).some((path) => path.startsWith(`${folder}/`))) continue;
    if (listFiles(join(project, folder)).length > 0) {
      collisions.push({ kind: "function", name: folder, source: folder, module });
    }
    if (hasFunction(config, name)) {
      collisions.push({ kind: "section", name: `[functions.${name}]`, source: CONFIG, module });
    }
  }
  for (const [path, source] of ours) {
    const there = readIfExists(join(project, path));
    if (there === source) manifest.files[path] = hash(source);
    else if (there === undefined || hash(there) === before.files[path]) write.set(path, source);
    else edited.set(path, source);
  }
  for (const [path, written] of Object.entries(before.files)) {
    if (ours.has(path) || !path.startsWith(`${FUNCTIONS}/`)) continue;
    const there = readIfExists(join(project, path));
    if (there !== undefined && hash(there) !== written) {
      edited.set(path, undefined);
      continue;
    }
    if (there !== undefined) remove.push(path);
    delete manifest.files[path];
  }
  const changed = [...write.keys(), ...remove];
  const changes = (folder: string) => changed.some((path) => path.startsWith(`${FUNCTIONS}/${folder}/`));
  plan.functions = manifest.modules.filter((name) => changes(SHARED) || changes(name));
}

function readManifest(project: string): Manifest {
  const source = readIfExists(join(project, MANIFEST));
  if (source === undefined) return { schema: "", modules: [], migrations: {}, files: {} };
  try {
    return JSON.parse(source);
  } catch {
    throw new StackError(
      `${MANIFEST} in ${project} is not as it was written. It says what has been added: restore it.`,
    );
  }
}

function chooseSchema(before: string, asked: string | undefined): string {
  if (before && asked && before !== asked) throw new StackError(`Threadbase is in the schema ${before} there already.`);
  const schema = asked || before || "private";
  if (/^[a-z][a-z0-9_]{0,30}$/.test(schema) && !/^(pg_|public$|auth$|gateway$)/.test(schema)) return schema;
  throw new StackError(`The name of a schema of our own is of a-z, 0-9 and _: not '${schema}'.`);
}

function chooseModules(root: string, before: string[], only: string[] | undefined) {
  const all = readModules(root).filter(({ name }) => name !== "foundation");
  const names = all.map(({ name }) => name);
  const unknown = only?.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new StackError(`There is no module '${unknown}': ${names.join(", ")}.`);
  const asked = new Set([
    ...before.filter((name) => names.includes(name)),
    ...only ?? (before.length > 0 ? [] : names),
  ]);
  const usedBy = (name: string) => [name, ...all.find((module) => module.name === name)!.uses];
  const chosen = new Set([...asked].flatMap(usedBy));
  const modules = names.filter((name) => chosen.has(name));
  const added = modules.filter((name) => !asked.has(name))
    .map((name): [string, string] => [name, [...asked].find((user) => usedBy(user).includes(name))!]);
  return { modules, added, usedBy };
}

/** What the project's own migrations leave in the database, and the numbers that come after theirs. */
function migrationsThere(project: string, { migrations }: Manifest, database: Options["database"]) {
  const copied = new Set(Object.values(migrations));
  const names: Names = new Map(database?.names);
  const versions = [...database?.versions ?? []];
  for (const file of listFiles(join(project, "supabase/migrations"))) {
    const [, version] = file.match(/^(\d+)_[^/]*\.sql$/) ?? [];
    if (version === undefined) continue; // nor does the CLI apply it
    versions.push(version);
    const path = `supabase/migrations/${file}`;
    if (!copied.has(path)) follow(names, Deno.readTextFileSync(join(project, path)), path);
  }
  const newest = versions.sort().at(-1) ?? "";
  let time = Math.max(Date.now(), timeOf(newest) + 1000);
  return {
    names,
    nextVersion(): string {
      const version = new Date(time).toISOString().replace(/\D/g, "").slice(0, 14);
      time += 1000;
      if (version > newest) return version;
      throw new StackError(`No time comes after the migration ${newest} there.`);
    },
  };
}

/** Of a version such as 20261128101000, or 0 where it is no time. */
function timeOf(version: string): number {
  const [, ...parts] = version.match(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/) ?? [];
  const [year, month, ...rest] = parts.map(Number);
  return parts.length > 0 ? Date.UTC(year, month - 1, ...rest) : 0;
}

/** In the words of the project: no word in our migrations is `private` but the schema. */
function copyOfMigration(root: string, file: string, schema: string): string {
  return Deno.readTextFileSync(join(root, "supabase/migrations", file))
    .replace(
      /^-- Made from .*\n/,
      '-- Of Threadbase, by "npm run add". What changes comes in a migration of its own.\n',
    )
    .replace(/\bprivate\b/g, schema);
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
