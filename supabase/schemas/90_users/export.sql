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
