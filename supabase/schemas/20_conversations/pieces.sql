-- Pieces: what a message says, does and answers, whichever API it was written for. The one place that knows what a call and
-- what a result looks like. Computed on reading, so that rows of plain REST and of earlier versions are known too.

create type private.piece as (place integer, upto integer, kind text, key text, type text);
comment on type private.piece is
  'A piece of a message: the places from place to upto, where 0 is content (or all of an item), 1 and on are the elements of '
  'parts, then function_call and the elements of tool_calls. kind is user, system, model, reasoning, call, result, compaction '
  'or empty; key is what a call and its result share, null where none can. type is which reasoning or compaction it is '
  '(private.format_leaves_out), null for everything else.';


create function private.piece_of(p_value jsonb, p_kind text) returns private.piece
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_type text := p_value ->> 'type';
  v_kind text;
  v_key text;
  v_which text;
begin
  case
    when jsonb_typeof(p_value) <> 'object' then
      v_kind := p_kind;
    when v_type in ('text', 'input_text', 'output_text', 'summary_text', 'refusal') or v_type is null and p_value ? 'text' then
      v_kind := case
        when coalesce(p_value ->> 'text', p_value ->> 'refusal', '') !~ '\S' then 'empty'
        when p_value -> 'thought' = 'true' then 'reasoning' -- Gemini
        else p_kind
      end;
    when v_type in ('reasoning', 'thinking', 'redacted_thinking') or p_value ? 'reasoningContent' then
      v_kind := 'reasoning';
    when v_type in ('step-start', 'source-url', 'source-document') or v_type ^@ 'data-' then
      -- The AI SDK shows these to people, and leaves them out of what it sends.
      v_kind := null;
    when v_type = 'compaction' and p_value ? 'encrypted_content' then
      v_kind := 'compaction';

    -- What answers, whoever says it.
    when v_type like '%\_call\_output' or v_type in ('tool_search_output', 'program_output')
      or v_type like '%\_output' and p_value ? 'call_id' -- OpenAI
    then
      v_kind := 'result';
      v_key := coalesce(
        'id ' || coalesce(p_value ->> 'call_id', case when v_type = 'local_shell_call_output' then p_value ->> 'id' end),
        case when v_type = 'tool_search_output' then 'name tool_search' end
      );
    when v_type = 'mcp_approval_response' then
      v_kind := 'result';
      v_key := 'approval ' || (p_value ->> 'approval_request_id');
    when v_type like '%tool\_result' and p_value ? 'tool_use_id' then -- Anthropic
      v_kind := 'result';
      v_key := 'id ' || (p_value ->> 'tool_use_id');
    when v_type = 'tool-result' and not p_value ? 'state' then -- AI SDK, as LangChain's below
      v_kind := 'result';
      v_key := 'id ' || (p_value ->> 'toolCallId');
    when v_type = 'tool-approval-response' then
      v_kind := 'result';
      v_key := 'approval ' || (p_value ->> 'approvalId');
    when v_type in ('server_tool_call_result', 'server_tool_result') then
      v_kind := 'result';
      v_key := 'id ' || coalesce(p_value ->> 'toolCallId', p_value ->> 'tool_call_id');
    when p_value ? 'functionResponse' then -- Gemini
      v_kind := 'result';
      v_key := coalesce(
        'id ' || (p_value -> 'functionResponse' ->> 'id'), 'name ' || (p_value -> 'functionResponse' ->> 'name')
      );
    when p_value ? 'toolResult' then -- Bedrock
      v_kind := 'result';
      v_key := 'id ' || (p_value -> 'toolResult' ->> 'toolUseId');

    -- Only the model calls.
    when p_kind <> 'model' then
      v_kind := p_kind;
    when v_type = 'tool_search_call' then
      v_kind := 'call';
      v_key := coalesce('id ' || (p_value ->> 'call_id'), 'name tool_search');
    when v_type in ('function_call', 'custom_tool_call', 'computer_call', 'program')
      -- A hosted tool's call (web search) has no call_id and brings its result along.
      or v_type like '%\_call' and p_value ? 'call_id'
    then
      v_kind := 'call';
      v_key := 'id ' || (p_value ->> 'call_id');
    when v_type = 'mcp_approval_request' then
      v_kind := 'call';
      v_key := 'approval ' || (p_value ->> 'id');
    when v_type in ('tool_use', 'server_tool_use', 'mcp_tool_use', 'tool_call', 'server_tool_call') then
      v_kind := 'call';
      v_key := 'id ' || (p_value ->> 'id');
    when (v_type ^@ 'tool-' or v_type = 'dynamic-tool') and p_value ? 'state' then
      -- A part of a UIMessage is a call, and its result too once it is there.
      v_kind := case when p_value ->> 'state' in ('output-available', 'output-error', 'output-denied') then 'model' else 'call' end;
      v_key := case when v_kind = 'call' then 'id ' || (p_value ->> 'toolCallId') end;
    when v_type = 'tool-call' then
      v_kind := 'call';
      v_key := 'id ' || (p_value ->> 'toolCallId');
    when v_type = 'tool-approval-request' then
      v_kind := 'call';
      v_key := 'approval ' || (p_value ->> 'approvalId');
    when p_value ? 'functionCall' then
      v_kind := 'call';
      v_key := coalesce('id ' || (p_value -> 'functionCall' ->> 'id'), 'name ' || (p_value -> 'functionCall' ->> 'name'));
    when p_value ? 'toolUse' then
      v_kind := 'call';
      v_key := 'id ' || (p_value -> 'toolUse' ->> 'toolUseId');
    else
      v_kind := p_kind;
  end case;
  if v_kind = 'compaction' then
    v_which := 'compaction';
  elsif v_kind = 'reasoning' then
    -- Only who signed it takes it back. The AI SDK keeps that in providerMetadata, or, in what it sends, in providerOptions.
    v_which := case
      when p_value @? 'strict $ ? (
        @.type == "thinking" && @.signature > "" || @.type == "redacted_thinking" && @.data >= ""
        || @.type == "reasoning" && (
          @.providerMetadata.anthropic.signature > "" || @.providerMetadata.anthropic.redactedData > ""
          || @.providerOptions.anthropic.signature > "" || @.providerOptions.anthropic.redactedData > ""
        )
      )' then 'thinking'
      when p_value @? 'strict $ ? (
        @.thought == true
        || @.type == "reasoning" && (
          @.providerMetadata.google.thoughtSignature > "" || @.providerOptions.google.thoughtSignature > ""
        )
      )' then 'thought'
      else 'reasoning_text'
    end;
  end if;
  return (null, null, v_kind, v_key, v_which)::private.piece;
