/** Runs private.scheduled_jobs where Postgres has no pg_cron: the same commands, on the same schedule. */
import { Cron } from "croner";
import postgres from "postgres";

export interface Scheduler extends AsyncDisposable {
  /** What it runs by itself; empty where pg_cron does. */
  jobs: string[];
}

export async function startScheduler(databaseUrl: string, log: (line: string) => void): Promise<Scheduler> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {}, idle_timeout: 20 });
  const jobs = await sql<{ name: string; schedule: string; command: string }[]>`
    select j.name, j.schedule, j.command
    from private.scheduled_jobs j
    where not exists (select from pg_extension where extname = 'pg_cron')`;
  const timers = jobs.map(({ name, schedule, command }) =>
    new Cron(schedule, {
      timezone: "UTC",
      protect: true, // as pg_cron does: a job that still runs is not started again
      catch: (error) => log(`[${name}] ${(error as Error).message}`),
    }, async () => {
      await sql.unsafe(command).simple(); // simple: a do block that commits must not run inside a transaction
    })
  );
  return {
    jobs: jobs.map(({ name }) => name),
    async [Symbol.asyncDispose]() {
      timers.forEach((timer) => timer.stop());
      await sql.end({ timeout: 1 });
    },
  };
}
