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
