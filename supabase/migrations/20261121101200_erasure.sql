-- Erasure: everything of a user's, or all their conversations, in steps that hurt nobody. A receipt says how far it is.

-- ---------------------------------------------------------------------------------------------------------------------
-- erasures
-- ---------------------------------------------------------------------------------------------------------------------
create table private.erasures (
  id uuid not null default gen_random_uuid(),
  scope text not null,
  user_id text,
  removed jsonb not null default '{}',
  error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint erasures_pkey primary key (id),
  constraint erasures_scope_check check (scope in ('conversations', 'user')),
  constraint erasures_user_id_check check ((user_id is null) = (scope = 'user' and finished_at is not null))
);
-- One at a time: a request that is repeated finds the first one.
create unique index idx_erasures_unfinished on private.erasures (user_id, scope) where finished_at is null;
create index idx_erasures_user_id on private.erasures (user_id) where user_id is not null;
create index idx_erasures_finished_at on private.erasures (finished_at) where finished_at is not null;
comment on table private.erasures is
  'What was asked to be erased, and how far that is: receipts, without content. Kept for 30 days after the end.';
comment on column private.erasures.scope is 'conversations: all of a user''s. user: everything that is stored of them.';
comment on column private.erasures.user_id is
  'Whose; null when everything of a user is erased: the receipt would be what is left of them.';
comment on column private.erasures.removed is 'How many rows of which table: {table: rows}.';
comment on column private.erasures.error is
  'The SQLSTATE with which the last step failed; null when it did not. The next run tries again.';
alter table private.erasures enable row level security;
alter table private.erasures force row level security;
revoke all on private.erasures from public, anon, authenticated, service_role;
create policy "No client sees erasures" on private.erasures for select to authenticated using (false);

-- ---------------------------------------------------------------------------------------------------------------------
-- erasure_conversations
-- ---------------------------------------------------------------------------------------------------------------------
create table private.erasure_conversations (
  erasure_id uuid not null,
  conversation_id uuid not null,
  stage smallint not null default 0,
  constraint erasure_conversations_pkey primary key (erasure_id, conversation_id),
  constraint erasure_conversations_erasure_id_fkey foreign key (erasure_id) references private.erasures (id)
    on delete cascade,
  constraint erasure_conversations_stage_check check (stage between 0 and 2)
);
create index idx_erasure_conversations_stage on private.erasure_conversations (erasure_id, stage);
comment on table private.erasure_conversations is
  'The conversations of an erasure that are not gone yet. A list and not a time: an import may bring old times along, and what '
  'comes after the request stays. No foreign key to conversations: every deletion of one would look here.';
comment on column private.erasure_conversations.stage is '0: to be hidden; 1: hidden; 2: without messages.';
alter table private.erasure_conversations enable row level security;
alter table private.erasure_conversations force row level security;
revoke all on private.erasure_conversations from public, anon, authenticated, service_role;
create policy "No client sees what is being erased" on private.erasure_conversations
  for select to authenticated using (false);

-- ---------------------------------------------------------------------------------------------------------------------
-- Pieces: each removes a bounded number of rows and answers how many of which table, or null when there is nothing left
-- ---------------------------------------------------------------------------------------------------------------------
create function private.erase_conversations_piece(p_erasure_id uuid, p_user_id uuid) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_messages constant integer := 2000;
  c_states constant integer := 2000;
  c_keys constant integer := 500;
  v_stage smallint;
  v_listed uuid[];
  v_ids uuid[];
  v_gone bigint;
  v_piece record;
  v_states bigint := 0;
  v_messages bigint := 0;
  v_conversations bigint := 0;
  v_imports bigint := 0;
  v_made bigint := 0;
