-- Made from supabase/schemas/20_conversations by "npm run migration": change it there.

set check_function_bodies = off;

-- Conversations and their messages. A message is stored once, in an order that the database assigns.

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

select private.sample_only('public.videos', '{created_at}');
alter table public.videos enable row level security, force row level security;
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

select private.count_writes_to('public.videos', 'user_id', '{title}');


create function private.check_conversation(
  p_title text, p_summary text, p_metadata jsonb, p_parent_id uuid, p_fork_sequence integer, p_last_sequence_order integer,
  p_expires_at timestamptz, p_archived_at timestamptz
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_end constant timestamptz := '10000-01-01 00:00:00+00';
  -- Every append moves the row. The bytes are known without reading the text, the characters are not.
  v_broken text := case
    when (p_parent_id is null) <> (p_fork_sequence is null) or p_fork_sequence < 0 then '{fork,"is half a pointer"}'
    when p_last_sequence_order < 0 then '{last_sequence_order,"is below 0"}'
    when not isfinite(p_expires_at) or p_expires_at >= c_end then '{expires_at,"is no time before the year 10000"}'
    when not isfinite(p_archived_at) or p_archived_at >= c_end then '{archived_at,"is no time before the year 10000"}'
    when octet_length(p_title) > 1000 and char_length(p_title) > 1000 then '{title,"has more than 1,000 characters"}'
    when octet_length(p_summary) > 65536 and char_length(p_summary) > 65536 then '{summary,"has more than 65,536 characters"}'
    when p_metadata <> '{}' and (
      jsonb_typeof(p_metadata) <> 'object' or octet_length(p_metadata::text) > 65536 or jsonb_path_exists(p_metadata, 'strict $.**{101}')
    ) then '{metadata,"is no object, or larger than 64 KiB or deeper than 100 levels as Postgres prints it"}'
  end;
begin
  return v_broken is null or private.refuse_row('conversations', v_broken::text[]);
end;
$$;
comment on routine private.check_conversation is 'Every rule of a conversation''s row, as one check.';
revoke all on routine private.check_conversation from public, anon, authenticated, service_role;
grant execute on routine private.check_conversation to authenticated, service_role;


create function private.check_message(
  p_sequence_order integer, p_type text, p_role text, p_content text, p_parts jsonb, p_name text, p_function_call jsonb,
  p_tool_calls jsonb, p_tool_call_id text, p_item jsonb, p_source jsonb, p_item_id text, p_model text, p_usage jsonb,
  p_status text, p_token_count integer, p_author text, p_metadata jsonb
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_broken text := case
    when p_sequence_order <= 0 then '{sequence_order,"is not above 0"}'
    when p_role not in ('system', 'developer', 'user', 'assistant', 'tool', 'function') or p_role is null and p_type = 'message'
      then '{role,"is missing, or none of system, developer, user, assistant, tool and function"}'
    when char_length(p_type) not between 1 and 64 then '{type,"has not 1 to 64 characters"}'
    when char_length(p_item_id) not between 1 and 256 then '{item_id,"has not 1 to 256 characters"}'
    when char_length(p_name) > 256 then '{name,"has more than 256 characters"}'
    when char_length(p_model) > 256 then '{model,"has more than 256 characters"}'
    when char_length(p_tool_call_id) > 65536 then '{tool_call_id,"has more than 65,536 characters"}'
    when octet_length(p_content) > 4194304 then '{content,"has more than 4 MiB"}'
    when p_status not in ('complete', 'incomplete') then '{status,"is neither complete nor incomplete"}'
    when p_token_count < 0 then '{token_count,"is below 0"}'
    when p_author not in ('user', 'service') then '{author,"is neither user nor service"}'
    when p_metadata <> '{}' and (
      jsonb_typeof(p_metadata) <> 'object' or octet_length(p_metadata::text) > 65536 or jsonb_path_exists(p_metadata, 'strict $.**{101}')
    ) then '{metadata,"is no object, or larger than 64 KiB or deeper than 100 levels as Postgres prints it"}'
    when num_nonnulls(p_parts, p_function_call, p_tool_calls, p_usage, p_item, p_source) = 0 then
      case when p_content is null then '{body,"is missing: content, parts, function_call, tool_calls and item are null"}' end
    when num_nonnulls(p_content, p_parts, p_function_call, p_tool_calls, p_item) = 0
      then '{body,"is missing: content, parts, function_call, tool_calls and item are null"}'
    when jsonb_typeof(p_parts) <> 'array' then '{parts,"is no array"}'
    when jsonb_typeof(p_function_call) <> 'object' then '{function_call,"is no object"}'
    when jsonb_typeof(p_tool_calls) <> 'array' then '{tool_calls,"is no array"}'
    when jsonb_typeof(p_item) <> 'object' then '{item,"is no object"}'
    when jsonb_typeof(p_usage) <> 'object' then '{usage,"is no object"}'
    when case
      when p_source is null then false
      when jsonb_typeof(p_source) <> 'object' then true
      else p_source - '{dialect,rest}'::text[] <> '{}'
        or coalesce(p_source ->> 'dialect', '') not in ('chat', 'responses', 'anthropic', 'gemini', 'ai-sdk', 'langchain')
        or jsonb_typeof(p_source -> 'rest') is distinct from 'object'
    end then '{source,"is not {dialect, rest}, the name of another API and an object"}'
    -- As printed: a number such as 1e-16383 is stored in a few bytes and prints as sixteen thousand. A megabyte of them could
    -- be written and never be read again.
    when octet_length(concat(p_parts, p_function_call, p_tool_calls, p_usage, p_item, p_source)) > 8388608
      then '{size,"(parts, function_call, tool_calls, usage, item, source) is more than 8 MiB as Postgres prints it"}'
    -- A level takes eight bytes.
    when greatest(
        pg_column_size(p_parts), pg_column_size(p_function_call), pg_column_size(p_tool_calls), pg_column_size(p_usage),
        pg_column_size(p_item), pg_column_size(p_source)
      ) > 800
      and jsonb_path_exists(
        jsonb_build_array(p_parts, p_function_call, p_tool_calls, p_usage, p_item, p_source), 'strict $.**{102}'
      )
      then '{depth,"(parts, function_call, tool_calls, usage, item, source) is more than 100 levels"}'
  end;
begin
  return v_broken is null or private.refuse_row('conversation_messages', v_broken::text[]);
end;
$$;
comment on routine private.check_message is 'Every rule of a message''s row, as one check.';
revoke all on routine private.check_message from public, anon, authenticated, service_role;
grant execute on routine private.check_message to authenticated, service_role;


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
  archived_at timestamptz,
  constraint conversations_pkey primary key (id),
  -- Serves the policies and the listing, and is the target of the messages' composite foreign key.
  constraint idx_conversations_user_id unique (user_id, id),
  constraint conversations_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint conversations_video_id_fkey foreign key (user_id, video_id) references public.videos (user_id, id)
    on delete set null (video_id),
  constraint conversations_parent_id_fkey foreign key (parent_id) references public.conversations (id),
  constraint conversations_check check (private.check_conversation(
    title, summary, metadata, parent_id, fork_sequence, last_sequence_order, expires_at, archived_at
  ))
)
-- Every append updates its row. Room on the page and no index on the columns that move keep that update HOT.
with (fillfactor = 80);

create index idx_conversations_video_id on public.conversations (user_id, video_id) where video_id is not null;
create index idx_conversations_parent_id on public.conversations (parent_id, fork_sequence) where parent_id is not null;
-- By creation, because an index on updated_at would make every append write to all indexes (docs/decisions/0013). No append
-- moves a column of these two.
create index idx_conversations_created_at on public.conversations (created_at, id)
  where deleted_at is null and expires_at is null and not pinned;
create index idx_conversations_expires_at on public.conversations (expires_at)
  where deleted_at is null and expires_at is not null and not pinned;

comment on table public.conversations is 'A conversation of one user. Its messages are in conversation_messages.';
comment on column public.conversations.video_id is 'The video it is about, one of the same user''s; null when that is deleted.';
comment on column public.conversations.summary is 'What happened so far, in at most 65,536 characters; leads the context given to a model.';
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
comment on column public.conversations.archived_at is 'Since when it is put away: lists leave it out unless asked. Null: it is not.';

select private.sample_only('public.conversations', '{last_sequence_order, deleted_at, created_at, updated_at}');
alter table public.conversations enable row level security, force row level security;
revoke all on public.conversations from anon, authenticated, service_role;
grant select on public.conversations to authenticated, service_role;
-- Not granted, so not forgeable: counters, forks, timestamps. Nobody deletes here: public.delete_conversation does.
grant insert (id, user_id, video_id, title, summary, metadata, pinned, expires_at, archived_at)
  on public.conversations to authenticated, service_role;
grant update (video_id, title, summary, metadata, pinned, expires_at, archived_at)
  on public.conversations to authenticated, service_role;

create policy "Users see their own conversations" on public.conversations
  for select to authenticated using (user_id = (select auth.uid()) and deleted_at is null);
create policy "Users create their own conversations" on public.conversations
  for insert to authenticated with check (user_id = (select auth.uid()));
create policy "Users change their own conversations" on public.conversations
  for update to authenticated
  using (user_id = (select auth.uid()) and deleted_at is null) with check (user_id = (select auth.uid()));

-- What deletes one changes these, too.
select private.count_writes_to(
  'public.conversations', 'user_id', '{video_id,title,summary,metadata,pinned,expires_at,archived_at}', 'new.deleted_at is null'
);


create table public.conversation_messages (
  -- Rises with time (UUID version 7, RFC 9562): new ones go to the end of the primary key instead of anywhere in it. An index
  -- over random ids is a third larger, and with many rows every insert touches a page that nobody else needs. Postgres has
  -- uuidv7() from version 18 on. 48 bits of milliseconds, the version, and 74 random bits of a version 4. An expression instead
  -- of a function: a call for every row would cost more than what it calls.
  id uuid not null default (
    lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
  )::uuid,
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
  source jsonb,
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
  constraint conversation_messages_check check (private.check_message(
    sequence_order, type, role, content, parts, name, function_call, tool_calls, tool_call_id, item, source, item_id, model,
    usage, status, token_count, author, metadata
  ))
);

-- Serves the foreign key, and every read under the policy. It ends in sequence_order because the planner takes the
-- policy's user_id and a conversation_id for independent: without it, it picked this index and sorted whole conversations.
create index idx_conversation_messages_conversation_id
  on public.conversation_messages (user_id, conversation_id, sequence_order);

-- The client's own id protects a message for ever. Over a lineage of forks, append_messages checks it under the lock.
create unique index idx_conversation_messages_item_id
  on public.conversation_messages (conversation_id, item_id) where item_id is not null;

-- A context begins at the newest compaction item, wherever it is.
create index idx_conversation_messages_compaction
  on public.conversation_messages (conversation_id, sequence_order) where type = 'compaction';

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
comment on column public.conversation_messages.item is
  'Set on what came as a provider''s item: what the other columns leave out of it, or all of it where they hold nothing.';
comment on column public.conversation_messages.source is
  '{dialect, rest}: what a message of another API says beyond the other columns. Shown in that dialect alone.';
comment on column public.conversation_messages.item_id is 'The client''s own id of the message.';
comment on column public.conversation_messages.usage is 'What the model reported: an object of token counts.';
comment on column public.conversation_messages.status is 'incomplete: cut off while it was generated.';
comment on column public.conversation_messages.author is
  'With which trust it was written, set by the database from the caller''s role: user, or service (a backend).';

-- Column defaults aside, everything is what the client wrote, except author, created_at and (checked) the number.
select private.sample_only('public.conversation_messages', '{sequence_order, author, created_at}');
alter table public.conversation_messages enable row level security, force row level security;
revoke all on public.conversation_messages from anon, authenticated, service_role;
grant select on public.conversation_messages to authenticated, service_role;
grant insert (
  id, conversation_id, user_id, sequence_order, type, role, content, parts, name, function_call, tool_calls,
  tool_call_id, item, source, item_id, model, usage, status, token_count, metadata
) on public.conversation_messages to authenticated, service_role;

-- The conversations' own policy hides tombstones, and with them the messages that only forks still show.
create policy "Users see the messages of their own conversations" on public.conversation_messages
  for select to authenticated
  using (
    user_id = (select auth.uid())
    and exists (select from public.conversations c where c.id = conversation_id)
  );
create policy "Users add messages to their own conversations" on public.conversation_messages
  for insert to authenticated with check (user_id = (select auth.uid()));

select private.count_writes_to('public.conversation_messages', 'user_id');

-- Appending: messages are numbered under the conversation's row lock, one batch after the other.

create function private.lock_conversation(p_conversation_id uuid, p_user_id uuid) returns public.conversations
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Without claims it is no API call but a session of the database's own, which says for whom it writes.
  v_user_id uuid := case when private.caller_role() is null then p_user_id else private.caller_id(p_user_id) end;
  v_conversation public.conversations;
begin
  select * into v_conversation
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null
  for no key update skip locked;
  if not found then
    perform private.wait_for_row('public.conversations', p_conversation_id, v_user_id::text);
    select * into v_conversation
    from public.conversations c
    where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null
    for no key update;
  end if;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  return v_conversation;
end;
$$;
comment on routine private.lock_conversation is
  'A conversation of the caller''s, locked for a write. Raises PT404 conversation_not_found, and 55P03 where others hold it for '
  'too long: see private.wait_for_row.';
revoke all on routine private.lock_conversation from public, anon, authenticated, service_role;
grant execute on routine private.lock_conversation to authenticated, service_role;


create function private.require_messages(
  p_messages jsonb, p_more_fields text[] default '{}', p_limit integer default 1000
) returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_fields text[] := p_more_fields
    || '{type,role,content,parts,name,function_call,tool_calls,tool_call_id,item,source,item_id,model,usage,status,token_count,metadata}';
  v_invalid bigint;
begin
  if jsonb_typeof(p_messages) is distinct from 'array' then
    perform private.refuse('messages is not an array.');
  elsif jsonb_array_length(p_messages) > p_limit then
    perform private.refuse(format('messages has more than %s messages.', p_limit));
  end if;
  select m.n - 1 into v_invalid
  from jsonb_array_elements(p_messages) with ordinality as m (value, n)
  where case
    when jsonb_typeof(m.value) <> 'object' then true
    else m.value - v_fields <> '{}' or exists (
      select from unnest('{type,role,content,name,tool_call_id,item_id,model,status}'::text[]) as t (key)
      where jsonb_typeof(m.value -> t.key) not in ('string', 'null')
    ) or jsonb_typeof(m.value -> 'token_count') not in ('number', 'null')
  end
  limit 1;
  if found then
    perform private.refuse(format(
      'messages[%s] is not a message, or has a field or a type that messages do not have.', v_invalid
    ));
  end if;
end;
$$;
comment on routine private.require_messages is
  'What zod says politely at the edge holds for a direct RPC call too: nothing is dropped, and nothing turned into text. '
  'Raises PT400 invalid_request. p_more_fields: what a message may have beside the fields of an append. p_limit: how many.';
revoke all on routine private.require_messages from public, anon, authenticated, service_role;


create function private.known_items(p_conversation_id uuid, p_messages jsonb) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_known jsonb;
  v_conflict text;
begin
  select m.item_id into v_conflict
  from jsonb_to_recordset(p_messages) as m (item_id text)
  where m.item_id is not null
  group by m.item_id
  having count(*) > 1
  limit 1;

  if v_conflict is null then
    -- One index probe for each item and step of the line, however few rows the planner believes there to be, and none for
    -- messages without an item_id.
    with pairs as materialized (
      select
        s.sequence_order, s.item_id,
        (coalesce(m.type, 'message'), m.role, m.content, nullif(m.parts, 'null'), m.name,
          nullif(m.function_call, 'null'), nullif(m.tool_calls, 'null'), m.tool_call_id, m.model,
          nullif(m.usage, 'null'), coalesce(m.status, 'complete'), m.token_count,
          coalesce(nullif(m.metadata, 'null'), '{}'))
        is not distinct from
        (s.type, s.role, s.content, s.parts, s.name, s.function_call, s.tool_calls, s.tool_call_id, s.model, s.usage,
          s.status, s.token_count, s.metadata)
          -- A client that does not know of items repeats the message without one, and so for its source.
          and coalesce(nullif(m.item, 'null') = s.item, true) and coalesce(nullif(m.source, 'null') = s.source, true) as equal
      from jsonb_to_recordset(p_messages) as m (
        type text, role text, content text, parts jsonb, name text, function_call jsonb, tool_calls jsonb,
        tool_call_id text, item jsonb, source jsonb, item_id text, model text, usage jsonb, status text, token_count integer,
        metadata jsonb
      )
      cross join private.lineage(p_conversation_id) l
      cross join lateral (
        select *
        from public.conversation_messages s
        where s.conversation_id = l.id and s.item_id = m.item_id and s.sequence_order <= l.upper
        offset 0
      ) s
      where m.item_id is not null
    )
    select coalesce(jsonb_object_agg(p.item_id, p.sequence_order), '{}'), min(p.item_id) filter (where not p.equal)
    into v_known, v_conflict
    from pairs p;
  end if;

  if v_conflict is not null then
    raise sqlstate 'PT409' using
      message = 'item_conflict',
      detail = format('item_id %s stands for another message already.', to_json(v_conflict)),
      hint = 'A message is immutable: use a new item_id, or fork and append.';
  end if;
  return v_known;
end;
$$;
comment on routine private.known_items is
  'Which item_ids of a batch the lineage has already, as {item_id: sequence_order}. Raises PT409 item_conflict where one '
  'stands for other content, or twice in the batch.';
revoke all on routine private.known_items from public, anon, authenticated, service_role;


create function private.append_result(p_conversation_id uuid, p_result jsonb) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'messages', coalesce(
      to_jsonb(array_agg(
        to_jsonb(m) - '{user_id,source}'::text[] || jsonb_build_object('conversation_id', p_conversation_id) order by s.n
      )),
      '[]'
    ),
    'last_sequence_order', p_result -> 'last_sequence_order'
  )
  from jsonb_array_elements_text(p_result -> 'sequences') with ordinality as s (sequence_order, n)
  cross join lateral private.read_messages(
    p_conversation_id, s.sequence_order::integer - 1, s.sequence_order::integer + 1, 1, 'asc'
  ) m;
$$;
comment on routine private.append_result is
  'The answer of an append, {messages, last_sequence_order}, from the numbers of its messages. Messages deleted since '
  'are missing.';
revoke all on routine private.append_result from public, anon, authenticated, service_role;


