// `npm run add`: into three kinds of project that exist, pushed by the real CLI and called.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createClient } from "@supabase/supabase-js";
import { join } from "node:path";
import { readCatalogue } from "../../local/catalogue.ts";
import { moduleSql, readModules } from "../../local/schemas.ts";
import { type Scratch, scratchDatabase } from "../../local/scratch.ts";
import { startStack } from "../../local/stack.ts";
import { add, newProject, newRelease, type Project, push, root } from "../support/projects.ts";

const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;

/** It ends with 1 and has these words on stderr, and no file is another than before. */
async function assertRefused(project: Project, args: string[], ...words: string[]): Promise<void> {
  const before = await project.files();
  const { code, stdout, stderr } = await add(project, args);
  assertEquals([code, stdout], [1, ""]);
  for (const word of words) assertStringIncludes(stderr, word);
  assertEquals(await project.files(), before);
}

/** What was there before is there now as it was; of the config, as its beginning. */
async function assertUntouched(project: Project, before: Map<string, string>): Promise<void> {
  const after = await project.files();
  for (const [path, source] of before) {
    if (path === "supabase/config.toml") assert(after.get(path)!.startsWith(source), path);
    else assertEquals(after.get(path), source, path);
  }
}

const newFiles = async (project: Project, before: Map<string, string>) =>
  [...(await project.files()).keys()].filter((path) => !before.has(path)).sort();

async function tables({ sql }: Scratch): Promise<string[]> {
  const rows = await sql`
    select format('%s.%s', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'gateway') order by 1`;
  return rows.map(({ name }) => name);
}

Deno.test("a project with three migrations and a schema private of its own", async () => {
  await using project = await newProject({
    "supabase/migrations/20260105090000_notes.sql": `
      create table public.notes (id bigint generated always as identity primary key, author uuid references auth.users);
      alter table public.notes enable row level security;`,
    "supabase/migrations/20260212101500_private.sql": `
      create schema private;
      grant usage on schema private to anon;
      create function private.is_author(p_note bigint) returns boolean language sql stable security definer set search_path = ''
      as $$ select exists (select from public.notes n where n.id = p_note and n.author = (select auth.uid())) $$;
      create policy "Authors see their notes" on public.notes for select using (private.is_author(id));`,
    "supabase/migrations/20991231235958_later.sql": "alter table public.notes add column body text;",
  });
  await using database = await scratchDatabase(root, postgresBin);
  await push(project, database.url);
  const [theirs, ours] = [await readCatalogue(database.sql), new Map<string, string>()];
  await database.sql.begin(async (transaction) => {
    await transaction`alter schema private rename to theirs`;
    for (const module of readModules(root)) await transaction.unsafe(moduleSql(root, module));
    for (const entry of await readCatalogue(transaction)) ours.set(...entry);
    throw new Error("rolled back");
  }).catch((error) => assertEquals(error.message, "rolled back"));

  await assertRefused(
    project,
    [],
    "schema private in supabase/migrations/20260212101500_private.sql",
    "--schema threadbase",
  );
  await assertRefused(project, ["--schema", "pg_memory"], "not 'pg_memory'");

  const before = await project.files();
  const { code, stdout } = await add(project, ["--schema", "llm_memory"]);
  assertEquals(code, 0);
  await assertUntouched(project, before);
  const migrations = (await newFiles(project, before)).filter((path) => path.includes("/migrations/"));
  assertEquals(migrations[0], "supabase/migrations/20991231235959_threadbase_foundation.sql");
  assertEquals(migrations[1], "supabase/migrations/21000101000000_threadbase_conversations.sql");
  assertStringIncludes(stdout, "npx supabase db push --remote");

  await push(project, database.url);
  // All of ours is there, and theirs is as it was.
  await database.sql.begin(async (transaction) => {
    await transaction`alter schema private rename to theirs`;
    await transaction`alter schema llm_memory rename to private`;
    const together = await readCatalogue(transaction);
    const renamed = new Map(
      [...together].map((
        [key, value],
      ) => [key.replaceAll("llm_memory", "private"), value.replaceAll("llm_memory", "private")]),
    );
    assertEquals(renamed, ours);
    throw new Error("rolled back");
  }).catch((error) => assertEquals(error.message, "rolled back"));
  const now = await readCatalogue(database.sql);
  for (const [key, value] of theirs) {
    // What a role is a member of grows by the role gateway.
    if (!key.startsWith("role ") && key !== "schema public") assertEquals(now.get(key), value, key);
  }
});

