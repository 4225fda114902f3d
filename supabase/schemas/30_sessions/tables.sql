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
