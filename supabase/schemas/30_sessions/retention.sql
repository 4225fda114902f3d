-- Retention of sessions, since their last event, and of events, by whole months of when they were stored. What is counted
-- of these, private.event_counts, stays and goes with the session.

insert into private.retention_policies (kind, keep) values ('sessions', null), ('event_logs', null);


create function private.remove_events(
  p_session_id uuid, p_limit bigint, p_bytes bigint, p_from timestamptz, p_to timestamptz,
  out removed integer, out bytes bigint, out complete boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_last integer;
begin
  select
    max(e.sequence) filter (where e.before < p_bytes), coalesce(sum(e.bytes), 0),
    count(*) < p_limit and coalesce(bool_and(e.before < p_bytes), true)
  into v_last, bytes, complete
  from (
    select e.sequence, e.bytes, sum(e.bytes) over (order by e.sequence) - e.bytes as before
    from (
      select e.sequence, pg_column_size(e.content) as bytes
      from public.event_logs e
      where e.session_id = p_session_id and e.created_at between p_from and p_to
      order by e.sequence
      limit p_limit
    ) e
  ) e;
  delete from public.event_logs e
  where e.session_id = p_session_id and e.created_at between p_from and p_to and e.sequence <= v_last;
  get diagnostics removed = row_count;
end;
$$;
comment on routine private.remove_events is
  'Removes the first events of a session that the caller has locked, of those stored from p_from to p_to: fewer than p_limit '
  'if these were all (complete), and no more after p_bytes. Checks nobody''s rights.';
revoke all on routine private.remove_events from public, anon, authenticated, service_role;


create function private.retain_sessions(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
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
  v_piece record;
  v_bytes bigint := 0;
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
        v_piece := private.remove_events(
          v_session.id, c_rows - v_events - v_counts, c_bytes - v_bytes, v_session.created_at, v_session.last_event_at
        );
        v_events := v_events + v_piece.removed;
        v_bytes := v_bytes + v_piece.bytes;
        exit when not v_piece.complete;
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
  more := v_read = c_read or v_sessions = c_removed or v_events + v_counts >= c_rows or v_bytes >= c_bytes;
end;
$$;
comment on routine private.retain_sessions is
  'Deletes up to 200 sessions and 5,000 of their events and counts, or 64 MiB of them. A session goes when none is left.';
revoke all on routine private.retain_sessions from public, anon, authenticated, service_role;


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
comment on routine private.expired_event_partitions is
  'The partitions of event_logs of which every event is past the policy, and how many these are by Postgres'' statistics: '
  'counting them would read what is to be dropped.';
revoke all on routine private.expired_event_partitions from public, anon, authenticated, service_role;


create function private.drop_event_partition(p_leaf regclass) returns void
language plpgsql
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
comment on routine private.drop_event_partition is
  'Drops a partition of event_logs, or raises 55P03 where that would make anybody wait.';
revoke all on routine private.drop_event_partition from public, anon, authenticated, service_role;


create function private.retain_event_logs(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 5000;
  v_cutoff timestamptz := private.retention_cutoff('event_logs', p_now);
  v_leaf record;
  v_piece record;
begin
  select * into v_leaf from private.expired_event_partitions(p_now) p order by p.ends_at limit 1;
  if found then
    perform private.drop_event_partition(v_leaf.leaf);
    removed := jsonb_build_object('event_log_partitions', 1, 'event_logs_estimated', v_leaf.estimated_events);
    more := true;
    return;
  end if;

  -- No event occurred later than five minutes after it was stored, and there is an index on that.
  v_piece := private.remove_oldest(
    'private.event_logs_default', 't.occurred_at < $3 + interval ''5 minutes'' and t.created_at < $3', v_cutoff,
    'occurred_at', 'content', c_removed
  );
  removed := jsonb_build_object('event_logs', v_piece.removed);
  more := v_piece.more;
end;
$$;
comment on routine private.retain_event_logs is
  'Drops one partition of event_logs, or deletes up to 5,000 events that the default partition took. Raises 55P03 where the '
  'tables are in use: the next run tries again.';
revoke all on routine private.retain_event_logs from public, anon, authenticated, service_role;