create function private.insert_messages(
  p_conversation_id uuid, p_messages jsonb, p_last integer, p_user_id uuid, p_author text
) returns json
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_messages json;
begin
  if p_messages = '[]' then
    return '[]';
  end if;
  with stored as (
    insert into private.listed_messages as s (
      conversation_id, user_id, sequence_order, type, role, content, parts, name, function_call, tool_calls,
      tool_call_id, item, source, item_id, model, usage, status, token_count, author, metadata
    )
    select
      p_conversation_id, p_user_id, p_last + m.n, coalesce(m.type, 'message'), m.role, m.content, nullif(m.parts, 'null'),
      m.name, nullif(m.function_call, 'null'), nullif(m.tool_calls, 'null'), m.tool_call_id,
      nullif(m.item, 'null'), nullif(m.source, 'null'), m.item_id, m.model,
      nullif(m.usage, 'null'), coalesce(m.status, 'complete'), m.token_count, p_author,
      coalesce(nullif(m.metadata, 'null'), '{}')
    from rows from (
      jsonb_to_recordset(p_messages) as (
        type text, role text, content text, parts jsonb, name text, function_call jsonb, tool_calls jsonb,
        tool_call_id text, item jsonb, source jsonb, item_id text, model text, usage jsonb, status text, token_count integer,
        metadata jsonb
      )
    ) with ordinality as m (
      type, role, content, parts, name, function_call, tool_calls, tool_call_id, item, source, item_id, model,
      usage, status, token_count, metadata, n
    )
    returning s.message, s.sequence_order
  )
  select json_agg(s.message order by s.sequence_order) into v_messages from stored s;

  update public.conversations c set
    last_sequence_order = p_last + jsonb_array_length(p_messages),
    -- Not now(): a transaction that began earlier may get the lock later, and activity must not run backwards.
    updated_at = greatest(c.updated_at, clock_timestamp())
  where c.id = p_conversation_id;
  return v_messages;
end;
$$;
comment on routine private.insert_messages is
  'Stores messages after number p_last and moves the counter, under the row lock that the caller holds. Answers them as the API '
  'does. Checks nobody''s rights.';
revoke all on routine private.insert_messages from public, anon, authenticated, service_role;


create function private.store_messages(
  p_conversation_id uuid, p_messages jsonb, p_expected_sequence integer, p_idempotency_key text, p_scope text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Without claims it is no API call but a session of the database's own, which says for whom it writes.
  v_user_id uuid := case when private.caller_role() is null then p_user_id else private.acting_user(p_user_id) end;
  v_author text := case when private.caller_role() = 'authenticated' then 'user' else 'service' end;
  v_result jsonb;
  v_last integer;
  v_known jsonb := '{}';
  v_new jsonb := p_messages;
  v_messages json;
  v_sequences jsonb;
begin
  v_result := private.claim_idempotency_key(
    v_user_id::text, p_scope, p_idempotency_key, jsonb_build_array(p_messages, p_expected_sequence)
  );

  -- The row lock is the queue: batches on one conversation are numbered one after the other.
  select c.last_sequence_order into v_last
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  for no key update skip locked;
  if not found then
    v_last := (private.lock_conversation(p_conversation_id, v_user_id)).last_sequence_order;
  end if;
  if v_result is not null then
    return private.append_result(p_conversation_id, v_result) || '{"replayed": true}';
  end if;

  if jsonb_path_exists(p_messages, '$[*].item_id ? (@ != null)') then
    v_known := private.known_items(p_conversation_id, p_messages);
    select coalesce(to_jsonb(array_agg(m.value order by m.n)), '[]') into v_new
    from jsonb_array_elements(p_messages) with ordinality as m (value, n)
    where m.value ->> 'item_id' is null or not v_known ? (m.value ->> 'item_id');
  end if;

  if v_last <> p_expected_sequence and v_new <> '[]' then
    raise sqlstate 'PT409' using
      message = 'sequence_conflict',
      detail = format('The conversation is at %s, the request expected %s.', v_last, p_expected_sequence),
      hint = 'Load what is new, then append again.';
  end if;

  v_messages := private.insert_messages(p_conversation_id, v_new, v_last, v_user_id, v_author);
  v_last := v_last + jsonb_array_length(v_new);
  if p_idempotency_key is not null or v_known <> '{}' then
    -- Where each message of the batch is: an item that was known keeps its place, the others have the last numbers.
    select coalesce(jsonb_agg(coalesce(m.known, v_last - jsonb_array_length(v_new) + m.new_before + 1) order by m.n), '[]')
    into v_sequences
    from (
      select
        (v_known ->> (m.value ->> 'item_id'))::integer as known,
        (m.n - 1 - count(v_known ->> (m.value ->> 'item_id')) over (order by m.n))::integer as new_before,
        m.n
      from jsonb_array_elements(p_messages) with ordinality as m (value, n)
    ) m;
    v_result := jsonb_build_object('sequences', v_sequences, 'last_sequence_order', v_last);
    perform private.keep_idempotent_result(v_user_id::text, p_scope, p_idempotency_key, v_result);
    if v_known <> '{}' then
      return private.append_result(p_conversation_id, v_result);
    end if;
  end if;
  return jsonb_build_object('messages', v_messages, 'last_sequence_order', v_last);
end;
$$;
comment on routine private.store_messages is
  'Appends a batch under the conversation''s row lock: all of it, contiguously, or nothing. p_scope is where p_idempotency_key '
  'counts. Answers as public.append_messages.';
revoke all on routine private.store_messages from public, anon, authenticated, service_role;


create function private.append_messages(
  p_conversation_id uuid, p_messages jsonb, p_expected_sequence integer, p_idempotency_key text, p_user_id uuid
) returns json
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id); -- store_messages asks nobody who has no claims
  v_last integer;
begin
  perform private.require_messages(p_messages);
  if jsonb_array_length(p_messages) > 500 then
    perform private.take_turn(v_user_id::text);
  end if;
  if p_idempotency_key is not null or jsonb_path_exists(p_messages, '$[*].item_id ? (@ != null)') then
    return private.store_messages(
      p_conversation_id, p_messages, p_expected_sequence, p_idempotency_key,
      'POST /conversations/' || p_conversation_id || '/messages', v_user_id
    )::json;
  end if;

  -- Nearly every append: there is nothing that may be known already. The row lock is the queue here, too.
  select c.last_sequence_order into v_last
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  for no key update skip locked;
  if not found then
    v_last := (private.lock_conversation(p_conversation_id, v_user_id)).last_sequence_order;
  end if;
  if v_last <> p_expected_sequence and p_messages <> '[]' then
    raise sqlstate 'PT409' using
      message = 'sequence_conflict',
      detail = format('The conversation is at %s, the request expected %s.', v_last, p_expected_sequence),
      hint = 'Load what is new, then append again.';
  end if;
  return json_build_object(
    'messages', private.insert_messages(
      p_conversation_id, p_messages, v_last, v_user_id,
      case when private.caller_role() = 'authenticated' then 'user' else 'service' end
    ),
    'last_sequence_order', v_last + jsonb_array_length(p_messages)
  );
end;
$$;
comment on routine private.append_messages is
  'Appends a batch: all of it, contiguously, or nothing. See public.append_messages.';


create function public.append_messages(
  p_conversation_id uuid,
  p_messages jsonb,
  p_expected_sequence integer default null,
  p_idempotency_key text default null,
  p_user_id uuid default null
) returns json
language plpgsql
set search_path = ''
as $$
begin
  return private.append_messages(p_conversation_id, p_messages, p_expected_sequence, p_idempotency_key, p_user_id);
end;
$$;
comment on routine public.append_messages is
  'Appends messages (a JSON array) to a conversation: contiguous and gapless, all or none. Answers {messages, '
  'last_sequence_order}. With p_expected_sequence it appends only if that is the last number, else PT409. A repeated '
  'p_idempotency_key answers as the first time, with replayed: true; a message whose item_id is known is not stored again.';
revoke all on routine private.append_messages, public.append_messages from public, anon, authenticated, service_role;
grant execute on routine private.append_messages, public.append_messages to authenticated, service_role;


create function private.number_message() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Without claims it is no API call but a session of the database's own: there the policy, or its absence, decides.
  v_conversation public.conversations := private.lock_conversation(
    new.conversation_id, case when private.caller_role() is not null then new.user_id end
  );
  v_next integer;
begin
  -- Rows before it in the statement are stored, and not counted yet.
  v_next := 1 + greatest(v_conversation.last_sequence_order, (
    select m.sequence_order
    from public.conversation_messages m
    where m.conversation_id = new.conversation_id
    order by m.sequence_order desc
    limit 1
  ));
  -- The same row again is skipped, or refused as a duplicate key.
  if not exists (select from public.conversation_messages m where m.id = new.id) then
    if new.item_id is not null
      and private.known_items(new.conversation_id, jsonb_build_array(to_jsonb(new))) <> '{}'
    then
      raise sqlstate 'PT409' using message = 'item_conflict', detail = 'A message has this item_id already.';
    end if;
    if new.sequence_order <> v_next then
      raise sqlstate 'PT409' using
        message = 'sequence_conflict',
        detail = format('The next message is %s, the insert says %s.', v_next, new.sequence_order),
        hint = 'Leave sequence_order out and the database assigns it.';
    end if;
  end if;
  new.sequence_order := v_next;
  new.user_id := coalesce(new.user_id, v_conversation.user_id);
  if tg_nargs > 0 then
    update public.conversations c set
      last_sequence_order = v_next,
      updated_at = greatest(c.updated_at, clock_timestamp())
    where c.id = new.conversation_id;
  end if;
  return new;
end;
$$;
comment on routine private.number_message is
  'Numbers a message that a client inserts through the REST API, under the conversation''s row lock. An explicit number '
  'is accepted if it is the next, else PT409 sequence_conflict.';
revoke all on routine private.number_message from public, anon, authenticated, service_role;

-- Rows that append_messages numbers itself, and a restore, are inserted by the owner and skip this:
-- one update for a batch instead of one for each row.
create trigger number_message before insert on public.conversation_messages
  for each row when (current_user in ('authenticated', 'service_role')) execute function private.number_message();
create trigger number_unnumbered_message before insert on public.conversation_messages
  for each row when (new.sequence_order is null and current_user not in ('authenticated', 'service_role'))
  execute function private.number_message('and count');


create function private.count_message() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.conversations c set
    last_sequence_order = new.sequence_order,
    updated_at = greatest(c.updated_at, clock_timestamp())
  where c.id = new.conversation_id;
  return null;
end;
$$;
comment on routine private.count_message is
  'Moves the counter to a message that private.number_message has numbered. Not before it is stored: "on conflict do nothing" may '
  'skip the row, which waits for whoever inserts the same id elsewhere, and the number would be missing.';
revoke all on routine private.count_message from public, anon, authenticated, service_role;

create trigger count_message after insert on public.conversation_messages
  for each row when (current_user in ('authenticated', 'service_role')) execute function private.count_message();

-- The context of a conversation: what of it fits a model, with its calls and their results together. What fits is decided in
-- context_fit.sql, what a message consists of in pieces.sql.

create type private.context_piece as (
  sequence_order integer,
  tokens bigint,
  bytes bigint,
  place integer,
  upto integer,
  kind text,
  key text,
  type text
);
comment on type private.context_piece is
  'A piece (private.piece) of a message, with what the message costs and its size as stored. Bodies stay behind: what is read '
  'beyond the budget costs no memory.';


create function private.read_context_pieces(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_pieces integer default null
) returns private.context_piece[]
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(array_agg(
      (p.sequence_order, p.tokens, p.bytes, p.place, p.upto, p.kind, p.key, p.type)::private.context_piece
      order by p.sequence_order, p.place
    ), '{}')
    from (
      select m.sequence_order, m.tokens, m.bytes, p.place, p.upto, p.kind, p.key, p.type
      from (
        -- Once for each message, however many pieces it has.
        select
          m as message, m.sequence_order, private.message_tokens(m) as tokens,
          coalesce(octet_length(m.content), 0) + coalesce(pg_column_size(m.parts), 0) + coalesce(pg_column_size(m.item), 0)
            + coalesce(pg_column_size(m.tool_calls), 0) + coalesce(pg_column_size(m.source), 0) as bytes
        from private.read_messages(p_conversation_id, p_after, p_before, p_limit, 'desc') m
        offset 0
      ) m
      cross join lateral private.pieces(m.message) p
      limit p_pieces
    ) p
  );
end;
$$;
comment on routine private.read_context_pieces is
  'The pieces of the newest p_limit messages that a conversation shows with p_after < sequence_order < p_before, in order; of '
  'more than p_pieces the newest, which may leave half of the oldest message. Checks nobody''s rights.';
revoke all on routine private.read_context_pieces from public, anon, authenticated, service_role;


create function private.newest_compaction(p_conversation_id uuid) returns integer
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select max(m.sequence_order)
    from private.lineage(p_conversation_id) l
    cross join lateral (
      select m.sequence_order
      from public.conversation_messages m
      where m.conversation_id = l.id and m.sequence_order <= l.upper and m.type = 'compaction'
      order by m.sequence_order desc
      limit 1
    ) m
  );
end;
$$;
comment on routine private.newest_compaction is
  'The number of the newest item that stands for everything before it, or null. Checks nobody''s rights.';
revoke all on routine private.newest_compaction from public, anon, authenticated, service_role;


create function private.last_user_message(p_conversation_id uuid, p_after integer, p_before integer, p_limit integer)
returns integer
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_chunk integer := 128;
  v_left integer := p_limit;
  v_before integer := p_before;
  v_read integer;
  v_lowest integer;
  v_found integer;
begin
  while v_left > 0 loop
    v_chunk := least(v_chunk, v_left);
    select
      count(*), min(m.sequence_order),
      max(m.sequence_order) filter (
        where m.role = 'user' and exists (select from private.pieces(m) p where p.kind = 'user')
      )
    into v_read, v_lowest, v_found
    from private.read_messages(p_conversation_id, p_after, v_before, v_chunk, 'desc') m;
    exit when v_found is not null or v_read < v_chunk;
    v_before := v_lowest;
    v_left := v_left - v_read;
    v_chunk := 2 * v_chunk;
  end loop;
  return v_found;
end;
$$;
comment on routine private.last_user_message is
  'The number of the last message in which a user says something, of the p_limit newest with p_after < sequence_order < '
  'p_before, or null. Checks nobody''s rights.';
revoke all on routine private.last_user_message from public, anon, authenticated, service_role;


create function private.get_context(
  p_conversation_id uuid, p_max_tokens integer, p_max_messages integer, p_explain boolean, p_begin text, p_user_id uuid,
  p_format text
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- As many of the first messages can lead. The newest are read in chunks, each twice as long as the one before.
  c_leading constant integer := 64;
  v_chunk integer := 16;
  -- Messages may be empty and cost next to nothing: what is older than this many, or these many pieces, is not looked at.
  c_messages constant integer := 10000;
  c_pieces constant integer := 20000;
  -- A worker has to hold the answer: an image of megabytes costs few tokens. The newest messages are in, whatever their size.
  c_bytes constant bigint := 8 * 1024 * 1024;
  v_user_id uuid := private.caller_id(p_user_id);
  v_tokens bigint := 0;
  v_count integer := 0;
  v_tokens_left bigint;
  v_messages_left bigint;
  v_after integer;
  v_messages jsonb := '[]';
  v_included jsonb := '[]';
  v_left_out jsonb := '[]';
  v_not_read integer := 0;
  v_summary public.conversation_messages;
  -- Where nobody could read the item, what it stands for is sent instead.
  v_compaction integer := case
    when not private.format_leaves_out('compaction', p_format) then private.newest_compaction(p_conversation_id)
  end;
  v_begin text := case when p_format in ('anthropic', 'gemini') then 'user' else p_begin end;
  v_user integer;
  v_read private.context_piece[];
  v_pieces private.context_piece[] := '{}';
  v_first integer := 2147483647;
  v_looked_at integer := 0;
  v_count_read integer;
  v_is_cut boolean;
  v_read_tokens bigint := 0;
  v_read_bytes bigint := 0;
  v_all boolean;
  v_fit record;
  v_part record;
  v_result jsonb;
begin
  if p_begin is null or p_begin not in ('any', 'user') then
    perform private.refuse('begin is neither any nor user.');
  end if;
  perform private.require_format(p_format);
  if p_max_tokens > 100000 then
    perform private.take_turn(v_user_id::text);
  end if;
  select 'system', 'conversation_summary', c.summary into v_summary.role, v_summary.name, v_summary.content
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  if v_summary.content <> '' then
    v_tokens := private.message_tokens(v_summary);
    v_count := 1;
    v_messages := jsonb_build_array(jsonb_build_object(
      'role', v_summary.role, 'content', v_summary.content, 'name', v_summary.name
    ));
    v_included := jsonb_build_array(jsonb_build_object('tokens', v_tokens, 'reason', 'summary'));
  end if;

  -- What always comes first: the instructions, and the item that stands for everything before it.
  select
    coalesce(max(m.sequence_order) filter (where m.reason = 'leading'), 0) as leading,
    count(*) as messages,
    coalesce(sum(private.message_tokens(m.message)), 0) as tokens,
    coalesce(jsonb_agg(private.context_message(m.message, null, p_format) order by m.sequence_order), '[]') as shown,
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'sequence_order', m.sequence_order, 'tokens', private.message_tokens(m.message), 'reason', m.reason
        )
        order by m.sequence_order
      ),
      '[]'
    ) as included
  into v_part
  from (
    select l.sequence_order, l.message, 'leading' as reason
    from (
      select
        m.sequence_order, m as message,
        bool_and(m.type = 'message' and m.role in ('system', 'developer')) over (order by m.sequence_order) as leads
      from private.read_messages(p_conversation_id, 0, 2147483647, c_leading, 'asc') m
    ) l
    where l.leads
    union all
    select m.sequence_order, m, 'compaction'
    from private.read_messages(p_conversation_id, v_compaction - 1, v_compaction + 1, 1, 'asc') m
  ) m;
  v_after := greatest(v_part.leading, v_compaction);
  v_tokens := v_tokens + v_part.tokens;
  v_count := v_count + v_part.messages;
  v_messages := v_messages || v_part.shown;
  v_included := v_included || v_part.included;
  v_tokens_left := coalesce(p_max_tokens, 2147483647) - v_tokens;
  v_messages_left := coalesce(p_max_messages, 2147483647) - v_count;
  if v_part.leading < v_compaction - 1 then
    v_not_read := v_compaction - 1 - v_part.leading;
    v_left_out := jsonb_build_array(
      jsonb_build_object('from', v_part.leading + 1, 'to', v_compaction - 1, 'reason', 'compacted')
    );
  end if;

  loop
    v_read := private.read_context_pieces(p_conversation_id, v_after, v_first, v_chunk, c_pieces - cardinality(v_pieces));
    v_is_cut := cardinality(v_read) = c_pieces - cardinality(v_pieces);
    if v_is_cut then
      v_read := array(select p from unnest(v_read) p where p.sequence_order > v_read[1].sequence_order);
    end if;
    select count(*), v_read_tokens + coalesce(sum(m.tokens), 0), v_read_bytes + coalesce(sum(m.bytes), 0)
    into v_count_read, v_read_tokens, v_read_bytes
    from (select distinct on (p.sequence_order) p.tokens, p.bytes from unnest(v_read) p order by p.sequence_order) m;
    v_all := v_count_read < v_chunk and not v_is_cut;
    v_first := coalesce(v_read[1].sequence_order, v_first);
    v_pieces := v_read || v_pieces;
    v_looked_at := v_looked_at + v_count_read;
    v_chunk := case when v_is_cut then 0 else least(2 * v_chunk, c_messages - v_looked_at) end;
    if v_chunk = 0 and not v_all then
      v_all := private.read_context_pieces(p_conversation_id, v_after, v_first, 1) = '{}';
    end if;
    -- Until the budget is read, there is no question what fits.
    continue when not v_all and v_chunk > 0 and v_read_tokens <= v_tokens_left and v_read_bytes <= c_bytes
      and v_looked_at <= v_messages_left;
    select * into v_fit
    from private.fit_context(
      v_pieces, v_first, v_all,
      v_tokens_left, v_messages_left, c_bytes, v_begin, p_explain, p_format
    );
    exit when v_all or v_chunk = 0 or v_fit.over;
  end loop;
  if not v_all and v_chunk > 0 and not v_fit.has_user then
    v_user := private.last_user_message(p_conversation_id, v_after, v_first, c_messages - v_looked_at);
    select * into v_fit
    from private.fit_context(
      private.read_context_pieces(p_conversation_id, v_user - 1, v_user + 1, 1) || v_pieces, v_first, v_all,
      v_tokens_left, v_messages_left, c_bytes, v_begin, p_explain, p_format
    );
  end if;

  if not v_fit.fits or v_tokens + v_fit.tokens > p_max_tokens or v_count > p_max_messages then
    raise sqlstate 'PT409' using
      message = 'budget_too_small',
      detail = format(
        'The newest turn and what always comes first need %s tokens in %s messages.',
        v_tokens + coalesce(v_fit.needed_tokens, 0), v_count + coalesce(v_fit.needed_messages, 0)
      ),
      hint = 'Raise max_tokens (or max_messages), or shorten the summary.';
  end if;
  v_tokens := v_tokens + v_fit.tokens;

  if v_fit.slices is not null then
    select
      jsonb_agg(private.context_message(m, s.places, p_format) order by s.n) as shown,
      case when p_explain then
        jsonb_agg(
          jsonb_build_object(
            'sequence_order', s.sequence_order, 'tokens', s.tokens,
            'reason', case when s.in_turn then 'newest_turn' else 'fits' end
          )
          order by s.n
        )
      end as included
    into v_part
    from unnest(v_fit.slices) with ordinality s (sequence_order, places, tokens, in_turn, n)
    join private.read_messages(
      p_conversation_id, (select min(s.sequence_order) - 1 from unnest(v_fit.slices) s), 2147483647, 2147483647, 'desc'
    ) m using (sequence_order);
    v_messages := v_messages || v_part.shown;
    v_included := v_included || v_part.included;
  end if;

  if not v_all then
    v_not_read := v_not_read + greatest(v_first - v_after - 1, 0) - (v_user is not null)::integer;
  end if;
  v_result := jsonb_build_object(
    'messages', v_messages, 'total_tokens', v_tokens, 'truncated', v_fit.truncated, 'left_out', v_not_read + v_fit.left_out
  );
  if p_explain then
    -- What was not read lies before the first that was, or between it and the user's message.
    if not v_all then
      if v_after < v_user - 1 then
        v_left_out := v_left_out || jsonb_build_object('from', v_after + 1, 'to', v_user - 1, 'reason', 'over_budget');
      end if;
      if v_fit.reasons -> 0 @> jsonb_build_object('from', v_first, 'reason', 'over_budget') then
        v_fit.reasons := jsonb_set(v_fit.reasons, '{0,from}', to_jsonb(coalesce(v_user, v_after) + 1));
      elsif coalesce(v_user, v_after) < v_first - 1 then
        v_left_out := v_left_out
          || jsonb_build_object('from', coalesce(v_user, v_after) + 1, 'to', v_first - 1, 'reason', 'over_budget');
      end if;
    end if;
    v_result := v_result || jsonb_build_object(
      'explain', jsonb_build_object('included', v_included, 'left_out', v_left_out || coalesce(v_fit.reasons, '[]'))
    );
  end if;
  return v_result;
