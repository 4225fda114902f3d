/** The few settings of supabase/config.toml that the local stack follows. */
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
