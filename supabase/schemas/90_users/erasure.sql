-- Erasure: everything of a user's, or all their conversations, in steps that hurt nobody. A receipt says how far it is. A piece
-- removes a bounded number of rows and answers how many of which table, or null when there is nothing left.

create function private.erase_rows_piece(p_user_id text) returns jsonb
language plpgsql
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
      -- Those whose module is installed, which is known by a table in private: one in public may be the host's.
      values
        ('public.documents', 'owner_id', 'private.collection_versions'),
        ('public.document_failures', 'owner_id', 'private.collection_versions'),
        ('private.collection_versions', 'owner_id', 'private.collection_versions'),
        ('private.idempotency_keys', 'user_id', 'private.idempotency_keys'),
        ('private.quotas', 'user_id', 'private.quotas'),
        ('private.quota_use', 'user_id', 'private.quotas'),
        -- Last: a table of the host's may hold one fast.
        ('public.videos', 'user_id', 'private.prune_queue')
    ) as t (id, name, module)
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(t.id) and a.attname = t.name
    where to_regclass(t.module) is not null and (a.atttypid = 'text'::regtype or v_is_uuid)
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
comment on routine private.erase_rows_piece is
  'Removes 50 rows of a user''s from a table that nothing else depends on. Answers {table: rows}, null when there are none left.';
revoke all on routine private.erase_rows_piece from public, anon, authenticated, service_role;


create function private.erase_piece(p_erasure_id uuid, p_scope text, p_user_id text) returns jsonb
language plpgsql
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
  foreach v_kind in array array_remove(array[
    case when to_regclass('private.prune_queue') is not null then 'conversations' end,
    case when to_regclass('private.event_counts') is not null then 'sessions' end,
    'rows'
  ], null) loop
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
comment on routine private.erase_piece is
  'The next piece of an erasure: {table: rows}, null when there is nothing left.';
revoke all on routine private.erase_piece from public, anon, authenticated, service_role;


create function private.advance_erasure(p_erasure_id uuid, p_for interval) returns void
language plpgsql
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
      if v_piece is null and v_erasure.removed ? 'documents' then
        perform private.sample_documents();
      end if;
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
comment on routine private.advance_erasure is
  'Removes pieces of an erasure until it is finished, fails, or the time is up. Does nothing where somebody else is at it.';
revoke all on routine private.advance_erasure from public, anon, authenticated, service_role;


create function private.erasure_step() returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if not private.begin_step('private.erasure_step') then
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
comment on routine private.erasure_step is
  'Goes on with one erasure for about 200 ms; when there is none, removes receipts that are 30 days old. True while there may be '
  'more to do.';
revoke all on routine private.erasure_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-erasures', '* * * * *', 'private.erasure_step()');


create function private.request_erasure(p_scope text, p_user_id text) returns jsonb
language plpgsql
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
comment on routine private.request_erasure is
  'Takes an erasure on, or finds the one that is going on, and does what can be done at once: most users have no more. Answers '
  'the receipt. Checks nobody''s rights.';
revoke all on routine private.request_erasure from public, anon, authenticated, service_role;


create function private.erase_conversations(p_user_id uuid) returns jsonb
language sql
security definer
set search_path = ''
as $$
  select private.request_erasure('conversations', private.acting_user(p_user_id)::text);
$$;
comment on routine private.erase_conversations is 'See public.erase_conversations.';


create function public.erase_conversations(p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.erase_conversations(p_user_id);
comment on routine public.erase_conversations is
  'Erases all conversations that the user has at this moment, pinned ones too, and all responses: nothing of them is left. What '
  'does not go at once goes in steps. Answers the receipt {id, scope, removed, error, created_at, finished_at}; finished_at is '
  'null until it is done. Repeated meanwhile, it answers the same receipt and takes on what is new.';
revoke all on routine private.erase_conversations, public.erase_conversations
  from public, anon, authenticated, service_role;
grant execute on routine private.erase_conversations, public.erase_conversations to authenticated, service_role;


create function private.erase_user(p_user_id text) returns jsonb
language plpgsql
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
    perform private.refuse('It is no user: it owns the documents of the backend itself.');
  end if;
  return private.request_erasure('user', v_user_id);
end;
$$;
comment on routine private.erase_user is 'See public.erase_user.';


create function public.erase_user(p_user_id text default null) returns jsonb
language sql
set search_path = ''
return private.erase_user(p_user_id);
comment on routine public.erase_user is
  'Erases everything that is stored of a user, of Auth or of a backend''s own naming, in every table; the user of Auth stays. '
  'Answers the receipt {id, scope, removed, error, created_at, finished_at}, which does not say who it was. For backends.';
revoke all on routine private.erase_user, public.erase_user from public, anon, authenticated, service_role;
grant execute on routine private.erase_user, public.erase_user to service_role;


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
comment on routine private.get_erasure is 'See public.get_erasure.';


create function public.get_erasure(p_erasure_id uuid, p_scope text, p_user_id uuid default null) returns jsonb
language sql
stable
set search_path = ''
return private.get_erasure(p_erasure_id, p_scope, p_user_id);
comment on routine public.get_erasure is
  'The receipt of an erasure of conversations or of a user (p_scope); the latter for backends that act for nobody. PT404 '
  'erasure_not_found.';
revoke all on routine private.get_erasure, public.get_erasure from public, anon, authenticated, service_role;
grant execute on routine private.get_erasure, public.get_erasure to authenticated, service_role;


create function private.erase_deleted_user() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_had_documents boolean := false;
begin
  -- See private.hold_owner.
  perform pg_advisory_xact_lock(hashtextextended('session owner ' || old.id, 0));
  -- In the order in which an append locks them.
  if to_regclass('private.event_counts') is not null then
    delete from public.sessions s where s.user_id = old.id::text;
  end if;
  delete from private.idempotency_keys k where k.user_id = old.id::text;
  delete from private.quotas q where q.user_id = old.id::text;
  delete from private.quota_use u where u.user_id = old.id::text;
  if to_regclass('private.collection_versions') is not null then
    delete from public.documents d where d.owner_id = old.id;
    v_had_documents := found;
    delete from public.document_failures f where f.owner_id = old.id;
    delete from private.collection_versions v where v.owner_id = old.id;
  end if;
  delete from private.erasures e where e.user_id = old.id::text and (e.scope = 'conversations' or e.finished_at is not null);
  if to_regclass('private.erasure_conversations') is not null then
    delete from private.erasure_conversations l using private.erasures e where e.id = l.erasure_id and e.user_id = old.id::text;
  end if;
  -- What this erasure was to do is done, and whoever asked for it wants to hear that.
  update private.erasures e set user_id = null, error = null, updated_at = clock_timestamp(), finished_at = clock_timestamp()
  where e.user_id = old.id::text;
  -- Last: until the end of the transaction nobody else can.
  if v_had_documents then
    perform private.sample_documents();
  end if;
  return null;
end;
$$;
comment on routine private.erase_deleted_user is
  'Deletes the rows of a deleted user that no foreign key ties to auth.users.';
revoke all on routine private.erase_deleted_user from public, anon, authenticated, service_role;

create trigger erase_deleted_user after delete on auth.users
  for each row execute function private.erase_deleted_user();

-- The receipt of the first time, whatever is new since: erasing that is another request.
insert into private.repeatable_calls (name, keeps) values (
  'erase_conversations',
  '{"id": "{id}", "scope": "{scope}", "removed": "{removed}", "error": "{error}", "created_at": "{created_at}", "finished_at": "{finished_at}"}'
);
