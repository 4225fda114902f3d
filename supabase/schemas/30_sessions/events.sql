-- Events: numbered under the session's row lock, appended and listed.

create function private.require_events(p_events jsonb) returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_invalid bigint;
begin
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) not between 1 and 1000 then
    perform private.refuse('events is not an array of 1 to 1000.');
  end if;
  select e.n - 1 into v_invalid
  from jsonb_array_elements(p_events) with ordinality as e (value, n)
  where case
    when jsonb_typeof(e.value) <> 'object' then true
    else e.value - '{event_type,content,source,trace_id,occurred_at}'::text[] <> '{}'
      or jsonb_typeof(e.value -> 'event_type') is distinct from 'string'
      or char_length(e.value ->> 'event_type') not between 1 and 64
      or coalesce(jsonb_typeof(e.value -> 'content'), 'null') = 'null'
      or jsonb_typeof(e.value -> 'source') not in ('string', 'null') or char_length(e.value ->> 'source') > 256
      or jsonb_typeof(e.value -> 'trace_id') not in ('string', 'null') or char_length(e.value ->> 'trace_id') > 256
      or jsonb_typeof(e.value -> 'occurred_at') not in ('string', 'null')
  end
  limit 1;
  if found then
    perform private.refuse(format(
      'events[%s] is not an event, or has a field, a type or a length that events do not have.', v_invalid
    ));
  end if;
end;
$$;
comment on routine private.require_events is
  'What zod says politely at the edge holds for a direct RPC call too. Raises PT400 invalid_request.';
revoke all on routine private.require_events from public, anon, authenticated, service_role;


create function private.require_types(p_types text[]) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if cardinality(p_types) > 32 then
    perform private.refuse_part('types', 'Has more than 32 types.', 'event_types');
  end if;
end;
$$;
comment on routine private.require_types is 'Raises PT400 invalid_request for more types than each event is compared with.';
revoke all on routine private.require_types from public, anon, authenticated, service_role;
grant execute on routine private.require_types to authenticated, service_role;


create function private.event_slot(p_at timestamptz) returns timestamptz
language sql
immutable
set search_path = ''
as $$
  select date_bin('15 minutes', p_at, '2000-01-01 00:00:00+00');
$$;
comment on routine private.event_slot is 'The beginning of the quarter of an hour, as in private.event_counts.';
revoke all on routine private.event_slot from public, anon, authenticated, service_role;


create function private.event_text(p_content jsonb, p_depth integer default 0) returns text
-- A third of the time that a function in SQL takes, which no caller can inline.
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_depth constant integer := 5;
  -- {text}; OpenAI's and LiveKit's {transcript}; Vapi's {message}; Retell's and LiveKit's {content}, a string or its parts;
  -- Gemini's {parts}; what an event of a realtime API wraps in {item}, or adds with {delta}, if it says that it is text.
  c_keys constant text[] := '{transcript,message,content,parts,item,delta}';
  -- What stands between the parts of an answer, and is not said.
  c_unsaid constant text[] := '{reasoning,thinking,redacted_thinking,tool_use,tool_result,tool_call,function_call,'
    'function_call_output}';
  v_key text;
  v_text text;
  v_found text;
begin
  case jsonb_typeof(p_content)
    when 'string' then
      v_found := p_content #>> '{}';
    when 'object' then
      if jsonb_typeof(p_content -> 'text') = 'string' then
        v_found := p_content ->> 'text';
      end if;
      -- A part that has its text elsewhere has an empty "text", too.
      if v_found is null or v_found !~ '\S' then
        foreach v_key in array c_keys loop
          continue when not p_content ? v_key or p_depth = c_depth
            or v_key = 'delta' and coalesce(p_content ->> 'type' not similar to '%(text|transcript).delta', true);
          v_text := private.event_text(p_content -> v_key, p_depth + 1);
          v_found := case when v_text ~ '\S' then v_text else coalesce(v_found, v_text) end;
          exit when v_found ~ '\S';
        end loop;
      end if;
    when 'array' then
      if p_depth < c_depth then
        select string_agg(
          case
            -- A list of strings may be anything; as the content of a message it is its parts.
            when jsonb_typeof(p.value) = 'string' then case when p_depth > 0 then p.value #>> '{}' end
            when p.value ->> 'type' = any (c_unsaid) or p.value -> 'thought' = 'true' then null
            when jsonb_typeof(p.value) = 'object' then private.event_text(p.value, p_depth + 1)
          end,
          E'\n' order by p.n
        ) into v_found
        from jsonb_array_elements(p_content) with ordinality p (value, n);
      end if;
    else null;
  end case;
  return v_found;
