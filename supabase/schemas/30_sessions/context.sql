-- What a returning caller's model has to know: the summaries of their last sessions, and the latest turns.

create function private.text_tokens(p_text text) returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return 4 + (3 * octet_length(p_text)::bigint - char_length(p_text) + 7) / 8;
end;
$$;
comment on routine private.text_tokens is
  'What a message of this text (and name) costs: the rule of private.message_tokens for a message that is text alone.';
revoke all on routine private.text_tokens from public, anon, authenticated, service_role;


create type private.utterance as (kind text, text text, trace_id text);
comment on type private.utterance is
  'What somebody said, and in which trace: kind is user, ai or chunk, a piece of what the AI said. Kind tool is a break in it.';


create type private.event_place as (occurred_at timestamptz, sequence integer);
comment on type private.event_place is 'Where an event stands: when it was said, and its number where that is the same.';


create function private.is_told(p_chunks private.utterance, p_message private.utterance) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_chunks text := btrim(p_chunks.text, E' \n\r\t');
  v_message text := btrim(p_message.text, E' \n\r\t');
begin
  return p_message.kind = 'ai'
    and v_message <> ''
    -- Who was interrupted has sent more than was heard, if the message is what was heard.
    and (strpos(v_message, v_chunks) > 0 or starts_with(v_chunks, v_message));
end;
$$;
comment on routine private.is_told is
  'Whether a message of the AI has the text of these chunks, or is their beginning.';
revoke all on routine private.is_told from public, anon, authenticated, service_role;


