// What docs/limits.md says holds in the database too: for /rest/v1, and for functions that are called directly.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { connect, newConversation, signUp, type TestUser } from "../support/stack.ts";

const alice = await signUp();

/** Runs as a user, and leaves nothing behind. */
async function as<T>(
  user: TestUser,
  work: (sql: postgres.TransactionSql, owner: <R>(query: () => Promise<R>) => Promise<R>) => Promise<T>,
): Promise<T> {
  const sql = connect();
  const undo = new Error("undone");
  let result: T;
  try {
    await sql.begin(async (tx) => {
      const become = async () => {
        await tx`select set_config('request.jwt.claims', ${
          JSON.stringify({ sub: user.id, role: "authenticated" })
        }, true)`;
        await tx`set local role authenticated`;
      };
      await become();
      result = await work(tx, async (query) => {
        await tx`reset role`;
        return await query().finally(become);
      });
      throw undo;
    });
  } catch (error) {
    if (error !== undo) throw error;
  } finally {
    await sql.end();
  }
  return result!;
}

/** "" for what went well, else the SQLSTATE and the message (or the detail of a refusal). */
async function outcome(
  sql: postgres.TransactionSql,
  query: (tx: postgres.TransactionSql) => Promise<unknown>,
): Promise<string> {
  try {
    await sql.savepoint(async (point) => {
      await query(point);
    });
    return "";
  } catch (error) {
    const { code, message, detail } = error as postgres.PostgresError;
    return `${code} ${code.startsWith("PT") ? `${message}: ${detail}` : message}`;
  }
}

const JSON_VALUES = ["1", '"text"', "true", "null", "[]", "[1]", "[null]", "[[]]", "{}", '{"x": 1}', null];

Deno.test("JSON of any shape is answered or refused by every function, in words of its own", async () => {
  await as(alice, async (sql) => {
    const parameters = await sql<{ name: string; arguments: { name: string; type: string; required: boolean }[] }[]>`
      select p.oid::regproc::text as name, json_agg(json_build_object(
        'name', a.name, 'type', a.type::regtype, 'required', a.n <= p.pronargs - p.pronargdefaults
      ) order by a.n) as arguments
      from pg_proc p
      cross join lateral unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as a (name, type, n)
      where p.pronamespace = 'public'::regnamespace and 'jsonb'::regtype = any (p.proargtypes)
      group by p.oid`;
    assert(parameters.length > 15);
    const [{ id }] = await sql`insert into conversations (title) values ('x') returning id`;
    const dummies: Record<string, string> = {
      uuid: `'${id}'`,
      text: "'x'",
      integer: "1",
      jsonb: "'[]'",
      boolean: "true",
    };
    const unclear: string[] = [];
    for (const { name, arguments: all } of parameters) {
      for (const { name: argument } of all.filter(({ type }) => type === "jsonb")) {
        for (const value of JSON_VALUES) {
          const given = all.filter((a) => a.name === argument || a.required).map((a) =>
            `${a.name} => ${a.name === argument ? (value === null ? "null" : `'${value}'`) : dummies[a.type]}`
          );
          const result = await outcome(sql, (tx) => tx.unsafe(`select ${name}(${given})`));
          if (!/^(|PT4\d\d .*)$/.test(result)) unclear.push(`${name}(${given}): ${result}`);
        }
      }
    }
    assertEquals(unclear, []);
  });
});

/** The rules of the rows that clients write, each broken by just too much, and kept by just not. */
const limits: [table: string, columns: Record<string, string>, constraint: string, tooMuch: string, enough: string][] =
  [];
