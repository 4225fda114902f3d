// supabase/schemas say what the database is, supabase/migrations make it: the two are held together by its catalogue.
import { assertEquals, assertRejects } from "@std/assert";
import { fileURLToPath } from "node:url";
import { compareCatalogues, readCatalogue } from "../../local/catalogue.ts";
import { compareDatabases, draftChanges, statementsOf, undone, withDatabases } from "../../local/migrations.ts";
import { ALWAYS, firstMigration, type Module, moduleSql, readModules } from "../../local/schemas.ts";
import { scratchDatabase } from "../../local/scratch.ts";
import type postgres from "postgres";

const root = fileURLToPath(new URL("../..", import.meta.url));
const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;

/** Whatever one can change about a database, and the objects that are another one then. */
const CHANGES: [statement: string, changed: string[]][] = [
  ["create table public.extra (id integer)", ["relation public.extra", "column public.extra.id"]],
  ["alter table public.videos add column extra text", ["column public.videos.extra"]],
  [
    "alter table public.videos drop column title, add column title text",
    ["column public.videos.title", "column public.videos.created_at", "constraint public.videos.videos_title_check"],
  ],
  ["alter table public.videos alter column title set not null", ["column public.videos.title"]],
  ["alter table public.videos alter column title set default 'x'", ["column public.videos.title"]],
  ["alter table public.videos alter column title set storage external", ["column public.videos.title"]],
  ["alter table public.videos alter column title set statistics 7", ["column public.videos.title"]],
  ["alter table public.videos alter column title set compression pglz", ["column public.videos.title"]],
  ["comment on column public.videos.title is 'x'", ["column public.videos.title"]],
  ["grant update (title) on public.videos to anon", ["column public.videos.title"]],
  ["comment on column gateway.conversation_states.model is 'x'", ["column gateway.conversation_states.model"]],
  ["comment on column private.utterance.text is 'x'", ["column private.utterance.text"]],
  ["grant select on public.videos to anon", ["relation public.videos"]],
  ["alter table public.videos no force row level security", ["relation public.videos"]],
  ["alter table public.conversations set (fillfactor = 70)", ["relation public.conversations"]],
  ["comment on table public.videos is 'x'", ["relation public.videos"]],
  ["alter view gateway.conversation_states set (security_barrier = false)", ["relation gateway.conversation_states"]],
  ["alter table public.videos drop constraint videos_title_check", ["constraint public.videos.videos_title_check"]],
  ["drop index public.idx_sessions_open", ["index public.idx_sessions_open"]],
  ["create index extra on public.videos (title)", ["index public.extra"]],
  [
    'alter policy "Users see their own videos" on public.videos using (true)',
    ["policy public.videos.Users see their own videos"],
  ],
  ["alter table public.sessions disable trigger guard_session", ["trigger public.sessions.guard_session"]],
  [
    "create trigger extra after delete on auth.users for each row execute function private.erase_deleted_user()",
    ["trigger auth.users.extra"],
  ],
  ["alter function private.require_limit stable", ["function private.require_limit(p_limit integer)"]],
  ["alter function private.require_limit set jit = off", ["function private.require_limit(p_limit integer)"]],
  ["grant execute on function private.require_limit to anon", ["function private.require_limit(p_limit integer)"]],
  ["comment on function private.require_limit is 'x'", ["function private.require_limit(p_limit integer)"]],
  ["create statistics private.extra on user_id, title from public.videos", ["statistics private.extra"]],
  ["create type private.extra as enum ('x')", ["type private.extra"]],
  ["alter schema private owner to postgres; grant usage on schema private to anon", ["schema private"]],
  ["alter role gateway set statement_timeout = 1", ["role gateway"]],
  ["comment on role gateway is 'x'", ["role gateway"]],
  ["do $$ begin execute format('drop table private.event_logs_%s', to_char(now(), 'YYYY_MM')); end $$", []],
  [
    "do $$ begin execute format('grant select on private.event_logs_%s to anon', to_char(now(), 'YYYY_MM')); end $$",
    ["relation private.event_logs_month"],
  ],
  [
    "update private.session_settings set idle_timeout = '2 hours'",
    [
      'row private.session_settings {"only_row": true, "idle_timeout": "00:30:00"}',
      'row private.session_settings {"only_row": true, "idle_timeout": "02:00:00"}',
    ],
  ],
];

