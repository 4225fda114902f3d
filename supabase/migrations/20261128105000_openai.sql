-- Made from supabase/schemas/50_openai by "npm run migration": change it there.

set check_function_bodies = off;

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

-- Stored responses as the OpenAI API answers them.

create function private.get_openai_response(p_response_id text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_state public.conversation_states := private.require_response(p_response_id, p_user_id);
  v_output jsonb;
  v_is_complete boolean;
  v_conversation_id uuid;
begin
  select
    coalesce(to_jsonb(array_agg(i.value order by m.sequence_order, i.n)), '[]'),
    coalesce(bool_and(m.status = 'complete'), true)
  into v_output, v_is_complete
  from private.read_messages(
    v_state.conversation_id, v_state.input_sequence, v_state.sequence_order + 1, 2147483647, 'asc'
  ) m
  cross join lateral jsonb_array_elements(private.shown_items(v_state.conversation_id, m)) with ordinality as i (value, n);
  select c.id into v_conversation_id
  from public.conversations c
  where c.id = v_state.conversation_id and c.deleted_at is null;

  return jsonb_build_object(
    'id', v_state.response_id, 'created_at', v_state.created_at, 'model', v_state.model, 'output', v_output,
    'is_complete', v_is_complete, 'previous_response_id', v_state.previous_response_id,
    'conversation_id', v_conversation_id
  );
end;
$$;
comment on routine private.get_openai_response is 'See public.get_openai_response.';


create function public.get_openai_response(p_response_id text, p_user_id uuid default null) returns jsonb
language sql
stable
set search_path = ''
return private.get_openai_response(p_response_id, p_user_id);
comment on routine public.get_openai_response is
  'A response with its output as items: {id, created_at (unix seconds), model, output, is_complete, previous_response_id, '
  'conversation_id (null where that is deleted)}. Raises PT404 response_not_found.';
revoke all on routine private.get_openai_response, public.get_openai_response
  from public, anon, authenticated, service_role;
grant execute on routine private.get_openai_response, public.get_openai_response to authenticated, service_role;


create function private.list_input_items(
  p_response_id text, p_after text, p_limit integer, p_order text, p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_state public.conversation_states := private.require_response(p_response_id, p_user_id);
begin
  return private.page_of_items(v_state.conversation_id, v_state.input_sequence, p_after, p_limit, p_order);
end;
$$;
comment on routine private.list_input_items is 'See public.list_input_items.';


create function public.list_input_items(
  p_response_id text,
  p_after text default null,
  p_limit integer default 20,
  p_order text default 'desc',
  p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.list_input_items(p_response_id, p_after, p_limit, p_order, p_user_id);
comment on routine public.list_input_items is
  'A page of the items that a response was generated from: the history before it and its own input, without its output. '
  'Answers {object, data, first_id, last_id, has_more}. Raises PT404 response_not_found.';
revoke all on routine private.list_input_items, public.list_input_items from public, anon, authenticated, service_role;
grant execute on routine private.list_input_items, public.list_input_items to authenticated, service_role;

reset check_function_bodies;
