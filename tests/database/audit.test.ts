// What an audit reads, on a table where other people's events fill two months.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { connect } from "../support/stack.ts";

interface PlanNode {
  "Node Type": string;
  "Relation Name"?: string;
  "Index Name"?: string;
  "Index Cond"?: string;
  "Actual Rows": number;
  "Rows Removed by Filter"?: number;
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  Plans?: PlanNode[];
}

const flatten = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flatten)];

const EVENTS = 150_000;
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

// In the two months to come: their partitions are there, and no other test writes into them.
const now = new Date();
const [first, second, end] = [1, 2, 3].map((n) => Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + n));
const leaf = (ms: number) => `event_logs_${new Date(ms).toISOString().slice(0, 7).replace("-", "_")}`;
const at = (ms: number) => new Date(ms).toISOString();

/** Runs the test on 150,000 events of 200 sessions and 20 users, one at a time all the two months; nothing of it stays. */
async function withEvents(test: (tx: postgres.TransactionSql, users: string[]) => Promise<void>): Promise<void> {
  const sql = connect();
  const rolledBack = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const users = Array.from({ length: 20 }, () => crypto.randomUUID());
      const sessions = Array.from({ length: 200 }, () => crypto.randomUUID());
      await tx`
        insert into sessions (id, user_id)
        select s, (${users}::text[])[n % 20 + 1] from unnest(${sessions}::uuid[]) with ordinality as s (s, n)`;
      await tx`
        insert into event_logs (session_id, sequence, user_id, event_type, content, occurred_at, created_at)
        select
          (${sessions}::uuid[])[n % 200 + 1],
          n / 200 + 1,
          (${users}::text[])[(n % 200 + 1) % 20 + 1],
          case when n % 10 = 0 then 'ai_message' else 'ai_chunk' end,
          jsonb_build_object('text', case when n = ${EVENTS - 1} then 'the needle' else 'hay ' || n end),
          ${at(first)}::timestamptz + n * ${`${(end - first) / EVENTS} ms`}::interval,
          ${at(first)}::timestamptz + n * ${`${(end - first) / EVENTS} ms`}::interval
        from generate_series(0, ${EVENTS - 1}) n`;
      await tx`analyze event_logs`;
      await test(tx, users);
      throw rolledBack;
    });
  } catch (error) {
    if (error !== rolledBack) throw error;
  } finally {
    await sql.end();
  }
}

const explain = async (tx: postgres.TransactionSql, query: string, values: (string | null)[]): Promise<PlanNode[]> => {
  const [row] = await tx.unsafe(`explain (analyze, buffers, format json) ${query}`, values);
  return flatten(row["QUERY PLAN"][0].Plan);
};

Deno.test("an audit reads its window by an index on the partitions that may hold it", async () => {
  await withEvents(async (tx, users) => {
    // The query of private.audit_events, with its settings.
    const scan = async (userId: string | null, from: number, to: number) => {
      const nodes = await explain(
        tx,
        `select e.* from public.event_logs e
         where ${
          userId
            ? "(e.user_id, e.occurred_at) >= ($1, $2) and (e.user_id, e.occurred_at) < ($1, $3)"
            : "$1::text is null and e.occurred_at >= $2 and e.occurred_at < $3"
        }
           and e.created_at >= $4 and e.created_at < $5
         order by ${userId ? "e.user_id," : ""} e.occurred_at, e.session_id, e.sequence
         limit 100001`,
        [userId, at(from), at(to), at(from - 5 * MINUTE), at(to + 7 * DAY)],
      );
      assertEquals(nodes.filter((node) => /Seq Scan|Bitmap|^Sort/.test(node["Node Type"])), []);
      return nodes.filter((node) => node["Relation Name"]?.startsWith("event_logs"));
    };
    for (const setting of ["seqscan", "bitmapscan", "sort"]) await tx.unsafe(`set local enable_${setting} = off`);
    const [from, to] = [second - 20 * DAY, second - 20 * DAY + 10 * MINUTE];
    for (const userId of [null, users[0]]) {
      const index = (ms: number) => `${leaf(ms)}_${userId ? "user_id_" : ""}occurred_at_idx`;
      const short = await scan(userId, from, to);
      assertEquals(short.map((node) => node["Index Name"]), [index(first)]);
      assert(/occurred_at\)* >= .*occurred_at\)* < /.test(short[0]["Index Cond"]!), short[0]["Index Cond"]);
      assertEquals(short[0]["Rows Removed by Filter"] ?? 0, 0);

      // What occurred in the last week of a month may have been stored in the next one.
      const border = await scan(userId, second - DAY, second - DAY + 10 * MINUTE);
      assertEquals(border.map((node) => node["Index Name"]).toSorted(), [index(first), index(second)]);
    }
    for (const setting of ["seqscan", "bitmapscan", "sort"]) await tx.unsafe(`set local enable_${setting} = on`);

    for (const role of ["service_role", "authenticated"]) {
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: users[0], role })}, true)`;
      await tx.unsafe(`set local role ${role}`);
      for (const fold of ["false", "true"]) {
        const call = `select public.audit_events($1, $2, p_fold => ${fold}, p_limit => 20)`;
        const hour = [at(from), at(from + 60 * MINUTE)];
        await explain(tx, call, hour); // fills the session's catalogue caches
        const [{ "Shared Hit Blocks": hit, "Shared Read Blocks": read }] = await explain(tx, call, hour);
        assert(hit + read < 1000, `${hit + read} blocks: the table has some 4,000`);
      }
      await tx`reset role`;
    }
  });
});

Deno.test("a search for a rare word goes on where it stopped, in pages that may be empty", async () => {
  await withEvents(async (tx) => {
    await tx`select set_config('request.jwt.claims', '{"role": "service_role"}', true)`;
    await tx`set local role service_role`;
    type Place = Record<"occurred_at" | "session_id" | "sequence", string>;
    let next = null as Place | null;
    const found: unknown[] = [];
    let calls = 0;
    do {
      const [{ page }]: { page: { data: Place[]; has_more: boolean; next: Place | null } }[] = await tx`
        select audit_events(
          ${at(first)}, ${at(end)}, p_query => 'NEEDLE', p_after_occurred_at => ${next?.occurred_at ?? null},
          p_after_session_id => ${next?.session_id ?? null}, p_after_sequence => ${next?.sequence ?? null}
        ) as page`;
      assertEquals(page.has_more, page.next !== null);
      found.push(...page.data.map((event) => event.sequence));
      next = page.next;
      calls++;
    } while (next);
    assertEquals(found, [EVENTS / 200]);
    // At most 100,000 events a call; fewer where the machine is slow.
    assert(calls >= 2, `${calls} calls`);
  });
});
