// The export of a user against the catalogue: no table and no column is forgotten. And what a page of it reads.
import { assert, assertEquals } from "@std/assert";
import { connect, signUp } from "../support/stack.ts";
import { exportLines, furnish, type Line } from "../support/users.ts";

/** Whose row it is: the first line of the file says it. */
const OWNER = ["user_id", "owner_id"];

/** How the rows of each table with somebody's data are told. */
const EXPORTED: Record<string, {
  type: string;
  /** The object in the line that has the columns, where it is not the line. */
  in?: string;
  /** Columns under another name. */
  renamed?: Record<string, string>;
  /** Columns that are not told, and why. */
  omitted?: Record<string, string>;
}> = {
  "public.videos": { type: "video", in: "video" },
  "public.conversations": { type: "conversation", renamed: { deleted_at: "deleted" } },
  "public.conversation_messages": { type: "message", renamed: { type: "message_type" } },
  "public.conversation_states": {
    type: "response",
    omitted: {
      request_hash: "A hash of what the messages say.",
      history_hash: "A hash of what the messages say.",
    },
  },
  "public.sessions": { type: "session" },
  "public.event_logs": { type: "event" },
  "private.event_counts": { type: "event_count" },
  "public.documents": {
    type: "document",
    renamed: { id: "document", version: "document", creation_utc: "document", data: "document" },
    omitted: { sort_at: "creation_utc, as a time." },
  },
  "public.document_failures": {
    type: "document_failure",
    renamed: { id: "document", version: "document", creation_utc: "document", data: "document" },
    omitted: { sort_at: "creation_utc, as a time." },
  },
  "private.collection_versions": { type: "collection_version" },
  "private.idempotency_keys": {
    type: "idempotency_key",
    omitted: {
      request_hash: "A hash of a request.",
      result: "Which rows it has made: they are there themselves.",
    },
  },
};

/** Tables whose rows are no part of an export, and why. */
const LEFT_OUT: Record<string, string> = {
  "private.erasures": "Receipts: how much was removed, and when.",
  "private.erasure_conversations": "A queue: conversations that an erasure is about to remove.",
  "private.deleted_messages": "Where messages stood that were deleted within the day: ids and a number.",
  "private.imports": "Imports that are not finished: nobody sees them before they are, and after a day they are gone.",
  "private.import_sources": "Which chat of an import a conversation was: its metadata and its messages' ids say so.",
  "private.quotas": "What the operator allows: GET /users/me/quotas tells it.",
  "private.quota_use": "Counts of a day: GET /users/me/quotas tells them.",
  "private.prune_queue": "A queue: what deletions have left behind.",
  "private.search_filters": "Hashes of the words that messages have.",
  "private.unsummarized_sessions": "A queue: sessions that are there themselves.",
  "private.response_conversations": "Which conversations go with their last response: those are there themselves.",
};

Deno.test("every table with data of users is exported, with every column, or says why it is not", async () => {
  const sql = connect();
  // By the name of a column, or by a foreign key to such a table. A partition is its parent.
  const tables = await sql<{ name: string; columns: string[] }[]>`
    with recursive owned as (
      select c.oid
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attname in ${sql(OWNER)} and not a.attisdropped
      where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
        and c.relkind in ('r', 'p') and not c.relispartition
      union
      select c.oid
      from owned o
      join pg_constraint k on k.confrelid = o.oid and k.contype = 'f'
      join pg_class c on c.oid = k.conrelid and not c.relispartition
    )
    select
      format('%s.%s', c.relnamespace::regnamespace, c.relname) as name,
      array_agg(a.attname::text) as columns
    from owned o
    join pg_class c on c.oid = o.oid
    join pg_attribute a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
    group by 1
    order by 1`;
  assertEquals(
    tables.map((table) => table.name),
    Object.keys({ ...EXPORTED, ...LEFT_OUT }).toSorted(),
    "export the rows of a new table, or say here why not",
  );

  const alice = await signUp();
  await furnish(alice, "x");
  const lines = await exportLines(alice.request);
  for (const { name, columns } of tables.filter((table) => table.name in EXPORTED)) {
    const { type, in: inner, renamed = {}, omitted = {} } = EXPORTED[name];
    const rows = lines.filter((line) => line.type === type);
    assert(rows.length > 0, `${name} has lines`);
    const told = new Set(rows.flatMap((line) => Object.keys(inner ? line[inner] : line)));
    const expected = columns.filter((column) => !OWNER.includes(column) && !(column in omitted));
    assertEquals(expected.filter((column) => !told.has(renamed[column] ?? column)), [], name);
    const { n } = (await sql`
      select count(*)::int as n from ${sql(name)} t
      where coalesce(to_jsonb(t) ->> 'user_id', to_jsonb(t) ->> 'owner_id') = ${alice.id}`)[0];
    assertEquals(rows.length, n, `${name}: every row is a line`);
  }
  await sql.end();
});

