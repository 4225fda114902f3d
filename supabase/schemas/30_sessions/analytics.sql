-- Analytics: sessions and what happened in them, by hours, days, weeks or months of a time zone.

create function private.bucket_borders(p_from timestamptz, p_to timestamptz, p_bucket text) returns timestamptz[]
language sql
stable
set search_path = ''
as $$
  -- A day more on both sides: the clock may have been set back in between, and the first local time be the later one.
  with clock as (
    select c.local_time, c.local_time::timestamptz as last
    from generate_series(
      date_trunc(p_bucket, p_from::timestamp - interval '1 day'), p_to::timestamp + interval '1 day',
      ('1 ' || p_bucket)::interval
    ) as c (local_time)
  ),
  -- What the clock shows twice, because it was set back, Postgres reads as the second time. The first is the one by the
  -- offset of the day before, if the clock really shows it then.
  struck as (
    select c.local_time, c.last, (c.local_time - (d.at::timestamp - d.at at time zone 'UTC')) at time zone 'UTC' as first
    from clock c
    cross join lateral (select c.last - interval '24 hours') as d (at)
  ),
  borders as (
    select p_from as at
    union
    -- A day that begins twice begins the first time; an hour that comes twice is two hours.
    select s.first from struck s where s.first::timestamp = s.local_time
    union
    select s.last from struck s where p_bucket = 'hour' or s.first::timestamp <> s.local_time
    union
    select p_to
  )
  select array_agg(b.at order by b.at)
  from borders b
  where b.at between p_from and p_to;
$$;
comment on routine private.bucket_borders is
  'Where the hours, days, weeks (from Monday) or months of the setting TimeZone begin in a window, and the ends of the window: '
  'n + 1 borders of n buckets. What the clock jumps over begins with the jump.';
revoke all on routine private.bucket_borders from public, anon, authenticated, service_role;


