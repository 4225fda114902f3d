-- Items as the OpenAI API answers them: with ids that it takes, and as its clients read them.

create function private.normal_item(p_item jsonb) returns jsonb
-- A third of the time that a function in SQL takes, which no caller can inline.
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_content jsonb := p_item -> 'content';
begin
  case coalesce(p_item ->> 'type', case when p_item ? 'role' then 'message' end)
    when 'message' then
      if jsonb_typeof(v_content) = 'string' then
        v_content := jsonb_build_array(private.text_part(p_item ->> 'role', p_item ->> 'content', true));
      elsif v_content @> '[{"type": "output_text"}]' then
        select coalesce(to_jsonb(array_agg(
          case
            when p.value ->> 'type' = 'output_text' then '{"annotations": [], "logprobs": []}' || p.value
            else p.value
          end
          order by p.n
        )), '[]') into v_content
        from jsonb_array_elements(v_content) with ordinality as p (value, n);
      elsif jsonb_typeof(v_content) is distinct from 'array' then
        v_content := '[]';
      end if;
      return '{"status": "completed"}' || p_item || jsonb_build_object('type', 'message', 'content', v_content);
    when 'function_call', 'function_call_output' then
      return '{"status": "completed"}' || p_item;
    when 'reasoning' then
      return '{"summary": []}' || p_item;
    else
      return p_item;
  end case;
end;
$$;
comment on routine private.normal_item is
  'An item with what OpenAI adds to it: the type, status and content parts of an easy message, and the fields that its '
  'clients read without asking whether they are there.';
revoke all on routine private.normal_item from public, anon, authenticated, service_role;


create function private.item_prefix(p_type text) returns text
language sql
immutable
set search_path = ''
return case p_type
  when 'function_call' then 'fc_'
  when 'function_call_output' then 'fco_'
  when 'custom_tool_call' then 'ctc_'
  when 'custom_tool_call_output' then 'ctco_'
  when 'reasoning' then 'rs_'
  when 'compaction' then 'cmp_'
  when 'web_search_call' then 'ws_'
  when 'file_search_call' then 'fs_'
  when 'code_interpreter_call' then 'ci_'
  when 'image_generation_call' then 'ig_'
  when 'computer_call' then 'cu_'
  when 'computer_call_output' then 'cuo_'
  when 'local_shell_call' then 'lsh_'
  when 'local_shell_call_output' then 'lsho_'
  when 'shell_call' then 'sh_'
  when 'shell_call_output' then 'sho_'
  when 'apply_patch_call' then 'apc_'
  when 'apply_patch_call_output' then 'apco_'
  when 'tool_search_call' then 'tsc_'
  when 'tool_search_output' then 'tso_'
  when 'program' then 'prog_'
  when 'program_output' then 'prog_out_'
  when 'mcp_call' then 'mcp_'
  when 'mcp_list_tools' then 'mcpl_'
  when 'mcp_approval_request' then 'mcpr_'
  when 'mcp_approval_response' then 'mcpa_'
  when 'additional_tools' then 'at_'
  when 'configuration_update' then 'cfg_'
  when 'message' then 'msg_'
end;
comment on routine private.item_prefix is
  'How the id of an item of this type begins, for every type of the OpenAI API. Null for one that it does not know.';
revoke all on routine private.item_prefix from public, anon, authenticated, service_role;


