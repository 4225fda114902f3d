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