const deep = (levels: number) => `('${"[".repeat(levels)}1${"]".repeat(levels)}')::jsonb`;
const text = (length: number) => `repeat('é', ${length})`;
const metadata = (bytes: number) => `jsonb_build_object('k', repeat('x', ${bytes - '{"k": ""}'.length}))`;
const numbers = (count: number) => `('[' || repeat('1e-16383,', ${count}) || '0]')::jsonb`;
const message = { conversation_id: "$id", role: "'user'", content: "'x'" };
for (const name of ["name", "model", "item_id"]) {
  limits.push(["conversation_messages", message, name, text(257), text(256)]);
}
limits.push(
  ["conversation_messages", message, "content", "repeat('x', 4194305)", "repeat('x', 4194304)"],
  ["conversation_messages", message, "type", text(65), text(64)],
  ["conversation_messages", message, "tool_call_id", text(65537), text(65536)],
  ["conversation_messages", message, "metadata", metadata(65537), metadata(65536)],
  ["conversation_messages", message, "parts", "'{}'", "'[]'"],
  ["conversation_messages", message, "parts:size", numbers(600), numbers(500)],
  ["conversation_messages", message, "parts:depth", deep(102), deep(100)],
  ["conversation_messages", message, "role", "'nobody'", "'tool'"],
  ["conversation_messages", { ...message, content: "null" }, "content:body", "null", "''"],
  ["conversations", {}, "title", text(1001), text(1000)],
  ["conversations", {}, "summary", text(65537), text(65536)],
  ["conversations", {}, "metadata", metadata(65537), metadata(65536)],
  ["sessions", {}, "summary", text(65537), text(65536)],
  ["sessions", {}, "metadata", "'[]'", metadata(65536)],
);
const event = { session_id: "$session", event_type: "'x'", content: "'1'" };
limits.push(
  ["event_logs", event, "event_type", text(65), text(64)],
  ["event_logs", event, "source", text(257), text(256)],
  ["event_logs", event, "trace_id", text(257), text(256)],
  ["event_logs", event, "content", numbers(600), numbers(500)],
  ["event_logs", event, "content", deep(102), deep(100)],
  ["event_logs", event, "occurred_at", "now() - interval '169 hours'", "now() - interval '167 hours'"],
);

Deno.test("a row is bounded whoever writes it, and the error names the rule, not the value", async () => {
  const id = await newConversation(alice);
  const { body: session } = await alice.request("POST", "/sessions", { body: {} });
  await as(alice, async (sql) => {
    for (const [table, row, rule, tooMuch, enough] of limits) {
      const [column, name = column] = rule.split(":");
      const insert = (value: string) => {
        const values: Record<string, string> = { ...row, [column]: value };
        const list = Object.values(values).map((value) =>
          value.replace("$id", `'${id}'`).replace("$session", `'${session.id}'`)
        );
        return outcome(sql, (tx) => tx.unsafe(`insert into ${table} (${Object.keys(values)}) values (${list})`));
      };
      assertEquals(await insert(enough), "", `${table}.${rule}`);
      const refused = await insert(tooMuch);
      assert(refused.startsWith(`23514 ${name} of ${table} `) && refused.length < 200, `${table}.${rule}: ${refused}`);
    }
  });
  const { error } = await alice.client.from("conversations").update({ title: "x".repeat(1001) }).eq("id", id);
  assertEquals([error?.code, error?.message], ["23514", "title of conversations has more than 1,000 characters."]);
});

Deno.test("a call brings 1,000 messages, events, documents or items at most", async () => {
  const id = await newConversation(alice);
  const { body: session } = await alice.request("POST", "/sessions", { body: {} });
  await as(alice, async (sql) => {
    const many = (value: unknown, count: number) => JSON.stringify(Array(count).fill(value));
    const calls: [name: string, call: (count: number) => string][] = [
      ["append_messages", (n) => `'${id}', '${many({ role: "user", content: "" }, n)}'`],
      ["create_conversation", (n) => `'{}', '${many({ role: "user", content: "" }, n)}'`],
      ["append_events", (n) => `'${session.id}', '${many({ event_type: "x", content: 1 }, n)}'`],
      ["insert_documents", (n) => `'c', '${many({}, n)}'`],
      ["append_items", (n) => `'${id}', '${many({ role: "user", content: "" }, n)}'`],
      ["create_conversation_of_items", (n) => `'${many({ role: "user", content: "" }, n)}'`],
      [
        "put_response",
        (n) => `'r', '{"model": "m", "provider": "p", "output": [], "input": ${many({ type: "x" }, n)}}'`,
      ],
    ];
    for (const [name, call] of calls) {
      const run = (count: number) => outcome(sql, (tx) => tx.unsafe(`select ${name}(${call(count)})`));
      assertEquals(await run(1000), "", name);
      const refused = await run(1001);
      assert(/^PT400 invalid_request: .*1,?000/.test(refused), `${name}: ${refused}`);
    }
  });
});

