// Runs the pgTAP files of this directory. `supabase test db tests/database` runs them too, on the Docker stack.
import { assertEquals } from "@std/assert";
import postgres from "postgres";
import { runPgtap, tapFailures } from "../support/pgtap.ts";
import { dbUrl } from "../support/stack.ts";

const directory = new URL(".", import.meta.url);

for (const { name } of [...Deno.readDirSync(directory)].filter((entry) => entry.name.endsWith(".sql"))) {
  Deno.test(`pgTAP: ${name}`, async () => {
    assertEquals(tapFailures(await runPgtap(dbUrl, new URL(name, directory).pathname)), []);
  });
}

Deno.test("the pgTAP runner notices failures and broken plans", async () => {
  const file = await Deno.makeTempFile({ suffix: ".sql" });
  await Deno.writeTextFile(file, "begin; select plan(3); select ok(true, 'good'); select ok(false, 'bad'); rollback;");
  const failures = tapFailures(await runPgtap(dbUrl, file));
  assertEquals(failures.filter((line) => line.startsWith("not ok")), ["not ok 2 - bad"]);
  assertEquals(failures.at(-1), "planned 3 tests, ran 2");
  await Deno.remove(file);
});

Deno.test("the connection is the schema's owner and no superuser, as on the platform", async () => {
  const sql = postgres(dbUrl, { max: 1 });
  const [role] = await sql`select rolname, rolsuper, rolbypassrls from pg_roles where rolname = current_user`;
  await sql.end();
  assertEquals({ ...role }, { rolname: "postgres", rolsuper: false, rolbypassrls: true });
});