create function private.session_analytics(
  p_from timestamptz, p_to timestamptz, p_bucket text, p_time_zone text, p_of_user_id text, p_user_id text
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- Restored when the function returns: inside, it is the time zone of the answer. Names given to AT TIME ZONE would be taken
-- for abbreviations first, and CET would have no summer.
set timezone = 'UTC'
-- Planned for the arguments of each call: one user's rows come by an index, everybody's do not.
set plan_cache_mode = force_custom_plan
-- Compiling takes longer than the query.
set jit = off
-- For the distinct users of a hundred thousand sessions in memory.
set work_mem = '32MB'
as $$
declare
  c_max_buckets constant integer := 1000;
  -- A client may make up types without end; the answer is bounded.
  c_max_types constant integer := 100;
  -- A statement has eight seconds.
  c_max_counts constant integer := 1000000;
  c_quarter constant interval := '15 minutes';
  v_user_id text := private.session_reader(p_user_id, p_of_user_id);
  v_from timestamptz;
  v_to timestamptz := coalesce(p_to, now());
  v_borders timestamptz[];
  v_cut timestamptz[];
  v_counts bigint;
  v_answer jsonb;
begin
  if coalesce(p_bucket not in ('hour', 'day', 'week', 'month'), true) then
    perform private.refuse('bucket is not hour, day, week or month.');
  end if;
  perform private.take_turn(v_user_id);

  begin
    -- With a digit it may be an offset as POSIX writes it, where "+2" is west, or no name at all. Looking names up takes
    -- 20 ms, which is saved for all the others.
    if coalesce(p_time_zone !~ '^[A-Za-z]+([_/-][A-Za-z]+)*$', true)
      and not exists (select from pg_timezone_names z where z.name = p_time_zone)
    then
      raise invalid_parameter_value;
    end if;
    perform set_config('TimeZone', p_time_zone, true);
  exception
    when invalid_parameter_value then
      raise sqlstate 'PT400' using
        message = 'invalid_request',
        detail = 'time_zone is not the name of a time zone.',
        hint = 'Send a name of the IANA database, such as Europe/Berlin or UTC.';
  end;

  v_from := coalesce(p_from, v_to - interval '30 days');
  if v_from not between '1970-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    or v_to not between '1970-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    or v_from >= v_to
  then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = 'from is not before to, or one of them is before 1970.',
      hint = 'Without to, the window ends now; without from, it begins 30 days before its end.';
  end if;
  if v_to > v_from + c_max_buckets * ('1 ' || p_bucket)::interval then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = format('The window is longer than %s %ss.', c_max_buckets, p_bucket),
      hint = 'Ask for a shorter window or for larger buckets.';
  end if;

  v_borders := private.bucket_borders(v_from, v_to, p_bucket);
  -- Quarters of an hour that lie in two buckets, or in part outside of the window, cannot be counted as a whole.
  v_cut := array(
    select distinct private.event_slot(b.border)
    from unnest(v_borders) as b (border)
    where private.event_slot(b.border) <> b.border
  );

  with opened as materialized (
    select width_bucket(s.start_time, v_borders) as bucket, s.user_id, s.start_time, s.duration
    from public.sessions s
    where s.start_time >= v_from and s.start_time < v_to
      and (v_user_id is null or s.user_id = v_user_id)
  ),
  callers as (
    select o.bucket, o.user_id, count(*) as sessions, min(o.start_time) as first
    from opened o
    group by o.bucket, o.user_id
  ),
  users as (
    select
      c.user_id, sum(c.sessions) as sessions, min(c.first) as first,
      exists (select from public.sessions s where s.user_id = c.user_id and s.start_time < v_from) as called_before
    from callers c
    group by c.user_id
  ),
  -- Bucket 0 is the whole window, here and below.
  calls as (
    select
      c.bucket, sum(c.sessions) as sessions, count(*) as users,
      count(*) filter (where c.sessions > 1 or c.first > u.first or u.called_before) as returning_users
    from callers c
    join users u using (user_id)
    group by c.bucket
    union all
    select 0, sum(u.sessions), count(*), count(*) filter (where u.sessions > 1 or u.called_before)
    from users u
  ),
  lengths as (
    select
      coalesce(o.bucket, 0) as bucket,
      percentile_cont(array[0.5, 0.95]) within group (order by o.duration) as seconds
    from opened o
    where o.duration is not null
    group by grouping sets ((o.bucket), ())
  ),
  counted as (
    select
      width_bucket(c.slot, v_borders) as bucket, c.event_type, sum(c.count) as n, sum(c.messages) as messages,
      count(*) as counts
    from (
      select c.slot, c.event_type, c.count, c.messages
      from private.event_counts c
      where c.slot >= v_from and c.slot < v_to and c.slot <> all (v_cut)
        and (v_user_id is null or c.user_id = v_user_id)
      limit c_max_counts + 1
    ) c
    group by c.slot, c.event_type
    union all
    select
      width_bucket(e.occurred_at, v_borders), e.event_type, count(*),
      count(*) filter (where case
        -- Next to each other: the other may have occurred outside of the window, or have no turn next to it.
        when e.before_sequence = e.sequence - 1
          then private.begins_message(e.event_type, e.trace_id, e.before_type, e.before_trace_id)
        when e.event_type like 'ai\_%' then (
          select private.begins_message(e.event_type, e.trace_id, b.event_type, b.trace_id)
          from private.event_before(e.session_id, e.sequence) b
        )
        else e.event_type = 'user_message'
      end),
      0
    from unnest(v_cut) as q (slot)
    cross join lateral (
      select
        l.session_id, l.sequence, l.occurred_at, l.event_type, l.trace_id,
        lag(l.sequence) over turns as before_sequence,
        lag(l.event_type) over turns as before_type,
        lag(l.trace_id) over turns as before_trace_id
      from public.event_logs l
      where l.occurred_at >= greatest(q.slot, v_from) and l.occurred_at < least(q.slot + c_quarter, v_to)
        -- Follows from event_logs_check, and says which partitions to look into.
        and l.created_at between q.slot - interval '5 minutes' and q.slot + c_quarter + interval '168 hours'
        and (v_user_id is null or l.user_id = v_user_id)
      window turns as (
        partition by l.session_id, l.event_type = any (private.turn_types()) order by l.sequence
      )
    ) e
    group by 1, 2
  ),
  types as (
    select coalesce(c.bucket, 0) as bucket, c.event_type, sum(c.n) as n, sum(c.messages) as messages
    from counted c
    group by grouping sets ((c.bucket, c.event_type), (c.event_type))
  ),
  named as (
    select t.event_type
    from types t
    where t.bucket = 0
    order by t.n desc, t.event_type collate "C"
    limit c_max_types
  ),
  logged as (
    select
      t.bucket,
      sum(t.messages) as messages,
      jsonb_object_agg(t.event_type, t.n) filter (where n.event_type is not null) as events,
      sum(t.n) filter (where n.event_type is null) as other_events
    from types t
    left join named n using (event_type)
    group by t.bucket
  ),
  figures as (
    select
      b.bucket,
      jsonb_build_object(
        'sessions', coalesce(c.sessions, 0),
        'users', coalesce(c.users, 0),
        'returning_users', coalesce(c.returning_users, 0),
        'messages', coalesce(l.messages, 0),
        'messages_per_session', coalesce(l.messages, 0)::double precision / c.sessions::double precision,
        'messages_per_user', coalesce(l.messages, 0)::double precision / nullif(c.users, 0)::double precision,
        'duration', jsonb_build_object('p50', d.seconds[1], 'p95', d.seconds[2]),
        'events', coalesce(l.events, '{}'),
        'other_events', coalesce(l.other_events, 0)
      ) as figures
    from generate_series(0, cardinality(v_borders) - 1) as b (bucket)
    left join calls c using (bucket)
    left join lengths d using (bucket)
    left join logged l using (bucket)
  )
  select jsonb_build_object(
    'from', v_from,
    'to', v_to,
    'bucket', p_bucket,
    'time_zone', current_setting('TimeZone'),
    'totals', jsonb_agg(f.figures) filter (where f.bucket = 0) -> 0,
    'buckets', jsonb_agg(
      jsonb_build_object('start', v_borders[f.bucket], 'end', v_borders[f.bucket + 1]) || f.figures order by f.bucket
    ) filter (where f.bucket > 0)
  ), (select sum(c.counts) from counted c) into v_answer, v_counts
  from figures f;
  if v_counts > c_max_counts then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = 'The window has more than 1,000,000 counts: types of events in quarters of an hour, by session.',
      hint = 'Ask for a shorter window.';
  end if;
  return v_answer;
end;
$$;
comment on routine private.session_analytics is
  'See public.session_analytics. Events are counted by private.event_counts; those of a quarter of an hour that a border cuts, '
  'by event_logs: where their partition has gone, not at all.';


create function public.session_analytics(
  p_from timestamptz default null,
  p_to timestamptz default null,
  p_bucket text default 'day',
  p_time_zone text default 'UTC',
  p_of_user_id text default null,
  p_user_id text default null
) returns jsonb
language sql
stable
set search_path = ''
return private.session_analytics(p_from, p_to, p_bucket, p_time_zone, p_of_user_id, p_user_id);
comment on routine public.session_analytics is
  'Figures of [p_from, p_to), by default the 30 days until now, and of each hour, day, week or month of a time zone in it: '
  '{from, to, bucket, time_zone, totals, buckets}. A session counts where it started, an event where it occurred. Messages are '
  'user_message, ai_message and ai_response, and each run of ai_chunk that none of them has. A returning user had a session '
  'before one of theirs there. A backend that acts for nobody counts everybody, or p_of_user_id. Raises PT400 invalid_request.';
revoke all on routine private.session_analytics, public.session_analytics
  from public, anon, authenticated, service_role;
grant execute on routine private.session_analytics, public.session_analytics to authenticated, service_role;