Deno.test("a project with the documents table of LangChain's guide", async () => {
  await using project = await newProject({
    // Without the extension vector, which the guide's column and function are made of.
    "supabase/migrations/20260301000000_langchain.sql": `
      create table documents (
        id bigserial primary key,
        content text, -- corresponds to Document.pageContent
        metadata jsonb, -- corresponds to Document.metadata
        embedding double precision[]
      );
      create function match_documents (query_embedding double precision[], match_count int default null, filter jsonb default '{}')
      returns table (id bigint, content text) language plpgsql as $$
      begin
        create table public.not_created_by_a_migration ();
      end;
      $$;
      alter table documents add column owner_id uuid;
      create table sessions (id uuid primary key, user_id text);
      drop table sessions;`,
  });
  await assertRefused(
    project,
    [],
    "table public.documents in supabase/migrations/20260301000000_langchain.sql: documents",
    "--only conversations,sessions,responses,openai,retention,users",
  );
  await assertRefused(
    project,
    ["--only", "conversations,documents"],
    "index public.documents_pkey",
    "--only conversations\n",
  );
  await assertRefused(project, ["--only", "conversations,notes"], "There is no module 'notes'");

  // What no migration says, the database does.
  await using database = await scratchDatabase(root, postgresBin);
  const { sql, url } = database;
  const chosen = ["--only", "conversations,sessions"];
  await sql`create function public.open_session(title text) returns text language sql return title`;
  await assertRefused(
    project,
    [...chosen, "--db-url", url],
    "function public.open_session in the database: sessions",
    "rename",
  );
  await assertRefused(project, [...chosen, "--db-url", "postgres://127.0.0.1:9/postgres"], "could not be read");
  await sql`drop function public.open_session`;

  const before = await project.files();
  const { code } = await add(project, [...chosen, "--db-url", url]);
  assertEquals(code, 0);
  await assertUntouched(project, before);
  const added = await newFiles(project, before);
  const rest = /\/(documents|responses|openai|users|retention)\/|_(documents|responses|openai)\.sql/;
  assertEquals(added.filter((path) => rest.test(path)), []);
  assertEquals((await project.read("supabase/config.toml")).match(/^\[functions\..*/gm), [
    "[functions.conversations]",
    "[functions.sessions]",
  ]);

  await push(project, database.url);
  assertEquals(await tables(database), [
    "public.conversation_messages",
    "public.conversations",
    "public.documents",
    "public.event_logs",
    "public.sessions",
    "public.videos",
  ]);

  // Their documents are none of ours: not in an export, and there after an erasure and after their owner.
  const owner = crypto.randomUUID();
  await sql`insert into auth.users (id) values (${owner})`;
  await sql`insert into documents (content, owner_id) values ('theirs', ${owner})`;
  await sql`select set_config('request.jwt.claims', '{"role": "service_role"}', false)`;
  await sql`select public.open_session(p_user_id => ${owner})`;
  const [{ page }] = await sql`select public.export_user_page(p_user_id => ${owner}) as page`;
  assertEquals([page.sessions, page.documents], [1, 0]);
  const [{ receipt }] = await sql`select public.erase_user(${owner}) as receipt`;
  assertEquals([receipt.removed, receipt.error], [{ sessions: 1 }, null]);
  await sql`select public.open_session(p_user_id => ${owner})`;
  await sql`delete from auth.users where id = ${owner}`;
  const [left] = await sql`
    select (select count(*) from documents where content = 'theirs') as documents, (select count(*) from sessions) as sessions`;
  assertEquals(left, { documents: "1", sessions: "0" });
});

Deno.test("a project with functions and a _shared of its own: added, deployed, called, updated", async (t) => {
  const hello = 'import { cors } from "../_shared/http.ts";\n\n' +
    'export default { fetch: () => Response.json({ hello: "theirs" }, { headers: cors }) };\n';
  await using project = await newProject({
    "supabase/functions/_shared/http.ts": 'export const cors = { "access-control-allow-origin": "*" };\n',
    "supabase/functions/hello/index.ts": hello,
    "supabase/functions/hello/deno.json": "{}\n",
    "supabase/functions/users/index.ts": hello,
    "supabase/functions/users/deno.json": "{}\n",
  });
  // No end of line at the end, as editors leave it.
  await project.write("supabase/config.toml", (await project.read("supabase/config.toml")).trimEnd());
  const before = await project.files();

  await t.step("one that it has itself is refused by name", async () => {
    const rest = "conversations,sessions,responses,openai,documents,retention";
    await assertRefused(project, [], "function supabase/functions/users: users", `--only ${rest}`);
  });

  await t.step("--dry-run writes nothing", async () => {
    const { code, stdout } = await add(project, ["--only", "responses", "--dry-run"]);
    assertEquals(code, 0);
    assertMatch(stdout, /conversations, because responses uses it/);
    assertEquals(await project.files(), before);
  });

  await t.step("what is chosen comes with what it uses", async () => {
    const { code, stdout } = await add(project, ["--only", "responses"]);
    assertEquals(code, 0);
    await assertUntouched(project, before);
    assertStringIncludes(stdout, "npx supabase functions deploy conversations responses\n");
    const source = [...(await project.files())].filter(([path]) => /functions\/(conv|resp|_thr).*\.ts$/.test(path));
    assert(source.length > 15);
    assertEquals(source.filter(([, text]) => text.includes("_shared/")), []);
  });

  await t.step("another module later, behind the first", async () => {
    const migrations = async () =>
      [...(await project.files()).keys()].filter((path) => path.includes("/migrations/")).sort();
    const first = await migrations();
    assertEquals((await add(project, ["--only", "sessions"])).code, 0);
    assertEquals((await migrations()).slice(0, -1), first);
    assertMatch((await migrations()).at(-1)!, /_threadbase_sessions\.sql$/);
    const { stdout } = await add(project);
    assertMatch(stdout, /: conversations, sessions, responses\nNothing has changed\.\n$/);
  });

  await t.step("pushed and called, beside its own", async () => {
    const dataDir = join(project.path, ".local");
    const stack = await startStack({ root: project.path, port: 0, dbPort: 0, dataDir, postgresBin });
    try {
      const supabase = createClient(stack.apiUrl, stack.publishableKey, {
        auth: { persistSession: false, autoRefreshToken: false },
      });
      await supabase.auth.signUp({ email: "ada@example.com", password: "long enough" });
      const invoke = async (path: string, options: { method?: "GET" | "DELETE"; body?: object } = {}) => {
        const { data, error } = await supabase.functions.invoke(path, options);
        return error ? await error.context.json() : data;
      };
      assertEquals(await invoke("hello"), { hello: "theirs" });
      assertEquals(await invoke("users"), { hello: "theirs" });
      const { id } = await invoke("conversations", {
        body: { messages: [{ role: "user", content: "Remember me." }] },
      });
      const { data: [message] } = await invoke(`conversations/${id}/messages`, { method: "GET" });
      assertEquals([message.sequence_order, message.content], [1, "Remember me."]);
      const session = await invoke("sessions", { body: { conversation_id: id } });
      const logged = await invoke(`sessions/${session.id}/events`, {
        body: { events: [{ event_type: "user_message", content: { text: "Hello?" } }] },
      });
      assertEquals(logged.last_sequence, 1, JSON.stringify(logged));
      const erased = await supabase.functions.invoke("conversations?confirm=all", { method: "DELETE" });
      assertEquals(erased.error, null);
      assertEquals((await supabase.functions.invoke("documents/notes/find", { body: {} })).error?.context.status, 404);
    } finally {
      await stack.stop();
    }
  });

  await t.step("an update: what was changed there stays and is shown, the rest follows", async () => {
    await using release = await newRelease();
    const change = async (file: string, from: string, to: string) => {
      const source = await release.read(file);
      assertStringIncludes(source, from);
      await release.write(file, source.replace(from, to));
    };
    const functions = "supabase/functions";
    await change(`${functions}/conversations/app.ts`, "export const app", "// Newer.\nexport const app");
    await change(`${functions}/sessions/app.ts`, "export const app", "// Newer.\nexport const app");
    await Deno.remove(join(release.path, `${functions}/responses/openapi.ts`));
    await change("supabase/migrations/20261128103000_sessions.sql", "create table public.sessions", "-- Newer.\n$&");
    await release.write(
      "supabase/migrations/20270101000000_sessions_colour.sql",
      "alter table private.event_counts add colour text;\n",
    );

    const theirs = `// Theirs.\n${await project.read(`${functions}/conversations/app.ts`)}`;
    await project.write(`${functions}/conversations/app.ts`, theirs);
    const before = await project.files();
    // Interrupted after the first file, it goes on.
    const [whole, first] = ["of write) await save", "of [...write].slice(0, 1)) await save"];
    await change("local/add.ts", whole, first);
    await change("local/add.ts", "for (const path of remove)", "Deno.exit(9);\n$&");
    assertEquals((await add(project, [], release.path)).code, 9);
    await change("local/add.ts", first, whole);
    await change("local/add.ts", "Deno.exit(9);", "");
    const { code, stdout, stderr } = await add(project, [], release.path);
    assertEquals(code, 0, stderr);
    assertMatch(
      stdout,
      /left as it is: supabase\/functions\/conversations\/app\.ts\n--- .*\n\+\+\+ .*\n@@ .*\n-\/\/ Theirs\.\n/,
    );
    assertMatch(stdout, /never rewritten:\n {2}supabase\/migrations\/\d+_threadbase_sessions\.sql\n/);
    assertStringIncludes(stdout, "functions deploy sessions responses\n");

    const after = await project.files();
    const changed = [...new Set([...before.keys(), ...after.keys()])].filter((path) =>
      before.get(path) !== after.get(path)
    );
    const colour = changed.find((path) => path.endsWith("_threadbase_sessions_colour.sql"))!;
    assertEquals(changed.sort(), [
      `${functions}/responses/openapi.ts`,
      `${functions}/sessions/app.ts`,
      colour,
      "supabase/threadbase.json",
    ]);
    assertEquals(after.get(`${functions}/responses/openapi.ts`), undefined);
    assertStringIncludes(after.get(`${functions}/sessions/app.ts`)!, "// Newer.");
    assertEquals(colour, [...after.keys()].filter((path) => path.includes("/migrations/")).sort().at(-1));

    // A migration that is applied nowhere is deleted, and comes anew under its name.
    const [sessions] = stdout.match(/supabase\/migrations\/\d+_threadbase_sessions\.sql/)!;
    await Deno.remove(join(project.path, sessions));
    await add(project, [], release.path);
    assertStringIncludes(await project.read(sessions), "-- Newer.");
  });
});
