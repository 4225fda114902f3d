/** The measuring process of `npm run bench`: see run.ts. */
import { parseArgs } from "node:util";
import * as attack from "./attack.ts";
import * as growth from "./growth.ts";
import * as http from "./http.ts";
import { writePage } from "./page.ts";
import { emptyTables } from "./peers/all.ts";
import { Progress } from "./progress.ts";
import { RELIABILITY, writeBetween } from "../support/written.ts";
import { markdown, printed, type Section } from "./report.ts";
import * as sql from "./sql.ts";
import { readStack, type Stack } from "./stack.ts";

const { values: { quick = false, write = false, level } } = parseArgs({
  options: { quick: { type: "boolean" }, write: { type: "boolean" }, level: { type: "string" } },
});

interface Level {
  name: string;
  steps: number;
  run: (stack: Stack, progress: Progress) => Promise<Section>;
}

function levelOf<Sizes>(
  name: string,
  sizes: Sizes,
  steps: number,
  run: (stack: Stack, sizes: Sizes, progress: Progress) => Promise<Section>,
): Level {
  return { name, steps, run: (stack, progress) => run(stack, sizes, progress) };
}

const growthSizes = quick ? growth.QUICK : growth.FULL;
const levels = [
  levelOf("sql", quick ? sql.QUICK : sql.FULL, sql.STEPS, sql.sqlLevel),
  levelOf("http", quick ? http.QUICK : http.FULL, http.STEPS, http.httpLevel),
  levelOf("growth", growthSizes, growth.steps(growthSizes), growth.growthLevel),
  levelOf("attack", quick ? attack.QUICK : attack.FULL, attack.STEPS, attack.attackLevel),
].filter(({ name }) => level === undefined ? name !== "attack" : level === name);

const stack = readStack();
const progress = new Progress(levels.reduce((sum, { steps }) => sum + steps, 0));
const sections: Section[] = [];
for (const { run } of levels) {
  await emptyTables(stack);
  const section = await run(stack, progress);
  console.log(printed(section));
  sections.push(section);
}
if (write && level === "attack") {
  await writeBetween(
    RELIABILITY,
    "npm run bench -- --level attack --write",
    markdown(sections[0]).replace(/^## .*\n+/, ""),
  );
} else if (write || !quick && level === undefined) {
  await writePage(stack, sections, `npm run bench${quick ? " -- --quick --write" : ""}`);
  console.log("\ndocs/benchmarks.md is written.");
}
