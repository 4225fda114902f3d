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
  constraint conversations_expires_at_check check (isfinite(expires_at) and expires_at < '10000-01-01 00:00:00+00'),
  constraint conversations_title_check check (char_length(title) <= 1000),
  constraint conversations_metadata_check check (
    jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 65536
  )
)
-- Every append updates its row. Room on the page and no index on the columns that move keep that update HOT.
with (fillfactor = 80);

create index idx_conversations_video_id on public.conversations (user_id, video_id) where video_id is not null;
create index idx_conversations_parent_id on public.conversations (parent_id, fork_sequence) where parent_id is not null;

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
  constraint conversation_messages_type_check check (char_length(type) between 1 and 64),
  constraint conversation_messages_item_id_check check (char_length(item_id) between 1 and 256),
  constraint conversation_messages_name_check check (char_length(name) <= 256),
  constraint conversation_messages_model_check check (char_length(model) <= 256),
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

-- The client's own id protects a message for ever. Over a lineage of forks, append_messages checks it under the lock.
create unique index idx_conversation_messages_item_id
  on public.conversation_messages (conversation_id, item_id) where item_id is not null;

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

-- The conversations' own policy hides tombstones, and with them the messages that only forks still show.
create policy "Users see the messages of their own conversations" on public.conversation_messages
  for select to authenticated
  using (
    user_id = (select auth.uid())
    and exists (select from public.conversations c where c.id = conversation_id)
  );
create policy "Users add messages to their own conversations" on public.conversation_messages
  for insert to authenticated with check (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------------------
-- Lineage: a fork shares the first fork_sequence messages of its parent
-- ---------------------------------------------------------------------------------------------------------------------
create function private.read_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text
) returns setof public.conversation_messages
language plpgsql
stable
security definer
set search_path = ''
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
comment on function private.read_messages(uuid, integer, integer, integer, text) is
  'The messages that a conversation shows with p_after < sequence_order < p_before, at most p_limit, through its '
  'lineage. Each step up is one primary-key probe, and the walk stops when the page is full. Checks nobody''s rights.';
revoke all on function private.read_messages(uuid, integer, integer, integer, text)
  from public, anon, authenticated, service_role;


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
    with recursive line (id, parent_id, fork_sequence, upper) as (
      select c.id, c.parent_id, c.fork_sequence, 2147483647
      from public.conversations c
      where c.id = p_conversation_id
      union all
      select c.id, c.parent_id, c.fork_sequence, least(l.upper, l.fork_sequence)
      from line l
      join public.conversations c on c.id = l.parent_id
    ),
    -- Materialised: one index probe for each item and step of the line, and none for messages without an item_id.
    pairs as materialized (
      select
        s.sequence_order, s.item_id,
        (coalesce(m.type, 'message'), m.role, m.content, nullif(m.parts, 'null'), m.name,
          nullif(m.function_call, 'null'), nullif(m.tool_calls, 'null'), m.tool_call_id, m.model,
          nullif(m.usage, 'null'), coalesce(m.status, 'complete'), m.token_count,
          coalesce(nullif(m.metadata, 'null'), '{}'))
        is not distinct from
        (s.type, s.role, s.content, s.parts, s.name, s.function_call, s.tool_calls, s.tool_call_id, s.model, s.usage,
          s.status, s.token_count, s.metadata) as equal
      from jsonb_to_recordset(p_messages) as m (
        type text, role text, content text, parts jsonb, name text, function_call jsonb, tool_calls jsonb,
        tool_call_id text, item_id text, model text, usage jsonb, status text, token_count integer, metadata jsonb
      )
      cross join line l
      join public.conversation_messages s
        on s.conversation_id = l.id and s.item_id = m.item_id and s.sequence_order <= l.upper
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
comment on function private.known_items(uuid, jsonb) is
  'Which item_ids of a batch the lineage has already, as {item_id: sequence_order}. Raises PT409 item_conflict where one '
  'stands for other content, or twice in the batch.';
revoke all on function private.known_items(uuid, jsonb) from public, anon, authenticated, service_role;


create function private.append_result(p_conversation_id uuid, p_result jsonb) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'messages', coalesce(
      jsonb_agg(
        to_jsonb(m) - '{user_id,item}'::text[] || jsonb_build_object('conversation_id', p_conversation_id) order by s.n
      ),
      '[]'
    ),
    'last_sequence_order', p_result -> 'last_sequence_order'
  )
  from jsonb_array_elements_text(p_result -> 'sequences') with ordinality as s (sequence_order, n)
  cross join lateral private.read_messages(
    p_conversation_id, s.sequence_order::integer - 1, s.sequence_order::integer + 1, 1, 'asc'
  ) m;
