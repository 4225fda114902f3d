// A new column is exported, imported, cleared in a tombstone and erased, whoever adds it. And the columns that there are:
// what answers show and what clients write of them is decided for each.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { conversation, message, messageInput, updateBody } from "../../supabase/functions/conversations/schemas.ts";
import { response } from "../../supabase/functions/responses/schemas.ts";
import { event, session } from "../../supabase/functions/sessions/schemas.ts";
import { failure } from "../../supabase/functions/documents/schemas.ts";
import { undone } from "../../local/migrations.ts";
import { ownDatabase } from "../support/database.ts";

type Sql = postgres.TransactionSql;
// deno-lint-ignore no-explicit-any -- every kind of row
type Row = Record<string, any>;

const server = "Set by the database.";
const owner = "Whose it is: for those who may see the row that is no news, and it is in the first line of an export.";

/** What an answer shows of a table: its schema, and the columns that it does not have, and why. */
const ANSWERS: Record<string, { schema: string; keys: string[]; omitted: Record<string, string> }> = {
  "public.conversations": {
    schema: "conversation in supabase/functions/conversations/schemas.ts",
    keys: Object.keys(conversation.shape),
    omitted: { deleted_at: "What is deleted is not shown." },
  },
  "public.conversation_messages": {
    schema: "message in supabase/functions/conversations/schemas.ts and private.listed_message",
    keys: Object.keys(message.shape),
    omitted: {
      user_id: owner,
      source: "For what converts messages to the formats of other APIs.",
    },
  },
  "public.sessions": {
    schema: "session in supabase/functions/sessions/schemas.ts",
    keys: Object.keys(session.shape),
    omitted: {},
  },
  "public.event_logs": {
    schema: "event in supabase/functions/sessions/schemas.ts",
    keys: Object.keys(event.shape),
    omitted: { user_id: owner },
  },
  "public.conversation_states": {
    schema: "response in supabase/functions/responses/schemas.ts",
    keys: Object.keys(response.shape),
    omitted: {
      user_id: owner,
      after_sequence: "A place in its conversation.",
      input_sequence: "A place in its conversation.",
      sequence_order: "A place in its conversation.",
      request_hash: "A hash of what the items say.",
      history_hash: "A hash of what the items say.",
    },
  },
  "public.document_failures": {
    schema: "failure in supabase/functions/documents/schemas.ts",
    keys: Object.keys(failure.shape),
    omitted: {
      owner_id: owner,
      collection: "In the path.",
      id: "In the document.",
      version: "In the document.",
      creation_utc: "In the document.",
      sort_at: "creation_utc, as a time.",
      data: "In the document.",
    },
  },
};

/** The columns that no client inserts or updates through the REST API, and why. All others are granted. */
const NOT_WRITTEN: Record<string, Record<string, string>> = {
  "public.videos": { created_at: server },
  "public.conversations": {
    parent_id: "A fork is made by a function, which checks and locks what it shares.",
    fork_sequence: "As parent_id.",
    last_sequence_order: server,
    deleted_at: "Deletion is a function.",
    created_at: server,
    updated_at: server,
  },
  "public.conversation_messages": { author: "It could be forged.", created_at: server },
  "public.sessions": {
    conversation_id: "Its owner has to be checked.",
    duration: "Generated.",
    last_sequence: server,
    last_event_at: server,
    created_at: server,
  },
  "public.event_logs": { sequence: server, user_id: server, created_at: server },
};

/** Tables that clients write through functions alone. */
const BY_FUNCTIONS = ["public.conversation_states", "public.documents", "public.document_failures"];

const VALUE = "a new field of ";

async function columnsByTable(sql: Sql): Promise<Map<string, string[]>> {
  const rows = await sql<{ name: string; columns: string[] }[]>`
    select format('%s.%s', c.relnamespace::regnamespace, c.relname) as name,
      array_agg(a.attname::text order by a.attnum) as columns
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    group by 1
    order by 1`;
  return new Map(rows.map(({ name, columns }) => [name, columns]));
}