Deno.test("a page reads what it shows, wherever it begins and however much there is of others", async () => {
  const sql = connect();
  const rolledBack = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const [me, other] = [crypto.randomUUID(), crypto.randomUUID()];
      await tx`insert into auth.users (id, email) select u, u || '@example.com' from unnest(${[me, other]}::uuid[]) u`;
      // As their owner, with numbers: the trigger that numbers events stays out. One large session and many small ones.
      await tx`
        insert into sessions (user_id, start_time, created_at, last_sequence, last_event_at)
        select u, now() - n * interval '1 second', now() - interval '1 hour', case n when 1 then 20000 else 1 end, now()
        from unnest(${[me, other]}::text[]) u, generate_series(1, 5000) n`;
      await tx`
        insert into event_logs (session_id, sequence, user_id, event_type, content, occurred_at, created_at)
        select s.id, n, s.user_id, 'ai_chunk', to_jsonb(n), now(), now() - (s.last_sequence - n) * interval '1 ms'
        from sessions s, generate_series(1, s.last_sequence) n
        where s.user_id in (${me}, ${other})`;
      await tx`
        insert into private.event_counts (session_id, slot, event_type, user_id, count)
        select s.id, private.event_slot(now()), 'ai_chunk', s.user_id, s.last_sequence
        from sessions s where s.user_id in (${me}, ${other})`;
      await tx`
        insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
        select u, 'c' || n % 10, n::text, now()::text, now(), '{}'
        from unnest(${[me, other]}::uuid[]) u, generate_series(1, 20000) n`;
      await tx`analyze sessions`;
      await tx`analyze event_logs`;
      await tx`analyze private.event_counts`;
      await tx`analyze documents`;
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, true)`;
      await tx`set local role authenticated`;

      let count = 0;
      /** The blocks that each page of one kind alone has read. */
      const read: Record<string, number[]> = {};
      let cursor = {};
      while (cursor) {
        const [{ page }] = await tx`select public.export_user_page(${tx.json(cursor)}) as page`;
        const [row] = await tx`explain (analyze, buffers, format json) select public.export_user_page(${
          tx.json(cursor)
        })`;
        const { "Shared Hit Blocks": hit, "Shared Read Blocks": missed } = row["QUERY PLAN"][0].Plan;
        const lines: Line[] = page.lines.split("\n").map((line: string) => JSON.parse(line));
        const [kind, ...others] = new Set(lines.map((line) => line.type));
        // A line is a row and a probe of an index; a small session is two more probes.
        assert(hit + missed <= 5 * lines.length + 200, `${hit + missed} blocks for ${lines.length} lines of ${kind}`);
        if (others.length === 0) (read[kind] ??= []).push(hit + missed);
        count += lines.length;
        cursor = page.next;
      }
      assertEquals(count, 1 + 5000 + 24_999 + 5000 + 20_000);
      assertEquals(Object.keys(read).toSorted(), ["document", "event"]);
      for (const [kind, pages] of Object.entries(read)) {
        const [first, last] = [pages[0], pages.at(-2)!];
        assert(pages.length >= 10 && last <= first * 1.5, `pages of ${kind} read ${pages.join(", ")} blocks`);
      }
      throw rolledBack;
    });
  } catch (error) {
    if (error !== rolledBack) throw error;
  }
  await sql.end();
});

Deno.test("a page of conversations reads what it shows, however many forks somebody else has made of one", async () => {
  const sql = connect();
  const rolledBack = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const [me, other, root] = Array.from({ length: 3 }, () => crypto.randomUUID());
      await tx`insert into auth.users (id, email) select u, u || '@example.com' from unnest(${[me, other]}::uuid[]) u`;
      await tx`insert into conversations (user_id) select ${me} from generate_series(1, 1500)`;
      await tx`insert into conversations (id, user_id, last_sequence_order) values (${root}, ${other}, 1)`;
      await tx`
        insert into conversations (user_id, parent_id, fork_sequence, last_sequence_order)
        select ${other}, ${root}, 1, 1 from generate_series(1, 20000)`;
      // The statistics say now that a conversation has thousands of forks.
      await tx`analyze conversations`;
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, true)`;
      await tx`set local role authenticated`;
      const [row] = await tx`explain (analyze, buffers, format json) select public.export_user_page()`;
      const { "Shared Hit Blocks": hit, "Shared Read Blocks": missed } = row["QUERY PLAN"][0].Plan;
      assert(hit + missed <= 40 * 1000, `${hit + missed} blocks for 1,000 lines`);
      throw rolledBack;
    });
  } catch (error) {
    if (error !== rolledBack) throw error;
  }
  await sql.end();
});