$$;
comment on function private.append_result(uuid, jsonb) is
  'The answer of an append, {messages, last_sequence_order}, from the numbers of its messages. Messages deleted since '
  'are missing.';
revoke all on function private.append_result(uuid, jsonb) from public, anon, authenticated, service_role;


-- ---------------------------------------------------------------------------------------------------------------------
-- Numbering
-- ---------------------------------------------------------------------------------------------------------------------
create function private.require_messages(p_messages jsonb, p_more_fields text[] default '{}') returns void
language plpgsql
immutable
security invoker
set search_path = ''
as $$
declare
  v_fields text[] := p_more_fields
    || '{type,role,content,parts,name,function_call,tool_calls,tool_call_id,item_id,model,usage,status,token_count,metadata}';
  v_invalid bigint;
begin
  if jsonb_typeof(p_messages) is distinct from 'array' then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'messages is not an array.';
  end if;
  select m.n - 1 into v_invalid
  from jsonb_array_elements(p_messages) with ordinality as m (value, n)
  where case
    when jsonb_typeof(m.value) <> 'object' then true
    else m.value - v_fields <> '{}' or exists (
      select from unnest('{type,role,content,name,tool_call_id,item_id,model,status}'::text[]) as t (key)
      where jsonb_typeof(m.value -> t.key) not in ('string', 'null')
    )
  end
  limit 1;
  if found then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = format('messages[%s] is not a message, or has a field or a type that messages do not have.', v_invalid);
  end if;
end;
$$;
comment on function private.require_messages(jsonb, text[]) is
  'What zod says politely at the edge holds for a direct RPC call too: nothing is dropped, and nothing turned into text. '
  'Raises PT400 invalid_request. p_more_fields: what a message may have beside the fields of an append.';
revoke all on function private.require_messages(jsonb, text[]) from public, anon, authenticated, service_role;


