/** supabase/schemas: the database as it is, each object once, in numbered folders of modules. */
import { join } from "node:path";
import type postgres from "postgres";
import { StackError } from "./errors.ts";

export interface Module {
  /** Such as `conversations`: the name of its migration, and what `--only` takes. */
  name: string;
  /** Such as `20_conversations`. */
  folder: string;
  /** Its files in the order in which they are applied, below supabase/schemas. */
  files: string[];
}

/** The modules in the order of their numbers. In each, tables.sql comes first, and the other files by name. */
export function readModules(root: string): Module[] {
  const schemas = join(root, "supabase/schemas");
  const names = (path: string) => [...Deno.readDirSync(path)].map(({ name }) => name).sort();
  return names(schemas).map((folder) => {
    const name = folder.match(/^\d\d_([a-z]+)$/)?.[1];
    if (!name) throw new StackError(`${folder} in supabase/schemas is no module: it would be NN_name.`);
    const files = names(join(schemas, folder)).sort((a, b) => Number(b === "tables.sql") - Number(a === "tables.sql"));
    return { name, folder, files: files.map((file) => `${folder}/${file}`) };
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

/** Applies the modules, each in a transaction, as the CLI applies their migrations. */
export async function applyModules(sql: postgres.Sql, root: string, modules = readModules(root)): Promise<void> {
  for (const module of modules) {
    const source = moduleSql(root, module);
    await sql.begin((transaction) => transaction.unsafe(source)).catch((error) => {
      throw new StackError(`supabase/schemas/${module.folder}: ${error.message}`);
    });
  }
}
