-- Sessions and event logs: every event of a call, in an order that the database assigns.

-- ---------------------------------------------------------------------------------------------------------------------
-- Owners
-- ---------------------------------------------------------------------------------------------------------------------
create function private.session_user_id(p_user_id text) returns text
language sql
immutable
security invoker
set search_path = ''
as $$
  select case
    when p_user_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then lower(p_user_id)
    else p_user_id
  end;
$$;
comment on function private.session_user_id(text) is
  'The one spelling of a session''s owner: what is shaped like a uuid is in lower case, as auth.uid() is.';
revoke all on function private.session_user_id(text) from public, anon, authenticated, service_role;
grant execute on function private.session_user_id(text) to authenticated, service_role;


create function private.session_caller_id(p_user_id text) returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_role text := private.caller_role();
begin
  if v_role = 'authenticated' and auth.uid() is not null then
    return auth.uid()::text;
  elsif v_role = 'service_role' then
    if char_length(p_user_id) not between 1 and 256 then
      raise sqlstate 'PT400' using
        message = 'invalid_request', detail = 'The user id of a session has between 1 and 256 characters.';
    end if;
    return private.session_user_id(p_user_id);
  end if;
  raise sqlstate 'PT401' using
    message = 'unauthorized',
    detail = 'The call carries neither a user''s token nor the secret key.';
end;
$$;
comment on function private.session_caller_id(text) is
  'private.caller_id for sessions, whose owner is any text: a backend''s caller need not be a user of Auth. Null, with the '
  'service_role claim alone, means everybody.';
revoke all on function private.session_caller_id(text) from public, anon, authenticated, service_role;
grant execute on function private.session_caller_id(text) to authenticated, service_role;


create function private.session_acting_user(p_user_id text) returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id text := private.session_caller_id(p_user_id);
begin
  if v_user_id is null then
    raise sqlstate 'PT400' using
      message = 'user_id_required',
      detail = 'A backend says whose session it is.',
      hint = 'Send the user''s id in the x-user-id header.';
  end if;
  return v_user_id;
end;
$$;
comment on function private.session_acting_user(text) is
  'private.session_caller_id for what needs a user. Raises PT400 user_id_required.';
revoke all on function private.session_acting_user(text) from public, anon, authenticated, service_role;
grant execute on function private.session_acting_user(text) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- sessions
-- ---------------------------------------------------------------------------------------------------------------------
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
  constraint sessions_user_id_check check (
    char_length(user_id) between 1 and 256 and user_id = private.session_user_id(user_id)
  ),
  constraint sessions_time_check check (
    start_time between '1970-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
    and end_time between '1970-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
  ),
  constraint sessions_summary_check check (char_length(summary) <= 65536),
  constraint sessions_last_sequence_check check (last_sequence >= 0),
  constraint sessions_metadata_check check (
    jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 65536
  )
)
-- Every append updates its row. Room on the page and no index on the columns that move keep that update HOT.
with (fillfactor = 80);

create index idx_sessions_user_id on public.sessions (user_id, start_time, id);
create index idx_sessions_start_time on public.sessions (start_time, id);
create index idx_sessions_conversation_id on public.sessions (conversation_id) where conversation_id is not null;

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

alter table public.sessions enable row level security;
alter table public.sessions force row level security;
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


create function private.hold_owner(p_user_id text) returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  -- Taken exclusively by private.erase_deleted_user: either that sees the session, or this sees that the user is gone.
  perform pg_advisory_xact_lock_shared(hashtextextended('session owner ' || p_user_id, 0));
  if private.caller_role() = 'authenticated' and not exists (select from auth.users u where u.id::text = p_user_id) then
    raise sqlstate 'PT401' using message = 'unauthorized', detail = 'The user of the token does not exist any more.';
  end if;
end;
$$;
comment on function private.hold_owner(text) is
  'Keeps a user from being deleted until the transaction ends. Raises PT401 where the token has outlived its user.';
revoke all on function private.hold_owner(text) from public, anon, authenticated, service_role;
grant execute on function private.hold_owner(text) to authenticated, service_role;


create function private.guard_session() returns trigger
language plpgsql
volatile
security invoker
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
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = 'start_time or end_time is more than seven days ago, or more than five minutes ahead.';
  end if;
  return new;
end;
$$;
comment on function private.guard_session() is
  'What grants, policies and checks cannot say of a row that comes through the REST API: the spelling of its owner, that it '
  'keeps owner and id, that a user''s times are about now.';
