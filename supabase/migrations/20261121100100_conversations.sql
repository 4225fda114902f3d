-- Conversations: create, append, load. A message is stored once, in an order that the database assigns.

-- ---------------------------------------------------------------------------------------------------------------------
-- videos
-- ---------------------------------------------------------------------------------------------------------------------
create table public.videos (
  id uuid not null default gen_random_uuid(),
  user_id uuid not null default auth.uid(),
  title text,
  created_at timestamptz not null default now(),
  constraint videos_pkey primary key (id),
  -- The target of conversations_video_id_fkey: a conversation can only point at its own user's video.
  constraint videos_user_id_id_key unique (user_id, id),
  constraint videos_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint videos_title_check check (char_length(title) <= 1000)
);
comment on table public.videos is
  'What conversations.video_id points at. Minimal on purpose: a host adds its own columns, or its own table.';

alter table public.videos enable row level security;
alter table public.videos force row level security;
revoke all on public.videos from anon, authenticated, service_role;
grant select, delete on public.videos to authenticated, service_role;
grant insert (id, user_id, title) on public.videos to authenticated, service_role;
grant update (title) on public.videos to authenticated, service_role;

create policy "Users see their own videos" on public.videos
  for select to authenticated using (user_id = (select auth.uid()));
create policy "Users add their own videos" on public.videos
  for insert to authenticated with check (user_id = (select auth.uid()));
