/** Tables, as they are printed and as they stand in docs/benchmarks.md. */

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
  tables: Table[];
  bars: Bar[];
  plots: Plot[];
}

export const NONE = "—";

export function ms(value: number): string {
  return value < 1 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);
}

export function kilobytes(bytes: number): string {
  return (bytes / 1000).toLocaleString("en", { maximumFractionDigits: 0 });
}

export function count(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: 0 });
}

export function barOf(
  name: string,
  value: number,
  limit: number,
  unit = "",
): Bar {
  const format = (figure: number) => `${Number(figure.toPrecision(3)).toLocaleString("en")}${unit}`;
  return {
    name: `${name} ≤ ${format(limit)}`,
    value: format(value),
    met: value <= limit,
  };
}

function barTable(bars: Bar[]): Table {
  return {
    title: "The bars",
    about: "",
    columns: ["bar", "this run", ""],
    rows: bars.map((
      { name, value, met },
    ) => [name, value, met ? "met" : "**missed**"]),
  };
}

const tablesOf = ({ tables, bars }: Section) => bars.length > 0 ? [...tables, barTable(bars)] : tables;

export function printed(section: Section): string {
  const parts = [`\n${section.title}\n${"=".repeat(section.title.length)}`];
  for (const { title, columns, rows } of tablesOf(section)) {
    const widths = columns.map((column, i) =>
      Math.max(
        ...[column, ...rows.map((row) => row[i])].map((cell) => cell.length),
      )
    );
    const line = (cells: string[]) =>
      cells.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd();
    parts.push(
      `\n${title}`,
      line(columns),
      line(widths.map((width) => "-".repeat(width))),
      ...rows.map(line),
    );
  }
  return parts.join("\n").replaceAll("**", "");
}

export function markdown(section: Section): string {
  const parts = [`## ${section.title}`, section.about];
  for (const { title, about, columns, rows } of tablesOf(section)) {
    const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
    parts.push(`### ${title}`);
    if (about) parts.push(about);
    parts.push(
      [
        line(columns),
        line(columns.map((_, i) => i === 0 ? "---" : "--:")),
        ...rows.map(line),
      ].join("\n"),
    );
  }
  for (const { file, title } of section.plots) {
    parts.push(`![${title}](${file})`);
  }
  return parts.join("\n\n");
}
