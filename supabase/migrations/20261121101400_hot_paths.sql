-- Loading and appending, with less on the way (docs/decisions/0014).

-- In PL/pgSQL, whose plans a connection keeps. A function in SQL that is not inlined, and one with a search_path is not, is
-- parsed and planned again by every statement that calls it.
create or replace function private.caller_role() returns text
language plpgsql
stable
security invoker
set search_path = ''
as $$
begin
  return coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
    nullif(current_setting('request.jwt.claim.role', true), '')
  );
end;
$$;


create or replace function private.caller_id(p_user_id uuid) returns uuid
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- As in private.caller_role, which would be one more call on every path.
  v_role text := coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
    nullif(current_setting('request.jwt.claim.role', true), '')
  );
  v_id uuid;
begin
  if v_role = 'authenticated' then
    v_id := auth.uid();
    if v_id is not null then
      return v_id;
    end if;
  elsif v_role = 'service_role' then
    if p_user_id is not null and not exists (select from auth.users u where u.id = p_user_id) then
      raise sqlstate 'PT404' using
        message = 'user_not_found',
        detail = 'No auth user has the id that the request acts for.';
    end if;
    return p_user_id;
  end if;
  raise sqlstate 'PT401' using
    message = 'unauthorized',
    detail = 'The call carries neither a user''s token nor the secret key.';
end;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Pages of messages
-- ---------------------------------------------------------------------------------------------------------------------
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
  created_at timestamptz
);
comment on type private.listed_message is 'A message as the API answers it: without its owner, and without what only the OpenAI API shows.';

create view private.listed_messages with (security_invoker = true) as
select
  m.conversation_id,
  m.sequence_order,
  row(
    m.id, m.conversation_id, m.sequence_order, m.type, m.role, m.content, m.parts, m.name, m.function_call, m.tool_calls,
    m.tool_call_id, m.item_id, m.model, m.usage, m.status, m.token_count, m.author, m.metadata, m.created_at
  )::private.listed_message as message,
  -- As printed: a number in JSON may be stored in a few bytes and print as thousands. octet_length(text) knows the size
  -- without reading the text.
  coalesce(octet_length(m.content), 0) + case
    when num_nonnulls(m.parts, m.function_call, m.tool_calls, m.usage) > 0 or m.metadata <> '{}'
    then octet_length(concat(m.parts, m.function_call, m.tool_calls, m.usage, m.metadata))
    else 0
  end as bytes
from public.conversation_messages m;
comment on view private.listed_messages is 'Messages as private.list_messages answers them, and about how long each is.';
revoke all on private.listed_messages from public, anon, authenticated, service_role;


drop function public.list_messages(uuid, integer, integer, integer, text, uuid);
drop function private.list_messages(uuid, integer, integer, integer, text, uuid);

create function private.list_any_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text
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
    json_agg(
      row(
        m.id, p_conversation_id, m.sequence_order, m.type, m.role, m.content, m.parts, m.name, m.function_call, m.tool_calls,
        m.tool_call_id, m.item_id, m.model, m.usage, m.status, m.token_count, m.author, m.metadata, m.created_at
      )::private.listed_message
      order by case when p_order = 'desc' then -m.sequence_order else m.sequence_order end
    ),
    '[]'
  ) into v_data
  from unnest(v_messages) m;
  return json_build_object('data', v_data, 'has_more', v_has_more);
end;
$$;
comment on function private.list_any_messages(uuid, integer, integer, integer, text) is
  'private.list_messages for conversations that share messages with others, and for pages of more than 8 MiB. Checks nobody''s '
  'rights.';
revoke all on function private.list_any_messages(uuid, integer, integer, integer, text)
  from public, anon, authenticated, service_role;


create function private.list_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text, p_user_id uuid
) returns json
language plpgsql
stable
security definer
set search_path = ''
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
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'order is not asc or desc.';
  end if;
  v_max_bytes := 8 * 1024 * 1024 / p_limit;
  select c.fork_sequence into v_fork_sequence
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  elsif v_fork_sequence is not null then
    return private.list_any_messages(p_conversation_id, v_after, v_before, p_limit, p_order);
  end if;

  if p_order = 'asc' then
    select
      json_agg(m.message) filter (where m.bytes <= v_max_bytes), count(*), max(m.bytes), max(m.sequence_order)
    into v_data, v_count, v_bytes, v_after
    from (
      select *
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
      select *
      from private.listed_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
      order by m.sequence_order desc
      limit p_limit
    ) m;
  end if;
  if v_bytes > v_max_bytes then
    return private.list_any_messages(p_conversation_id, coalesce(p_after, 0), coalesce(p_before, 2147483647), p_limit, p_order);
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
) returns json
language plpgsql
stable
security invoker
set search_path = ''
as $$
begin
  return private.list_messages(p_conversation_id, p_after, p_before, p_limit, p_order, p_user_id);
