-- Messages of the conversations API as items: their parts may be of any API, calls and results of tools among them.

create function private.media_part(p_part jsonb) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Anthropic, Bedrock and Gemini have the data one level down, the AI SDK and the chat completions API beside the type.
  v_body jsonb := coalesce(p_part -> 'source', p_part -> 'inlineData', p_part -> 'fileData', p_part);
  v_media_type text := coalesce(
    v_body ->> 'media_type', v_body ->> 'mediaType', v_body ->> 'mimeType', p_part ->> 'mediaType', p_part ->> 'mimeType'
  );
  v_data text := coalesce(
    case jsonb_typeof(p_part -> 'image_url')
      when 'object' then p_part -> 'image_url' ->> 'url'
      when 'string' then p_part ->> 'image_url'
    end,
    case when jsonb_typeof(v_body -> 'url') = 'string' then v_body ->> 'url' end,
    v_body ->> 'fileUri',
    case when jsonb_typeof(p_part -> 'image') = 'string' then p_part ->> 'image' end,
    case when jsonb_typeof(v_body -> 'data') = 'string' then v_body ->> 'data' end
  );
begin
  if v_data !~ '^(https?|data|gs):' then
    v_data := 'data:' || coalesce(v_media_type, 'application/octet-stream') || ';base64,' || v_data;
  end if;
  return case
    when v_data is null then null
    when p_part ->> 'type' ^@ 'image' or v_media_type ^@ 'image/' then jsonb_build_object(
      'type', 'input_image', 'image_url', v_data, 'detail', coalesce(p_part -> 'image_url' -> 'detail', p_part -> 'detail', '"auto"')
    )
    else jsonb_strip_nulls(jsonb_build_object(
      'type', 'input_file', case when v_data ^@ 'data:' then 'file_data' else 'file_url' end, v_data,
      'filename', coalesce(p_part ->> 'filename', p_part ->> 'title', p_part ->> 'name')
    ))
  end;
end;
$$;
comment on routine private.media_part is
  'An image or a file of another API (chat completions, Anthropic, Gemini, the AI SDK) as a content part of the Responses API. '
  'Null for what is neither.';
revoke all on routine private.media_part from public, anon, authenticated, service_role;


create function private.item_part(p_part jsonb, p_role text) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_type text := case when jsonb_typeof(p_part) = 'object' then p_part ->> 'type' end;
  v_media jsonb;
begin
  -- OpenAI's clients throw on a part that they do not know in that place, and the whole conversation with it.
  if p_role in ('user', 'system', 'developer', 'tool') then
    if v_type in ('input_text', 'input_image', 'input_file')
      or v_type in ('input_audio', 'input_video', 'computer_screenshot') and p_role <> 'tool'
    then
      return p_part;
    elsif v_type = 'file' and jsonb_typeof(p_part -> 'file') = 'object' then
      return (p_part -> 'file') || '{"type": "input_file"}';
    elsif v_type in ('image_url', 'image', 'file', 'document', 'media', 'image-url', 'image-data', 'file-url', 'file-data')
      or p_part ?| '{inlineData,fileData}'
    then
      v_media := private.media_part(p_part);
      if v_media is not null then
        return v_media;
      end if;
    end if;
  elsif v_type = 'output_text' and jsonb_typeof(p_part -> 'text') = 'string' then
    return '{"annotations": [], "logprobs": []}' || p_part;
  elsif v_type = 'refusal' and jsonb_typeof(p_part -> 'refusal') = 'string' then
    return p_part;
  end if;
  return private.text_part(p_role, coalesce(
    case jsonb_typeof(p_part)
      when 'string' then p_part #>> '{}'
      when 'object' then (
        select p_part ->> f.name
        from unnest('{text,refusal,thinking,reasoning,transcript}'::text[]) f (name)
        where jsonb_typeof(p_part -> f.name) = 'string'
        limit 1
      )
    end,
    '[' || concat_ws(
      ' ', coalesce(v_type, p_part ->> 'content_type', 'part'), coalesce(
        p_part ->> 'asset_pointer', p_part ->> 'name',
        substring(coalesce(p_part -> 'image_url' ->> 'url', p_part ->> 'image_url', p_part ->> 'url') from '^https?://.*'),
        -- Whatever else it says, but bytes.
        case when jsonb_typeof(p_part) = 'object' and v_type !~ '^(input_|output_)?(image|file|audio|video|document|media)' then
          regexp_replace(nullif((p_part - 'type')::text, '{}'), '"[A-Za-z0-9+/=_-]{200,}"', '"…"', 'g')
        end
      )
    ) || ']'
  ), true);