create function private.is_openai_id(p_id text, p_type text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_prefix text := private.item_prefix(p_type);
begin
  -- Of a result OpenAI asks no more than of its call: "Expected an ID that begins with 'fc'" is said of both.
  return v_prefix is null
    or p_id ~ '^[A-Za-z0-9_-]{1,64}$' and p_id ^@ case p_type
      when 'tool_search_output' then 'tso'
      when 'mcp_approval_response' then 'mcp'
      else rtrim(coalesce(private.item_prefix(substring(p_type from '^(.*)_output$')), v_prefix), '_')
    end;
end;
$$;
comment on routine private.is_openai_id is
  'Whether OpenAI takes the id for an item of the type: it refuses an input item whose id begins like that of another type, is '
  'longer than 64 characters, or has other characters. Of a type that nobody knows every id is taken.';
revoke all on routine private.is_openai_id from public, anon, authenticated, service_role;


create function private.readable_item(p_item jsonb) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_type text := p_item ->> 'type';
  v_role text := p_item ->> 'role';
  v_output jsonb := p_item -> 'output';
  v_is_readable boolean := true;
begin
  case v_type
    when 'message' then
      if v_role = 'developer' then
        v_role := 'system';
        p_item := p_item || '{"role": "system"}';
      elsif v_role is distinct from 'user' and v_role is distinct from 'system' then
        v_role := 'assistant'; -- read as that
      end if;
      if exists (
        select
        from jsonb_array_elements(p_item -> 'content') p
        where jsonb_typeof(p.value) <> 'object' or not coalesce(p.value ->> 'type' = any (case
          when v_role = 'assistant' then '{output_text,refusal}'
          else '{input_text,input_image,input_file,input_audio,input_video,computer_screenshot}'::text[]
        end), false)
      ) then
        p_item := p_item || jsonb_build_object('content', private.item_parts(null, p_item -> 'content', v_role));
      end if;
    when 'function_call_output', 'custom_tool_call_output' then
      if jsonb_typeof(v_output) = 'array' and exists (
        select
        from jsonb_array_elements(v_output) p
        where jsonb_typeof(p.value) <> 'object'
          or not coalesce(p.value ->> 'type' in ('input_text', 'input_image', 'input_file'), false)
      ) then
        p_item := p_item || jsonb_build_object('output', private.item_parts(null, v_output, 'tool'));
      end if;
      return p_item;
    when 'reasoning' then
      if coalesce(jsonb_typeof(p_item -> 'summary'), 'null') <> 'array'
        or p_item -> 'summary' @? 'strict $[*] ? (@.type() != "object")'
      then
        p_item := p_item || jsonb_build_object('summary', (
          select coalesce(to_jsonb(array_agg(
            case jsonb_typeof(s.value)
              when 'object' then s.value
              else jsonb_build_object('type', 'summary_text', 'text', s.value)
            end
          )), '[]')
          from jsonb_path_query(p_item -> 'summary', 'lax $[*] ? (@.type() == "object" || @.type() == "string")') s (value)
        ));
      end if;
    when 'compaction' then
      v_is_readable := coalesce(jsonb_typeof(p_item -> 'encrypted_content') = 'string', false);
      if jsonb_typeof(p_item -> 'created_by') <> 'string' then
        p_item := p_item - 'created_by';
      end if;
    when 'computer_call' then
      v_is_readable := coalesce(jsonb_typeof(p_item -> 'action') = 'object', false)
        or coalesce(p_item @? 'strict $.actions[0]', false);
    when 'apply_patch_call' then
      v_is_readable := coalesce(p_item -> 'operation' ->> 'type' in ('create_file', 'delete_file', 'update_file'), false)
        and coalesce(jsonb_typeof(p_item -> 'operation' -> 'move_to'), 'null') in ('null', 'string')
        and p_item -> 'operation' ->> 'move_to' is distinct from '';
    else
  end case;
  if not v_is_readable then
    return jsonb_build_object(
      'type', 'message', 'role', 'assistant', 'status', 'completed',
      'content', jsonb_build_array(private.item_part(p_item, 'assistant'))
    );
  elsif jsonb_typeof(v_output) = 'array' and v_type is distinct from 'shell_call_output' then
    -- The Agents SDK takes what it finds there for items of the model.
    p_item := p_item || jsonb_build_object('output', (
      select coalesce(to_jsonb(array_agg(
        case
          when jsonb_typeof(o.value) <> 'object' then o.value
          when o.value ->> 'type' = 'message'
            then private.readable_item(private.normal_item(o.value - 'output' || '{"role": "assistant"}'))
              || (o.value - '{content,output}'::text[])
          else private.readable_item(o.value - 'output')
        end
        order by o.n
      )), '[]')
      from jsonb_array_elements(v_output) with ordinality as o (value, n)
    ));
  end if;
  return p_item;
end;
$$;
comment on routine private.readable_item is
  'A normal item as OpenAI''s clients read it: the Agents SDK throws on a part of a message, or an item, that is not as it knows '
  'it, and on every message of a developer. What cannot be read is text, a developer is the system.';
revoke all on routine private.readable_item from public, anon, authenticated, service_role;


create function private.result_item(p_item jsonb, p_call_type text) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_output jsonb := p_item -> 'output';
  v_text text := case
    when jsonb_typeof(v_output) = 'string' then v_output #>> '{}'
    else (
      select string_agg(p.value ->> 'text', E'\n' order by p.n)
      from jsonb_array_elements(v_output) with ordinality as p (value, n)
    )
  end;
  v_rest jsonb := p_item - '{type,output,name}'::text[] || jsonb_build_object('type', case p_call_type
    when 'tool_search_call' then 'tool_search_output' else p_call_type || '_output'
  end);
begin
  return case p_call_type
    when 'custom_tool_call' then v_rest - 'status' || jsonb_build_object('output', v_output)
    when 'computer_call' then v_rest || jsonb_build_object('output', jsonb_build_object(
      'type', 'computer_screenshot',
      'image_url', coalesce(
        jsonb_path_query_first(v_output, 'strict $[*].image_url', silent => true),
        to_jsonb(substring(v_text from '^(?:https?|data):.*')), 'null'
      )
    ))
    when 'shell_call' then v_rest || jsonb_build_object('max_output_length', null, 'output', jsonb_build_array(jsonb_build_object(
      'stdout', coalesce(v_text, ''), 'stderr', '', 'outcome', '{"type": "exit", "exit_code": 0}'::jsonb
    )))
    when 'tool_search_call' then v_rest || '{"execution": "client", "tools": []}'
    when 'program' then v_rest || jsonb_build_object('result', coalesce(v_text, ''))
    when 'apply_patch_call' then v_rest || jsonb_build_object('status', 'completed', 'output', coalesce(v_text, ''))
    when 'local_shell_call' then v_rest || jsonb_build_object('output', coalesce(v_text, ''))
    else p_item
  end;
end;
$$;
comment on routine private.result_item is
  'The result of a tool, a function_call_output, as the type that answers a call of p_call_type. Of a screenshot only the '
  'picture has a place there, and of a search for tools nothing.';
revoke all on routine private.result_item from public, anon, authenticated, service_role;


create function private.is_plain_result(p_message public.conversation_messages) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return p_message.item is null and p_message.role = 'tool';
end;
$$;
comment on routine private.is_plain_result is 'Whether a message is a result of which only its call says what kind it is.';
revoke all on routine private.is_plain_result from public, anon, authenticated, service_role;


create function private.calls_near(p_conversation_id uuid, p_sequence_order integer, p_messages integer, p_order text)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- As private.call_type.
  c_distance constant integer := 32;
begin
  return (
    select coalesce(jsonb_object_agg(i.id, i.calls), '{}')
    from (
      select c.id, jsonb_agg(jsonb_build_array(m.sequence_order, c.type) order by m.sequence_order desc) as calls
      from private.read_messages(
        p_conversation_id,
        case p_order when 'asc' then p_sequence_order - c_distance - 1 else 0 end,
        case p_order when 'asc' then 2147483647 else p_sequence_order end,
        p_messages + c_distance, p_order
      ) m
      cross join lateral (
        select m.item ->> 'call_id' as id, m.type
        where m.type in (
          'custom_tool_call', 'computer_call', 'shell_call', 'local_shell_call', 'apply_patch_call', 'tool_search_call', 'program'
        )
        union all
        select t.value ->> 'id', case t.value ->> 'type' when 'custom' then 'custom_tool_call' else 'function_call' end
        -- Larger ones would take more time than all the rest.
        from jsonb_array_elements(case when pg_column_size(m.tool_calls) < 65536 then m.tool_calls end) t
      ) c
      where c.id is not null
      group by c.id
    ) i
  );
end;
$$;
comment on routine private.calls_near is
  'The calls that results may answer which stand at or behind a number (asc), or at or before it (desc), in so many messages, as '
  '{call_id: [[sequence_order, type], …]}, newest first.';
revoke all on routine private.calls_near from public, anon, authenticated, service_role;


create function private.call_type(p_calls jsonb, p_call_id text, p_sequence_order integer) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Where it is looked from must not matter: a page has more of a conversation at hand than one item.
  c_distance constant integer := 32;
begin
  return (
    select c.value ->> 1
    from jsonb_array_elements(p_calls -> p_call_id) c
    where (c.value ->> 0)::integer between p_sequence_order - c_distance and p_sequence_order - 1
    limit 1
  );
end;
$$;
comment on routine private.call_type is
  'The type of the call, as private.calls_near has it, that the result with a number answers: the newest of the 32 numbers before.';
revoke all on routine private.call_type from public, anon, authenticated, service_role;


create function private.openai_items(p_message public.conversation_messages, p_calls jsonb default '{}') returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_uuid text := replace(p_message.id::text, '-', '');
  v_is_result boolean := p_calls <> '{}' and private.is_plain_result(p_message);
  v_items jsonb[] := '{}';
  v_item jsonb;
  v_id text;
  v_n integer := 0;
begin
  for v_item in select i.value from jsonb_array_elements(private.items_from_message(p_message)) i loop
    v_n := v_n + 1;
    if v_is_result then
      v_item := private.result_item(
        v_item, private.call_type(p_calls, v_item ->> 'call_id', p_message.sequence_order)
      );
    end if;
    v_item := private.readable_item(private.normal_item(v_item));
    v_id := case when v_n = 1 then p_message.item_id end;
    if v_id is null or not private.is_openai_id(v_id, v_item ->> 'type') then
      -- This type's id may be that of the call, which then is known by nothing else.
      if v_item ->> 'type' = 'local_shell_call_output' and v_id is not null and not v_item ? 'call_id' then
        v_item := v_item || jsonb_build_object('call_id', v_id);
      end if;
      v_id := coalesce(private.item_prefix(v_item ->> 'type'), 'msg_') || v_uuid || case when v_n > 1 then '_' || v_n else '' end;
    end if;
    v_items := v_items || (v_item || jsonb_build_object('id', v_id));
  end loop;
  return to_jsonb(v_items);
end;
$$;
comment on routine private.openai_items is
  'A message as the items that the OpenAI API answers, a JSON array of one or more, each with an id that is unique in the '
  'conversation and that OpenAI takes: the first has the message''s item_id where that is one, or else a prefix and the '
  'message''s uuid without dashes; the n-th has that and _n. p_calls: private.calls_near, for a result.';
revoke all on routine private.openai_items from public, anon, authenticated, service_role;


create function private.find_item(p_conversation_id uuid, p_item_id text)
returns table (message public.conversation_messages, place integer)
language sql
stable
security definer
set search_path = ''
as $$
  with line as materialized (
    select * from private.lineage(p_conversation_id)
  ),
  -- An id is a message's item_id, or made of its uuid and a place in it. Each is an index probe for a step of the line,
  -- however few rows the planner believes there to be.
  candidates as (
    select i.message, 1 as place, true as own
    from line l
    cross join lateral (
      select m as message
      from public.conversation_messages m
      where m.conversation_id = l.id and m.item_id = p_item_id and m.sequence_order <= l.upper
      offset 0
    ) i
    union all
    select m, coalesce(p.parts[2]::integer, 1), false
    from regexp_match(p_item_id, '^[a-z_]+_([0-9a-f]{32})(?:_([0-9]{1,6}))?$') p (parts)
    join public.conversation_messages m on m.id = p.parts[1]::uuid
    join line l on l.id = m.conversation_id and m.sequence_order <= l.upper
  )
  select c.message, c.place
  from candidates c
  where c.own
    or private.openai_items(c.message) -> (c.place - 1) ->> 'id' in (
      p_item_id,
      -- Of a result it begins as its call has it, and that may be gone.
      case when private.is_plain_result(c.message) then regexp_replace(p_item_id, '^[a-z_]*(o|out)_', 'fco_') end
    )
  limit 1;
$$;
comment on routine private.find_item is
  'The message that shows an item in the conversation, and the item''s place among those it shows, from 1: by the id that it is '
  'shown with, or by its own. Checks nobody''s rights.';
revoke all on routine private.find_item from public, anon, authenticated, service_role;


create function private.shown_items(p_conversation_id uuid, p_message public.conversation_messages, p_calls jsonb default null)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_items jsonb;
begin
  if p_calls is null and private.is_plain_result(p_message) then
    p_calls := private.calls_near(p_conversation_id, p_message.sequence_order, 0, 'desc');
  end if;
  v_items := private.openai_items(p_message, coalesce(p_calls, '{}'));
  if p_message.type in ('mcp_approval_response', 'mcp_call')
    and not private.is_openai_id(coalesce(v_items -> 0 ->> 'approval_request_id', 'mcpr_'), 'mcp_approval_request')
  then
    v_items := jsonb_set(v_items, '{0,approval_request_id}', coalesce(
      (
        select private.openai_items(f.message) -> (f.place - 1) -> 'id'
        from private.find_item(p_conversation_id, v_items -> 0 ->> 'approval_request_id') f
      ),
      v_items -> 0 -> 'approval_request_id'
    ));
  end if;
  return v_items;
end;
$$;
comment on routine private.shown_items is
  'private.openai_items, with what other messages of the conversation say: the kind of call that a result answers, and the '
  'id that the request of an approval is shown with. p_calls: as there, where the caller knows them. Checks nobody''s rights.';
revoke all on routine private.shown_items from public, anon, authenticated, service_role;


create function private.item_list(p_items jsonb[], p_has_more boolean) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'object', 'list', 'data', to_jsonb(p_items), 'has_more', p_has_more,
    'first_id', p_items[1] -> 'id', 'last_id', p_items[cardinality(p_items)] -> 'id'
  );
end;
$$;
comment on routine private.item_list is 'Items as the OpenAI API answers a list of them.';
revoke all on routine private.item_list from public, anon, authenticated, service_role;