revoke all on function private.guard_session() from public, anon, authenticated, service_role;

create trigger guard_session before insert or update of id, user_id, end_time on public.sessions
  for each row execute function private.guard_session();


create function private.unlink_sessions() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  update public.sessions s set conversation_id = null where s.conversation_id = new.id;
  return null;
end;
$$;
comment on function private.unlink_sessions() is
  'A conversation that is deleted but still the prefix of a fork is gone for its sessions, too.';
revoke all on function private.unlink_sessions() from public, anon, authenticated, service_role;

create trigger unlink_sessions after update of deleted_at on public.conversations
  for each row when (old.deleted_at is null and new.deleted_at is not null) execute function private.unlink_sessions();

-- ---------------------------------------------------------------------------------------------------------------------
-- event_logs
-- ---------------------------------------------------------------------------------------------------------------------
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
  constraint event_logs_sequence_check check (sequence > 0),
  constraint event_logs_event_type_check check (char_length(event_type) between 1 and 64),
  -- As printed: a number may be stored in a few bytes and print as thousands.
  constraint event_logs_content_check check (octet_length(content::text) <= 8388608),
  constraint event_logs_source_check check (char_length(source) <= 256),
  constraint event_logs_trace_id_check check (char_length(trace_id) <= 256),
  -- A search for what occurred in a window knows from it which partitions to look into.
  constraint event_logs_occurred_at_check check (
    occurred_at between created_at - interval '168 hours' and created_at + interval '5 minutes'
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

create table private.event_logs_default partition of public.event_logs default;
comment on table private.event_logs_default is
  'Takes the events of a month that has no partition. Empty in health; private.make_event_partition moves what is in it.';

alter table public.event_logs enable row level security;
alter table public.event_logs force row level security;
revoke all on public.event_logs from anon, authenticated, service_role;
grant select on public.event_logs to authenticated, service_role;
grant insert (session_id, event_type, content, source, trace_id, occurred_at)
  on public.event_logs to authenticated, service_role;

create policy "Users see the events of their own sessions" on public.event_logs
  for select to authenticated using (user_id = (select auth.uid())::text);
create policy "Users add events to their own sessions" on public.event_logs
  for insert to authenticated with check (user_id = (select auth.uid())::text);

alter table private.event_logs_default enable row level security;
alter table private.event_logs_default force row level security;
revoke all on private.event_logs_default from public, anon, authenticated, service_role;
create policy "No client reaches a partition" on private.event_logs_default for select to authenticated using (false);

-- ---------------------------------------------------------------------------------------------------------------------
-- event_counts: what analytics reads instead of the events
-- ---------------------------------------------------------------------------------------------------------------------
create table private.event_counts (
  session_id uuid not null,
  slot timestamptz not null,
  event_type text not null,
  user_id text not null,
  count integer not null,
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
alter table private.event_counts enable row level security;
alter table private.event_counts force row level security;
revoke all on private.event_counts from public, anon, authenticated, service_role;
create policy "No client sees event counts" on private.event_counts for select to authenticated using (false);

-- ---------------------------------------------------------------------------------------------------------------------
-- Opening and ending
-- ---------------------------------------------------------------------------------------------------------------------
create function private.open_session(p_session jsonb, p_idempotency_key text, p_user_id text) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_scope constant text := 'POST /sessions';
  v_user_id text := private.session_acting_user(p_user_id);
  v_id uuid := coalesce((p_session ->> 'id')::uuid, gen_random_uuid());
  v_conversation_id uuid := (p_session ->> 'conversation_id')::uuid;
  v_start_time timestamptz := (p_session ->> 'start_time')::timestamptz;
  v_metadata jsonb := coalesce(nullif(p_session -> 'metadata', 'null'), '{}');
  v_result jsonb;
  v_session public.sessions;
begin
  if jsonb_typeof(p_session) is distinct from 'object'
    or p_session - '{id,conversation_id,start_time,metadata}'::text[] <> '{}'
  then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'The session has a field that sessions do not have.';
  end if;
  perform private.require_metadata(v_metadata);
  if v_start_time not between now() - interval '168 hours' and now() + interval '5 minutes' then
    raise sqlstate 'PT400' using
      message = 'invalid_request', detail = 'start_time is more than seven days ago, or more than five minutes ahead.';
  end if;
  if v_conversation_id is not null and not exists (
    select from public.conversations c
    where c.id = v_conversation_id and c.user_id::text = v_user_id and c.deleted_at is null
  ) then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;

  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(v_user_id, c_scope, p_idempotency_key, p_session);
    v_id := coalesce((v_result ->> 'id')::uuid, v_id);
  end if;
  if v_result is null then
    insert into public.sessions as s (id, user_id, conversation_id, start_time, metadata)
    values (v_id, v_user_id, v_conversation_id, coalesce(v_start_time, now()), v_metadata)
    on conflict (id) do nothing
    returning * into v_session;
    v_result := jsonb_build_object('id', v_id, 'created', found);
    if p_idempotency_key is not null then
      perform private.keep_idempotent_result(v_user_id, c_scope, p_idempotency_key, v_result);
    end if;
    if v_session.id is null then
      select * into v_session from public.sessions s where s.id = v_id and s.user_id = v_user_id for no key update;
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
comment on function private.open_session(jsonb, text, text) is 'See public.open_session.';
revoke all on function private.open_session(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.open_session(jsonb, text, text) to authenticated, service_role;


create function public.open_session(
  p_session jsonb default '{}', p_idempotency_key text default null, p_user_id text default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.open_session(p_session, p_idempotency_key, p_user_id);
$$;
comment on function public.open_session(jsonb, text, text) is
  'Opens a session, {id?, conversation_id?, start_time?, metadata?}, or finds the one of this id: metadata is then merged '
  'into its own, and a session without a conversation gets this one. Answers {session, created}. Raises PT404 '
  'session_not_found for somebody else''s id, PT404 conversation_not_found, PT409 conflict where it has another conversation.';
revoke all on function public.open_session(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function public.open_session(jsonb, text, text) to authenticated, service_role;


create function public.end_session(p_session_id uuid, p_summary text default null, p_user_id text default null)
returns jsonb
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_user_id text := private.session_caller_id(p_user_id);
  v_session jsonb;
begin
  if char_length(p_summary) > 65536 then
    raise sqlstate 'PT400' using
      message = 'invalid_request', detail = 'summary has more than 65,536 characters.';
  end if;
  update public.sessions s set
    end_time = coalesce(s.end_time, greatest(clock_timestamp(), s.start_time)),
    summary = coalesce(p_summary, s.summary)
  where s.id = p_session_id and s.user_id = coalesce(v_user_id, s.user_id)
  returning to_jsonb(s) into v_session;
  if not found then
    raise sqlstate 'PT404' using message = 'session_not_found';
  end if;
  return v_session;
end;
$$;
comment on function public.end_session(uuid, text, text) is
  'Ends a session. One that has ended keeps its end_time, and its summary unless there is another. Answers the session.';
revoke all on function public.end_session(uuid, text, text) from public, anon, authenticated, service_role;
grant execute on function public.end_session(uuid, text, text) to authenticated, service_role;


create function public.get_session(p_session_id uuid, p_user_id text default null) returns jsonb
language plpgsql
stable
security invoker
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
comment on function public.get_session(uuid, text) is 'A session, without its events. Raises PT404 session_not_found.';
revoke all on function public.get_session(uuid, text) from public, anon, authenticated, service_role;
grant execute on function public.get_session(uuid, text) to authenticated, service_role;


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
security invoker
set search_path = ''
-- Planned for the arguments of each call: with an owner by one index, without by the other.
set plan_cache_mode = force_custom_plan
as $$
declare
  -- A worker has 256 MB for the answer and its copies.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_user_id text := private.session_caller_id(p_user_id);
  v_of_user_id text := private.session_user_id(p_of_user_id);
  v_read bigint;
  v_page jsonb;
begin
  perform private.require_limit(p_limit);
  if v_of_user_id <> v_user_id then
    return '{"data": [], "has_more": false}';
  end if;
  v_user_id := coalesce(v_user_id, v_of_user_id);

  -- One more than the page, to know whether there is more. A page that is full of bytes ends early, after one session at the
  -- least.
  select
    count(*),
    coalesce(
      jsonb_agg(to_jsonb(s) - '{n,bytes}'::text[] order by s.n) filter (where s.n = 1 or s.n <= p_limit and s.bytes <= c_max_bytes),
      '[]'
    )
  into v_read, v_page
  from (
    select
      s.*,
      row_number() over newest as n,
      sum(coalesce(octet_length(s.summary), 0) + octet_length(s.metadata::text)) over newest as bytes
    from (
      select *
      from public.sessions s
      where (v_user_id is null or s.user_id = v_user_id)
        and (p_from is null or s.start_time >= p_from)
        and (p_to is null or s.start_time < p_to)
        and (p_before_start_time is null or (s.start_time, s.id) < (p_before_start_time, p_before_id))
      order by s.start_time desc, s.id desc
      limit p_limit + 1
    ) s
    window newest as (order by s.start_time desc, s.id desc rows unbounded preceding)
  ) s;
  return jsonb_build_object('data', v_page, 'has_more', v_read > jsonb_array_length(v_page));
end;
$$;
comment on function public.list_sessions(timestamptz, timestamptz, integer, timestamptz, uuid, text, text) is
  'A page of sessions that started in [p_from, p_to), the latest start first, below (p_before_start_time, p_before_id). A '
  'backend that acts for nobody lists everybody''s, or those of p_of_user_id. Answers {data, has_more}.';
revoke all on function public.list_sessions(timestamptz, timestamptz, integer, timestamptz, uuid, text, text)
  from public, anon, authenticated, service_role;
grant execute on function public.list_sessions(timestamptz, timestamptz, integer, timestamptz, uuid, text, text)
  to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Numbering
-- ---------------------------------------------------------------------------------------------------------------------
create function private.require_events(p_events jsonb) returns void
language plpgsql
immutable
security invoker
set search_path = ''
as $$
declare
  v_invalid bigint;
begin
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) not between 1 and 1000 then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'events is not an array of 1 to 1000.';
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
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = format('events[%s] is not an event, or has a field, a type or a length that events do not have.', v_invalid);
  end if;
end;
$$;
comment on function private.require_events(jsonb) is
  'What zod says politely at the edge holds for a direct RPC call too. Raises PT400 invalid_request.';
revoke all on function private.require_events(jsonb) from public, anon, authenticated, service_role;


create function private.event_slot(p_at timestamptz) returns timestamptz
language sql
immutable
security invoker
set search_path = ''
as $$
  select date_bin('15 minutes', p_at, '2000-01-01 00:00:00+00');
$$;
comment on function private.event_slot(timestamptz) is 'The beginning of the quarter of an hour, as in private.event_counts.';
revoke all on function private.event_slot(timestamptz) from public, anon, authenticated, service_role;


create function private.read_events(p_session_id uuid, p_after integer, p_types text[], p_limit integer) returns jsonb
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies; events may have 4 MiB each.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_from timestamptz;
  v_to timestamptz;
  v_event public.event_logs;
  v_events public.event_logs[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
  v_page jsonb;
begin
  -- The partitions between are all that is looked into.
  select s.created_at, s.last_event_at into v_from, v_to
  from public.sessions s
  where s.id = p_session_id;

  -- One more than the page, to know whether there is more. A page that is full of bytes ends early, after one event at
  -- the least.
  for v_event in
    select *
    from public.event_logs e
    where e.session_id = p_session_id
      and e.sequence > p_after
      and e.created_at between v_from and v_to
      and (p_types is null or e.event_type = any (p_types))
    order by e.sequence
    limit p_limit + 1
  loop
    v_bytes := v_bytes + octet_length(v_event.content::text);
    v_has_more := cardinality(v_events) = p_limit or (v_bytes > c_max_bytes and v_events <> '{}');
    exit when v_has_more;
    v_events := v_events || v_event;
  end loop;

  select coalesce(jsonb_agg(to_jsonb(e) - 'user_id' order by e.sequence), '[]') into v_page
  from unnest(v_events) e;
  return jsonb_build_object('data', v_page, 'has_more', v_has_more);
end;
$$;
comment on function private.read_events(uuid, integer, text[], integer) is
  'The events of a session after a number, at most p_limit and about 8 MiB of them: {data, has_more}. With the rights of '
  'whoever calls.';
revoke all on function private.read_events(uuid, integer, text[], integer) from public, anon, authenticated, service_role;
grant execute on function private.read_events(uuid, integer, text[], integer) to authenticated, service_role;


create function private.append_events(
  p_session_id uuid, p_events jsonb, p_idempotency_key text, p_user_id text
) returns jsonb
language plpgsql
volatile
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
begin
  perform private.require_events(p_events);
  -- The row lock is the queue: batches of one session are numbered one after the other.
  select s.user_id, s.last_sequence into v_user_id, v_last
  from public.sessions s
  where s.id = p_session_id and s.user_id = coalesce(v_caller_id, s.user_id)
  for no key update;
  if not found then
    raise sqlstate 'PT404' using message = 'session_not_found';
  end if;

  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(v_user_id, v_scope, p_idempotency_key, p_events);
    if v_result is not null then
      select jsonb_agg(to_jsonb(e) - 'user_id' order by e.sequence) into v_events
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
  where (e.value ->> 'occurred_at')::timestamptz - e.n * interval '1 microsecond'
    not between v_now - interval '168 hours' and v_now + interval '5 minutes'
  limit 1;
  if found then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = format(
        'events[%s].occurred_at is more than seven days ago, or more than five minutes ahead.', v_invalid
      );
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
    insert into private.event_counts as c (session_id, slot, event_type, user_id, count)
    select p_session_id, private.event_slot(s.occurred_at), s.event_type, v_user_id, count(*)
    from stored s
    group by 2, 3
    on conflict (session_id, slot, event_type) do update set count = c.count + excluded.count
  )
  select jsonb_agg(to_jsonb(s) - 'user_id' order by s.sequence) into v_events
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
comment on function private.append_events(uuid, jsonb, text, text) is 'See public.append_events.';
revoke all on function private.append_events(uuid, jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.append_events(uuid, jsonb, text, text) to authenticated, service_role;


create function public.append_events(
  p_session_id uuid, p_events jsonb, p_idempotency_key text default null, p_user_id text default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.append_events(p_session_id, p_events, p_idempotency_key, p_user_id);
$$;
comment on function public.append_events(uuid, jsonb, text, text) is
  'Appends 1 to 1,000 events, [{event_type, content, source?, trace_id?, occurred_at?}]: all of them, contiguously, or none. '
  'A session that has ended still takes what comes late. Answers {events, last_sequence}. Raises PT404 session_not_found, '
  'PT400 invalid_request, PT409 idempotency_mismatch.';
revoke all on function public.append_events(uuid, jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function public.append_events(uuid, jsonb, text, text) to authenticated, service_role;


create function private.number_event() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  -- Without claims it is no API call but a session of the database's own: there the policy, or its absence, decides.
  v_caller_id text := case when private.caller_role() is not null then private.session_caller_id(null) end;
begin
  update public.sessions s set
    last_sequence = s.last_sequence + 1,
    last_event_at = greatest(s.last_event_at, new.created_at),
    created_at = least(s.created_at, new.created_at)
  where s.id = new.session_id and s.user_id = coalesce(v_caller_id, s.user_id)
  returning s.last_sequence, s.user_id into new.sequence, new.user_id;
  if not found then
    raise sqlstate 'PT404' using message = 'session_not_found';
  end if;
  -- A list of rows with different columns comes with nulls where a row has none.
  new.occurred_at := coalesce(new.occurred_at, new.created_at);
  insert into private.event_counts as c (session_id, slot, event_type, user_id, count)
  values (new.session_id, private.event_slot(new.occurred_at), new.event_type, new.user_id, 1)
  on conflict (session_id, slot, event_type) do update set count = c.count + 1;
  return new;
end;
$$;
comment on function private.number_event() is
  'Numbers an event that is inserted through the REST API, under the session''s row lock, and says whose it is.';
revoke all on function private.number_event() from public, anon, authenticated, service_role;

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
security invoker
set search_path = ''
as $$
declare
  v_session jsonb := public.get_session(p_session_id, p_user_id);
begin
  perform private.require_limit(p_limit);
  return private.read_events(p_session_id, coalesce(p_after, 0), p_types, p_limit)
    || jsonb_build_object('session', v_session);
end;
$$;
comment on function public.list_events(uuid, integer, text[], integer, text) is
  'A page of a session''s events with sequence > p_after, in order, of the types given, and the session as it is at that '
  'moment: {data, has_more, session}. Raises PT404 session_not_found.';
revoke all on function public.list_events(uuid, integer, text[], integer, text)
  from public, anon, authenticated, service_role;
grant execute on function public.list_events(uuid, integer, text[], integer, text) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Erasure
-- ---------------------------------------------------------------------------------------------------------------------
create or replace function private.erase_deleted_user() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  -- See private.hold_owner.
  perform pg_advisory_xact_lock(hashtextextended('session owner ' || old.id, 0));
  -- In the order in which an append locks them.
  delete from public.sessions s where s.user_id = old.id::text;
  delete from private.idempotency_keys k where k.user_id = old.id::text;
  return null;
end;
$$;
