-- Made from supabase/schemas/90_users by "npm run migration": change it there.

set check_function_bodies = off;

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

-- The export of a user: everything that is stored about one, of all kinds, page by page.

create function private.export_user_page(p_cursor jsonb, p_user_id text) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- Each kind is read in the order of an index. The planner, which knows nothing of how much a user has, would fetch all and sort.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
-- A session is three reads by index: planned once, not for each of a thousand sessions.
set plan_cache_mode = force_generic_plan
as $$
declare
  c_lines constant integer := 1000;
  c_bytes constant integer := 1048576;
  c_nil constant uuid := '00000000-0000-0000-0000-000000000000';
  v_user_id text := private.session_acting_user(p_user_id);
  -- Null for text: only sessions and their idempotency keys can belong to it.
  v_owner_id uuid := case
    when v_user_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then v_user_id::uuid
  end;
  -- What is stored while the export runs is not part of it: what it points at may have had its turn.
  v_as_of timestamptz := coalesce((p_cursor ->> 'as_of')::timestamptz, now());
  -- Where the page begins: a kind, the sort key of the last row of it, and the session whose events and counts these are.
  v_kind text := coalesce(p_cursor ->> 'kind', 'videos');
  v_key jsonb := coalesce(p_cursor -> 'key', '{}');
  v_session jsonb := coalesce(p_cursor -> 'session', '{}');
  v_header text;
  v_rows refcursor;
  v_row record;
  v_found integer;
  v_page jsonb;
  v_line text;
  v_lines text[] := '{}';
  v_count integer := 0;
  v_bytes bigint := 0;
  v_counts jsonb := '{
    "videos": 0, "conversations": 0, "tombstones": 0, "messages": 0, "responses": 0, "sessions": 0, "events": 0,
    "event_counts": 0, "documents": 0, "document_failures": 0, "collection_versions": 0, "idempotency_keys": 0
  }';
