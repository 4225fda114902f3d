/** The measuring process of `npm run bench`: see run.ts. */
import { parseArgs } from "node:util";
import * as http from "./http.ts";
import { emptyTables } from "./peers/all.ts";
import { Progress } from "./progress.ts";
import { printed, type Section } from "./report.ts";
import * as sql from "./sql.ts";
import { readStack } from "./stack.ts";

const { values } = parseArgs({ options: { quick: { type: "boolean" }, level: { type: "string" } }, strict: false });
const stack = readStack();
const wants = (level: string) => values.level === undefined || values.level === level;

const progress = new Progress((wants("sql") ? sql.STEPS : 0) + (wants("http") ? http.STEPS : 0));
const sections: Section[] = [];
const add = (section: Section) => {
  console.log(printed(section));
  sections.push(section);
};

await emptyTables(stack);
if (wants("sql")) add(await sql.sqlLevel(stack, values.quick ? sql.QUICK : sql.FULL, progress));
await emptyTables(stack);
if (wants("http")) add(await http.httpLevel(stack, values.quick ? http.QUICK : http.FULL, progress));