end;
$$;
comment on routine private.get_context is 'See public.get_context.';


create function public.get_context(
  p_conversation_id uuid,
  p_max_tokens integer,
  p_max_messages integer default null,
  p_explain boolean default false,
  p_begin text default 'any',
  p_user_id uuid default null,
  p_format text default 'message'
) returns jsonb
language sql
stable
set search_path = ''
return private.get_context(p_conversation_id, p_max_tokens, p_max_messages, p_explain, p_begin, p_user_id, p_format);
comment on routine public.get_context is
  'What of a conversation fits a model: the summary as a system message named conversation_summary, the leading system and '
  'developer messages, the newest compaction item, which stands for what is before it, then the newest messages. Results are '
  'directly behind their call; a call or a result without the other is left out, and so is what says nothing. A context that '
  'is cut begins with a user''s message, with p_begin user every one does. Never more than p_max_tokens '
  '(private.message_tokens counts) or p_max_messages. A turn that does not fit keeps its user''s message and the newest that '
  'does, else PT409 budget_too_small. Answers {messages, total_tokens, truncated, left_out}, left_out being how many messages '
  'are not in it or only in part, and with p_explain explain: {included, left_out}. p_format is what the messages will be '
  'converted to: what that API cannot take (private.format_leaves_out) is left out, and the compaction item stands for nothing '
  'where it is; for anthropic and gemini it begins with a user''s message.';
revoke all on routine private.get_context, public.get_context from public, anon, authenticated, service_role;
grant execute on routine private.get_context, public.get_context to authenticated, service_role;

-- What of a conversation fits: which pieces belong together, in which order they are sent, and where the context begins.

create type private.context_slice as (sequence_order integer, places int4multirange, tokens bigint, in_turn boolean);
comment on type private.context_slice is
  'What a context shows of a message at one place: the whole message (places null), or some of its pieces. tokens is what it '
  'costs, 0 where another slice has been charged for the message.';


create function private.fit_context(
  p_pieces private.context_piece[],
  p_first integer,
  p_all boolean,
  p_tokens bigint,
  p_messages bigint,
  p_bytes bigint,
  p_begin text,
  p_explain boolean,
  p_format text,
  out over boolean,
  out has_user boolean,
  out fits boolean,
  out needed_tokens bigint,
  out needed_messages bigint,
  out slices private.context_slice[],
  out tokens bigint,
  out truncated boolean,
  out left_out integer,
  out reasons jsonb
)
language plpgsql
stable
set search_path = ''
-- An array in a from clause is planned as ten rows, and nested loops over ten thousand would take seconds.
set enable_nestloop = off
-- Planning and compiling take longer than the query, whatever a plan with a switched-off join is said to cost.
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  -- A result this many numbers after its call has lost it.
  c_reach constant integer := 256;
begin
  with pieces as (
    select p.*, p.type is not null and private.format_leaves_out(p.type, p_format) as is_out
    from unnest(p_pieces) with ordinality p (sequence_order, tokens, bytes, place, upto, kind, key, type, n)
  ),
  -- Every result belongs to the nearest message before it that makes the call: some providers use their ids again. An id is one
  -- call however often a message says it; calls that have only a name are answered one after the other.
  keyed as (
    select
      p.n, p.sequence_order, p.kind, p.key,
      case when p.key ^@ 'name ' then row_number() over (partition by p.key, p.sequence_order, p.kind order by p.n) else 1 end as nth,
      max(p.sequence_order) filter (where p.kind = 'call') over (partition by p.key order by p.n) as call_row
    from pieces p
    where p.key is not null and not p.is_out
  ),
  results as (
    -- A second answer to the same call is refused by some APIs.
    select k.n, k.key, k.sequence_order, k.call_row, row_number() over (partition by k.key, k.call_row order by k.n) as nth
    from keyed k
    where k.kind = 'result' and k.sequence_order - k.call_row <= c_reach
  ),
  pairs as (
    select c.n as call, r.n as result, c.sequence_order <> r.sequence_order as is_apart
    from results r
    join keyed c on c.kind = 'call' and c.key = r.key and c.sequence_order = r.call_row and c.nth = r.nth
  ),
  paired as (
    select
      p.*, r.call,
      coalesce(r.is_apart, p.kind = 'result') as is_apart,
      case p.kind when 'call' then c.call is not null when 'result' then r.result is not null else p.kind <> 'empty' end as usable
    from pieces p
    left join (select distinct t.call from pairs t) c on c.call = p.n
    left join (select t.result, min(t.call) as call, bool_or(t.is_apart) as is_apart from pairs t group by t.result) r
      on r.result = p.n
  ),
  -- Reasoning, and what the model did upon it: up to the next reasoning, or what is not the model's.
  stretches as (
    select p.*, count(*) filter (where p.begins) over (order by p.n) as stretch
    from (
      select
        p.*,
        p.kind in ('user', 'system', 'compaction') or p.is_apart
          or p.kind = 'reasoning' and lag(p.kind) over (order by p.n) is distinct from 'reasoning' as begins
      from paired p
      where p.kind <> 'empty' and not p.is_out
    ) p
  ),
  judged as (
    select
      s.n, s.sequence_order, s.tokens, s.bytes, s.place, s.upto, s.kind, s.is_apart, s.call, s.stretch,
      s.kind not in ('user', 'system', 'compaction') and not s.is_apart as is_models
    from (
      select
        s.*,
        case s.kind
          when 'reasoning' then bool_or(s.usable and s.kind in ('model', 'call')) over (partition by s.stretch)
          else s.usable
        end as stays
      from stretches s
    ) s
    where s.stays
  ),
  -- Groups, to be shown whole or not at all: reasoning and what followed from it; calls that were made at once, with their
  -- results; or one message.
  begun as (
    select
      j.*,
      lag(j.is_models) over (order by j.n) is not true
        or j.sequence_order <> lag(j.sequence_order) over (order by j.n) and case
          when lag(j.row_calls) over (order by j.n) then not j.row_only_calls
          else not (j.reasoned and j.stretch = lag(j.stretch) over (order by j.n))
        end as begins
    from (
      select
        j.*,
        bool_or(j.kind = 'call') over (partition by j.sequence_order) as row_calls,
        bool_and(j.kind = 'call') over (partition by j.sequence_order) as row_only_calls,
        bool_or(j.kind = 'reasoning') over (partition by j.stretch) as reasoned
      from judged j
    ) j
  ),
  grouped as (
    select
      b.*,
      case
        when b.is_apart then null
        when b.is_models then max(b.n) filter (where b.is_models and b.begins) over (order by b.n)
        else min(b.n) filter (where not b.is_apart) over (partition by b.sequence_order, b.kind)
      end as own_group
    from begun b
  ),
  -- Results stand directly behind the calls.
  placed as (
    select
      g.*, coalesce(g.own_group, c.own_group) as group_n,
      row_number() over (order by coalesce(g.own_group, c.own_group), g.is_apart, g.n) as r
    from grouped g
    left join grouped c on g.is_apart and c.n = g.call
  ),
  -- A message is charged once, where it is newest.
  charged as (
    select
      p.*,
      case when p.r = max(p.r) over of_message then p.tokens else 0 end as charge,
      case when p.r = max(p.r) over of_message then p.bytes else 0 end as weight,
      (lag(p.n) over (order by p.r) < p.n and lag(p.sequence_order) over (order by p.r) = p.sequence_order) is not true as begins_slice
    from placed p
    window of_message as (partition by p.sequence_order)
  ),
  summed as (
    select
      c.*,
      sum(c.charge) over newest_first as tokens_from,
      sum(c.weight) over newest_first as bytes_from,
      count(*) filter (where c.begins_slice) over newest_first + (not c.begins_slice)::integer as messages_from,
      sum(c.charge) over of_group as group_tokens,
      sum(c.weight) over of_group as group_bytes,
      min(c.r) over of_group as group_first,
      max(c.r) over of_group as group_last
    from charged c
    window newest_first as (order by c.r desc), of_group as (partition by c.group_n)
  ),
  -- Where a context may begin. The first group that was read may begin further back, unless it is one message.
  starts as (
    select
      s.*,
      s.kind = 'user' as is_user,
      s.tokens_from <= p_tokens and s.messages_from <= p_messages as affordable,
      p_all or not s.is_models or s.r > (select min(f.r) from summed f where f.sequence_order >= p_first) as known
    from summed s
    where s.r = s.group_first
  ),
  turn as (
    select s.* from starts s where s.is_user order by s.r desc limit 1
  ),
  latest as (
    select s.* from starts s order by s.r desc limit 1
  ),
  -- From a user's message on, or from the very first.
  whole as (
    select min(s.r) as r
    from starts s
    where s.known and s.affordable and s.bytes_from <= p_bytes
      and case
        when s.is_user then true
        when p_begin = 'user' then false
        when exists (select from turn) then p_all and s.r = 1
        else true
      end
  ),
  -- A turn that does not fit is its user's message and the newest groups that do: the last one whatever its size.
  tail as (
    select coalesce(
      min(s.r) filter (where s.bytes_from + t.group_bytes <= p_bytes),
      max(s.r) filter (where s.r = (select l.r from latest l))
    ) as r
    from turn t
    join starts s on s.r > t.r and s.known
      and s.tokens_from + t.group_tokens <= p_tokens and s.messages_from + 1 <= p_messages
  ),
  decided as (
    select
      t.r as user_r, t.group_last as user_last,
      coalesce(
        w.r, i.r,
        case when l.affordable and (l.r = t.r or t.r is null and p_begin = 'any') then l.r end
      ) as cut,
      o.is_empty,
      case when o.is_empty then 0 else l.tokens_from + case when l.r > t.r then t.group_tokens else 0 end end as needed_tokens,
      case when o.is_empty then 0 else l.messages_from + case when l.r > t.r then 1 else 0 end end as needed_messages
    from (
      select not exists (select from starts) or p_begin = 'user' and not exists (select from turn) as is_empty
    ) o
    left join turn t on true
    left join latest l on true
    left join whole w on true
    left join tail i on w.r is null
  ),
  chosen as (
    select
      s.n, s.r, s.sequence_order, s.place, s.upto, s.charge, coalesce(s.r >= d.user_r, false) as in_turn,
      -- Also where what stood between is left out.
      s.begins_slice or s.r = d.cut as begins_slice
    from summed s
    join decided d on s.r >= d.cut or d.cut > d.user_r and s.r between d.user_r and d.user_last
  ),
  counted as (
    select
      p.sequence_order, count(*) as pieces, count(c.n) as chosen
    from pieces p
    left join chosen c on c.n = p.n
    group by p.sequence_order
  ),
  sliced as (
    select
      c.slice, min(c.sequence_order) as sequence_order, sum(c.charge)::bigint as tokens, bool_or(c.in_turn) as in_turn,
      case when count(*) < min(a.pieces) then range_agg(int4range(c.place, c.upto, '[]')) end as places
    from (select c.*, count(*) filter (where c.begins_slice) over (order by c.r) as slice from chosen c) c
    join counted a using (sequence_order)
    group by c.slice
  ),
  -- What is not shown, message by message. What lies where the budget ends is over it, whatever else it is.
  missing as (
    select
      p.sequence_order,
      dense_rank() over (order by p.sequence_order) as nth,
      case
        when bool_or(s.n is not null and c.n is null and s.r < f.user_first) then 'before_user'
        when bool_or(s.n is not null and c.n is null) or p.sequence_order < f.first and f.is_cut
          or p.sequence_order > f.gap_from and p.sequence_order < f.gap_to then 'over_budget'
        when bool_and(p.kind = 'empty') then 'empty'
        when bool_or(c.n is null and not p.is_out) then 'unpaired'
        when bool_or(p.is_out) then 'format'
      end as reason,
      bool_or(c.n is not null) as in_part
    from pieces p
    cross join (
      select
        min(c.sequence_order) as first,
        max(c.sequence_order) filter (where d.cut > d.user_r and c.r <= d.user_last) as gap_from,
        min(c.sequence_order) filter (where d.cut > d.user_r and c.r >= d.cut) as gap_to,
        not p_all or exists (select from summed s where s.r < min(c.r)) as is_cut,
        -- Nothing but the rule keeps these out.
        case when p_all and p_begin = 'user' then
          coalesce((select min(u.r) from starts u where u.is_user), 2147483647)
        end as user_first
      from decided d
      left join chosen c on true
    ) f
    left join summed s on s.n = p.n
    left join chosen c on c.n = p.n
    where p_explain
    group by p.sequence_order, f.first, f.is_cut, f.gap_from, f.gap_to
  )
  select
    coalesce((select bool_or(not s.affordable or s.bytes_from > p_bytes) from starts s where s.known), false),
    d.user_r is not null,
    d.is_empty or d.cut is not null,
    d.needed_tokens, d.needed_messages,
    (select array_agg((s.sequence_order, s.places, s.tokens, s.in_turn)::private.context_slice order by s.slice) from sliced s),
    coalesce((select sum(c.charge) from chosen c), 0),
    not p_all or exists (select from summed s where s.n not in (select c.n from chosen c)),
    (select count(*) from counted c where c.chosen < c.pieces),
    (
      select jsonb_agg(
        jsonb_build_object('from', r.lower, 'to', r.upper, 'reason', r.reason)
          || case when r.in_part then '{"in_part": true}' else '{}'::jsonb end
        order by r.lower
      )
      from (
        select min(m.sequence_order) as lower, max(m.sequence_order) as upper, m.reason, m.in_part
        from (
          select m.*, m.nth - row_number() over (partition by m.reason, m.in_part order by m.nth) as island from missing m
          where m.reason is not null
        ) m
        group by m.reason, m.in_part, m.island
      ) r
    )
  into over, has_user, fits, needed_tokens, needed_messages, slices, tokens, truncated, left_out, reasons
  from decided d;
end;
$$;
comment on routine private.fit_context is
  'What of these pieces fits into p_tokens and p_messages, and into p_bytes where it is more than the least. They are those of the newest messages of a conversation, from number '
  'p_first on, and of its last user message where that is older; p_all: there are no others. over: older messages cannot '
  'change the answer, except the last user message (has_user: it is there). Unless it fits, needed_ is what the least would '
  'need. p_begin any: a context that is cut begins with a user message; user: every one does. What p_format leaves out is '
  'not there for anything else. left_out: how many of their messages are not in, or in part; reasons: which, and why.';
revoke all on routine private.fit_context from public, anon, authenticated, service_role;

-- What a message is in a context: its tokens, and what of it is shown.

create function private.is_whole_item(p_message public.conversation_messages) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return p_message.item is not null and (
    p_message.type <> 'message'
    or num_nonnulls(p_message.content, p_message.parts, p_message.function_call, p_message.tool_calls) = 0
  );
end;
$$;
comment on routine private.is_whole_item is
  'Whether the column item is the message. If not, it is what the other columns leave out of an item, or null.';
revoke all on routine private.is_whole_item from public, anon, authenticated, service_role;


create function private.message_tokens(p_message public.conversation_messages) returns bigint
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- OpenAI: 85 for an image in low detail, 765 for one of a megapixel; Anthropic: up to 1,600.
  c_image constant integer := 1000;
  c_low_detail constant integer := 85;
  v_text text := '';
  v_json text;
  v_blobs bigint := 0;
  v_images bigint := 0;
  v_low bigint := 0;
  v_media bigint := 0;