begin
  if v_owner_id = c_nil then
    perform private.refuse('The owner of a backend''s own documents is nobody, and no user.');
  end if;
  perform private.take_turn(v_user_id);
  if p_cursor ->> 'kind' is null then
    v_header := '{"type": "export", '
      || substr(jsonb_build_object('user_id', v_user_id, 'exported_at', v_as_of, 'version', 1)::text, 2);
  end if;

  while v_kind is not null and v_count < c_lines and v_bytes < c_bytes loop
    -- A module that is not installed has nothing: the next one's first kind comes instead. It is known by a table in private:
    -- one in public may be the host's.
    if v_kind = 'videos' and to_regclass('private.prune_queue') is null then
      v_kind := 'responses';
    end if;
    if v_kind = 'responses' and to_regclass('private.response_conversations') is null then
      v_kind := 'sessions';
    end if;
    if v_kind = 'sessions' and to_regclass('private.event_counts') is null then
      v_kind := 'documents';
    end if;
    if v_kind = 'documents' and to_regclass('private.collection_versions') is null then
      v_kind := 'idempotency_keys';
    end if;
    if v_kind = 'conversations' then
      -- The page is private.export_page's own, which has these limits. What it leaves of them is for the kinds that follow.
      exit when v_count > 0;
      if exists (select from auth.users u where u.id = v_owner_id) then
        v_page := private.export_page(v_key || jsonb_build_object('as_of', v_as_of), v_owner_id);
        v_lines[1] := nullif(v_page ->> 'lines', '');
        v_bytes := octet_length(v_page ->> 'lines');
        v_counts := v_counts || (v_page - '{lines,next}'::text[]);
        v_count := (v_page ->> 'conversations')::integer + (v_page ->> 'tombstones')::integer
          + (v_page ->> 'messages')::integer;
        if v_page -> 'next' <> 'null' then
          v_key := v_page -> 'next';
          exit;
        end if;
      end if;
      v_kind := 'responses';
      v_key := '{}';
      continue;
    end if;

    -- Each in the order of an index, from the key on. As a cursor: how long a line is shows only once it is made, and a
    -- thousand of them may not fit into memory.
    case v_kind
      when 'videos' then
        -- A host adds columns of its own to the table: they stand apart from the line's type.
        open v_rows for
          select jsonb_build_object('video', to_jsonb(v) - 'user_id') as line, jsonb_build_object('id', v.id) as key
          from public.videos v
          where v.user_id = v_owner_id
            and v.id >= coalesce((v_key ->> 'id')::uuid, c_nil)
            and v.id is distinct from (v_key ->> 'id')::uuid
            and v.created_at <= v_as_of
          order by v.id;
      when 'responses' then
        -- One that has been replaced since is another one.
        open v_rows for
          select
            to_jsonb(r) - '{user_id,request_hash,history_hash}'::text[] as line,
            jsonb_build_object('response_id', r.response_id) as key
          from public.conversation_states r
          where r.user_id = v_owner_id
            and r.response_id > coalesce(v_key ->> 'response_id', '')
            and r.updated_at <= v_as_of
          order by r.response_id;
      when 'sessions' then
        -- One at a time: its events follow. from, to and last are what bounds the read of these.
        open v_rows for
          select
            to_jsonb(s) as line,
            jsonb_build_object(
              'start_time', s.start_time, 'id', s.id, 'from', s.created_at, 'to', s.last_event_at, 'last', s.last_sequence
            ) as key
          from public.sessions s
          where s.user_id = v_user_id
            and (s.start_time, s.id) > (
              coalesce((v_session ->> 'start_time')::timestamptz, '-infinity'), coalesce((v_session ->> 'id')::uuid, c_nil)
            )
            and s.created_at <= v_as_of
          order by s.start_time, s.id
          limit 1;
      when 'events' then
        -- Appended while the export runs: after the number that the session's line tells.
        open v_rows for
          select to_jsonb(e) - 'user_id' as line, jsonb_build_object('sequence', e.sequence) as key
          from public.event_logs e
          where e.session_id = (v_session ->> 'id')::uuid
            and e.user_id = v_user_id
            and e.sequence > coalesce((v_key ->> 'sequence')::integer, 0)
            and e.sequence <= (v_session ->> 'last')::integer
            and e.created_at between (v_session ->> 'from')::timestamptz and (v_session ->> 'to')::timestamptz
          order by e.sequence;
      when 'event_counts' then
        -- They stay when old events go, so they are not told by those.
        open v_rows for
          select
            to_jsonb(c) - 'user_id' as line,
            jsonb_build_object('slot', c.slot, 'event_type', c.event_type) as key
          from private.event_counts c
          where c.session_id = (v_session ->> 'id')::uuid
            and c.user_id = v_user_id
            and (c.slot, c.event_type) > (
              coalesce((v_key ->> 'slot')::timestamptz, '-infinity'), coalesce(v_key ->> 'event_type', '')
            )
          order by c.slot, c.event_type;
      when 'documents', 'document_failures' then
        open v_rows for execute format(
          $query$
            select
              -- sort_at is creation_utc, as a time.
              to_jsonb(d) - '{owner_id,id,version,creation_utc,sort_at,data}'::text[] || jsonb_build_object(
                'document', private.to_document(d.id, d.version, d.creation_utc, d.data)
              ) as line,
              jsonb_build_object('collection', d.collection, 'id', d.id) as key
            from public.%I d
            where d.owner_id = $1 and (d.collection, d.id) > ($2, $3)
            order by d.collection, d.id
          $query$,
          v_kind
        )
        using v_owner_id, coalesce(v_key ->> 'collection', ''), coalesce(v_key ->> 'id', '');
      when 'collection_versions' then
        open v_rows for
          select
            to_jsonb(v) - 'owner_id' as line,
            jsonb_build_object('collection', v.collection) as key
          from private.collection_versions v
          where v.owner_id = v_owner_id and v.collection > coalesce(v_key ->> 'collection', '')
          order by v.collection;
      when 'idempotency_keys' then
        open v_rows for
          select
            -- What a request has made is there itself.
            to_jsonb(k) - '{user_id,request_hash,result}'::text[] as line,
            jsonb_build_object('scope', k.scope, 'key', k.key) as key
          from private.idempotency_keys k
          where k.user_id = v_user_id
            and (k.scope, k.key) > (coalesce(v_key ->> 'scope', ''), coalesce(v_key ->> 'key', ''))
            and k.created_at <= v_as_of
          order by k.scope, k.key;
      else
        perform private.refuse('p_cursor is not one of this export.');
    end case;

    v_found := 0;
    while v_count < c_lines and v_bytes < c_bytes loop
      fetch v_rows into v_row;
      exit when not found;
      -- A line is of the type that its kind is the plural of, and says so first.
      v_line := format('{"type": "%s", ', left(v_kind, -1)) || substr(v_row.line::text, 2);
      v_found := v_found + 1;
      v_count := v_count + 1;
      v_lines[v_count] := v_line;
      v_bytes := v_bytes + octet_length(v_line);
      v_key := v_row.key;
    end loop;
    close v_rows;
    v_counts := jsonb_set(v_counts, array[v_kind], to_jsonb((v_counts ->> v_kind)::integer + v_found));

    -- Full, and maybe not at the end of its kind: the next page looks. A session is always followed by its events.
    exit when (v_count >= c_lines or v_bytes >= c_bytes) and v_kind <> 'sessions';
    if v_kind = 'sessions' and v_found > 0 then
      v_session := v_key;
    end if;
    v_kind := case v_kind
      when 'videos' then 'conversations'
      when 'responses' then 'sessions'
      when 'sessions' then case when v_found > 0 then 'events' else 'documents' end
      when 'events' then 'event_counts'
      when 'event_counts' then 'sessions'
      when 'documents' then 'document_failures'
      when 'document_failures' then 'collection_versions'
      when 'collection_versions' then 'idempotency_keys'
    end;
    v_key := '{}';
  end loop;

  -- The lines are one string: nobody on the way has to parse them, and no number in them loses a digit.
  return v_counts || jsonb_build_object(
    'lines', concat_ws(E'\n', v_header, nullif(array_to_string(v_lines, E'\n'), '')),
    'next', case
      when v_kind is not null
        then jsonb_build_object('as_of', v_as_of, 'kind', v_kind, 'key', v_key, 'session', v_session)
    end
  );
