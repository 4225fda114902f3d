/** supabase/schemas: the database as it is, each object once, in numbered folders of modules. */
import { join } from "node:path";
import { StackError } from "./errors.ts";

export interface Module {
  /** Such as `conversations`: the name of its migration, and what `--only` takes. */
  name: string;
  /** Such as `20_conversations`. */
  folder: string;
  /** Its files in the order in which they are applied, below supabase/schemas. */
  files: string[];
  /** The modules beside foundation that it cannot be without. */
  uses: string[];
}

/** In every installation: what every module stands on, and what keeps, erases and exports the data of all that are there. */
export const ALWAYS = ["foundation", "retention", "users"];

const USES: Record<string, string[]> = {
  sessions: ["conversations"],
  responses: ["conversations"],
  openai: ["conversations", "responses"],
};

/** The modules in the order of their numbers. In each, tables.sql comes first, and the other files by name. */
export function readModules(root: string): Module[] {
  const schemas = join(root, "supabase/schemas");
  const names = (path: string) => [...Deno.readDirSync(path)].map(({ name }) => name).sort();
  return names(schemas).map((folder) => {
    const name = folder.match(/^\d\d_([a-z]+)$/)?.[1];
    if (!name) throw new StackError(`${folder} in supabase/schemas is no module: it would be NN_name.`);
    const files = names(join(schemas, folder)).sort((a, b) => Number(b === "tables.sql") - Number(a === "tables.sql"));
    return { name, folder, files: files.map((file) => `${folder}/${file}`), uses: USES[name] ?? [] };
  });
}

/** A module as one piece of SQL, which is its first migration. */
export function moduleSql(root: string, { folder, files }: Module): string {
  const sources = files.map((file) => Deno.readTextFileSync(join(root, "supabase/schemas", file)).trim());
  return [
    `-- Made from supabase/schemas/${folder} by "npm run migration": change it there.`,
    // A function may stand above what it calls: the bodies are read when they run.
    "set check_function_bodies = off;",
    ...sources,
    "reset check_function_bodies;",
  ].join("\n\n") + "\n";
}

/** The file of a module's first migration. Its number is a time, so that they stand in the order of the modules. */
export function firstMigration({ folder, name }: Module): string {
  const minutes = 10 * 60 + Number(folder.slice(0, 2));
  return `20261128${Math.floor(minutes / 60)}${`${minutes % 60}`.padStart(2, "0")}00_${name}.sql`;
}

/** The files in supabase/migrations, oldest first. What follows the time begins with the module's name. */
export function migrationsOf(root: string): string[] {
  return [...Deno.readDirSync(join(root, "supabase/migrations"))].map(({ name }) => name).sort();
}
