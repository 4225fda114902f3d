// The schema as the supabase CLI sees it.
import { assertEquals } from "@std/assert";
import { generateTypes, supabase, typesFile } from "../support/cli.ts";
import { dbUrl } from "../support/stack.ts";

Deno.test("database.types.ts is what the CLI generates (refresh it with: npm run types)", async () => {
  assertEquals(await Deno.readTextFile(typesFile), await generateTypes(dbUrl));
});

Deno.test("supabase db advisors reports nothing", async () => {
  const output = await supabase("db", "advisors", `--remote=${dbUrl}?sslmode=disable`, "--level", "info", "-o", "json");
  const findings: { name: string; detail: string }[] = output.trim() ? JSON.parse(output) : [];
  // Two are about data and not the schema: no test has used an index yet, or tests have just deleted much of a table.
  assertEquals(findings.filter(({ name }) => name !== "unused_index" && name !== "table_bloat"), []);
});

Deno.test("every migration is applied, in order", async () => {
  const output = await supabase("migration", "list", `--remote=${dbUrl}?sslmode=disable`);
  const versions = [...Deno.readDirSync(new URL("../../supabase/migrations/", import.meta.url))]
    .map(({ name }) => name.split("_")[0]).sort();
  const applied = output.split("\n").map((line) => line.match(/(\d{14})\D+(\d{14})/)).filter((match) => match !== null);
  assertEquals(applied.map(([, local, remote]) => [local, remote]), versions.map((version) => [version, version]));
});
