-- Made from supabase/schemas/80_retention by "npm run migration": change it there.

set check_function_bodies = off;

-- What backends read: the policies, the runs, and what a run would remove.

create function private.get_retention_policies() returns jsonb
language sql
stable
security definer
set search_path = ''
set intervalstyle = 'iso_8601'
as $$
  select jsonb_build_object(
    'data', coalesce(
      jsonb_agg(
        jsonb_build_object(
          'kind', p.kind, 'collection', nullif(p.collection, ''), 'keep', p.keep, 'updated_at', p.updated_at
        )
        order by p.kind, p.collection
      ),
      '[]'
    ),
    'has_more', false
  )
  from private.retention_policies p;
$$;
comment on routine private.get_retention_policies is 'See public.get_retention_policies.';


create function public.get_retention_policies() returns jsonb
language sql
stable
set search_path = ''
return private.get_retention_policies();
comment on routine public.get_retention_policies is
  'How long each kind of data is kept: {data: [{kind, collection, keep, updated_at}], has_more}. keep is an ISO 8601 '
  'duration, or null: for ever. For backends, and in SQL; only the owner of the database changes them, by '
  'private.set_retention_policy.';
revoke all on routine private.get_retention_policies, public.get_retention_policies
  from public, anon, authenticated, service_role;
grant execute on routine private.get_retention_policies, public.get_retention_policies to service_role;


create function private.retention_overdue() returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- Of what has no index for when it has to go: the oldest.
  c_read constant integer := 1000;
  v_run constant timestamptz := coalesce((select max(r.started_at) from private.retention_runs r), now());
  v_policy record;
  v_oldest timestamptz;
  v_data jsonb := '[]';
begin
  for v_policy in
    select p.kind, p.collection, p.keep
    from private.retention_policies p
    where to_regprocedure(format('private.retain_%s(timestamptz, jsonb)', p.kind)) is not null
    union all
    -- These are kept by no policy.
    select k.kind, '', k.keep
    from (
      values ('expires_at', interval '0'), ('prune_queue', '0'), ('imports', '1 day')
    ) as k (kind, keep)
    where to_regclass('public.conversations') is not null
    order by 1, 2
  loop
    v_oldest := null;
    case v_policy.kind
      when 'conversations' then
        select min(c.updated_at) into v_oldest
        from (
          select c.updated_at
          from public.conversations c
          where c.deleted_at is null and c.expires_at is null and not c.pinned and c.created_at < v_run - v_policy.keep
          order by c.created_at, c.id
          limit c_read
        ) c;
      when 'expires_at' then
        select min(c.expires_at) into v_oldest
        from public.conversations c
        where c.deleted_at is null and c.expires_at is not null and not c.pinned;
      when 'prune_queue' then
        select min(c.deleted_at) into v_oldest
        from (select * from private.prune_queue q limit c_read) q
        join public.conversations c on c.id = q.conversation_id;
      when 'imports' then
        select min(i.created_at) into v_oldest from private.imports i;
      when 'conversation_states' then
        select min(s.updated_at) into v_oldest from public.conversation_states s;
      when 'sessions' then
        select min(coalesce(s.last_event_at, s.created_at)) into v_oldest
        from (
          select s.created_at, s.last_event_at
          from public.sessions s
          where s.created_at < v_run - v_policy.keep
          order by s.created_at, s.id
          limit c_read
        ) s;
      when 'event_logs' then
        select min(p.ends_at) into v_oldest from private.expired_event_partitions(v_run) p;
      when 'documents' then
        select min(d.sort_at) into v_oldest from public.documents d where d.collection = v_policy.collection;
      when 'idempotency_keys' then
        select min(k.created_at) into v_oldest from private.idempotency_keys k;
      when 'retention_runs' then
        select min(r.started_at) into v_oldest from private.retention_runs r;
      else
        continue; -- pg_cron's records, which are indexed by their number alone
    end case;
    if v_oldest + v_policy.keep < v_run then
      v_data := v_data || jsonb_build_object(
        'kind', v_policy.kind, 'collection', nullif(v_policy.collection, ''), 'since', v_oldest + v_policy.keep
      );
    end if;
  end loop;
  return v_data;
end;
$$;
comment on routine private.retention_overdue is
  'What the newest run was to remove and has not: [{kind, collection, since}]. Reads the ends of indexes, and of conversations, '
  'sessions and the queue 1,000 rows.';
