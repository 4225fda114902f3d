-- Made from supabase/schemas/40_responses by "npm run migration": change it there.

set check_function_bodies = off;

-- Responses: what an LLM gateway keeps for previous_response_id. A response is a pointer into a conversation: the history
-- behind it is what that conversation shows up to there, and no message of it is stored again.

create function private.check_response(
  p_response_id text, p_previous_response_id text, p_after_sequence integer, p_input_sequence integer, p_sequence_order integer,
  p_model text, p_provider text
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_broken text := case
    when char_length(p_response_id) not between 1 and 256 then '{response_id,"has not 1 to 256 characters"}'
    when p_previous_response_id = p_response_id then '{previous_response_id,"is its own"}'
    when not (0 <= p_after_sequence and p_after_sequence <= p_input_sequence and p_input_sequence <= p_sequence_order)
      then '{sequence,"runs backwards"}'
    when char_length(p_model) > 256 then '{model,"has more than 256 characters"}'
    when char_length(p_provider) > 256 then '{provider,"has more than 256 characters"}'
  end;
begin
  return v_broken is null or private.refuse_row('conversation_states', v_broken::text[]);
end;
$$;
comment on routine private.check_response is 'Every rule of a response''s row, as one check.';
revoke all on routine private.check_response from public, anon, authenticated, service_role;


create table public.conversation_states (
  user_id uuid not null,
  response_id text not null,
  conversation_id uuid not null,
  after_sequence integer not null,
  input_sequence integer not null,
  sequence_order integer not null,
  previous_response_id text,
  model text not null,
  provider text not null,
  request_hash bytea not null,
  history_hash bytea,
  created_at bigint not null default floor(extract(epoch from now())),
  updated_at timestamptz not null default now(),
  constraint conversation_states_pkey primary key (user_id, response_id),
  constraint conversation_states_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint conversation_states_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id),
  constraint conversation_states_check check (private.check_response(
    response_id, previous_response_id, after_sequence, input_sequence, sequence_order, model, provider
  ))
);

-- Serves the foreign key, and says how much of a conversation responses still show.
create index idx_conversation_states_conversation_id
  on public.conversation_states (user_id, conversation_id, sequence_order);
create index idx_conversation_states_history_hash
  on public.conversation_states (user_id, history_hash) where history_hash is not null;
create index idx_conversation_states_updated_at on public.conversation_states (updated_at);

comment on table public.conversation_states is
  'The responses of a model, by the id that previous_response_id names. Each points at the message where its history ends.';
comment on column public.conversation_states.conversation_id is
  'The conversation that shows its history. Responses that continue one another share it; another child of one forks.';
comment on column public.conversation_states.after_sequence is 'Where the history before it ends.';
comment on column public.conversation_states.input_sequence is 'Where its own input ends and its output begins.';
comment on column public.conversation_states.sequence_order is 'Where its output, and with it the history, ends.';
comment on column public.conversation_states.previous_response_id is
  'The response it continues, as the client said it; that one may have been deleted or replaced since.';
comment on column public.conversation_states.request_hash is 'SHA-256 of what was stored: the same again is a replay.';
comment on column public.conversation_states.history_hash is
  'SHA-256 over all items of the history, of what came through gateway.conversation_states; null elsewhere.';
comment on column public.conversation_states.created_at is 'Unix time in seconds, kept when the response is replaced.';
comment on column public.conversation_states.updated_at is 'When it was stored, or replaced last.';

select private.sample_only('public.conversation_states', '{after_sequence, input_sequence, sequence_order, created_at, updated_at}');
alter table public.conversation_states enable row level security, force row level security;
revoke all on public.conversation_states from anon, authenticated, service_role;
grant select on public.conversation_states to authenticated, service_role;

create policy "Users see their own responses" on public.conversation_states
  for select to authenticated using (user_id = (select auth.uid()));

select private.count_writes_to('public.conversation_states', 'user_id', '{request_hash}');