create function private.append_messages(
  p_conversation_id uuid, p_messages jsonb, p_expected_sequence integer, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_author text := case when private.caller_role() = 'authenticated' then 'user' else 'service' end;
  v_scope text := 'POST /conversations/' || p_conversation_id || '/messages';
  v_result jsonb;
  v_last integer;
  v_known jsonb := '{}';
  v_new jsonb := p_messages;
  v_messages jsonb;
  v_sequences jsonb;
begin
  perform private.require_messages(p_messages);
  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(
      v_user_id, v_scope, p_idempotency_key, jsonb_build_array(p_messages, p_expected_sequence)
    );
  end if;

  -- The row lock is the queue: batches on one conversation are numbered one after the other.
  select c.last_sequence_order into v_last
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  for no key update;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  if v_result is not null then
    return private.append_result(p_conversation_id, v_result) || '{"replayed": true}';
  end if;

  if jsonb_path_exists(p_messages, '$[*].item_id ? (@ != null)') then
    v_known := private.known_items(p_conversation_id, p_messages);
    select coalesce(jsonb_agg(m.value order by m.n), '[]') into v_new
    from jsonb_array_elements(p_messages) with ordinality as m (value, n)
    where m.value ->> 'item_id' is null or not v_known ? (m.value ->> 'item_id');
  end if;

  if v_last <> p_expected_sequence and v_new <> '[]' then
    raise sqlstate 'PT409' using
      message = 'sequence_conflict',
      detail = format('The conversation is at %s, the request expected %s.', v_last, p_expected_sequence),
      hint = 'Load what is new, then append again.';
  end if;

  with stored as (
    insert into public.conversation_messages as s (
      conversation_id, user_id, sequence_order, type, role, content, parts, name, function_call, tool_calls,
      tool_call_id, item_id, model, usage, status, token_count, author, metadata
    )
    select
      p_conversation_id, v_user_id, v_last + m.n, coalesce(m.type, 'message'), m.role, m.content, nullif(m.parts, 'null'),
      m.name, nullif(m.function_call, 'null'), nullif(m.tool_calls, 'null'), m.tool_call_id, m.item_id, m.model,
      nullif(m.usage, 'null'), coalesce(m.status, 'complete'), m.token_count, v_author,
      coalesce(nullif(m.metadata, 'null'), '{}')
    from rows from (
      jsonb_to_recordset(v_new) as (
        type text, role text, content text, parts jsonb, name text, function_call jsonb, tool_calls jsonb,
        tool_call_id text, item_id text, model text, usage jsonb, status text, token_count integer, metadata jsonb
      )
    ) with ordinality as m (
      type, role, content, parts, name, function_call, tool_calls, tool_call_id, item_id, model, usage, status,
      token_count, metadata, n
    )
    returning s.*
  )
  select coalesce(jsonb_agg(to_jsonb(s) - '{user_id,item}'::text[] order by s.sequence_order), '[]') into v_messages
  from stored s;

  if v_new <> '[]' then
    update public.conversations c set
      last_sequence_order = v_last + jsonb_array_length(v_new),
      -- Not now(): a transaction that began earlier may get the lock later, and activity must not run backwards.
      updated_at = greatest(c.updated_at, clock_timestamp())
    where c.id = p_conversation_id;
  end if;

  v_last := v_last + jsonb_array_length(v_new);
  if p_idempotency_key is not null or v_known <> '{}' then
    -- Where each message of the batch is: an item that was known keeps its place, the others have the last numbers.
    select jsonb_agg(coalesce(m.known, v_last - jsonb_array_length(v_new) + m.new_before + 1) order by m.n)
    into v_sequences
    from (
      select
        (v_known ->> (m.value ->> 'item_id'))::integer as known,
        (m.n - 1 - count(v_known ->> (m.value ->> 'item_id')) over (order by m.n))::integer as new_before,
        m.n
      from jsonb_array_elements(p_messages) with ordinality as m (value, n)
    ) m;
    v_result := jsonb_build_object('sequences', v_sequences, 'last_sequence_order', v_last);
    if p_idempotency_key is not null then
      perform private.keep_idempotent_result(v_user_id, v_scope, p_idempotency_key, v_result);
    end if;
    if v_known <> '{}' then
      return private.append_result(p_conversation_id, v_result);
    end if;
  end if;
  return jsonb_build_object('messages', v_messages, 'last_sequence_order', v_last);
end;
$$;
comment on function private.append_messages(uuid, jsonb, integer, text, uuid) is
  'Appends a batch: all of it, contiguously, or nothing. See public.append_messages.';
revoke all on function private.append_messages(uuid, jsonb, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.append_messages(uuid, jsonb, integer, text, uuid) to authenticated, service_role;


create function private.number_message() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  -- Without claims it is no API call but a session of the database's own: there the policy, or its absence, decides.
  v_caller_id uuid := case when private.caller_role() is not null then private.caller_id(new.user_id) end;
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
  -- "on conflict do nothing" would skip the row after this trigger has moved the counter.
  if exists (select from public.conversation_messages m where m.id = new.id) then
    raise sqlstate 'PT409' using message = 'conflict', detail = 'A message has this id already.';
  end if;
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

create function private.require_limit(p_limit integer) returns void
language plpgsql
immutable
security invoker
set search_path = ''
as $$
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'limit is not between 1 and 1000.';
  end if;
end;
$$;
comment on function private.require_limit(integer) is 'Raises PT400 invalid_request unless a page size is 1 to 1,000.';
revoke all on function private.require_limit(integer) from public, anon, authenticated, service_role;
grant execute on function private.require_limit(integer) to authenticated, service_role;


create function private.require_metadata(p_metadata jsonb) returns void
language plpgsql
immutable
security invoker
set search_path = ''
as $$
begin
  if jsonb_typeof(p_metadata) <> 'object' or octet_length(p_metadata::text) > 65536 then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = 'metadata is not an object, or larger than 64 KiB as Postgres prints it.';
  end if;
end;
$$;
comment on function private.require_metadata(jsonb) is
  'The rule of conversations_metadata_check as an error that says so: PT400 invalid_request.';
revoke all on function private.require_metadata(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.require_metadata(jsonb) to authenticated, service_role;


create function private.require_video(p_video_id uuid, p_user_id uuid) returns void
language plpgsql
stable
security invoker
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
comment on function private.require_video(uuid, uuid) is
  'The rule of conversations_video_id_fkey as an error with a name: PT404 video_not_found unless the video is the user''s.';
revoke all on function private.require_video(uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function private.require_video(uuid, uuid) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- The API: one function for each request
-- ---------------------------------------------------------------------------------------------------------------------
create function public.append_messages(
  p_conversation_id uuid,
  p_messages jsonb,
  p_expected_sequence integer default null,
  p_idempotency_key text default null,
  p_user_id uuid default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.append_messages(p_conversation_id, p_messages, p_expected_sequence, p_idempotency_key, p_user_id);
$$;
comment on function public.append_messages(uuid, jsonb, integer, text, uuid) is
  'Appends messages (a JSON array) to a conversation: contiguous and gapless, all or none. Answers {messages, '
  'last_sequence_order}. With p_expected_sequence it appends only if that is the last number, else PT409. A repeated '
  'p_idempotency_key answers as the first time, with replayed: true; a message whose item_id is known is not stored again.';
revoke all on function public.append_messages(uuid, jsonb, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.append_messages(uuid, jsonb, integer, text, uuid) to authenticated, service_role;


create function private.create_conversation(
  p_conversation jsonb, p_messages jsonb, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_video_id uuid := (p_conversation ->> 'video_id')::uuid;
  v_result jsonb;
  v_id uuid;
  v_conversation jsonb;
begin
  if p_conversation - '{title,video_id,metadata,expires_at}'::text[] is distinct from '{}'
    or jsonb_typeof(p_conversation -> 'title') not in ('string', 'null')
  then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'A field of the conversation is unknown, or of the wrong type.';
  end if;

  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(
      v_user_id, 'POST /conversations', p_idempotency_key, jsonb_build_array(p_conversation, p_messages)
    );
    if v_result is not null then
      return public.get_conversation((v_result ->> 'conversation_id')::uuid, v_user_id) || '{"replayed": true}';
    end if;
  end if;

  perform private.require_video(v_video_id, v_user_id);
  perform private.require_metadata(p_conversation -> 'metadata');
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
    perform private.append_messages(v_id, p_messages, null, null, v_user_id);
  end if;
  if p_idempotency_key is not null then
    perform private.keep_idempotent_result(
      v_user_id, 'POST /conversations', p_idempotency_key, jsonb_build_object('conversation_id', v_id)
    );
  end if;
  select to_jsonb(c) - 'deleted_at' into v_conversation from public.conversations c where c.id = v_id;
  return v_conversation;
end;
$$;
comment on function private.create_conversation(jsonb, jsonb, text, uuid) is 'See public.create_conversation.';
revoke all on function private.create_conversation(jsonb, jsonb, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.create_conversation(jsonb, jsonb, text, uuid) to authenticated, service_role;


create function public.create_conversation(
  p_conversation jsonb default '{}',
  p_messages jsonb default '[]',
  p_idempotency_key text default null,
  p_user_id uuid default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.create_conversation(p_conversation, p_messages, p_idempotency_key, p_user_id);
$$;
comment on function public.create_conversation(jsonb, jsonb, text, uuid) is
  'Creates a conversation ({title?, video_id?, metadata?, expires_at?}) with its first messages: both or neither. A '
  'repeated p_idempotency_key answers the one created the first time, with replayed: true.';
revoke all on function public.create_conversation(jsonb, jsonb, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.create_conversation(jsonb, jsonb, text, uuid) to authenticated, service_role;


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
  perform private.require_limit(p_limit);
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
  v_metadata jsonb;
  v_conversation jsonb;
begin
  if p_changes - '{title,summary,video_id,pinned,expires_at,metadata}'::text[] is distinct from '{}'
    or jsonb_typeof(p_changes -> 'title') not in ('string', 'null')
    or jsonb_typeof(p_changes -> 'summary') not in ('string', 'null')
    or jsonb_typeof(p_changes -> 'metadata') <> 'object'
  then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'A changed field is unknown, or of the wrong type.';
  end if;
  perform private.require_video(v_video_id, v_user_id);
  -- Locked before the merge, so that two changes of metadata cannot lose one another.
  select (c.metadata || coalesce(p_changes -> 'metadata', '{}')) - array(
    select m.key from jsonb_each(p_changes -> 'metadata') m where m.value = 'null'
  ) into v_metadata
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  for no key update;
  perform private.require_metadata(v_metadata);

  update public.conversations c set
    title = case when p_changes ? 'title' then p_changes ->> 'title' else c.title end,
    summary = case when p_changes ? 'summary' then p_changes ->> 'summary' else c.summary end,
    video_id = case when p_changes ? 'video_id' then v_video_id else c.video_id end,
    pinned = coalesce((p_changes -> 'pinned')::boolean, c.pinned),
    expires_at = case when p_changes ? 'expires_at' then (p_changes ->> 'expires_at')::timestamptz else c.expires_at end,
    metadata = v_metadata
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
  update public.conversations c set
    deleted_at = now(), title = null, summary = null, metadata = '{}', video_id = null, expires_at = null
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  perform private.prune_lineage(p_conversation_id);
end;
$$;
comment on function private.delete_conversation(uuid, uuid) is 'See public.delete_conversation.';
revoke all on function private.delete_conversation(uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function private.delete_conversation(uuid, uuid) to authenticated, service_role;


create function private.prune_lineage(p_conversation_id uuid) returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_id uuid := p_conversation_id;
  v_parent_id uuid;
  v_deleted_at timestamptz;
  v_shown integer;
begin
  loop
    -- Lock first, judge afterwards: a fork that is being made holds a key share lock here, and a parent that another
    -- transaction is deleting looks alive until that has committed.
    select c.parent_id, c.deleted_at into v_parent_id, v_deleted_at
    from public.conversations c
    where c.id = v_id
    for update;
    exit when not found or v_deleted_at is null;

    select max(c.fork_sequence) into v_shown from public.conversations c where c.parent_id = v_id;
    if v_shown is null then
      delete from public.conversations c where c.id = v_id;
      exit when v_parent_id is null;
      v_id := v_parent_id;
    else
      -- A fork always lies above its parent's own fork, so what the parent shares with its ancestors stays shown.
      delete from public.conversation_messages m where m.conversation_id = v_id and m.sequence_order > v_shown;
      exit;
    end if;
  end loop;
end;
$$;
comment on function private.prune_lineage(uuid) is
  'Removes what nothing shows any more: a tombstone without forks, then its parent if that is one too, and so on upwards; '
  'of a tombstone that still has forks, the messages above the highest number they share.';
revoke all on function private.prune_lineage(uuid) from public, anon, authenticated, service_role;


create function public.delete_conversation(p_conversation_id uuid, p_user_id uuid default null) returns void
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.delete_conversation(p_conversation_id, p_user_id);
$$;
comment on function public.delete_conversation(uuid, uuid) is
  'Deletes a conversation and its messages, except those that living forks still show.';
revoke all on function public.delete_conversation(uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function public.delete_conversation(uuid, uuid) to authenticated, service_role;


create function private.fork_conversation(
  p_conversation_id uuid, p_at integer, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
volatile
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
  v_fork jsonb;
begin
  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(v_user_id, v_scope, p_idempotency_key, jsonb_build_array(p_at));
    if v_result is not null then
      return public.get_conversation((v_result ->> 'conversation_id')::uuid, v_user_id) || '{"replayed": true}';
    end if;
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
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = format('at is %s, the conversation goes from 0 to %s.', p_at, v_source.last_sequence_order);
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

  insert into public.conversations as c (
    user_id, video_id, title, metadata, parent_id, fork_sequence, last_sequence_order
  )
  values (
    v_user_id, v_source.video_id, v_source.title, v_source.metadata, v_parent_id,
    case when v_parent_id is not null then p_at end, p_at
  )
  returning to_jsonb(c) - 'deleted_at' into v_fork;
  if p_idempotency_key is not null then
    perform private.keep_idempotent_result(
      v_user_id, v_scope, p_idempotency_key, jsonb_build_object('conversation_id', v_fork -> 'id')
    );
  end if;
  return v_fork;
end;
$$;
comment on function private.fork_conversation(uuid, integer, text, uuid) is 'See public.fork_conversation.';
revoke all on function private.fork_conversation(uuid, integer, text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.fork_conversation(uuid, integer, text, uuid) to authenticated, service_role;


create function public.fork_conversation(
  p_conversation_id uuid, p_at integer, p_idempotency_key text default null, p_user_id uuid default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.fork_conversation(p_conversation_id, p_at, p_idempotency_key, p_user_id);
$$;
comment on function public.fork_conversation(uuid, integer, text, uuid) is
  'A new conversation that shares the first p_at messages of this one: one row, whatever p_at is. Title, video and '
  'metadata are taken over, the summary is not: it may tell of what comes after.';
revoke all on function public.fork_conversation(uuid, integer, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.fork_conversation(uuid, integer, text, uuid) to authenticated, service_role;


create function private.list_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text, p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies; messages may have 4 MiB each.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_user_id uuid := private.caller_id(p_user_id);
  v_message public.conversation_messages;
  v_messages public.conversation_messages[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
  v_page jsonb;
begin
  perform private.require_limit(p_limit);
  if p_order is null or p_order not in ('asc', 'desc') then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'order is not asc or desc.';
  end if;
  if not exists (
    select from public.conversations c
    where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null
  ) then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;

  -- One more than the page, to know whether there is more. A page that is full of bytes ends early, after one message
  -- at the least. octet_length(text) knows the size without reading the text.
  for v_message in
    select * from private.read_messages(
      p_conversation_id, coalesce(p_after, 0), coalesce(p_before, 2147483647), p_limit + 1, p_order
    )
  loop
    v_bytes := v_bytes + coalesce(octet_length(v_message.content), 0) + case
      when num_nonnulls(v_message.parts, v_message.function_call, v_message.tool_calls, v_message.usage) > 0
        or v_message.metadata <> '{}'
      then octet_length(concat(
        v_message.parts, v_message.function_call, v_message.tool_calls, v_message.usage, v_message.metadata
      ))
      else 0
    end;
    v_has_more := cardinality(v_messages) = p_limit or (v_bytes > c_max_bytes and v_messages <> '{}');
    exit when v_has_more;
    v_messages := v_messages || v_message;
  end loop;

  select coalesce(
    jsonb_agg(
      to_jsonb(m) - '{user_id,item}'::text[] || jsonb_build_object('conversation_id', p_conversation_id)
      order by case when p_order = 'desc' then -m.sequence_order else m.sequence_order end
    ),
    '[]'
  ) into v_page
  from unnest(v_messages) m;
  return jsonb_build_object('data', v_page, 'has_more', v_has_more);
end;
$$;
comment on function private.list_messages(uuid, integer, integer, integer, text, uuid) is 'See public.list_messages.';
revoke all on function private.list_messages(uuid, integer, integer, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.list_messages(uuid, integer, integer, integer, text, uuid)
  to authenticated, service_role;


create function public.list_messages(
  p_conversation_id uuid,
  p_after integer default null,
  p_before integer default null,
  p_limit integer default 50,
  p_order text default 'asc',
  p_user_id uuid default null
) returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select private.list_messages(p_conversation_id, p_after, p_before, p_limit, p_order, p_user_id);
$$;
comment on function public.list_messages(uuid, integer, integer, integer, text, uuid) is
  'A page of a conversation''s messages with p_after < sequence_order < p_before, in p_order (asc or desc). Answers '
  '{data, has_more}.';
revoke all on function public.list_messages(uuid, integer, integer, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.list_messages(uuid, integer, integer, integer, text, uuid)
  to authenticated, service_role;


create function private.delete_message(p_conversation_id uuid, p_message_id uuid, p_user_id uuid) returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
begin
  if not exists (
    select from public.conversations c
    where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null
  ) then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  with recursive line (id, parent_id, fork_sequence, upper) as (
    select c.id, c.parent_id, c.fork_sequence, 2147483647
    from public.conversations c
    where c.id = p_conversation_id
    union all
    select c.id, c.parent_id, c.fork_sequence, least(l.upper, l.fork_sequence)
    from line l
    join public.conversations c on c.id = l.parent_id
  )
  delete from public.conversation_messages m
  using line l
  where m.id = p_message_id and m.conversation_id = l.id and m.sequence_order <= l.upper;
  if not found then
    raise sqlstate 'PT404' using message = 'message_not_found';
  end if;
end;
$$;
comment on function private.delete_message(uuid, uuid, uuid) is 'See public.delete_message.';
revoke all on function private.delete_message(uuid, uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function private.delete_message(uuid, uuid, uuid) to authenticated, service_role;


create function public.delete_message(p_conversation_id uuid, p_message_id uuid, p_user_id uuid default null)
returns void
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.delete_message(p_conversation_id, p_message_id, p_user_id);
$$;
comment on function public.delete_message(uuid, uuid, uuid) is
  'Deletes a message, through whichever conversation shows it, from all that show it. Numbers do not change and are not '
  'used again.';
revoke all on function public.delete_message(uuid, uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function public.delete_message(uuid, uuid, uuid) to authenticated, service_role;
