// What runs by itself: by pg_cron where the engine has it, by the local stack's scheduler where it has not.
import { assert, assertEquals } from "@std/assert";
import { startScheduler } from "../../local/scheduler.ts";
import { connect, dbUrl } from "../support/stack.ts";

const sql = connect();
const [{ cron }] = await sql`select exists (select from pg_extension where extname = 'pg_cron') as cron`;
await sql.end();

Deno.test("every job's command works as it is, twice in a row", async () => {
  const sql = connect();
  const jobs = await sql`select name, command from private.scheduled_jobs`;
  assert(jobs.some(({ name }) => name === "threadbase-event-partitions"));
  for (const { command } of [...jobs, ...jobs]) await sql.unsafe(command).simple();
  await sql.end();
});

Deno.test("a scheduled job runs by itself, and one that fails does not stop it", async () => {
  const sql = connect();
  const scope = `test ${crypto.randomUUID()}`;
  const names = [`${scope} works`, `${scope} fails`];
  // Leaves a row for each run, where nobody else looks.
  const works = `do $job$ begin
    insert into private.idempotency_keys (user_id, scope, key, request_hash) values ('test', '${scope}', gen_random_uuid()::text, '');
    commit;
  end $job$`;
  // pg_cron before 1.5 knows no seconds: there the test waits for the full minute.
  const schedule = cron ? "* * * * *" : "* * * * * *";
  await sql`
    insert into private.scheduled_jobs (name, schedule, command)
    values (${names[0]}, ${schedule}, ${works}), (${names[1]}, ${schedule}, 'select 1/0')`;
  const errors: string[] = [];
  const scheduler = cron
    ? (await sql`select private.schedule_jobs()`, undefined)
    : await startScheduler(dbUrl, (line) => errors.push(line));
  try {
    let runs = 0;
    for (let i = 0; i < 750 && runs === 0; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      [{ runs }] = await sql`select count(*)::int as runs from private.idempotency_keys where scope = ${scope}`;
    }
    assert(runs > 0);
    if (cron) {
      let failed = 0;
      for (let i = 0; i < 50 && failed === 0; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        [{ failed }] = await sql`
          select count(*)::int as failed from cron.job_run_details d
          where d.command = 'select 1/0' and d.status = 'failed'`;
      }
      assert(failed > 0, "the failure is on record");
    } else {
      // The two run at once, and neither waits for the other.
      const failed = () => errors.some((line) => line.includes("division by zero"));
      for (let i = 0; i < 50 && !failed(); i++) await new Promise((resolve) => setTimeout(resolve, 100));
      assert(failed(), errors.join());
    }
  } finally {
    await sql`delete from private.scheduled_jobs where name = any (${names})`;
    if (cron) await sql`select cron.unschedule(j.jobname) from cron.job j where j.jobname = any (${names})`;
    await scheduler?.[Symbol.asyncDispose]();
    await sql`delete from private.idempotency_keys where scope = ${scope}`;
    await sql.end();
  }
});

Deno.test({
  name: "pg_cron has every job once, as the table has it, however often they are handed over",
  ignore: !cron,
  fn: async () => {
    const sql = connect();
    await sql`select private.schedule_jobs()`;
    const jobs = await sql`
      select name, schedule, command from private.scheduled_jobs where name like 'threadbase-%' order by name`;
    const scheduled = await sql`
      select jobname as name, schedule, command from cron.job
      where jobname like 'threadbase-%' and active and username = 'postgres' order by jobname`;
    assertEquals([...scheduled], [...jobs]);
    await sql.end();
  },
});
