// What the hot paths read, on a table with a million messages of other people.
import { assert, assertEquals } from "@std/assert";
import { ownDatabase } from "../support/database.ts";

interface PlanNode {
  "Node Type": string;
  "Index Name"?: string;
  "Index Cond"?: string;
  "Actual Rows": number;
  "Actual Loops": number;
  "Rows Removed by Filter"?: number;
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  Plans?: PlanNode[];
}

const flatten = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flatten)];

Deno.test("a page loads by an index range scan among a million foreign messages", async () => {
  // Of its own: what is left of a million rows makes every other test slow that meets the table.
  await using database = await ownDatabase();
  await database.sql.begin(async (tx) => {
    const me = crypto.randomUUID();
    const users = [me, ...Array.from({ length: 1000 }, () => crypto.randomUUID())];
    await tx`insert into auth.users (id, email) select u, u || '@example.com' from unnest(${users}::uuid[]) u`;
    // As the owner, with numbers: the trigger that numbers rows stays out, as it does for a restore. Short text, and ids at
    // hand: making these is a quarter of the work.
    await tx`
        with c as (
          insert into conversations (user_id, last_sequence_order)
          select u, 1000 from unnest(${users.slice(1)}::uuid[]) u
          returning id, user_id
        )
        insert into conversation_messages (id, conversation_id, user_id, sequence_order, role, content)
        select lpad(to_hex(row_number() over ()), 32, '0')::uuid, c.id, c.user_id, n, 'assistant', 'x' from c, generate_series(1, 1000) n`;
    const [{ id }] = await tx`
        insert into conversations (user_id, last_sequence_order) values (${me}, 500) returning id`;
    await tx`
        insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
        select ${id}, ${me}, n, 'user', 'message ' || n from generate_series(1, 500) n`;
    await tx`analyze conversations`;
    await tx`analyze conversation_messages`;

    await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, true)`;
    await tx`set local role authenticated`;
    const explain = async (query: string, values: (string | number)[]): Promise<PlanNode[]> => {
      const [row] = await tx.unsafe(`explain (analyze, buffers, format json) ${query}`, values);
      return flatten(row["QUERY PLAN"][0].Plan);
    };

    // The query of list_messages, with row level security on.
    const page = await explain(
      `select * from public.conversation_messages m
         where m.conversation_id = $1 and m.sequence_order > $2 and m.sequence_order < $3
         order by m.sequence_order limit 51`,
      [id, 100, 2_147_483_647],
    );
    const scan = page.find((node) => node["Index Name"])!;
    assert(/conversation_id = .*sequence_order > .*sequence_order < /.test(scan["Index Cond"]!), scan["Index Cond"]);
    assertEquals([scan["Actual Rows"], scan["Rows Removed by Filter"] ?? 0], [51, 0]);
    assertEquals(page.filter((node) => /Seq Scan|Sort/.test(node["Node Type"])), []);

    // A whole-table read through the REST API finds its own rows by the policy's index.
    const mine = await explain("select count(*) from public.conversation_messages", []);
    assertEquals(mine.filter((node) => node["Node Type"] === "Seq Scan"), []);

    // The function reads no more than that: the page's rows and a few index levels, not the table's 20,000 pages.
    const list = `select public.list_messages($1, p_after => 100, p_limit => 50)`;
    await explain(list, [id]); // fills the session's catalogue caches
    const [call] = await explain(list, [id]);
    assert(call["Shared Hit Blocks"] + call["Shared Read Blocks"] < 300, JSON.stringify(call));
    const [{ page: answer }] = await tx`select list_messages(${id}, p_after => 100, p_limit => 50) as page`;
    assertEquals([answer.data.length, answer.data[0].sequence_order, answer.has_more], [50, 101, true]);
  });
});
