/** `npm run migration`: makes supabase/migrations say what supabase/schemas say. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { compareCatalogues, readCatalogue } from "./catalogue.ts";
import { readArguments, run } from "./command.ts";
import { StackError } from "./errors.ts";
import { type Changes, compareDatabases, type Databases, draftChanges, withDatabases } from "./migrations.ts";
import { firstMigration, migrationsOf, moduleSql, readModules } from "./schemas.ts";

const HELP = `Makes supabase/migrations say what supabase/schemas say.

Usage: npm run migration [-- NAME]

Until the first release (a version in CHANGELOG.md) the one migration of each module is made anew from its schema files.
After it, what has changed in supabase/schemas is written to a new migration for each touched module, such as
20270131120000_conversations_NAME.sql. Without NAME: only looks whether the two agree.

  --database URL       look instead whether this database, which may be in use, is as supabase/schemas say
  --postgres-bin DIR   initdb and postgres of another Postgres (default: the embedded one; or set POSTGRES_BIN)
  --help`;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const migrations = join(root, "supabase/migrations");

async function main(): Promise<void> {
  const { values, positionals: [name] } = readArguments(
    HELP,
    { database: { type: "string" }, "postgres-bin": { type: "string" } },
    [0, 1],
  );
  if (name !== undefined && !/^[a-z][a-z0-9_]*$/.test(name)) {
    throw new StackError(`NAME is one word of a-z, 0-9 and _.\n\n${HELP}`);
  }
  const released = /^## \d/m.test(await Deno.readTextFile(join(root, "CHANGELOG.md")));
  if (!released && !values.database) await writeFirstMigrations();
  const postgresBin = values["postgres-bin"] ?? (Deno.env.get("POSTGRES_BIN") || undefined);
  await withDatabases(root, postgresBin, async (databases) => {
    if (values.database) return await compareWith(values.database, databases);
    if (released && name) return await writeChanges(name, await draftChanges(root, databases));
    const differences = compareDatabases(databases);
    if (differences.length > 0) throw new StackError(`${differences.join("\n")}\nsupabase/migrations are not equal.`);
    console.log("supabase/schemas and supabase/migrations are equal.");
  });
}

/** Without rows, which are its users'. */
async function compareWith(url: string, { schemas }: Databases): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    const [ours, theirs] = [
      await readCatalogue(schemas.sql, { rows: false }),
      await readCatalogue(sql, { rows: false }),
    ];
    const differences = compareCatalogues(["supabase/schemas", ours], ["the database", theirs]);
    if (differences.length > 0) throw new StackError(differences.join("\n"));
    console.log("The database is as supabase/schemas say.");
  } finally {
    await sql.end();
  }
}

async function writeFirstMigrations(): Promise<void> {
  const wanted = new Map(readModules(root).map((module) => [firstMigration(module), moduleSql(root, module)]));
  for (const file of migrationsOf(root)) {
    if (!wanted.has(file)) await Deno.remove(join(migrations, file));
  }
  for (const [file, source] of wanted) await Deno.writeTextFile(join(migrations, file), source);
}

/** A file for each module, in the order of the modules; none where the drafts do not bring the whole change about. */
async function writeChanges(name: string, { drafts, problems }: Changes): Promise<void> {
  if (drafts.size === 0 && problems.length === 0) return console.log("Nothing has changed in supabase/schemas.");
  const directory = problems.length === 0 ? migrations : join(root, ".local");
  await Deno.mkdir(directory, { recursive: true });
  const newest = Number(migrationsOf(root).at(-1)?.slice(0, 14) ?? 0);
  const now = Number(new Date().toISOString().replace(/\D/g, "").slice(0, 14));
  let version = Math.max(now, newest + 1);
  for (const [module, source] of drafts) {
    const path = join(directory, `${version++}_${module}_${name}.sql`);
    await Deno.writeTextFile(path, source);
    console.log(`Wrote ${path}`);
  }
  if (problems.length === 0) return;
  throw new StackError(
    `${
      problems.join("\n")
    }\nThe drafts do not do it. Complete them by hand, put them into supabase/migrations, and look ` +
      "whether they are right: npm run migration",
  );
}

await run(main);
