-- Made from supabase/schemas/30_sessions by "npm run migration": change it there.

set check_function_bodies = off;

-- Sessions and event logs: every event of a call, in an order that the database assigns.

create function private.check_session(
  p_user_id text, p_start_time timestamptz, p_end_time timestamptz, p_summary text, p_last_sequence integer, p_metadata jsonb
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_first constant timestamptz := '1970-01-01 00:00:00+00';
  c_last constant timestamptz := '9999-12-31 00:00:00+00';
  -- Every append moves the row. The bytes are known without reading the text, the characters are not.
  v_broken text := case
    when char_length(p_user_id) not between 1 and 256 or p_user_id <> private.session_user_id(p_user_id)
      then '{user_id,"has not 1 to 256 characters, or is a UUID spelt otherwise"}'
    when p_start_time not between c_first and c_last or p_end_time not between c_first and c_last
      then '{time,"(start_time, end_time) is before 1970 or after 9999"}'
    when octet_length(p_summary) > 65536 and char_length(p_summary) > 65536 then '{summary,"has more than 65,536 characters"}'
    when p_last_sequence < 0 then '{last_sequence,"is below 0"}'
    when p_metadata <> '{}' and (
      jsonb_typeof(p_metadata) <> 'object' or octet_length(p_metadata::text) > 65536 or jsonb_path_exists(p_metadata, 'strict $.**{101}')
    ) then '{metadata,"is no object, or larger than 64 KiB or deeper than 100 levels as Postgres prints it"}'
  end;
begin
  return v_broken is null or private.refuse_row('sessions', v_broken::text[]);
end;
$$;
comment on routine private.check_session is 'Every rule of a session''s row, as one check.';
revoke all on routine private.check_session from public, anon, authenticated, service_role;
grant execute on routine private.check_session to authenticated, service_role;


create function private.check_event(
  p_sequence integer, p_event_type text, p_content jsonb, p_source text, p_trace_id text, p_occurred_at timestamptz,
  p_created_at timestamptz
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_broken text := case
    when p_sequence <= 0 then '{sequence,"is not above 0"}'
    when char_length(p_event_type) not between 1 and 64 then '{event_type,"has not 1 to 64 characters"}'
    when char_length(p_source) > 256 then '{source,"has more than 256 characters"}'
    when char_length(p_trace_id) > 256 then '{trace_id,"has more than 256 characters"}'
    -- A search for what occurred in a window knows from it which partitions to look into. In seconds: days and hours would
    -- depend on the time zone.
    when extract(epoch from p_created_at - p_occurred_at) not between -300 and 604800
      then '{occurred_at,"is more than seven days before created_at, or more than five minutes after"}'
    -- As printed: a number may be stored in a few bytes and print as thousands.
    when octet_length(p_content::text) > 8388608 then '{content,"is more than 8 MiB as Postgres prints it"}'
    -- A level takes eight bytes.
    when pg_column_size(p_content) > 800 and jsonb_path_exists(p_content, 'strict $.**{101}') then '{content,"is deeper than 100 levels"}'
  end;
begin
  return v_broken is null or private.refuse_row('event_logs', v_broken::text[]);
end;
$$;
comment on routine private.check_event is 'Every rule of an event''s row, as one check.';
revoke all on routine private.check_event from public, anon, authenticated, service_role;
grant execute on routine private.check_event to authenticated, service_role;


create table public.sessions (
  id uuid not null default gen_random_uuid(),
  user_id text not null default auth.uid()::text,
  conversation_id uuid,
  start_time timestamptz not null default now(),
  end_time timestamptz,
  -- A clock that is wrong is not corrected, but no call takes less than no time.
  duration double precision generated always as (
    case when end_time >= start_time then extract(epoch from end_time - start_time)::double precision end
  ) stored,
  summary text,
  metadata jsonb not null default '{}',
  last_sequence integer not null default 0,
  last_event_at timestamptz,
  created_at timestamptz not null default now(),
  constraint sessions_pkey primary key (id),
  constraint sessions_conversation_id_fkey foreign key (conversation_id) references public.conversations (id)
    on delete set null,
  constraint sessions_check check (
    private.check_session(user_id, start_time, end_time, summary, last_sequence, metadata)
  )
)
-- Every append updates its row. Room on the page and no index on the columns that move keep that update HOT.
with (fillfactor = 80);

create index idx_sessions_user_id on public.sessions (user_id, start_time, id);
create index idx_sessions_start_time on public.sessions (start_time, id);
create index idx_sessions_conversation_id on public.sessions (conversation_id) where conversation_id is not null;
-- The summaries of one user, the latest first. An append changes none of these columns, so its update stays HOT.
create index idx_sessions_summary on public.sessions (user_id, start_time, id) where summary <> '';
-- In no append's way: it moves neither column.
create index idx_sessions_open on public.sessions (created_at) where end_time is null;
create index idx_sessions_created_at on public.sessions (created_at, id);

comment on table public.sessions is 'A call: who, when, how long, and what happened in it. Its events are in event_logs.';
comment on column public.sessions.user_id is
  'Who is calling: the id of a user of Auth, or any text of a backend. Only the former reach their sessions themselves.';
comment on column public.sessions.conversation_id is 'The conversation that the call belongs to, one of the same user''s.';
comment on column public.sessions.duration is 'Seconds from start to end; null while it runs, or where the end is before the start.';
comment on column public.sessions.summary is 'What happened in the call, at most 65,536 characters; for the next one''s context.';
comment on column public.sessions.metadata is 'The application''s own JSON object, at most 64 KiB.';
comment on column public.sessions.last_sequence is
  'The number of the newest event. Moved only under the row lock, by the functions that number events.';
comment on column public.sessions.last_event_at is 'No event was stored later: the upper bound of a read by session.';
comment on column public.sessions.created_at is
  'No event was stored earlier: the lower bound of a read by session, which start_time, a client''s word, cannot be. It is when '
  'the row was made, unless the clock was set back since.';

select private.sample_only('public.sessions', '{last_sequence, last_event_at, created_at}');
alter table public.sessions enable row level security, force row level security;
revoke all on public.sessions from anon, authenticated, service_role;
grant select on public.sessions to authenticated, service_role;
-- Not granted, so not forgeable: counters, timestamps, and the link to a conversation, whose owner open_session checks.
grant insert (id, user_id, start_time, end_time, summary, metadata) on public.sessions to authenticated, service_role;
grant update (end_time, summary, metadata) on public.sessions to authenticated;
-- An upsert updates every column it names, if only to what it is: supabase-py's way to open a session.
grant update (id, user_id, start_time, end_time, summary, metadata) on public.sessions to service_role;

create policy "Users see their own sessions" on public.sessions
  for select to authenticated using (user_id = (select auth.uid())::text);
create policy "Users open their own sessions" on public.sessions
  for insert to authenticated with check (user_id = (select auth.uid())::text);
create policy "Users change their own sessions" on public.sessions
  for update to authenticated
  using (user_id = (select auth.uid())::text) with check (user_id = (select auth.uid())::text);

select private.count_writes_to('public.sessions', 'user_id', '{summary,metadata}');


create table public.event_logs (
  session_id uuid not null,
  -- The defaults are null as expressions: generated types then know that an insert leaves these out.
  sequence integer not null default nullif(0, 0),
  user_id text not null default nullif('', ''),
  event_type text not null,
  content jsonb not null,
  source text,
  trace_id text,
  occurred_at timestamptz not null default clock_timestamp(),
  created_at timestamptz not null default clock_timestamp(),
  -- A unique key must contain the partition key. That (session_id, sequence) is unique comes from the session's counter.
  constraint event_logs_pkey primary key (session_id, sequence, created_at),
  constraint event_logs_session_id_fkey foreign key (session_id) references public.sessions (id) on delete cascade,
  constraint event_logs_check check (
    private.check_event(sequence, event_type, content, source, trace_id, occurred_at, created_at)
  )
) partition by range (created_at);

create index idx_event_logs_user_id on public.event_logs (user_id, occurred_at);
create index idx_event_logs_occurred_at on public.event_logs (occurred_at);

comment on table public.event_logs is
  'What happened in the sessions, by month of created_at. Append-only: no client role updates or deletes. The leaves are in '
  'private: one in public would be open to the API, past the policies of this table.';
comment on column public.event_logs.sequence is
  'The place in the session: 1, 2, 3 … without gaps. Assigned under the session''s row lock, never reused.';
comment on column public.event_logs.user_id is
  'The session''s user, repeated so that row level security and searches need no join. Set by the database.';
comment on column public.event_logs.event_type is
  'user_message, ai_message, ai_chunk, tool_call, tool_result, system, error, or the application''s own.';
comment on column public.event_logs.content is 'Any JSON but null, at most 8 MiB as Postgres prints it; text is a string, or an object''s "text".';
comment on column public.event_logs.source is 'Which part of the application wrote it.';
comment on column public.event_logs.trace_id is 'The application''s trace, or turn, that it belongs to.';
comment on column public.event_logs.occurred_at is
  'When it happened, by the client''s word: at most seven days before it was stored, or five minutes after.';
comment on column public.event_logs.created_at is 'When it was stored.';

select private.sample_only('public.event_logs', '{sequence, created_at}');
alter table public.event_logs enable row level security, force row level security;
revoke all on public.event_logs from anon, authenticated, service_role;
grant select on public.event_logs to authenticated, service_role;
grant insert (session_id, event_type, content, source, trace_id, occurred_at)
  on public.event_logs to authenticated, service_role;

create policy "Users see the events of their own sessions" on public.event_logs
  for select to authenticated using (user_id = (select auth.uid())::text);
create policy "Users add events to their own sessions" on public.event_logs
  for insert to authenticated with check (user_id = (select auth.uid())::text);

select private.count_writes_to('public.event_logs', 'user_id');


create table private.event_logs_default partition of public.event_logs default;

comment on table private.event_logs_default is
  'Takes the events of a month that has no partition. Empty in health; private.make_event_partition moves what is in it.';

select private.close_table('private.event_logs_default', '{sequence, created_at}');


create table private.event_counts (
  session_id uuid not null,
  slot timestamptz not null,
  event_type text not null,
  user_id text not null,
  count integer not null,
  messages integer not null default 0,
  constraint event_counts_pkey primary key (session_id, slot, event_type),
  constraint event_counts_session_id_fkey foreign key (session_id) references public.sessions (id) on delete cascade
)
with (fillfactor = 80);

create index idx_event_counts_slot on private.event_counts (slot);
create index idx_event_counts_user_id on private.event_counts (user_id, slot);

comment on table private.event_counts is
  'How many events of a type occurred in a session in a quarter of an hour. Kept by every append, under the session''s lock, '
  'so it is exact at any time and no two sessions wait for each other. It stays when partitions of old events go.';
comment on column private.event_counts.slot is
  'The beginning of the quarter. Every time zone''s offset is a multiple of it, so quarters add up to anybody''s days.';

comment on column private.event_counts.messages is 'With how many of them a message begins: private.begins_message.';

select private.close_table('private.event_counts');


create function private.limit_event_types() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if (
    select count(*) from private.event_counts c where c.session_id = new.session_id and c.slot = new.slot
  ) > 256 then
    perform private.refuse('event_type: a session has at most 256 types in a quarter of an hour.');
  end if;
  return null;
end;
$$;
comment on routine private.limit_event_types is
  'Raises PT400 invalid_request for one type too many: each has a row of its own, which analytics reads.';
revoke all on routine private.limit_event_types from public, anon, authenticated, service_role;

-- A type that is counted already is an update: it pays nothing.
create trigger limit_event_types after insert on private.event_counts
  for each row execute function private.limit_event_types();

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

-- Audit: what happened in a window of time, over all sessions, in the order in which it happened.

create function private.fold_chunks(
  p_session_id uuid,
  p_sequence integer,
  p_from timestamptz,
  p_to timestamptz,
  out o_event jsonb,
  out o_chunks integer,
  out o_next integer
)
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- Where a run is cut: a session that streams and logs nothing else is one run without end.
  c_max_chunks constant integer := 10000;
  c_max_bytes constant integer := 1024 * 1024;
  v_first public.event_logs;
  v_last public.event_logs;
  v_chunk public.event_logs;
  v_text text;
  v_size integer;
  v_texts text[] := '{}';
  v_bytes bigint := 0;
begin
  for v_chunk in
    select *
    from public.event_logs e
    where e.session_id = p_session_id
      and e.sequence >= p_sequence
      and e.created_at >= p_from - interval '5 minutes' and e.created_at < p_to + interval '168 hours'
    order by e.sequence
    limit c_max_chunks + 1
  loop
    v_text := private.event_text(v_chunk.content);
    -- Of all the content: beside its text a chunk may carry what takes long to read.
    v_size := octet_length(v_chunk.content::text);
    if v_texts = '{}' then
      v_first := v_chunk;
    else
      -- The condition under which private.audit_events lets a chunk go with the one before it.
      exit when v_chunk.sequence <> v_last.sequence + 1
        or v_chunk.event_type <> 'ai_chunk'
        or v_text is null
        or v_chunk.source is distinct from v_last.source
        or v_chunk.trace_id is distinct from v_last.trace_id
        or v_chunk.occurred_at < p_from
        or v_chunk.occurred_at >= p_to;
      if cardinality(v_texts) = c_max_chunks or v_bytes + v_size > c_max_bytes then
        o_next := v_chunk.sequence;
        exit;
      end if;
    end if;
    v_texts := array_append(v_texts, v_text);
    v_bytes := v_bytes + v_size;
    v_last := v_chunk;
  end loop;

  o_chunks := cardinality(v_texts);
  o_event := to_jsonb(v_first) || jsonb_build_object(
    'content', jsonb_build_object('text', array_to_string(v_texts, '')),
    'last_sequence', v_last.sequence,
    'last_occurred_at', v_last.occurred_at
  );
end;
$$;
comment on routine private.fold_chunks is
  'The run of ai_chunk events that starts at p_sequence, as far as it lies in the window, as one event with the text of all. '
  'At most 10,000 chunks or 1 MiB of them: o_next is the chunk with which it goes on, null at its end.';
revoke all on routine private.fold_chunks from public, anon, authenticated, service_role;


create function private.has_text(p_text text, p_part text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- A text that ends like the part over and over costs a step for each, and nothing interrupts it.
  c_max_steps constant bigint := 16 * 1024 * 1024;
begin
  if octet_length(p_text)::bigint * octet_length(p_part) <= c_max_steps then
    return strpos(p_text, p_part) > 0;
  end if;
  -- The part as it is, no pattern: as many steps as the text has characters.
  return p_text ~ ('***=' || p_part);
end;
$$;
comment on routine private.has_text is 'Whether a text has this part, in a time that the length of the text bounds.';
revoke all on routine private.has_text from public, anon, authenticated, service_role;


create function private.audit_events(
  p_from timestamptz,
  p_to timestamptz,
  p_types text[],
  p_query text,
  p_fold boolean,
  p_limit integer,
  p_after_occurred_at timestamptz,
  p_after_session_id uuid,
  p_after_sequence integer,
  p_after_chunk integer,
  p_of_user_id text,
  p_user_id text
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- The plan that stops where the page ends reads an index in order and sorts nothing but ties. Where statistics are behind, the
-- planner would expect few rows and sort them all, or compile the query and start workers first.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set max_parallel_workers_per_gather = 0
as $$
declare
  -- What a call looks through, so that no search runs into the platform's 8 seconds: the next one goes on from there.
  c_max_events constant integer := 100000;
  c_max_time constant interval := '2 seconds';
  c_max_text constant bigint := 32 * 1024 * 1024;
  -- As in private.read_page.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_deadline timestamptz := clock_timestamp() + c_max_time;
  v_user_id text := private.session_reader(p_user_id, p_of_user_id);
  v_to timestamptz := coalesce(p_to, now());
  v_from timestamptz := coalesce(p_from, v_to - interval '24 hours');
  v_query text := lower(p_query);
  v_rows refcursor;
  v_event record;
  v_entry jsonb;
  v_text text;
  v_content jsonb;
  v_chunks integer;
  v_next_chunk integer;
  v_scanned integer := 0;
  v_looked_at bigint := 0;
  v_entries jsonb[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
  -- Where the next page goes on: after this event, or with this chunk of the run that it starts.
  v_occurred_at timestamptz := coalesce(p_after_occurred_at, '-infinity');
  v_session_id uuid := coalesce(p_after_session_id, '00000000-0000-0000-0000-000000000000');
  v_sequence integer := coalesce(p_after_sequence, 0);
  v_chunk integer := nullif(p_after_chunk, 0);
begin
  perform private.require_limit(p_limit);
  if char_length(p_query) not between 1 and 1000 then
    perform private.refuse('q has between 1 and 1000 characters.');
  end if;
  if v_from >= v_to then
    perform private.refuse('from is not before to.');
  end if;

  perform private.require_types(p_types);
  perform private.take_turn(v_user_id);

  -- Fetched one by one: a loop over the query would take fifty events at a time, each of 8 MiB, before the time is looked at.
  open v_rows for
    -- Put together, so that each of the two shapes has a plan of its own: one owner's events are one range of the index on
    -- (user_id, occurred_at), everybody's one of the index on occurred_at. Written as such a range, because for "user_id = $1"
    -- the planner may take the other index and throw away rows of other users that no limit counts.
    -- occurred_at lies between seven days before created_at and five minutes after: other partitions are not looked into.
    execute format(
      $query$
        select e.*, %3$s as starts_run
        from public.event_logs e
        where (%1$s e.occurred_at) >= (%2$s $2)
          and (%1$s e.occurred_at) < (%2$s $3)
          and (%1$s e.occurred_at, e.session_id, e.sequence) > (%2$s $6, $7, $8)
          and e.created_at >= $4
          and e.created_at < $5
        order by %1$s e.occurred_at, e.session_id, e.sequence
        limit $9
      $query$,
      case when v_user_id is not null then 'e.user_id,' else '' end,
      case when v_user_id is not null then '$1,' else '' end,
      case when p_fold and 'ai_chunk' = any (coalesce(p_types, '{ai_chunk}')) then $starts_run$
        case when e.event_type = 'ai_chunk' and private.event_text(e.content) is not null then not exists (
          select
          from public.event_logs p
          where p.session_id = e.session_id
            and p.sequence = e.sequence - 1
            and p.created_at >= $4
            and p.created_at < $5
            and p.event_type = 'ai_chunk'
            and private.event_text(p.content) is not null
            and p.source is not distinct from e.source
            and p.trace_id is not distinct from e.trace_id
            and p.occurred_at >= $2
            and p.occurred_at < $3
        ) end
      $starts_run$ else 'null::boolean' end
    )
    using
      v_user_id, v_from, v_to, v_from - interval '5 minutes', v_to + interval '168 hours',
      v_occurred_at, v_session_id, case when v_chunk is null then v_sequence else v_sequence - 1 end,
      c_max_events + 1;
  <<scan>>
  loop
    fetch v_rows into v_event;
    exit when not found;
    v_chunk := case when (v_event.session_id, v_event.sequence) = (v_session_id, v_sequence) then v_chunk end;
    -- Once for an event, once for every part of a run.
    loop
      if v_scanned > 0 and (v_scanned >= c_max_events or v_looked_at >= c_max_text or clock_timestamp() > v_deadline) then
        v_has_more := true;
        exit scan;
      end if;
      v_scanned := v_scanned + 1;
      -- False: it belongs to a run that starts before it.
      exit when not v_event.starts_run or v_event.event_type <> all (p_types);

      v_entry := null;
      v_content := v_event.content;
      v_next_chunk := null;
      if v_event.starts_run then
        select f.o_event, f.o_event -> 'content', f.o_chunks, f.o_next into v_entry, v_content, v_chunks, v_next_chunk
        from private.fold_chunks(v_event.session_id, coalesce(v_chunk, v_event.sequence), v_from, v_to) f;
        v_scanned := v_scanned + v_chunks;
      end if;

      if v_query is not null then
        v_text := lower(private.without_marks(private.event_text(v_content)));
        v_looked_at := v_looked_at + coalesce(octet_length(v_text), 0);
      end if;
      if v_query is null or private.has_text(v_text, v_query) then
        v_entry := coalesce(
          v_entry,
          to_jsonb(v_event) || case
            when p_fold then jsonb_build_object('last_sequence', v_event.sequence, 'last_occurred_at', v_event.occurred_at)
            else '{}'
          end
        ) - 'starts_run';
        v_bytes := v_bytes + octet_length(v_entry::text);
        if cardinality(v_entries) = p_limit or (v_bytes > c_max_bytes and v_entries <> '{}') then
          v_has_more := true;
          exit scan;
        end if;
        v_entries := array_append(v_entries, v_entry);
      end if;

      exit when v_next_chunk is null;
      v_occurred_at := v_event.occurred_at;
      v_session_id := v_event.session_id;
      v_sequence := v_event.sequence;
      v_chunk := v_next_chunk;
    end loop;
    v_occurred_at := v_event.occurred_at;
    v_session_id := v_event.session_id;
    v_sequence := v_event.sequence;
    v_chunk := null;
  end loop scan;
  close v_rows;

  return jsonb_build_object(
    'data', to_jsonb(v_entries),
    'has_more', v_has_more,
    'next', case
      when v_has_more then jsonb_build_object(
        'from', v_from, 'to', v_to, 'occurred_at', v_occurred_at, 'session_id', v_session_id, 'sequence', v_sequence,
        'chunk', coalesce(v_chunk, 0)
      )
    end
  );
end;
$$;
comment on routine private.audit_events is
  'See public.audit_events. Definer: what it calls is granted to nobody, and no policy comes between its query and the index.';


create function public.audit_events(
  p_from timestamptz default null,
  p_to timestamptz default null,
  p_types text[] default null,
  p_query text default null,
  p_fold boolean default false,
  p_limit integer default 50,
  p_after_occurred_at timestamptz default null,
  p_after_session_id uuid default null,
  p_after_sequence integer default null,
  p_after_chunk integer default null,
  p_of_user_id text default null,
  p_user_id text default null
) returns jsonb
language sql
stable
set search_path = ''
return private.audit_events(
  p_from, p_to, p_types, p_query, p_fold, p_limit, p_after_occurred_at, p_after_session_id, p_after_sequence,
  p_after_chunk, p_of_user_id, p_user_id
);
comment on routine public.audit_events is
  'What occurred in [p_from, p_to), by default the last 24 hours, over all sessions of the user, ordered by (occurred_at, '
  'session_id, sequence): of the types given, with p_query in its text in either case. With p_fold a run of ai_chunk '
  'events of one session, with consecutive numbers and one source and trace_id, is one event with the text of all, '
  'last_sequence and last_occurred_at. A backend that acts for nobody reads everybody''s, or those of p_of_user_id. '
  'Answers {data, has_more, next}; next holds the window and the p_after_ arguments of the next page. A call looks '
  'through 100,000 events, 32 MiB of text or for 2 seconds: a page may be short, or empty, where has_more says that there '
  'is more to look through. Raises PT400 invalid_request.';
revoke all on routine private.audit_events, public.audit_events from public, anon, authenticated, service_role;
grant execute on routine private.audit_events, public.audit_events to authenticated, service_role;

-- What a returning caller's model has to know: the summaries of their last sessions, and the latest turns.

create function private.text_tokens(p_text text) returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return 4 + (3 * octet_length(p_text)::bigint - char_length(p_text) + 7) / 8;
end;
$$;
comment on routine private.text_tokens is
  'What a message of this text (and name) costs: the rule of private.message_tokens for a message that is text alone.';
revoke all on routine private.text_tokens from public, anon, authenticated, service_role;


create type private.utterance as (kind text, text text, trace_id text);
comment on type private.utterance is
  'What somebody said, and in which trace: kind is user, ai or chunk, a piece of what the AI said. Kind tool is a break in it.';


create type private.event_place as (occurred_at timestamptz, sequence integer);
comment on type private.event_place is 'Where an event stands: when it was said, and its number where that is the same.';


create function private.is_told(p_chunks private.utterance, p_message private.utterance) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_chunks text := btrim(p_chunks.text, E' \n\r\t');
  v_message text := btrim(p_message.text, E' \n\r\t');
begin
  return p_message.kind = 'ai'
    and v_message <> ''
    -- Who was interrupted has sent more than was heard, if the message is what was heard.
    and (strpos(v_message, v_chunks) > 0 or starts_with(v_chunks, v_message));
end;
$$;
comment on routine private.is_told is
  'Whether a message of the AI has the text of these chunks, or is their beginning.';
revoke all on routine private.is_told from public, anon, authenticated, service_role;


create function private.get_session_context(
  p_max_tokens integer, p_max_sessions integer, p_of_user_id text, p_user_id text
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- One plan for every session, which walks down the primary key and stops where the budget does: planning anew for each takes
-- longer than reading it, and a sort of what is not limited would read all of it.
set plan_cache_mode = force_generic_plan
set enable_sort = off
set jit = off
as $$
declare
  c_name constant text := 'session_summaries';
  c_title constant text := 'Summaries of earlier sessions, oldest first.';
  -- Whatever the budget: a worker has to hold the answer, and a statement has eight seconds.
  c_bytes constant bigint := 8 * 1024 * 1024;
  c_sessions constant integer := 1000;
  c_events constant integer := 100000;
  -- How many events later than what was said after it something may be stored, and still stand where it was said. Its
  -- transcript comes when a turn is over, so the answer's chunks may all be before it.
  c_window constant integer := 500;
  v_user_id text := private.session_reader(p_user_id, p_of_user_id);
  v_truncated boolean := false;
  v_cost bigint;
  v_session record;
  -- Summaries, the latest first, and what the message costs that has the first n of them.
  v_summary text := '';
  v_summaries text[] := '{}';
  v_summary_costs bigint[] := '{}';
  v_summary_tokens bigint;
  v_shown integer;
  -- Turns, the latest first as well. Events are read backwards, twice the window ahead: of the places that are known, sorted,
  -- the first half is settled. v_lowest is the number down to which they are. v_last is what was read last and is not settled
  -- yet, v_next and v_next_but_one are what comes after it.
  v_places private.event_place[];
  v_settled integer[];
  v_lowest integer;
  v_limit integer;
  v_read integer;
  v_events refcursor;
  v_event private.utterance;
  v_last private.utterance;
  v_next private.utterance;
  v_next_but_one private.utterance;
  v_chunks text[];
  v_turns jsonb[] := '{}';
  v_turn_tokens bigint := 0;
  v_turn_bytes bigint := 0;
  v_sessions_read integer := 0;
  v_events_left integer := c_events;
  v_left_out integer := 0;
  v_messages jsonb;
begin
  if p_max_tokens is null or p_max_tokens < 1 or p_max_sessions is null or p_max_sessions not between 0 and 100 then
    perform private.refuse('max_tokens is at least 1, max_sessions between 0 and 100.');
  end if;
  if p_max_tokens > 100000 then
    perform private.take_turn(v_user_id);
  end if;
  if v_user_id is null then
    perform private.acting_user(null); -- which refuses
  end if;

  for v_session in
    select s.start_time, s.summary
    from public.sessions s
    where s.user_id = v_user_id and s.summary <> ''
    order by s.start_time desc, s.id desc
    limit p_max_sessions
  loop
    v_summaries := v_summaries || format(
      E'\n\n%s UTC: %s', to_char(v_session.start_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), v_session.summary
    );
    v_summary := v_summary || v_summaries[cardinality(v_summaries)];
    v_cost := private.text_tokens(c_name || c_title || v_summary);
    v_summary_costs := v_summary_costs || v_cost;
    exit when v_cost > p_max_tokens or octet_length(v_summary) > c_bytes;
  end loop;
  -- At most half for the summaries, until it is known what the turns need.
  select coalesce(max(c.cost), 0) into v_summary_tokens
  from unnest(v_summary_costs) c (cost)
  where c.cost <= p_max_tokens / 2;

  <<sessions>>
  for v_session in
    select s.id, s.last_sequence, s.created_at, s.last_event_at
    from public.sessions s
    where s.user_id = v_user_id and s.last_sequence > 0
    order by s.start_time desc, s.id desc
  loop
    v_truncated := v_sessions_read = c_sessions or v_events_left = 0;
    exit when v_truncated;
    v_sessions_read := v_sessions_read + 1;
    v_last := null;
    v_next := null;
    v_next_but_one := null;

    v_places := '{}';
    v_lowest := v_session.last_sequence + 1;
    v_limit := 2 * c_window;
    v_read := null;

    loop
      v_event := null;
      if v_read is not null then
        fetch v_events into v_event;
      end if;
      while v_event.kind is null and coalesce(v_read = v_limit, true) loop
        if v_read is not null then
          close v_events;
          v_limit := c_window;
        end if;
        -- Places alone: what is far from the budget's end is never looked into.
        select
          array_agg((p.occurred_at, p.sequence)::private.event_place order by p.occurred_at desc, p.sequence desc),
          min(p.sequence),
          count(*) - cardinality(v_places)
        into v_places, v_lowest, v_read
        from (
          select k.occurred_at, k.sequence from unnest(v_places) k
          union all
          (
            select e.occurred_at, e.sequence
            from public.event_logs e
            where e.session_id = v_session.id
              and e.sequence > v_session.last_sequence - v_events_left
              and e.sequence < v_lowest
              -- The bounds of private.read_events: which partitions the session is in.
              and e.created_at between v_session.created_at and v_session.last_event_at
              and e.event_type = any (private.turn_types())
            order by e.sequence desc
            limit v_limit
          )
        ) p;
        v_settled := array(
          select p.sequence
          from unnest(v_places[:case when v_read = v_limit then c_window else cardinality(v_places) end]) p
        );
        v_places := v_places[c_window + 1:];

        open v_events for
          select
            case e.event_type
              when 'user_message' then 'user'
              when 'ai_message' then 'ai'
              when 'ai_response' then 'ai'
              when 'ai_chunk' then 'chunk'
              else 'tool'
            end,
            private.event_text(e.content),
            e.trace_id
          from (
            select e.event_type, e.content, e.trace_id
            from unnest(v_settled) with ordinality p (sequence, n)
            -- By the primary key, one for one: there is an index on occurred_at, but of everybody's events.
            cross join lateral (
              select *
              from public.event_logs e
              where e.session_id = v_session.id
                and e.sequence = p.sequence
                and e.created_at between v_session.created_at and v_session.last_event_at
              limit 1
            ) e
            order by p.n
            -- A text is read when its turn comes.
            offset 0
          ) e;
        fetch v_events into v_event;
      end loop;
      if v_event.kind <> 'tool' and v_event.text is null then
        v_left_out := v_left_out + 1;
      end if;

      if v_event.kind = 'chunk' and v_last.kind = 'chunk' and v_event.trace_id is not distinct from v_last.trace_id then
        v_chunks := v_chunks || v_event.text;
        continue;
      end if;

      -- What was read last is complete.
      if v_last.kind = 'chunk' then
        select string_agg(c.text, '' order by c.n desc) into v_last.text
        from unnest(v_chunks) with ordinality c (text, n);
        if v_next.kind = 'ai' and v_next.text ~ '\S' and coalesce(v_next.trace_id = v_last.trace_id, true)
          or private.is_told(v_last, v_next)
          or private.is_told(v_last, v_next_but_one)
          or private.is_told(v_last, v_event)
          -- Its beginning is beyond what is read.
          or v_event.kind is null and v_session.last_sequence > v_events_left
        then
          v_last := null;
        end if;
      end if;
      if v_last.text ~ '\S' then
        v_cost := private.text_tokens(v_last.text);
        v_truncated := v_summary_tokens + v_turn_tokens + v_cost > p_max_tokens
          or v_turn_bytes + octet_length(v_last.text) > c_bytes;
        exit sessions when v_truncated;
        v_turn_tokens := v_turn_tokens + v_cost;
        v_turn_bytes := v_turn_bytes + octet_length(v_last.text);
        v_turns := v_turns || jsonb_build_object(
          'role', case v_last.kind when 'user' then 'user' else 'assistant' end, 'content', v_last.text
        );
      end if;
      if v_last.kind is not null then
        v_next_but_one := v_next;
        v_next := v_last;
      end if;

      exit when v_event.kind is null;
      v_last := case when v_event.kind <> 'tool' then v_event end;
      v_chunks := array[v_event.text];
    end loop;
    close v_events;
    v_truncated := v_session.last_sequence > v_events_left;
    exit when v_truncated;
    v_events_left := v_events_left - v_session.last_sequence;
  end loop;

  -- What the turns leave is for more summaries.
  select count(*), coalesce(max(c.cost), 0) into v_shown, v_summary_tokens
  from unnest(v_summary_costs) c (cost)
  where c.cost <= p_max_tokens - v_turn_tokens;
  if v_shown > 0 then
    select jsonb_build_array(jsonb_build_object(
      'role', 'system', 'name', c_name, 'content', c_title || string_agg(s.text, '' order by s.n desc)
    )) into v_messages
    from unnest(v_summaries[:v_shown]) with ordinality s (text, n);
  end if;
  select coalesce(v_messages, '[]') || coalesce(to_jsonb(array_agg(t.turn order by t.n desc)), '[]') into v_messages
  from unnest(v_turns) with ordinality t (turn, n);
  return jsonb_build_object(
    'messages', v_messages,
    'total_tokens', v_summary_tokens + v_turn_tokens,
    'truncated', v_truncated or v_left_out > 0 or v_shown < cardinality(v_summaries),
    'left_out', v_left_out
  );
end;
$$;
comment on routine private.get_session_context is 'See public.get_session_context.';


create function public.get_session_context(
  p_max_tokens integer default 2048,
  p_max_sessions integer default 5,
  p_of_user_id text default null,
  p_user_id text default null
) returns jsonb
language sql
stable
set search_path = ''
return private.get_session_context(p_max_tokens, p_max_sessions, p_of_user_id, p_user_id);
comment on routine public.get_session_context is
  'What a caller and the AI said before, as a model takes it: a system message with the summaries of the last p_max_sessions '
  'sessions that have one, then the latest turns of all sessions, by session and by when they were said, as {role, content}. '
  'Never more than p_max_tokens (private.text_tokens counts): summaries get half, and what the turns do not need. Chunks are '
  'joined, and left out where their message is there. Answers {messages, total_tokens, truncated, left_out}; left_out counts '
  'the events among them in which private.event_text finds nothing, and truncated says of them as well. A backend says whose it '
  'is: p_user_id or p_of_user_id. Raises PT400 user_id_required.';
revoke all on routine private.get_session_context, public.get_session_context
  from public, anon, authenticated, service_role;
grant execute on routine private.get_session_context, public.get_session_context to authenticated, service_role;

-- Erasure of a user's sessions and their events.

create function private.erase_sessions_piece(p_user_id text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_events constant integer := 2000;
  -- See private.remove_messages.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_id uuid;
  v_piece record;
  v_bytes bigint := 0;
  v_sessions bigint := 0;
  v_events bigint := 0;
  v_counts bigint := 0;
  v_queued bigint := 0;
  v_count bigint;
begin
  -- A session that somebody is writing to is passed by: its turn comes.
  for v_id in
    select s.id
    from public.sessions s
    where s.user_id = p_user_id
    order by s.start_time, s.id
    limit 100
    for update skip locked
  loop
    v_piece := private.remove_events(v_id, c_events - v_events, c_bytes - v_bytes, '-infinity', 'infinity');
    v_events := v_events + v_piece.removed;
    v_bytes := v_bytes + v_piece.bytes;
    exit when not v_piece.complete;

    delete from private.event_counts c where c.session_id = v_id;
    get diagnostics v_count = row_count;
    v_counts := v_counts + v_count;
    delete from private.unsummarized_sessions u where u.session_id = v_id;
    get diagnostics v_count = row_count;
    v_queued := v_queued + v_count;
    delete from public.sessions s where s.id = v_id;
    v_sessions := v_sessions + 1;
  end loop;
  if not found then
    if exists (select from public.sessions s where s.user_id = p_user_id) then
      raise lock_not_available;
    end if;
    return null;
  end if;
  return jsonb_build_object(
    'sessions', v_sessions, 'event_logs', v_events, 'event_counts', v_counts, 'unsummarized_sessions', v_queued
  );
end;
$$;
comment on routine private.erase_sessions_piece is
  'A piece of a user''s sessions: 2,000 events, or 64 MiB of them, or 100 sessions with what events they have. Answers '
  '{table: rows}, null when there is none left.';
revoke all on routine private.erase_sessions_piece from public, anon, authenticated, service_role;

-- Events: numbered under the session's row lock, appended and listed.

create function private.require_events(p_events jsonb) returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_invalid bigint;
begin
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) not between 1 and 1000 then
    perform private.refuse('events is not an array of 1 to 1000.');
  end if;
  select e.n - 1 into v_invalid
  from jsonb_array_elements(p_events) with ordinality as e (value, n)
  where case
    when jsonb_typeof(e.value) <> 'object' then true
    else e.value - '{event_type,content,source,trace_id,occurred_at}'::text[] <> '{}'
      or jsonb_typeof(e.value -> 'event_type') is distinct from 'string'
      or char_length(e.value ->> 'event_type') not between 1 and 64
      or coalesce(jsonb_typeof(e.value -> 'content'), 'null') = 'null'
      or jsonb_typeof(e.value -> 'source') not in ('string', 'null') or char_length(e.value ->> 'source') > 256
      or jsonb_typeof(e.value -> 'trace_id') not in ('string', 'null') or char_length(e.value ->> 'trace_id') > 256
      or jsonb_typeof(e.value -> 'occurred_at') not in ('string', 'null')
  end
  limit 1;
  if found then
    perform private.refuse(format(
      'events[%s] is not an event, or has a field, a type or a length that events do not have.', v_invalid
    ));
  end if;
end;
$$;
comment on routine private.require_events is
  'What zod says politely at the edge holds for a direct RPC call too. Raises PT400 invalid_request.';
revoke all on routine private.require_events from public, anon, authenticated, service_role;


create function private.require_types(p_types text[]) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if cardinality(p_types) > 32 then
    perform private.refuse_part('types', 'Has more than 32 types.', 'event_types');
  end if;
end;
$$;
comment on routine private.require_types is 'Raises PT400 invalid_request for more types than each event is compared with.';
revoke all on routine private.require_types from public, anon, authenticated, service_role;
grant execute on routine private.require_types to authenticated, service_role;


create function private.event_slot(p_at timestamptz) returns timestamptz
language sql
immutable
set search_path = ''
as $$
  select date_bin('15 minutes', p_at, '2000-01-01 00:00:00+00');
$$;
comment on routine private.event_slot is 'The beginning of the quarter of an hour, as in private.event_counts.';
revoke all on routine private.event_slot from public, anon, authenticated, service_role;


create function private.event_text(p_content jsonb, p_depth integer default 0) returns text
-- A third of the time that a function in SQL takes, which no caller can inline.
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_depth constant integer := 5;
  -- {text}; OpenAI's and LiveKit's {transcript}; Vapi's {message}; Retell's and LiveKit's {content}, a string or its parts;
  -- Gemini's {parts}; what an event of a realtime API wraps in {item}, or adds with {delta}, if it says that it is text.
  c_keys constant text[] := '{transcript,message,content,parts,item,delta}';
  -- What stands between the parts of an answer, and is not said.
  c_unsaid constant text[] := '{reasoning,thinking,redacted_thinking,tool_use,tool_result,tool_call,function_call,'
    'function_call_output}';
  v_key text;
  v_text text;
  v_found text;
begin
  case jsonb_typeof(p_content)
    when 'string' then
      v_found := p_content #>> '{}';
    when 'object' then
      if jsonb_typeof(p_content -> 'text') = 'string' then
        v_found := p_content ->> 'text';
      end if;
      -- A part that has its text elsewhere has an empty "text", too.
      if v_found is null or v_found !~ '\S' then
        foreach v_key in array c_keys loop
          continue when not p_content ? v_key or p_depth = c_depth
            or v_key = 'delta' and coalesce(p_content ->> 'type' not similar to '%(text|transcript).delta', true);
          v_text := private.event_text(p_content -> v_key, p_depth + 1);
          v_found := case when v_text ~ '\S' then v_text else coalesce(v_found, v_text) end;
          exit when v_found ~ '\S';
        end loop;
      end if;
    when 'array' then
      if p_depth < c_depth then
        select string_agg(
          case
            -- A list of strings may be anything; as the content of a message it is its parts.
            when jsonb_typeof(p.value) = 'string' then case when p_depth > 0 then p.value #>> '{}' end
            when p.value ->> 'type' = any (c_unsaid) or p.value -> 'thought' = 'true' then null
            when jsonb_typeof(p.value) = 'object' then private.event_text(p.value, p_depth + 1)
          end,
          E'\n' order by p.n
        ) into v_found
        from jsonb_array_elements(p_content) with ordinality p (value, n);
      end if;
    else null;
  end case;
  return v_found;
end;
$$;
comment on routine private.event_text is
  'What was said in an event, for contexts, audit and folded chunks: the content where it is a string; of an object the first of '
  '"text", "transcript", "message", "content", "parts", "item" and a text''s "delta" that has text; the parts of an array that '
  'say something, one a line. Null: no text in a shape that is known.';
revoke all on routine private.event_text from public, anon, authenticated, service_role;


create function private.turn_types() returns text[]
language sql
immutable
set search_path = ''
as $$
  select '{user_message,ai_message,ai_response,ai_chunk,tool_call,tool_result}'::text[];
$$;
comment on routine private.turn_types is
  'The types of events that are turns, or parts of one: what else happens parts nothing and is no message.';
revoke all on routine private.turn_types from public, anon, authenticated, service_role;


create function private.begins_message(
  p_event_type text, p_trace_id text, p_before_type text, p_before_trace_id text
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case
    when p_event_type = 'user_message' then true
    when p_event_type not in ('ai_message', 'ai_response', 'ai_chunk') then false
    when p_before_type is distinct from 'ai_chunk' then true
    when p_event_type = 'ai_chunk' then p_trace_id is distinct from p_before_trace_id
    else coalesce(p_trace_id <> p_before_trace_id, false)
  end;
end;
$$;
comment on routine private.begins_message is
  'Whether a message begins with an event, told by the turn before it: a run of ai_chunk of one trace is one message, and so is '
  'the ai_message or ai_response that has the run''s text.';
revoke all on routine private.begins_message from public, anon, authenticated, service_role;


create function private.event_before(
  p_session_id uuid, p_sequence integer, out event_type text, out trace_id text
)
language plpgsql
security definer
set search_path = ''
as $$
begin
  select e.event_type, e.trace_id into event_type, trace_id
  from public.event_logs e
  where e.session_id = p_session_id
    -- What is not a turn parts nothing, but nobody looks for long.
    and e.sequence >= p_sequence - 20
    and e.sequence < p_sequence
    and e.event_type = any (private.turn_types())
    and e.created_at >= (select s.created_at from public.sessions s where s.id = p_session_id)
    and e.created_at <= (select s.last_event_at from public.sessions s where s.id = p_session_id)
  order by e.sequence desc
  limit 1;
end;
$$;
comment on routine private.event_before is
  'The turn before an event, among the 20 events before it: what was said, or a tool''s call or result. Volatile: a trigger sees '
  'the rows of its own command.';
revoke all on routine private.event_before from public, anon, authenticated, service_role;


create function private.read_events(p_session_id uuid, p_after integer, p_types text[], p_limit integer) returns jsonb
language plpgsql
stable
set search_path = ''
-- By index, as private.read_messages.
set enable_sort = off
as $$
declare
  v_from timestamptz;
  v_to timestamptz;
  v_rows refcursor;
begin
  -- The partitions between are all that is looked into.
  select s.created_at, s.last_event_at into v_from, v_to
  from public.sessions s
  where s.id = p_session_id;
  open v_rows for
    select to_jsonb(e) - 'user_id'
    from public.event_logs e
    where e.session_id = p_session_id
      and e.sequence > p_after
      and e.created_at between v_from and v_to
      and (p_types is null or e.event_type = any (p_types))
    order by e.sequence
    limit p_limit + 1;
  return private.read_page(v_rows, p_limit);
end;
$$;
comment on routine private.read_events is
  'The events of a session after a number, at most p_limit and about 8 MiB of them: {data, has_more}. With the rights of '
  'whoever calls.';
revoke all on routine private.read_events from public, anon, authenticated, service_role;
grant execute on routine private.read_events to authenticated, service_role;


create function private.append_events(
  p_session_id uuid, p_events jsonb, p_idempotency_key text, p_user_id text
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_caller_id text := private.session_caller_id(p_user_id);
  v_scope text := 'POST /sessions/' || p_session_id || '/events';
  v_user_id text;
  v_last integer;
  v_now timestamptz;
  v_result jsonb;
  v_events jsonb;
  v_invalid bigint;
  v_before record;
begin
  perform private.require_events(p_events);
  if jsonb_array_length(p_events) > 500 then
    perform private.take_turn(v_caller_id);
  end if;
  -- The row lock is the queue: batches of one session are numbered one after the other.
  select s.user_id, s.last_sequence into v_user_id, v_last
  from public.sessions s
  where s.id = p_session_id and s.user_id = coalesce(v_caller_id, s.user_id)
  for no key update skip locked;
  if not found then
    select s.user_id, s.last_sequence into v_user_id, v_last from private.lock_session(p_session_id, p_user_id) s;
  end if;

  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(v_user_id, v_scope, p_idempotency_key, p_events);
    if v_result is not null then
      select to_jsonb(array_agg(to_jsonb(e) - 'user_id' order by e.sequence)) into v_events
      from public.event_logs e
      where e.session_id = p_session_id
        and e.sequence between (v_result -> 'first')::integer and (v_result -> 'last')::integer;
      return jsonb_build_object(
        'events', coalesce(v_events, '[]'), 'last_sequence', v_result -> 'last', 'replayed', true
      );
    end if;
    perform private.keep_idempotent_result(
      v_user_id, v_scope, p_idempotency_key,
      jsonb_build_object('first', v_last + 1, 'last', v_last + jsonb_array_length(p_events))
    );
  end if;

  -- Read after the lock, so that created_at rises with the number; it rises within the batch as well.
  v_now := clock_timestamp();
  select e.n - 1 into v_invalid
  from jsonb_array_elements(p_events) with ordinality as e (value, n)
  where private.to_time('occurred_at', e.value ->> 'occurred_at') - e.n * interval '1 microsecond'
    not between v_now - interval '168 hours' and v_now + interval '5 minutes'
  limit 1;
  if found then
    perform private.refuse(format(
      'events[%s].occurred_at is more than seven days ago, or more than five minutes ahead.', v_invalid
    ));
  end if;

  select null::text as event_type, null::text as trace_id into v_before;
  if jsonb_path_exists(p_events, '$[*].event_type ? (@ starts with "ai_")') then
    v_before := private.event_before(p_session_id, v_last + 1);
  end if;
  with stored as (
    insert into public.event_logs as e (
      session_id, sequence, user_id, event_type, content, source, trace_id, occurred_at, created_at
    )
    select
      p_session_id, v_last + n.n, v_user_id, n.event_type, n.content, n.source, n.trace_id,
      coalesce(n.occurred_at, v_now + n.n * interval '1 microsecond'), v_now + n.n * interval '1 microsecond'
    from rows from (
      jsonb_to_recordset(p_events) as (
        event_type text, content jsonb, source text, trace_id text, occurred_at timestamptz
      )
    ) with ordinality as n (event_type, content, source, trace_id, occurred_at, n)
    returning e.*
  ),
  counted as (
    insert into private.event_counts as c (session_id, slot, event_type, user_id, count, messages)
    select p_session_id, s.slot, s.event_type, v_user_id, count(*), count(*) filter (where s.begins)
    from (
      select
        private.event_slot(s.occurred_at) as slot,
        s.event_type,
        private.begins_message(
          s.event_type, s.trace_id,
          lag(s.event_type, 1, v_before.event_type) over turns, lag(s.trace_id, 1, v_before.trace_id) over turns
        ) as begins
      from stored s
      window turns as (
        partition by s.event_type = any (private.turn_types()) order by s.sequence
      )
    ) s
    group by s.slot, s.event_type
    on conflict (session_id, slot, event_type) do update
      set count = c.count + excluded.count, messages = c.messages + excluded.messages
  )
  select to_jsonb(array_agg(to_jsonb(s) - 'user_id' order by s.sequence)) into v_events
  from stored s;

  v_last := v_last + jsonb_array_length(p_events);
  update public.sessions s set
    last_sequence = v_last,
    last_event_at = greatest(s.last_event_at, v_now + jsonb_array_length(p_events) * interval '1 microsecond'),
    created_at = least(s.created_at, v_now)
  where s.id = p_session_id;
  return jsonb_build_object('events', v_events, 'last_sequence', v_last);
end;
$$;
comment on routine private.append_events is 'See public.append_events.';


create function public.append_events(
  p_session_id uuid, p_events jsonb, p_idempotency_key text default null, p_user_id text default null
) returns jsonb
language sql
set search_path = ''
return private.append_events(p_session_id, p_events, p_idempotency_key, p_user_id);
comment on routine public.append_events is
  'Appends 1 to 1,000 events, [{event_type, content, source?, trace_id?, occurred_at?}]: all of them, contiguously, or none. '
  'A session that has ended still takes what comes late. Answers {events, last_sequence}. Raises PT404 session_not_found, '
  'PT400 invalid_request, PT409 idempotency_mismatch.';
revoke all on routine private.append_events, public.append_events from public, anon, authenticated, service_role;
grant execute on routine private.append_events, public.append_events to authenticated, service_role;


create function private.number_event() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_before record;
begin
  perform private.lock_session(new.session_id, null);
  update public.sessions s set
    last_sequence = s.last_sequence + 1,
    last_event_at = greatest(s.last_event_at, new.created_at),
    created_at = least(s.created_at, new.created_at)
  where s.id = new.session_id
  returning s.last_sequence, s.user_id into new.sequence, new.user_id;
  -- A list of rows with different columns comes with nulls where a row has none.
  new.occurred_at := coalesce(new.occurred_at, new.created_at);
  v_before := private.event_before(new.session_id, new.sequence);
  insert into private.event_counts as c (session_id, slot, event_type, user_id, count, messages)
  values (
    new.session_id, private.event_slot(new.occurred_at), new.event_type, new.user_id, 1,
    private.begins_message(new.event_type, new.trace_id, v_before.event_type, v_before.trace_id)::integer
  )
  on conflict (session_id, slot, event_type) do update
    set count = c.count + 1, messages = c.messages + excluded.messages;
  return new;
end;
$$;
comment on routine private.number_event is
  'Numbers an event that is inserted through the REST API, under the session''s row lock, and says whose it is.';
revoke all on routine private.number_event from public, anon, authenticated, service_role;

-- append_events numbers a whole batch itself. No client role may write the column, so none passes by.
create trigger number_event before insert on public.event_logs
  for each row when (new.sequence is null) execute function private.number_event();


create function public.list_events(
  p_session_id uuid,
  p_after integer default null,
  p_types text[] default null,
  p_limit integer default 50,
  p_user_id text default null
) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_session jsonb := public.get_session(p_session_id, p_user_id);
begin
  perform private.require_limit(p_limit);
  perform private.require_types(p_types);
  return private.read_events(p_session_id, coalesce(p_after, 0), p_types, p_limit)
    || jsonb_build_object('session', v_session);
end;
$$;
comment on routine public.list_events is
  'A page of a session''s events with sequence > p_after, in order, of the types given, and the session as it is at that '
  'moment: {data, has_more, session}. Raises PT404 session_not_found.';
revoke all on routine public.list_events from public, anon, authenticated, service_role;
grant execute on routine public.list_events to authenticated, service_role;

-- A partition of event_logs for every month, made ahead. An event never waits for one: the default partition takes it.

create function private.make_event_partition(p_month timestamptz) returns void
language plpgsql
security definer
set search_path = ''
-- What waits longer than this goes back to the end of the queue: everybody who writes would wait behind it.
set lock_timeout = '200ms'
set timezone = 'UTC'
as $$
declare
  v_from timestamptz := date_trunc('month', p_month);
  v_to timestamptz := v_from + interval '1 month';
  v_leaf text := format('event_logs_%s', to_char(v_from, 'YYYY_MM'));
begin
  -- In the order in which append_events takes them, so that the two cannot wait for each other. A plain insert takes them in
  -- the other order: there, lock_timeout ends it.
  lock table public.sessions in share row exclusive mode;
  lock table private.event_logs_default in access exclusive mode;

  execute format('create table private.%I (like public.event_logs including defaults including constraints)', v_leaf);
  -- Saves ATTACH a look at every row.
  execute format(
    'alter table private.%I add constraint %I check (created_at >= %L and created_at < %L)',
    v_leaf, v_leaf || '_created_at_check', v_from, v_to
  );
  execute format(
    'with moved as (delete from private.event_logs_default where created_at >= %L and created_at < %L returning *)
     insert into private.%I select * from moved',
    v_from, v_to, v_leaf
  );
  execute format('alter table public.event_logs attach partition private.%I for values from (%L) to (%L)', v_leaf, v_from, v_to);
  execute format('alter table private.%I drop constraint %I', v_leaf, v_leaf || '_created_at_check');

  perform private.close_table(format('private.%I', v_leaf)::regclass, '{sequence, created_at}');
  execute format('comment on table private.%I is %L', v_leaf, 'Events of ' || to_char(v_from, 'YYYY-MM') || ' (UTC).');
end;
$$;
comment on routine private.make_event_partition is
  'Makes the partition of a month (UTC), and moves there what the default partition took in its stead.';
revoke all on routine private.make_event_partition from public, anon, authenticated, service_role;


create function private.event_partition_step(p_now timestamptz default now()) returns boolean
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  c_months_ahead constant integer := 3;
  -- Nobody can write while they move: about 200 ms.
  c_max_moved constant bigint := 20000;
  v_months timestamptz[];
  v_waiting bigint[];
begin
  if not private.begin_step('private.event_partition_step') then
    return false;
  end if;

  select array_agg(month order by month), array_agg(coalesce(d.waiting, 0) order by month) into v_months, v_waiting
  from generate_series(
    date_trunc('month', p_now), date_trunc('month', p_now) + c_months_ahead * interval '1 month', interval '1 month'
  ) as m (month)
  full join (
    select date_trunc('month', e.created_at) as month, count(*) as waiting
    from private.event_logs_default e
    group by 1
  ) d using (month)
  where to_regclass(format('private.event_logs_%s', to_char(month, 'YYYY_MM'))) is null;

  for i in 1 .. coalesce(cardinality(v_months), 0) loop
    if v_waiting[i] <= c_max_moved then
      perform private.make_event_partition(v_months[i]);
      return true;
    end if;
    raise warning 'The default partition holds % events of %: they stay there, readable as ever, until somebody calls private.make_event_partition when nobody writes.',
      v_waiting[i], to_char(v_months[i], 'YYYY-MM');
  end loop;
  return false;
exception
  when lock_not_available then
    raise warning 'A partition of event_logs waits for the next run: the tables are in use.';
    return false;
end;
$$;
comment on routine private.event_partition_step is
  'Makes one missing partition: of this month, of the three after it, or of a month of which the default partition took some '
  'events; more than 20,000 are left there. '
  'True while there may be more to do. p_now is there for tests.';
revoke all on routine private.event_partition_step from public, anon, authenticated, service_role;


do $$
begin
  loop
    exit when not private.event_partition_step();
  end loop;
end;
$$;

select private.schedule_job('threadbase-event-partitions', '17 * * * *', 'private.event_partition_step()');

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

-- Opening, ending, reading and listing sessions.

create function private.guard_session() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.user_id := private.session_user_id(new.user_id);
  if tg_op = 'INSERT' then
    perform private.hold_owner(new.user_id);
    -- A list of rows with different columns comes with nulls where a row has none.
    new.start_time := coalesce(new.start_time, now());
    new.metadata := coalesce(new.metadata, '{}');
  elsif (new.id, new.user_id) is distinct from (old.id, old.user_id) then
    raise sqlstate 'PT409' using
      message = 'conflict', detail = 'A session keeps its id and its user: its events repeat them.';
  end if;
  -- A backend may bring its history along; what a user claims must be about now, as in open_session.
  if current_user = 'authenticated' and (
    tg_op = 'INSERT' and new.start_time not between now() - interval '168 hours' and now() + interval '5 minutes'
    or new.end_time not between now() - interval '168 hours' and now() + interval '5 minutes'
      and (tg_op = 'INSERT' or new.end_time is distinct from old.end_time)
  ) then
    perform private.refuse('start_time or end_time is more than seven days ago, or more than five minutes ahead.');
  end if;
  return new;
end;
$$;
comment on routine private.guard_session is
  'What grants, policies and checks cannot say of a row that comes through the REST API: the spelling of its owner, that it '
  'keeps owner and id, that a user''s times are about now.';
revoke all on routine private.guard_session from public, anon, authenticated, service_role;

create trigger guard_session before insert or update of id, user_id, end_time on public.sessions
  for each row execute function private.guard_session();


create function private.unlink_sessions() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.sessions s set conversation_id = null where s.conversation_id = new.id;
  return null;
end;
$$;
comment on routine private.unlink_sessions is
  'A conversation that is deleted but still the prefix of a fork is gone for its sessions, too.';
revoke all on routine private.unlink_sessions from public, anon, authenticated, service_role;

create trigger unlink_sessions after update of deleted_at on public.conversations
  for each row when (old.deleted_at is null and new.deleted_at is not null) execute function private.unlink_sessions();


create function private.lock_session(p_session_id uuid, p_user_id text) returns public.sessions
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Without claims it is no API call but a session of the database's own: there the policy, or its absence, decides.
  v_user_id text := case when private.caller_role() is null then p_user_id else private.session_caller_id(p_user_id) end;
  v_session public.sessions;
begin
  select * into v_session
  from public.sessions s
  where s.id = p_session_id and s.user_id = coalesce(v_user_id, s.user_id)
  for no key update skip locked;
  if not found then
    perform private.wait_for_row('public.sessions', p_session_id, v_user_id);
    select * into v_session
    from public.sessions s
    where s.id = p_session_id and s.user_id = coalesce(v_user_id, s.user_id)
    for no key update;
  end if;
  if not found then
    raise sqlstate 'PT404' using message = 'session_not_found';
  end if;
  return v_session;
end;
$$;
comment on routine private.lock_session is
  'A session of the caller''s, locked for a write. Raises PT404 session_not_found, and 55P03 where others hold it for too long: '
  'see private.wait_for_row.';
revoke all on routine private.lock_session from public, anon, authenticated, service_role;
grant execute on routine private.lock_session to authenticated, service_role;


create function private.open_session(p_session jsonb, p_idempotency_key text, p_user_id text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_scope constant text := 'POST /sessions';
  v_user_id text := private.session_acting_user(p_user_id);
  v_id uuid := coalesce(private.to_uuid('id', p_session ->> 'id'), gen_random_uuid());
  v_conversation_id uuid := private.to_uuid('conversation_id', p_session ->> 'conversation_id');
  v_start_time timestamptz := private.to_time('start_time', p_session ->> 'start_time');
  v_metadata jsonb := coalesce(nullif(p_session -> 'metadata', 'null'), '{}');
  v_result jsonb;
  v_session public.sessions;
begin
  if jsonb_typeof(p_session) is distinct from 'object'
    or p_session - '{id,conversation_id,start_time,metadata}'::text[] <> '{}'
  then
    perform private.refuse('The session has a field that sessions do not have.');
  end if;
  perform private.require_metadata(v_metadata);
  if v_start_time not between now() - interval '168 hours' and now() + interval '5 minutes' then
    perform private.refuse('start_time is more than seven days ago, or more than five minutes ahead.');
  end if;
  if v_conversation_id is not null and not exists (
    select from public.conversations c
    where c.id = v_conversation_id and c.user_id::text = v_user_id and c.deleted_at is null
  ) then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;

  v_result := private.claim_idempotency_key(v_user_id, c_scope, p_idempotency_key, p_session);
  v_id := coalesce((v_result ->> 'id')::uuid, v_id);
  if v_result is null then
    insert into public.sessions as s (id, user_id, conversation_id, start_time, metadata)
    values (v_id, v_user_id, v_conversation_id, coalesce(v_start_time, now()), v_metadata)
    on conflict (id) do nothing
    returning * into v_session;
    v_result := jsonb_build_object('id', v_id, 'created', found);
    perform private.keep_idempotent_result(v_user_id, c_scope, p_idempotency_key, v_result);
    if v_session.id is null then
      v_session := private.lock_session(v_id, v_user_id);
      perform private.require_metadata(v_session.metadata || v_metadata);
      update public.sessions s set
        conversation_id = coalesce(s.conversation_id, v_conversation_id),
        metadata = s.metadata || v_metadata
      where s.id = v_session.id
      returning * into v_session;
      if v_session.conversation_id <> v_conversation_id then
        raise sqlstate 'PT409' using
          message = 'conflict', detail = 'The session belongs to another conversation already.';
      end if;
    end if;
  else
    select * into v_session from public.sessions s where s.id = v_id and s.user_id = v_user_id;
    v_result := v_result || '{"replayed": true}';
  end if;
  if v_session.id is null then
    raise sqlstate 'PT404' using message = 'session_not_found';
  end if;
  return v_result - 'id' || jsonb_build_object('session', to_jsonb(v_session));
end;
$$;
comment on routine private.open_session is 'See public.open_session.';


create function public.open_session(
  p_session jsonb default '{}', p_idempotency_key text default null, p_user_id text default null
) returns jsonb
language sql
set search_path = ''
return private.open_session(p_session, p_idempotency_key, p_user_id);
comment on routine public.open_session is
  'Opens a session, {id?, conversation_id?, start_time?, metadata?}, or finds the one of this id: metadata is then merged '
  'into its own, and a session without a conversation gets this one. Answers {session, created}. Raises PT404 '
  'session_not_found for somebody else''s id, PT404 conversation_not_found, PT409 conflict where it has another conversation.';
revoke all on routine private.open_session, public.open_session from public, anon, authenticated, service_role;
grant execute on routine private.open_session, public.open_session to authenticated, service_role;


create function public.end_session(p_session_id uuid, p_summary text default null, p_user_id text default null)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_session jsonb;
begin
  if char_length(p_summary) > 65536 then
    perform private.refuse('summary has more than 65,536 characters.');
  end if;
  perform private.lock_session(p_session_id, p_user_id);
  update public.sessions s set
    end_time = coalesce(s.end_time, greatest(clock_timestamp(), s.start_time)),
    summary = coalesce(p_summary, s.summary)
  where s.id = p_session_id
  returning to_jsonb(s) into v_session;
  return v_session;
end;
$$;
comment on routine public.end_session is
  'Ends a session. One that has ended keeps its end_time, and its summary unless there is another. Answers the session.';
revoke all on routine public.end_session from public, anon, authenticated, service_role;
grant execute on routine public.end_session to authenticated, service_role;


create function public.get_session(p_session_id uuid, p_user_id text default null) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_user_id text := private.session_caller_id(p_user_id);
  v_session jsonb;
begin
  select to_jsonb(s) into v_session
  from public.sessions s
  where s.id = p_session_id and s.user_id = coalesce(v_user_id, s.user_id);
  if not found then
    raise sqlstate 'PT404' using message = 'session_not_found';
  end if;
  return v_session;
end;
$$;
comment on routine public.get_session is 'A session, without its events. Raises PT404 session_not_found.';
revoke all on routine public.get_session from public, anon, authenticated, service_role;
grant execute on routine public.get_session to authenticated, service_role;


create function private.session_reader(p_user_id text, p_of_user_id text) returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id text := private.session_caller_id(p_user_id);
  v_of_user_id text := private.session_user_id(p_of_user_id);
begin
  -- Nobody's: no session has an empty user id.
  return case when v_of_user_id <> v_user_id then '' else coalesce(v_user_id, v_of_user_id) end;
end;
$$;
comment on routine private.session_reader is
  'Whose sessions a call reads: the caller''s own, and of these those of p_of_user_id; of a backend that acts for nobody '
  'p_of_user_id''s, or null: everybody''s.';
revoke all on routine private.session_reader from public, anon, authenticated, service_role;
grant execute on routine private.session_reader to authenticated, service_role;


create function public.list_sessions(
  p_from timestamptz default null,
  p_to timestamptz default null,
  p_limit integer default 50,
  p_before_start_time timestamptz default null,
  p_before_id uuid default null,
  p_of_user_id text default null,
  p_user_id text default null
) returns jsonb
language plpgsql
stable
set search_path = ''
-- Planned for the arguments of each call: with an owner by one index, without by the other.
set plan_cache_mode = force_custom_plan
as $$
declare
  v_user_id text := private.session_reader(p_user_id, p_of_user_id);
  v_rows refcursor;
begin
  perform private.require_limit(p_limit);
  open v_rows for
    select to_jsonb(s)
    from public.sessions s
    where (v_user_id is null or s.user_id = v_user_id)
      and (p_from is null or s.start_time >= p_from)
      and (p_to is null or s.start_time < p_to)
      and (p_before_start_time is null or (s.start_time, s.id) < (p_before_start_time, p_before_id))
    order by s.start_time desc, s.id desc
    limit p_limit + 1;
  return private.read_page(v_rows, p_limit);
end;
$$;
comment on routine public.list_sessions is
  'A page of sessions that started in [p_from, p_to), the latest start first, below (p_before_start_time, p_before_id). A '
  'backend that acts for nobody lists everybody''s, or those of p_of_user_id. Answers {data, has_more}.';
revoke all on routine public.list_sessions from public, anon, authenticated, service_role;
grant execute on routine public.list_sessions to authenticated, service_role;

insert into private.repeatable_calls (name, reader) values ('end_session', 'public.get_session');

-- Summaries: ended sessions wait in a queue until somebody has summarised them, and sessions that nobody ends are ended.
-- No model is called: a worker of the application takes sessions from the queue and brings their summaries.

create table private.unsummarized_sessions (
  session_id uuid not null,
  user_id text not null,
  end_time timestamptz not null,
  attempts integer not null default 0,
  lease_expires_at timestamptz not null default '-infinity',
  turn bigint not null default 0,
  constraint unsummarized_sessions_pkey primary key (session_id),
  constraint unsummarized_sessions_session_id_fkey foreign key (session_id) references public.sessions (id)
    on delete cascade
)
-- Taking a session moves it in the indexes and leaves its old place behind, at the front.
with (autovacuum_vacuum_scale_factor = 0.02);

create index idx_unsummarized_sessions_attempts on private.unsummarized_sessions (attempts, turn);
create index idx_unsummarized_sessions_user_id on private.unsummarized_sessions (user_id, attempts, turn);

comment on table private.unsummarized_sessions is
  'The sessions that have ended and have no summary. A trigger keeps it, so that whoever takes from it reads what it takes: a '
  'search among the sessions would pass by all that are taken already.';
comment on column private.unsummarized_sessions.attempts is
  'How often it was taken. Those taken least come first: a session that no worker can summarise holds up no other.';
comment on column private.unsummarized_sessions.lease_expires_at is
  'Until then it belongs to the worker that took it; after that it is given to the next one.';

comment on column private.unsummarized_sessions.turn is
  'After the last one of its user, and not before those that are waiting: so users have their turn one after the other, and ten '
  'thousand sessions of one of them hold up nobody else''s.';

select private.close_table('private.unsummarized_sessions', '{attempts, lease_expires_at}');


create function private.queue_summary() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.end_time is not null and new.summary is null then
    insert into private.unsummarized_sessions (session_id, user_id, end_time, turn)
    values (new.id, new.user_id, new.end_time, greatest(
      (select min(u.turn) from private.unsummarized_sessions u where u.attempts = 0),
      (select max(u.turn) + 1 from private.unsummarized_sessions u where u.user_id = new.user_id and u.attempts = 0),
      0
    ))
    on conflict (session_id) do update set end_time = excluded.end_time;
  else
    delete from private.unsummarized_sessions u where u.session_id = new.id;
  end if;
  return null;
end;
$$;
comment on routine private.queue_summary is
  'Queues a session that has ended without a summary, and takes it out again when it has one or goes on.';
revoke all on routine private.queue_summary from public, anon, authenticated, service_role;

-- However it ends: by the API, through the tables, or by the job below. An append sets neither column.
create trigger queue_summary_of_new after insert on public.sessions
  for each row when (new.end_time is not null and new.summary is null) execute function private.queue_summary();

create trigger queue_summary after update of end_time, summary on public.sessions
  for each row when (
    old.end_time is distinct from new.end_time or (old.summary is null) <> (new.summary is null)
  ) execute function private.queue_summary();


create function private.take_unsummarized(p_limit integer, p_lease_seconds integer, p_user_id text) returns jsonb
language plpgsql
security definer
set search_path = ''
-- Planned for the arguments of each call: the front of an index, with a user of one, without of the other, whatever the
-- statistics say of a queue that was empty when they were taken.
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_user_id text := private.session_caller_id(p_user_id);
  v_ids uuid[];
  v_sessions jsonb;
begin
  if private.caller_role() <> 'service_role' then
    raise sqlstate 'PT403' using message = 'forbidden';
  end if;
  perform private.require_limit(p_limit);
  if p_lease_seconds is null or p_lease_seconds not between 1 and 86400 then
    perform private.refuse('lease_seconds is not between 1 and 86400.');
  end if;

  -- What another worker is taking at this moment is locked, and passed by.
  v_ids := array(
    select u.session_id
    from private.unsummarized_sessions u
    where (v_user_id is null or u.user_id = v_user_id) and u.lease_expires_at <= now()
    order by u.attempts, u.turn
    limit p_limit
    for update skip locked
  );

  with taken as (
    update private.unsummarized_sessions u set
      attempts = u.attempts + 1,
      lease_expires_at = now() + p_lease_seconds * interval '1 second'
    where u.session_id = any (v_ids)
    returning u.*
  )
  select coalesce(
    to_jsonb(array_agg(
      to_jsonb(s) || jsonb_build_object('attempts', t.attempts, 'lease_expires_at', t.lease_expires_at)
      order by t.attempts, t.turn
    )),
    '[]'
  ) into v_sessions
  from taken t
  join public.sessions s on s.id = t.session_id;

  return jsonb_build_object('data', v_sessions, 'has_more', cardinality(v_ids) = p_limit and exists (
    select
    from private.unsummarized_sessions u
    where (v_user_id is null or u.user_id = v_user_id) and u.lease_expires_at <= now()
  ));
end;
$$;
comment on routine private.take_unsummarized is 'See public.take_unsummarized.';


create function public.take_unsummarized(
  p_limit integer default 10, p_lease_seconds integer default 300, p_user_id text default null
) returns jsonb
language sql
set search_path = ''
return private.take_unsummarized(p_limit, p_lease_seconds, p_user_id);
comment on routine public.take_unsummarized is
  'Takes ended sessions without a summary from the queue, those taken least first, users in turn, and of each the first to end: they are the '
  'caller''s for p_lease_seconds, and then given again. end_session with a summary takes them out. Answers {data, '
  'has_more}, sessions with attempts and lease_expires_at. For backends; one that acts for a user gets that user''s.';
revoke all on routine private.take_unsummarized, public.take_unsummarized
  from public, anon, authenticated, service_role;
grant execute on routine private.take_unsummarized, public.take_unsummarized to service_role;


create table private.session_settings (
  only_row boolean not null default true,
  idle_timeout interval not null default '30 minutes',
  constraint session_settings_pkey primary key (only_row),
  constraint session_settings_only_row_check check (only_row),
  constraint session_settings_idle_timeout_check check (idle_timeout >= interval '1 minute')
);

comment on table private.session_settings is 'How sessions are kept: one row, changed in SQL.';
comment on column private.session_settings.idle_timeout is
  'A session without an event for longer than this is ended. To change it: '
  'update private.session_settings set idle_timeout = ''2 hours'';';

select private.close_table('private.session_settings');


insert into private.session_settings default values;


create function private.close_idle_sessions_step(p_now timestamptz default now()) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_batch constant integer := 500;
  v_idle_since timestamptz := p_now - (select t.idle_timeout from private.session_settings t);
  v_closed integer;
begin
  if not private.begin_step('private.close_idle_sessions_step') then
    return false;
  end if;

  -- A session that is locked is being written to.
  with idle as (
    select s.id
    from public.sessions s
    where s.end_time is null
      and s.created_at < v_idle_since
      and coalesce(s.last_event_at, s.created_at) < v_idle_since
    order by s.created_at
    limit c_batch
    for no key update skip locked
  )
  update public.sessions s set end_time = greatest(s.last_event_at, s.start_time)
  from idle i
  where s.id = i.id;
  get diagnostics v_closed = row_count;
  return v_closed = c_batch;
end;
$$;
comment on routine private.close_idle_sessions_step is
  'Ends sessions that have had no event for the idle timeout, at the time of their last event, or of their start where they '
  'have none. True while there may be more to do. p_now is there for tests.';
revoke all on routine private.close_idle_sessions_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-idle-sessions', '* * * * *', 'private.close_idle_sessions_step()');

reset check_function_bodies;
