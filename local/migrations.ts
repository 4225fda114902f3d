/** What has changed in supabase/schemas since the last migration, as migrations: a draft of the CLI's, and its judge. */
import { join } from "node:path";
import postgres from "postgres";
import { type Catalogue, compareCatalogues, readCatalogue } from "./catalogue.ts";
import { StackError } from "./errors.ts";
import { pushMigrations } from "./platform.ts";
import { migrationsOf, moduleSql, readModules } from "./schemas.ts";
import { type Scratch, scratchDatabase } from "./scratch.ts";

/** Two databases made from the same repository, and what they consist of. */
export interface Databases {
  schemas: Scratch;
  ofSchemas: Catalogue;
  migrations: Scratch;
  ofMigrations: Catalogue;
}

export interface Changes {
  /** A migration for each touched module. */
  drafts: Map<string, string>;
  /** Why they will not do; empty if they will. */
  problems: string[];
}

/** Applies supabase/schemas to one empty database and supabase/migrations to another. */
export async function withDatabases<T>(
  root: string,
  postgresBin: string | undefined,
  work: (databases: Databases) => Promise<T>,
): Promise<T> {
  await using running = new AsyncDisposableStack();
  const [schemas, migrations] = await Promise.all([
    scratchDatabase(root, postgresBin),
    scratchDatabase(root, postgresBin),
  ].map(async (database) => running.use(await database)));
  const [ofSchemas, ofMigrations] = await Promise.all([
    (async () => {
      for (const module of readModules(root)) {
        await applyTo(schemas.sql, moduleSql(root, module), `supabase/schemas/${module.folder}`);
      }
      return await readCatalogue(schemas.sql);
    })(),
    (async () => {
      await pushMigrations(root, migrations.url, { seed: false });
      return await readCatalogue(migrations.sql);
    })(),
  ]);
  return await work({ schemas, ofSchemas, migrations, ofMigrations });
}

export function compareDatabases({ ofSchemas, ofMigrations }: Databases): string[] {
  return compareCatalogues(["supabase/schemas", ofSchemas], ["supabase/migrations", ofMigrations]);
}

/**
 * The way from the migrations to the schemas: a new module as it is, the rest by `supabase db diff`. That misses the order of
 * columns, storage, statistics, compression, some comments, and rows, and it takes a renamed column for one that goes and
 * one that comes: what it missed is found by the catalogue, and what loses data is left to a person.
 */
export async function draftChanges(root: string, databases: Databases): Promise<Changes> {
  const { schemas, migrations, ofSchemas } = databases;
  const drafts = new Map<string, string>();
  const problems: string[] = [];
  const homes = homesOf(root);
  const isNew = (name: string) => !migrationsOf(root).some((file) => moduleOfFile(file) === name);
  for (const module of readModules(root).filter(({ name }) => isNew(name))) {
    drafts.set(module.name, moduleSql(root, module));
    await applyTo(migrations.sql, drafts.get(module.name)!, module.folder);
  }

  const changes = new Map<string, string[]>();
  for (const statement of await diff(root, migrations, schemas)) {
    if (LOSES_DATA.test(statement)) {
      problems.push(`would lose data, or be a change of a name: ${statement.replace(/\s+/g, " ")}`);
    }
    const module = homes(statement);
    changes.set(module, [...changes.get(module) ?? [], statement]);
  }
  for (const { name } of readModules(root)) {
    const statements = changes.get(name);
    if (!statements) continue;
    drafts.set(
      drafts.has(name) ? `${name}_changes` : name,
      ["set check_function_bodies = off;", ...statements, "reset check_function_bodies;"].join("\n\n") + "\n",
    );
  }

  const after = await undone(migrations.sql, async (sql) => {
    for (const source of drafts.values()) await sql.unsafe(source);
    return await readCatalogue(sql);
  }).catch((error) => {
    problems.push(`the drafts cannot be applied: ${error.message}`);
  });
  if (after) problems.push(...compareCatalogues(["supabase/schemas", ofSchemas], ["the drafts", after]));
  return { drafts, problems };
}