Deno.test("schemas", async (t) => {
  await withDatabases(root, postgresBin, async (databases) => {
    await t.step("supabase/schemas and supabase/migrations make equal databases", () => {
      assertEquals(compareDatabases(databases), [], "Make the migrations anew: npm run migration");
    });

    await t.step("no change of a database goes unnoticed", async () => {
      const { migrations: { sql }, ofMigrations } = databases;
      for (const [statement, changed] of CHANGES) {
        const after = await undone(sql, async (transaction) => {
          await transaction.unsafe(statement).simple();
          return await readCatalogue(transaction);
        });
        const noticed = compareCatalogues(["before", ofMigrations], ["after", after])
          .map((line) => line.split("\n")[0].replace(/^(different|only in \w+): /, ""));
        assertEquals(noticed, changed.toSorted(), statement);
      }
    });

    await t.step("a change is drafted as a migration for each touched module", async () => {
      await databases.schemas.sql.unsafe(`
        alter table public.conversations add column extra text;
        comment on column public.conversations.extra is 'One more.';
        grant update (extra) on public.conversations to authenticated;
        alter function private.require_limit stable;
      `);
      databases.ofSchemas = await readCatalogue(databases.schemas.sql);
      const { drafts, problems } = await draftChanges(root, databases);
      assertEquals(problems, []);
      assertEquals([...drafts.keys()], ["foundation", "conversations"]);
    });

    await t.step("a draft that loses data, or does not make the schema, is refused", async () => {
      await databases.schemas.sql.unsafe(`
        alter table public.documents rename column version to revision;
        alter table public.sessions alter column summary set storage external;
        insert into private.scheduled_jobs values ('extra', '* * * * *', 'select');
      `);
      databases.ofSchemas = await readCatalogue(databases.schemas.sql);
      const { problems } = await draftChanges(root, databases);
      const refused = problems.map((problem) => problem.split("\n")[0]);
      for (
        const reason of [
          'would lose data, or be a change of a name: ALTER TABLE "public"."documents" DROP COLUMN "version";',
          "different: column public.sessions.summary",
          'only in supabase/schemas: row private.scheduled_jobs {"name": "extra", "command": "select", "schedule": "* * * * *"}',
        ]
      ) assertEquals(refused.filter((line) => line === reason), [reason]);
    });
  });
});

Deno.test("until the first release, a module's migration is its files (refresh it with: npm run migration)", async () => {
  if (/^## \d/m.test(await Deno.readTextFile(new URL("../../CHANGELOG.md", import.meta.url)))) return;
  for (const module of readModules(root)) {
    const migration = new URL(`../../supabase/migrations/${firstMigration(module)}`, import.meta.url);
    assertEquals(await Deno.readTextFile(migration), moduleSql(root, module));
  }
});

Deno.test("any choice of modules works without the others, and takes them later", async () => {
  await using database = await scratchDatabase(root, postgresBin);
  const modules = readModules(root);
  const apply = async (sql: postgres.TransactionSql, chosen: Module[]) => {
    for (const module of chosen) await sql.unsafe(moduleSql(root, module));
  };
  const whole = await undone(database.sql, async (sql) => {
    await apply(sql, modules);
    return await readCatalogue(sql);
  });
  for (const only of modules.filter(({ name }) => !ALWAYS.includes(name))) {
    const needed = [...ALWAYS, only.name, ...only.uses];
    await undone(database.sql, async (sql) => {
      await apply(sql, modules.filter(({ name }) => needed.includes(name)));
      await undone(sql, callEverythingShared);
      await apply(sql, modules.filter(({ name }) => !needed.includes(name)));
      assertEquals(compareCatalogues(["all", whole], ["in two parts", await readCatalogue(sql)]), [], only.name);
    });
  }
});

/** What is in every installation and looks after the data of all modules that are there. */
async function callEverythingShared(sql: postgres.TransactionSql): Promise<void> {
  const user = crypto.randomUUID();
  await sql`insert into auth.users (id, aud, role) values (${user}, 'authenticated', 'authenticated')`;
  await sql`select set_config('request.jwt.claims', '{"role": "service_role"}', true)`;
  for (const { command } of await sql`select command from private.scheduled_jobs`) {
    await sql.unsafe(command.replace("commit; ", ""));
  }
  const [{ preview }] = await sql`select public.retention_preview() -> 'data' as preview`;
  const [{ policies }] = await sql`select public.get_retention_policies() -> 'data' as policies`;
  const kinds = (rows: { kind: string }[]) => rows.map(({ kind }) => kind).filter((kind) => kind !== "job_run_details");
  assertEquals(kinds(preview), kinds(policies));
  const [{ runs }] = await sql`select public.list_retention_runs() -> 'data' as runs`;
  assertEquals(runs.map(({ errors }: { errors: unknown[] }) => errors), [[]]);
  // Of everything that may be, one kind at least is of a module that is not there.
  const all = ["conversations", "sessions", "conversation_states", "documents"];
  const missing = all.filter((kind) => kind !== "documents" && !kinds(policies).includes(kind));
  for (const kind of missing) {
    await assertRejects(() => sql.savepoint((point) => point`select private.set_retention_policy(${kind}, '1 day')`));
  }
  const [{ page }] = await sql`select public.export_user_page('{}', ${user}) as page`;
  assertEquals([page.lines.split("\n").length, page.next], [1, null]);
  const [{ receipt }] = await sql`select public.erase_user(${user}) as receipt`;
  assertEquals([receipt.error, typeof receipt.finished_at], [null, "string"]);
  await sql`delete from auth.users where id = ${user}`;
}

Deno.test("a draft is split at semicolons outside of strings, names and bodies", () => {
  const parts = [`create function f() as $x$ select 1; $x$;`, `comment on table "a;b" is 'c;''d';`, `select 1;`];
  assertEquals(statementsOf(parts.join("\n\n")), parts);
});
