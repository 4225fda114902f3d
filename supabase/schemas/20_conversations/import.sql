-- Import: what an export has, one conversation at a time.

create table private.imports (
  user_id uuid not null,
  conversation_id uuid not null,
  incomplete boolean not null,
  tombstone boolean not null,
  -- When the newest part came.
  created_at timestamptz not null default now(),
  constraint imports_pkey primary key (user_id, conversation_id),
  constraint imports_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade
);

create index idx_imports_created_at on private.imports (created_at);

comment on table private.imports is
  'Imported conversations that nobody may see yet: parts are missing, or it is a tombstone whose forks are still to come. '
  'public.finish_import clears it.';
comment on column private.imports.incomplete is 'More messages follow. Until then the conversation is hidden as if deleted.';
comment on column private.imports.tombstone is 'It stays hidden: it is there for its forks, and goes if none comes.';

select private.close_table('private.imports', '{incomplete, tombstone, created_at}');


create function private.check_import(p_conversation jsonb, p_messages jsonb) returns void
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- What an import cannot say of a conversation: it has a new id here, its user is the caller, and deleted says so itself.
  c_fields constant text[] := private.columns_of('public.conversations', '{id,user_id,deleted_at}');
  v_detail text;
begin
  if jsonb_typeof(p_conversation) is distinct from 'object'
    or p_conversation - c_fields - '{deleted,more,continues,source}'::text[] <> '{}'
    -- Nothing is turned into text.
    or exists (
      select
      from jsonb_each(p_conversation) given
      join jsonb_each(to_jsonb(jsonb_populate_record(null::public.conversations, p_conversation))) stored using (key)
      where jsonb_typeof(stored.value) = 'string' and jsonb_typeof(given.value) <> 'string'
    )
  then
    v_detail := 'A field of the conversation is unknown, or of the wrong type.';
  elsif p_conversation ? 'continues' and p_conversation - '{continues,more,source}'::text[] <> '{}' then
    v_detail := 'A continuation has no fields of its own.';
  elsif p_conversation ? 'source' and not coalesce(
    jsonb_typeof(p_conversation -> 'source') = 'object'
    and (p_conversation -> 'source') - '{name,id,after}'::text[] = '{}'
    and jsonb_typeof(p_conversation -> 'source' -> 'name') = 'string'
    and char_length(p_conversation -> 'source' ->> 'name') between 1 and 64
    and jsonb_typeof(p_conversation -> 'source' -> 'id') = 'string'
    and char_length(p_conversation -> 'source' ->> 'id') between 1 and 256
    and coalesce(jsonb_typeof(p_conversation -> 'source' -> 'after'), 'null') in ('string', 'null')
    and coalesce(p_conversation -> 'deleted', 'null') in ('false', 'null')
    and not jsonb_path_exists(p_messages, '$[*] ? (!(exists (@.item_id)) || @.item_id.type() != "string")'),
    false
  ) then
    v_detail := 'source is not {name, id, after?}, or a message of it has no item_id, or it is deleted.';
  else
    -- A message has a new id too, and is in the conversation that is imported.
    perform private.require_messages(
      p_messages, private.columns_of('public.conversation_messages', '{id,conversation_id,user_id}'), 5000
    );
    select format('messages[%s] has no sequence_order, or an author who is neither user nor service.', m.n - 1)
    into v_detail
    from jsonb_array_elements(p_messages) with ordinality as m (value, n)
    where jsonb_typeof(m.value -> 'sequence_order') is distinct from 'number'
      or m.value ->> 'author' not in ('user', 'service')
    limit 1;
  end if;

  perform
    jsonb_populate_record(null::public.conversations, p_conversation),
    (p_conversation ->> 'more')::boolean, (p_conversation ->> 'deleted')::boolean, (p_conversation ->> 'continues')::uuid;
  -- A conversation of the future would head the list for ever. Some minutes are another machine's clock.
  if v_detail is null and exists (
    select
    from (
      select p_conversation ->> 'created_at'
      union all
      select p_conversation ->> 'updated_at'
      union all
      select m.value ->> 'created_at' from jsonb_array_elements(p_messages) m (value)
    ) t (value)
    where t.value::timestamptz not between '0001-01-01 00:00:00+00' and now() + interval '5 minutes'
  ) then
    v_detail := 'A timestamp lies in the future, or before the year 1.';
  end if;
  if jsonb_typeof(p_conversation -> 'metadata') <> 'null' then
    perform private.require_metadata(p_conversation -> 'metadata');
  end if;

  if v_detail is not null then
    perform private.refuse(v_detail);
  end if;
