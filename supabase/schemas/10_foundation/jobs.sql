-- Scheduled work. pg_cron runs it where there is pg_cron, the local stack's scheduler where there is not; both read this
-- table.

create table private.scheduled_jobs (
  name text not null,
  schedule text not null,
  command text not null,
  constraint scheduled_jobs_pkey primary key (name)
);

comment on table private.scheduled_jobs is
  'What runs by itself, and when. After a change: select private.schedule_jobs();';
comment on column private.scheduled_jobs.schedule is 'In cron''s five fields, UTC.';
comment on column private.scheduled_jobs.command is
  'A do block that calls a step function until that answers false, and commits in between. A step is bounded, so that no '
  'lock is held for long; the block is what may commit: a procedure with a pinned search_path cannot.';

select private.close_table('private.scheduled_jobs');

do $$
begin
  if exists (select from pg_available_extensions where name = 'pg_cron')
    and not exists (select from pg_extension where extname = 'pg_cron')
  then
    create extension pg_cron with schema pg_catalog;
  end if;
end;
$$;


create function private.schedule_jobs() returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    raise notice 'pg_cron is not installed: nothing runs the jobs in private.scheduled_jobs. Install it, then: select private.schedule_jobs();';
    return;
  end if;
  -- Dynamic, because the function is made where there is no pg_cron, too. A name that is known is rescheduled.
  execute 'select cron.schedule(j.name, j.schedule, j.command) from private.scheduled_jobs j';
end;
$$;
comment on routine private.schedule_jobs is 'Hands the jobs to pg_cron, replacing those of the same name.';
revoke all on routine private.schedule_jobs from public, anon, authenticated, service_role;


create function private.schedule_job(p_name text, p_schedule text, p_step text) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into private.scheduled_jobs (name, schedule, command)
  values (p_name, p_schedule, format('do $job$ begin loop exit when not %s; commit; end loop; end; $job$', p_step));
  perform private.schedule_jobs();
end;
$$;
comment on routine private.schedule_job is 'Adds a job that calls a step until that answers false.';
revoke all on routine private.schedule_job from public, anon, authenticated, service_role;


create function private.begin_step(p_step text) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  return clock_timestamp() <= statement_timestamp() + interval '60 seconds'
    and pg_try_advisory_xact_lock(hashtext(p_step));
end;
$$;
comment on routine private.begin_step is
  'Whether a step may begin: not when the job has run for a minute, nor beside another step of the same name.';
revoke all on routine private.begin_step from public, anon, authenticated, service_role;
