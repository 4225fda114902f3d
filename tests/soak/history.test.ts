// Random clients against a stack that is killed, cut off, filled and moved in time: nothing acknowledged is lost, and the
// checker that says so finds each of the faults that are planted into what it has seen.
import { assert, assertEquals } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check } from "./history.ts";
import { FAULTS } from "./planted.ts";
import { soak, summary } from "./soak.ts";

const SECONDS = 60;

Deno.test("a minute of faults: what was acknowledged is there, once, in one order, and nothing else", async (t) => {
  const directory = join(tmpdir(), `threadbase-soak-${crypto.randomUUID()}`);
  const report = await soak({
    seconds: SECONDS,
    directory,
    postgresBin: Deno.env.get("POSTGRES_BIN") || undefined,
    log: console.log,
  });
  console.log(summary(report));
  assertEquals(report.violations, []);
  assert(report.history.filter(({ answer }) => answer).length > 100);
  for (const [name, count] of Object.entries(report.faults)) assert(count > 0, name);
  if (report.faults["a full disk"]) assert(report.output.includes("No space is left on the disk"));
  await Deno.remove(directory, { recursive: true });

  for (const { name, rule, plant } of FAULTS) {
    await t.step(`found: ${name}`, () => {
      const history = structuredClone(report.history);
      assert(plant(history), "the history has no place for it");
      const rules = new Set(check(history).map((violation) => violation.rule));
      assert(rules.has(rule), `found ${[...rules].join() || "nothing"} instead of ${rule}`);
    });
  }
});
