// What is left of a user where SQL does not look: in the planner's statistics, and in the files of the database.
import { assert, assertEquals } from "@std/assert";
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