begin
  -- Everything is hidden before anything is removed, and every message is removed before the first conversation: where a
  -- table of the host's holds one of them fast, nothing of what was said is left.
  select min(l.stage) into v_stage from private.erasure_conversations l where l.erasure_id = p_erasure_id;
  if v_stage is null then
    -- Of a request that made one of them, or wrote to it, the key: it has the hash of what was written.
    delete from private.idempotency_keys k
    where k.ctid = any (array(
      select k.ctid
      from private.idempotency_keys k
      where k.user_id = p_user_id::text
        and k.scope ~ '^POST (/openai/v1)?/conversations(/|$)'
        and not exists (
          select
          from public.conversations c
          where c.id = coalesce(substring(k.scope from '/conversations/([0-9a-f-]{36})/'), k.result ->> 'conversation_id')::uuid
        )
      limit c_keys
      for update skip locked
    ));
    get diagnostics v_gone = row_count;
    return case when v_gone > 0 then jsonb_build_object('idempotency_keys', v_gone) end;
  end if;
  v_listed := array(
    select l.conversation_id
    from private.erasure_conversations l
    where l.erasure_id = p_erasure_id and l.stage = v_stage
    limit case when v_stage = 0 then 500 else 200 end
  );

  if v_stage = 0 then
    -- The locks in the order in which storing a response and importing take them.
    perform pg_advisory_xact_lock(hashtextextended('responses of ' || p_user_id, 0));
    -- An import that went on would show its conversation again when it is complete.
    delete from private.imports i where i.user_id = p_user_id and i.conversation_id = any (v_listed);
    get diagnostics v_imports = row_count;
  end if;
  -- No fork is being made of what is locked so. What somebody is writing to is passed by: its turn comes.
  v_ids := array(
    select c.id from public.conversations c where c.id = any (v_listed) for update skip locked
  );

  if v_stage = 0 then
    delete from public.conversation_states s
    where s.ctid = any (array(
      select s.ctid
      from public.conversation_states s
      where s.user_id = p_user_id and s.conversation_id = any (v_ids)
      limit c_states
    ));
    get diagnostics v_states = row_count;
    if v_states = c_states then
      return jsonb_build_object('conversation_states', v_states, 'imports', v_imports);
    end if;
    perform private.hide_conversations(v_ids);
    -- Removed here and counted, not by the job of the queue.
    delete from private.prune_queue q where q.conversation_id = any (v_ids);
    update private.erasure_conversations l set stage = 1
    where l.erasure_id = p_erasure_id and l.conversation_id = any (v_ids);

  elsif v_stage = 1 then
    v_piece := private.remove_messages(v_ids, 0, c_messages);
    v_messages := v_piece.removed;
    if v_piece.complete then
      update private.erasure_conversations l set stage = 2
      where l.erasure_id = p_erasure_id and l.conversation_id = any (v_ids);
    end if;

  else
    -- Forks that were made after the list was: they show what has to go, and go too.
    insert into private.erasure_conversations (erasure_id, conversation_id)
    select p_erasure_id, c.id
    from public.conversations c
    where c.parent_id = any (v_ids)
    on conflict do nothing;
    if found then
      return '{}';
    end if;
    delete from private.response_conversations r where r.user_id = p_user_id and r.conversation_id = any (v_ids);
    get diagnostics v_made = row_count;
    -- What forks of them are left is on the list, hidden and empty. So the order does not matter.
    update public.conversations c set parent_id = null, fork_sequence = null where c.parent_id = any (v_ids);
    delete from public.conversations c where c.id = any (v_ids);
    get diagnostics v_conversations = row_count;
  end if;

  delete from private.erasure_conversations l
  where l.erasure_id = p_erasure_id
    and l.conversation_id = any (v_listed)
    and not exists (select from public.conversations c where c.id = l.conversation_id);
  get diagnostics v_gone = row_count;
  if v_ids = '{}' and v_gone = 0 then
    raise lock_not_available;
  end if;
  return jsonb_build_object(
    'conversations', v_conversations,
    'conversation_messages', v_messages,
    'conversation_states', v_states,
    'imports', v_imports,
    'response_conversations', v_made
  );
end;
$$;
comment on function private.erase_conversations_piece(uuid, uuid) is
  'A piece of the conversations on an erasure''s list: 2,000 responses go, or 500 conversations without any are hidden, or '
  '2,000 messages go, or 200 empty conversations, or 500 idempotency keys of conversations that are not there. Answers '
  '{table: rows}, null when there is nothing left.';
revoke all on function private.erase_conversations_piece(uuid, uuid) from public, anon, authenticated, service_role;


