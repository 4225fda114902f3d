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
