/** Runs private.scheduled_jobs where Postgres has no pg_cron: the same commands, on the same schedule. */
import { Cron } from "croner";
import postgres from "postgres";

export interface Scheduler extends AsyncDisposable {
  /** What it runs by itself; empty where pg_cron does. */
  jobs: string[];
}

export async function startScheduler(databaseUrl: string, log: (line: string) => void): Promise<Scheduler> {
  const connect = () => postgres(databaseUrl, { max: 1, onnotice: () => {} });
  const sql = connect();
  const jobs = await sql<{ name: string; schedule: string; command: string }[]>`
    select j.name, j.schedule, j.command
    from private.scheduled_jobs j
    where not exists (select from pg_extension where extname = 'pg_cron')`;
  await sql.end();
  const running = new Set<postgres.Sql>();
  const timers = jobs.map(({ name, schedule, command }) =>
    new Cron(schedule, {
      timezone: "UTC",
      protect: true, // as pg_cron does: a job that still runs is not started again
      catch: (error) => log(`[${name}] ${(error as Error).message}`),
    }, async () => {
      const sql = connect(); // as pg_cron does: a connection for each run
      running.add(sql);
      try {
        await sql.unsafe(command).simple(); // simple: a do block that commits must not run inside a transaction
      } finally {
        running.delete(sql);
        await sql.end({ timeout: 1 });
      }
    })
  );
  return {
    jobs: jobs.map(({ name }) => name),
    async [Symbol.asyncDispose]() {
      timers.forEach((timer) => timer.stop());
      await Promise.all([...running].map((sql) => sql.end({ timeout: 1 })));
    },
  };
}
