// The figures that docs/benchmarks.md is made of.
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { barOf, markdown, printed, type Section } from "../bench/report.ts";
import { exponent, quantile, quietP50, steadyP95 } from "../bench/stats.ts";
import { linePlot, spread } from "../bench/svg.ts";
import { newTurn, text } from "../bench/text.ts";

Deno.test("a quantile is the nearest rank", () => {
  const values = Array.from({ length: 20 }, (_, i) => 20 - i);
  assertEquals(quantile(values, 0.5), 10);
  assertEquals(quantile(values, 0.95), 19);
  assertEquals(quantile([7], 0.95), 7);
});

Deno.test("a moment's noise moves neither the steady p95 nor the quiet p50", () => {
  const quiet = Array.from({ length: 100 }, (_, i) => 1 + (i % 20) / 100);
  const noisy = quiet.map((value, i) => i >= 40 && i < 60 ? 50 : value);
  assertEquals(steadyP95(noisy), steadyP95(quiet));
  assertEquals(quietP50(noisy), quietP50(quiet));
  assertEquals(quantile(noisy, 0.95), 50);
});

Deno.test("the exponent of a power is that power", () => {
  assertAlmostEquals(exponent([[1, 3], [10, 3], [100, 3]]), 0);
  assertAlmostEquals(exponent([[1, 3], [10, 30], [100, 300]]), 1);
  assertAlmostEquals(exponent([[1, 2], [100, 20]]), 0.5);
});

Deno.test("a text has the length asked for, a turn is 1 KB, and no two turns are equal", () => {
  assertEquals(text(512).length, 512);
  const [one, other] = [newTurn(), newTurn()];
  assertEquals(one.user.length + one.assistant.length, 1024);
  assertEquals(new Set([one.user, one.assistant, other.user, other.assistant]).size, 4);
});

Deno.test("labels of a plot keep their order and do not overlap", () => {
  assertEquals(spread([100, 10, 12, 102], 14), [100, 10, 24, 114]);
});

Deno.test("a plot is well-formed whatever its names say", () => {
  const svg = linePlot({
    title: "a < b",
    xLabel: "rows",
    yLabel: "ms",
    logX: true,
    series: [{ name: '"R&D"', points: [[100, 1], [1000, 2]] }],
  });
  assertEquals(svg.match(/a &lt; b/g)?.length, 2);
  assertEquals(svg.includes("&quot;R&amp;D&quot;"), true);
  assertEquals(svg.includes("NaN"), false);
});

Deno.test("a bar that is missed says so, on the terminal and on the page", () => {
  const section: Section = {
    title: "Level",
    about: "",
    headlines: [],
    tables: [{ title: "Table", about: "About", columns: ["", "a|b"], rows: [["one", "2"]] }],
    bars: [barOf("Ratio", 1.204, 1.2), barOf("Size", 1.2, 1.2, " MB")],
    plots: [],
  };
  assertEquals(markdown(section).includes("| Ratio ≤ 1.2 | 1.2 | **missed** |"), true);
  assertEquals(markdown(section).includes("| Size ≤ 1.2 MB | 1.2 MB | met |"), true);
  assertEquals(markdown(section).includes("|  | a\\|b |"), true);
  assertEquals(/Ratio ≤ 1\.2 +1\.2 +missed/.test(printed(section)), true);
});

Deno.test("the README quotes docs/benchmarks.md", async () => {
  const read = (file: string) => Deno.readTextFile(new URL(`../../${file}`, import.meta.url));
  const [, quoted] = (await read("README.md")).match(/<!-- from docs\/benchmarks\.md -->\n(.*?)\n<!-- -->/s)!;
  assert(quoted.split("\n").length === 3, quoted);
  assertStringIncludes(await read("docs/benchmarks.md"), `\n${quoted}\n`);
});