revoke all on routine private.retention_overdue from public, anon, authenticated, service_role;


create function private.list_retention_runs(p_limit integer, p_before bigint) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_rows refcursor;
begin
  perform private.require_limit(p_limit);
  open v_rows for
    select jsonb_build_object(
      'id', r.id,
      'status', case
        when r.finished_at is null then
          case when r.last_step_at > clock_timestamp() - interval '1 minute' then 'running' else 'failed' end
        when r.errors <> '[]' then 'failed'
        when r.complete then 'finished'
        else 'stopped'
      end,
      'started_at', r.started_at,
      'finished_at', r.finished_at,
      'duration', extract(epoch from coalesce(r.finished_at, r.last_step_at) - r.started_at),
      'steps', r.steps,
      'longest_step_ms', r.longest_step_ms,
      'removed', r.removed,
      'errors', r.errors
    )
    from private.retention_runs r
    where p_before is null or r.id < p_before
    order by r.id desc
    limit p_limit + 1;
  return private.read_page(v_rows, p_limit) || jsonb_build_object('overdue', private.retention_overdue());
end;
$$;
comment on routine private.list_retention_runs is 'See public.list_retention_runs.';


create function public.list_retention_runs(p_limit integer default 50, p_before bigint default null) returns jsonb
language sql
stable
set search_path = ''
return private.list_retention_runs(p_limit, p_before);
comment on routine public.list_retention_runs is
  'A page of the runs of retention before p_before (an id), the newest first: {data, has_more, overdue}. status is running, finished, '
  'stopped (its time was up, and the next run goes on) or failed (a kind failed, see errors, or the run was killed). '
  'overdue: what the newest run was to remove and has not, [{kind, collection, since}]. For backends, and in SQL.';
revoke all on routine private.list_retention_runs, public.list_retention_runs
  from public, anon, authenticated, service_role;
grant execute on routine private.list_retention_runs, public.list_retention_runs to service_role;


create function private.count_prunable(p_now timestamptz, p_cutoff timestamptz, p_responses_before timestamptz)
returns bigint
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_has_responses constant boolean := to_regclass('private.response_conversations') is not null;
  v_count bigint;
begin
  -- What private.prune_conversation comes to, for all at once.
  execute format(
    $query$
      with recursive doomed as materialized (
        select c.id, c.user_id, c.parent_id, c.fork_sequence
        from public.conversations c
        where case
          when c.deleted_at is not null then not exists (
            select
            from private.imports i
            where i.user_id = c.user_id and i.conversation_id = c.id and i.created_at >= $1 - interval '1 day'
          )
          -- As in private.retain_conversations.
          else not c.pinned and coalesce(c.expires_at <= $1, c.created_at < $2 and c.updated_at < $2, false) or %1$s
        end
      ),
      shown (id, upper) as (
        select * from (
          select f.parent_id, f.fork_sequence
          from doomed d
          join public.conversations f on f.parent_id = d.id
          where not exists (select from doomed x where x.id = f.id)
          %2$s
        ) first
        union
        select d.parent_id, d.fork_sequence from shown s join doomed d on d.id = s.id where d.parent_id is not null
      )
      select count(*)
      from doomed d
      left join (select s.id, max(s.upper) as upper from shown s group by s.id) s on s.id = d.id
      join public.conversation_messages m on m.conversation_id = d.id and m.sequence_order > coalesce(s.upper, 0)
    $query$,
    -- As in private.shows_itself.
    case when v_has_responses then $sql$exists (
      select
      from private.response_conversations r
      where r.user_id = c.user_id and r.conversation_id = c.id and r.last_sequence_order = c.last_sequence_order
    )$sql$ else 'false' end,
    case when v_has_responses then $sql$
      union all
      select s.conversation_id, s.sequence_order
      from doomed d
      join public.conversation_states s on s.user_id = d.user_id and s.conversation_id = d.id
      where s.updated_at >= $3 or $3 is null
    $sql$ end
  )
  into v_count using p_now, p_cutoff, p_responses_before;
  return v_count;
end;
$$;
comment on routine private.count_prunable is
  'How many messages nothing shows any more once the conversations past their time are hidden, the responses from before '
  'p_responses_before (null: none) are gone, and the imports that broke off have ended. Those that deletions have left behind count.';
revoke all on routine private.count_prunable from public, anon, authenticated, service_role;


