import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const typesFile = new URL("../../supabase/functions/_shared/database.types.ts", import.meta.url);

/** Runs the supabase CLI of this repository and returns what it prints. */
export async function supabase(...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(`${root}/node_modules/.bin/supabase`, {
    args: [...args, "--workdir", root],
    env: { DO_NOT_TRACK: "1", SUPABASE_TELEMETRY_DISABLED: "1" },
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** The TypeScript types of the public schema, formatted as this repository is. */
export async function generateTypes(dbUrl: string): Promise<string> {
  const source = await supabase(
    "gen",
    "types",
    "typescript",
    "--schema",
    "public",
    `--remote=${dbUrl}?sslmode=disable`,
  );
  const format = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "ts", "--line-width", "120", "-"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const writer = format.stdin.getWriter();
  await writer.write(new TextEncoder().encode(source));
  await writer.close();
  return new TextDecoder().decode((await format.output()).stdout);
}
