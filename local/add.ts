/** `npm run add -- PATH`: brings Threadbase, or some modules of it, into a Supabase project that exists. */
import { dirname, join, resolve } from "node:path";
import postgres from "postgres";
import { readArguments, run } from "./command.ts";
import { StackError } from "./errors.ts";
import { removeIfExists } from "./files.ts";
import { CONFIG, MANIFEST, type Options, type Plan, planInstallation } from "./installation.ts";
import { type Names, take } from "./names.ts";

const HELP =
  `Adds Threadbase to a Supabase project that exists: its functions, and migrations after those that are there.

Usage: npm run add -- PATH [options]

  PATH                 the directory that holds supabase/config.toml
  --only MODULE,...    of conversations, sessions, responses, openai, documents, retention, users; with what they use
                       (default: all; where Threadbase is already, what is there)
  --db-url URL         looks into the project's database as well for names that are taken
  --schema NAME        for what is behind the API, where private is taken
  --dry-run            says what it would do
  --help

Run it again for an update, or for more modules. It changes no line of the project's own, and what has been changed there
since it was added stays as it is and is shown. Where a name is taken, it writes nothing, says which, and ends with 1.`;

const root = join(import.meta.dirname!, "..");

/** What the database has in the schemas of ours, and the migrations that it knows. */
async function readDatabase(url: string): Promise<Options["database"]> {
  const sql = postgres(url, { max: 1, prepare: false, connect_timeout: 10, onnotice: () => {} });
  try {
    const rows = await sql<{ kind: string; name: string }[]>`
      select 'schema' as kind, n.nspname as name from pg_catalog.pg_namespace n
      union all
      select 'role', r.rolname from pg_catalog.pg_roles r
      union all
      select 'function', n.nspname || '.' || p.proname
      from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      where n.nspname not in ('pg_catalog', 'information_schema')
      union all
      select case c.relkind when 'v' then 'view' when 'i' then 'index' else 'table' end, n.nspname || '.' || c.relname
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname not in ('pg_catalog', 'information_schema')
      union all
      select 'type', n.nspname || '.' || t.typname
      from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
      where t.typrelid = 0 and n.nspname not in ('pg_catalog', 'information_schema')`;
    const names: Names = new Map();
    for (const row of rows) take(names, { ...row, source: "the database" });
    const [{ migrations }] = await sql`select to_regclass('supabase_migrations.schema_migrations') as migrations`;
    const versions = migrations ? await sql`select version from supabase_migrations.schema_migrations` : [];
    return { names, versions: versions.map(({ version }) => version) };
  } catch (error) {
    throw new StackError(`The database of --db-url could not be read: ${(error as Error).message || error}`);
  } finally {
    await sql.end();
  }
}

/**
 * Writes the plan. The manifest comes first, with what is new and with the old state of what changes, and once more at the
 * end: what is interrupted can be run again.
 */
async function writePlan(project: string, { before, manifest, write, remove }: Plan): Promise<void> {
  const save = async (path: string, source: string) => {
    await Deno.mkdir(dirname(join(project, path)), { recursive: true });
    await Deno.writeTextFile(join(project, path), source);
  };
  const json = (manifest: Plan["manifest"]) => `${JSON.stringify(manifest, null, 2)}\n`;
  await save(MANIFEST, json({ ...manifest, files: { ...manifest.files, ...before.files } }));
  for (const [path, source] of write) await save(path, source);
  for (const path of remove) await removeIfExists(join(project, path));
  await save(MANIFEST, json(manifest));
}

function refusal({ collisions, free, manifest }: Plan): string {
  const lines = collisions.map(({ kind, name, source, module = "in every installation" }) =>
    `  ${kind} ${name}${name === source ? "" : ` in ${source}`}: ${module}`
  );
  const hasSchema = collisions.some(({ kind, name }) => kind === "schema" && name === manifest.schema);
  const advice = [
    ...free.length > 0 ? [`  leave out those modules: --only ${free.join(",")}`] : [],
    ...hasSchema ? ["  put ours into a schema of another name: --schema threadbase"] : [],
    "  rename yours (a table in a migration)",
  ];
  return ["These names are taken, and nothing was written.", ...lines, "What helps:", ...advice].join("\n");
}

/** From the file as it is there to ours. Its name alone where there is no `diff`. */
async function difference(project: string, path: string, ours: string): Promise<string> {
  try {
    const labels = ["--label", `${path} (yours)`, "--label", `${path} (Threadbase)`];
    const diff = new Deno.Command("diff", {
      args: ["-u", ...labels, join(project, path), "-"],
      ...{ stdin: "piped", stdout: "piped" },
    }).spawn();
    const [{ stdout }] = await Promise.all([diff.output(), new Blob([ours]).stream().pipeTo(diff.stdin)]);
    return new TextDecoder().decode(stdout).trimEnd();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

async function report(project: string, plan: Plan, dryRun: boolean): Promise<void> {
  const { before, manifest, added, write, remove, edited, outdated, functions } = plan;
  const say = (line = "") => console.log(line);
  say(`Threadbase in ${project}: ${manifest.modules.join(", ")}`);
  if (manifest.schema !== "private") say(`  in the schema ${manifest.schema}, where the documentation says private`);
  for (const [module, user] of added) say(`  ${module}, because ${user} uses it`);
  const folders = Map.groupBy(write.keys(), (path) => path.match(/^supabase\/functions\/[^/]+\//)?.[0] ?? path);
  for (const [folder, files] of folders) {
    const sign = files.some((path) => before.files[path] || path === CONFIG) ? "~" : "+";
    say(`${sign} ${files.length === 1 ? files[0] : `${folder} (${files.length} files)`}`);
  }
  for (const path of remove) say(`- ${path}`);
  if (write.size + remove.length === 0) say("Nothing has changed.");
  for (const [path, ours] of edited) {
    say(`\nChanged there, and left as it is: ${path}`);
    say(ours === undefined ? "Threadbase has no such file any more." : await difference(project, path, ours));
  }
  if (outdated.length > 0) {
    say("\nMigrations that have changed here since they were copied, and are never rewritten:");
    outdated.forEach((path) => say(`  ${path}`));
    say(
      "Delete them and run this again where they are applied nowhere; else see docs/decisions/0020-schemas-and-migrations.md.",
    );
  }
  if (dryRun) return say("\nNothing was written (--dry-run).");
  const steps = [
    ...[...write.keys()].some((path) => path.startsWith("supabase/migrations/"))
      ? ["npx supabase db push --remote"]
      : [],
    ...functions.length > 0 ? [`npx supabase functions deploy ${functions.join(" ")}`] : [],
  ];
  if (steps.length > 0) say(["\nNext, there:", ...steps].join("\n  "));
}

await run(async () => {
  const { values, positionals: [path] } = readArguments(HELP, {
    only: { type: "string" },
    "db-url": { type: "string" },
    schema: { type: "string" },
    "dry-run": { type: "boolean" },
  }, [1, 1]);
  const project = resolve(path);
  if (project === resolve(root)) throw new StackError("That is Threadbase itself.");
  const plan = planInstallation(root, project, {
    only: values.only?.split(","),
    schema: values.schema,
    database: values["db-url"] ? await readDatabase(values["db-url"]) : undefined,
  });
  if (plan.collisions.length > 0) throw new StackError(refusal(plan));
  if (!values["dry-run"]) await writePlan(project, plan);
  await report(project, plan, values["dry-run"] ?? false);
});
