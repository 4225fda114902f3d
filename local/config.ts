/** supabase/config.toml: the few settings that the local stack follows, and the sections of functions. */
import { join } from "node:path";

export interface Config {
  apiPort: number;
  maxRows: number;
  dbPort: number;
}

export async function readConfig(root: string): Promise<Config> {
  const toml = await Deno.readTextFile(join(root, "supabase", "config.toml"));
  return {
    apiPort: integer(toml, "api", "port") ?? 54321,
    maxRows: integer(toml, "api", "max_rows") ?? 1000,
    dbPort: integer(toml, "db", "port") ?? 54322,
  };
}

/** Reads `name = 123` below `[section]`, which is all the TOML that is needed here. */
function integer(toml: string, section: string, name: string): number | undefined {
  const body = toml.split(/^\[/m).find((part) => part.startsWith(`${section}]`));
  const value = body?.match(new RegExp(`^${name}\\s*=\\s*(\\d+)`, "m"))?.[1];
  return value === undefined ? undefined : Number(value);
}

/** Whether it has a section for a function of this name. */
export function hasFunction(toml: string, name: string): boolean {
  return new RegExp(`^[ \\t]*\\[ *functions *\\. *["']?${name}["']? *\\]`, "m").test(toml);
}

/** With the sections of these functions at its end, as they are in another config.toml, but for those that it has. */
export function withFunctions(toml: string, from: string, names: string[]): string {
  const sections = from.split(/^(?=\[)/m).filter((section) =>
    names.some((name) => section.startsWith(`[functions.${name}]`) && !hasFunction(toml, name))
  );
  if (sections.length === 0) return toml;
  const [comment] = from.match(/(?:^#.*\n)+(?=\[functions\.)/m) ?? [""];
  const addition = sections.map((section) => section.trimEnd()).join("\n\n");
  const end = toml.includes("\r\n") ? "\r\n" : "\n";
  const text = `\n${toml.includes(comment.trim()) ? "" : comment}${addition}\n`.replaceAll("\n", end);
  return toml + (toml.endsWith("\n") ? "" : end) + text;
}