/** Of tables and what is in them: a function or a policy that goes takes nothing along. */
const LOSES_DATA = /^\s*(drop\s+(table|schema|sequence)|alter\s+table[^;]*\b(drop\s+column|detach\s+partition))\b/i;

async function diff(root: string, from: Scratch, to: Scratch): Promise<string[]> {
  const file = await Deno.makeTempFile({ suffix: ".sql" });
  try {
    for (const { adminUrl } of [from, to]) await withoutParameterRights(adminUrl);
    const { success, stderr } = await new Deno.Command(join(root, "node_modules/.bin/supabase"), {
      args: [
        ...["db", "diff", "--from", `${from.url}?sslmode=disable`, "--to", `${to.url}?sslmode=disable`],
        ...["--strict-coverage", "-o", file, "--workdir", root],
      ],
      env: { SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", SUPABASE_NO_UPDATE_NOTIFIER: "1" },
      stdin: "null",
    }).output();
    if (!success) throw new StackError(`supabase db diff failed:\n${new TextDecoder().decode(stderr)}`);
    return statementsOf(await Deno.readTextFile(file)).filter((line) => !/^set\b/i.test(line));
  } finally {
    await Deno.remove(file);
  }
}

/** The CLI's strict diff refuses a database with a right to a parameter, which the platform gives by other means. */
async function withoutParameterRights(adminUrl: string): Promise<void> {
  const sql = postgres(adminUrl, { max: 1, onnotice: () => {} });
  await sql`revoke set on parameter pgrst.db_pre_request from postgres`.finally(() => sql.end());
}

/** Splits at semicolons outside of strings, names and bodies. */
export function statementsOf(sql: string): string[] {
  const statements = sql.match(/(?:\$(\w*)\$[\s\S]*?\$\1\$|'(?:[^']|'')*'|"[^"]*"|--.*|[^;])+;/g) ?? [];
  return statements.map((statement) => statement.trim());
}

const moduleOfFile = (file: string): string => file.slice(15).match(/^[a-z]+/)![0];

/**
 * Says of which module a statement is: of the one that makes, or made, the first of our objects in it. A trigger is its own
 * module's, whosever the table is.
 */
function homesOf(root: string): (statement: string) => string {
  const sources: [module: string, source: string][] = [
    ...readModules(root).map((module): [string, string] => [module.name, moduleSql(root, module)]),
    ...migrationsOf(root).map((file): [string, string] => [
      moduleOfFile(file),
      Deno.readTextFileSync(join(root, "supabase/migrations", file)),
    ]),
  ];
  return (statement) => {
    const text = statement.replaceAll('"', "");
    const names = [...text.matchAll(/\btrigger \w+|\b(?:public|private|gateway)\.\w+|\b(?:role|schema) \w+/gi)];
    for (const [name] of names) {
      const kind = /^(trigger|role|schema) /i.test(name) ? "" : "(?:table|view|function|type) ";
      const made = new RegExp(`\\bcreate ${kind}${name}\\b`, "i");
      const home = sources.find(([, source]) => made.test(source));
      if (home) return home[0];
    }
    throw new StackError(`Of which module is this? Write it by hand.\n${statement}`);
  };
}

/** The result of work on a database that is as it was afterwards. */
export async function undone<T>(
  sql: postgres.Sql | postgres.TransactionSql,
  work: (sql: postgres.TransactionSql) => Promise<T>,
): Promise<T> {
  const done = new Error();
  let result: T;
  const scope = async (transaction: postgres.TransactionSql) => {
    result = await work(transaction);
    throw done;
  };
  await ("savepoint" in sql ? sql.savepoint(scope) : sql.begin(scope)).catch((error) => {
    if (error !== done) throw error;
  });
  return result!;
}

async function applyTo(sql: postgres.Sql, source: string, name: string): Promise<void> {
  await sql.begin((transaction) => transaction.unsafe(source)).catch((error) => {
    throw new StackError(`${name}: ${error.message}`);
  });
}
