import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** A copy of what the stack reads, so that a test can change it. Whoever asks for it removes it. */
export async function copyProject(): Promise<string> {
  const copy = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  await Deno.mkdir(copy, { mode: 0o755 });
  await new Deno.Command("cp", { args: ["-r", join(root, "supabase"), copy] }).output();
  for (const name of ["node_modules", "deno.json", "deno.lock"]) await Deno.symlink(join(root, name), join(copy, name));
  return copy;
}
