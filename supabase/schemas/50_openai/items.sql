-- The part of the OpenAI API that remembers: the same conversations and messages, as items. One function for each request.

create function private.require_input_items(p_items jsonb) returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_invalid bigint;
begin
  if jsonb_typeof(p_items) is distinct from 'array' or jsonb_array_length(p_items) > 1000 then
    perform private.refuse('items is not an array, or has more than 1,000 items.');
  end if;
  select i.n - 1 into v_invalid
  from jsonb_array_elements(p_items) with ordinality as i (value, n)
  where case
    when jsonb_typeof(i.value) <> 'object'
      or coalesce(jsonb_typeof(i.value -> 'type'), 'null') not in ('string', 'null')
      or coalesce(jsonb_typeof(i.value -> 'id'), 'null') not in ('string', 'null')
      or char_length(i.value ->> 'id') not between 1 and 256
    then true
    when coalesce(i.value ->> 'type', 'message') = 'message'
      then coalesce(i.value ->> 'role', '') not in ('user', 'assistant', 'system', 'developer')
        or coalesce(jsonb_typeof(i.value -> 'content'), '') not in ('string', 'array')
    else char_length(i.value ->> 'type') not between 1 and 64 or i.value ->> 'type' = 'item_reference'
  end
  limit 1;
  if found then
    perform private.refuse(format('items[%s] is not an item.', v_invalid));
  end if;
end;
$$;
comment on routine private.require_input_items is
  'What zod says politely at the edge holds for a direct RPC call too. Raises PT400 invalid_request.';
revoke all on routine private.require_input_items from public, anon, authenticated, service_role;


