// What queries of documents read, among fifty thousand of other owners and collections. Committed in batches: a long
// transaction would keep other tests from making their indexes.
import { assert, assertEquals } from "@std/assert";
import { backend, connect, patiently, uuid } from "../support/stack.ts";

interface PlanNode {
  "Node Type": string;
  "Index Name"?: string;
  Plans?: PlanNode[];
}

const flatten = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flatten)];

Deno.test("equality, containment, ranges, sorts and pages are read from their indexes", async () => {
  const sql = connect();
  const collection = `plans_${uuid()}`;
  const [owner, others] = [uuid(), uuid()];
  const insert = (owner_id: string, count: number) =>
    sql`insert into documents (owner_id, collection, id, creation_utc, sort_at, data)
      select ${owner_id}, ${collection}, gen_random_uuid(), t, t,
        jsonb_build_object('session_id', 's' || n / 20, 'offset', n % 20, 'score', n * 7919 % 100003, 'name', md5(n::text),
          'tags', jsonb_build_array('t' || n % 500), 'deleted', false)
      from (select n, timestamptz '2026-01-01 00:00+00' + n * interval '1 second' as t from generate_series(1, ${count}::int) n) r`;
  try {
    for (let batch = 0; batch < 20; batch++) await insert(others, 2000);
    await insert(owner, 10_000);
    for (const field of ["score", "name"]) {
      const create = () => backend()("POST", `/documents/${collection}/indexes`, { body: { field } });
      assertEquals((await patiently(create)).status, 201);
    }
    await sql`vacuum analyze documents`;

    /** The plan of the query that a function makes of a filter: its text is the compiler's, its parameters are bound. */
    const plan = async (filters: unknown, rest: string): Promise<{ nodes: PlanNode[]; indexes: string[] }> => {
      const text = JSON.stringify(filters);
      const [{ compiled }] = await sql`select private.compile_filters(${text}::text::jsonb) as compiled`;
      const [row] = await sql.unsafe(
        `explain (analyze, format json) select * from documents where owner_id = $2 and collection = $3 and ${compiled} ${rest}`
          .replaceAll(/\$([123])(?!\d)/g, (_, n) => [`'${text}'::jsonb`, `'${owner}'::uuid`, `'${collection}'`][n - 1]),
      );
      const nodes = flatten(row["QUERY PLAN"][0].Plan);
      assertEquals(nodes.filter((node) => node["Node Type"].includes("Seq Scan")), [], text);
      return { nodes, indexes: nodes.map((node) => node["Index Name"]).filter((name) => name !== undefined) };
    };

    // Where there are others, the planner may let them narrow it down as well.
    assert((await plan({ session_id: "s7" }, "order by sort_at, id")).indexes.includes("idx_documents_data"));
    assert((await plan({ tags: { $contains: "t7" } }, "")).indexes.includes("idx_documents_data"));
    const either = await plan(
      { $or: [{ session_id: "s7", deleted: false }, { session_id: { $in: ["s8", "s9"] } }] },
      "",
    );
    assert(either.indexes.includes("idx_documents_data"));
    const ids = await plan({ $or: [{ id: "a" }, { id: "b" }] }, "");
    assertEquals(ids.indexes, ["documents_pkey"]);
    // What other tests store and remove meanwhile is in the statistics, too.
    const paged = () => plan({}, "and (sort_at, id) > ('2026-01-01 01:00+00', 'x') order by sort_at, id limit 51");
    let page = await paged();
    for (let i = 0; i < 10 && page.indexes[0] !== "idx_documents_sort_at"; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      await sql`analyze documents`;
      page = await paged();
    }
    assertEquals([page.indexes, page.nodes.filter((node) => node["Node Type"].includes("Sort"))], [
      ["idx_documents_sort_at"],
      [],
    ]);

    const [{ score, name }] = await sql`
      select (private.document_index(${collection}, 'score')).name as score, (private.document_index(${collection}, 'name')).name`;
    assertEquals((await plan({ score: { $gt: 99_000 } }, "")).indexes, [score]);
    assertEquals((await plan({ name: { $gte: "ff", $lt: "ffa" } }, "")).indexes, [name]);
    for (const [field, index] of [["score", score], ["name", name]]) {
      for (const direction of ["asc", "desc"]) {
        const order = JSON.stringify([{ field, direction }]);
        const [{ compiled }] = await sql`select private.compile_sort(${order}::text::jsonb) as compiled`;
        const sorted = await plan({}, `order by ${compiled} limit 1`);
        assertEquals(sorted.indexes, [index], `${field} ${direction}`);
        assert(!sorted.nodes.some((node) => node["Node Type"] === "Sort"));
      }
    }
  } finally {
    await sql`delete from documents where collection = ${collection}`;
    for (const field of ["score", "name"]) {
      await patiently(() => backend()("DELETE", `/documents/${collection}/indexes?field=${field}`));
    }
    await sql.end();
  }
});