create policy "Users rename their own videos" on public.videos
  for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "Users delete their own videos" on public.videos
  for delete to authenticated using (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------------------
-- conversations
-- ---------------------------------------------------------------------------------------------------------------------
create table public.conversations (
  id uuid not null default gen_random_uuid(),
  user_id uuid not null default auth.uid(),
  video_id uuid,
  title text,
  summary text,
  metadata jsonb not null default '{}',
  parent_id uuid,
  fork_sequence integer,
  last_sequence_order integer not null default 0,
  pinned boolean not null default false,
  expires_at timestamptz,
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint conversations_pkey primary key (id),
  -- Serves the policies and the listing, and is the target of the messages' composite foreign key.
  constraint idx_conversations_user_id unique (user_id, id),
  constraint conversations_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint conversations_video_id_fkey foreign key (user_id, video_id) references public.videos (user_id, id)
    on delete set null (video_id),
  constraint conversations_parent_id_fkey foreign key (parent_id) references public.conversations (id),
  constraint conversations_fork_check check ((parent_id is null) = (fork_sequence is null) and fork_sequence >= 0),
  constraint conversations_last_sequence_order_check check (last_sequence_order >= 0),
  constraint conversations_title_check check (char_length(title) <= 1000),
  constraint conversations_metadata_check check (
    jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 65536
  )
)
-- Every append updates its row. Room on the page and no index on the columns that move keep that update HOT.
with (fillfactor = 80);

create index idx_conversations_video_id on public.conversations (user_id, video_id) where video_id is not null;
create index idx_conversations_parent_id on public.conversations (parent_id) where parent_id is not null;

comment on table public.conversations is 'A conversation of one user. Its messages are in conversation_messages.';
comment on column public.conversations.video_id is 'The video it is about, one of the same user''s; null when that is deleted.';
comment on column public.conversations.summary is 'What happened so far, in words; leads the context given to a model.';
comment on column public.conversations.metadata is 'The application''s own JSON object, at most 64 KiB.';
comment on column public.conversations.parent_id is 'The conversation whose first fork_sequence messages this one shares.';
comment on column public.conversations.fork_sequence is 'How many of the parent''s messages are shared.';
comment on column public.conversations.last_sequence_order is
  'The number of the newest message. Moved only under the row lock, by the functions that number messages.';
comment on column public.conversations.pinned is 'Exempt from retention.';
comment on column public.conversations.expires_at is 'When retention removes it, whatever its activity; null: by policy.';
comment on column public.conversations.deleted_at is 'Set on a tombstone: deleted, but still the prefix of a living fork.';
comment on column public.conversations.updated_at is
  'The last activity: creation or the newest message. Reading and renaming do not move it.';

alter table public.conversations enable row level security;
alter table public.conversations force row level security;
revoke all on public.conversations from anon, authenticated, service_role;
grant select on public.conversations to authenticated, service_role;
-- Not granted, so not forgeable: counters, forks, timestamps. Nobody deletes here: public.delete_conversation does.
grant insert (id, user_id, video_id, title, summary, metadata, pinned, expires_at)
  on public.conversations to authenticated, service_role;
grant update (video_id, title, summary, metadata, pinned, expires_at)
  on public.conversations to authenticated, service_role;

create policy "Users see their own conversations" on public.conversations
  for select to authenticated using (user_id = (select auth.uid()) and deleted_at is null);
create policy "Users create their own conversations" on public.conversations
  for insert to authenticated with check (user_id = (select auth.uid()));
create policy "Users change their own conversations" on public.conversations
  for update to authenticated
  using (user_id = (select auth.uid()) and deleted_at is null) with check (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------------------
-- conversation_messages
-- ---------------------------------------------------------------------------------------------------------------------
create table public.conversation_messages (
  id uuid not null default gen_random_uuid(),
  conversation_id uuid not null,
  user_id uuid not null default auth.uid(),
  -- The default is null as an expression: generated types then know that an insert may leave the number out.
  sequence_order integer not null default nullif(0, 0),
  type text not null default 'message',
  role text,
  content text,
  parts jsonb,
  name text,
  function_call jsonb,
  tool_calls jsonb,
  tool_call_id text,
  item jsonb,
  item_id text,
  model text,
  usage jsonb,
  status text not null default 'complete',
  token_count integer,
  author text not null default case when private.caller_role() = 'authenticated' then 'user' else 'service' end,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint conversation_messages_pkey primary key (id),
  -- Makes two messages with one number impossible; a backend loads by it.
  constraint idx_conversation_messages_sequence_order unique (conversation_id, sequence_order),
  constraint conversation_messages_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade,
  constraint conversation_messages_sequence_order_check check (sequence_order > 0),
  constraint conversation_messages_role_check check (
    role in ('system', 'developer', 'user', 'assistant', 'tool', 'function') and (role is not null or type <> 'message')
  ),
  constraint conversation_messages_body_check check (num_nonnulls(content, parts, function_call, tool_calls, item) > 0),
  constraint conversation_messages_parts_check check (jsonb_typeof(parts) = 'array'),
  constraint conversation_messages_function_call_check check (jsonb_typeof(function_call) = 'object'),
  constraint conversation_messages_tool_calls_check check (jsonb_typeof(tool_calls) = 'array'),
  constraint conversation_messages_item_check check (jsonb_typeof(item) = 'object'),
  constraint conversation_messages_usage_check check (jsonb_typeof(usage) = 'object'),
  constraint conversation_messages_status_check check (status in ('complete', 'incomplete')),
  constraint conversation_messages_token_count_check check (token_count >= 0),
  constraint conversation_messages_author_check check (author in ('user', 'service')),
  constraint conversation_messages_metadata_check check (
    jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 65536
  )
);

-- Serves the foreign key, and every read under the policy. It ends in sequence_order because the planner takes the
-- policy's user_id and a conversation_id for independent: without it, it picked this index and sorted whole conversations.
create index idx_conversation_messages_conversation_id
  on public.conversation_messages (user_id, conversation_id, sequence_order);

comment on table public.conversation_messages is
  'The messages of all conversations. Immutable: no role updates them, an edit is a fork.';
comment on column public.conversation_messages.user_id is
  'The conversation''s user, repeated so that row level security needs no join; the foreign key keeps it true.';
comment on column public.conversation_messages.sequence_order is
  'The place in the conversation: 1, 2, 3 … without gaps as appended. Assigned under the conversation''s row lock.';
comment on column public.conversation_messages.type is 'message, or the type of a provider''s item.';
comment on column public.conversation_messages.role is 'Who speaks; null only for items that have no role.';
comment on column public.conversation_messages.content is 'The text; null where parts or calls carry the message.';
comment on column public.conversation_messages.parts is 'Multimodal content: an array of content parts.';
comment on column public.conversation_messages.function_call is 'The legacy call of an assistant: {name, arguments}.';
comment on column public.conversation_messages.tool_calls is 'The calls of an assistant: [{id, type, function}].';
comment on column public.conversation_messages.tool_call_id is 'The call that a tool message answers.';
comment on column public.conversation_messages.item is 'A provider''s item as it came.';
comment on column public.conversation_messages.item_id is 'The client''s own id of the message.';
comment on column public.conversation_messages.usage is 'What the model reported: an object of token counts.';
comment on column public.conversation_messages.status is 'incomplete: cut off while it was generated.';
comment on column public.conversation_messages.author is
  'With which trust it was written, set by the database from the caller''s role: user, or service (a backend).';

-- Column defaults aside, everything is what the client wrote, except author, created_at and (checked) the number.
alter table public.conversation_messages enable row level security;
alter table public.conversation_messages force row level security;
revoke all on public.conversation_messages from anon, authenticated, service_role;
grant select on public.conversation_messages to authenticated, service_role;
grant insert (
  id, conversation_id, user_id, sequence_order, type, role, content, parts, name, function_call, tool_calls,
  tool_call_id, item, item_id, model, usage, status, token_count, metadata
) on public.conversation_messages to authenticated, service_role;

create policy "Users see their own messages" on public.conversation_messages
  for select to authenticated using (user_id = (select auth.uid()));
create policy "Users add messages to their own conversations" on public.conversation_messages
  for insert to authenticated with check (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------------------
-- Numbering
-- ---------------------------------------------------------------------------------------------------------------------
create function private.append_messages(
  p_conversation_id uuid, p_messages jsonb, p_expected_sequence integer, p_user_id uuid
) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_author text := case when private.caller_role() = 'authenticated' then 'user' else 'service' end;
  v_last integer;
  v_invalid bigint;
begin
  -- What zod says politely at the edge holds for a direct RPC call too: nothing is dropped or turned into text.
  select m.n - 1 into v_invalid
  from jsonb_array_elements(p_messages) with ordinality as m (value, n)
  where case
    when jsonb_typeof(m.value) <> 'object' then true
    else m.value - '{type,role,content,parts,name,function_call,tool_calls,tool_call_id,item_id,model,usage,status,token_count,metadata}'::text[] <> '{}'
      or jsonb_typeof(m.value -> 'content') not in ('string', 'null')
  end
  limit 1;
  if found then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = format('messages[%s] is not a message, or has a field that messages do not have.', v_invalid);
  end if;

  -- The row lock is the queue: batches on one conversation are numbered one after the other.
  select c.last_sequence_order into v_last
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  for no key update;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  if v_last <> p_expected_sequence then
    raise sqlstate 'PT409' using
      message = 'sequence_conflict',
      detail = format('The conversation is at %s, the request expected %s.', v_last, p_expected_sequence),
      hint = 'Load what is new, then append again.';
  end if;

  insert into public.conversation_messages (
    conversation_id, user_id, sequence_order, type, role, content, parts, name, function_call, tool_calls,
    tool_call_id, item_id, model, usage, status, token_count, author, metadata
  )
  select
    p_conversation_id, v_user_id, v_last + m.n, coalesce(m.type, 'message'), m.role, m.content, nullif(m.parts, 'null'),
    m.name, nullif(m.function_call, 'null'), nullif(m.tool_calls, 'null'), m.tool_call_id, m.item_id, m.model,
    nullif(m.usage, 'null'), coalesce(m.status, 'complete'), m.token_count, v_author,
    coalesce(nullif(m.metadata, 'null'), '{}')
  from rows from (
    jsonb_to_recordset(p_messages) as (
      type text, role text, content text, parts jsonb, name text, function_call jsonb, tool_calls jsonb,
      tool_call_id text, item_id text, model text, usage jsonb, status text, token_count integer, metadata jsonb
    )
  ) with ordinality as m (
    type, role, content, parts, name, function_call, tool_calls, tool_call_id, item_id, model, usage, status,
    token_count, metadata, n
  );

  update public.conversations c set
    last_sequence_order = v_last + jsonb_array_length(p_messages),
    -- Not now(): a transaction that began earlier may get the lock later, and activity must not run backwards.
    updated_at = greatest(c.updated_at, clock_timestamp())
  where c.id = p_conversation_id;

  return jsonb_build_object(
    'messages', (
      select coalesce(jsonb_agg(to_jsonb(m) - '{user_id,item}'::text[] order by m.sequence_order), '[]')
      from public.conversation_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_last
    ),
    'last_sequence_order', v_last + jsonb_array_length(p_messages)
  );
end;
$$;
comment on function private.append_messages(uuid, jsonb, integer, uuid) is
  'Appends a batch: all of it, contiguously, or nothing. See public.append_messages.';
revoke all on function private.append_messages(uuid, jsonb, integer, uuid) from public, anon, authenticated, service_role;
grant execute on function private.append_messages(uuid, jsonb, integer, uuid) to authenticated, service_role;


create function private.number_message() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_caller_id uuid := private.caller_id(new.user_id);
  v_owner_id uuid;
  v_next integer;
begin
  update public.conversations c set
    last_sequence_order = c.last_sequence_order + 1,
    updated_at = greatest(c.updated_at, clock_timestamp())
  where c.id = new.conversation_id and c.deleted_at is null and c.user_id = coalesce(v_caller_id, c.user_id)
  returning c.last_sequence_order, c.user_id into v_next, v_owner_id;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  if new.sequence_order <> v_next then
    raise sqlstate 'PT409' using
      message = 'sequence_conflict',
      detail = format('The next message is %s, the insert says %s.', v_next, new.sequence_order),
      hint = 'Leave sequence_order out and the database assigns it.';
  end if;
  new.sequence_order := v_next;
  new.user_id := coalesce(new.user_id, v_owner_id);
  return new;
end;
$$;
comment on function private.number_message() is
  'Numbers a message that a client inserts through the REST API, under the conversation''s row lock. An explicit number '
  'is accepted if it is the next, else PT409 sequence_conflict.';
revoke all on function private.number_message() from public, anon, authenticated, service_role;

-- Rows that append_messages numbers itself, and a restore, are inserted by the owner and skip this:
-- one update for a batch instead of one for each row.
create trigger number_message before insert on public.conversation_messages
  for each row when (new.sequence_order is null or current_user in ('authenticated', 'service_role'))
  execute function private.number_message();

-- ---------------------------------------------------------------------------------------------------------------------
-- The API: one function for each request
-- ---------------------------------------------------------------------------------------------------------------------
create function public.append_messages(
  p_conversation_id uuid, p_messages jsonb, p_expected_sequence integer default null, p_user_id uuid default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.append_messages(p_conversation_id, p_messages, p_expected_sequence, p_user_id);
$$;
comment on function public.append_messages(uuid, jsonb, integer, uuid) is
  'Appends messages (a JSON array) to a conversation: contiguous and gapless, all or none. Answers {messages, '
  'last_sequence_order}. With p_expected_sequence it appends only if that is the last number, else PT409.';
revoke all on function public.append_messages(uuid, jsonb, integer, uuid) from public, anon, authenticated, service_role;
grant execute on function public.append_messages(uuid, jsonb, integer, uuid) to authenticated, service_role;


create function public.create_conversation(
  p_conversation jsonb default '{}', p_messages jsonb default '[]', p_user_id uuid default null
) returns jsonb
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_video_id uuid := (p_conversation ->> 'video_id')::uuid;
  v_id uuid;
begin
  if p_conversation - '{title,video_id,metadata,expires_at}'::text[] <> '{}' then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'The conversation has an unknown field.';
  end if;
  if v_video_id is not null
    and not exists (select from public.videos v where v.id = v_video_id and v.user_id = v_user_id)
  then
    raise sqlstate 'PT404' using message = 'video_not_found';
  end if;

  insert into public.conversations (user_id, video_id, title, metadata, expires_at)
  values (
    v_user_id,
    v_video_id,
    p_conversation ->> 'title',
    coalesce(p_conversation -> 'metadata', '{}'),
    (p_conversation ->> 'expires_at')::timestamptz
  )
  returning id into v_id;

  if p_messages <> '[]' then
    perform private.append_messages(v_id, p_messages, 0, v_user_id);
  end if;
  return (select to_jsonb(c) - 'deleted_at' from public.conversations c where c.id = v_id);
end;
$$;
comment on function public.create_conversation(jsonb, jsonb, uuid) is
  'Creates a conversation ({title?, video_id?, metadata?, expires_at?}) with its first messages: both or neither.';
revoke all on function public.create_conversation(jsonb, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function public.create_conversation(jsonb, jsonb, uuid) to authenticated, service_role;


create function public.get_conversation(p_conversation_id uuid, p_user_id uuid default null) returns jsonb
language plpgsql
stable
security invoker
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
comment on function public.get_conversation(uuid, uuid) is 'One conversation, without its messages.';
revoke all on function public.get_conversation(uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function public.get_conversation(uuid, uuid) to authenticated, service_role;


create function public.list_conversations(
  p_limit integer default 50,
  p_before_updated_at timestamptz default null,
  p_before_id uuid default null,
  p_video_id uuid default null,
  p_metadata jsonb default null,
  p_user_id uuid default null
) returns jsonb
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_page jsonb;
begin
  -- Sorted after the owner's rows are found: an index on updated_at would make every append rewrite it.
  select coalesce(jsonb_agg(to_jsonb(c) - 'deleted_at' order by c.updated_at desc, c.id desc), '[]') into v_page
  from (
    select *
    from public.conversations c
    where c.user_id = v_user_id
      and c.deleted_at is null
      and (p_before_updated_at is null or (c.updated_at, c.id) < (p_before_updated_at, p_before_id))
      and (p_video_id is null or c.video_id = p_video_id)
      and (p_metadata is null or c.metadata @> p_metadata)
    order by c.updated_at desc, c.id desc
    limit p_limit + 1
  ) c;
  return jsonb_build_object('data', v_page - p_limit, 'has_more', jsonb_array_length(v_page) > p_limit);
end;
$$;
comment on function public.list_conversations(integer, timestamptz, uuid, uuid, jsonb, uuid) is
  'A page of the user''s conversations, newest activity first, below (p_before_updated_at, p_before_id). Answers {data, '
  'has_more}. p_metadata: only conversations whose metadata contains it.';
revoke all on function public.list_conversations(integer, timestamptz, uuid, uuid, jsonb, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.list_conversations(integer, timestamptz, uuid, uuid, jsonb, uuid)
  to authenticated, service_role;


create function public.update_conversation(p_conversation_id uuid, p_changes jsonb, p_user_id uuid default null)
returns jsonb
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_video_id uuid := (p_changes ->> 'video_id')::uuid;
  v_conversation jsonb;
begin
  if p_changes - '{title,summary,video_id,pinned,expires_at,metadata}'::text[] <> '{}' then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'The changes have an unknown field.';
  end if;
  if v_video_id is not null
    and not exists (select from public.videos v where v.id = v_video_id and v.user_id = v_user_id)
  then
    raise sqlstate 'PT404' using message = 'video_not_found';
  end if;

  update public.conversations c set
    title = case when p_changes ? 'title' then p_changes ->> 'title' else c.title end,
    summary = case when p_changes ? 'summary' then p_changes ->> 'summary' else c.summary end,
    video_id = case when p_changes ? 'video_id' then v_video_id else c.video_id end,
    pinned = coalesce((p_changes -> 'pinned')::boolean, c.pinned),
    expires_at = case when p_changes ? 'expires_at' then (p_changes ->> 'expires_at')::timestamptz else c.expires_at end,
    metadata = case
      when p_changes ? 'metadata' then (c.metadata || (p_changes -> 'metadata')) - array(
        select m.key from jsonb_each(p_changes -> 'metadata') m where m.value = 'null'
      )
      else c.metadata
    end
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  returning to_jsonb(c) - 'deleted_at' into v_conversation;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  return v_conversation;
end;
$$;
comment on function public.update_conversation(uuid, jsonb, uuid) is
  'Changes the fields that p_changes has: title, summary, video_id, pinned, expires_at (null clears) and metadata '
  '(merged at the top level; null removes a key). Answers the conversation.';
revoke all on function public.update_conversation(uuid, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function public.update_conversation(uuid, jsonb, uuid) to authenticated, service_role;


create function private.delete_conversation(p_conversation_id uuid, p_user_id uuid) returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
begin
  delete from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
end;
$$;
comment on function private.delete_conversation(uuid, uuid) is 'See public.delete_conversation.';
revoke all on function private.delete_conversation(uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function private.delete_conversation(uuid, uuid) to authenticated, service_role;


create function public.delete_conversation(p_conversation_id uuid, p_user_id uuid default null) returns void
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.delete_conversation(p_conversation_id, p_user_id);
$$;
comment on function public.delete_conversation(uuid, uuid) is 'Deletes a conversation and its messages.';
revoke all on function public.delete_conversation(uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function public.delete_conversation(uuid, uuid) to authenticated, service_role;


create function public.list_messages(
  p_conversation_id uuid,
  p_after integer default null,
  p_before integer default null,
  p_limit integer default 50,
  p_order text default 'asc',
  p_user_id uuid default null
) returns jsonb
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
  v_after integer := coalesce(p_after, 0);
  v_before integer := coalesce(p_before, 2147483647);
  v_page jsonb;
begin
  if not exists (
    select from public.conversations c
    where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null
  ) then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;

  -- One more than the page, to know whether there is more.
  if p_order = 'desc' then
    select coalesce(jsonb_agg(to_jsonb(m) - '{user_id,item}'::text[] order by m.sequence_order desc), '[]') into v_page
    from (
      select *
      from public.conversation_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
      order by m.sequence_order desc
      limit p_limit + 1
    ) m;
  else
    select coalesce(jsonb_agg(to_jsonb(m) - '{user_id,item}'::text[] order by m.sequence_order), '[]') into v_page
    from (
      select *
      from public.conversation_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
      order by m.sequence_order
      limit p_limit + 1
    ) m;
  end if;
  return jsonb_build_object('data', v_page - p_limit, 'has_more', jsonb_array_length(v_page) > p_limit);
end;
$$;
comment on function public.list_messages(uuid, integer, integer, integer, text, uuid) is
  'A page of a conversation''s messages with p_after < sequence_order < p_before, in p_order (asc or desc). Answers '
  '{data, has_more}.';
revoke all on function public.list_messages(uuid, integer, integer, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.list_messages(uuid, integer, integer, integer, text, uuid)
  to authenticated, service_role;
