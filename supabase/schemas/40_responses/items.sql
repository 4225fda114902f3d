-- Items: what the OpenAI Responses and Conversations APIs call the parts of a conversation, as messages and back.
--
-- A message, a function call and its output become what the columns of a message hold anyway, so search, context and
-- GET /conversations/:id/messages know them. The column item keeps what the columns leave out, and its being there says that
-- the message came as an item. Everything else (reasoning, searches, types not yet known) is kept whole.

create function private.text_part(p_role text, p_text text, p_generated boolean) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return jsonb_build_object('type', case p_role when 'assistant' then 'output_text' else 'input_text' end, 'text', p_text)
    || case when p_role = 'assistant' and p_generated then '{"annotations": [], "logprobs": []}' else '{}'::jsonb end;
end;
$$;
comment on routine private.text_part is
  'A text as the content part that is usual for it: input_text, or from an assistant output_text, which the API answers '
  '(p_generated) with empty annotations and logprobs.';
revoke all on routine private.text_part from public, anon, authenticated, service_role;


create function private.message_from_item(p_item jsonb) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_type text := case when jsonb_typeof(p_item -> 'type') = 'string' then p_item ->> 'type' end;
  v_role text := case
    when p_item ->> 'role' in ('system', 'developer', 'user', 'assistant', 'tool', 'function') then p_item ->> 'role'
  end;
  v_id text := case
    when jsonb_typeof(p_item -> 'id') = 'string' and char_length(p_item ->> 'id') between 1 and 256 then p_item ->> 'id'
  end;
  v_content jsonb := p_item -> 'content';
  v_output jsonb := p_item -> 'output';
  v_name text := case
    when jsonb_typeof(p_item -> 'name') = 'string' and char_length(p_item ->> 'name') <= 256 then p_item ->> 'name'
  end;
  v_part jsonb;
  v_message jsonb;
  v_rest jsonb;
begin
  if jsonb_typeof(p_item) is distinct from 'object' then
    perform private.refuse('An item is not an object.');
  end if;

  if p_item -> 'status' = 'false' then
    -- Nobody's status, but what marks a missing one below.
    null;
  elsif (v_type = 'message' or not p_item ? 'type')
    and v_role is not null and jsonb_typeof(v_content) in ('string', 'array')
  then
    v_rest := p_item - '{type,role,content}'::text[];
    if v_type is null then
      v_rest := v_rest || '{"type": null}';
    end if;
    v_part := case when jsonb_typeof(v_content) = 'array' and jsonb_array_length(v_content) = 1 then v_content -> 0 end;
    -- A text is kept as such, and of the shape around it what is not the usual: the content with the text taken out.
    if jsonb_typeof(v_content) = 'string' then
      v_message := jsonb_build_object('content', v_content);
      v_rest := v_rest || '{"content": ""}';
    elsif v_part ->> 'type' in ('input_text', 'output_text', 'text') and jsonb_typeof(v_part -> 'text') = 'string' then
      v_message := jsonb_build_object('content', v_part -> 'text');
      if v_part <> private.text_part(v_role, v_part ->> 'text', v_id is not null) then
        v_rest := v_rest || jsonb_build_object('content', jsonb_build_array(v_part - 'text'));
      end if;
    else
      v_message := jsonb_build_object('parts', v_content);
    end if;
    v_message := v_message || jsonb_build_object('role', v_role, 'name', v_name);
    v_rest := case when v_name is null then v_rest else v_rest - 'name' end;
  elsif v_type = 'function_call' and jsonb_typeof(p_item -> 'call_id') = 'string'
    and jsonb_typeof(p_item -> 'name') = 'string' and jsonb_typeof(p_item -> 'arguments') = 'string'
  then
    v_rest := p_item - '{type,call_id,name,arguments}'::text[];
    v_message := jsonb_build_object(
      'role', 'assistant',
      'tool_calls', jsonb_build_array(jsonb_build_object(
        'id', p_item -> 'call_id',
        'type', 'function',
        'function', jsonb_build_object('name', p_item -> 'name', 'arguments', p_item -> 'arguments')
      ))
    );
  elsif v_type = 'function_call_output' and jsonb_typeof(p_item -> 'call_id') = 'string'
    and jsonb_typeof(v_output) in ('string', 'array')
  then
    v_rest := p_item - '{type,call_id,output}'::text[];
    v_message := jsonb_build_object(
      'role', 'tool',
      'tool_call_id', p_item -> 'call_id',
      'name', v_name,
      case jsonb_typeof(v_output) when 'string' then 'content' else 'parts' end, v_output
    );
    v_rest := case when v_name is null then v_rest else v_rest - 'name' end;
  end if;

  if v_message is not null then
    -- What has an id was generated, and completed unless it says otherwise.
    if v_id is not null then
      v_rest := case
        when v_rest -> 'status' = '"completed"' then v_rest - 'status'
        when v_rest ? 'status' then v_rest
        else v_rest || '{"status": false}'
      end - 'id';
    end if;
    v_message := v_message || jsonb_build_object('type', 'message', 'item', v_rest);
  else
    v_message := jsonb_build_object(
      'type', case
        when v_type = 'message' and v_role is null or coalesce(char_length(v_type), 0) not between 1 and 64 then 'item'
        else v_type
      end,
      'role', v_role,
      'item', p_item
    );
  end if;
  return v_message || jsonb_build_object(
    'item_id', v_id,
    'status', case when p_item ->> 'status' in ('in_progress', 'incomplete') then 'incomplete' else 'complete' end
  );