Deno.test("a context looks at the newest 10,000 messages, and says so", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "first" }] });
  await as(alice, async (sql, owner) => {
    const fill = (count: number) =>
      owner(() =>
        sql`
        insert into conversation_messages (conversation_id, user_id, sequence_order, role, content, author)
        select ${id}, ${alice.id}, (select max(sequence_order) from conversation_messages where conversation_id = ${id}) + n,
          'user', 'x', 'user'
        from generate_series(1, ${count}::integer) n`
      );
    const context = async () => {
      const [{ context }] = await sql`select get_context(${id}, 1000000, null, true) as context`;
      return [context.messages.length, context.truncated, context.explain.left_out];
    };
    await fill(9999);
    assertEquals(await context(), [10_000, false, []]);
    await fill(1);
    assertEquals(await context(), [10_000, true, [{ from: 1, to: 1, reason: "over_budget" }]]);
  });
});

Deno.test("forks of forks are 1,000 deep at most", async () => {
  const id = await newConversation(alice);
  await as(alice, async (sql, owner) => {
    // All but the last two of a line.
    const [{ leaf }] = await owner(() =>
      sql`
      with line as materialized (
        select n, case n when 1 then ${id}::uuid else gen_random_uuid() end as id from generate_series(1, 999) n
      ), stored as (
        insert into conversations (id, user_id, parent_id, fork_sequence, last_sequence_order)
        select l.id, ${alice.id}, p.id, p.n, l.n from line l join line p on p.n = l.n - 1
      )
      select id as leaf from line where n = 999`
    );
    const fork = async (parent: string, at: number) => {
      await sql`select append_messages(${parent}, '[{"role": "user", "content": ""}]')`;
      return await sql`select fork_conversation(${parent}, ${at}) ->> 'id' as id`;
    };
    const [{ id: last }] = await fork(leaf, 1000);
    assertEquals((await sql`select count(*)::integer as n from list_messages(${last})`)[0].n, 1);
    const refused = await outcome(sql, () => fork(last, 1001));
    assert(refused.startsWith("PT409 fork_limit: "), refused);
    // What a fork does not share with the line does not count.
    assertEquals((await sql`select fork_conversation(${last}, 0) -> 'parent_id' as parent`)[0].parent, null);
  });
});

Deno.test("a session has 256 types of events in a quarter of an hour, and analytics a million counts", async () => {
  const bob = await signUp();
  const { body: session } = await bob.request("POST", "/sessions", { body: {} });
  await as(bob, async (sql, owner) => {
    const append = (count: number) =>
      outcome(sql, (tx) =>
        tx`
        select append_events(${session.id}, (
          select jsonb_agg(jsonb_build_object('event_type', 't' || n, 'content', 1, 'occurred_at', now()))
          from generate_series(1, ${count}::integer) n
        ))`);
    assertEquals(await append(256), "");
    assertEquals(await append(256), "", "they are known");
    const refused = "PT400 invalid_request: event_type: a session has at most 256 types in a quarter of an hour.";
    assertEquals(await append(257), refused);
    const insert = (type: string) =>
      outcome(
        sql,
        (tx) => tx`insert into event_logs (session_id, event_type, content) values (${session.id}, ${type}, '1')`,
      );
    assertEquals([await insert("t1"), await insert("more")], ["", refused]);

    // A million rows take long to write: the same function with a bound of its own.
    const analytics = () =>
      outcome(sql, (tx) =>
        tx`
        select session_analytics(p_to => date_bin('15 minutes', now(), '2000-01-01 00:00:00+00') + interval '15 minutes')`);
    assertEquals(await analytics(), "");
    const bounded = async (counts: number) => {
      await owner(async () => {
        const [{ source }] = await sql`select pg_get_functiondef('private.session_analytics'::regproc) as source`;
        await sql.unsafe(source.replace(/(c_max_counts constant integer := )\d+/, `$1${counts}`));
      });
      return await analytics();
    };
    assertEquals(await bounded(256), "");
    assert((await bounded(255)).startsWith("PT400 invalid_request: The window has more than"));
  });
});
