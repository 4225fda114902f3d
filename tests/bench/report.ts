/** Tables and bars, as they are printed and as they stand in docs/benchmarks.md. */

export interface Table {
  title: string;
  /** What was done to get the figures. */
  about: string;
  columns: string[];
  rows: string[][];
}

/** A promise of the project, and whether this run keeps it. */
export interface Bar {
  name: string;
  value: string;
  met: boolean;
}

export interface Plot {
  file: string;
  title: string;
  svg: string;
}

/** What one level hands over. */
export interface Section {
  title: string;
  about: string;
  headlines: string[];
  tables: Table[];
  bars: Bar[];
  plots: Plot[];
}

export const NONE = "—";

export function ms(value: number): string {
  return value < 1 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : count(value);
}

export function count(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: 0 });
}

export function kilobytes(bytes: number): string {
  return count(bytes / 1000);
}

export function barOf(name: string, value: number, limit: number, unit = ""): Bar {
  const format = (figure: number) => `${Number(figure.toPrecision(3)).toLocaleString("en")}${unit}`;
  return { name: `${name} ≤ ${format(limit)}`, value: format(value), met: value <= limit };
}

function tablesOf({ tables, bars }: Section): Table[] {
  if (bars.length === 0) return tables;
  const rows = bars.map(({ name, value, met }) => [name, value, met ? "met" : "**missed**"]);
  return [...tables, { title: "The bars", about: "", columns: ["bar", "this run", ""], rows }];
}

/** For the terminal. */
export function printed(section: Section): string {
  const parts = [`\n${section.title}\n${"=".repeat(section.title.length)}`];
  for (const { title, columns, rows } of tablesOf(section)) {
    const cells = [columns, ...rows].map((row) => row.map((cell) => cell.replaceAll("**", "")));
    const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
    const lines = [...cells.slice(0, 1), widths.map((width) => "-".repeat(width)), ...cells.slice(1)].map((row) =>
      row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd()
    );
    parts.push(`\n${title}`, ...lines);
  }
  return parts.join("\n");
}

/** For the page. */
export function markdown(section: Section): string {
  const parts = [`## ${section.title}`, section.about];
  for (const { title, about, columns, rows } of tablesOf(section)) {
    const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
    const table = [line(columns), line(columns.map((_, i) => i === 0 ? "---" : "--:")), ...rows.map(line)];
    parts.push(`### ${title}`, about, table.join("\n"));
  }
  for (const { file, title } of section.plots) parts.push(`![${title}](${file})`);
  return parts.filter((part) => part !== "").join("\n\n");
}
