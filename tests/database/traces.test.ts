// What is left of a user where SQL does not look: in the planner's statistics, and in the files of the database.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import postgres from "postgres";
import { databaseUrl } from "../../local/postgres.ts";
import { ownDatabase } from "../support/database.ts";

/** The files of a cluster that have one of these, but for the log of changes, which ends when it has been reused. */
async function filesWith(directory: string, markers: (string | Buffer)[]): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = join(directory, name);
    if (isDirectory) {
      if (name !== "pg_wal") found.push(...await filesWith(path, markers));
    } else {
      const bytes = Buffer.from(await Deno.readFile(path).catch(() => new Uint8Array())); // a temporary one, gone meanwhile
      if (markers.some((marker) => bytes.includes(marker))) found.push(path);
    }
  }
  return found;
}

Deno.test("nothing of a user is left in statistics after an erasure, nor in the files once they are written anew", async () => {
  await using own = await ownDatabase();
  const { sql } = own;
  await using running = new AsyncDisposableStack();
  const admin = postgres(databaseUrl("supabase_admin", Number(new URL(own.url).port)), { max: 1, onnotice: () => {} });
  running.defer(() => admin.end());
  const [{ data_directory: directory }] = await admin`show data_directory`;
  const id = crypto.randomUUID();
  const marker = `m${id.replaceAll("-", "")}`;
  const markers = [marker, id, Buffer.from(id.replaceAll("-", ""), "hex")];

  const plant = async () => {
    await sql`insert into auth.users (id, email) values (${id}, ${marker + "@example.com"})`;
    await sql`
      with c as (
        insert into conversations (user_id, title, summary, metadata, last_sequence_order)
        select ${id}, ${marker} || n % 3, ${marker}, jsonb_build_object('k', ${marker}::text), 10 from generate_series(1, 50) n
        returning id, user_id
      )
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content, name)
      select c.id, c.user_id, n, 'user', ${marker} || ' ' || n % 3, ${marker} from c, generate_series(1, 10) n`;
    await sql`
      with s as (insert into sessions (user_id, last_sequence) select ${id}, 10 from generate_series(1, 50) returning id, user_id)
      insert into event_logs (session_id, sequence, user_id, event_type, content)
      select s.id, n, s.user_id, 'user_message', to_jsonb(${marker}::text) from s, generate_series(1, 10) n`;
    await sql`
      insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
      select ${id}, ${marker}, n::text, now()::text, now(), jsonb_build_object('k', ${marker}::text || n % 3)
      from generate_series(1, 100) n`;
  };
  /** The columns of which the statistics have copied something of the user's. */
  const sampled = async () =>
    (await admin`
      select distinct s.tablename || '.' || s.attname as name from pg_stats s
      join unnest(${[marker, id]}::text[]) m on strpos(s::text, m) > 0
      where s.schemaname in ('public', 'private') order by 1`).map(({ name }) => name);

  await plant();
  await sql`analyze public.conversations, public.conversation_messages, public.sessions, public.event_logs, public.documents`;
  // Documents are what there is for a while (docs/decisions/0026), and show that the others would be seen.
  assertEquals(await sampled(), ["documents.collection", "documents.data", "documents.owner_id"]);
  await admin`checkpoint`;
  assert((await filesWith(directory, markers)).length >= 10, "the files have what is planted");

  await sql`delete from auth.users where id = ${id}`;
  assertEquals(await sampled(), [], "the last document is gone, and what was copied of it");

  await admin`checkpoint`;
  assert((await filesWith(directory, markers)).length > 0, "until then it is in pages as free space");
  await admin`vacuum full`;
  await admin`checkpoint`;
  assertEquals(await filesWith(directory, markers), []);
});

Deno.test("a value that is none of its type is refused without being quoted: Postgres logs errors", async () => {
  await using own = await ownDatabase();
  const { sql } = own;
  const id = crypto.randomUUID();
  await sql`insert into auth.users (id, email) values (${id}, 'a@example.com')`;
  const [{ id: conversation }] = await sql`insert into conversations (user_id) values (${id}) returning id`;
  const [{ id: session }] = await sql`insert into sessions (user_id) values (${id}) returning id`;
  const secret = "my secret";
  const calls: [string, unknown][] = [
    ["create_conversation($1)", { video_id: secret }],
    ["create_conversation($1)", { expires_at: secret }],
    [`update_conversation('${conversation}', $1)`, { video_id: secret }],
    [`update_conversation('${conversation}', $1)`, { expires_at: "2026-13-45" }],
    ["import_conversation($1, '[]')", { created_at: secret }],
    ["import_conversation($1, '[]')", { fork_sequence: secret }],
    ["import_conversation($1, '[]')", { continues: secret }],
    ["import_conversation($1, '[]')", { more: secret }],
    [`append_messages('${conversation}', $1)`, [{ role: "user", content: "", token_count: secret }]],
    ["import_conversation('{}', $1)", [{ role: "user", content: "", sequence_order: 1, token_count: secret }]],
    ["open_session($1)", { id: secret }],
    ["open_session($1)", { conversation_id: secret }],
    ["open_session($1)", { start_time: secret }],
    [`append_events('${session}', $1)`, [{ event_type: "x", content: {}, occurred_at: secret }]],
    ["insert_documents('c', $1)", [{ creation_utc: secret }]],
  ];
  const claims = JSON.stringify({ sub: id, role: "authenticated" });
  /** Everything that is logged of the error that a statement ends with. */
  const logged = (statement: string, parameters: string[]) =>
    sql.begin(async (tx) => {
      await tx`select set_config('request.jwt.claims', ${claims}, true)`;
      await tx`set local role authenticated`;
      await tx.unsafe(statement, parameters);
    }).then(() => "", ({ code, message, detail, where }) => `${code} ${message} ${detail} ${where}`);
  assertMatch(await logged("select $1::text::uuid", [secret]), /my secret/);
  for (const [call, value] of calls) {
    const error = await logged(`select public.${call.replace("$1", "$1::text::jsonb")}`, [JSON.stringify(value)]);
    assertMatch(error, /^PT400 invalid_request /, call);
    assert(!error.includes(secret) && !error.includes("2026-13-45"), error);
  }
});
