import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists } from "../../local/files.ts";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** What the stack consists of. */
const PARTS = [
  "supabase",
  "local",
  "docs",
  "README.md",
  "package.json",
  "package-lock.json",
  "deno.json",
  "deno.lock",
];

/** A copy of what the stack consists of, so that a test can change it. Whoever asks for it removes it. */
export async function copyProject(): Promise<string> {
  const copy = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  await Deno.mkdir(copy, { mode: 0o755 });
  await new Deno.Command("cp", { args: ["-r", ...PARTS.map((part) => join(root, part)), copy] }).output();
  await Deno.symlink(join(root, "node_modules"), join(copy, "node_modules"));
  return copy;
}

/** Gives the project a function, or one of its functions other code. */
export async function writeFunction(project: string, name: string, source: string): Promise<void> {
  const directory = join(project, "supabase/functions", name);
  await Deno.mkdir(directory, { recursive: true });
  if (!await exists(join(directory, "deno.json"))) await Deno.writeTextFile(join(directory, "deno.json"), "{}");
  await Deno.writeTextFile(join(directory, "index.ts"), source);
}