create function private.erase_sessions_piece(p_user_id text) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  c_events constant integer := 2000;
  -- See private.remove_messages.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_id uuid;
  v_last integer;
  v_bytes bigint := 0;
  v_size bigint;
  v_complete boolean;
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
    select
      max(e.sequence) filter (where e.before < c_bytes - v_bytes), sum(e.bytes),
      count(*) < c_events - v_events and coalesce(bool_and(e.before < c_bytes - v_bytes), true)
    into v_last, v_size, v_complete
    from (
      select e.sequence, e.bytes, sum(e.bytes) over (order by e.sequence) - e.bytes as before
      from (
        select e.sequence, pg_column_size(e.content) as bytes
        from public.event_logs e
        where e.session_id = v_id
        order by e.sequence
        limit c_events - v_events
      ) e
    ) e;
    delete from public.event_logs e where e.session_id = v_id and e.sequence <= v_last;
    get diagnostics v_count = row_count;
    v_events := v_events + v_count;
    v_bytes := v_bytes + coalesce(v_size, 0);
    exit when not v_complete;

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
comment on function private.erase_sessions_piece(text) is
  'A piece of a user''s sessions: 2,000 events, or 64 MiB of them, or 100 sessions with what events they have. Answers '
  '{table: rows}, null when there is none left.';
revoke all on function private.erase_sessions_piece(text) from public, anon, authenticated, service_role;


create function private.erase_rows_piece(p_user_id text) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  -- A document may have some MiB.
  c_rows constant integer := 50;
  v_is_uuid constant boolean := p_user_id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$';
  v_table regclass;
  v_column name;
  v_left boolean;
  v_count bigint;
begin
  for v_table, v_column in
    select a.attrelid, a.attname
    from (
      values
        ('public.documents'::regclass, 'owner_id'),
        ('public.document_failures', 'owner_id'),
        ('private.collection_versions', 'owner_id'),
        ('private.idempotency_keys', 'user_id'),
        -- Last: a table of the host's may hold one fast.
        ('public.videos', 'user_id')
    ) as t (id, name)
    join pg_catalog.pg_attribute a on a.attrelid = t.id and a.attname = t.name
    where a.atttypid = 'text'::regtype or v_is_uuid
  loop
    execute format('select exists (select from %s where %I = %L)', v_table, v_column, p_user_id) into v_left;
    continue when not v_left;
    execute format(
      'delete from %1$s where ctid = any (array(select ctid from %1$s where %2$I = %3$L limit %4$s for update skip locked))',
      v_table, v_column, p_user_id, c_rows
    );
    get diagnostics v_count = row_count;
    if v_count = 0 then
      raise lock_not_available;
    end if;
    return jsonb_build_object((select c.relname from pg_catalog.pg_class c where c.oid = v_table), v_count);
  end loop;
  return null;
end;
$$;
comment on function private.erase_rows_piece(text) is
  'Removes 50 rows of a user''s from a table that nothing else depends on. Answers {table: rows}, null when there are none left.';
revoke all on function private.erase_rows_piece(text) from public, anon, authenticated, service_role;


create function private.list_conversations_to_erase(p_erasure_id uuid, p_user_id uuid) returns boolean
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  insert into private.erasure_conversations (erasure_id, conversation_id)
  select p_erasure_id, c.id
  from public.conversations c
  where c.user_id = p_user_id
  on conflict do nothing;
  return found;
end;
$$;
comment on function private.list_conversations_to_erase(uuid, uuid) is
  'Puts what a user has at this moment on an erasure''s list, deleted conversations included. False if that is nothing new.';
revoke all on function private.list_conversations_to_erase(uuid, uuid) from public, anon, authenticated, service_role;


create function private.erase_piece(p_erasure_id uuid, p_scope text, p_user_id text) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_uuid constant uuid := case when p_user_id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then p_user_id end;
  v_kind text;
  v_removed jsonb;
  v_error text;
  v_count bigint;
begin
  if p_scope = 'conversations' then
    return private.erase_conversations_piece(p_erasure_id, v_uuid);
  end if;
  foreach v_kind in array '{conversations,sessions,rows}'::text[] loop
    -- What cannot be removed of one kind, because a table of the host's or a lock holds it, keeps none of another.
    begin
      case v_kind
        when 'conversations' then
          v_removed := private.erase_conversations_piece(p_erasure_id, v_uuid);
          if v_removed is null and private.list_conversations_to_erase(p_erasure_id, v_uuid) then
            v_removed := '{}';
          end if;
        when 'sessions' then
          v_removed := private.erase_sessions_piece(p_user_id);
        when 'rows' then
          v_removed := private.erase_rows_piece(p_user_id);
      end case;
      if v_removed is not null then
        return v_removed;
      end if;
    exception
      when others then
        v_error := coalesce(v_error, sqlstate);
    end;
  end loop;
  if v_error is not null then
    raise exception using errcode = v_error;
  end if;
  delete from private.erasures e where e.user_id = p_user_id and e.id <> p_erasure_id;
  get diagnostics v_count = row_count;
  return case when v_count > 0 then jsonb_build_object('erasures', v_count) end;
