-- What retention removes, kind by kind. A function for each looks at a bounded number of rows in the order of an index, from
-- p_position on, where the last call of the same run left off, and removes those that are past their time. It waits for no
-- row that somebody holds: the next run finds it. removed: {table: count}; more: whether to call again.

-- ---------------------------------------------------------------------------------------------------------------------
-- Conversations: since the last message, or when the conversation itself says
-- ---------------------------------------------------------------------------------------------------------------------
-- By creation, because an index on updated_at would make every append write to all indexes (docs/decisions/0013). No append
-- moves a column of these two.
create index idx_conversations_created_at on public.conversations (created_at, id)
  where deleted_at is null and expires_at is null and not pinned;
create index idx_conversations_expires_at on public.conversations (expires_at)
  where deleted_at is null and expires_at is not null and not pinned;


create function private.retain_conversations(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 500;
  c_read constant integer := 5000;
  v_cutoff timestamptz := private.retention_cutoff('conversations', p_now);
  v_conversation record;
  v_read integer := 0;
  v_ids uuid[];
begin
  v_ids := array(
    select c.id
    from public.conversations c
    where c.deleted_at is null and c.expires_at is not null and not c.pinned and c.expires_at <= p_now
    order by c.expires_at
    limit c_removed
    for update skip locked
  );
  more := v_ids <> '{}';

  if v_ids = '{}' and v_cutoff is not null then
    for v_conversation in
      select c.id, c.created_at, c.updated_at
      from public.conversations c
      where c.deleted_at is null and c.expires_at is null and not c.pinned
        and c.created_at < v_cutoff
        and (c.created_at, c.id) > (
          coalesce((p_position ->> 'created_at')::timestamptz, '-infinity'),
          coalesce((p_position ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
        )
      order by c.created_at, c.id
      limit c_read
    loop
      v_read := v_read + 1;
      p_position := jsonb_build_object('created_at', v_conversation.created_at, 'id', v_conversation.id);
      if v_conversation.updated_at < v_cutoff then
        v_ids := v_ids || v_conversation.id;
      end if;
      exit when cardinality(v_ids) = c_removed;
    end loop;
    more := v_read = c_read or cardinality(v_ids) = c_removed;
    -- Again under the lock: somebody may have written to it, pinned it, or said when it expires.
    v_ids := array(
      select c.id
      from public.conversations c
      where c.id = any (v_ids)
        and c.deleted_at is null and c.expires_at is null and not c.pinned and c.updated_at < v_cutoff
      for update skip locked
    );
  end if;

  perform private.hide_conversations(v_ids);
  removed := jsonb_build_object('conversations', cardinality(v_ids));
end;
$$;
comment on function private.retain_conversations(timestamptz, jsonb) is
  'Deletes up to 500 conversations: those past their expires_at, and those without one whose last message is past the policy. '
  'Pinned ones stay. Their messages are left to private.prune_queue.';
revoke all on function private.retain_conversations(timestamptz, jsonb) from public, anon, authenticated, service_role;


create function private.retain_prune_queue(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  select jsonb_build_object('conversation_messages', d.messages), d.progress into removed, more
  from private.drain_prune_queue(5000) d;
end;
$$;
comment on function private.retain_prune_queue(timestamptz, jsonb) is
  'Removes up to 5,000 messages that deletions have left behind, those of retention and everybody''s.';
revoke all on function private.retain_prune_queue(timestamptz, jsonb) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Responses: since they were stored, or replaced last
-- ---------------------------------------------------------------------------------------------------------------------
create index idx_conversation_states_updated_at on public.conversation_states (updated_at);


create function private.retain_conversation_states(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 1000;
  v_cutoff timestamptz := private.retention_cutoff('conversation_states', p_now);
  v_count integer;
begin
  -- No lock of the user's, as private.remove_response takes it: a response that is being continued is locked, and passed by;
  -- the queue prunes without waiting. A conversation that somebody deletes at this moment could not be put there.
  with expired as materialized (
    select s.user_id, s.response_id, s.conversation_id
    from public.conversation_states s
    join public.conversations c on c.user_id = s.user_id and c.id = s.conversation_id
    where s.updated_at < v_cutoff
    order by s.updated_at
    limit c_removed
    for update of s skip locked
    for key share of c skip locked
  ),
  deleted as (
    delete from public.conversation_states s
    using expired e
    where s.user_id = e.user_id and s.response_id = e.response_id
    returning s.user_id
  ),
  queued as (
    insert into private.prune_queue (conversation_id, user_id)
    select distinct e.conversation_id, e.user_id from expired e
    on conflict do nothing
  )
  select count(*) into v_count from deleted;
  removed := jsonb_build_object('conversation_states', v_count);
  more := v_count = c_removed;
end;
$$;
comment on function private.retain_conversation_states(timestamptz, jsonb) is
  'Deletes up to 1,000 responses. What of their history nothing else shows is left to private.prune_queue.';
revoke all on function private.retain_conversation_states(timestamptz, jsonb)
  from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Imports that broke off
-- ---------------------------------------------------------------------------------------------------------------------
create index idx_imports_created_at on private.imports (created_at);


create function private.retain_imports(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 500;
  v_count integer;
begin
  with expired as materialized (
    select i.user_id, i.conversation_id
    from private.imports i
    join public.conversations c on c.user_id = i.user_id and c.id = i.conversation_id
    -- As in private.expire_imports.
    where i.created_at < p_now - interval '1 day'
    order by i.created_at
    limit c_removed
    for update of i skip locked
    for key share of c skip locked
  ),
  deleted as (
    delete from private.imports i
    using expired e
    where i.user_id = e.user_id and i.conversation_id = e.conversation_id
    returning i.user_id
  ),
  queued as (
    insert into private.prune_queue (conversation_id, user_id)
    select e.conversation_id, e.user_id from expired e
    on conflict do nothing
  )
  select count(*) into v_count from deleted;
  removed := jsonb_build_object('imports', v_count);
  more := v_count = c_removed;
end;
$$;
comment on function private.retain_imports(timestamptz, jsonb) is
  'Ends up to 500 imports that broke off more than a day ago. What nothing shows of them is left to private.prune_queue.';
revoke all on function private.retain_imports(timestamptz, jsonb) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Sessions: since their last event
-- ---------------------------------------------------------------------------------------------------------------------
create index idx_sessions_created_at on public.sessions (created_at, id);


create function private.retain_sessions(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 200;
  c_rows constant integer := 5000;
  -- See private.remove_messages.
  c_bytes constant bigint := 64 * 1024 * 1024;
  c_read constant integer := 5000;
  v_cutoff timestamptz := private.retention_cutoff('sessions', p_now);
  v_session record;
  v_last integer;
  v_bytes bigint := 0;
  v_size bigint;
  v_cut boolean := false;
  v_count integer;
  v_read integer := 0;
  v_sessions integer := 0;
  v_events integer := 0;
  v_counts integer := 0;
begin
  for v_session in
    select s.id, s.created_at, s.last_event_at
    from public.sessions s
    where s.created_at < v_cutoff
      and (s.created_at, s.id) > (
        coalesce((p_position ->> 'created_at')::timestamptz, '-infinity'),
        coalesce((p_position ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
      )
    order by s.created_at, s.id
    limit c_read
  loop
    v_read := v_read + 1;
    if coalesce(v_session.last_event_at, v_session.created_at) < v_cutoff then
      -- Again under the lock. One that is locked is being written to.
      perform
      from public.sessions s
      where s.id = v_session.id and coalesce(s.last_event_at, s.created_at) < v_cutoff
      for update skip locked;
      if found then
        -- What hangs on it goes first, as far as the step may: the cascade is not bounded.
        select
          max(e.sequence) filter (where e.before < c_bytes - v_bytes), coalesce(sum(e.bytes), 0),
          coalesce(bool_or(e.before >= c_bytes - v_bytes), false)
        into v_last, v_size, v_cut
        from (
          select e.sequence, e.bytes, sum(e.bytes) over (order by e.sequence) - e.bytes as before
          from (
            select e.sequence, pg_column_size(e.content) as bytes
            from public.event_logs e
            where e.session_id = v_session.id and e.created_at between v_session.created_at and v_session.last_event_at
            order by e.sequence
            limit c_rows - v_events - v_counts
          ) e
        ) e;
        delete from public.event_logs e
        where e.session_id = v_session.id
          and e.created_at between v_session.created_at and v_session.last_event_at
          and e.sequence <= v_last;
        get diagnostics v_count = row_count;
        v_events := v_events + v_count;
        v_bytes := v_bytes + v_size;
        exit when v_cut;
        delete from private.event_counts c
        where c.ctid = any (array(
          select c.ctid from private.event_counts c where c.session_id = v_session.id limit c_rows - v_events - v_counts
        ));
        get diagnostics v_count = row_count;
        v_counts := v_counts + v_count;
        exit when v_events + v_counts >= c_rows;
        delete from public.sessions s where s.id = v_session.id;
        v_sessions := v_sessions + 1;
      end if;
    end if;
    p_position := jsonb_build_object('created_at', v_session.created_at, 'id', v_session.id);
    exit when v_sessions = c_removed;
  end loop;
  removed := jsonb_build_object('sessions', v_sessions, 'event_logs', v_events, 'event_counts', v_counts);
  more := v_read = c_read or v_sessions = c_removed or v_events + v_counts >= c_rows or v_cut;
end;
$$;
comment on function private.retain_sessions(timestamptz, jsonb) is
  'Deletes up to 200 sessions and 5,000 of their events and counts, or 64 MiB of them. A session goes when none is left.';
revoke all on function private.retain_sessions(timestamptz, jsonb) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Events: by whole months of when they were stored. private.event_counts stays, and goes with the session.
-- ---------------------------------------------------------------------------------------------------------------------
create function private.expired_event_partitions(p_now timestamptz)
returns table (leaf regclass, ends_at timestamptz, estimated_events bigint)
language sql
stable
security definer
set search_path = ''
set timezone = 'UTC'
as $$
  select l.leaf, l.ends_at, l.estimated_events
  from (
    select
      c.oid::regclass as leaf,
      substring(pg_get_expr(c.relpartbound, c.oid) from $re$ TO \('([^']+)'\)$re$)::timestamptz as ends_at,
      greatest(c.reltuples, 0)::bigint as estimated_events
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.event_logs'::regclass
  ) l
  where l.ends_at <= private.retention_cutoff('event_logs', p_now);
$$;
comment on function private.expired_event_partitions(timestamptz) is
  'The partitions of event_logs of which every event is past the policy, and how many these are by Postgres'' statistics: '
  'counting them would read what is to be dropped.';
revoke all on function private.expired_event_partitions(timestamptz) from public, anon, authenticated, service_role;


create function private.drop_event_partition(p_leaf regclass) returns void
language plpgsql
volatile
security definer
set search_path = ''
-- What waits longer than this goes back to the end of the queue: everybody who writes would wait behind it.
set lock_timeout = '200ms'
as $$
begin
  -- In the order in which append_events takes them. DROP needs all of them: the foreign key's triggers are on sessions.
  lock table public.sessions in access exclusive mode;
  lock table only public.event_logs in access exclusive mode;
  execute format('drop table %s', p_leaf);
end;
$$;
comment on function private.drop_event_partition(regclass) is
  'Drops a partition of event_logs, or raises 55P03 where that would make anybody wait.';
revoke all on function private.drop_event_partition(regclass) from public, anon, authenticated, service_role;


create function private.retain_event_logs(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 5000;
  -- See private.remove_messages.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_cut boolean;
  v_cutoff timestamptz := private.retention_cutoff('event_logs', p_now);
  v_leaf record;
  v_count integer;
begin
  select * into v_leaf from private.expired_event_partitions(p_now) p order by p.ends_at limit 1;
  if found then
    perform private.drop_event_partition(v_leaf.leaf);
    removed := jsonb_build_object('event_log_partitions', 1, 'event_logs_estimated', v_leaf.estimated_events);
    more := true;
    return;
  end if;

  -- No event occurred later than five minutes after it was stored, and there is an index on that.
  with expired as (
    select e.session_id, e.sequence, e.created_at, pg_column_size(e.content) as bytes
    from private.event_logs_default e
    where e.occurred_at < v_cutoff + interval '5 minutes' and e.created_at < v_cutoff
    order by e.occurred_at
    limit c_removed
    for update skip locked
  ),
  piece as (
    select x.*, sum(x.bytes) over (rows unbounded preceding) - x.bytes as before from expired x
  ),
  deleted as (
    delete from private.event_logs_default e
    using piece x
    where e.session_id = x.session_id and e.sequence = x.sequence and e.created_at = x.created_at and x.before < c_bytes
    returning e.sequence
  )
  select count(*), coalesce((select max(x.before) >= c_bytes from piece x), false) into v_count, v_cut from deleted;
  removed := jsonb_build_object('event_logs', v_count);
  more := v_cut or v_count = c_removed;
end;
$$;
comment on function private.retain_event_logs(timestamptz, jsonb) is
  'Drops one partition of event_logs, or deletes up to 5,000 events that the default partition took. Raises 55P03 where the '
  'tables are in use: the next run tries again.';
revoke all on function private.retain_event_logs(timestamptz, jsonb) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Documents: by their creation_utc, in the collections that have a policy
-- ---------------------------------------------------------------------------------------------------------------------
create index idx_documents_collection on public.documents (collection, sort_at);
create index idx_document_failures_collection on public.document_failures (collection, sort_at);


create function private.retain_documents(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 2000;
  -- See private.remove_messages.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_cut boolean;
  v_policy record;
  v_documents integer := 0;
  v_failures integer := 0;
  v_count integer;
begin
  more := false;
  for v_policy in
    select p.collection, p_now - p.keep as cutoff
    from private.retention_policies p
    where p.kind = 'documents' and p.keep is not null and p.collection >= coalesce(p_position ->> 'collection', '')
    order by p.collection
  loop
    p_position := jsonb_build_object('collection', v_policy.collection);
    with expired as (
      select d.owner_id, d.id, pg_column_size(d.data) as bytes
      from public.documents d
      where d.collection = v_policy.collection and d.sort_at < v_policy.cutoff
      order by d.sort_at
      limit c_removed - v_documents - v_failures
      for update skip locked
    ),
    piece as (
      select x.*, sum(x.bytes) over (rows unbounded preceding) - x.bytes as before from expired x
    ),
    deleted as (
      delete from public.documents d
      using piece x
      where d.owner_id = x.owner_id and d.collection = v_policy.collection and d.id = x.id and x.before < c_bytes
      returning d.id
    )
    select count(*), coalesce((select max(x.before) >= c_bytes from piece x), false) into v_count, v_cut from deleted;
    v_documents := v_documents + v_count;
    more := v_cut or v_documents >= c_removed;
    exit when more;
    with expired as (
      select f.owner_id, f.id, pg_column_size(f.data) as bytes
      from public.document_failures f
      where f.collection = v_policy.collection and f.sort_at < v_policy.cutoff
      order by f.sort_at
      limit c_removed - v_documents - v_failures
      for update skip locked
    ),
    piece as (
      select x.*, sum(x.bytes) over (rows unbounded preceding) - x.bytes as before from expired x
    ),
    deleted as (
      delete from public.document_failures f
      using piece x
      where f.owner_id = x.owner_id and f.collection = v_policy.collection and f.id = x.id and x.before < c_bytes
      returning f.id
    )
    select count(*), coalesce((select max(x.before) >= c_bytes from piece x), false) into v_count, v_cut from deleted;
    v_failures := v_failures + v_count;
    more := v_cut or v_documents + v_failures >= c_removed;
    exit when more;
  end loop;
  removed := jsonb_build_object('documents', v_documents, 'document_failures', v_failures);
end;
$$;
comment on function private.retain_documents(timestamptz, jsonb) is
  'Deletes up to 2,000 documents, those in quarantine included, of the collections that have a policy, whoever owns them.';
revoke all on function private.retain_documents(timestamptz, jsonb) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Records
-- ---------------------------------------------------------------------------------------------------------------------
create function private.retain_idempotency_keys(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 5000;
  v_cutoff timestamptz := private.retention_cutoff('idempotency_keys', p_now);
  v_count integer;
begin
  with expired as (
    select k.user_id, k.scope, k.key
    from private.idempotency_keys k
    where k.created_at < v_cutoff
    order by k.created_at
    limit c_removed
    for update skip locked
  )
  delete from private.idempotency_keys k
  using expired x
  where k.user_id = x.user_id and k.scope = x.scope and k.key = x.key;
  get diagnostics v_count = row_count;
  removed := jsonb_build_object('idempotency_keys', v_count);
  more := v_count = c_removed;
end;
$$;
comment on function private.retain_idempotency_keys(timestamptz, jsonb) is 'Deletes up to 5,000 idempotency keys.';
revoke all on function private.retain_idempotency_keys(timestamptz, jsonb) from public, anon, authenticated, service_role;


create function private.retain_job_run_details(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
volatile
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
comment on function private.retain_job_run_details(timestamptz, jsonb) is
  'Deletes up to 5,000 records of pg_cron, which keeps one for every run of every job.';
revoke all on function private.retain_job_run_details(timestamptz, jsonb) from public, anon, authenticated, service_role;


create function private.retain_retention_runs(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
volatile
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
comment on function private.retain_retention_runs(timestamptz, jsonb) is
  'Deletes the records of runs, of which there is one in an hour.';
revoke all on function private.retain_retention_runs(timestamptz, jsonb) from public, anon, authenticated, service_role;
