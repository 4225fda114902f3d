import postgres from "postgres";

/**
 * Runs one pgTAP file and returns its TAP lines. The files are those of `supabase test db tests/database`: plain SQL
 * that begins, plans, tests, finishes and rolls back.
 */
export async function runPgtap(dbUrl: string, file: string): Promise<string[]> {
  const sql = postgres(dbUrl, { max: 1, onnotice: () => {} });
  try {
    // Does nothing where it is there: on the local stack, whose superuser alone may install it.
    await sql`create extension if not exists pgtap with schema extensions`;
    const results = await sql.unsafe(await Deno.readTextFile(file)).simple();
    return (results as unknown as Record<string, unknown>[][])
      .flat()
      .flatMap((row) => Object.values(row))
      .filter((value): value is string => typeof value === "string")
      .flatMap((value) => value.split("\n"));
  } finally {
    await sql.end();
  }
}

/** What is wrong in a TAP output: failed tests with their diagnostics, and a plan that was not kept. */
export function tapFailures(lines: string[]): string[] {
  const planned = Number(lines.find((line) => /^1\.\.\d+$/.test(line))?.slice(3) ?? Number.NaN);
  const results = lines.filter((line) => /^(not )?ok \d+/.test(line));
  const failures = lines.filter((line) => /^(not ok|#)/.test(line));
  if (results.length !== planned) failures.push(`planned ${planned} tests, ran ${results.length}`);
  return failures;
}