/** Somebody with a row in every public table; of conversations a living one, a tombstone and its fork. */
async function furnish(sql: Sql) {
  const user = await newUser(sql);
  const call = async (name: string, args: Row): Promise<Row> => {
    const names = Object.keys(args);
    const [{ answer }] = await sql.unsafe(
      `select public.${name}(${names.map((key, i) => `${key} => $${i + 1}`)}) as answer`,
      names.map((key) => typeof args[key] === "object" ? sql.json(args[key]) : args[key]),
    );
    return answer;
  };
  await sql`insert into videos (user_id, title) values (${user}, 'A video')`;
  const p_user_id = user;
  const living = (await call("create_conversation", {
    p_conversation: { title: "Living" },
    p_messages: [{ role: "user", content: "Hello" }],
    p_user_id,
  })).id;
  const tombstone = (await call("create_conversation", {
    p_conversation: { title: "Dead" },
    p_messages: [{ role: "user", content: "Hello" }, { role: "assistant", content: "Bye" }],
    p_user_id,
  })).id;
  const fork = (await call("fork_conversation", { p_conversation_id: tombstone, p_at: 1, p_user_id })).id;
  await call("put_response", {
    p_response_id: "resp_1",
    p_response: {
      input: "Hello",
      output: [{ type: "message", role: "assistant", content: "Hi" }],
      model: "m",
      provider: "p",
    },
    p_user_id,
  });
  const sessionId = (await call("open_session", { p_user_id })).session.id;
  await call("append_events", {
    p_session_id: sessionId,
    p_events: [{ event_type: "system", content: "x" }],
    p_user_id,
  });
  await call("insert_documents", { p_collection: "c", p_documents: [{ id: "kept" }, { id: "failed" }], p_user_id });
  await call("fail_document", { p_collection: "c", p_id: "failed", p_reason: "r", p_user_id });
  return { user, call, living, tombstone, fork, sessionId };
}

async function newUser(sql: Sql): Promise<string> {
  const id = crypto.randomUUID();
  await sql`insert into auth.users (id, email) values (${id}, ${`${id}@example.com`})`;
  return id;
}

/** The lines of an export, by `export_page` (conversations) or `export_user_page` (everything). */
async function exportLines(sql: Sql, page: string, user: string): Promise<Row[]> {
  const lines: Row[] = [];
  for (let cursor: Row | null = {}; cursor;) {
    const [{ answer }]: Row[] = await sql.unsafe(`select public.${page}($1, $2) as answer`, [sql.json(cursor), user]);
    lines.push(...answer.lines.split("\n").filter(Boolean).map((line: string) => JSON.parse(line)));
    cursor = answer.next;
  }
  return lines;
}

/** Imports the conversations of an export to another user, as the function `conversations` does. */
async function importLines(sql: Sql, lines: Row[], user: string): Promise<void> {
  const ids = new Map<string, string>();
  for (const { type: _, id, user_id: __, ...line } of lines.filter(({ type }) => type === "conversation")) {
    const messages = lines.filter((other) => other.type === "message" && other.conversation_id === id)
      .map(({ type: _, message_type, id: __, conversation_id: ___, ...rest }) => ({ ...rest, type: message_type }));
    const whole = { ...line, parent_id: line.parent_id && ids.get(line.parent_id) };
    const [{ answer }] = await sql`
      select public.import_conversation(${sql.json(whole)}, ${sql.json(messages as Row[])}, ${user}) as answer`;
    ids.set(id, answer.id);
  }
}

const everyRow = async (sql: Sql, table: string, user: string): Promise<Row[]> =>
  (await sql`
    select to_jsonb(t) as row from ${sql(table)} t
    where coalesce(to_jsonb(t) ->> 'user_id', to_jsonb(t) ->> 'owner_id') = ${user}`).map(({ row }) => row);