end;
$$;
comment on function public.list_messages(uuid, integer, integer, integer, text, uuid) is
  'A page of a conversation''s messages with p_after < sequence_order < p_before, in p_order (asc or desc). Answers '
  '{data, has_more}: as json, which is text that is ready, where jsonb would be built, sorted and printed.';
revoke all on function public.list_messages(uuid, integer, integer, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.list_messages(uuid, integer, integer, integer, text, uuid)
  to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Appending
-- ---------------------------------------------------------------------------------------------------------------------
create function private.insert_messages(
  p_conversation_id uuid, p_messages jsonb, p_last integer, p_user_id uuid, p_author text
) returns json
language plpgsql
volatile
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
    insert into public.conversation_messages as s (
      conversation_id, user_id, sequence_order, type, role, content, parts, name, function_call, tool_calls,
      tool_call_id, item, item_id, model, usage, status, token_count, author, metadata
    )
    select
      p_conversation_id, p_user_id, p_last + m.n, coalesce(m.type, 'message'), m.role, m.content, nullif(m.parts, 'null'),
      m.name, nullif(m.function_call, 'null'), nullif(m.tool_calls, 'null'), m.tool_call_id,
      nullif(m.item, 'null'), m.item_id, m.model,
      nullif(m.usage, 'null'), coalesce(m.status, 'complete'), m.token_count, p_author,
      coalesce(nullif(m.metadata, 'null'), '{}')
    from rows from (
      jsonb_to_recordset(p_messages) as (
        type text, role text, content text, parts jsonb, name text, function_call jsonb, tool_calls jsonb,
        tool_call_id text, item jsonb, item_id text, model text, usage jsonb, status text, token_count integer, metadata jsonb
      )
    ) with ordinality as m (
      type, role, content, parts, name, function_call, tool_calls, tool_call_id, item, item_id, model, usage,
      status, token_count, metadata, n
    )
    returning
      row(
        s.id, s.conversation_id, s.sequence_order, s.type, s.role, s.content, s.parts, s.name, s.function_call, s.tool_calls,
        s.tool_call_id, s.item_id, s.model, s.usage, s.status, s.token_count, s.author, s.metadata, s.created_at
      )::private.listed_message as message,
      s.sequence_order
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
comment on function private.insert_messages(uuid, jsonb, integer, uuid, text) is
  'Stores messages after number p_last and moves the counter, under the row lock that the caller holds. Answers them as the API '
  'does. Checks nobody''s rights.';
revoke all on function private.insert_messages(uuid, jsonb, integer, uuid, text)
  from public, anon, authenticated, service_role;


create or replace function private.store_messages(
  p_conversation_id uuid, p_messages jsonb, p_expected_sequence integer, p_idempotency_key text, p_scope text, p_user_id uuid
) returns jsonb
language plpgsql
volatile
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
  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(
      v_user_id, p_scope, p_idempotency_key, jsonb_build_array(p_messages, p_expected_sequence)
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
    if p_idempotency_key is not null then
      perform private.keep_idempotent_result(v_user_id, p_scope, p_idempotency_key, v_result);
    end if;
    if v_known <> '{}' then
      return private.append_result(p_conversation_id, v_result);
    end if;
  end if;
  return jsonb_build_object('messages', v_messages, 'last_sequence_order', v_last);
end;
$$;

drop function public.append_messages(uuid, jsonb, integer, text, uuid);
drop function private.append_messages(uuid, jsonb, integer, text, uuid);

create function private.append_messages(
  p_conversation_id uuid, p_messages jsonb, p_expected_sequence integer, p_idempotency_key text, p_user_id uuid
) returns json
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id); -- store_messages asks nobody who has no claims
  v_last integer;
begin
  perform private.require_messages(p_messages);
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
  for no key update;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  elsif v_last <> p_expected_sequence and p_messages <> '[]' then
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
comment on function private.append_messages(uuid, jsonb, integer, text, uuid) is
  'Appends a batch: all of it, contiguously, or nothing. See public.append_messages.';
revoke all on function private.append_messages(uuid, jsonb, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.append_messages(uuid, jsonb, integer, text, uuid) to authenticated, service_role;


create function public.append_messages(
  p_conversation_id uuid,
  p_messages jsonb,
  p_expected_sequence integer default null,
  p_idempotency_key text default null,
  p_user_id uuid default null
) returns json
language plpgsql
volatile
security invoker
set search_path = ''
as $$
begin
  return private.append_messages(p_conversation_id, p_messages, p_expected_sequence, p_idempotency_key, p_user_id);
end;
$$;
comment on function public.append_messages(uuid, jsonb, integer, text, uuid) is
  'Appends messages (a JSON array) to a conversation: contiguous and gapless, all or none. Answers {messages, '
  'last_sequence_order}. With p_expected_sequence it appends only if that is the last number, else PT409. A repeated '
  'p_idempotency_key answers as the first time, with replayed: true; a message whose item_id is known is not stored again.';
revoke all on function public.append_messages(uuid, jsonb, integer, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.append_messages(uuid, jsonb, integer, text, uuid) to authenticated, service_role;
