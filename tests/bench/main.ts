/** The measuring process of `npm run bench`: see run.ts. */
import { parseArgs } from "node:util";
import { connect, type Stack } from "./peers/peer.ts";
import { Progress } from "./progress.ts";
import { printed } from "./report.ts";
import * as sql from "./sql.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: { quick: { type: "boolean" }, level: { type: "string" } },
});
const stack: Stack = JSON.parse(Deno.env.get("BENCH_STACK")!);

const admin = connect(stack.adminDbUrl);
await admin.query(
  "create schema bench; create schema langgraph; grant all on schema bench, langgraph to postgres",
);
await admin.end();

const progress = new Progress(sql.STEPS);
console.log(
  printed(
    await sql.sqlLevel(stack, values.quick ? sql.QUICK : sql.FULL, progress),
  ),
);