begin
  if p_message.token_count is not null then
    return p_message.token_count;
  end if;
  if p_message.item is not null and private.is_whole_item(p_message) then
    -- An item is all that a model gets of its message.
    v_json := p_message.item::text;
  else
    v_text := coalesce(p_message.content, '') || coalesce(p_message.name, '');
    v_json := coalesce(p_message.parts::text, '') || coalesce(p_message.function_call::text, '')
      || coalesce(p_message.tool_calls::text, '');
  end if;
  v_text := v_text || v_json;
  if octet_length(v_json) > 200 then
    -- What is taken off is ASCII: a byte a character. One regular expression for all of it took twenty times as long.
    select count(*), coalesce(sum(octet_length(s.value)), 0) into v_blobs, v_media
    from unnest(string_to_array(v_json, '"')) s (value)
    where octet_length(s.value) >= 200 and s.value ~ '^(data:[!-~]*|[A-Za-z0-9+/=_-]*)$';
  end if;
  if v_json <> '' then
    -- An image that is linked or uploaded has no bytes to count. In JSON as Postgres prints it no text can look like this.
    v_images := greatest(
      private.occurrences(v_json, '"type": "image') + private.occurrences(v_json, '"type": "input_image"')
        + private.occurrences(v_json, '"type": "computer_screenshot"') - private.occurrences(v_json, '"type": "image_generation_call"'),
      private.occurrences(v_json, '"mediaType": "image/') + private.occurrences(v_json, '"mimeType": "image/')
    ) - v_blobs;
    v_low := least(greatest(v_images, 0), private.occurrences(v_json, '"detail": "low"'));
    v_images := greatest(v_images, 0) - v_low;
  end if;
  return 4 + (3 * octet_length(v_text)::bigint - char_length(v_text) - 2 * v_media + 7) / 8
    + c_image * (v_blobs + v_images) + c_low_detail * v_low;
end;
$$;
comment on routine private.message_tokens is
  'What a message costs: its token_count, or else 4 + ceil((3 * bytes - characters) / 8) over content, name, parts, '
  'function_call and tool_calls, or over the item alone where there is one. That is a token for 4 ASCII characters and '
  'for each Chinese, Japanese or Korean one. JSON counts as Postgres prints it, except that a string of 200 characters '
  'or more which is a data: URL or base64 counts 1,000, about an image. An image that is linked or uploaded counts 1,000 '
  'more than its address, in low detail 85.';
revoke all on routine private.message_tokens from public, anon, authenticated, service_role;


create function private.occurrences(p_text text, p_of text) returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- Most texts have none, and replace() copies.
  return case when strpos(p_text, p_of) = 0 then 0
    else (octet_length(p_text) - octet_length(replace(p_text, p_of, ''))) / octet_length(p_of) end;
end;
$$;
comment on routine private.occurrences is 'How often a text has another in it.';
revoke all on routine private.occurrences from public, anon, authenticated, service_role;


create function private.context_message(
  p_message public.conversation_messages, p_places int4multirange, p_format text
) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_message public.conversation_messages := p_message;
  v_item jsonb := case when p_message.item is not null and private.is_whole_item(p_message) then p_message.item end;
  v_parts integer;
begin
  if p_message.role is distinct from 'assistant' then
    v_message.function_call := null;
    v_message.tool_calls := null;
  end if;
  if p_places is not null then
    v_parts := coalesce(jsonb_array_length(p_message.parts), 0);
    if not 0 <@ p_places then
      v_message.content := null;
    end if;
    if not v_parts + 1 <@ p_places then
      v_message.function_call := null;
    end if;
    v_message.parts := (
      select jsonb_agg(p.value order by p.n)
      from jsonb_array_elements(p_message.parts) with ordinality p (value, n)
      where p.n::integer <@ p_places
    );
    v_message.tool_calls := (
      select jsonb_agg(c.value order by c.n)
      from jsonb_array_elements(v_message.tool_calls) with ordinality c (value, n)
      where v_parts + 1 + c.n::integer <@ p_places
    );
  end if;
  v_message.tool_calls := nullif(v_message.tool_calls, '[]');

  return jsonb_build_object(
    'type', v_message.type,
    'role', v_message.role,
    -- Null only where something else carries the message: an API takes no other null.
    'content', coalesce(
      v_message.content,
      case when num_nonnulls(v_message.parts, v_message.function_call, v_message.tool_calls, v_item) = 0 then '' end
    ),
    'parts', v_message.parts,
    'name', v_message.name,
    'function_call', v_message.function_call,
    'tool_calls', v_message.tool_calls,
    'tool_call_id', v_message.tool_call_id,
    'item_id', v_message.item_id,
    'item', v_item,
    'author', v_message.author,
    'sequence_order', v_message.sequence_order
  ) - array[
    case when v_message.type = 'message' then 'type' end,
    case when v_message.role is null then 'role' end,
    case when v_message.parts is null then 'parts' end,
    case when v_message.name is null then 'name' end,
    case when v_message.function_call is null then 'function_call' end,
    case when v_message.tool_calls is null then 'tool_calls' end,
    case when v_message.tool_call_id is null then 'tool_call_id' end,
    case when v_message.item_id is null then 'item_id' end,
    case when v_item is null then 'item' end
  ] || case
    when p_format = 'message' then '{}'
    else jsonb_strip_nulls(jsonb_build_object(
      'status', nullif(v_message.status, 'complete'), 'model', v_message.model
    )) || case when p_places is null and v_message.source is not null then jsonb_build_object('source', v_message.source) else '{}' end
  end;
end;
$$;
comment on routine private.context_message is
  'A message, or only what of it is at p_places (private.pieces), as a model needs it, with author and sequence_order. Fields '
  'that are null are left out, except content. For what converts it to a format of another API also its model, its status unless '
  'it is complete, and the source of a whole message.';
revoke all on routine private.context_message from public, anon, authenticated, service_role;

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

-- Deletion in pieces: what is deleted is gone at once, and its messages follow, a bounded number at a time.

create table private.prune_queue (
  conversation_id uuid not null,
  user_id uuid not null,
  failed_at timestamptz,
  error text,
  constraint prune_queue_pkey primary key (conversation_id),
  constraint prune_queue_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade
);

create index idx_prune_queue_user_id on private.prune_queue (user_id, conversation_id);
create index idx_prune_queue_failed_at on private.prune_queue (failed_at nulls first, conversation_id);

comment on table private.prune_queue is
  'Conversations of which something may be left that nothing shows. Who deletes removes up to 10,000 messages himself; '
  'private.prune_queue_step removes the rest.';
comment on column private.prune_queue.failed_at is
  'When it could not be removed; null when nobody has failed. Its turn comes again after all others''.';
comment on column private.prune_queue.error is
  'The SQLSTATE of that, and the constraint if it was one: "23503 bookmarks_fkey" is a table of the host''s that refers to the '
  'conversation.';

select private.close_table('private.prune_queue', '{failed_at}');


create function private.shows_itself(p_conversation_id uuid) returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_conversation public.conversations;
begin
  select * into v_conversation from public.conversations c where c.id = p_conversation_id;
  if v_conversation.deleted_at is not null or to_regclass('private.response_conversations') is null then
    return v_conversation.deleted_at is null;
  end if;
  return not exists (
    select
    from private.response_conversations r
    where r.user_id = v_conversation.user_id
      and r.conversation_id = v_conversation.id
      and r.last_sequence_order = v_conversation.last_sequence_order
  );
end;
$$;
comment on routine private.shows_itself is
  'Whether a conversation keeps its messages by itself. A deleted one does not, nor one that responses have made, unless '
  'somebody made it their own: wrote on, or gave it a title, a summary, a video, metadata or a pin.';
revoke all on routine private.shows_itself from public, anon, authenticated, service_role;