create function private.retention_preview(p_now timestamptz) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set intervalstyle = 'iso_8601'
as $$
declare
  v_policy private.retention_policies;
  v_cutoff timestamptz;
  v_removes jsonb;
  v_data jsonb := '[]';
begin
  for v_policy in
    select *
    from private.retention_policies p
    where p.kind <> 'job_run_details' or to_regclass('cron.job_run_details') is not null
    order by p.kind, p.collection
  loop
    v_cutoff := p_now - v_policy.keep;
    case v_policy.kind
      when 'conversations' then
        select jsonb_build_object(
          'conversations', count(*), 'conversation_messages', private.count_prunable(p_now, v_cutoff, null)
        ) into v_removes
        from public.conversations c
        where c.deleted_at is null and not c.pinned
          and (c.expires_at <= p_now or c.expires_at is null and c.created_at < v_cutoff and c.updated_at < v_cutoff);
      when 'conversation_states' then
        -- What goes with the conversations counts there.
        select jsonb_build_object(
          'conversation_states', count(*),
          'conversation_messages',
          private.count_prunable(p_now, private.retention_cutoff('conversations', p_now), v_cutoff)
            - private.count_prunable(p_now, private.retention_cutoff('conversations', p_now), null)
        ) into v_removes
        from public.conversation_states s
        where s.updated_at < v_cutoff;
      when 'sessions' then
        select jsonb_build_object(
          'sessions', count(*),
          'event_logs', coalesce(sum((select count(*) from public.event_logs e where e.session_id = s.id)), 0),
          'event_counts', coalesce(sum((select count(*) from private.event_counts e where e.session_id = s.id)), 0)
        ) into v_removes
        from public.sessions s
        where s.created_at < v_cutoff and coalesce(s.last_event_at, s.created_at) < v_cutoff;
      when 'event_logs' then
        select jsonb_build_object(
          'event_log_partitions', count(*),
          'event_logs_estimated', coalesce(sum(p.estimated_events), 0),
          -- What goes with its session counts there.
          'event_logs', (
            select count(*)
            from private.event_logs_default e
            join public.sessions s on s.id = e.session_id
            where e.created_at < v_cutoff
              and coalesce(greatest(s.created_at, s.last_event_at) >= private.retention_cutoff('sessions', p_now), true)
          )
        ) into v_removes
        from private.expired_event_partitions(p_now) p;
      when 'documents' then
        select jsonb_build_object(
          'documents', (
            select count(*) from public.documents d where d.collection = v_policy.collection and d.sort_at < v_cutoff
          ),
          'document_failures', (
            select count(*)
            from public.document_failures f
            where f.collection = v_policy.collection and f.sort_at < v_cutoff
          )
        ) into v_removes;
      when 'idempotency_keys' then
        select jsonb_build_object('idempotency_keys', count(*)) into v_removes
        from private.idempotency_keys k
        where k.created_at < v_cutoff;
      when 'job_run_details' then
        execute '
          select jsonb_build_object(''job_run_details'', count(*))
          from cron.job_run_details d
          where coalesce(d.end_time, d.start_time) < $1'
        into v_removes using v_cutoff;
      when 'retention_runs' then
        select jsonb_build_object('retention_runs', count(*)) into v_removes
        from private.retention_runs r
        where r.started_at < v_cutoff;
    end case;
    v_data := v_data || jsonb_build_object(
      'kind', v_policy.kind, 'collection', nullif(v_policy.collection, ''), 'keep', v_policy.keep, 'removes', v_removes
    );
  end loop;
  return jsonb_build_object('now', p_now, 'data', v_data, 'has_more', false);
end;
$$;
comment on routine private.retention_preview is 'See public.retention_preview.';


create function public.retention_preview(p_now timestamptz default now()) returns jsonb
language sql
stable
set search_path = ''
return private.retention_preview(p_now);
comment on routine public.retention_preview is
  'What retention would remove, at another time too: {now, data: [{kind, collection, keep, removes: {table: count}}], has_more}. '
  'Removes nothing. Messages that deletions have left behind count with the conversations; event_logs_estimated are the events '
  'in partitions to be dropped, by Postgres'' statistics. For backends, and in SQL.';
revoke all on routine private.retention_preview, public.retention_preview
  from public, anon, authenticated, service_role;
grant execute on routine private.retention_preview, public.retention_preview to service_role;

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

reset check_function_bodies;