end;
$$;
comment on routine private.item_part is
  'A content part of any API as OpenAI''s clients read it in a message of p_role, or in a tool''s result. What these do not know '
  'there is its text, or its type and name or JSON in brackets.';
revoke all on routine private.item_part from public, anon, authenticated, service_role;


create function private.item_parts(p_content text, p_parts jsonb, p_role text) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return (
    select coalesce(to_jsonb(array_agg(private.item_part(p.value, p_role) order by p.n)), '[]')
    from jsonb_array_elements(
      case when p_content <> '' then jsonb_build_array(private.text_part(p_role, p_content, true)) else '[]' end || p_parts
    ) with ordinality as p (value, n)
  );
end;
$$;
comment on routine private.item_parts is 'The content of a message, its text and its parts, as content parts of an item.';
revoke all on routine private.item_parts from public, anon, authenticated, service_role;


create function private.result_output(p_result jsonb) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case
    when jsonb_typeof(p_result) = 'string' then p_result
    when jsonb_typeof(p_result) = 'array' and p_result <> '[]'
      and not p_result @? '$[*] ? (@.type() != "object" || !(exists(@.type) || exists(@.text)))'
      then private.item_parts(null, p_result, 'tool')
    -- The AI SDK says what kind of value it is.
    when p_result ?& '{type,value}' and p_result ->> 'type' in ('text', 'json', 'content', 'error-text', 'error-json')
      then private.result_output(p_result -> 'value')
    else to_jsonb(coalesce(p_result::text, ''))
  end;
end;
$$;
comment on routine private.result_output is 'What a tool answered, of any API, as the output of an item: a text, or content parts.';
revoke all on routine private.result_output from public, anon, authenticated, service_role;


create function private.part_items(p_part jsonb, p_kind text) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_type text := p_part ->> 'type';
  v_piece private.piece := private.piece_of(p_part, p_kind);
  v_call_id text := coalesce(
    substring(v_piece.key from '^id (.*)$'),
    -- The legacy call and Gemini's have no id: a result is found by the function's name.
    'call_' || substring(v_piece.key from '^name (.*)$')
  );
  v_body jsonb := coalesce(
    p_part -> 'functionCall', p_part -> 'functionResponse', p_part -> 'toolUse', p_part -> 'toolResult', p_part
  );
  v_name text := coalesce(v_body ->> 'toolName', v_body ->> 'name', substring(v_type from '^tool-(.*)$'), '');
  v_arguments jsonb := coalesce(v_body -> 'arguments', v_body -> 'input', v_body -> 'args', '{}');
  v_result jsonb := coalesce(
    v_body -> 'output', v_body -> 'content', v_body -> 'response', v_body -> 'result', v_body -> 'errorText'
  );
  v_is_ui boolean := p_kind = 'model' and p_part ? 'state' and (v_type ^@ 'tool-' or v_type = 'dynamic-tool');
  v_items jsonb := '[]';
begin
  if v_is_ui then
    v_call_id := p_part ->> 'toolCallId';
  end if;
  if v_call_id is null or not coalesce(v_piece.kind in ('call', 'result') or v_is_ui, false) then
    return null;
  elsif v_type ~ '^(function|custom_tool|computer|shell|local_shell|apply_patch|tool_search)_(call|output|call_output)$' then
    return jsonb_build_array(p_part);
  end if;
  if v_piece.kind = 'call' or v_is_ui then
    v_items := jsonb_build_array(jsonb_build_object(
      'type', 'function_call', 'call_id', v_call_id, 'name', v_name, 'status', 'completed',
      'arguments', case jsonb_typeof(v_arguments) when 'string' then v_arguments #>> '{}' else v_arguments::text end
    ));
  end if;
  -- A part of a UIMessage is the call, and its result too once it is there.
  if v_piece.kind = 'result' or v_is_ui and v_piece.kind <> 'call' then
    v_items := v_items || jsonb_build_object(
      'type', 'function_call_output', 'call_id', v_call_id, 'status', 'completed',
      'output', private.result_output(coalesce(v_result, '""'))
    );
  end if;
  return v_items;
end;
$$;
comment on routine private.part_items is
  'The items of a content part that is a call or a result of a tool, in the shape of any API (Anthropic, Gemini, Bedrock, '
  'LangChain, the AI SDK). Null for every other part.';
revoke all on routine private.part_items from public, anon, authenticated, service_role;


