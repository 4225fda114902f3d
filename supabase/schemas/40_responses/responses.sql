-- Responses: storing, reading and removing them, for whoever is said to own them, and the API.

create function private.input_items(p_input jsonb) returns jsonb
language sql
immutable
set search_path = ''
as $$
  select case jsonb_typeof(p_input)
    when 'string' then jsonb_build_array(jsonb_build_object(
      'type', 'message', 'role', 'user', 'content', jsonb_build_array(private.text_part('user', p_input #>> '{}', false))
    ))
    else p_input
  end;
$$;
comment on routine private.input_items is 'The input of a response as items: a string is one user message.';
revoke all on routine private.input_items from public, anon, authenticated, service_role;


create function private.require_items(p_items jsonb, p_field text, p_limit integer default 1000) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if jsonb_typeof(p_items) is distinct from 'array'
    or jsonb_path_exists(p_items, 'strict $[*] ? (@.type() != "object")')
    or jsonb_array_length(p_items) > p_limit
  then
    perform private.refuse(format('%s is not an array of at most %s items, each an object.', p_field, p_limit));
  end if;
end;
$$;
comment on routine private.require_items is
  'Raises PT400 invalid_request unless it is an array of at most p_limit objects.';
revoke all on routine private.require_items from public, anon, authenticated, service_role;


create function private.response_items(p_conversation_id uuid, p_after integer, p_upto integer) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select coalesce(to_jsonb(array_agg(i.value order by m.sequence_order, i.n)), '[]')
  from private.read_messages(p_conversation_id, p_after, p_upto + 1, 2147483647, 'asc') m
  cross join lateral jsonb_array_elements(private.items_from_message(m)) with ordinality as i (value, n);
$$;
comment on routine private.response_items is
  'The items of the messages that a conversation shows with p_after < sequence_order <= p_upto. Checks nobody''s rights.';
revoke all on routine private.response_items from public, anon, authenticated, service_role;


create function private.response_answer(p_state public.conversation_states) returns jsonb
language sql
stable
set search_path = ''
as $$
  -- Left out: whose it is, where it points into the conversation, and hashes of what the items say.
  select to_jsonb(p_state) - '{user_id,after_sequence,input_sequence,sequence_order,request_hash,history_hash}'::text[];
$$;
comment on routine private.response_answer is 'A response as the API answers it, without items.';
revoke all on routine private.response_answer from public, anon, authenticated, service_role;


create function private.require_history(p_items jsonb) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- A worker has 256 MB for the answer and its copies. Half a history would be a wrong one.
  -- As printed: a number may be stored in a few bytes and print as thousands.
  if octet_length(p_items::text) > 16 * 1024 * 1024 then
    raise sqlstate 'PT409' using
      message = 'history_too_large',
      detail = 'The items of the response are more than 16 MiB.',
      hint = 'Read the messages of its conversation in pages.';
  end if;
  return p_items;
end;
$$;
comment on routine private.require_history is 'The items, or PT409 history_too_large above 16 MiB.';
revoke all on routine private.require_history from public, anon, authenticated, service_role;


create function private.store_response(p_user_id uuid, p_response_id text, p_response jsonb, p_created_at bigint)
returns jsonb
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
as $$
declare
  v_previous_id text := p_response ->> 'previous_response_id';
  v_input jsonb := private.input_items(p_response -> 'input');
  v_items jsonb := v_input || (p_response -> 'output');
  v_hash bytea := sha256(convert_to((p_response || jsonb_build_object('input', v_input))::text, 'UTF8'));
  v_old public.conversation_states;
  v_previous public.conversation_states;
  v_new public.conversation_states;
begin
  -- What replaces prunes what it leaves, up the line: two of a user at once would wait for each other.
  if exists (
    select from public.conversation_states s where s.user_id = p_user_id and s.response_id = p_response_id
  ) then
    perform pg_advisory_xact_lock(hashtextextended('responses of ' || p_user_id, 0));
  else
    perform pg_advisory_xact_lock_shared(hashtextextended('responses of ' || p_user_id, 0));
  end if;
  -- One at a time for each id, whether it is there already or not.
  perform pg_advisory_xact_lock(hashtextextended(p_user_id || p_response_id, 0));
  select * into v_old
  from public.conversation_states s
  where s.user_id = p_user_id and s.response_id = p_response_id;
  if v_old.request_hash = v_hash then
    return private.response_answer(v_old) || '{"replayed": true}';
  end if;

  if v_previous_id is not null then
    -- Share: whoever deletes or replaces it waits, and so does this one while that is going on.
    select * into v_previous
    from public.conversation_states s
    where s.user_id = p_user_id and s.response_id = v_previous_id
    for share;
    if not found then
      raise sqlstate 'PT409' using
        message = 'previous_response_not_found',
        detail = format('No response of the user has the id %s.', to_json(v_previous_id));
    end if;
  end if;
  v_new.after_sequence := coalesce(v_previous.sequence_order, 0);
  v_new.conversation_id := v_previous.conversation_id;

  if v_items <> '[]' or v_previous_id is null then
    -- Two writers on one parent: the first finds its tip and moves it, the other one waits and does not find it any more.
    perform
    from public.conversations c
    where c.id = v_previous.conversation_id
      and c.last_sequence_order = v_previous.sequence_order
      and c.deleted_at is null
    for no key update;
    if not found then
      -- A fork as private.fork_conversation makes it; a response lies above its conversation's own fork already.
      perform private.require_depth(v_previous.conversation_id);
      insert into public.conversations (user_id, parent_id, fork_sequence, last_sequence_order)
      values (
        p_user_id,
        case when v_new.after_sequence > 0 then v_previous.conversation_id end,
        nullif(v_new.after_sequence, 0),
        v_new.after_sequence
      )
      returning id into v_new.conversation_id;
      insert into private.response_conversations (user_id, conversation_id, last_sequence_order)
      values (p_user_id, v_new.conversation_id, v_new.after_sequence);
    end if;
    perform private.store_messages(
      v_new.conversation_id, private.place_items(v_new.conversation_id, v_items), null, null, null, p_user_id
    );
    update private.response_conversations r set
      last_sequence_order = v_new.after_sequence + jsonb_array_length(v_items)
    where r.user_id = p_user_id and r.conversation_id = v_new.conversation_id;
  end if;

  insert into public.conversation_states as s (
    user_id, response_id, conversation_id, after_sequence, input_sequence, sequence_order, previous_response_id, model,
    provider, request_hash, created_at
  )
  values (
    p_user_id, p_response_id, v_new.conversation_id, v_new.after_sequence,
    v_new.after_sequence + jsonb_array_length(v_input), v_new.after_sequence + jsonb_array_length(v_items),
    v_previous_id, p_response ->> 'model', p_response ->> 'provider', v_hash,
    coalesce(p_created_at, floor(extract(epoch from now())))
  )
  on conflict (user_id, response_id) do update set
    conversation_id = excluded.conversation_id,
    after_sequence = excluded.after_sequence,
    input_sequence = excluded.input_sequence,
    sequence_order = excluded.sequence_order,
    previous_response_id = excluded.previous_response_id,
    model = excluded.model,
    provider = excluded.provider,
    request_hash = excluded.request_hash,
    history_hash = null,
    updated_at = now()
  returning s.* into v_new;

  -- What the response pointed at before may be shown by nothing now. Its children point for themselves.
  if v_old.response_id is not null then
    perform private.prune_lineage(v_old.conversation_id);
  end if;
  return private.response_answer(v_new) || jsonb_build_object('created', v_old.response_id is null);
end;
$$;
comment on routine private.store_response is
  'Stores a response of the user: its input and output go on where the previous response ended, in its conversation if that '
  'is still the tip there, else in a fork. Answers it with created (false: it was replaced) or replayed. p_created_at in '
  'unix seconds; null: now. Checks nobody''s rights.';
revoke all on routine private.store_response from public, anon, authenticated, service_role;


create function private.remove_response(p_user_id uuid, p_response_id text) returns boolean
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
as $$
declare
  v_conversation_id uuid;
begin
  perform pg_advisory_xact_lock(hashtextextended('responses of ' || p_user_id, 0));
  perform pg_advisory_xact_lock(hashtextextended(p_user_id || p_response_id, 0));
  delete from public.conversation_states s
  where s.user_id = p_user_id and s.response_id = p_response_id
  returning s.conversation_id into v_conversation_id;
  if not found then
    return false;
  end if;
  perform private.prune_lineage(v_conversation_id);
  return true;
end;
$$;
comment on routine private.remove_response is
  'Removes a response of the user and what nothing else shows; false if there is none. Checks nobody''s rights.';
revoke all on routine private.remove_response from public, anon, authenticated, service_role;


create function private.put_response(p_response_id text, p_response jsonb, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
begin
  if char_length(p_response_id) not between 1 and 256
    or jsonb_typeof(p_response) is distinct from 'object'
    or p_response - '{previous_response_id,input,output,model,provider}'::text[] <> '{}'
    or jsonb_typeof(p_response -> 'model') is distinct from 'string'
    or jsonb_typeof(p_response -> 'provider') is distinct from 'string'
    or jsonb_typeof(p_response -> 'previous_response_id') not in ('string', 'null')
  then
    perform private.refuse('A field of the response is missing, unknown, or of the wrong type.');
  elsif p_response ->> 'previous_response_id' = p_response_id then
    perform private.refuse('A response does not continue itself.');
  end if;
  perform private.require_items(private.input_items(p_response -> 'input'), 'input');
  perform private.require_items(p_response -> 'output', 'output');
  return private.store_response(
    v_user_id, p_response_id, jsonb_strip_nulls(p_response - '{input,output}'::text[])
      || jsonb_build_object('input', p_response -> 'input', 'output', p_response -> 'output'), null
  );
end;
$$;
comment on routine private.put_response is 'See public.put_response.';


create function public.put_response(p_response_id text, p_response jsonb, p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.put_response(p_response_id, p_response, p_user_id);
comment on routine public.put_response is
  'Stores a response {input (a string or items), output (items), model, provider, previous_response_id?}: all of it or '
  'nothing. Answers it without items, with created: true for a new one. The same again is replayed: true; another body '
  'under the same id replaces it, and what continued it keeps the history that it had. PT409 '
  'previous_response_not_found.';
revoke all on routine private.put_response, public.put_response from public, anon, authenticated, service_role;
grant execute on routine private.put_response, public.put_response to authenticated, service_role;


create function private.require_response(p_response_id text, p_user_id uuid) returns public.conversation_states
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_state public.conversation_states;
begin
  select * into v_state
  from public.conversation_states s
  where s.user_id = private.acting_user(p_user_id) and s.response_id = p_response_id;
  if not found then
    raise sqlstate 'PT404' using message = 'response_not_found';
  end if;
  return v_state;
end;
$$;
comment on routine private.require_response is 'The user''s response, or PT404 response_not_found.';
revoke all on routine private.require_response from public, anon, authenticated, service_role;


create function private.get_response(p_response_id text, p_items boolean, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_state public.conversation_states := private.require_response(p_response_id, p_user_id);
begin
  if not p_items then
    return private.response_answer(v_state);
  end if;
  return private.response_answer(v_state) || jsonb_build_object(
    'input_items', private.require_history(private.response_items(v_state.conversation_id, 0, v_state.sequence_order))
  );
end;
$$;
comment on routine private.get_response is 'See public.get_response.';


create function public.get_response(p_response_id text, p_items boolean default true, p_user_id uuid default null)
returns jsonb
language sql
stable
set search_path = ''
return private.get_response(p_response_id, p_items, p_user_id);
comment on routine public.get_response is
  'A response with input_items: the whole history in order, its own input and output last. p_items false: without them. '
  'PT404 response_not_found.';
revoke all on routine private.get_response, public.get_response from public, anon, authenticated, service_role;
grant execute on routine private.get_response, public.get_response to authenticated, service_role;


create function private.delete_response(p_response_id text, p_user_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  if not private.remove_response(private.acting_user(p_user_id), p_response_id) then
    raise sqlstate 'PT404' using message = 'response_not_found';
  end if;
end;
$$;
comment on routine private.delete_response is 'See public.delete_response.';


create function public.delete_response(p_response_id text, p_user_id uuid default null) returns void
language sql
set search_path = ''
return private.delete_response(p_response_id, p_user_id);
comment on routine public.delete_response is
  'Deletes a response and its messages, except those that other responses, or conversations and their forks, still show.';
revoke all on routine private.delete_response, public.delete_response from public, anon, authenticated, service_role;
grant execute on routine private.delete_response, public.delete_response to authenticated, service_role;


create function private.merge_response(p_response_id text, p_body jsonb, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_input jsonb := private.input_items(p_body -> 'input');
  v_items jsonb;
begin
  if jsonb_typeof(p_body) is distinct from 'object' or p_body - 'input' <> '{}' then
    perform private.refuse('A field is unknown.');
  end if;
  perform private.require_items(v_input, 'input');
  select private.response_items(s.conversation_id, 0, s.sequence_order) into v_items
  from public.conversation_states s
  where s.user_id = v_user_id and s.response_id = p_response_id;
  if not found then
    raise sqlstate 'PT409' using
      message = 'previous_response_not_found',
      detail = format('No response of the user has the id %s.', to_json(p_response_id));
  end if;
  return jsonb_build_object('input_items', private.require_history(v_items || v_input));
end;
$$;
comment on routine private.merge_response is 'See public.merge_response.';


create function public.merge_response(p_response_id text, p_body jsonb, p_user_id uuid default null) returns jsonb
language sql
stable
set search_path = ''
return private.merge_response(p_response_id, p_body, p_user_id);
comment on routine public.merge_response is
  'What a model gets next, {input_items}: the history of the response and then {input} (a string or items). Stores nothing. '
  'PT409 previous_response_not_found.';
revoke all on routine private.merge_response, public.merge_response from public, anon, authenticated, service_role;
grant execute on routine private.merge_response, public.merge_response to authenticated, service_role;

insert into private.repeatable_calls (name) values ('delete_response');