exception
  -- See private.to_time.
  when data_exception then
    perform private.refuse('A field has a value that is none of its type.');
end;
$$;
comment on routine private.check_import is
  'Raises PT400 invalid_request for what public.import_conversation does not know: nothing is dropped silently.';
revoke all on routine private.check_import from public, anon, authenticated, service_role;


create function private.import_parent(p_conversation jsonb, p_user_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_at integer := (p_conversation ->> 'fork_sequence')::integer;
  v_parent public.conversations;
begin
  if p_conversation ->> 'parent_id' is null then
    return;
  end if;
  -- Key share, as for any fork: a deletion of what it will share waits. The parent may be a tombstone.
  select * into v_parent
  from public.conversations c
  where c.id = (p_conversation ->> 'parent_id')::uuid and c.user_id = p_user_id
  for key share;
  if not found or exists (
    select from private.imports i where i.user_id = p_user_id and i.conversation_id = v_parent.id and i.incomplete
  ) then
    raise sqlstate 'PT404' using
      message = 'conversation_not_found',
      detail = 'The conversation that it forks is not there.';
  end if;
  perform private.require_depth(v_parent.id);
  -- private.prune_lineage relies on it: a fork lies above its parent's own fork.
  if v_at is null or v_at <= coalesce(v_parent.fork_sequence, 0) or v_at > v_parent.last_sequence_order then
    perform private.refuse(format(
      'fork_sequence is %s, the parent''s own messages go from %s to %s.',
      coalesce(v_at::text, 'missing'), coalesce(v_parent.fork_sequence, 0) + 1, v_parent.last_sequence_order
    ));
  end if;
end;
$$;
comment on routine private.import_parent is
  'Checks and locks the parent of an imported fork: the user''s own, or PT404 conversation_not_found.';
revoke all on routine private.import_parent from public, anon, authenticated, service_role;


create function private.note_author(p_metadata jsonb, p_original text, p_author text) returns jsonb
language sql
immutable
set search_path = ''
as $$
  select case
    -- The first import's note stands: the author of a copy is whoever copied it.
    when p_original is null or p_original = p_author or p_metadata ? 'imported_author' then p_metadata
    -- Metadata is full: the application's own goes first.
    when octet_length(p_metadata::text) > 65536 - 32 then p_metadata
    else p_metadata || jsonb_build_object('imported_author', p_original)
  end;
$$;
comment on routine private.note_author is
  'Adds imported_author to a message''s metadata where the import stamps another author than the file says.';
revoke all on routine private.note_author from public, anon, authenticated, service_role;


create function private.import_conversation(p_conversation jsonb, p_messages jsonb, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_author text := case when private.caller_role() = 'authenticated' then 'user' else 'service' end;
  v_more boolean;
  v_deleted boolean;
  v_id uuid;
  v_video_id uuid;
  v_video_dropped boolean := false;
  v_lower integer;
  v_last integer;
  v_upper integer;
  v_misplaced bigint;
  v_row jsonb;
  v_source jsonb := p_conversation -> 'source';
  v_place record;
  v_incomplete boolean;
  v_status text := 'imported';
begin
  perform private.check_import(p_conversation, p_messages);
  v_more := coalesce((p_conversation ->> 'more')::boolean, false);

  if v_source is not null then
    -- One import of a chat after the other: the second finds what the first has brought.
    perform pg_advisory_xact_lock(hashtextextended(
      format('import of %s by %s: %s', v_source ->> 'name', v_user_id, v_source ->> 'id'), 0
    ));
    select * into v_place from private.imported_place(v_user_id, v_source, p_messages);
    if v_place.conversation_id is not null then
      -- Whoever writes to it waits, and what they have written is seen.
      select c.last_sequence_order, exists (
        select from private.imports i where i.user_id = v_user_id and i.conversation_id = c.id and i.incomplete
      ) into v_last, v_incomplete
      from public.conversations c
      where c.id = v_place.conversation_id
      for no key update;
      -- What is new follows what is there, whatever numbers it had.
      select coalesce(jsonb_agg(
        m.value || jsonb_build_object('sequence_order', v_place.sequence_order + m.n - v_place.messages) order by m.n
      ), '[]') into p_messages
      from jsonb_array_elements(p_messages) with ordinality as m (value, n)
      where m.n > v_place.messages;
      p_conversation := p_conversation - '{last_sequence_order,continues}'::text[];
      if p_messages = '[]' and (v_more or not v_incomplete) then
        return jsonb_build_object(
          'id', v_place.conversation_id, 'messages', 0, 'video_dropped', false, 'status', 'unchanged'
        );
      elsif v_incomplete and (p_messages = '[]' or v_last = v_place.sequence_order) then
        p_conversation := jsonb_build_object('continues', v_place.conversation_id, 'more', v_more);
      elsif v_last = v_place.sequence_order then
        v_id := v_place.conversation_id;
        v_status := 'grown';
      else
        -- It goes on otherwise: by a branch, or by what was written since.
        p_conversation := p_conversation || jsonb_build_object(
          'parent_id', v_place.conversation_id, 'fork_sequence', v_place.sequence_order
        );
      end if;
    end if;
    p_conversation := p_conversation - 'source';
  end if;
  v_deleted := coalesce((p_conversation ->> 'deleted')::boolean, false);
  v_video_id := (p_conversation ->> 'video_id')::uuid;
  v_lower := coalesce((p_conversation ->> 'fork_sequence')::integer, 0);
  v_upper := (p_conversation ->> 'last_sequence_order')::integer;

  if v_status = 'grown' then
    v_lower := v_last;
  elsif p_conversation ->> 'continues' is not null then
    v_id := (p_conversation ->> 'continues')::uuid;
    -- Only what an import has begun and not finished: nobody inserts into a history that is somebody's already.
    select c.last_sequence_order, i.tombstone into v_last, v_deleted
    from private.imports i
    join public.conversations c on c.id = i.conversation_id
    where i.user_id = v_user_id and i.conversation_id = v_id and i.incomplete
    for update of i;
    if not found then
      raise sqlstate 'PT404' using
        message = 'conversation_not_found',
        detail = 'No unfinished import has the id that is continued.';
    end if;
    select coalesce(max(m.sequence_order), c.fork_sequence, 0) into v_lower
    from public.conversations c
    left join public.conversation_messages m on m.conversation_id = c.id
    where c.id = v_id
    group by c.fork_sequence;
  end if;

  -- Numbers are kept, gaps of deleted messages included; they rise, and stay within what the conversation says.
  select m.n - 1 into v_misplaced
  from (
    select
      (m.value ->> 'sequence_order')::integer as sequence_order,
      lag((m.value ->> 'sequence_order')::integer, 1, v_lower) over (order by m.n) as previous,
      m.n
    from jsonb_array_elements(p_messages) with ordinality as m (value, n)
  ) m
  where m.sequence_order <= m.previous or m.sequence_order > v_upper
  order by m.n
  limit 1;
  if found then
    perform private.refuse(format(
      'messages[%s]: sequence_order does not rise, or is not between %s and last_sequence_order.',
      v_misplaced, v_lower + 1
    ));
  end if;
  v_last := greatest(v_last, v_upper, v_lower, (p_messages -> -1 ->> 'sequence_order')::integer);
  if v_last > 2000000000 then
    perform private.refuse('A sequence number is above 2,000,000,000: there has to be room to append.');
  end if;
  if v_upper < v_last then
    perform private.refuse(format('last_sequence_order is %s, the conversation shows %s messages.', v_upper, v_last));
  end if;

  if v_status = 'grown' then
    update public.conversations c set
      last_sequence_order = v_last,
      updated_at = greatest(c.updated_at, least((p_conversation ->> 'updated_at')::timestamptz, now()))
    where c.id = v_id;
  elsif v_id is null then
    perform private.expire_imports(v_user_id);
    perform private.import_parent(p_conversation, v_user_id);
    -- Videos belong to an account. One that is not here is left out, and the answer says so.
    if v_video_id is not null
      and not exists (select from public.videos v where v.id = v_video_id and v.user_id = v_user_id)
    then
      v_video_dropped := true;
    end if;
    v_id := gen_random_uuid();
    select
      case when not v_deleted then p_conversation else (
        select coalesce(jsonb_object_agg(f.key, f.value), '{}')
        from jsonb_each(p_conversation) f
        where f.key = any (private.tombstone_columns())
      ) end
      || jsonb_build_object(
        'id', v_id,
        'user_id', v_user_id,
        'last_sequence_order', v_last,
        'deleted_at', case when v_deleted or v_more then now() end,
        'created_at', least(coalesce((p_conversation ->> 'created_at')::timestamptz, t.first, now()), now()),
        'updated_at', least(coalesce((p_conversation ->> 'updated_at')::timestamptz, t.last, now()), now())
      )
      || case when v_video_dropped then '{"video_id": null}' else '{}'::jsonb end
    into v_row
    from (
      select min((m.value ->> 'created_at')::timestamptz), max((m.value ->> 'created_at')::timestamptz)
      from jsonb_array_elements(p_messages) m (value)
    ) t (first, last);
    perform private.insert_rows('public.conversations', jsonb_build_array(v_row));
    if v_deleted or v_more then
      insert into private.imports (user_id, conversation_id, incomplete, tombstone)
      values (v_user_id, v_id, v_more, v_deleted);
    end if;
  elsif not v_more then
    update public.conversations c set
      deleted_at = case when v_deleted then c.deleted_at end,
      last_sequence_order = v_last
    where c.id = v_id;
    if v_deleted then
      update private.imports i set incomplete = false where i.user_id = v_user_id and i.conversation_id = v_id;
    else
      delete from private.imports i where i.user_id = v_user_id and i.conversation_id = v_id;
    end if;
  else
    update public.conversations c set last_sequence_order = v_last where c.id = v_id;
    update private.imports i set created_at = now() where i.user_id = v_user_id and i.conversation_id = v_id;
  end if;

  if jsonb_path_exists(p_messages, '$[*].item_id ? (@ != null)') and private.known_items(v_id, p_messages) <> '{}' then
    raise sqlstate 'PT409' using
      message = 'item_conflict',
      detail = 'An item_id stands for an earlier message of the same conversation.';
  end if;

  perform private.insert_rows('public.conversation_messages', to_jsonb(array_agg(
    m.value || jsonb_build_object(
      'conversation_id', v_id,
      'user_id', v_user_id,
      'author', v_author,
      'metadata', private.note_author(coalesce(nullif(m.value -> 'metadata', 'null'), '{}'), m.value ->> 'author', v_author)
    )
    order by m.n
  )))
  from jsonb_array_elements(p_messages) with ordinality as m (value, n);

  if v_source is not null then
    insert into private.import_sources as s (user_id, source, source_id, conversation_id, last_item, last_sequence)
    values (v_user_id, v_source ->> 'name', v_source ->> 'id', v_id, p_messages -> -1 ->> 'item_id', v_last)
    on conflict on constraint import_sources_pkey do update
      set last_item = coalesce(excluded.last_item, s.last_item), last_sequence = excluded.last_sequence;
  end if;
  return jsonb_build_object(
    'id', v_id, 'messages', jsonb_array_length(p_messages), 'video_dropped', v_video_dropped and not v_deleted,
    'status', v_status
  );
end;
$$;
comment on routine private.import_conversation is 'See public.import_conversation.';


create function public.import_conversation(p_conversation jsonb, p_messages jsonb default '[]', p_user_id uuid default null)
returns jsonb
language sql
set search_path = ''
return private.import_conversation(p_conversation, p_messages, p_user_id);
comment on routine public.import_conversation is
  'Imports a conversation {title?, summary?, video_id?, metadata?, pinned?, expires_at?, parent_id?, fork_sequence?, '
  'last_sequence_order?, created_at?, updated_at?} and its own messages, each with its sequence_order and where known '
  'item, author and created_at: all of it or nothing. Ids are new; numbers and timestamps stay; author is the caller''s '
  'role, and where that differs the metadata keeps the original as imported_author. parent_id is one''s own conversation. '
  'deleted: true imports a tombstone, hidden and gone with public.finish_import unless a fork shares it. more: true hides '
  'the conversation until {continues: id} brings the rest. source {name, id, after?} says which chat of another system it is, '
  'and after which item_id of that chat a fork begins: what an earlier import of it has brought is not brought again. Answers '
  '{id, messages, video_dropped, status}; status is imported, grown (messages were added to a conversation that was there) or '
  'unchanged.';
revoke all on routine private.import_conversation, public.import_conversation
  from public, anon, authenticated, service_role;
grant execute on routine private.import_conversation, public.import_conversation to authenticated, service_role;


create function private.expire_imports(p_user_id uuid, p_ids uuid[] default '{}') returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  for v_id in
    delete from private.imports i
    where i.user_id = p_user_id
      and (i.conversation_id = any (p_ids) or i.created_at < now() - interval '1 day')
    returning i.conversation_id
  loop
    perform private.prune_lineage(v_id);
  end loop;
end;
$$;
comment on routine private.expire_imports is
  'Ends the given imports of a user, and those that broke off more than a day ago: what nothing shows goes.';
revoke all on routine private.expire_imports from public, anon, authenticated, service_role;


create function private.finish_import(p_ids jsonb, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_removed jsonb;
begin
  if jsonb_typeof(p_ids) is distinct from 'array'
    -- As many as the lines of an import request may tell.
    or jsonb_array_length(p_ids) > 100000
    or jsonb_path_exists(p_ids, 'strict $[*] ? (@.type() != "string"
      || !(@ like_regex "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$" flag "i"))')
  then
    perform private.refuse('p_ids is not an array of at most 100,000 ids.');
  end if;
  perform private.expire_imports(v_user_id, array(select x::uuid from jsonb_array_elements_text(p_ids) x));
  -- Somebody else's id is as unknown as one that does not exist.
  select coalesce(jsonb_agg(x), '[]') into v_removed
  from jsonb_array_elements_text(p_ids) x
  where not exists (select from public.conversations c where c.id = x::uuid and c.user_id = v_user_id);
  return v_removed;
end;
$$;
comment on routine private.finish_import is 'See public.finish_import.';


create function public.finish_import(p_ids jsonb, p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.finish_import(p_ids, p_user_id);
comment on routine public.finish_import is
  'Ends an import: of the given conversations (a JSON array of ids) those go that nothing shows, tombstones without forks '
  'and conversations that were never completed, and with them what such an import left more than a day ago. Answers '
  'which of the ids are not there.';
revoke all on routine private.finish_import, public.finish_import from public, anon, authenticated, service_role;
grant execute on routine private.finish_import, public.finish_import to authenticated, service_role;

insert into private.repeatable_calls (name, keeps) values (
  -- conversation_id is where an erasure looks.
  'import_conversation', '{"id": "{id}", "conversation_id": "{id}", "messages": "{messages}", "video_dropped": "{video_dropped}", '
    '"status": "{status}"}'
);