create function private.page_of_items(
  p_conversation_id uuid, p_upper integer, p_after text, p_limit integer, p_order text
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies; items may have 4 MiB each.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_sequence integer;
  v_place integer;
  v_message public.conversation_messages;
  v_calls jsonb;
  v_items jsonb;
  v_count integer;
  v_n integer;
  v_item jsonb;
  v_data jsonb[] := '{}';
  v_bytes bigint := 0;
begin
  perform private.require_limit(p_limit);
  if p_order is null or p_order not in ('asc', 'desc') then
    perform private.refuse('order is not asc or desc.');
  end if;
  if p_after is not null then
    select (f.message).sequence_order, f.place into v_sequence, v_place
    from private.find_item(p_conversation_id, p_after) f
    where (f.message).sequence_order <= p_upper;
    if not found then
      v_sequence := private.deleted_place(
        p_conversation_id, p_after, substring(p_after from '^[a-z_]+_([0-9a-f]{32})(?:_[0-9]{1,6})?$')::uuid
      );
    end if;
    if v_sequence is null or v_sequence > p_upper then
      perform private.refuse('after is not the id of an item in the list.');
    end if;
  end if;

  -- From the message of the last item on, which may show more of them. Each shows one at least: with one message more
  -- than the page has items it is known whether there is more.
  for v_message in
    select * from private.read_messages(
      p_conversation_id,
      case when p_order = 'asc' then coalesce(v_sequence - 1, 0) else 0 end,
      case when p_order = 'desc' then coalesce(v_sequence + 1, p_upper + 1) else p_upper + 1 end,
      p_limit + 2, p_order
    )
  loop
    if v_calls is null and private.is_plain_result(v_message) then
      v_calls := private.calls_near(p_conversation_id, v_message.sequence_order, p_limit + 2, p_order);
    end if;
    v_items := private.shown_items(p_conversation_id, v_message, v_calls);
    v_count := jsonb_array_length(v_items);
    for i in 1 .. v_count loop
      v_n := case when p_order = 'asc' then i else v_count + 1 - i end;
      continue when v_message.sequence_order = v_sequence
        and case when p_order = 'asc' then v_n <= v_place else v_n >= v_place end;
      v_item := v_items -> (v_n - 1);
      v_bytes := v_bytes + octet_length(v_item::text);
      if cardinality(v_data) = p_limit or (v_bytes > c_max_bytes and v_data <> '{}') then
        return private.item_list(v_data, true);
      end if;
      v_data := v_data || v_item;
    end loop;
  end loop;
  return private.item_list(v_data, false);
end;
$$;
comment on routine private.page_of_items is
  'A page of the items that a conversation''s messages up to number p_upper show, after the item p_after, in p_order. '
  'p_after may have been deleted within the day. Answers {object, data, first_id, last_id, has_more}. Ends early at 8 MiB, '
  'after one item at the least. Checks nobody''s rights.';
revoke all on routine private.page_of_items from public, anon, authenticated, service_role;


create function private.append_items(p_conversation_id uuid, p_items jsonb, p_idempotency_key text, p_user_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_messages jsonb;
  v_result jsonb;
begin
  perform private.acting_user(p_user_id); -- store_messages asks nobody who has no claims
  perform private.require_input_items(p_items);
  select coalesce(to_jsonb(array_agg(private.message_from_item(private.normal_item(
    -- An item that was listed and comes back is a new one: the id it was given stands for the first.
    case
      when i.value ->> 'id' ~ '^[a-z_]+_[0-9a-f]{32}(_\d+)?$' and exists (
        select
        from private.find_item(p_conversation_id, i.value ->> 'id') f
        where (f.message).item_id is distinct from i.value ->> 'id'
      ) then i.value - 'id'
      else i.value
    end
    -- What names the request of an approval by the id that it was listed with is stored with that one's own.
    || case when i.value ->> 'approval_request_id' ~ '^mcpr_[0-9a-f]{32}$' then (
      select coalesce(jsonb_object_agg('approval_request_id', (f.message).item_id), '{}')
      from private.find_item(p_conversation_id, i.value ->> 'approval_request_id') f
      where (f.message).item_id is not null
    ) else '{}' end
  )) order by i.n)), '[]') into v_messages
  from jsonb_array_elements(p_items) with ordinality as i (value, n);
  v_result := private.store_messages(
    p_conversation_id, v_messages, null, p_idempotency_key,
    'POST /openai/v1/conversations/' || p_conversation_id || '/items', p_user_id
  );
  return private.item_list(array(
    select i.value
    from jsonb_array_elements(v_result -> 'messages') with ordinality as s (value, n)
    join public.conversation_messages m on m.id = (s.value ->> 'id')::uuid
    cross join lateral jsonb_array_elements(private.shown_items(p_conversation_id, m)) with ordinality as i (value, n)
    order by s.n, i.n
  ), false) || case when v_result ? 'replayed' then '{"replayed": true}'::jsonb else '{}' end;
end;
$$;
comment on routine private.append_items is 'See public.append_items.';


create function public.append_items(
  p_conversation_id uuid, p_items jsonb, p_idempotency_key text default null, p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.append_items(p_conversation_id, p_items, p_idempotency_key, p_user_id);
comment on routine public.append_items is
  'Appends items of the OpenAI API (a JSON array of at most 1,000) to a conversation: contiguous, all or none. Answers '
  '{object, data, first_id, last_id, has_more}: the items as they are listed. An item''s own id stands for it for ever: the same '
  'item again keeps its place, another one is PT409. A repeated p_idempotency_key answers as the first time, with replayed: true.';
revoke all on routine private.append_items, public.append_items from public, anon, authenticated, service_role;
grant execute on routine private.append_items, public.append_items to authenticated, service_role;


create function private.create_conversation_of_items(
  p_items jsonb, p_metadata jsonb, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_scope constant text := 'POST /openai/v1/conversations';
  v_user_id uuid := private.acting_user(p_user_id);
  v_result jsonb;
  v_id uuid;
begin
  v_result := private.claim_idempotency_key(
    v_user_id::text, c_scope, p_idempotency_key, jsonb_build_array(p_items, p_metadata)
  );
  if v_result is not null then
    return public.get_conversation((v_result ->> 'conversation_id')::uuid, v_user_id) || '{"replayed": true}';
  end if;
  v_result := private.create_conversation(jsonb_build_object('metadata', p_metadata), '[]', null, v_user_id);
  v_id := (v_result ->> 'id')::uuid;
  perform private.append_items(v_id, p_items, null, v_user_id);
  perform private.keep_idempotent_result(
    v_user_id::text, c_scope, p_idempotency_key, jsonb_build_object('conversation_id', v_id)
  );
  return public.get_conversation(v_id, v_user_id);
end;
$$;
comment on routine private.create_conversation_of_items is 'See public.create_conversation_of_items.';


create function public.create_conversation_of_items(
  p_items jsonb default '[]',
  p_metadata jsonb default '{}',
  p_idempotency_key text default null,
  p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.create_conversation_of_items(p_items, p_metadata, p_idempotency_key, p_user_id);
comment on routine public.create_conversation_of_items is
  'Creates a conversation with its first items: both or neither. Answers the conversation, without them. A repeated '
  'p_idempotency_key answers the one created the first time, with replayed: true.';
revoke all on routine private.create_conversation_of_items, public.create_conversation_of_items
  from public, anon, authenticated, service_role;
grant execute on routine private.create_conversation_of_items, public.create_conversation_of_items to authenticated, service_role;


create function public.replace_metadata(p_conversation_id uuid, p_metadata jsonb, p_user_id uuid default null)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
begin
  if p_metadata is null then
    perform private.refuse('metadata is null.');
  end if;
  perform private.require_metadata(p_metadata);
  update public.conversations c set metadata = p_metadata
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null;
  return public.get_conversation(p_conversation_id, v_user_id);
end;
$$;
comment on routine public.replace_metadata is
  'Replaces a conversation''s metadata, where public.update_conversation merges. Answers the conversation.';
revoke all on routine public.replace_metadata from public, anon, authenticated, service_role;
grant execute on routine public.replace_metadata to authenticated, service_role;


create function private.list_items(
  p_conversation_id uuid, p_after text, p_limit integer, p_order text, p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  perform private.require_conversation(p_conversation_id, private.caller_id(p_user_id));
  return private.page_of_items(p_conversation_id, 2147483646, p_after, p_limit, p_order);
end;
$$;
comment on routine private.list_items is 'See public.list_items.';


create function public.list_items(
  p_conversation_id uuid,
  p_after text default null,
  p_limit integer default 20,
  p_order text default 'desc',
  p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.list_items(p_conversation_id, p_after, p_limit, p_order, p_user_id);
comment on routine public.list_items is
  'A page of a conversation''s items after the item with the id p_after, which may have been deleted within the day, in p_order '
  '(asc or desc). Answers {object, data, first_id, last_id, has_more}.';
revoke all on routine private.list_items, public.list_items from public, anon, authenticated, service_role;
grant execute on routine private.list_items, public.list_items to authenticated, service_role;


create function private.get_item(p_conversation_id uuid, p_item_id text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_item jsonb;
begin
  perform private.require_conversation(p_conversation_id, private.caller_id(p_user_id));
  select private.shown_items(p_conversation_id, f.message) -> (f.place - 1) into v_item
  from private.find_item(p_conversation_id, p_item_id) f;
  if not found then
    raise sqlstate 'PT404' using message = 'item_not_found';
  end if;
  return v_item;
end;
$$;
comment on routine private.get_item is 'See public.get_item.';


create function public.get_item(p_conversation_id uuid, p_item_id text, p_user_id uuid default null) returns jsonb
language sql
stable
set search_path = ''
return private.get_item(p_conversation_id, p_item_id, p_user_id);
comment on routine public.get_item is 'One item of a conversation. Raises PT404 item_not_found.';
revoke all on routine private.get_item, public.get_item from public, anon, authenticated, service_role;
grant execute on routine private.get_item, public.get_item to authenticated, service_role;


create function private.delete_item(p_conversation_id uuid, p_item_id text, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
begin
  perform private.require_conversation(p_conversation_id, v_user_id);
  if not private.remove_message(
    p_conversation_id, (select (f.message).id from private.find_item(p_conversation_id, p_item_id) f)
  ) then
    raise sqlstate 'PT404' using message = 'item_not_found';
  end if;
  return public.get_conversation(p_conversation_id, v_user_id);
end;
$$;
comment on routine private.delete_item is 'See public.delete_item.';


create function public.delete_item(p_conversation_id uuid, p_item_id text, p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.delete_item(p_conversation_id, p_item_id, p_user_id);
comment on routine public.delete_item is
  'Deletes the message that shows an item, from every conversation that shows it; of a message with several items, all go. '
  'Answers the conversation. Raises PT404 item_not_found.';
revoke all on routine private.delete_item, public.delete_item from public, anon, authenticated, service_role;
grant execute on routine private.delete_item, public.delete_item to authenticated, service_role;

insert into private.repeatable_calls (name, reader) values
  ('replace_metadata', 'public.get_conversation'),
  ('delete_item', 'public.get_conversation');