create table private.response_conversations (
  user_id uuid not null,
  conversation_id uuid not null,
  last_sequence_order integer not null,
  constraint response_conversations_pkey primary key (user_id, conversation_id),
  constraint response_conversations_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade
);

comment on table private.response_conversations is 'The conversations that storing responses has made.';
comment on column private.response_conversations.last_sequence_order is
  'The last message a response wrote. A conversation that has gone on from there is somebody''s own.';

select private.close_table('private.response_conversations');


create function private.keep_conversation() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  delete from private.response_conversations r where r.user_id = new.user_id and r.conversation_id = new.id;
  return null;
end;
$$;
comment on routine private.keep_conversation is
  'A conversation that responses have made and somebody has titled, summarised, pinned, or given a video or metadata is theirs, '
  'for good.';
revoke all on routine private.keep_conversation from public, anon, authenticated, service_role;

create trigger keep_conversation after update of title, summary, video_id, metadata, pinned on public.conversations
  for each row when (num_nonnulls(new.title, new.summary, new.video_id) > 0 or new.metadata <> '{}' or new.pinned)
  execute function private.keep_conversation();

-- A gateway that speaks SQL: the table it knows, as a view over what is stored once.

-- Roles belong to the cluster: another database of it may have made this one.
do $$
begin
  if not exists (select from pg_catalog.pg_roles r where r.rolname = 'gateway') then
    create role gateway nologin;
  end if;
end;
$$;
-- The gateway's statements do not name a schema.
alter role gateway set search_path = 'gateway';
comment on role gateway is
  'Reads and writes gateway.conversation_states and nothing else. To use it: alter role gateway login password ''…''.';

create schema gateway;
comment on schema gateway is 'For gateways that speak SQL, as the role gateway. Not in the API''s exposed schemas.';
revoke all on schema gateway from public;
grant usage on schema gateway to gateway;
grant usage on schema private to gateway;


create function private.gateway_user_id() returns uuid
language sql
immutable
set search_path = ''
as $$
  select '67617465-7761-4900-8000-000000000000'::uuid;
$$;
comment on routine private.gateway_user_id is
  'The owner of what the role gateway stores: a user of Auth without a way to log in, made with the first response.';
revoke all on routine private.gateway_user_id from public, anon, authenticated, service_role;
-- The functions of a view run as whoever reads it.
grant execute on routine private.gateway_user_id to gateway;


create function private.gateway_items(p_response_id text) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select private.response_items(s.conversation_id, 0, s.sequence_order)
  from public.conversation_states s
  where s.user_id = private.gateway_user_id() and s.response_id = p_response_id;
$$;
comment on routine private.gateway_items is 'The whole history of one of the gateway''s own responses.';
revoke all on routine private.gateway_items from public, anon, authenticated, service_role;
grant execute on routine private.gateway_items to gateway;


-- A barrier: a function of the reader's own, in a condition, sees no row that the view does not show.
create view gateway.conversation_states with (security_barrier) as
select
  s.response_id,
  private.gateway_items(s.response_id) as input_items,
  s.created_at,
  s.model,
  s.provider,
  s.updated_at
from public.conversation_states s
where s.user_id = private.gateway_user_id();
comment on view gateway.conversation_states is
  'The responses that the gateway has stored, each with its whole history. An insert stores what is new in it, and replaces '
  'what has the same response_id.';
revoke all on gateway.conversation_states from public, anon, authenticated, service_role;
grant select, insert, delete on gateway.conversation_states to gateway;


create function private.history_hashes(p_items jsonb) returns bytea[]
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_hash bytea := '';
  v_hashes bytea[] := '{}';
  v_item jsonb;
begin
  for v_item in select i.value from jsonb_array_elements(p_items) with ordinality as i (value, n) order by i.n loop
    v_hash := sha256(v_hash || sha256(convert_to(v_item::text, 'UTF8')));
    v_hashes := v_hashes || v_hash;
  end loop;
  return v_hashes;
end;
$$;
comment on routine private.history_hashes is 'For each n, what identifies the first n items of a history.';
revoke all on routine private.history_hashes from public, anon, authenticated, service_role;


