-- Creating, reading, listing and changing conversations.

create function private.require_conversation(p_conversation_id uuid, p_user_id uuid) returns void
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  if not exists (
    select from public.conversations c
    where c.id = p_conversation_id and c.user_id = coalesce(p_user_id, c.user_id) and c.deleted_at is null
  ) then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
end;
$$;
comment on routine private.require_conversation is
  'Raises PT404 conversation_not_found unless the conversation is there and the user''s. p_user_id as private.caller_id '
  'answers it.';
revoke all on routine private.require_conversation from public, anon, authenticated, service_role;


create function private.require_video(p_video_id uuid, p_user_id uuid) returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_video_id is not null
    and not exists (select from public.videos v where v.id = p_video_id and v.user_id = p_user_id)
  then
    raise sqlstate 'PT404' using message = 'video_not_found';
  end if;
end;
$$;
comment on routine private.require_video is
  'The rule of conversations_video_id_fkey as an error with a name: PT404 video_not_found unless the video is the user''s.';
revoke all on routine private.require_video from public, anon, authenticated, service_role;
grant execute on routine private.require_video to authenticated, service_role;


create function private.create_conversation(
  p_conversation jsonb, p_messages jsonb, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_video_id uuid := private.to_uuid('video_id', p_conversation ->> 'video_id');
  v_result jsonb;
  v_id uuid;
begin
  if jsonb_typeof(p_conversation) is distinct from 'object'
    or p_conversation - '{title,video_id,metadata,expires_at}'::text[] <> '{}'
    or jsonb_typeof(p_conversation -> 'title') not in ('string', 'null')
  then
    perform private.refuse('A field of the conversation is unknown, or of the wrong type.');
  end if;

  v_result := private.claim_idempotency_key(
    v_user_id::text, 'POST /conversations', p_idempotency_key, jsonb_build_array(p_conversation, p_messages)
  );
  if v_result is not null then
    return public.get_conversation((v_result ->> 'conversation_id')::uuid, v_user_id) || '{"replayed": true}';
  end if;

  perform private.require_video(v_video_id, v_user_id);
  perform private.require_metadata(p_conversation -> 'metadata');
  insert into public.conversations (user_id, video_id, title, metadata, expires_at)
  values (
    v_user_id,
    v_video_id,
    p_conversation ->> 'title',
    coalesce(p_conversation -> 'metadata', '{}'),
    private.to_time('expires_at', p_conversation ->> 'expires_at')
  )
  returning id into v_id;

  if p_messages <> '[]' then
    perform private.append_messages(v_id, p_messages, null, null, v_user_id);
  end if;
  perform private.keep_idempotent_result(
    v_user_id::text, 'POST /conversations', p_idempotency_key, jsonb_build_object('conversation_id', v_id)
  );
  return public.get_conversation(v_id, v_user_id);
end;
$$;
comment on routine private.create_conversation is 'See public.create_conversation.';


create function public.create_conversation(
  p_conversation jsonb default '{}',
  p_messages jsonb default '[]',
  p_idempotency_key text default null,
  p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.create_conversation(p_conversation, p_messages, p_idempotency_key, p_user_id);
comment on routine public.create_conversation is
  'Creates a conversation ({title?, video_id?, metadata?, expires_at?}) with its first messages: both or neither. A '
  'repeated p_idempotency_key answers the one created the first time, with replayed: true.';
revoke all on routine private.create_conversation, public.create_conversation
  from public, anon, authenticated, service_role;
grant execute on routine private.create_conversation, public.create_conversation to authenticated, service_role;


create function public.get_conversation(p_conversation_id uuid, p_user_id uuid default null) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
  v_conversation jsonb;
begin
  select to_jsonb(c) - 'deleted_at' into v_conversation
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  return v_conversation;
end;
$$;
comment on routine public.get_conversation is 'One conversation, without its messages.';
revoke all on routine public.get_conversation from public, anon, authenticated, service_role;
grant execute on routine public.get_conversation to authenticated, service_role;


create function public.list_conversations(
  p_limit integer default 50,
  p_before_updated_at timestamptz default null,
  p_before_id uuid default null,
  p_video_id uuid default null,
  p_metadata jsonb default null,
  p_archived text default 'false',
  p_user_id uuid default null
) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_rows refcursor;
begin
  perform private.require_limit(p_limit);
  perform private.require_contained(p_metadata, 'metadata');
  if p_archived is null or p_archived not in ('true', 'false', 'any') then
    perform private.refuse('archived is not true, false or any.');
  end if;
  -- Sorted after the owner's rows are found: an index on updated_at would make every append rewrite it. Made JSON after that.
  open v_rows for
    select to_jsonb(c) - 'deleted_at'
    from (
      select *
      from public.conversations c
      where c.user_id = v_user_id
        and c.deleted_at is null
        and (p_before_updated_at is null or (c.updated_at, c.id) < (p_before_updated_at, p_before_id))
        and (p_video_id is null or c.video_id = p_video_id)
        and (p_metadata is null or c.metadata @> p_metadata)
        and (p_archived = 'any' or (c.archived_at is not null) = p_archived::boolean)
      order by c.updated_at desc, c.id desc
      limit p_limit + 1
    ) c
    order by c.updated_at desc, c.id desc;
  return private.read_page(v_rows, p_limit);
end;
$$;
comment on routine public.list_conversations is
  'A page of the user''s conversations, newest activity first, below (p_before_updated_at, p_before_id). Answers {data, '
  'has_more}. p_metadata: only conversations whose metadata contains it. p_archived: true, false or any.';
revoke all on routine public.list_conversations from public, anon, authenticated, service_role;
grant execute on routine public.list_conversations to authenticated, service_role;


create function public.update_conversation(p_conversation_id uuid, p_changes jsonb, p_user_id uuid default null)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_video_id uuid := private.to_uuid('video_id', p_changes ->> 'video_id');
  v_metadata jsonb;
begin
  if jsonb_typeof(p_changes) is distinct from 'object'
    or p_changes - '{title,summary,video_id,pinned,archived,expires_at,metadata}'::text[] <> '{}'
    or jsonb_typeof(p_changes -> 'title') not in ('string', 'null')
    or jsonb_typeof(p_changes -> 'summary') not in ('string', 'null')
    or jsonb_typeof(p_changes -> 'metadata') <> 'object'
  then
    perform private.refuse('A changed field is unknown, or of the wrong type.');
  end if;
  perform private.require_video(v_video_id, v_user_id);
  -- Locked before the merge, so that two changes of metadata cannot lose one another.
  perform private.lock_conversation(p_conversation_id, v_user_id);
  select (c.metadata || coalesce(p_changes -> 'metadata', '{}')) - array(
    select m.key from jsonb_each(p_changes -> 'metadata') m where m.value = 'null'
  ) into v_metadata
  from public.conversations c
  where c.id = p_conversation_id;
  perform private.require_metadata(v_metadata);

  update public.conversations c set
    title = case when p_changes ? 'title' then p_changes ->> 'title' else c.title end,
    summary = case when p_changes ? 'summary' then p_changes ->> 'summary' else c.summary end,
    video_id = case when p_changes ? 'video_id' then v_video_id else c.video_id end,
    pinned = coalesce((p_changes -> 'pinned')::boolean, c.pinned),
    archived_at = case
      when (p_changes -> 'archived')::boolean then coalesce(c.archived_at, now())
      when p_changes -> 'archived' = 'false' then null
      else c.archived_at
    end,
    expires_at = case when p_changes ? 'expires_at' then private.to_time('expires_at', p_changes ->> 'expires_at') else c.expires_at end,
    metadata = v_metadata
  where c.id = p_conversation_id;
  return public.get_conversation(p_conversation_id, v_user_id);
end;
$$;
comment on routine public.update_conversation is
  'Changes the fields that p_changes has: title, summary, video_id, pinned, archived (true or false; when, '
  'is archived_at), expires_at (null clears) and metadata (merged at the top level; null removes a key). '
  'Answers the conversation.';
revoke all on routine public.update_conversation from public, anon, authenticated, service_role;
grant execute on routine public.update_conversation to authenticated, service_role;

insert into private.repeatable_calls (name, reader) values ('update_conversation', 'public.get_conversation');