end;
$$;
comment on routine private.event_text is
  'What was said in an event, for contexts, audit and folded chunks: the content where it is a string; of an object the first of '
  '"text", "transcript", "message", "content", "parts", "item" and a text''s "delta" that has text; the parts of an array that '
  'say something, one a line. Null: no text in a shape that is known.';
revoke all on routine private.event_text from public, anon, authenticated, service_role;


create function private.turn_types() returns text[]
language sql
immutable
set search_path = ''
as $$
  select '{user_message,ai_message,ai_response,ai_chunk,tool_call,tool_result}'::text[];
$$;
comment on routine private.turn_types is
  'The types of events that are turns, or parts of one: what else happens parts nothing and is no message.';
revoke all on routine private.turn_types from public, anon, authenticated, service_role;


create function private.begins_message(
  p_event_type text, p_trace_id text, p_before_type text, p_before_trace_id text
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case
    when p_event_type = 'user_message' then true
    when p_event_type not in ('ai_message', 'ai_response', 'ai_chunk') then false
    when p_before_type is distinct from 'ai_chunk' then true
    when p_event_type = 'ai_chunk' then p_trace_id is distinct from p_before_trace_id
    else coalesce(p_trace_id <> p_before_trace_id, false)
  end;
end;
$$;
comment on routine private.begins_message is
  'Whether a message begins with an event, told by the turn before it: a run of ai_chunk of one trace is one message, and so is '
  'the ai_message or ai_response that has the run''s text.';
revoke all on routine private.begins_message from public, anon, authenticated, service_role;


create function private.event_before(
  p_session_id uuid, p_sequence integer, out event_type text, out trace_id text
)
language plpgsql
security definer
set search_path = ''
as $$
begin
  select e.event_type, e.trace_id into event_type, trace_id
  from public.event_logs e
  where e.session_id = p_session_id
    -- What is not a turn parts nothing, but nobody looks for long.
    and e.sequence >= p_sequence - 20
    and e.sequence < p_sequence
    and e.event_type = any (private.turn_types())
    and e.created_at >= (select s.created_at from public.sessions s where s.id = p_session_id)
    and e.created_at <= (select s.last_event_at from public.sessions s where s.id = p_session_id)
  order by e.sequence desc
  limit 1;
end;
$$;
comment on routine private.event_before is
  'The turn before an event, among the 20 events before it: what was said, or a tool''s call or result. Volatile: a trigger sees '
  'the rows of its own command.';
revoke all on routine private.event_before from public, anon, authenticated, service_role;


create function private.read_events(p_session_id uuid, p_after integer, p_types text[], p_limit integer) returns jsonb
language plpgsql
stable
set search_path = ''
-- By index, as private.read_messages.
set enable_sort = off
as $$
declare
  v_from timestamptz;
  v_to timestamptz;
  v_rows refcursor;
begin
  -- The partitions between are all that is looked into.
  select s.created_at, s.last_event_at into v_from, v_to
  from public.sessions s
  where s.id = p_session_id;
  open v_rows for
    select to_jsonb(e) - 'user_id'
    from public.event_logs e
    where e.session_id = p_session_id
      and e.sequence > p_after
      and e.created_at between v_from and v_to
      and (p_types is null or e.event_type = any (p_types))
    order by e.sequence
    limit p_limit + 1;
  return private.read_page(v_rows, p_limit);
end;
$$;
comment on routine private.read_events is
  'The events of a session after a number, at most p_limit and about 8 MiB of them: {data, has_more}. With the rights of '
  'whoever calls.';
revoke all on routine private.read_events from public, anon, authenticated, service_role;
grant execute on routine private.read_events to authenticated, service_role;


create function private.append_events(
  p_session_id uuid, p_events jsonb, p_idempotency_key text, p_user_id text
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_caller_id text := private.session_caller_id(p_user_id);
  v_scope text := 'POST /sessions/' || p_session_id || '/events';
  v_user_id text;
  v_last integer;
  v_now timestamptz;
  v_result jsonb;
  v_events jsonb;
  v_invalid bigint;
  v_before record;
begin
  perform private.require_events(p_events);
  if jsonb_array_length(p_events) > 500 then
    perform private.take_turn(v_caller_id);
  end if;
  -- The row lock is the queue: batches of one session are numbered one after the other.
  select s.user_id, s.last_sequence into v_user_id, v_last
  from public.sessions s
  where s.id = p_session_id and s.user_id = coalesce(v_caller_id, s.user_id)
  for no key update skip locked;
  if not found then
    select s.user_id, s.last_sequence into v_user_id, v_last from private.lock_session(p_session_id, p_user_id) s;
  end if;

  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(v_user_id, v_scope, p_idempotency_key, p_events);
    if v_result is not null then
      select to_jsonb(array_agg(to_jsonb(e) - 'user_id' order by e.sequence)) into v_events
      from public.event_logs e
      where e.session_id = p_session_id
        and e.sequence between (v_result -> 'first')::integer and (v_result -> 'last')::integer;
      return jsonb_build_object(
        'events', coalesce(v_events, '[]'), 'last_sequence', v_result -> 'last', 'replayed', true
      );
    end if;
    perform private.keep_idempotent_result(
      v_user_id, v_scope, p_idempotency_key,
      jsonb_build_object('first', v_last + 1, 'last', v_last + jsonb_array_length(p_events))
    );
  end if;

  -- Read after the lock, so that created_at rises with the number; it rises within the batch as well.
  v_now := clock_timestamp();
  select e.n - 1 into v_invalid
  from jsonb_array_elements(p_events) with ordinality as e (value, n)
  where private.to_time('occurred_at', e.value ->> 'occurred_at') - e.n * interval '1 microsecond'
    not between v_now - interval '168 hours' and v_now + interval '5 minutes'
  limit 1;
  if found then
    perform private.refuse(format(
      'events[%s].occurred_at is more than seven days ago, or more than five minutes ahead.', v_invalid
    ));
  end if;

  select null::text as event_type, null::text as trace_id into v_before;
  if jsonb_path_exists(p_events, '$[*].event_type ? (@ starts with "ai_")') then
    v_before := private.event_before(p_session_id, v_last + 1);
  end if;
  with stored as (
    insert into public.event_logs as e (
      session_id, sequence, user_id, event_type, content, source, trace_id, occurred_at, created_at
    )
    select
      p_session_id, v_last + n.n, v_user_id, n.event_type, n.content, n.source, n.trace_id,
      coalesce(n.occurred_at, v_now + n.n * interval '1 microsecond'), v_now + n.n * interval '1 microsecond'
    from rows from (
      jsonb_to_recordset(p_events) as (
        event_type text, content jsonb, source text, trace_id text, occurred_at timestamptz
      )
    ) with ordinality as n (event_type, content, source, trace_id, occurred_at, n)
    returning e.*
  ),
  counted as (
    insert into private.event_counts as c (session_id, slot, event_type, user_id, count, messages)
    select p_session_id, s.slot, s.event_type, v_user_id, count(*), count(*) filter (where s.begins)
    from (
      select
        private.event_slot(s.occurred_at) as slot,
        s.event_type,
        private.begins_message(
          s.event_type, s.trace_id,
          lag(s.event_type, 1, v_before.event_type) over turns, lag(s.trace_id, 1, v_before.trace_id) over turns
        ) as begins
      from stored s
      window turns as (
        partition by s.event_type = any (private.turn_types()) order by s.sequence
      )
    ) s
    group by s.slot, s.event_type
    on conflict (session_id, slot, event_type) do update
      set count = c.count + excluded.count, messages = c.messages + excluded.messages
  )
  select to_jsonb(array_agg(to_jsonb(s) - 'user_id' order by s.sequence)) into v_events
  from stored s;

  v_last := v_last + jsonb_array_length(p_events);
  update public.sessions s set
    last_sequence = v_last,
    last_event_at = greatest(s.last_event_at, v_now + jsonb_array_length(p_events) * interval '1 microsecond'),
    created_at = least(s.created_at, v_now)
  where s.id = p_session_id;
  return jsonb_build_object('events', v_events, 'last_sequence', v_last);
end;
$$;
comment on routine private.append_events is 'See public.append_events.';


create function public.append_events(
  p_session_id uuid, p_events jsonb, p_idempotency_key text default null, p_user_id text default null
) returns jsonb
language sql
set search_path = ''
return private.append_events(p_session_id, p_events, p_idempotency_key, p_user_id);
comment on routine public.append_events is
  'Appends 1 to 1,000 events, [{event_type, content, source?, trace_id?, occurred_at?}]: all of them, contiguously, or none. '
  'A session that has ended still takes what comes late. Answers {events, last_sequence}. Raises PT404 session_not_found, '
  'PT400 invalid_request, PT409 idempotency_mismatch.';
revoke all on routine private.append_events, public.append_events from public, anon, authenticated, service_role;
grant execute on routine private.append_events, public.append_events to authenticated, service_role;


create function private.number_event() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_before record;
begin
  perform private.lock_session(new.session_id, null);
  update public.sessions s set
    last_sequence = s.last_sequence + 1,
    last_event_at = greatest(s.last_event_at, new.created_at),
    created_at = least(s.created_at, new.created_at)
  where s.id = new.session_id
  returning s.last_sequence, s.user_id into new.sequence, new.user_id;
  -- A list of rows with different columns comes with nulls where a row has none.
  new.occurred_at := coalesce(new.occurred_at, new.created_at);
  v_before := private.event_before(new.session_id, new.sequence);
  insert into private.event_counts as c (session_id, slot, event_type, user_id, count, messages)
  values (
    new.session_id, private.event_slot(new.occurred_at), new.event_type, new.user_id, 1,
    private.begins_message(new.event_type, new.trace_id, v_before.event_type, v_before.trace_id)::integer
  )
  on conflict (session_id, slot, event_type) do update
    set count = c.count + 1, messages = c.messages + excluded.messages;
  return new;
end;
$$;
comment on routine private.number_event is
  'Numbers an event that is inserted through the REST API, under the session''s row lock, and says whose it is.';
revoke all on routine private.number_event from public, anon, authenticated, service_role;

-- append_events numbers a whole batch itself. No client role may write the column, so none passes by.
create trigger number_event before insert on public.event_logs
  for each row when (new.sequence is null) execute function private.number_event();


create function public.list_events(
  p_session_id uuid,
  p_after integer default null,
  p_types text[] default null,
  p_limit integer default 50,
  p_user_id text default null
) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_session jsonb := public.get_session(p_session_id, p_user_id);
begin
  perform private.require_limit(p_limit);
  perform private.require_types(p_types);
  return private.read_events(p_session_id, coalesce(p_after, 0), p_types, p_limit)
    || jsonb_build_object('session', v_session);
end;
$$;
comment on routine public.list_events is
  'A page of a session''s events with sequence > p_after, in order, of the types given, and the session as it is at that '
  'moment: {data, has_more, session}. Raises PT404 session_not_found.';
revoke all on routine public.list_events from public, anon, authenticated, service_role;
grant execute on routine public.list_events to authenticated, service_role;