create function private.remove_messages(
  p_conversation_ids uuid[], p_above integer, p_limit integer, out removed integer, out complete boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- What is stored aside is removed in chunks of 2 kB: this is 32,000 of them, and takes about as long as 10,000 rows.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_count integer;
  v_ctids tid[];
begin
  select count(*), array_agg(s.ctid) filter (where s.n <= p_limit and s.before < c_bytes)
  into v_count, v_ctids
  from (
    select
      m.ctid,
      row_number() over (rows unbounded preceding) as n,
      sum(m.bytes) over (rows unbounded preceding) - m.bytes as before
    from unnest(p_conversation_ids) c (id)
    cross join lateral (
      -- Each column: the size of a row would be known only with everything read that is stored aside.
      select
        m.ctid,
        coalesce(pg_column_size(m.content), 0) + coalesce(pg_column_size(m.parts), 0)
          + coalesce(pg_column_size(m.function_call), 0) + coalesce(pg_column_size(m.tool_calls), 0)
          + coalesce(pg_column_size(m.item), 0) + coalesce(pg_column_size(m.source), 0)
          + coalesce(pg_column_size(m.usage), 0) + pg_column_size(m.metadata) as bytes
      from public.conversation_messages m
      where m.conversation_id = c.id and m.sequence_order > p_above
      order by m.sequence_order desc
      limit p_limit + 1
    ) m
    limit p_limit + 1
  ) s;
  complete := v_count = coalesce(cardinality(v_ctids), 0);
  if complete then
    -- By the index. For thousands of row ids the planner may read the whole table.
    delete from public.conversation_messages m
    where m.conversation_id = any (p_conversation_ids) and m.sequence_order > p_above;
  else
    delete from public.conversation_messages m where m.ctid = any (v_ctids);
  end if;
  get diagnostics removed = row_count;
  delete from private.search_filters f
  where f.conversation_id = any (p_conversation_ids) and f.block::bigint * 64 >= p_above;
  if p_above > 0 then
    perform private.forget_words(c.id, p_above) from unnest(p_conversation_ids) c (id);
  end if;
end;
$$;
comment on routine private.remove_messages is
  'Removes messages whose number is above p_above from conversations that the caller has locked: at most p_limit, and no '
  'more after 64 MiB. complete: these were all. Checks nobody''s rights.';
revoke all on routine private.remove_messages from public, anon, authenticated, service_role;


create function private.prune_conversation(p_conversation_id uuid, p_limit integer, p_wait boolean default true)
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_id uuid := p_conversation_id;
  v_user_id uuid;
  v_parent_id uuid;
  v_deleted_at timestamptz;
  v_shown integer;
  v_answered integer;
  v_removed bigint := 0;
  v_piece record;
  v_until constant timestamptz := clock_timestamp() + interval '1 second';
begin
  loop
    -- Lock first, judge afterwards: a fork that is being made holds a key share lock here, and a parent that another
    -- transaction is deleting looks alive until that has committed.
    if p_wait then
      select c.user_id, c.parent_id, c.deleted_at into v_user_id, v_parent_id, v_deleted_at
      from public.conversations c
      where c.id = v_id
      for update;
    else
      select c.user_id, c.parent_id, c.deleted_at into v_user_id, v_parent_id, v_deleted_at
      from public.conversations c
      where c.id = v_id
      for update skip locked;
    end if;
    exit when not found;
    if private.shows_itself(v_id) then
      delete from private.prune_queue q where q.conversation_id = v_id;
      exit;
    end if;

    select max(c.fork_sequence) into v_shown from public.conversations c where c.parent_id = v_id;
    if to_regclass('private.response_conversations') is not null then
      select max(s.sequence_order) into v_answered
      from public.conversation_states s
      where s.user_id = v_user_id and s.conversation_id = v_id;
      v_shown := greatest(v_shown, v_answered);
    end if;
    -- Of a conversation that responses have made and none is left of, only what forks show, and nobody finds it.
    if v_deleted_at is null and v_answered is null then
      perform private.hide_conversations(array[v_id]);
    end if;

    -- Forks and responses always lie above their conversation's own fork, so what that shares with its ancestors stays
    -- shown.
    v_piece := private.remove_messages(array[v_id], coalesce(v_shown, 0), (p_limit - v_removed)::integer);
    v_removed := v_removed + v_piece.removed;
    if not v_piece.complete or v_removed >= p_limit or clock_timestamp() > v_until then
      insert into private.prune_queue (conversation_id, user_id) values (v_id, v_user_id) on conflict do nothing;
      exit;
    end if;

    if v_shown is not null then
      delete from private.prune_queue q where q.conversation_id = v_id;
      exit;
    end if;
    -- Not without its parent, whose turn would never come: not even the queue takes what somebody else has locked.
    if not p_wait and v_parent_id is not null then
      perform from public.conversations c where c.id = v_parent_id for update skip locked;
      if not found then
        insert into private.prune_queue (conversation_id, user_id) values (v_id, v_user_id) on conflict do nothing;
        exit;
      end if;
    end if;
    delete from public.conversations c where c.id = v_id;
    exit when v_parent_id is null;
    v_id := v_parent_id;
  end loop;
  return v_removed;
end;
$$;
comment on routine private.prune_conversation is
  'Removes what nothing shows any more: a conversation that does not show itself and has neither forks nor responses, '
  'then its parent if that is one too, and so on upwards; of one that has some, the messages above the highest they show. '
  'At most p_limit messages, which are counted in the answer, 64 MiB of a conversation and about a second: where that is '
  'too little, or where a conversation is locked and p_wait is false, private.prune_queue has the rest.';
revoke all on routine private.prune_conversation from public, anon, authenticated, service_role;


create function private.prune_lineage(p_conversation_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- A second at the most: a request has eight.
  perform private.prune_conversation(p_conversation_id, 10000);
end;
$$;
comment on routine private.prune_lineage is
  'private.prune_conversation for a request: at once, as far as that goes in about a second.';
revoke all on routine private.prune_lineage from public, anon, authenticated, service_role;


create function private.tombstone_columns() returns text[]
language sql
immutable
set search_path = ''
return array[
  -- Who it is, and what its forks share.
  'id', 'user_id', 'parent_id', 'fork_sequence', 'last_sequence_order',
  -- An export pages by created_at, and an import keeps both.
  'created_at', 'updated_at',
  -- That it is one.
  'deleted_at'
];
comment on routine private.tombstone_columns is
  'What is left of a deleted conversation that a living fork still shows: these columns. All others are cleared.';
revoke all on routine private.tombstone_columns from public, anon, authenticated, service_role;


create function private.hide_conversations(p_ids uuid[]) returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_hidden integer;
begin
  execute format(
    $sql$
      with hidden as (
        update public.conversations c set deleted_at = now(), %s
        where c.id = any ($1) and c.deleted_at is null
        returning c.id, c.user_id
      ),
      queued as (
        insert into private.prune_queue (conversation_id, user_id)
        select h.id, h.user_id from hidden h
        on conflict do nothing
      ),
      -- Of the chat that it came from nothing is known any more, either.
      forgotten as (
        delete from private.import_sources s
        using hidden h
        where s.user_id = h.user_id and s.conversation_id = h.id
      )
      select count(*) from hidden
    $sql$,
    -- Default is null where a column says none.
    (
      select string_agg(format('%I = default', name), ', ')
      from unnest(private.columns_of('public.conversations', private.tombstone_columns())) name
    )
  )
  into v_hidden
  using p_ids;
  return v_hidden;
end;
$$;
comment on routine private.hide_conversations is
  'Deletes conversations for everybody who asks; private.drain_prune_queue then removes what is '
  'left of them. Answers how many there were. Checks nobody''s rights.';
revoke all on routine private.hide_conversations from public, anon, authenticated, service_role;


create function private.drain_prune_queue(
  p_limit integer, p_user_id uuid default null, out messages bigint, out progress boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_from constant uuid := gen_random_uuid();
  v_ids uuid[];
  v_id uuid;
  v_constraint text;
  v_until constant timestamptz := clock_timestamp() + interval '1 second';
begin
  messages := 0;
  if p_user_id is null then
    -- A few of each of some users, every time of others: however much one of them has deleted, all have their turn.
    with recursive owners as (
      select coalesce(
        (select q.user_id from private.prune_queue q where q.user_id >= v_from order by q.user_id limit 1),
        (select q.user_id from private.prune_queue q order by q.user_id limit 1)
      ) as user_id
      union all
      select (select q.user_id from private.prune_queue q where q.user_id > o.user_id order by q.user_id limit 1)
      from owners o
      where o.user_id is not null
    )
    select array_agg(t.conversation_id order by t.n, random()) into v_ids
    from (
      select q.conversation_id, row_number() over (partition by o.user_id) as n
      from (select o.user_id from owners o limit 20) o
      cross join lateral (
        select q.conversation_id
        from private.prune_queue q
        where q.user_id = o.user_id and q.failed_at is null
        limit 10
        for update skip locked
      ) q
    ) t;
  end if;
  if v_ids is null then
    v_ids := array(
      select q.conversation_id
      from private.prune_queue q
      where (p_user_id is null or q.user_id = p_user_id)
        and (q.failed_at is null or q.failed_at < statement_timestamp())
      order by q.failed_at nulls first, q.conversation_id
      limit 200
      for update skip locked
    );
  end if;
  begin
    foreach v_id in array v_ids loop
      exit when messages >= p_limit or clock_timestamp() > v_until;
      messages := messages + private.prune_conversation(v_id, p_limit - messages::integer, false);
    end loop;
  exception
    when others then
      -- The others come again without this one. Never the message: it may have content in it.
      get stacked diagnostics v_constraint = constraint_name;
      update private.prune_queue q set
        failed_at = clock_timestamp(), error = concat_ws(' ', sqlstate, nullif(v_constraint, ''))
      where q.conversation_id = v_id;
      messages := 0;
      progress := true;
      return;
  end;
  -- What somebody holds stays in the queue: asking again at once would not help.
  progress := messages > 0 or cardinality(v_ids) > (
    select count(*) from private.prune_queue q where q.conversation_id = any (v_ids)
  );
end;
$$;
comment on routine private.drain_prune_queue is
  'Removes at most p_limit messages of at most 200 conversations in private.prune_queue, of one user or of all, for about a '
  'second. It waits for nobody''s lock. What fails stays, with the error, until the next run. messages: how many went; '
  'progress: whether another call may find more to do.';
revoke all on routine private.drain_prune_queue from public, anon, authenticated, service_role;


create function private.prune_queue_step() returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- Retention empties the queue as it fills it, and takes turns with who writes: both at once would be twice the load.
  if private.retention_is_running() or not private.begin_step('private.prune_queue_step') then
    return false;
  end if;
  delete from private.deleted_messages d
  where d.ctid = any (array(
    select d.ctid
    from private.deleted_messages d
    where d.deleted_at < now() - interval '1 day'
    order by d.deleted_at
    limit 5000
    for update skip locked
  ));
  return (private.drain_prune_queue(5000)).progress;
end;
$$;
comment on routine private.prune_queue_step is
  'Removes up to 5,000 messages that deletions have left behind, and forgets where 5,000 stood that were deleted more than a day '
  'ago. True while there may be more to do.';
revoke all on routine private.prune_queue_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-prune-queue', '* * * * *', 'private.prune_queue_step()');


create function private.delete_conversation(p_conversation_id uuid, p_user_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform private.lock_conversation(p_conversation_id, p_user_id);
  perform private.hide_conversations(array[p_conversation_id]);
  perform private.prune_lineage(p_conversation_id);
end;
$$;
comment on routine private.delete_conversation is 'See public.delete_conversation.';


create function public.delete_conversation(p_conversation_id uuid, p_user_id uuid default null) returns void
language sql
set search_path = ''
return private.delete_conversation(p_conversation_id, p_user_id);
comment on routine public.delete_conversation is
  'Deletes a conversation and its messages, except those that living forks still show.';
revoke all on routine private.delete_conversation, public.delete_conversation
  from public, anon, authenticated, service_role;
grant execute on routine private.delete_conversation, public.delete_conversation to authenticated, service_role;


create table private.deleted_messages (
  user_id uuid not null,
  conversation_id uuid not null,
  message_id uuid not null,
  sequence_order integer not null,
  item_id text,
  deleted_at timestamptz not null default now(),
  constraint deleted_messages_pkey primary key (user_id, conversation_id, message_id),
  constraint deleted_messages_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade
);

create index idx_deleted_messages_item_id
  on private.deleted_messages (user_id, conversation_id, item_id) where item_id is not null;
create index idx_deleted_messages_deleted_at on private.deleted_messages (deleted_at);

comment on table private.deleted_messages is
  'Where messages stood that were deleted one by one, for a day: who pages by the id of one goes on behind it. Ids and a number, '
  'never content.';
comment on column private.deleted_messages.item_id is 'The client''s own id of it.';

select private.close_table('private.deleted_messages', '{sequence_order, deleted_at}');


create function private.remove_message(p_conversation_id uuid, p_message_id uuid) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_message record;
begin
  delete from public.conversation_messages m
  using private.lineage(p_conversation_id) l
  where m.id = p_message_id and m.conversation_id = l.id and m.sequence_order <= l.upper
  returning m.user_id, m.conversation_id, m.id, m.sequence_order, m.item_id into v_message;
  if not found then
    return false;
  end if;
  insert into private.deleted_messages (user_id, conversation_id, message_id, sequence_order, item_id)
  values (v_message.user_id, v_message.conversation_id, v_message.id, v_message.sequence_order, v_message.item_id)
  on conflict do nothing;
  perform private.forget_words(v_message.conversation_id, v_message.sequence_order);
  return true;
end;
$$;
comment on routine private.remove_message is
  'Deletes one message that a conversation shows, and keeps for a day where it stood. False if it shows none such. Checks '
  'nobody''s rights.';
revoke all on routine private.remove_message from public, anon, authenticated, service_role;


create function private.deleted_place(p_conversation_id uuid, p_item_id text, p_message_id uuid) returns integer
language sql
stable
security definer
set search_path = ''
as $$
  select d.sequence_order
  from public.conversations c
  cross join private.lineage(c.id) l
  join private.deleted_messages d
    on d.user_id = c.user_id and d.conversation_id = l.id and d.sequence_order <= l.upper
    and (d.item_id = p_item_id or d.message_id = p_message_id)
  where c.id = p_conversation_id
  order by d.deleted_at desc
  limit 1;
$$;
comment on routine private.deleted_place is
  'The number that a message had which was deleted within the day, by its item_id or its id. Null if there was none such. Checks '
  'nobody''s rights.';
revoke all on routine private.deleted_place from public, anon, authenticated, service_role;


create function private.delete_message(p_conversation_id uuid, p_message_id uuid, p_user_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform private.require_conversation(p_conversation_id, private.caller_id(p_user_id));
  if not private.remove_message(p_conversation_id, p_message_id) then
    raise sqlstate 'PT404' using message = 'message_not_found';
  end if;
end;
$$;
comment on routine private.delete_message is 'See public.delete_message.';


create function public.delete_message(p_conversation_id uuid, p_message_id uuid, p_user_id uuid default null)
returns void
language sql
set search_path = ''
return private.delete_message(p_conversation_id, p_message_id, p_user_id);
comment on routine public.delete_message is
  'Deletes a message, through whichever conversation shows it, from all that show it. Numbers do not change and are not '
  'used again.';
revoke all on routine private.delete_message, public.delete_message from public, anon, authenticated, service_role;
grant execute on routine private.delete_message, public.delete_message to authenticated, service_role;

insert into private.repeatable_calls (name) values ('delete_conversation'), ('delete_message');

-- Erasure of a user's conversations: everything is hidden first, then messages go, then conversations.

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

select private.close_table('private.erasure_conversations', '{stage}');


create function private.list_conversations_to_erase(p_erasure_id uuid, p_user_id uuid) returns boolean
language plpgsql
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
comment on routine private.list_conversations_to_erase is
  'Puts what a user has at this moment on an erasure''s list, deleted conversations included. False if that is nothing new.';
revoke all on routine private.list_conversations_to_erase from public, anon, authenticated, service_role;


create function private.erase_conversations_piece(p_erasure_id uuid, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_messages constant integer := 2000;
  c_states constant integer := 2000;
  c_keys constant integer := 500;
  v_has_responses constant boolean := to_regclass('private.response_conversations') is not null;
  v_stage smallint;
  v_listed uuid[];
  v_ids uuid[];
  v_gone bigint;
  v_piece record;
  v_states bigint := 0;
  v_messages bigint := 0;
  v_conversations bigint := 0;
  v_imports bigint := 0;
  v_sources bigint := 0;
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
        and k.scope ~ '^(\w+ (/openai/v1)?/conversations(/|$)|import_conversation$)'
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
    delete from private.import_sources s where s.user_id = p_user_id and s.conversation_id = any (v_listed);
    get diagnostics v_sources = row_count;
  end if;
  -- No fork is being made of what is locked so. What somebody is writing to is passed by: its turn comes.
  v_ids := array(
    select c.id from public.conversations c where c.id = any (v_listed) for update skip locked
  );

  if v_stage = 0 then
    if v_has_responses then
      delete from public.conversation_states s
      where s.ctid = any (array(
        select s.ctid
        from public.conversation_states s
        where s.user_id = p_user_id and s.conversation_id = any (v_ids)
        limit c_states
      ));
      get diagnostics v_states = row_count;
      if v_states = c_states then
        return jsonb_build_object('conversation_states', v_states, 'imports', v_imports, 'import_sources', v_sources);
      end if;
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
    if v_has_responses then
      delete from private.response_conversations r where r.user_id = p_user_id and r.conversation_id = any (v_ids);
      get diagnostics v_made = row_count;
    end if;
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
    'import_sources', v_sources,
    'response_conversations', v_made
  );
end;
$$;
comment on routine private.erase_conversations_piece is
  'A piece of the conversations on an erasure''s list: 2,000 responses go, or 500 conversations without any are hidden, or '
  '2,000 messages go, or 200 empty conversations, or 500 idempotency keys of conversations that are not there. Answers '
  '{table: rows}, null when there is nothing left.';
revoke all on routine private.erase_conversations_piece from public, anon, authenticated, service_role;

-- Export: all conversations of a user, page by page, as lines of NDJSON.

create function private.export_conversation(p_conversation_id uuid) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select case
    when c.deleted_at is null then to_jsonb(c) - '{user_id,deleted_at}'::text[]
    else (
      select jsonb_object_agg(t.key, t.value) || '{"deleted": true}'
      from jsonb_each(to_jsonb(c) - '{user_id,deleted_at}'::text[]) t
      where t.key = any (private.tombstone_columns())
    )
  end
  from public.conversations c
  where c.id = p_conversation_id;
$$;
comment on routine private.export_conversation is
  'A conversation as an export shows it: every column but its user. A deleted one says so, and has what is left of it.';
revoke all on routine private.export_conversation from public, anon, authenticated, service_role;


create function private.export_message(p_message public.conversation_messages) returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(p_message) - '{user_id,type}'::text[] || jsonb_build_object('message_type', p_message.type);
$$;
comment on routine private.export_message is
  'A message as an export shows it: every column but its user. Its type is message_type, for type says what a line is.';
revoke all on routine private.export_message from public, anon, authenticated, service_role;


create function private.export_page(p_cursor jsonb, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- By index, tree by tree, whatever the statistics say: one conversation with thousands of forks, whoever made it, and each tree
-- of everybody's was joined with the whole table. 1,000 lines took minutes. Without JIT: what is off looks expensive enough for it.
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_material = off
set enable_sort = off
set jit = off
as $$
declare
  c_lines constant integer := 1000;
  c_bytes constant integer := 1048576;
  v_user_id uuid := private.acting_user(p_user_id);
  -- What is created while the export runs is not part of it: its parent's turn may be over.
  v_as_of timestamptz := coalesce((p_cursor ->> 'as_of')::timestamptz, now());
  v_root_id uuid := (p_cursor ->> 'root_id')::uuid;
  v_depth integer := (p_cursor ->> 'depth')::integer;
  v_id uuid := (p_cursor ->> 'id')::uuid;
  v_after integer := (p_cursor ->> 'after')::integer;
  v_last integer := (p_cursor ->> 'last')::integer;
  v_root record;
  v_conversation record;
  v_message public.conversation_messages;
  v_line text;
  v_lines text[] := '{}';
  v_count integer := 0;
  v_bytes bigint := 0;
  v_conversations integer := 0;
  v_tombstones integer := 0;
  v_messages integer := 0;
  v_is_full boolean := false;
begin
  perform private.take_turn(v_user_id::text);
  -- A tree at a time, a level at a time: parents before forks, and a page costs what it shows and one tree.
  <<trees>>
  for v_root in
    select c.id
    from public.conversations c
    where c.user_id = v_user_id and c.parent_id is null and (v_root_id is null or c.id >= v_root_id)
    order by c.id
  loop
    for v_conversation in
      with recursive tree (id, depth) as (
        select v_root.id, 0
        union all
        select c.id, t.depth + 1
        from tree t
        join public.conversations c on c.parent_id = t.id
      )
      select c.*, t.depth
      from tree t
      join public.conversations c on c.id = t.id
      where c.created_at <= v_as_of
        and (v_root.id is distinct from v_root_id or (t.depth, t.id) >= (v_depth, v_id))
        and not exists (
          select from private.imports i where i.user_id = v_user_id and i.conversation_id = c.id and i.incomplete
        )
      order by t.depth, t.id
    loop
      if v_conversation.id is distinct from v_id then
        v_is_full := v_count >= c_lines or v_bytes >= c_bytes;
        exit trees when v_is_full;
        v_root_id := v_root.id;
        v_depth := v_conversation.depth;
        v_id := v_conversation.id;
        v_after := 0;
        -- Appended while the export runs: after the number that this line tells.
        v_last := v_conversation.last_sequence_order;
        v_line := '{"type": "conversation", ' || substr(private.export_conversation(v_conversation.id)::text, 2);
        v_count := v_count + 1;
        v_lines[v_count] := v_line;
        v_bytes := v_bytes + octet_length(v_line);
        v_conversations := v_conversations + (v_conversation.deleted_at is null)::integer;
        v_tombstones := v_tombstones + (v_conversation.deleted_at is not null)::integer;
      end if;

      -- Row by row: how long a line is shows only once it is made, and a thousand of them may not fit into memory.
      for v_message in
        select m.*
        from public.conversation_messages m
        where m.conversation_id = v_id and m.sequence_order > v_after and m.sequence_order <= v_last
        order by m.sequence_order
      loop
        v_is_full := v_count >= c_lines or v_bytes >= c_bytes;
        exit trees when v_is_full;
        v_line := '{"type": "message", ' || substr(private.export_message(v_message)::text, 2);
        v_count := v_count + 1;
        v_lines[v_count] := v_line;
        v_bytes := v_bytes + octet_length(v_line);
        v_messages := v_messages + 1;
        v_after := v_message.sequence_order;
      end loop;
    end loop;
  end loop trees;
  -- The lines are one string: nobody on the way has to parse them, and no number in them loses a digit.
  return jsonb_build_object(
    'lines', array_to_string(v_lines, E'\n'), 'conversations', v_conversations, 'tombstones', v_tombstones,
    'messages', v_messages, 'next', case
      when v_is_full then jsonb_build_object(
        'as_of', v_as_of, 'root_id', v_root_id, 'depth', v_depth, 'id', v_id, 'after', v_after, 'last', v_last
      )
    end
  );
end;
$$;
comment on routine private.export_page is 'See public.export_page.';


create function public.export_page(p_cursor jsonb default '{}', p_user_id uuid default null) returns jsonb
language sql
stable
set search_path = ''
return private.export_page(p_cursor, p_user_id);
comment on routine public.export_page is
  'A page of everything the user owns, as lines of NDJSON in one string: {lines, conversations, tombstones, messages, '
  'next}. Each conversation is followed by its own messages and comes before its forks. A page is at most 1,000 lines, '
  'and ends with the line that fills 1 MiB. next is the p_cursor of the page after it, null at the end.';
revoke all on routine private.export_page, public.export_page from public, anon, authenticated, service_role;
grant execute on routine private.export_page, public.export_page to authenticated, service_role;

-- A fork is one row: it shares the first fork_sequence messages of its parent, through any number of parents.

create function private.lineage(p_conversation_id uuid) returns table (id uuid, upper integer)
language plpgsql
stable
security definer
rows 10
set search_path = ''
as $$
begin
  return query
    with recursive line (id, parent_id, fork_sequence, upper) as (
      select c.id, c.parent_id, c.fork_sequence, 2147483647
      from public.conversations c
      where c.id = p_conversation_id
      union all
      select c.id, c.parent_id, c.fork_sequence, least(l.upper, l.fork_sequence)
      from line l
      -- A probe of the primary key for each step, however few rows the planner believes there to be.
      cross join lateral (select * from public.conversations c where c.id = l.parent_id offset 0) c
    )
    select l.id, l.upper from line l;
end;
$$;
comment on routine private.lineage is
  'The conversations whose messages a conversation shows, itself first, and up to which number of each. Checks nobody''s rights.';
revoke all on routine private.lineage from public, anon, authenticated, service_role;


create function private.require_depth(p_parent_id uuid) returns void
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  if (select count(*) from private.lineage(p_parent_id)) >= 1000 then
    raise sqlstate 'PT409' using
      message = 'fork_limit',
      detail = 'The conversation is a fork of a fork, 1,000 deep.',
      hint = 'Fork a conversation further up, or copy the messages into a new one.';
  end if;
end;
$$;
comment on routine private.require_depth is
  'Raises PT409 fork_limit where a fork of this conversation would be the 1,001st of its line: reading walks all of it.';
revoke all on routine private.require_depth from public, anon, authenticated, service_role;


create function private.fork_conversation(
  p_conversation_id uuid, p_at integer, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_source public.conversations;
  v_parent_id uuid;
  v_grandparent_id uuid;
  v_fork_sequence integer;
  v_scope text := 'POST /conversations/' || p_conversation_id || '/fork';
  v_result jsonb;
  v_id uuid;
begin
  v_result := private.claim_idempotency_key(v_user_id::text, v_scope, p_idempotency_key, jsonb_build_array(p_at));
  if v_result is not null then
    return public.get_conversation((v_result ->> 'conversation_id')::uuid, v_user_id) || '{"replayed": true}';
  end if;

  -- Key share: appends go on meanwhile, a deletion of what the fork will share waits.
  select * into v_source
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  for key share;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  if p_at is null or p_at < 0 or p_at > v_source.last_sequence_order then
    perform private.refuse(format('at is %s, the conversation goes from 0 to %s.', p_at, v_source.last_sequence_order));
  end if;

  -- Point at the ancestor that owns message p_at: lines stay short, and a parent's share always exceeds its own fork.
  v_parent_id := case when p_at > 0 then v_source.id end;
  v_grandparent_id := v_source.parent_id;
  v_fork_sequence := v_source.fork_sequence;
  while p_at > 0 and p_at <= v_fork_sequence loop
    select c.id, c.parent_id, c.fork_sequence into v_parent_id, v_grandparent_id, v_fork_sequence
    from public.conversations c
    where c.id = v_grandparent_id
    for key share;
  end loop;
  perform private.require_depth(v_parent_id);

  -- What it is about comes along. What was done with the original does not: neither pinned nor archived, no expires_at, and
  -- no summary, which may tell of what comes after.
  insert into public.conversations (
    user_id, video_id, title, metadata, parent_id, fork_sequence, last_sequence_order
  )
  values (
    v_user_id, v_source.video_id, v_source.title, v_source.metadata, v_parent_id,
    case when v_parent_id is not null then p_at end, p_at
  )
  returning id into v_id;
  perform private.keep_idempotent_result(
    v_user_id::text, v_scope, p_idempotency_key, jsonb_build_object('conversation_id', v_id)
  );
  return public.get_conversation(v_id, v_user_id);
end;
$$;
comment on routine private.fork_conversation is 'See public.fork_conversation.';


create function public.fork_conversation(
  p_conversation_id uuid, p_at integer, p_idempotency_key text default null, p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.fork_conversation(p_conversation_id, p_at, p_idempotency_key, p_user_id);
comment on routine public.fork_conversation is
  'A new conversation that shares the first p_at messages of this one: one row, whatever p_at is. Title, video and '
  'metadata are taken over, nothing else is: the summary may tell of what comes after.';
revoke all on routine private.fork_conversation, public.fork_conversation
  from public, anon, authenticated, service_role;
grant execute on routine private.fork_conversation, public.fork_conversation to authenticated, service_role;

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

-- Import, again: which chats of other systems are there already.

create table private.import_sources (
  user_id uuid not null,
  source text not null,
  source_id text not null,
  conversation_id uuid not null,
  -- The end of what was brought: its item_id, which is known where the message was deleted, and its number.
  last_item text,
  last_sequence integer not null,
  constraint import_sources_pkey primary key (user_id, source, source_id, conversation_id),
  constraint import_sources_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade,
  constraint import_sources_check check (
    char_length(source) between 1 and 64 and char_length(source_id) between 1 and 256
  )
);

create index idx_import_sources_conversation_id on private.import_sources (user_id, conversation_id);

comment on table private.import_sources is
  'Which chat of which other system a conversation was imported from: the next import of that chat brings what is new in it. A '
  'chat with branches is several conversations. It goes when they are deleted.';

select private.close_table('private.import_sources', '{last_sequence}');


create function private.imported_place(
  p_user_id uuid, p_source jsonb, p_messages jsonb,
  out conversation_id uuid, out sequence_order integer, out messages integer
)
language sql
stable
security definer
set search_path = ''
as $$
  with items as (
    -- What follows nothing follows a chat that had no messages.
    select coalesce(p_source ->> 'after', '') as item_id, 0 as n
    union all
    select m.value ->> 'item_id', m.n::integer
    from jsonb_array_elements(p_messages) with ordinality as m (value, n)
  )
  select c.id, f.sequence_order, i.n
  from private.import_sources s
  join public.conversations c on c.user_id = s.user_id and c.id = s.conversation_id
  cross join lateral (
    select m.item_id, m.sequence_order
    from public.conversation_messages m
    where m.conversation_id = c.id and m.item_id = any (array(select i.item_id from items i))
    union all
    -- The last one, if it was deleted.
    select coalesce(s.last_item, ''), s.last_sequence
  ) f
  join items i using (item_id)
  where s.user_id = p_user_id and s.source = p_source ->> 'name' and s.source_id = p_source ->> 'id'
    -- What was deleted may come again; what is hidden because parts of it are missing is there.
    and (
      c.deleted_at is null
      or exists (select from private.imports p where p.user_id = s.user_id and p.conversation_id = c.id and p.incomplete)
    )
  -- Where two show it, the one that ends there goes on.
  order by i.n desc, c.last_sequence_order - f.sequence_order, c.id
  limit 1;
$$;
comment on routine private.imported_place is
  'How much of an imported way is there already: how many of its messages, 0 if it is only what they follow, and where the last '
  'of these stands. Null: nothing of it. A chat is a tree, so what comes before that is there, or was deleted.';
revoke all on routine private.imported_place from public, anon, authenticated, service_role;

-- Loading: pages of messages, through the lineage of forks.

create function private.read_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text
) returns setof public.conversation_messages
language plpgsql
stable
security definer
set search_path = ''
-- By index, in its order: without statistics (docs/decisions/0026) all of a conversation looked little enough to be sorted.
set enable_sort = off
as $$
declare
  v_id uuid := p_conversation_id;
  v_upper integer := p_before - 1;
  v_parent_id uuid;
  v_lower integer;
  v_left integer := p_limit;
  v_count integer;
  v_ids uuid[] := '{}';
  v_lowers integer[] := '{}';
  v_uppers integer[] := '{}';
begin
  -- From the conversation upwards. A segment is what one conversation of the line contributes: (lower, upper].
  while v_id is not null and v_left > 0 and v_upper > p_after loop
    select c.parent_id, coalesce(c.fork_sequence, 0) into v_parent_id, v_lower
    from public.conversations c
    where c.id = v_id;
    exit when not found;

    if v_lower < v_upper then
      if p_order = 'desc' then
        return query
          select m.*
          from public.conversation_messages m
          where m.conversation_id = v_id
            and m.sequence_order > greatest(v_lower, p_after) and m.sequence_order <= v_upper
          order by m.sequence_order desc
          limit v_left;
        get diagnostics v_count = row_count;
        v_left := v_left - v_count;
      else
        v_ids := v_id || v_ids;
        v_lowers := greatest(v_lower, p_after) || v_lowers;
        v_uppers := v_upper || v_uppers;
      end if;
    end if;
    v_upper := least(v_upper, v_lower);
    v_id := v_parent_id;
  end loop;

  -- Ascending begins at the far end of what was walked.
  for i in 1 .. cardinality(v_ids) loop
    exit when v_left <= 0;
    return query
      select m.*
      from public.conversation_messages m
      where m.conversation_id = v_ids[i] and m.sequence_order > v_lowers[i] and m.sequence_order <= v_uppers[i]
      order by m.sequence_order
      limit v_left;
    get diagnostics v_count = row_count;
    v_left := v_left - v_count;
  end loop;
end;
$$;
comment on routine private.read_messages is
  'The messages that a conversation shows with p_after < sequence_order < p_before, at most p_limit, through its '
  'lineage. Each step up is one primary-key probe, and the walk stops when the page is full. Checks nobody''s rights.';
revoke all on routine private.read_messages from public, anon, authenticated, service_role;


create type private.listed_message as (
  id uuid,
  conversation_id uuid,
  sequence_order integer,
  type text,
  role text,
  content text,
  parts jsonb,
  name text,
  function_call jsonb,
  tool_calls jsonb,
  tool_call_id text,
  item_id text,
  model text,
  usage jsonb,
  status text,
  token_count integer,
  author text,
  metadata jsonb,
  created_at timestamptz,
  item jsonb
);
comment on type private.listed_message is 'A message as the API answers it: without its owner.';


-- Every column, so that an insert can return the message.
create view private.listed_messages with (security_invoker = true) as
select
  m.*,
  row(
    m.id, m.conversation_id, m.sequence_order, m.type, m.role, m.content, m.parts, m.name, m.function_call, m.tool_calls,
    m.tool_call_id, m.item_id, m.model, m.usage, m.status, m.token_count, m.author, m.metadata, m.created_at, m.item
  )::private.listed_message as message,
  -- As printed: a number in JSON may be stored in a few bytes and print as thousands. octet_length(text) knows the size
  -- without reading the text.
  coalesce(octet_length(m.content), 0) + coalesce(octet_length(m.tool_call_id), 0) + case
    when num_nonnulls(m.parts, m.function_call, m.tool_calls, m.usage, m.item, m.source) > 0 or m.metadata <> '{}'
    then octet_length(concat(m.parts, m.function_call, m.tool_calls, m.usage, m.metadata, m.item, m.source))
    else 0
  end as bytes
from public.conversation_messages m;
comment on view private.listed_messages is 'Messages as private.list_messages answers them, and about how long each is.';
revoke all on private.listed_messages from public, anon, authenticated, service_role;


create function private.require_format(p_format text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_format is null or p_format not in ('message', 'chat', 'responses', 'anthropic', 'gemini', 'ai-sdk', 'langchain') then
    perform private.refuse('format is not message, chat, responses, anthropic, gemini, ai-sdk or langchain.');
  end if;
end;
$$;
comment on routine private.require_format is 'Raises PT400 invalid_request for a format that messages are not shown in.';
revoke all on routine private.require_format from public, anon, authenticated, service_role;


create function private.list_any_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text, p_format text
) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies; messages may have 4 MiB each.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_message public.conversation_messages;
  v_messages public.conversation_messages[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
  v_data json;
begin
  -- One more than the page, to know whether there is more. A page that is full of bytes ends early, after one message
  -- at the least.
  for v_message in
    select * from private.read_messages(p_conversation_id, p_after, p_before, p_limit + 1, p_order)
  loop
    v_bytes := v_bytes + coalesce(octet_length(v_message.content), 0) + coalesce(octet_length(v_message.tool_call_id), 0) + case
      when num_nonnulls(
          v_message.parts, v_message.function_call, v_message.tool_calls, v_message.usage, v_message.item, v_message.source
        ) > 0 or v_message.metadata <> '{}'
      then octet_length(concat(
        v_message.parts, v_message.function_call, v_message.tool_calls, v_message.usage, v_message.metadata, v_message.item,
        v_message.source
      ))
      else 0
    end;
    v_has_more := cardinality(v_messages) = p_limit or (v_bytes > c_max_bytes and v_messages <> '{}');
    exit when v_has_more;
    v_messages := v_messages || v_message;
  end loop;

  select coalesce(
    json_agg(
      -- With its source, for what converts it.
      case when p_format = 'message' then to_json(l) else (select to_json(s) from (select l.*, m.source) s) end
      order by case when p_order = 'desc' then -m.sequence_order else m.sequence_order end
    ),
    '[]'
  ) into v_data
  from unnest(v_messages) m
  cross join lateral (
    select (row(
      m.id, p_conversation_id, m.sequence_order, m.type, m.role, m.content, m.parts, m.name, m.function_call, m.tool_calls,
      m.tool_call_id, m.item_id, m.model, m.usage, m.status, m.token_count, m.author, m.metadata, m.created_at, m.item
    )::private.listed_message).*
  ) l;
  return json_build_object('data', v_data, 'has_more', v_has_more);
end;
$$;
comment on routine private.list_any_messages is
  'private.list_messages for conversations that share messages with others, for pages of more than 8 MiB, and for the formats of '
  'other APIs. Checks nobody''s rights.';
revoke all on routine private.list_any_messages from public, anon, authenticated, service_role;


create function private.list_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text, p_user_id uuid, p_format text
) returns json
language plpgsql
stable
security definer
set search_path = ''
-- By index, as read_messages.
set enable_sort = off
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
  v_after integer := coalesce(p_after, 0);
  v_before integer := coalesce(p_before, 2147483647);
  v_fork_sequence integer;
  -- None of the page has more than its share of 8 MiB: together they have no more either.
  v_max_bytes integer;
  v_data json;
  v_bytes integer;
  v_count integer;
begin
  if p_limit is null or p_limit not between 1 and 1000 or p_order is null or p_order not in ('asc', 'desc') then
    perform private.require_limit(p_limit);
    perform private.refuse('order is not asc or desc.');
  end if;
  if p_format = 'message' is not true then
    perform private.require_format(p_format);
  end if;
  v_max_bytes := 8 * 1024 * 1024 / p_limit;
  select c.fork_sequence into v_fork_sequence
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  elsif v_fork_sequence is not null or p_format <> 'message' then
    return private.list_any_messages(p_conversation_id, v_after, v_before, p_limit, p_order, p_format);
  end if;

  if p_order = 'asc' then
    select
      json_agg(m.message) filter (where m.bytes <= v_max_bytes), count(*), max(m.bytes), max(m.sequence_order)
    into v_data, v_count, v_bytes, v_after
    from (
      select m.message, m.bytes, m.sequence_order
      from private.listed_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
      order by m.sequence_order
      limit p_limit
    ) m;
  else
    select
      json_agg(m.message) filter (where m.bytes <= v_max_bytes), count(*), max(m.bytes), min(m.sequence_order)
    into v_data, v_count, v_bytes, v_before
    from (
      select m.message, m.bytes, m.sequence_order
      from private.listed_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
      order by m.sequence_order desc
      limit p_limit
    ) m;
  end if;
  if v_bytes > v_max_bytes then
    return private.list_any_messages(
      p_conversation_id, coalesce(p_after, 0), coalesce(p_before, 2147483647), p_limit, p_order, p_format
    );
  end if;
  return json_build_object(
    'data', coalesce(v_data, '[]'),
    'has_more', v_count = p_limit and exists (
      select
      from public.conversation_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
    )
  );
end;
$$;
comment on routine private.list_messages is 'See public.list_messages.';


create function public.list_messages(
  p_conversation_id uuid,
  p_after integer default null,
  p_before integer default null,
  p_limit integer default 50,
  p_order text default 'asc',
  p_user_id uuid default null,
  p_format text default 'message'
) returns json
language plpgsql
stable
set search_path = ''
as $$
begin
  return private.list_messages(p_conversation_id, p_after, p_before, p_limit, p_order, p_user_id, p_format);
end;
$$;
comment on routine public.list_messages is
  'A page of a conversation''s messages with p_after < sequence_order < p_before, in p_order (asc or desc). Answers '
  '{data, has_more}: as json, which is text that is ready, where jsonb would be built, sorted and printed. With a p_format of '
  'another API than message each message has its source, too.';
revoke all on routine private.list_messages, public.list_messages from public, anon, authenticated, service_role;
grant execute on routine private.list_messages, public.list_messages to authenticated, service_role;

-- Pieces: what a message says, does and answers, whichever API it was written for. The one place that knows what a call and
-- what a result looks like. Computed on reading, so that rows of plain REST and of earlier versions are known too.

create type private.piece as (place integer, upto integer, kind text, key text, type text);
comment on type private.piece is
  'A piece of a message: the places from place to upto, where 0 is content (or all of an item), 1 and on are the elements of '
  'parts, then function_call and the elements of tool_calls. kind is user, system, model, reasoning, call, result, compaction '
  'or empty; key is what a call and its result share, null where none can. type is which reasoning or compaction it is '
  '(private.format_leaves_out), null for everything else.';


create function private.piece_of(p_value jsonb, p_kind text) returns private.piece
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_type text := p_value ->> 'type';
  v_kind text;
  v_key text;
  v_which text;
begin
  case
    when jsonb_typeof(p_value) <> 'object' then
      v_kind := p_kind;
    when v_type in ('text', 'input_text', 'output_text', 'summary_text', 'refusal') or v_type is null and p_value ? 'text' then
      v_kind := case
        when coalesce(p_value ->> 'text', p_value ->> 'refusal', '') !~ '\S' then 'empty'
        when p_value -> 'thought' = 'true' then 'reasoning' -- Gemini
        else p_kind
      end;
    when v_type in ('reasoning', 'thinking', 'redacted_thinking') or p_value ? 'reasoningContent' then
      v_kind := 'reasoning';
    when v_type in ('step-start', 'source-url', 'source-document') or v_type ^@ 'data-' then
      -- The AI SDK shows these to people, and leaves them out of what it sends.
      v_kind := null;
    when v_type = 'compaction' and p_value ? 'encrypted_content' then
      v_kind := 'compaction';

    -- What answers, whoever says it.
    when v_type like '%\_call\_output' or v_type in ('tool_search_output', 'program_output')
      or v_type like '%\_output' and p_value ? 'call_id' -- OpenAI
    then
      v_kind := 'result';
      v_key := coalesce(
        'id ' || coalesce(p_value ->> 'call_id', case when v_type = 'local_shell_call_output' then p_value ->> 'id' end),
        case when v_type = 'tool_search_output' then 'name tool_search' end
      );
    when v_type = 'mcp_approval_response' then
      v_kind := 'result';
      v_key := 'approval ' || (p_value ->> 'approval_request_id');
    when v_type like '%tool\_result' and p_value ? 'tool_use_id' then -- Anthropic
      v_kind := 'result';
      v_key := 'id ' || (p_value ->> 'tool_use_id');
    when v_type = 'tool-result' and not p_value ? 'state' then -- AI SDK, as LangChain's below
      v_kind := 'result';
      v_key := 'id ' || (p_value ->> 'toolCallId');
    when v_type = 'tool-approval-response' then
      v_kind := 'result';
      v_key := 'approval ' || (p_value ->> 'approvalId');
    when v_type in ('server_tool_call_result', 'server_tool_result') then
      v_kind := 'result';
      v_key := 'id ' || coalesce(p_value ->> 'toolCallId', p_value ->> 'tool_call_id');
    when p_value ? 'functionResponse' then -- Gemini
      v_kind := 'result';
      v_key := coalesce(
        'id ' || (p_value -> 'functionResponse' ->> 'id'), 'name ' || (p_value -> 'functionResponse' ->> 'name')
      );
    when p_value ? 'toolResult' then -- Bedrock
      v_kind := 'result';
      v_key := 'id ' || (p_value -> 'toolResult' ->> 'toolUseId');

    -- Only the model calls.
    when p_kind <> 'model' then
      v_kind := p_kind;
    when v_type = 'tool_search_call' then
      v_kind := 'call';
      v_key := coalesce('id ' || (p_value ->> 'call_id'), 'name tool_search');
    when v_type in ('function_call', 'custom_tool_call', 'computer_call', 'program')
      -- A hosted tool's call (web search) has no call_id and brings its result along.
      or v_type like '%\_call' and p_value ? 'call_id'
    then
      v_kind := 'call';
      v_key := 'id ' || (p_value ->> 'call_id');
    when v_type = 'mcp_approval_request' then
      v_kind := 'call';
      v_key := 'approval ' || (p_value ->> 'id');
    when v_type in ('tool_use', 'server_tool_use', 'mcp_tool_use', 'tool_call', 'server_tool_call') then
      v_kind := 'call';
      v_key := 'id ' || (p_value ->> 'id');
    when (v_type ^@ 'tool-' or v_type = 'dynamic-tool') and p_value ? 'state' then
      -- A part of a UIMessage is a call, and its result too once it is there.
      v_kind := case when p_value ->> 'state' in ('output-available', 'output-error', 'output-denied') then 'model' else 'call' end;
      v_key := case when v_kind = 'call' then 'id ' || (p_value ->> 'toolCallId') end;
    when v_type = 'tool-call' then
      v_kind := 'call';
      v_key := 'id ' || (p_value ->> 'toolCallId');
    when v_type = 'tool-approval-request' then
      v_kind := 'call';
      v_key := 'approval ' || (p_value ->> 'approvalId');
    when p_value ? 'functionCall' then
      v_kind := 'call';
      v_key := coalesce('id ' || (p_value -> 'functionCall' ->> 'id'), 'name ' || (p_value -> 'functionCall' ->> 'name'));
    when p_value ? 'toolUse' then
      v_kind := 'call';
      v_key := 'id ' || (p_value -> 'toolUse' ->> 'toolUseId');
    else
      v_kind := p_kind;
  end case;
  if v_kind = 'compaction' then
    v_which := 'compaction';
  elsif v_kind = 'reasoning' then
    -- Only who signed it takes it back. The AI SDK keeps that in providerMetadata, or, in what it sends, in providerOptions.
    v_which := case
      when p_value @? 'strict $ ? (
        @.type == "thinking" && @.signature > "" || @.type == "redacted_thinking" && @.data >= ""
        || @.type == "reasoning" && (
          @.providerMetadata.anthropic.signature > "" || @.providerMetadata.anthropic.redactedData > ""
          || @.providerOptions.anthropic.signature > "" || @.providerOptions.anthropic.redactedData > ""
        )
      )' then 'thinking'
      when p_value @? 'strict $ ? (
        @.thought == true
        || @.type == "reasoning" && (
          @.providerMetadata.google.thoughtSignature > "" || @.providerOptions.google.thoughtSignature > ""
        )
      )' then 'thought'
      else 'reasoning_text'
    end;
  end if;
  return (null, null, v_kind, v_key, v_which)::private.piece;
end;
$$;
comment on routine private.piece_of is
  'What a content part or an item is, in a message whose text is of p_kind (user, system, model or result): its kind and key. '
  'Kind null: it says nothing by itself, and goes with its message.';
revoke all on routine private.piece_of from public, anon, authenticated, service_role;


create function private.format_leaves_out(p_type text, p_format text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return coalesce(
    case p_type
      -- An item of the Responses API, which only OpenAI can read.
      when 'reasoning' then p_format in ('chat', 'anthropic', 'gemini')
      -- Signed by Anthropic, by Google, and by nobody.
      when 'thinking' then p_format in ('chat', 'responses', 'gemini')
      when 'thought' then p_format in ('chat', 'responses', 'anthropic')
      when 'reasoning_text' then p_format in ('chat', 'responses', 'anthropic', 'gemini')
      when 'compaction' then p_format in ('chat', 'anthropic', 'gemini', 'ai-sdk', 'langchain')
    end,
    false
  );
end;
$$;
comment on routine private.format_leaves_out is
  'Whether a context in this format is without the pieces of this type (private.piece): what thinks takes back only what it '
  'has signed itself, ai-sdk and langchain hand all of it on, and message is everything as stored.';
revoke all on routine private.format_leaves_out from public, anon, authenticated, service_role;


create function private.pieces(p_message public.conversation_messages) returns setof private.piece
language plpgsql
immutable
rows 2
set search_path = ''
as $$
declare
  c_end constant integer := 2147483646;
  -- So that what is looked at for a context has a bound.
  c_pieces constant integer := 1000;
  v_pieces private.piece[] := '{}';
  v_kind text := case
    when p_message.role in ('tool', 'function') then 'result'
    when p_message.role in ('system', 'developer') then 'system'
    when p_message.role = 'user' then 'user'
    else 'model'
  end;
  v_type text := p_message.type;
  v_calls boolean := p_message.role = 'assistant' and num_nonnulls(p_message.function_call, p_message.tool_calls) > 0;
  v_parts integer := coalesce(jsonb_array_length(p_message.parts), 0);
  v_piece private.piece;
  v_last private.piece;
begin
  -- Most messages are a text.
  if v_type = 'message' and num_nonnulls(p_message.parts, p_message.function_call, p_message.tool_calls, p_message.item) = 0
    and v_kind <> 'result' and p_message.tool_call_id is null
  then
    return next (0, c_end, case when p_message.content ~ '\S' then v_kind else 'empty' end, null, null)::private.piece;
    return;
  end if;

  if v_type = 'compaction' then
    return next (0, c_end, 'compaction', null, 'compaction')::private.piece;
    return;
  elsif p_message.item is not null and private.is_whole_item(p_message) then
    v_piece := private.piece_of(p_message.item, v_kind);
    return next (
      0, c_end, coalesce(v_piece.kind, v_kind),
      -- Without an id of its own it is approved by the one that the OpenAI API lists it with.
      coalesce(v_piece.key, case
        when v_type = 'mcp_approval_request' then 'approval mcpr_' || replace(p_message.id::text, '-', '')
      end),
      case when v_piece.kind = 'reasoning' and p_message.item ->> 'type' = 'reasoning' then 'reasoning' else v_piece.type end
    )::private.piece;
    return;
  elsif v_type like '%\_output' or v_type = 'mcp_approval_response'
    or v_kind = 'result' and (
      p_message.tool_call_id is not null or p_message.role = 'function' and p_message.name is not null or p_message.parts is null
    )
  then
    return next (0, c_end, 'result', case
      when p_message.tool_call_id is not null then 'id ' || p_message.tool_call_id
      when p_message.role = 'function' then 'name ' || p_message.name
    end, null)::private.piece;
    return;
  elsif v_kind = 'model' and not v_calls and v_type in ('function_call', 'mcp_approval_request', 'reasoning') then
    return next (
      0, c_end, case when v_type = 'reasoning' then 'reasoning' else 'call' end,
      case when v_type = 'function_call' then 'id ' || p_message.tool_call_id end,
      case when v_type = 'reasoning' then 'reasoning_text' end
    )::private.piece;
    return;
  end if;

  for v_piece in
    select 0, 0, case when p_message.content ~ '\S' then v_kind end, null, null
    union all
    select p.place, p.place, nullif(k.kind, 'empty'), k.key, k.type
    from jsonb_array_elements(p_message.parts) with ordinality p (value, place)
    cross join lateral private.piece_of(p.value, v_kind) k
    union all
    select v_parts + 1, v_parts + 1, 'call', 'name ' || (p_message.function_call ->> 'name'), null
    where v_calls and p_message.function_call is not null
    union all
    select v_parts + 1 + c.place, v_parts + 1 + c.place, 'call', 'id ' || (c.value ->> 'id'), null
    from jsonb_array_elements(case when v_calls then p_message.tool_calls end) with ordinality c (value, place)
  loop
    continue when v_piece.kind is null;
    if v_last.kind = v_piece.kind and v_last.key is null and v_piece.key is null
      and v_last.type is not distinct from v_piece.type
    then
      v_last.upto := v_piece.upto;
    else
      if v_last.kind is not null then
        v_pieces := v_pieces || v_last;
      end if;
      v_last := v_piece;
    end if;
  end loop;
  v_pieces := v_pieces || case when v_last.kind is null then (0, c_end, 'empty', null, null)::private.piece else v_last end;
  if cardinality(v_pieces) > c_pieces then
    v_pieces := array[(0, c_end, 'result', null, null)::private.piece];
  end if;
  foreach v_piece in array v_pieces loop
    return next v_piece;
  end loop;
end;
$$;
comment on routine private.pieces is
  'The pieces of a message, in the order of their places. What is one kind and type and has no key is one piece; places in none go with '
  'their message. A message without any is one piece of the kind empty; one of more than 1,000 a result that answers nothing.';
revoke all on routine private.pieces from public, anon, authenticated, service_role;

-- Retention of conversations: since the last message, or when the conversation itself says.

insert into private.retention_policies (kind, keep) values ('conversations', null);


create function private.retain_conversations(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 500;
  c_read constant integer := 5000;
  v_cutoff timestamptz := private.retention_cutoff('conversations', p_now);
  v_conversation record;
  v_read integer := 0;
  v_ids uuid[];
begin
  v_ids := array(
    select c.id
    from public.conversations c
    where c.deleted_at is null and c.expires_at is not null and not c.pinned and c.expires_at <= p_now
    order by c.expires_at
    limit c_removed
    for update skip locked
  );
  more := v_ids <> '{}';

  if v_ids = '{}' and v_cutoff is not null then
    for v_conversation in
      select c.id, c.created_at, c.updated_at
      from public.conversations c
      where c.deleted_at is null and c.expires_at is null and not c.pinned
        and c.created_at < v_cutoff
        and (c.created_at, c.id) > (
          coalesce((p_position ->> 'created_at')::timestamptz, '-infinity'),
          coalesce((p_position ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
        )
      order by c.created_at, c.id
      limit c_read
    loop
      v_read := v_read + 1;
      p_position := jsonb_build_object('created_at', v_conversation.created_at, 'id', v_conversation.id);
      if v_conversation.updated_at < v_cutoff then
        v_ids := v_ids || v_conversation.id;
      end if;
      exit when cardinality(v_ids) = c_removed;
    end loop;
    more := v_read = c_read or cardinality(v_ids) = c_removed;
    -- Again under the lock: somebody may have written to it, pinned it, or said when it expires.
    v_ids := array(
      select c.id
      from public.conversations c
      where c.id = any (v_ids)
        and c.deleted_at is null and c.expires_at is null and not c.pinned and c.updated_at < v_cutoff
      for update skip locked
    );
  end if;

  perform private.hide_conversations(v_ids);
  removed := jsonb_build_object('conversations', cardinality(v_ids));
end;
$$;
comment on routine private.retain_conversations is
  'Deletes up to 500 conversations: those past their expires_at, and those without one whose last message is past the policy. '
  'Pinned ones stay. Their messages are left to private.prune_queue.';
revoke all on routine private.retain_conversations from public, anon, authenticated, service_role;


create function private.retain_prune_queue(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
security definer
set search_path = ''
as $$
begin
  select jsonb_build_object('conversation_messages', d.messages), d.progress into removed, more
  from private.drain_prune_queue(5000) d;
end;
$$;
comment on routine private.retain_prune_queue is
  'Removes up to 5,000 messages that deletions have left behind, those of retention and everybody''s.';
revoke all on routine private.retain_prune_queue from public, anon, authenticated, service_role;


create function private.remove_pointers(p_table regclass, p_time name, p_before timestamptz, p_limit integer)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_count integer;
begin
  -- A row that somebody is going on with is locked, and passed by. So is one whose conversation somebody deletes at this
  -- moment: that could not be put into the queue.
  execute format(
    $query$
      with expired as materialized (
        select t.ctid as row_id, t.user_id, t.conversation_id
        from %1$s t
        join public.conversations c on c.user_id = t.user_id and c.id = t.conversation_id
        where t.%2$I < $1
        order by t.%2$I
        limit $2
        for update of t skip locked
        for key share of c skip locked
      ),
      deleted as (
        delete from %1$s t using expired e where t.ctid = e.row_id returning 1
      ),
      queued as (
        insert into private.prune_queue (conversation_id, user_id)
        select distinct e.conversation_id, e.user_id from expired e
        on conflict do nothing
      )
      select count(*) from deleted
    $query$,
    p_table, p_time
  )
  into v_count using p_before, p_limit;
  return v_count;
end;
$$;
comment on routine private.remove_pointers is
  'Removes the first p_limit rows by p_time, and from before p_before, of a table that points at conversations (user_id, '
  'conversation_id). What nothing shows of these is left to private.prune_queue. It waits for nobody. Answers how many.';
revoke all on routine private.remove_pointers from public, anon, authenticated, service_role;


create function private.retain_imports(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 500;
begin
  -- As in private.expire_imports.
  select jsonb_build_object('imports', n), n = c_removed into removed, more
  from private.remove_pointers('private.imports', 'created_at', p_now - interval '1 day', c_removed) n;
end;
$$;
comment on routine private.retain_imports is
  'Ends up to 500 imports that broke off more than a day ago. What nothing shows of them is left to private.prune_queue.';
revoke all on routine private.retain_imports from public, anon, authenticated, service_role;

-- Search: the query, how well a text matches it, and what to show. The text decides; filters spare reading most of it.

create function private.parse_search(
  p_query text,
  out o_word_groups integer[],
  out o_words bigint[],
  out o_groups integer[],
  out o_patterns text[],
  out o_excluded boolean[],
  out o_highlight text
)
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_run text := '[' || private.unspaced_scripts() || ']';
  v_break text := '[' || private.word_breaks() || ']';
  v_letter text := '[^' || private.word_breaks() || private.unspaced_scripts() || ']';
  v_query text := left(p_query, 1000);
  v_group integer := 1;
  v_kept integer := 0;
  -- Postgres keeps 32 compiled expressions: more terms than that would be compiled again for every row.
  v_left integer := 24;
  v_hashes bigint[] := '{}';
  v_highlights text[] := '{}';
  v_positive boolean := false;
  v_token text[];
  v_excluded boolean;
  v_prefix boolean;
  v_units text[];
  v_pattern text;
begin
  o_word_groups := '{}';
  o_words := '{}';
  o_groups := '{}';
  o_patterns := '{}';
  o_excluded := '{}';

  -- The end of the query ends a phrase that is open, and is an OR, so that the last group is closed like the others.
  if mod(char_length(v_query) - char_length(replace(v_query, '"', '')), 2) = 1 then
    v_query := v_query || '"';
  end if;
  for v_token in
    select t from regexp_matches(v_query || ' OR', '(-?)(?:"([^"]*)"|([^\s"]+))', 'g') t
  loop
    if v_token[1] = '' and v_token[3] = 'OR' then
      if v_positive then
        -- Nothing of it is a whole word: any message may match. One null makes the whole of o_words null in the end.
        o_words := o_words || case when v_hashes = '{}' then array[null::bigint] else v_hashes end;
        o_word_groups := o_word_groups || array_fill(v_group, array[greatest(cardinality(v_hashes), 1)]);
        v_group := v_group + 1;
        v_kept := cardinality(o_groups);
      else
        -- A group that only excludes is no search.
        o_groups := o_groups[:v_kept];
        o_patterns := o_patterns[:v_kept];
        o_excluded := o_excluded[:v_kept];
      end if;
      v_hashes := '{}';
      v_positive := false;
      continue;
    end if;

    v_excluded := v_token[1] = '-';
    v_units := string_to_array(btrim(private.fold_text(coalesce(v_token[2], v_token[3]))), ' ');
    -- More would be no question, but a load: every word is a part of a regular expression.
    v_units := v_units[:v_left];
    v_left := v_left - cardinality(v_units);
    continue when v_units = '{}';
    v_prefix := coalesce(v_token[2], v_token[3]) ~ '\*\s*$' and v_units[cardinality(v_units)] !~ v_run;

    -- The term in the text as it was written: either case, an accent on any letter, any break between two words.
    select string_agg(
      case
        when u.ch = ' ' then v_break || case when u.before ~ v_run or u.after ~ v_run then '*' else '+' end
        when upper(u.ch) <> u.ch and char_length(upper(u.ch)) = 1 then '[' || u.ch || upper(u.ch) || '][\u0300-\u036f]*'
        else u.ch || '[\u0300-\u036f]*'
      end,
      '' order by u.n
    ) into v_pattern
    from (
      select c.ch, c.n, lag(c.ch) over (order by c.n) as before, lead(c.ch) over (order by c.n) as after
      from string_to_table(normalize(array_to_string(v_units, ' '), nfkd), null) with ordinality as c (ch, n)
    ) u;
    v_pattern := case when v_units[1] ~ v_run then '' else '(?<!' || v_letter || ')' end
      || v_pattern
      || case
        when v_prefix then v_letter || '*'
        -- The text is decomposed: 하 begins 한 there and か begins が, and is no part of it.
        when v_units[cardinality(v_units)] ~ '[\uac00-\ud7a3]$' then '(?![\u11a8-\u11ff])'
        when v_units[cardinality(v_units)] ~ '[\u3041-\u30ff]$' then '(?![\u3099\u309a])'
        when v_units[cardinality(v_units)] ~ v_run then ''
        else '(?!' || v_letter || ')'
      end;
    o_groups := o_groups || v_group;
    o_patterns := o_patterns || v_pattern;
    o_excluded := o_excluded || v_excluded;

    if not v_excluded then
      v_positive := true;
      v_highlights := v_highlights || v_pattern;
      -- A filter knows whole words and bigrams, and not what is only the beginning of one; what may be there, never what is not.
      select v_hashes || private.word_hashes(array_agg(t.lexeme)) into v_hashes
      from unnest(v_units) with ordinality as u (unit, n)
      cross join lateral string_to_table(private.text_lexemes(u.unit), ' ') as t (lexeme)
      where case
        -- Of a run the bigrams: a character by itself is known for the end of a run only.
        when u.unit ~ v_run then char_length(t.lexeme) = 2
        else not (v_prefix and u.n = cardinality(v_units))
      end
        -- What composes with its neighbour is another character in the text: 한ㄱ, which is 한국 half typed, finds that.
        and array_to_string(v_units, ' ')
          !~ '[\u1025\u1100-\u11ff\u3099\u309a\ua960-\ua97f\ud7b0-\ud7ff]|(^| )\u102e';
    end if;
  end loop;

  if array_position(o_words, null) is not null then
    o_words := null;
  end if;
  o_highlight := array_to_string(v_highlights, '|');
end;
$$;
comment on routine private.parse_search is
  'Reads a query as people type it: words are ANDed, "a phrase" is kept together, wor* is a prefix, -word excludes, OR '
  'in capitals separates alternatives; a word that punctuation divides is a phrase. The first 24 words count, and '
  'nothing is an error. Term i belongs to the alternative o_groups[i] and is the regular expression o_patterns[i]; the terms '
  'decide. o_words are the hashes of the words that a message needs, word i for the alternative o_word_groups[i]: null if any '
  'message may match, empty if none can. o_highlight is what to mark.';
revoke all on routine private.parse_search from public, anon, authenticated, service_role;


create function private.search_score(
  p_text text, p_groups integer[], p_patterns text[], p_excluded boolean[]
) returns numeric
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_text text := left(p_text, 32768);
  v_length double precision := 0.3 + char_length(v_text) * 0.0015;
  v_count integer;
  v_score double precision := 0;
  v_found boolean := false;
  v_group integer := 0;
  v_holds boolean := false;
begin
  if octet_length(v_text) <> char_length(v_text) then
    v_text := normalize(private.without_marks(v_text), nfkd);
  end if;
  for i in 1 .. cardinality(p_patterns) loop
    v_count := regexp_count(v_text, p_patterns[i]);
    if not p_excluded[i] then
      v_score := v_score + v_count * 2.2 / (v_count + v_length);
    end if;
    if p_groups[i] <> v_group then
      v_found := v_found or v_holds;
      v_group := p_groups[i];
      v_holds := true;
    end if;
    v_holds := v_holds and (v_count > 0) <> p_excluded[i];
    -- There is no other alternative: most texts are out with the first word, and the others cost as much each.
    if not v_holds and p_groups[cardinality(p_groups)] = p_groups[1] then
      return null;
    end if;
  end loop;
  if v_found or v_holds then
    return round(v_score::numeric, 6);
  end if;
  return null;
end;
$$;
comment on routine private.search_score is
  'How well a text matches what parse_search read; null if it does not. BM25 without the rarity of words (k1 1.2, b 0.75, '
  'average 600 characters): a score depends on the text alone, so it is the same on every page.';
revoke all on routine private.search_score from public, anon, authenticated, service_role;


create function private.search_snippet(p_text text, p_highlight text) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_letter text := '[^' || private.word_breaks() || private.unspaced_scripts() || ']';
  -- Accents apart from their letters, as the expression expects them. U+0001 and U+0002 mark until all is escaped.
  v_text text := normalize(
    regexp_replace(translate(private.without_marks(left(p_text, 32768)), E'\u0001\u0002', ''), '\s+', ' ', 'g'), nfd
  );
  v_start integer := greatest(regexp_instr(v_text, p_highlight) - 60, 1);
  v_snippet text := substr(v_text, v_start, 240);
begin
  if v_start > 1 then
    v_snippet := '…' || ltrim(regexp_replace(v_snippet, '^' || v_letter || '{1,40}', ''));
  end if;
  if v_start + 240 <= char_length(v_text) then
    v_snippet := rtrim(regexp_replace(v_snippet, v_letter || '{1,40}$', '')) || '…';
  end if;
  v_snippet := normalize(regexp_replace(v_snippet, '(' || p_highlight || ')', E'\u0001\\1\u0002', 'g'), nfc);
  v_snippet := replace(replace(replace(replace(replace(
    v_snippet, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
  return replace(replace(v_snippet, E'\u0001', '<mark>'), E'\u0002', '</mark>');
end;
$$;
comment on routine private.search_snippet is
  'Some 240 characters around the first match. The text is escaped, so that the only HTML in it is <mark> and </mark>.';
revoke all on routine private.search_snippet from public, anon, authenticated, service_role;


create function private.shown_by(p_conversation_id uuid, p_sequence_order integer) returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  -- A fork is younger than what it was made from, so the oldest is found without looking below the living ones.
  with recursive shown (id, deleted_at, created_at) as (
    select c.id, c.deleted_at, c.created_at
    from public.conversations c
    where c.id = p_conversation_id
    union all
    select c.id, c.deleted_at, c.created_at
    from shown s
    join public.conversations c on c.parent_id = s.id and c.fork_sequence >= p_sequence_order
    where s.deleted_at is not null
  )
  select s.id from shown s where s.deleted_at is null order by s.created_at, s.id limit 1;
$$;
comment on routine private.shown_by is
  'The conversation that shows a message: its owner, else the oldest living fork that shares it, else null.';
revoke all on routine private.shown_by from public, anon, authenticated, service_role;


create function private.search_messages(
  p_query text,
  p_limit integer,
  p_after_score numeric,
  p_after_created_at timestamptz,
  p_after_id uuid,
  p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- The planner takes the call for a dear one and would compile it and start workers, which takes longer than the search.
set jit = off
set max_parallel_workers_per_gather = 0
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_search record := private.parse_search(p_query);
  -- What every match has, where there are no alternatives.
  v_required text[] := array(
    select p.pattern
    from unnest(v_search.o_groups, v_search.o_patterns, v_search.o_excluded) as p (alternative, pattern, excluded)
    where not p.excluded and v_search.o_groups[1] = v_search.o_groups[cardinality(v_search.o_groups)]
  );
  v_data jsonb;
  v_last jsonb;
begin
  perform private.require_limit(p_limit);
  perform private.take_turn(v_user_id::text);
  with own as materialized (
    select c.id, c.last_sequence_order, c.deleted_at from public.conversations c where c.user_id = v_user_id
  ),
  -- From each block that has not got the words to the next one.
  ranges as (
    select
      r.id,
      r.deleted_at,
      r.up_to as after,
      coalesce(lead(r.after) over (partition by r.id order by r.after, r.up_to), r.last_sequence_order) as up_to
    from (
      select c.*, 0::bigint as after, 0::bigint as up_to from own c
      union all
      select c.*, f.after, f.up_to
      from own c
      cross join lateral (
        select f.block::bigint * 64 as after, f.up_to_sequence as up_to
        from private.search_filters f
        where f.conversation_id = c.id and not private.may_match(f.words, v_search.o_word_groups, v_search.o_words)
        offset 0
      ) f
    ) r
  ),
  candidates as materialized (
    select m.row_id, m.id, m.created_at, r.deleted_at
    from ranges r
    cross join lateral (
      select m.ctid as row_id, m.id, m.created_at
      from public.conversation_messages m
      where m.conversation_id = r.id and m.sequence_order > r.after and m.sequence_order <= r.up_to
      offset 0
    ) m
    where r.after < r.up_to and v_search.o_words is distinct from '{}'
  ),
  hits as (
    (
      select n.id, m.conversation_id, m.sequence_order, m.role, n.created_at, m.score
      from (
        select * from candidates n order by n.created_at desc, n.id desc
      ) n
      cross join lateral (
        select
          m.conversation_id, m.sequence_order, m.role,
          private.search_score(
            case
              when num_nonnulls(m.parts, m.function_call, m.tool_calls, m.item) = 0 then m.content
              else private.message_text(m)
            end,
            v_search.o_groups, v_search.o_patterns, v_search.o_excluded
          ) as score
        from public.conversation_messages m
        where m.ctid = n.row_id
          -- A fifth of what a score costs, and as good where the text is short, and ASCII: nothing to cut off or to decompose.
          and (
            m.content ~ all (v_required) or num_nonnulls(m.parts, m.function_call, m.tool_calls, m.item) > 0
            or octet_length(m.content) > 32768 or octet_length(m.content) <> char_length(m.content)
          )
        offset 0
      ) m
      where m.score is not null
        -- Of a tombstone, and of an import that is not finished, only what a living fork shows.
        and (n.deleted_at is null or private.shown_by(m.conversation_id, m.sequence_order) is not null)
      order by n.created_at desc, n.id desc
      limit 1000
    )
    union all
    -- No index on the titles: an index there would make every append rewrite it. A user's conversations are few.
    select c.id, c.id, null, null, c.created_at, c.score
    from (
      select
        c.id, c.created_at,
        2 * private.search_score(c.title, v_search.o_groups, v_search.o_patterns, v_search.o_excluded) as score
      from public.conversations c
      where c.user_id = v_user_id and c.deleted_at is null and c.title is not null
      offset 0
    ) c
    where c.score is not null
  ),
  page as (
    select h.*, row_number() over (order by h.score desc, h.created_at desc, h.id desc) as n
    from hits h
    where p_after_id is null or (h.score, h.created_at, h.id) < (p_after_score, p_after_created_at, p_after_id)
    order by h.score desc, h.created_at desc, h.id desc
    limit p_limit + 1
  )
  select
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'conversation_id', c.id,
          'title', c.title,
          'message', case
            when p.sequence_order is not null then jsonb_build_object(
              'id', p.id, 'sequence_order', p.sequence_order, 'role', p.role, 'created_at', p.created_at
            )
          end,
          'snippet', private.search_snippet(
            case when m.id is null then c.title else private.message_text(m) end, v_search.o_highlight
          ),
          'score', p.score
        ) order by p.n
      ),
      '[]'
    ),
    jsonb_agg(
      jsonb_build_object('score', p.score, 'created_at', p.created_at, 'id', p.id)
    ) filter (where p.n = p_limit) -> 0
  into v_data, v_last
  from page p
  join public.conversations c on c.id = case
    when p.sequence_order is null then p.conversation_id
    else private.shown_by(p.conversation_id, p.sequence_order)
  end
  left join public.conversation_messages m on m.id = p.id and p.sequence_order is not null;

  return jsonb_build_object(
    'data', v_data - p_limit,
    'has_more', jsonb_array_length(v_data) > p_limit,
    'last', case when jsonb_array_length(v_data) > p_limit then v_last end
  );
end;
$$;
comment on routine private.search_messages is 'See public.search_messages. Definer: nobody else reads the filters.';


create function public.search_messages(
  p_query text,
  p_limit integer default 50,
  p_after_score numeric default null,
  p_after_created_at timestamptz default null,
  p_after_id uuid default null,
  p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.search_messages(p_query, p_limit, p_after_score, p_after_created_at, p_after_id, p_user_id);
comment on routine public.search_messages is
  'A page of what the user wrote, read or named that matches p_query (see private.parse_search), best first, below '
  '(p_after_score, p_after_created_at, p_after_id). Of messages, the newest 1,000 matches are ranked. Answers {data, '
  'has_more, last}; a hit is {conversation_id, title, message (null: the title matches), snippet (HTML, text escaped, '
  'matches in <mark>), score}, last what the next page comes below.';
revoke all on routine private.search_messages, public.search_messages from public, anon, authenticated, service_role;
grant execute on routine private.search_messages, public.search_messages to authenticated, service_role;

-- Search filters: off the path of who appends, one for every 64 numbers of a conversation instead of an index entry for every
-- word of a message (docs/decisions/0016).

create table private.search_filters (
  conversation_id uuid not null,
  block integer not null,
  up_to_sequence integer not null default 0,
  words bytea,
  constraint search_filters_pkey primary key (conversation_id, block),
  constraint search_filters_conversation_id_fkey foreign key (conversation_id)
    references public.conversations (id) on delete cascade,
  constraint search_filters_words_check check (words is not null or up_to_sequence = 0)
);

create index idx_search_filters_unfilled on private.search_filters (conversation_id, block) where words is null;

comment on table private.search_filters is
  'Which words the messages of a conversation may have, in blocks of 64 numbers. A search passes over the messages of a block '
  'whose filter has not got its words, and reads all others: a filter that is missing or old costs time, never a match.';
comment on column private.search_filters.block is 'The messages 64 × block + 1 to 64 × block + 64.';
comment on column private.search_filters.up_to_sequence is 'The last of them that the filter knows of.';
comment on column private.search_filters.words is
  'A Bloom filter: two bits for each word, see private.search_filter. Null: private.search_filter_step has yet to fill it.';

select private.close_table('private.search_filters', '{block, up_to_sequence}');


create function private.word_hashes(p_words text[]) returns bigint[]
language sql
immutable
parallel safe
set search_path = ''
as $$
  -- The hash of hash partitions, which has to survive an upgrade of Postgres as well. Of letters that are one letter in upper
  -- case: σ and ς are both Σ, and a search for either finds that.
  select coalesce(array_agg(distinct pg_catalog.hashtextextended(lower(upper(w.word)) collate "C", 0)), '{}')
  from unnest(p_words) as w (word)
  where w.word <> '';
$$;
comment on routine private.word_hashes is 'A hash of 64 bits for each different word, whatever its case.';
revoke all on routine private.word_hashes from public, anon, authenticated, service_role;


create function private.search_filter(p_hashes bigint[]) returns bytea
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
declare
  v_bytes integer := least(greatest(cardinality(p_hashes), 1), 8192);
  v_filter bytea := decode(repeat('00', v_bytes), 'hex');
  v_bits bigint := v_bytes * 8;
  v_hash bigint;
begin
  if cardinality(p_hashes) > 4 * v_bytes then
    return '\xff';
  end if;
  foreach v_hash in array p_hashes loop
    v_filter := set_bit(set_bit(v_filter, (v_hash & 4294967295) % v_bits, 1), ((v_hash >> 32) & 4294967295) % v_bits, 1);
  end loop;
  return v_filter;
end;
$$;
comment on routine private.search_filter is
  'A Bloom filter of hashed words: a byte for each word and two of its bits set, so that a word that is not there seems to be '
  'in 5 of 100 cases. At most 8 KiB, and for more than 32,768 words, which would set most bits there, a single byte that has '
  'every word: setting each bit copies the filter.';
revoke all on routine private.search_filter from public, anon, authenticated, service_role;


create function private.may_match(p_filter bytea, p_groups integer[], p_hashes bigint[]) returns boolean
language plpgsql
immutable
parallel safe
strict
cost 50
set search_path = ''
as $$
declare
  v_bits bigint := octet_length(p_filter) * 8;
  v_group integer := p_groups[1];
  v_holds boolean := true;
begin
  for i in 1 .. cardinality(p_hashes) loop
    if p_groups[i] <> v_group then
      if v_holds then
        return true;
      end if;
      v_group := p_groups[i];
      v_holds := true;
    end if;
    v_holds := v_holds
      and get_bit(p_filter, (p_hashes[i] & 4294967295) % v_bits) = 1
      and get_bit(p_filter, ((p_hashes[i] >> 32) & 4294967295) % v_bits) = 1;
  end loop;
  return v_holds;
end;
$$;
comment on routine private.may_match is
  'Whether a filter has all words of one of the alternatives: word i is of the alternative p_groups[i].';
revoke all on routine private.may_match from public, anon, authenticated, service_role;


create function private.begin_search_filter() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_block integer := (new.sequence_order - 1) / 64;
begin
  insert into private.search_filters (conversation_id, block) values (new.conversation_id, v_block)
  on conflict do nothing;
  -- The block before is complete. If its filter was made when it was not, it is made again.
  update private.search_filters f set words = null, up_to_sequence = 0
  where f.conversation_id = new.conversation_id and f.block = v_block - 1
    and f.words is not null and f.up_to_sequence < v_block * 64;
  return null;
end;
$$;
comment on routine private.begin_search_filter is 'Leaves word that a conversation has begun another block.';
revoke all on routine private.begin_search_filter from public, anon, authenticated, service_role;

create trigger begin_search_filter after insert on public.conversation_messages
  for each row when (new.sequence_order % 64 = 1)
  execute function private.begin_search_filter();


create function private.begin_fork_filter() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into private.search_filters (conversation_id, block) values (new.id, new.fork_sequence / 64);
  return null;
end;
$$;
comment on routine private.begin_fork_filter is 'A fork begins amid a block.';
revoke all on routine private.begin_fork_filter from public, anon, authenticated, service_role;

create trigger begin_fork_filter after insert on public.conversations
  for each row when (new.fork_sequence % 64 <> 0)
  execute function private.begin_fork_filter();


create function private.make_search_filter(p_conversation_id uuid, p_block integer) returns private.search_filters
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_last integer;
  v_words text[];
begin
  -- Numbers are given in the order of commits: who sees one of them sees all before it.
  select max(m.sequence_order), array_agg(w.word)
  into v_last, v_words
  from public.conversation_messages m
  left join lateral string_to_table(
    private.text_lexemes(private.fold_text(left(private.message_text(m), 32768))), ' '
  ) as w (word) on true
  where m.conversation_id = p_conversation_id
    and m.sequence_order > p_block * 64 and m.sequence_order <= p_block::bigint * 64 + 64;
  return row(
    p_conversation_id, p_block, coalesce(v_last, p_block * 64), private.search_filter(private.word_hashes(v_words))
  );
end;
$$;
comment on routine private.make_search_filter is
  'The filter of a block, from its messages: of each the first 32,768 characters. Stores nothing.';
revoke all on routine private.make_search_filter from public, anon, authenticated, service_role;


create function private.search_filter_step() returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_filter record;
  v_made private.search_filters[] := '{}';
  v_versions xid[] := '{}';
  v_until constant timestamptz := clock_timestamp() + interval '1 second';
begin
  if not private.begin_step('private.search_filter_step') then
    return false;
  end if;
  -- Of a conversation that goes on, complete blocks only: its last one would be made again with every turn. Without a lock:
  -- one block may take longer than a request waits.
  for v_filter in
    select f.conversation_id, f.block, f.xmin as version
    from private.search_filters f
    join public.conversations c on c.id = f.conversation_id
    where f.words is null
      and (c.last_sequence_order >= f.block::bigint * 64 + 64 or c.updated_at < clock_timestamp() - interval '10 minutes')
    limit 100
  loop
    v_made := v_made || private.make_search_filter(v_filter.conversation_id, v_filter.block);
    v_versions := v_versions || v_filter.version;
    exit when clock_timestamp() > v_until;
  end loop;

  -- Who deletes a message writes to the filter, which is another version then, and is made again.
  with unchanged as (
    select f.conversation_id, f.block, m.up_to_sequence, m.words
    from rows from (unnest(v_made), unnest(v_versions)) as m (conversation_id, block, up_to_sequence, words, version)
    join private.search_filters f using (conversation_id, block)
    where f.xmin = m.version
      and not exists (
        select from public.conversation_messages s
        where s.conversation_id = m.conversation_id
          and s.sequence_order > m.up_to_sequence and s.sequence_order <= m.block::bigint * 64 + 64
      )
    for update of f skip locked
  )
  update private.search_filters f set words = u.words, up_to_sequence = u.up_to_sequence
  from unchanged u
  where f.conversation_id = u.conversation_id and f.block = u.block;
  return found;
end;
$$;
comment on routine private.search_filter_step is
  'Makes up to 100 filters, for about a second: of blocks that are complete, and of conversations that have been quiet for ten '
  'minutes. It locks them for no longer than it takes to write what is made, and waits for nobody. True while there may be '
  'more to do.';
revoke all on routine private.search_filter_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-search-filters', '* * * * *', 'private.search_filter_step()');


create function private.forget_words(p_conversation_id uuid, p_sequence_order integer) returns void
language sql
security definer
set search_path = ''
as $$
  update private.search_filters f set words = null, up_to_sequence = 0
  -- An empty one as well: the job may have read the message already, and what it makes of it is not stored then.
  where f.conversation_id = p_conversation_id and f.block = (p_sequence_order - 1) / 64;
$$;
comment on routine private.forget_words is
  'Has the filter of a message''s block made again: something there is deleted, and nothing is to tell of it.';
revoke all on routine private.forget_words from public, anon, authenticated, service_role;

-- Text to words, for searches and their filters.

-- Character classes as the inside of a bracket expression. Spelled out instead of \w or the text search parser: those
-- follow the C library or ICU, and a filter made with one version of it would quietly miss words under the next.
create function private.word_breaks() returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select '\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7'
    '\u055a-\u055f\u0589\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u1680\u180e'
    '\u2000-\u25ff\u27c0-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d-\u3040\u30a0\u30fb\ufe00-\ufe6f'
    '\ufeff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U000e0000-\U000e0fff';
$$;
comment on routine private.word_breaks is 'Characters that end a word: space, punctuation, symbols.';
revoke all on routine private.word_breaks from public, anon, authenticated, service_role;


create function private.unspaced_scripts() returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select '\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2600-\u27bf\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f'
    '\u3031-\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff'
    '\ua960-\ua97f\uac00-\ud7fb\uf900-\ufaff\uff66-\uff9f\U0001f000-\U0001faff\U00020000-\U0003ffff';
$$;
comment on routine private.unspaced_scripts is
  'Characters of scripts whose words a program cannot tell apart by spaces: Chinese, Japanese, Korean, Thai, Lao, '
  'Khmer, Burmese; and emoji. Searched as substrings.';
revoke all on routine private.unspaced_scripts from public, anon, authenticated, service_role;


create function private.fold_text(p_text text) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
declare
  v_text text := p_text;
begin
  if octet_length(v_text) = char_length(v_text) then
    return ' ' || btrim(regexp_replace(lower(v_text collate "C"), '[^a-z0-9]+', ' ', 'g')) || ' ';
  end if;
  v_text := regexp_replace(normalize(private.without_marks(v_text), nfkd), '[\u0300-\u036f]+', '', 'g');
  v_text := regexp_replace(lower(normalize(v_text, nfkc)), '[' || private.word_breaks() || ']+', ' ', 'g');
  if v_text ~ ('[' || private.unspaced_scripts() || ']') then
    v_text := regexp_replace(
      v_text, '([' || private.unspaced_scripts() || '])(?=[^ ' || private.unspaced_scripts() || '])', '\1 ', 'g'
    );
    v_text := regexp_replace(
      v_text, '([^ ' || private.unspaced_scripts() || '])(?=[' || private.unspaced_scripts() || '])', '\1 ', 'g'
    );
  end if;
  return ' ' || btrim(v_text) || ' ';
end;
$$;
comment on routine private.fold_text is
  'The words of a text, each between single spaces: lower case, without accents and punctuation, compatibility forms '
  'made plain. A run of an unspaced script is one word: "GPT模型, Café!" becomes " gpt 模型 cafe ". What private.without_marks '
  'takes out parts words.';
revoke all on routine private.fold_text from public, anon, authenticated, service_role;


create function private.text_lexemes(p_folded text) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
declare
  v_text text := btrim(p_folded);
begin
  -- Pairs from the first character on, then pairs from the second: every bigram, and the last character by itself.
  if octet_length(v_text) <> char_length(v_text) and v_text ~ ('[' || private.unspaced_scripts() || ']') then
    v_text := regexp_replace(v_text, '([' || private.unspaced_scripts() || ']{2})', '\1 ', 'g') || ' '
      || regexp_replace(
        regexp_replace(v_text, '(^| )([' || private.unspaced_scripts() || '])', '\1\2 ', 'g'),
        '([' || private.unspaced_scripts() || ']{2})', '\1 ', 'g'
      );
  end if;
  -- What no one types, such as base64, and what a lexeme cannot hold.
  if v_text ~ '[^ ]{65}' then
    v_text := regexp_replace(v_text, '([^ ]{64})[^ ]+', '\1', 'g');
  end if;
  return v_text;
end;
$$;
comment on routine private.text_lexemes is
  'The lexemes of a folded text, separated by spaces: words, cut after 64 characters, and the bigrams of unspaced '
  'scripts, with the last character of each run by itself.';
revoke all on routine private.text_lexemes from public, anon, authenticated, service_role;


create function private.json_text(p_value jsonb) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
begin
  -- Looking everywhere costs a microsecond a value, in which nothing can cancel it.
  if octet_length(p_value::text) > 262144 then
    return (
      select string_agg(p.value ->> 'text', E'\n' order by p.n)
      from jsonb_array_elements(case jsonb_typeof(p_value) when 'array' then p_value end) with ordinality p (value, n)
      where jsonb_typeof(p.value -> 'text') = 'string'
    );
  end if;
  return (
    select string_agg(t.value #>> '{}', E'\n')
    from (
      select jsonb_path_query(p_value, 'strict $.** ? (@.type() == "object").keyvalue() ? (
        @.value.type() == "string" && !(@.key == "type" || @.key == "role" || @.key == "status" || @.key == "state"
          || @.key == "id" || @.key like_regex "(_id|Id)$" || @.key == "url" || @.key like_regex "(_url|Uri)$"
          || @.key == "data" || @.key == "file_data" || @.key == "encrypted_content" || @.key like_regex "[sS]ignature$"
          || @.key == "fingerprint" || @.key == "format" || @.key == "detail" || @.key like_regex "^(mime|media)_?[tT]ype$")
      ).value')
      union all
      select jsonb_path_query(p_value, 'strict $.** ? (@.type() == "array")[*] ? (@.type() == "string")')
    ) t (value)
  );
end;
$$;
comment on routine private.json_text is
  'The strings in a content part, a call or an item that say something: text, arguments and outputs of tools, refusals, summaries of '
  'reasoning, transcripts. Not ids, types, addresses, data and what only a provider can read. Of more than 256 KiB only the text of '
  'its elements.';
revoke all on routine private.json_text from public, anon, authenticated, service_role;


create function private.message_text(p_message public.conversation_messages) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
begin
  return concat_ws(
    E'\n', p_message.content, private.json_text(p_message.parts), private.json_text(p_message.function_call),
    private.json_text(p_message.tool_calls), private.json_text(p_message.item)
  );
end;
$$;
comment on routine private.message_text is
  'What is said in a message, in whichever shape: its content, and what private.json_text finds in its parts, calls and item.';
revoke all on routine private.message_text from public, anon, authenticated, service_role;

reset check_function_bodies;