Deno.test("columns", async (t) => {
  await using database = await ownDatabase();
  await database.sql.unsafe(`set request.jwt.claims = '{"role": "service_role"}'`);

  await t.step(
    "a new one is exported, imported, cleared in a tombstone and erased, in every public table",
    async () => {
      await undone(database.sql, async (sql) => {
        const tables = [...(await columnsByTable(sql)).keys()];
        for (const table of tables) await sql.unsafe(`alter table ${table} add column new_field text`);
        const { user, call, tombstone, fork } = await furnish(sql);
        for (const table of tables) {
          assert((await everyRow(sql, table, user)).length > 0, `${table} has a row of the user`);
          await sql.unsafe(`update ${table} set new_field = '${VALUE}${table}'`);
        }

        // Here and there again: what a document has, it has among the failed ones, too.
        const moved = { p_collection: "c", p_id: "kept", p_user_id: user };
        await call("fail_document", { ...moved, p_reason: "r" });
        await call("restore_document", moved);

        await call("delete_conversation", { p_conversation_id: tombstone, p_user_id: user });
        const [{ row: cleared }] = await sql`select to_jsonb(c) as row from conversations c where c.id = ${tombstone}`;
        assert(cleared.deleted_at, "the fork keeps it as a tombstone");
        const [{ kept }] = await sql`select private.tombstone_columns() as kept`;
        const [{ row: fresh }] = await sql`
        insert into conversations as c (user_id) values (${await newUser(sql)}) returning to_jsonb(c) as row`;
        const left = Object.keys(cleared).filter((name) => !kept.includes(name))
          .filter((name) => JSON.stringify(cleared[name]) !== JSON.stringify(fresh[name]));
        assertEquals(left, [], "columns that a tombstone still has: private.hide_conversations");

        const all = await exportLines(sql, "export_user_page", user);
        const told = all.map((line) => JSON.stringify(line));
        const untold = tables.filter((table) => !told.some((line) => line.includes(`"${VALUE}${table}"`)));
        assertEquals(untold, [], "tables of which private.export_user_page leaves the column out");

        const exported = await exportLines(sql, "export_page", user);
        const withField = (lines: Row[]) => lines.map((line) => [line.type, line.deleted, line.new_field ?? null]);
        assertEquals(withField(exported).filter(([type, deleted]) => type === "conversation" && deleted), [
          ["conversation", true, null],
        ]);
        const other = await newUser(sql);
        await importLines(sql, exported, other);
        const again = await exportLines(sql, "export_page", other);
        assertEquals(withField(again).toSorted(), withField(exported).toSorted(), "private.import_conversation");

        // A fork shares messages, and begins with what private.fork_conversation names.
        const next = await call("fork_conversation", { p_conversation_id: fork, p_at: 1, p_user_id: user });
        assertEquals(next.new_field, null);

        const { id } = await call("erase_user", { p_user_id: user });
        for (let i = 0; i < 100; i++) {
          await sql`select private.advance_erasure(${id}, interval '1 second')`;
          const [{ finished_at, error }] = await sql`select * from private.erasures where id = ${id}`;
          assertEquals(error, null);
          if (finished_at) break;
        }
        for (const table of tables) {
          assertEquals(await everyRow(sql, table, user), [], `${table}: an erasure leaves rows`);
        }
      });
    },
  );

  await t.step("answers have every column, or say why not", async () => {
    await undone(database.sql, async (sql) => {
      const { user, call, living, sessionId } = await furnish(sql);
      const answers: Record<string, Row> = {
        "public.conversations": await call("get_conversation", { p_conversation_id: living, p_user_id: user }),
        "public.conversation_messages":
          (await call("list_messages", { p_conversation_id: living, p_user_id: user })).data[0],
        "public.sessions": await call("get_session", { p_session_id: sessionId, p_user_id: user }),
        "public.event_logs": (await call("list_events", { p_session_id: sessionId, p_user_id: user })).data[0],
        "public.conversation_states": await call("get_response", {
          p_response_id: "resp_1",
          p_items: false,
          p_user_id: user,
        }),
        "public.document_failures": (await call("list_failures", { p_collection: "c", p_user_id: user })).data[0],
      };
      const columns = await columnsByTable(sql);
      for (const [table, { schema, keys, omitted }] of Object.entries(ANSWERS)) {
        assertEquals(Object.keys(answers[table]).toSorted(), keys.toSorted(), `${table}: ${schema}`);
        const undecided = columns.get(table)!.filter((name) => !keys.includes(name) && !(name in omitted));
        assertEquals(undecided, [], `${table}: columns to add to ${schema}, or to leave out in ANSWERS`);
      }
    });
  });

  await t.step("a message of a page, of a fork's page and of an append is the same", async () => {
    await undone(database.sql, async (sql) => {
      const { user, call, living } = await furnish(sql);
      const written = {
        type: "message",
        role: "assistant",
        content: "Words",
        parts: [{ type: "text", text: "Words" }],
        name: "n",
        function_call: { name: "f", arguments: "{}" },
        tool_calls: [{ id: "c" }],
        tool_call_id: "c",
        item_id: "i",
        model: "m",
        usage: { total_tokens: 1 },
        status: "incomplete",
        token_count: 1,
        metadata: { a: 1 },
      };
      assertEquals(
        Object.keys(written).toSorted(),
        Object.keys(messageInput.shape).toSorted(),
        "every field has a value",
      );
      const batch = { p_conversation_id: living, p_messages: [written], p_user_id: user };
      const [appended] = (await call("append_messages", { ...batch, p_idempotency_key: "k" })).messages;
      const [without] = (await call("append_messages", {
        ...batch,
        p_messages: [{ ...written, item_id: null }],
      })).messages;
      const fork = (await call("fork_conversation", { p_conversation_id: living, p_at: 3, p_user_id: user })).id;
      const page = async (id: string) =>
        (await call("list_messages", { p_conversation_id: id, p_after: 1, p_user_id: user })).data;
      assertEquals(await page(living), [appended, without]);
      assertEquals(await page(fork), [appended, without].map((row) => ({ ...row, conversation_id: fork })));
      for (const [name, value] of Object.entries(written)) assertEquals(appended[name], value, name);
      const other = { ...batch, p_messages: [{ ...written, item_id: "other" }] };
      await call("append_messages", other);
      for (const name of Object.keys(written).filter((name) => name !== "item_id")) {
        const value = { type: "other", role: "user", status: "complete", token_count: 2 }[name] ??
          (typeof written[name as keyof typeof written] === "string" ? "other" : name.endsWith("s") ? [] : { b: 1 });
        const changed = { ...written, item_id: "other", [name]: name === "usage" ? { b: 1 } : value };
        const conflict = await sql.savepoint((inner) =>
          inner`select public.append_messages(${living}, ${inner.json([changed])}, p_user_id => ${user})`
        ).then(() => null, (error) => error.message);
        assertEquals(conflict, "item_conflict", `private.known_items compares ${name}`);
      }
    });
  });

  await t.step("clients write every column through the REST API, or it is said why not", async () => {
    await undone(database.sql, async (sql) => {
      for (const [table, columns] of await columnsByTable(sql)) {
        const granted = (await sql`
          select a.attname as name
          from pg_attribute a
          where a.attrelid = ${table}::regclass and a.attnum > 0 and not a.attisdropped
            and (has_column_privilege('authenticated', a.attrelid, a.attnum, 'insert')
              or has_column_privilege('authenticated', a.attrelid, a.attnum, 'update'))`).map(({ name }) => name);
        if (BY_FUNCTIONS.includes(table)) {
          assertEquals(granted, [], table);
          continue;
        }
        const undecided = columns.filter((name) => !granted.includes(name) && !(name in NOT_WRITTEN[table]));
        assertEquals(undecided, [], `${table}: columns to grant in its tables.sql, or to name in NOT_WRITTEN`);
        const forged = granted.filter((name) => name in NOT_WRITTEN[table]);
        assertEquals(forged, [], `${table}: columns that are granted against NOT_WRITTEN`);
      }
      // PATCH takes what an update through the REST API takes, and says archived for archived_at.
      const patched = Object.keys(updateBody.shape).map((name) => name === "archived" ? "archived_at" : name);
      const updatable = await sql`
        select a.attname as name from pg_attribute a
        where a.attrelid = 'public.conversations'::regclass and a.attnum > 0 and not a.attisdropped
          and has_column_privilege('authenticated', a.attrelid, a.attnum, 'update')`;
      assertEquals(updatable.map(({ name }) => name).toSorted(), patched.toSorted(), "updateBody");
    });
  });
});
