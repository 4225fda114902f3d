/** Databases to try things on: a cluster of its own for each, because roles and pg_cron belong to the cluster. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { bootstrap } from "./platform.ts";
import { databaseUrl, removePostgres, startPostgres } from "./postgres.ts";
import { freePort } from "./ports.ts";

export interface Scratch extends AsyncDisposable {
  /** As `postgres`, the role that runs migrations on the platform. */
  url: string;
  /** As `supabase_admin`, a superuser. */
  adminUrl: string;
  sql: postgres.Sql;
}

/** An empty project, as it is before the first migration. */
export async function scratchDatabase(root: string, binDir?: string): Promise<Scratch> {
  const dataDir = join(tmpdir(), `threadbase-scratch-${crypto.randomUUID()}`);
  await Deno.mkdir(dataDir);
  await Deno.chmod(dataDir, 0o755);
  const running = new AsyncDisposableStack();
  running.defer(async () => {
    await removePostgres(dataDir);
    await Deno.remove(dataDir, { recursive: true });
  });
  try {
    const port = freePort();
    running.use(await startPostgres({ root, dataDir, port, binDir, log: () => {} }));
    const adminUrl = databaseUrl("supabase_admin", port);
    await bootstrap(adminUrl);
    const url = databaseUrl("postgres", port);
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    running.defer(() => sql.end());
    return { url, adminUrl, sql, [Symbol.asyncDispose]: () => running.disposeAsync() };
  } catch (error) {
    await running.disposeAsync();
    throw error;
  }
}