create function private.get_session_context(
  p_max_tokens integer, p_max_sessions integer, p_of_user_id text, p_user_id text
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- One plan for every session, which walks down the primary key and stops where the budget does: planning anew for each takes
-- longer than reading it, and a sort of what is not limited would read all of it.
set plan_cache_mode = force_generic_plan
set enable_sort = off
set jit = off
as $$
declare
  c_name constant text := 'session_summaries';
  c_title constant text := 'Summaries of earlier sessions, oldest first.';
  -- Whatever the budget: a worker has to hold the answer, and a statement has eight seconds.
  c_bytes constant bigint := 8 * 1024 * 1024;
  c_sessions constant integer := 1000;
  c_events constant integer := 100000;
  -- How many events later than what was said after it something may be stored, and still stand where it was said. Its
  -- transcript comes when a turn is over, so the answer's chunks may all be before it.
  c_window constant integer := 500;
  v_user_id text := private.session_reader(p_user_id, p_of_user_id);
  v_truncated boolean := false;
  v_cost bigint;
  v_session record;
  -- Summaries, the latest first, and what the message costs that has the first n of them.
  v_summary text := '';
  v_summaries text[] := '{}';
  v_summary_costs bigint[] := '{}';
  v_summary_tokens bigint;
  v_shown integer;
  -- Turns, the latest first as well. Events are read backwards, twice the window ahead: of the places that are known, sorted,
  -- the first half is settled. v_lowest is the number down to which they are. v_last is what was read last and is not settled
  -- yet, v_next and v_next_but_one are what comes after it.
  v_places private.event_place[];
  v_settled integer[];
  v_lowest integer;
  v_limit integer;
  v_read integer;
  v_events refcursor;
  v_event private.utterance;
  v_last private.utterance;
  v_next private.utterance;
  v_next_but_one private.utterance;
  v_chunks text[];
  v_turns jsonb[] := '{}';
  v_turn_tokens bigint := 0;
  v_turn_bytes bigint := 0;
  v_sessions_read integer := 0;
  v_events_left integer := c_events;
  v_left_out integer := 0;
  v_messages jsonb;
begin
  if p_max_tokens is null or p_max_tokens < 1 or p_max_sessions is null or p_max_sessions not between 0 and 100 then
    perform private.refuse('max_tokens is at least 1, max_sessions between 0 and 100.');
  end if;
  if p_max_tokens > 100000 then
    perform private.take_turn(v_user_id);
  end if;
  if v_user_id is null then
    perform private.acting_user(null); -- which refuses
  end if;

  for v_session in
    select s.start_time, s.summary
    from public.sessions s
    where s.user_id = v_user_id and s.summary <> ''
    order by s.start_time desc, s.id desc
    limit p_max_sessions
  loop
    v_summaries := v_summaries || format(
      E'\n\n%s UTC: %s', to_char(v_session.start_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), v_session.summary
    );
    v_summary := v_summary || v_summaries[cardinality(v_summaries)];
    v_cost := private.text_tokens(c_name || c_title || v_summary);
    v_summary_costs := v_summary_costs || v_cost;
    exit when v_cost > p_max_tokens or octet_length(v_summary) > c_bytes;
  end loop;
  -- At most half for the summaries, until it is known what the turns need.
  select coalesce(max(c.cost), 0) into v_summary_tokens
  from unnest(v_summary_costs) c (cost)
  where c.cost <= p_max_tokens / 2;

  <<sessions>>
  for v_session in
    select s.id, s.last_sequence, s.created_at, s.last_event_at
    from public.sessions s
    where s.user_id = v_user_id and s.last_sequence > 0
    order by s.start_time desc, s.id desc
  loop
    v_truncated := v_sessions_read = c_sessions or v_events_left = 0;
    exit when v_truncated;
    v_sessions_read := v_sessions_read + 1;
    v_last := null;
    v_next := null;
    v_next_but_one := null;

    v_places := '{}';
    v_lowest := v_session.last_sequence + 1;
    v_limit := 2 * c_window;
    v_read := null;

    loop
      v_event := null;
      if v_read is not null then
        fetch v_events into v_event;
      end if;
      while v_event.kind is null and coalesce(v_read = v_limit, true) loop
        if v_read is not null then
          close v_events;
          v_limit := c_window;
        end if;
        -- Places alone: what is far from the budget's end is never looked into.
        select
          array_agg((p.occurred_at, p.sequence)::private.event_place order by p.occurred_at desc, p.sequence desc),
          min(p.sequence),
          count(*) - cardinality(v_places)
        into v_places, v_lowest, v_read
        from (
          select k.occurred_at, k.sequence from unnest(v_places) k
          union all
          (
            select e.occurred_at, e.sequence
            from public.event_logs e
            where e.session_id = v_session.id
              and e.sequence > v_session.last_sequence - v_events_left
              and e.sequence < v_lowest
              -- The bounds of private.read_events: which partitions the session is in.
              and e.created_at between v_session.created_at and v_session.last_event_at
              and e.event_type = any (private.turn_types())
            order by e.sequence desc
            limit v_limit
          )
        ) p;
        v_settled := array(
          select p.sequence
          from unnest(v_places[:case when v_read = v_limit then c_window else cardinality(v_places) end]) p
        );
        v_places := v_places[c_window + 1:];

        open v_events for
          select
            case e.event_type
              when 'user_message' then 'user'
              when 'ai_message' then 'ai'
              when 'ai_response' then 'ai'
              when 'ai_chunk' then 'chunk'
              else 'tool'
            end,
            private.event_text(e.content),
            e.trace_id
          from (
            select e.event_type, e.content, e.trace_id
            from unnest(v_settled) with ordinality p (sequence, n)
            -- By the primary key, one for one: there is an index on occurred_at, but of everybody's events.
            cross join lateral (
              select *
              from public.event_logs e
              where e.session_id = v_session.id
                and e.sequence = p.sequence
                and e.created_at between v_session.created_at and v_session.last_event_at
              limit 1
            ) e
            order by p.n
            -- A text is read when its turn comes.
            offset 0
          ) e;
        fetch v_events into v_event;
      end loop;
      if v_event.kind <> 'tool' and v_event.text is null then
        v_left_out := v_left_out + 1;
      end if;

      if v_event.kind = 'chunk' and v_last.kind = 'chunk' and v_event.trace_id is not distinct from v_last.trace_id then
        v_chunks := v_chunks || v_event.text;
        continue;
      end if;

      -- What was read last is complete.
      if v_last.kind = 'chunk' then
        select string_agg(c.text, '' order by c.n desc) into v_last.text
        from unnest(v_chunks) with ordinality c (text, n);
        if v_next.kind = 'ai' and v_next.text ~ '\S' and coalesce(v_next.trace_id = v_last.trace_id, true)
          or private.is_told(v_last, v_next)
          or private.is_told(v_last, v_next_but_one)
          or private.is_told(v_last, v_event)
          -- Its beginning is beyond what is read.
          or v_event.kind is null and v_session.last_sequence > v_events_left
        then
          v_last := null;
        end if;
      end if;
      if v_last.text ~ '\S' then
        v_cost := private.text_tokens(v_last.text);
        v_truncated := v_summary_tokens + v_turn_tokens + v_cost > p_max_tokens
          or v_turn_bytes + octet_length(v_last.text) > c_bytes;
        exit sessions when v_truncated;
        v_turn_tokens := v_turn_tokens + v_cost;
        v_turn_bytes := v_turn_bytes + octet_length(v_last.text);
        v_turns := v_turns || jsonb_build_object(
          'role', case v_last.kind when 'user' then 'user' else 'assistant' end, 'content', v_last.text
        );
      end if;
      if v_last.kind is not null then
        v_next_but_one := v_next;
        v_next := v_last;
      end if;

      exit when v_event.kind is null;
      v_last := case when v_event.kind <> 'tool' then v_event end;
      v_chunks := array[v_event.text];
    end loop;
    close v_events;
    v_truncated := v_session.last_sequence > v_events_left;
    exit when v_truncated;
    v_events_left := v_events_left - v_session.last_sequence;
  end loop;

  -- What the turns leave is for more summaries.
  select count(*), coalesce(max(c.cost), 0) into v_shown, v_summary_tokens
  from unnest(v_summary_costs) c (cost)
  where c.cost <= p_max_tokens - v_turn_tokens;
  if v_shown > 0 then
    select jsonb_build_array(jsonb_build_object(
      'role', 'system', 'name', c_name, 'content', c_title || string_agg(s.text, '' order by s.n desc)
    )) into v_messages
    from unnest(v_summaries[:v_shown]) with ordinality s (text, n);
  end if;
  select coalesce(v_messages, '[]') || coalesce(to_jsonb(array_agg(t.turn order by t.n desc)), '[]') into v_messages
  from unnest(v_turns) with ordinality t (turn, n);
  return jsonb_build_object(
    'messages', v_messages,
    'total_tokens', v_summary_tokens + v_turn_tokens,
    'truncated', v_truncated or v_left_out > 0 or v_shown < cardinality(v_summaries),
    'left_out', v_left_out
  );
end;
$$;
comment on routine private.get_session_context is 'See public.get_session_context.';


create function public.get_session_context(
  p_max_tokens integer default 2048,
  p_max_sessions integer default 5,
  p_of_user_id text default null,
  p_user_id text default null
) returns jsonb
language sql
stable
set search_path = ''
return private.get_session_context(p_max_tokens, p_max_sessions, p_of_user_id, p_user_id);
comment on routine public.get_session_context is
  'What a caller and the AI said before, as a model takes it: a system message with the summaries of the last p_max_sessions '
  'sessions that have one, then the latest turns of all sessions, by session and by when they were said, as {role, content}. '
  'Never more than p_max_tokens (private.text_tokens counts): summaries get half, and what the turns do not need. Chunks are '
  'joined, and left out where their message is there. Answers {messages, total_tokens, truncated, left_out}; left_out counts '
  'the events among them in which private.event_text finds nothing, and truncated says of them as well. A backend says whose it '
  'is: p_user_id or p_of_user_id. Raises PT400 user_id_required.';
revoke all on routine private.get_session_context, public.get_session_context
  from public, anon, authenticated, service_role;
grant execute on routine private.get_session_context, public.get_session_context to authenticated, service_role;