create function private.insert_gateway_state() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_hashes bytea[];
  v_known record;
  v_previous_id text;
  v_after integer := 0;
begin
  if new.response_id is null or new.model is null or new.provider is null then
    raise not_null_violation using message = 'response_id, input_items, model and provider are required.';
  end if;
  -- Any number of them: a row brings its whole history.
  perform private.require_items(new.input_items, 'input_items', 2147483647);
  insert into auth.users (
    id, aud, role, confirmation_token, recovery_token, email_change, email_change_token_new, email_change_token_current,
    phone_change, phone_change_token, reauthentication_token
  )
  values (private.gateway_user_id(), 'authenticated', 'authenticated', '', '', '', '', '', '', '', '')
  on conflict do nothing;

  -- The longest history that is stored and that this one goes on from. Checked item by item: a message may have been
  -- deleted since.
  v_hashes := private.history_hashes(new.input_items);
  for v_known in
    select s.response_id, h.n
    from unnest(v_hashes) with ordinality as h (hash, n)
    join public.conversation_states s on s.user_id = private.gateway_user_id() and s.history_hash = h.hash
    where s.response_id <> new.response_id
    order by h.n desc, s.updated_at desc, s.response_id
  loop
    if private.gateway_items(v_known.response_id) = (
      select to_jsonb(array_agg(i.value order by i.n))
      from jsonb_array_elements(new.input_items) with ordinality as i (value, n)
      where i.n <= v_known.n
    ) then
      v_previous_id := v_known.response_id;
      v_after := v_known.n;
      exit;
    end if;
  end loop;

  perform private.store_response(
    private.gateway_user_id(),
    new.response_id,
    jsonb_strip_nulls(jsonb_build_object('previous_response_id', v_previous_id)) || jsonb_build_object(
      'model', new.model, 'provider', new.provider, 'output', '[]'::jsonb,
      'input', (
        select coalesce(to_jsonb(array_agg(i.value order by i.n)), '[]')
        from jsonb_array_elements(new.input_items) with ordinality as i (value, n)
        where i.n > v_after
      )
    ),
    new.created_at
  );
  update public.conversation_states s set
    history_hash = v_hashes[cardinality(v_hashes)],
    updated_at = coalesce(new.updated_at, s.updated_at)
  where s.user_id = private.gateway_user_id() and s.response_id = new.response_id;
  return new;
end;
$$;
comment on routine private.insert_gateway_state is
  'Stores a row of gateway.conversation_states: of its history what no earlier response has, as its continuation.';
revoke all on routine private.insert_gateway_state from public, anon, authenticated, service_role;

create trigger insert_gateway_state instead of insert on gateway.conversation_states
  for each row execute function private.insert_gateway_state();


create function private.delete_gateway_state() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if private.remove_response(private.gateway_user_id(), old.response_id) then
    return old;
  end if;
  return null;
end;
$$;
comment on routine private.delete_gateway_state is
  'Deletes a row of gateway.conversation_states, and of its history what nothing else shows.';
revoke all on routine private.delete_gateway_state from public, anon, authenticated, service_role;

create trigger delete_gateway_state instead of delete on gateway.conversation_states
  for each row execute function private.delete_gateway_state();

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

-- Retention of responses: since they were stored, or replaced last.

insert into private.retention_policies (kind, keep) values ('conversation_states', '7 days');


create function private.retain_conversation_states(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 1000;
  v_cutoff timestamptz := private.retention_cutoff('conversation_states', p_now);
begin
  -- No lock of the user's, as private.remove_response takes it: the queue prunes without waiting.
  select jsonb_build_object('conversation_states', n), n = c_removed into removed, more
  from private.remove_pointers('public.conversation_states', 'updated_at', v_cutoff, c_removed) n;
end;
$$;
comment on routine private.retain_conversation_states is
  'Deletes up to 1,000 responses. What of their history nothing else shows is left to private.prune_queue.';
revoke all on routine private.retain_conversation_states from public, anon, authenticated, service_role;

reset check_function_bodies;
