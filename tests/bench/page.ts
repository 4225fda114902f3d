/** docs/benchmarks.md: what was measured, on what, and what came out. */
import { cpus, totalmem } from "node:os";
import { markdown, type Section } from "./report.ts";
import type { Stack } from "./stack.ts";

const docs = new URL("../../docs/", import.meta.url);
const readme = new URL("../../README.md", import.meta.url);

/** What the README quotes is between these, and is the list that the page begins with. */
const QUOTED = /(?<=<!-- from docs\/benchmarks\.md -->\n).*?(?=\n<!-- -->)/s;

/** Writes the page, its plots, and what the README quotes of it. */
export async function writePage(stack: Stack, sections: Section[], command: string): Promise<void> {
  const headlines = sections.flatMap(({ headlines }) => headlines).map((headline) => `- ${headline}`).join("\n");
  await Deno.writeTextFile(readme, (await Deno.readTextFile(readme)).replace(QUOTED, () => headlines));
  const page = [
    "# Benchmarks",
    `Written by \`${command}\` on ${
      new Date().toISOString().slice(0, 10)
    }. Compare figures within this page only: it is one run ` +
    "on one machine, and another machine has other figures, but much the same ratios.",
    headlines,
    "## Machine and versions",
    await machine(stack),
    ...sections.map(markdown),
  ];
  await Deno.writeTextFile(new URL("benchmarks.md", docs), page.join("\n\n") + "\n");
  for (const { plots } of sections) {
    for (const { file, svg } of plots) await Deno.writeTextFile(new URL(file, docs), svg);
  }
}

async function machine({ postgresVersion }: Stack): Promise<string> {
  const { PRETTY_NAME = Deno.build.os } = Object.fromEntries(
    (await Deno.readTextFile("/etc/os-release").catch(() => "")).split("\n")
      .map((line) => line.split("=")).map(([name, value]) => [name, value?.replaceAll('"', "")]),
  );
  const [{ model }] = cpus();
  const rows = [
    ["processor", `${cpus().length} cores, ${model}`],
    ["memory", `${Math.round(totalmem() / 2 ** 30)} GiB`],
    ["system", `${PRETTY_NAME}, ${Deno.build.os} ${Deno.osRelease()}`],
    [
      "Postgres",
      `${postgresVersion} with its default settings (128 MB of shared buffers, every commit flushed to disk)`,
    ],
    ["Deno", Deno.version.deno],
    ["libraries", (await libraries()).join(", ")],
  ];
  return ["| | |", "|---|---|", ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join("\n");
}

/** What the two import maps pin. */
async function libraries(): Promise<string[]> {
  const pinned = new Set<string>();
  for (const file of ["deno.json", "../../deno.json"]) {
    const { imports } = JSON.parse(await Deno.readTextFile(new URL(file, import.meta.url)));
    for (const target of Object.values<string>(imports)) pinned.add(target.match(/^npm:\/?(@?[^@]+@[\d.]+)/)![1]);
  }
  const shown = /langchain|^pg@|^hono@|^zod@|^@supabase\/(lite|server|supabase-js)@/;
  return [...pinned].filter((name) => shown.test(name)).sort();
}