end;
$$;
comment on function private.erase_piece(uuid, text, text) is
  'The next piece of an erasure: {table: rows}, null when there is nothing left.';
revoke all on function private.erase_piece(uuid, text, text) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Steps
-- ---------------------------------------------------------------------------------------------------------------------
create function private.advance_erasure(p_erasure_id uuid, p_for interval) returns void
language plpgsql
volatile
security definer
set search_path = ''
-- Less than Postgres waits before it looks for a deadlock: it is the erasure that gives way, never a request.
set lock_timeout = '500ms'
-- By index and no further than a piece goes, whatever the statistics say of a table that is being emptied.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_until timestamptz := clock_timestamp() + p_for;
  v_erasure private.erasures;
  v_piece jsonb;
begin
  select * into v_erasure
  from private.erasures e
  where e.id = p_erasure_id and e.finished_at is null
  for update skip locked;
  if not found then
    return;
  end if;
  v_erasure.error := null;
  loop
    begin
      v_piece := private.erase_piece(v_erasure.id, v_erasure.scope, v_erasure.user_id);
    exception
      when others then
        -- The code alone: the message may have content in it.
        v_erasure.error := sqlstate;
    end;
    exit when v_erasure.error is not null or v_piece is null;
    v_erasure.removed := private.add_counts(v_erasure.removed, v_piece);
    exit when clock_timestamp() > v_until;
  end loop;

  update private.erasures e set
    removed = v_erasure.removed,
    error = v_erasure.error,
    updated_at = clock_timestamp(),
    finished_at = case when v_piece is null and v_erasure.error is null then clock_timestamp() end,
    user_id = case when e.scope = 'user' and v_piece is null and v_erasure.error is null then null else e.user_id end
  where e.id = p_erasure_id;
end;
$$;
comment on function private.advance_erasure(uuid, interval) is
  'Removes pieces of an erasure until it is finished, fails, or the time is up. Does nothing where somebody else is at it.';
revoke all on function private.advance_erasure(uuid, interval) from public, anon, authenticated, service_role;


create function private.erasure_step() returns boolean
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if clock_timestamp() > statement_timestamp() + interval '60 seconds'
    or not pg_try_advisory_xact_lock(hashtext('private.erasure_step'))
  then
    return false;
  end if;
  -- In turn; one that has failed waits for the next run and holds up no other.
  select e.id into v_id
  from private.erasures e
  where e.finished_at is null and (e.error is null or e.updated_at < statement_timestamp())
  order by e.updated_at
  limit 1
  for update skip locked;
  if found then
    perform private.advance_erasure(v_id, interval '200 milliseconds');
    return true;
  end if;
  delete from private.erasures e
  where e.ctid = any (array(
    select e.ctid from private.erasures e where e.finished_at < now() - interval '30 days' limit 1000
  ));
  return found;
end;
$$;
comment on function private.erasure_step() is
  'Goes on with one erasure for about 200 ms; when there is none, removes receipts that are 30 days old. True while there may be '
  'more to do.';
revoke all on function private.erasure_step() from public, anon, authenticated, service_role;

insert into private.scheduled_jobs (name, schedule, command)
values (
  'threadbase-erasures',
  '* * * * *',
  'do $job$ begin loop exit when not private.erasure_step(); commit; end loop; end; $job$'
);
select private.schedule_jobs();


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
  delete from public.documents d where d.owner_id = old.id;
  delete from public.document_failures f where f.owner_id = old.id;
  delete from private.collection_versions v where v.owner_id = old.id;
  delete from private.erasures e where e.user_id = old.id::text and (e.scope = 'conversations' or e.finished_at is not null);
  -- What this erasure was to do is done, and whoever asked for it wants to hear that.
  with finished as (
    update private.erasures e set user_id = null, error = null, updated_at = clock_timestamp(), finished_at = clock_timestamp()
    where e.user_id = old.id::text
    returning e.id
  )
  delete from private.erasure_conversations l using finished f where l.erasure_id = f.id;
  return null;
