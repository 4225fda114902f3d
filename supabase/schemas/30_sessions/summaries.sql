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