create function private.native_items(p_message public.conversation_messages) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Of more parts than these none is looked at as a call: so private.pieces has it, too.
  c_parts constant integer := 1000;
  v_role text := coalesce(p_message.role, 'assistant');
  v_is_result constant boolean := v_role in ('tool', 'function');
  v_kind constant text := case when v_is_result then 'result' when v_role = 'assistant' then 'model' else v_role end;
  v_calls_apart constant boolean := v_role = 'assistant'
    and (p_message.function_call is not null or coalesce(p_message.tool_calls, '[]') <> '[]');
  v_status text := case p_message.status when 'complete' then 'completed' else 'incomplete' end;
  v_name jsonb := case when p_message.name is null then '{}' else jsonb_build_object('name', p_message.name) end;
  v_text text := p_message.content;
  v_parts jsonb[] := '{}';
  v_part jsonb;
  v_calls jsonb;
  v_items jsonb[] := '{}';
begin
  if p_message.type = 'reasoning' and v_role = 'assistant' then
    v_items := array[jsonb_build_object(
      'type', 'reasoning',
      'summary', case
        when p_message.content is null then '[]'
        else jsonb_build_array(jsonb_build_object('type', 'summary_text', 'text', p_message.content))
      end
    )];
  elsif v_is_result and p_message.tool_call_id is not null or jsonb_array_length(p_message.parts) > c_parts then
    v_items := array[private.said_item(v_text, p_message.parts, v_role, v_status, v_name, p_message.tool_call_id)];
  else
    if p_message.parts is not null then
      -- What is said before a call is said before it.
      for v_part in select p.value from jsonb_array_elements(p_message.parts) p loop
        continue when v_part = '{"type": "step-start"}'; -- the AI SDK's, who counts steps
        v_calls := private.part_items(v_part, v_kind);
        if v_calls is null then
          v_parts := v_parts || v_part;
        else
          if v_text <> '' or v_parts <> '{}' then
            v_items := v_items || private.said_item(v_text, to_jsonb(v_parts), v_role, v_status, v_name, null);
            v_text := null;
            v_parts := '{}';
          end if;
          v_items := v_items || array(select c.value from jsonb_array_elements(v_calls) c);
        end if;
      end loop;
    end if;
    if v_text <> '' or v_parts <> '{}' or v_items = '{}' and not v_calls_apart then
      v_items := v_items || private.said_item(v_text, to_jsonb(v_parts), v_role, v_status, v_name, null);
    end if;
  end if;

  if v_role = 'assistant' then
    v_items := v_items || array(
      select
        case
          when t.value ->> 'type' = 'custom' then jsonb_build_object(
            'type', 'custom_tool_call', 'call_id', coalesce(t.value ->> 'id', ''),
            'name', coalesce(t.value -> 'custom' ->> 'name', ''), 'input', coalesce(t.value -> 'custom' ->> 'input', '')
          )
          else jsonb_build_object(
            'type', 'function_call', 'call_id', coalesce(t.value ->> 'id', ''),
            'name', coalesce(t.value -> 'function' ->> 'name', ''),
            'arguments', coalesce(t.value -> 'function' ->> 'arguments', ''), 'status', v_status
          )
        end
      from jsonb_array_elements(p_message.tool_calls) with ordinality as t (value, n)
      order by t.n
    );
    if p_message.function_call is not null then
      v_items := v_items || jsonb_build_object(
        'type', 'function_call', 'call_id', 'call_' || coalesce(p_message.function_call ->> 'name', ''),
        'name', coalesce(p_message.function_call ->> 'name', ''),
        'arguments', coalesce(p_message.function_call ->> 'arguments', ''), 'status', v_status
      );
    end if;
  end if;
  return to_jsonb(v_items);
end;
$$;
comment on routine private.native_items is
  'The items that say what a message of the conversations API says, at least one: its content, then each of its calls; a '
  'tool''s result is a function_call_output. Calls and results among its parts are items where they stand. Without ids.';
revoke all on routine private.native_items from public, anon, authenticated, service_role;


create function private.said_item(
  p_content text, p_parts jsonb, p_role text, p_status text, p_name jsonb, p_tool_call_id text
) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_role not in ('tool', 'function') then
    return p_name || jsonb_build_object(
      'type', 'message', 'role', p_role, 'status', p_status, 'content', private.item_parts(p_content, p_parts, p_role)
    );
  end if;
  return p_name || jsonb_build_object(
    'type', 'function_call_output',
    -- The legacy call has no id: its result is found by the function's name.
    'call_id', coalesce(p_tool_call_id, 'call_' || coalesce(p_name ->> 'name', '')),
    'output', case
      when coalesce(p_parts, '[]') = '[]' then to_jsonb(coalesce(p_content, ''))
      else private.item_parts(p_content, p_parts, 'tool')
    end,
    'status', p_status
  );
end;
$$;
comment on routine private.said_item is
  'What a message says beside its calls as one item: a message, or from a tool a function_call_output. p_name is {} or {name}.';
revoke all on routine private.said_item from public, anon, authenticated, service_role;