end;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- The API
-- ---------------------------------------------------------------------------------------------------------------------
create function private.request_erasure(p_scope text, p_user_id text) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  -- The receipt would outlive a user who is being deleted.
  perform private.hold_owner(p_user_id);
  loop
    insert into private.erasures (scope, user_id) values (p_scope, p_user_id)
    on conflict (user_id, scope) where finished_at is null do nothing
    returning id into v_id;
    exit when found;
    -- Locked: what is put on the list of one that is finished meanwhile would stay. Where it is, another one begins.
    select e.id into v_id
    from private.erasures e
    where e.user_id = p_user_id and e.scope = p_scope and e.finished_at is null
    for update;
    exit when found;
  end loop;
  if p_scope = 'conversations' then
    perform private.list_conversations_to_erase(v_id, p_user_id::uuid);
  end if;
  perform private.advance_erasure(v_id, interval '400 milliseconds');
  return (select to_jsonb(e) - '{user_id,updated_at}'::text[] from private.erasures e where e.id = v_id);
end;
$$;
comment on function private.request_erasure(text, text) is
  'Takes an erasure on, or finds the one that is going on, and does what can be done at once: most users have no more. Answers '
  'the receipt. Checks nobody''s rights.';
revoke all on function private.request_erasure(text, text) from public, anon, authenticated, service_role;


create function private.erase_conversations(p_user_id uuid) returns jsonb
language sql
volatile
security definer
set search_path = ''
as $$
  select private.request_erasure('conversations', private.acting_user(p_user_id)::text);
$$;
comment on function private.erase_conversations(uuid) is 'See public.erase_conversations.';
revoke all on function private.erase_conversations(uuid) from public, anon, authenticated, service_role;
grant execute on function private.erase_conversations(uuid) to authenticated, service_role;


create function public.erase_conversations(p_user_id uuid default null) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.erase_conversations(p_user_id);
$$;
comment on function public.erase_conversations(uuid) is
  'Erases all conversations that the user has at this moment, pinned ones too, and all responses: nothing of them is left. What '
  'does not go at once goes in steps. Answers the receipt {id, scope, removed, error, created_at, finished_at}; finished_at is '
  'null until it is done. Repeated meanwhile, it answers the same receipt and takes on what is new.';
revoke all on function public.erase_conversations(uuid) from public, anon, authenticated, service_role;
grant execute on function public.erase_conversations(uuid) to authenticated, service_role;


create function private.erase_user(p_user_id text) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id text := private.session_acting_user(p_user_id);
begin
  if private.caller_role() <> 'service_role' then
    raise sqlstate 'PT403' using message = 'forbidden';
  end if;
  if v_user_id = '00000000-0000-0000-0000-000000000000' then
    raise sqlstate 'PT400' using
      message = 'invalid_request', detail = 'It is no user: it owns the documents of the backend itself.';
  end if;
  return private.request_erasure('user', v_user_id);
end;
$$;
comment on function private.erase_user(text) is 'See public.erase_user.';
revoke all on function private.erase_user(text) from public, anon, authenticated, service_role;
grant execute on function private.erase_user(text) to service_role;


create function public.erase_user(p_user_id text default null) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.erase_user(p_user_id);
$$;
comment on function public.erase_user(text) is
  'Erases everything that is stored of a user, of Auth or of a backend''s own naming, in every table; the user of Auth stays. '
  'Answers the receipt {id, scope, removed, error, created_at, finished_at}, which does not say who it was. For backends.';
revoke all on function public.erase_user(text) from public, anon, authenticated, service_role;
grant execute on function public.erase_user(text) to service_role;


create function private.get_erasure(p_erasure_id uuid, p_scope text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id text := private.caller_id(p_user_id);
  v_receipt jsonb;
begin
  select to_jsonb(e) - '{user_id,updated_at}'::text[] into v_receipt
  from private.erasures e
  where e.id = p_erasure_id
    and e.scope = p_scope
    and (v_user_id is null or e.scope = 'conversations' and e.user_id = v_user_id);
  if not found then
    raise sqlstate 'PT404' using message = 'erasure_not_found';
  end if;
  return v_receipt;
end;
$$;
comment on function private.get_erasure(uuid, text, uuid) is 'See public.get_erasure.';
revoke all on function private.get_erasure(uuid, text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.get_erasure(uuid, text, uuid) to authenticated, service_role;


create function public.get_erasure(p_erasure_id uuid, p_scope text, p_user_id uuid default null) returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select private.get_erasure(p_erasure_id, p_scope, p_user_id);
$$;
comment on function public.get_erasure(uuid, text, uuid) is
  'The receipt of an erasure of conversations or of a user (p_scope); the latter for backends that act for nobody. PT404 '
  'erasure_not_found.';
revoke all on function public.get_erasure(uuid, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.get_erasure(uuid, text, uuid) to authenticated, service_role;