end;
$$;
comment on routine private.piece_of is
  'What a content part or an item is, in a message whose text is of p_kind (user, system, model or result): its kind and key. '
  'Kind null: it says nothing by itself, and goes with its message.';
revoke all on routine private.piece_of from public, anon, authenticated, service_role;


create function private.format_leaves_out(p_type text, p_format text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return coalesce(
    case p_type
      -- An item of the Responses API, which only OpenAI can read.
      when 'reasoning' then p_format in ('chat', 'anthropic', 'gemini')
      -- Signed by Anthropic, by Google, and by nobody.
      when 'thinking' then p_format in ('chat', 'responses', 'gemini')
      when 'thought' then p_format in ('chat', 'responses', 'anthropic')
      when 'reasoning_text' then p_format in ('chat', 'responses', 'anthropic', 'gemini')
      when 'compaction' then p_format in ('chat', 'anthropic', 'gemini', 'ai-sdk', 'langchain')
    end,
    false
  );
end;
$$;
comment on routine private.format_leaves_out is
  'Whether a context in this format is without the pieces of this type (private.piece): what thinks takes back only what it '
  'has signed itself, ai-sdk and langchain hand all of it on, and message is everything as stored.';
revoke all on routine private.format_leaves_out from public, anon, authenticated, service_role;


create function private.pieces(p_message public.conversation_messages) returns setof private.piece
language plpgsql
immutable
rows 2
set search_path = ''
as $$
declare
  c_end constant integer := 2147483646;
  -- So that what is looked at for a context has a bound.
  c_pieces constant integer := 1000;
  v_pieces private.piece[] := '{}';
  v_kind text := case
    when p_message.role in ('tool', 'function') then 'result'
    when p_message.role in ('system', 'developer') then 'system'
    when p_message.role = 'user' then 'user'
    else 'model'
  end;
  v_type text := p_message.type;
  v_calls boolean := p_message.role = 'assistant' and num_nonnulls(p_message.function_call, p_message.tool_calls) > 0;
  v_parts integer := coalesce(jsonb_array_length(p_message.parts), 0);
  v_piece private.piece;
  v_last private.piece;
begin
  -- Most messages are a text.
  if v_type = 'message' and num_nonnulls(p_message.parts, p_message.function_call, p_message.tool_calls, p_message.item) = 0
    and v_kind <> 'result' and p_message.tool_call_id is null
  then
    return next (0, c_end, case when p_message.content ~ '\S' then v_kind else 'empty' end, null, null)::private.piece;
    return;
  end if;

  if v_type = 'compaction' then
    return next (0, c_end, 'compaction', null, 'compaction')::private.piece;
    return;
  elsif p_message.item is not null and private.is_whole_item(p_message) then
    v_piece := private.piece_of(p_message.item, v_kind);
    return next (
      0, c_end, coalesce(v_piece.kind, v_kind),
      -- Without an id of its own it is approved by the one that the OpenAI API lists it with.
      coalesce(v_piece.key, case
        when v_type = 'mcp_approval_request' then 'approval mcpr_' || replace(p_message.id::text, '-', '')
      end),
      case when v_piece.kind = 'reasoning' and p_message.item ->> 'type' = 'reasoning' then 'reasoning' else v_piece.type end
    )::private.piece;
    return;
  elsif v_type like '%\_output' or v_type = 'mcp_approval_response'
    or v_kind = 'result' and (
      p_message.tool_call_id is not null or p_message.role = 'function' and p_message.name is not null or p_message.parts is null
    )
  then
    return next (0, c_end, 'result', case
      when p_message.tool_call_id is not null then 'id ' || p_message.tool_call_id
      when p_message.role = 'function' then 'name ' || p_message.name
    end, null)::private.piece;
    return;
  elsif v_kind = 'model' and not v_calls and v_type in ('function_call', 'mcp_approval_request', 'reasoning') then
    return next (
      0, c_end, case when v_type = 'reasoning' then 'reasoning' else 'call' end,
      case when v_type = 'function_call' then 'id ' || p_message.tool_call_id end,
      case when v_type = 'reasoning' then 'reasoning_text' end
    )::private.piece;
    return;
  end if;

  for v_piece in
    select 0, 0, case when p_message.content ~ '\S' then v_kind end, null, null
    union all
    select p.place, p.place, nullif(k.kind, 'empty'), k.key, k.type
    from jsonb_array_elements(p_message.parts) with ordinality p (value, place)
    cross join lateral private.piece_of(p.value, v_kind) k
    union all
    select v_parts + 1, v_parts + 1, 'call', 'name ' || (p_message.function_call ->> 'name'), null
    where v_calls and p_message.function_call is not null
    union all
    select v_parts + 1 + c.place, v_parts + 1 + c.place, 'call', 'id ' || (c.value ->> 'id'), null
    from jsonb_array_elements(case when v_calls then p_message.tool_calls end) with ordinality c (value, place)
  loop
    continue when v_piece.kind is null;
    if v_last.kind = v_piece.kind and v_last.key is null and v_piece.key is null
      and v_last.type is not distinct from v_piece.type
    then
      v_last.upto := v_piece.upto;
    else
      if v_last.kind is not null then
        v_pieces := v_pieces || v_last;
      end if;
      v_last := v_piece;
    end if;
  end loop;
  v_pieces := v_pieces || case when v_last.kind is null then (0, c_end, 'empty', null, null)::private.piece else v_last end;
  if cardinality(v_pieces) > c_pieces then
    v_pieces := array[(0, c_end, 'result', null, null)::private.piece];
  end if;
  foreach v_piece in array v_pieces loop
    return next v_piece;
  end loop;
end;
$$;
comment on routine private.pieces is
  'The pieces of a message, in the order of their places. What is one kind and type and has no key is one piece; places in none go with '
  'their message. A message without any is one piece of the kind empty; one of more than 1,000 a result that answers nothing.';
revoke all on routine private.pieces from public, anon, authenticated, service_role;
