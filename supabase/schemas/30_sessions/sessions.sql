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