end;
$$;
comment on routine private.export_user_page is 'See public.export_user_page.';


create function public.export_user_page(p_cursor jsonb default '{}', p_user_id text default null) returns jsonb
language sql
stable
set search_path = ''
return private.export_user_page(p_cursor, p_user_id);
comment on routine public.export_user_page is
  'A page of everything that is stored about a user, as lines of NDJSON in one string: {lines, next} and how many there are '
  'of each kind. First a line of type export; then videos, conversations with their messages as public.export_page has them, '
  'responses, sessions each with its events and their counts, documents, failed documents, versions of collections, '
  'idempotency keys. A page is at most 1,000 of them, and ends with the line that fills 1 MiB. next is the p_cursor of the '
  'page after it, null at the end. A backend names the user, who may be any text that sessions.user_id may be, and need not '
  'be known. Raises PT400 user_id_required.';
revoke all on routine private.export_user_page, public.export_user_page from public, anon, authenticated, service_role;
grant execute on routine private.export_user_page, public.export_user_page to authenticated, service_role;

-- What a user may do in a day, and has done.

create function private.get_quotas(p_user_id text) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id constant text := private.session_acting_user(p_user_id);
  v_used constant bigint[] := private.used_on(v_user_id, (now() at time zone 'UTC')::date);
begin
  return jsonb_build_object(
    'data', coalesce(
      (
        select jsonb_agg(
          jsonb_build_object(
            'metric', q.metric, 'limit', q.quota, 'used', q.used,
            'resets_at', (date_trunc('day', now() at time zone 'UTC') + interval '1 day') at time zone 'UTC'
          )
          order by q.n
        )
        from unnest('{requests,writes,bytes}'::text[], private.quotas_of(v_user_id), v_used)
          with ordinality as q (metric, quota, used, n)
        where q.quota is not null
      ),
      '[]'
    ),
    'has_more', false
  );
end;
$$;
comment on routine private.get_quotas is 'See public.get_quotas.';


create function public.get_quotas(p_user_id text default null) returns jsonb
language sql
stable
set search_path = ''
return private.get_quotas(p_user_id);
comment on routine public.get_quotas is
  'The caller''s quotas: {data: [{metric, limit, used, resets_at}], has_more}. used is since the day began, UTC, or since there '
  'has been a quota. Empty where there are none.';
revoke all on routine private.get_quotas, public.get_quotas from public, anon, authenticated, service_role;
grant execute on routine private.get_quotas, public.get_quotas to authenticated, service_role;

reset check_function_bodies;
