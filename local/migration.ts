/** `npm run migration`: makes supabase/migrations say what supabase/schemas say. */
import { join } from "node:path";
import { compareCatalogues, readCatalogue } from "./catalogue.ts";
import { applyModules, moduleSql, readModules } from "./schemas.ts";
import { pushMigrations } from "./platform.ts";
import { scratchDatabase } from "./scratch.ts";

const root = join(import.meta.dirname!, "..");
const migrations = join(root, "supabase/migrations");

/** The first migration of a module: its number is the time, so that they stand in the order of the modules. */
function firstMigration({ folder, name }: { folder: string; name: string }): string {
  const minutes = 10 * 60 + Number(folder.slice(0, 2));
  const time = `${Math.floor(minutes / 60)}${`${minutes % 60}`.padStart(2, "0")}00`;
  return `20261128${time}_${name}.sql`;
}

const modules = readModules(root);
for (const { name } of Deno.readDirSync(migrations)) await Deno.remove(join(migrations, name));
for (const module of modules) {
  await Deno.writeTextFile(join(migrations, firstMigration(module)), moduleSql(root, module));
}
const catalogues = await Promise.all([
  (async () => {
    await using database = await scratchDatabase(root, Deno.env.get("POSTGRES_BIN") || undefined);
    await applyModules(database.sql, root, modules);
    return await readCatalogue(database.sql);
  })(),
  (async () => {
    await using database = await scratchDatabase(root, Deno.env.get("POSTGRES_BIN") || undefined);
    await pushMigrations(root, database.url, { seed: false });
    return await readCatalogue(database.sql);
  })(),
]);
console.log(catalogues.map((c) => c.size));
console.log(compareCatalogues(["schemas", catalogues[0]], ["migrations", catalogues[1]]).join("\n"));
