// A database of a test's own, for what looks at everybody's rows, or at the whole server: without the rest of a stack.
import { fileURLToPath } from "node:url";
import { moduleSql, readModules } from "../../local/schemas.ts";
import { type Scratch, scratchDatabase } from "../../local/scratch.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Made from supabase/schemas, on the engine under test. Nobody is in it. */
export async function ownDatabase(): Promise<Scratch> {
  const database = await scratchDatabase(root, Deno.env.get("POSTGRES_BIN") || undefined);
  try {
    for (const module of readModules(root)) await database.sql.unsafe(moduleSql(root, module)).simple();
    return database;
  } catch (error) {
    await database[Symbol.asyncDispose]();
    throw error;
  }
}
