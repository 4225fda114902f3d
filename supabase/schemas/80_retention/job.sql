-- The job that removes what is past its time. A function for each kind, private.retain_<kind>, looks at a bounded number of
-- rows in the order of an index, from p_position on, where the last call of the same run left off, and removes those that
-- are past their time. It waits for no row that somebody holds: the next run finds it. removed: {table: count}; more:
-- whether to call again. Each module has those of its own.

insert into private.retention_policies (kind, keep) values ('job_run_details', '7 days'), ('retention_runs', '90 days');


create function private.retain_job_run_details(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 5000;
  v_count integer := 0;
begin
  -- Dynamic, because the function is made where there is no pg_cron, too.
  if to_regclass('cron.job_run_details') is not null then
    execute '
      delete from cron.job_run_details d
      where d.runid = any (array(
        select d.runid
        from cron.job_run_details d
        where coalesce(d.end_time, d.start_time) < $1
        order by d.runid
        limit $2
      ))'
    using private.retention_cutoff('job_run_details', p_now), c_removed;
    get diagnostics v_count = row_count;
  end if;
  removed := jsonb_build_object('job_run_details', v_count);
  more := v_count = c_removed;
end;
$$;
comment on routine private.retain_job_run_details is
  'Deletes up to 5,000 records of pg_cron, which keeps one for every run of every job.';
revoke all on routine private.retain_job_run_details from public, anon, authenticated, service_role;


create function private.retain_retention_runs(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_count integer;
begin
  -- Never the run that asks, whatever it takes for now.
  delete from private.retention_runs r
  where r.started_at < private.retention_cutoff('retention_runs', p_now) and r.started_at < statement_timestamp();
  get diagnostics v_count = row_count;
  removed := jsonb_build_object('retention_runs', v_count);
  more := false;
end;
$$;
comment on routine private.retain_retention_runs is 'Deletes the records of runs, of which there is one in an hour.';
revoke all on routine private.retain_retention_runs from public, anon, authenticated, service_role;


create function private.retention_step(p_now timestamptz default now()) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_run private.retention_runs;
  v_kind text;
  v_position jsonb;
  v_removed jsonb;
  v_more boolean;
  v_constraint text;
  v_started_at timestamptz;
begin
  -- The statement is the loop that calls this, whatever that commits.
  select * into v_run from private.retention_runs r where r.started_at = statement_timestamp();
  if found then
    -- Before any lock: half of the time belongs to those who write.
    perform pg_sleep(least(greatest(v_run.last_step_ms, 10), 1000) / 1000.0);
  end if;
  v_started_at := clock_timestamp();
  if not pg_try_advisory_xact_lock(hashtext('private.retention_step')) then
    -- A run that is under way only has to try again: whoever looks whether there is one holds the lock for a moment.
    return v_run.id is not null;
  end if;

  if v_run.id is null then
    if private.retention_is_running() then
      return false;
    end if;
    -- By itself, so that the run is on record whatever comes. It goes on where the last one stopped.
    insert into private.retention_runs (started_at, kinds_left, positions)
    select
      statement_timestamp(),
      array_agg(k.kind order by array_position(l.kinds_left, k.kind), k.n),
      coalesce(jsonb_object_agg(k.kind, l.positions -> k.kind) filter (where k.kind = any (l.kinds_left)), '{}')
    from unnest(
      '{prune_queue,conversations,conversation_states,imports,sessions,event_logs,documents,idempotency_keys,job_run_details,retention_runs}'::text[]
    ) with ordinality as k (kind, n)
    left join (select * from private.retention_runs r order by r.id desc limit 1) l on true
    -- Of a module that is not installed there is none.
    where to_regprocedure(format('private.retain_%s(timestamptz, jsonb)', k.kind)) is not null;
    return true;
  end if;

  if clock_timestamp() < v_run.started_at + interval '60 seconds' then
    -- A conversation that responses made is counted as a conversation where that has expired, too: those come first.
    select u.kind into v_kind
    from unnest(v_run.kinds_left) with ordinality as u (kind, n)
    where u.kind <> 'conversation_states' or 'conversations' <> all (v_run.kinds_left)
    order by u.n
    limit 1;
    begin
      execute format('select * from private.%I($1, $2)', 'retain_' || v_kind)
      into v_position, v_removed, v_more
      using p_now, v_run.positions -> v_kind;
      v_run.positions := v_run.positions || jsonb_build_object(v_kind, v_position);
    exception
      when others then
        -- One kind does not keep the others from going. The message stays out: it may quote what people wrote.
        get stacked diagnostics v_constraint = constraint_name;
        raise warning 'Retention of % failed with %: the next run tries again.', v_kind, sqlstate;
        v_run.errors := v_run.errors
          || jsonb_build_object('kind', v_kind, 'sqlstate', sqlstate, 'constraint', nullif(v_constraint, ''));
        v_removed := '{}';
        v_more := false;
    end;

    -- One piece, then the next kind: what one user has left keeps nobody's from going.
    v_run.kinds_left := array_remove(v_run.kinds_left, v_kind) || case when v_more then array[v_kind] else '{}' end;
    -- As often as something is hidden, something of it is removed: little is left behind when the time is up.
    if v_kind in ('conversations', 'conversation_states', 'imports')
      and private.add_counts(v_removed, '{}') <> '{}'
    then
      v_run.kinds_left := array_prepend('prune_queue', array_remove(v_run.kinds_left, 'prune_queue'));
    end if;
  end if;

  v_run.complete := v_run.kinds_left = '{}';
  if v_run.complete and to_regclass('private.prune_queue') is not null then
    -- The queue goes on without what fails in it. That it did is said once.
    v_run.errors := v_run.errors || coalesce((
      select jsonb_build_object(
        'kind', 'prune_queue', 'sqlstate', split_part(q.error, ' ', 1), 'constraint', nullif(split_part(q.error, ' ', 2), '')
      )
      from private.prune_queue q
      where q.failed_at >= v_run.started_at
      limit 1
    ), '[]');
  end if;
  if v_run.complete or v_kind is null then
    v_run.finished_at := clock_timestamp();
  end if;
  v_run.last_step_ms := ceil(extract(epoch from clock_timestamp() - v_started_at) * 1000);
  update private.retention_runs r set
    last_step_at = clock_timestamp(),
    finished_at = v_run.finished_at,
    complete = v_run.complete,
    steps = r.steps + 1,
    last_step_ms = v_run.last_step_ms,
    longest_step_ms = greatest(r.longest_step_ms, v_run.last_step_ms),
    removed = private.add_counts(r.removed, coalesce(v_removed, '{}')),
    errors = v_run.errors,
    kinds_left = v_run.kinds_left,
    positions = v_run.positions
  where r.id = v_run.id;
  return v_run.finished_at is null;
end;
$$;
comment on routine private.retention_step is
  'One step of a run of retention: a bounded piece of one kind, the kinds in turn. True while there is more to do; a run ends '
  'itself after 60 seconds. The first step records the run, which is the statement that calls this in a loop; there is one run at a time. '
  'p_now is there for tests.';
revoke all on routine private.retention_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-retention', '37 * * * *', 'private.retention_step()');