end;
$$;
comment on routine private.message_from_item is
  'An item as the fields of a message for private.store_messages: {type, role, content, parts, name, tool_calls, '
  'tool_call_id, item, item_id, status}. item is what the other fields leave out, or the whole item where '
  'private.is_whole_item says so; a type that no column holds becomes item. item_id is the item''s own id: '
  'private.place_items takes it back where it is not free. Raises PT400 invalid_request for what is not an object.';
revoke all on routine private.message_from_item from public, anon, authenticated, service_role;


create function private.items_from_message(p_message public.conversation_messages) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_item jsonb := p_message.item;
  v_call jsonb := p_message.tool_calls -> 0;
  v_shape jsonb := p_message.item -> 'content';
  v_generated boolean;
begin
  if v_item is null then
    return private.native_items(p_message);
  elsif private.is_whole_item(p_message) then
    return jsonb_build_array(v_item);
  end if;

  -- The id is here where it was not free (private.place_items).
  if p_message.item_id is not null then
    v_item := jsonb_build_object('id', p_message.item_id) || v_item;
  end if;
  v_generated := jsonb_typeof(v_item -> 'id') = 'string' and char_length(v_item ->> 'id') between 1 and 256;
  v_item := case
    when v_item -> 'status' = 'false' then v_item - 'status'
    when v_generated and not v_item ? 'status' then v_item || '{"status": "completed"}'
    else v_item
  end || case when p_message.name is not null then jsonb_build_object('name', p_message.name) else '{}' end;
  if v_call is not null then
    v_item := v_item || jsonb_build_object(
      'type', 'function_call', 'call_id', v_call -> 'id',
      'name', v_call -> 'function' -> 'name', 'arguments', v_call -> 'function' -> 'arguments'
    );
  elsif p_message.tool_call_id is not null then
    v_item := v_item || jsonb_build_object(
      'type', 'function_call_output', 'call_id', p_message.tool_call_id,
      'output', coalesce(to_jsonb(p_message.content), p_message.parts)
    );
  else
    v_item := case when v_item -> 'type' = 'null' then v_item - 'type' else v_item || '{"type": "message"}' end
      || jsonb_build_object('role', p_message.role, 'content', case
        when p_message.content is null then p_message.parts
        when jsonb_typeof(v_shape) = 'string' then to_jsonb(p_message.content)
        when jsonb_typeof(v_shape -> 0) = 'object'
          then jsonb_build_array((v_shape -> 0) || jsonb_build_object('text', p_message.content))
        else jsonb_build_array(private.text_part(p_message.role, p_message.content, coalesce(v_generated, false)))
      end);
  end if;
  return jsonb_build_array(v_item);
end;
$$;
comment on routine private.items_from_message is
  'A message as items, a JSON array. What came as an item is that one item, as it came. A message of the conversations '
  'API is one or more (private.native_items).';
revoke all on routine private.items_from_message from public, anon, authenticated, service_role;


create function private.place_items(p_conversation_id uuid, p_items jsonb) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_messages jsonb;
begin
  with line as materialized (
    select * from private.lineage(p_conversation_id)
  ),
  messages as materialized (
    select m.value, i.n, row_number() over (partition by m.value ->> 'item_id' order by i.n) > 1 as repeated
    from jsonb_array_elements(p_items) with ordinality as i (value, n)
    cross join lateral (select private.message_from_item(i.value)) m (value)
  ),
  taken as (
    select m.n
    from messages m
    cross join line l
    cross join lateral (
      select
      from public.conversation_messages s
      where s.conversation_id = l.id and s.item_id = m.value ->> 'item_id' and s.sequence_order <= l.upper
      offset 0
    ) s
    where m.value ->> 'item_id' is not null
    union
    -- The id that an item without one was given.
    select m.n
    from messages m
    cross join line l
    join public.conversation_messages s
      on s.conversation_id = l.id
      and s.id = substring(m.value ->> 'item_id' from '^[a-z_]+_([0-9a-f]{32})(?:_\d+)?$')::uuid
      and s.sequence_order <= l.upper
    union
    select m.n from messages m where m.repeated
  )
  select coalesce(to_jsonb(array_agg(
    case
      when t.n is null or m.value ->> 'item_id' is null then m.value
      else jsonb_set(m.value, '{item,id}', m.value -> 'item_id') || '{"item_id": null}'
    end
    order by m.n
  )), '[]') into v_messages
  from messages m
  left join taken t on t.n = m.n;
  return v_messages;
end;
$$;
comment on routine private.place_items is
  'Items as messages for private.store_messages. The id of an item becomes the item_id of its message where it is free in '
  'the lineage; elsewhere it stays in the item alone. To be called under the conversation''s row lock.';
revoke all on routine private.place_items from public, anon, authenticated, service_role;
