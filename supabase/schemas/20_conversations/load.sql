-- Loading: pages of messages, through the lineage of forks.

create function private.read_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text
) returns setof public.conversation_messages
language plpgsql
stable
security definer
set search_path = ''
-- By index, in its order: without statistics (docs/decisions/0026) all of a conversation looked little enough to be sorted.
set enable_sort = off
as $$
declare
  v_id uuid := p_conversation_id;
  v_upper integer := p_before - 1;
  v_parent_id uuid;
  v_lower integer;
  v_left integer := p_limit;
  v_count integer;
  v_ids uuid[] := '{}';
  v_lowers integer[] := '{}';
  v_uppers integer[] := '{}';
begin
  -- From the conversation upwards. A segment is what one conversation of the line contributes: (lower, upper].
  while v_id is not null and v_left > 0 and v_upper > p_after loop
    select c.parent_id, coalesce(c.fork_sequence, 0) into v_parent_id, v_lower
    from public.conversations c
    where c.id = v_id;
    exit when not found;

    if v_lower < v_upper then
      if p_order = 'desc' then
        return query
          select m.*
          from public.conversation_messages m
          where m.conversation_id = v_id
            and m.sequence_order > greatest(v_lower, p_after) and m.sequence_order <= v_upper
          order by m.sequence_order desc
          limit v_left;
        get diagnostics v_count = row_count;
        v_left := v_left - v_count;
      else
        v_ids := v_id || v_ids;
        v_lowers := greatest(v_lower, p_after) || v_lowers;
        v_uppers := v_upper || v_uppers;
      end if;
    end if;
    v_upper := least(v_upper, v_lower);
    v_id := v_parent_id;
  end loop;

  -- Ascending begins at the far end of what was walked.
  for i in 1 .. cardinality(v_ids) loop
    exit when v_left <= 0;
    return query
      select m.*
      from public.conversation_messages m
      where m.conversation_id = v_ids[i] and m.sequence_order > v_lowers[i] and m.sequence_order <= v_uppers[i]
      order by m.sequence_order
      limit v_left;
    get diagnostics v_count = row_count;
    v_left := v_left - v_count;
  end loop;
end;
$$;
comment on routine private.read_messages is
  'The messages that a conversation shows with p_after < sequence_order < p_before, at most p_limit, through its '
  'lineage. Each step up is one primary-key probe, and the walk stops when the page is full. Checks nobody''s rights.';
revoke all on routine private.read_messages from public, anon, authenticated, service_role;


create type private.listed_message as (
  id uuid,
  conversation_id uuid,
  sequence_order integer,
  type text,
  role text,
  content text,
  parts jsonb,
  name text,
  function_call jsonb,
  tool_calls jsonb,
  tool_call_id text,
  item_id text,
  model text,
  usage jsonb,
  status text,
  token_count integer,
  author text,
  metadata jsonb,
  created_at timestamptz,
  item jsonb
);
comment on type private.listed_message is 'A message as the API answers it: without its owner.';


-- Every column, so that an insert can return the message.
create view private.listed_messages with (security_invoker = true) as
select
  m.*,
  row(
    m.id, m.conversation_id, m.sequence_order, m.type, m.role, m.content, m.parts, m.name, m.function_call, m.tool_calls,
    m.tool_call_id, m.item_id, m.model, m.usage, m.status, m.token_count, m.author, m.metadata, m.created_at, m.item
  )::private.listed_message as message,
  -- As printed: a number in JSON may be stored in a few bytes and print as thousands. octet_length(text) knows the size
  -- without reading the text.
  coalesce(octet_length(m.content), 0) + coalesce(octet_length(m.tool_call_id), 0) + case
    when num_nonnulls(m.parts, m.function_call, m.tool_calls, m.usage, m.item, m.source) > 0 or m.metadata <> '{}'
    then octet_length(concat(m.parts, m.function_call, m.tool_calls, m.usage, m.metadata, m.item, m.source))
    else 0
  end as bytes
from public.conversation_messages m;
comment on view private.listed_messages is 'Messages as private.list_messages answers them, and about how long each is.';
revoke all on private.listed_messages from public, anon, authenticated, service_role;


