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
