// What a search reads, on a table where every user writes the same words.
import { assert, assertEquals } from "@std/assert";
import { connect } from "../support/stack.ts";

interface PlanNode {
  "Node Type": string;
  "Index Name"?: string;
  "Actual Rows": number;
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  Plans?: PlanNode[];
}

const flatten = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flatten)];

Deno.test("a search reads its own user's matches from the index, however common the word", async () => {
  const sql = connect();
  const rolledBack = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const users = Array.from({ length: 100 }, () => crypto.randomUUID());
      const me = users[42];
      await tx`insert into auth.users (id, email) select u, u || '@example.com' from unnest(${users}::uuid[]) u`;
      await tx`
        with c as (
          insert into conversations (user_id, last_sequence_order)
          select u, 200 from unnest(${users}::uuid[]) u
          returning id, user_id
        )
        insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
        select c.id, c.user_id, n, 'user', 'the common word and 语言模型 number' || n
        from generate_series(1, 200) n, c`;
      await tx`analyze conversations`;
      await tx`analyze conversation_messages`;

      const explain = async (query: string, values: string[]): Promise<PlanNode[]> => {
        const [row] = await tx.unsafe(`explain (analyze, buffers, format json) ${query}`, values);
        return flatten(row["QUERY PLAN"][0].Plan);
      };
      // How many match, and how many rows the index may name: it knows buckets of words, and no beginnings. The text decides.
      for (
        const [q, matches, candidates] of [
          ["common", 200, 200],
          ["模型", 200, 200],
          ["模", 200, 200],
          ["number1*", 111, 200],
          ["number7 OR number8", 2, 8],
        ] as const
      ) {
        // The condition of private.search_messages.
        const nodes = await explain(
          `select m.id, m.user_id, m.created_at from public.conversation_messages m
           where private.message_lexemes(m.user_id, m.content, m.parts) @@ (
             select o_query from private.parse_search($1, $2)
           )`,
          [q, me],
        );
        const scan = nodes.find((node) => node["Index Name"])!;
        assertEquals(scan["Index Name"], "idx_conversation_messages_search", q);
        const rows = scan["Actual Rows"];
        assert(rows >= matches && rows <= candidates, `${q}: ${rows} rows`);
        assertEquals(nodes.filter((node) => node["Node Type"] === "Seq Scan"), [], q);
      }

      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, true)`;
      await tx`set local role authenticated`;
      // A block for each row at most twice, and the index: not the table's 20,000 rows.
      const [call] = await explain(`select public.search_messages($1)`, ["common"]);
      const blocks = call["Shared Hit Blocks"] + call["Shared Read Blocks"];
      assert(blocks < 3000, `${blocks} blocks`);
      const [{ page }] = await tx`select search_messages('"common word" number17') as page`;
      assertEquals([page.data.length, page.data[0].message.sequence_order], [1, 17]);
      for (const [q, matches] of [["number1*", 111], ["模", 200], ["number7 OR number8", 2]] as const) {
        const [{ page }] = await tx`select search_messages(${q}, 200) as page`;
        assertEquals(page.data.length, matches, q);
      }
      throw rolledBack;
    });
  } catch (error) {
    if (error !== rolledBack) throw error;
  } finally {
    await sql.end();
  }
});