create function private.require_format(p_format text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_format is null or p_format not in ('message', 'chat', 'responses', 'anthropic', 'gemini', 'ai-sdk', 'langchain') then
    perform private.refuse('format is not message, chat, responses, anthropic, gemini, ai-sdk or langchain.');
  end if;
end;
$$;
comment on routine private.require_format is 'Raises PT400 invalid_request for a format that messages are not shown in.';
revoke all on routine private.require_format from public, anon, authenticated, service_role;


create function private.list_any_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text, p_format text
) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies; messages may have 4 MiB each.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_message public.conversation_messages;
  v_messages public.conversation_messages[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
  v_data json;
begin
  -- One more than the page, to know whether there is more. A page that is full of bytes ends early, after one message
  -- at the least.
  for v_message in
    select * from private.read_messages(p_conversation_id, p_after, p_before, p_limit + 1, p_order)
  loop
    v_bytes := v_bytes + coalesce(octet_length(v_message.content), 0) + coalesce(octet_length(v_message.tool_call_id), 0) + case
      when num_nonnulls(
          v_message.parts, v_message.function_call, v_message.tool_calls, v_message.usage, v_message.item, v_message.source
        ) > 0 or v_message.metadata <> '{}'
      then octet_length(concat(
        v_message.parts, v_message.function_call, v_message.tool_calls, v_message.usage, v_message.metadata, v_message.item,
        v_message.source
      ))
      else 0
    end;
    v_has_more := cardinality(v_messages) = p_limit or (v_bytes > c_max_bytes and v_messages <> '{}');
    exit when v_has_more;
    v_messages := v_messages || v_message;
  end loop;

  select coalesce(
    json_agg(
      -- With its source, for what converts it.
      case when p_format = 'message' then to_json(l) else (select to_json(s) from (select l.*, m.source) s) end
      order by case when p_order = 'desc' then -m.sequence_order else m.sequence_order end
    ),
    '[]'
  ) into v_data
  from unnest(v_messages) m
  cross join lateral (
    select (row(
      m.id, p_conversation_id, m.sequence_order, m.type, m.role, m.content, m.parts, m.name, m.function_call, m.tool_calls,
      m.tool_call_id, m.item_id, m.model, m.usage, m.status, m.token_count, m.author, m.metadata, m.created_at, m.item
    )::private.listed_message).*
  ) l;
  return json_build_object('data', v_data, 'has_more', v_has_more);
end;
$$;
comment on routine private.list_any_messages is
  'private.list_messages for conversations that share messages with others, for pages of more than 8 MiB, and for the formats of '
  'other APIs. Checks nobody''s rights.';
revoke all on routine private.list_any_messages from public, anon, authenticated, service_role;


create function private.list_messages(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_order text, p_user_id uuid, p_format text
) returns json
language plpgsql
stable
security definer
set search_path = ''
-- By index, as read_messages.
set enable_sort = off
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
  v_after integer := coalesce(p_after, 0);
  v_before integer := coalesce(p_before, 2147483647);
  v_fork_sequence integer;
  -- None of the page has more than its share of 8 MiB: together they have no more either.
  v_max_bytes integer;
  v_data json;
  v_bytes integer;
  v_count integer;
begin
  if p_limit is null or p_limit not between 1 and 1000 or p_order is null or p_order not in ('asc', 'desc') then
    perform private.require_limit(p_limit);
    perform private.refuse('order is not asc or desc.');
  end if;
  if p_format = 'message' is not true then
    perform private.require_format(p_format);
  end if;
  v_max_bytes := 8 * 1024 * 1024 / p_limit;
  select c.fork_sequence into v_fork_sequence
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  elsif v_fork_sequence is not null or p_format <> 'message' then
    return private.list_any_messages(p_conversation_id, v_after, v_before, p_limit, p_order, p_format);
  end if;

  if p_order = 'asc' then
    select
      json_agg(m.message) filter (where m.bytes <= v_max_bytes), count(*), max(m.bytes), max(m.sequence_order)
    into v_data, v_count, v_bytes, v_after
    from (
      select m.message, m.bytes, m.sequence_order
      from private.listed_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
      order by m.sequence_order
      limit p_limit
    ) m;
  else
    select
      json_agg(m.message) filter (where m.bytes <= v_max_bytes), count(*), max(m.bytes), min(m.sequence_order)
    into v_data, v_count, v_bytes, v_before
    from (
      select m.message, m.bytes, m.sequence_order
      from private.listed_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
      order by m.sequence_order desc
      limit p_limit
    ) m;
  end if;
  if v_bytes > v_max_bytes then
    return private.list_any_messages(
      p_conversation_id, coalesce(p_after, 0), coalesce(p_before, 2147483647), p_limit, p_order, p_format
    );
  end if;
  return json_build_object(
    'data', coalesce(v_data, '[]'),
    'has_more', v_count = p_limit and exists (
      select
      from public.conversation_messages m
      where m.conversation_id = p_conversation_id and m.sequence_order > v_after and m.sequence_order < v_before
    )
  );
end;
$$;
comment on routine private.list_messages is 'See public.list_messages.';


create function public.list_messages(
  p_conversation_id uuid,
  p_after integer default null,
  p_before integer default null,
  p_limit integer default 50,
  p_order text default 'asc',
  p_user_id uuid default null,
  p_format text default 'message'
) returns json
language plpgsql
stable
set search_path = ''
as $$
begin
  return private.list_messages(p_conversation_id, p_after, p_before, p_limit, p_order, p_user_id, p_format);
end;
$$;
comment on routine public.list_messages is
  'A page of a conversation''s messages with p_after < sequence_order < p_before, in p_order (asc or desc). Answers '
  '{data, has_more}: as json, which is text that is ready, where jsonb would be built, sorted and printed. With a p_format of '
  'another API than message each message has its source, too.';
revoke all on routine private.list_messages, public.list_messages from public, anon, authenticated, service_role;
grant execute on routine private.list_messages, public.list_messages to authenticated, service_role;
