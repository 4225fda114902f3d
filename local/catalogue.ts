/** The catalogue of a database as rows that can be compared: what `supabase db diff` does not see is in it, too. */
import type postgres from "postgres";

/** `kind name`, such as `column public.videos.title`, with everything that makes the object what it is. */
export type Catalogue = Map<string, string>;

/** When a database was made does not make it another one. */
const TIME = /"\d{4}-\d\d-\d\dT[^"]*"/g;

/**
 * The objects of a database, and the rows that its migrations inserted: of a database in use, leave those out.
 *
 * pg_cron's jobs are rows as well, where there is pg_cron.
 */
export async function readCatalogue(
  sql: postgres.Sql | postgres.TransactionSql,
  { rows = true } = {},
): Promise<Catalogue> {
  const query = await Deno.readTextFile(new URL("catalogue.sql", import.meta.url));
  const objects = await sql.unsafe(query);
  const catalogue: Catalogue = new Map(objects.map(({ kind, name, value }) => [`${kind} ${name}`, value]));
  if (!rows) return catalogue;

  const tables = await sql<{ name: string }[]>`
    select c.oid::regclass::text as name
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname in ('public', 'private', 'gateway')
    order by 1`;
  for (const { name } of tables) {
    const values = await sql.unsafe(`select to_jsonb(t)::text as value from ${name} t order by 1`);
    values.forEach(({ value }) => catalogue.set(`row ${name} ${value.replace(TIME, '"a time"')}`, ""));
  }
  const [{ cron }] = await sql`select to_regclass('cron.job') is not null as cron`;
  if (cron) {
    for (const job of await sql`select jobname, schedule, command, username, database, active from cron.job`) {
      catalogue.set(`row cron.job ${job.jobname}`, JSON.stringify(job));
    }
  }
  return catalogue;
}

/** What is different, one line for each object; empty if nothing is. */
export function compareCatalogues(
  [one, ofOne]: [name: string, Catalogue],
  [other, ofOther]: [name: string, Catalogue],
): string[] {
  const keys = [...new Set([...ofOne.keys(), ...ofOther.keys()])].sort();
  return keys.filter((key) => ofOne.get(key) !== ofOther.get(key)).map((key) => {
    if (!ofOther.has(key)) return `only in ${one}: ${key}`;
    if (!ofOne.has(key)) return `only in ${other}: ${key}`;
    return `different: ${key}\n${firstDifferences(ofOne.get(key)!, ofOther.get(key)!)}`;
  });
}

function firstDifferences(a: string, b: string): string {
  const only = (one: string, other: string, sign: string) =>
    one.split("\n").filter((line) => !other.split("\n").includes(line)).slice(0, 3).map((line) => `  ${sign} ${line}`);
  return [...only(a, b, "-"), ...only(b, a, "+")].join("\n");
}
