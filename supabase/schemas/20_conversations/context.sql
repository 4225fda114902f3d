-- The context of a conversation: what of it fits a model, with its calls and their results together.

create function private.is_whole_item(p_message public.conversation_messages) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  return p_message.item is not null and (
    p_message.type <> 'message'
    or num_nonnulls(p_message.content, p_message.parts, p_message.function_call, p_message.tool_calls) = 0
  );
end;
$$;
comment on routine private.is_whole_item is
  'Whether the column item is the message. If not, it is what the other columns leave out of an item, or null.';
revoke all on routine private.is_whole_item from public, anon, authenticated, service_role;


create function private.message_tokens(p_message public.conversation_messages) returns bigint
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_text text := '';
  v_json text;
  v_images bigint := 0;
begin
  if p_message.token_count is not null then
    return p_message.token_count;
  end if;
  if p_message.item is not null and private.is_whole_item(p_message) then
    -- An item is all that a model gets of its message.
    v_json := p_message.item::text;
  else
    v_text := coalesce(p_message.content, '') || coalesce(p_message.name, '');
    v_json := coalesce(p_message.parts::text, '') || coalesce(p_message.function_call::text, '')
      || coalesce(p_message.tool_calls::text, '');
  end if;
  v_text := v_text || v_json;
  if octet_length(v_json) > 200 then
    -- What is taken off is ASCII: a byte a character. One regular expression for all of it took twenty times as long.
    select coalesce(sum(8 * 1000 - 2 * octet_length(s.value)), 0) into v_images
    from unnest(string_to_array(v_json, '"')) s (value)
    where octet_length(s.value) >= 200 and s.value ~ '^(data:[!-~]*|[A-Za-z0-9+/=_-]*)$';
  end if;
  return 4 + (3 * octet_length(v_text)::bigint - char_length(v_text) + v_images + 7) / 8;
end;
$$;
comment on routine private.message_tokens is
  'What a message costs: its token_count, or else 4 + ceil((3 * bytes - characters) / 8) over content, name, parts, '
  'function_call and tool_calls, or over the item alone where there is one. That is a token for 4 ASCII characters and '
  'for each Chinese, Japanese or Korean one. JSON counts as Postgres prints it, except that a string of 200 characters '
  'or more which is a data: URL or base64 counts 1,000, about an image.';
revoke all on routine private.message_tokens from public, anon, authenticated, service_role;


create function private.context_message(p_message public.conversation_messages) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_function_call jsonb := case when p_message.role = 'assistant' then p_message.function_call end;
  v_tool_calls jsonb := case when p_message.role = 'assistant' then nullif(p_message.tool_calls, '[]') end;
  v_item jsonb := case when p_message.item is not null and private.is_whole_item(p_message) then p_message.item end;
begin
  return jsonb_build_object(
    'type', p_message.type,
    'role', p_message.role,
    -- Null only where something else carries the message: an API takes no other null.
    'content', coalesce(
      p_message.content,
      case when num_nonnulls(p_message.parts, v_function_call, v_tool_calls, v_item) = 0 then '' end
    ),
    'parts', p_message.parts,
    'name', p_message.name,
    'function_call', v_function_call,
    'tool_calls', v_tool_calls,
    'tool_call_id', p_message.tool_call_id,
    'item_id', p_message.item_id,
    'item', v_item,
    'author', p_message.author,
    'sequence_order', p_message.sequence_order
  ) - array[
    case when p_message.type = 'message' then 'type' end,
    case when p_message.role is null then 'role' end,
    case when p_message.parts is null then 'parts' end,
    case when p_message.name is null then 'name' end,
    case when v_function_call is null then 'function_call' end,
    case when v_tool_calls is null then 'tool_calls' end,
    case when p_message.tool_call_id is null then 'tool_call_id' end,
    case when p_message.item_id is null then 'item_id' end,
    case when v_item is null then 'item' end
  ];
end;
$$;
comment on routine private.context_message is
  'A message as a model needs it, with author and sequence_order. Fields that are null are left out, except content.';
revoke all on routine private.context_message from public, anon, authenticated, service_role;


create type private.context_entry as (
  sequence_order integer,
  tokens bigint,
  bytes bigint,
  kind text,
  calls text[],
  answers text
);
comment on type private.context_entry is
  'What decides about a message: its cost, its size as stored, its kind (user, reasoning, model or other), the calls it makes and the one '
  'it answers, as keys. Bodies stay behind: what is read beyond the budget costs no memory.';


create function private.read_context_entries(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer
) returns private.context_entry[]
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(array_agg(
      (
        m.sequence_order,
        private.message_tokens(m),
        coalesce(octet_length(m.content), 0) + coalesce(pg_column_size(m.parts), 0) + coalesce(pg_column_size(m.item), 0)
          + coalesce(pg_column_size(m.tool_calls), 0),
        -- Whatever a client calls a message, it is one thing: what answers is no call, and what does either is no turn.
        case
          when m.type = 'reasoning' and coalesce(m.role, 'assistant') = 'assistant' and a.answers is null and c.calls is null
            then 'reasoning'
          when m.role = 'user' and a.answers is null and c.calls is null then 'user'
          when coalesce(m.role, 'assistant') = 'assistant' and a.answers is null then 'model'
          else 'other'
        end,
        c.calls,
        a.answers
      )::private.context_entry
      order by m.sequence_order
    ), '{}')
    from private.read_messages(p_conversation_id, p_after, p_before, p_limit, 'desc') m
    -- Calls without an id, and results without one, get keys that find nothing.
    cross join lateral (
      select case
        when m.type like '%\_call\_output' or m.type like '%\_output' and m.item ->> 'call_id' is not null
          then coalesce('item ' || coalesce(m.item ->> 'call_id', m.item ->> 'id', m.tool_call_id), 'no call')
        when m.type = 'mcp_approval_response' then coalesce('item ' || (m.item ->> 'approval_request_id'), 'no call')
        when m.role = 'tool' then coalesce('tool ' || m.tool_call_id, 'no call')
        when m.role = 'function' then coalesce('function ' || m.name, 'no call')
      end as answers
    ) a
    cross join lateral (
      select case
        when a.answers is not null then null
        -- A hosted tool's call (web search) has no call_id and brings its result along.
        when m.type = 'function_call' or m.type like '%\_call' and m.item ->> 'call_id' is not null
          then array[coalesce('item ' || coalesce(m.item ->> 'call_id', m.tool_call_id), 'no result')]
        when m.type = 'mcp_approval_request' then array[coalesce('item ' || (m.item ->> 'id'), 'no result')]
        when m.role = 'assistant' and num_nonnulls(m.tool_calls, m.function_call) > 0 then array(
          select coalesce('tool ' || (t.value ->> 'id'), 'no result') from jsonb_array_elements(m.tool_calls) t
          union all
          select coalesce('function ' || (m.function_call ->> 'name'), 'no result') where m.function_call is not null
        )
      end as calls
    ) c
  );
end;
$$;
comment on routine private.read_context_entries is
  'The newest p_limit messages that a conversation shows with p_after < sequence_order < p_before, as entries in '
  'ascending order. Checks nobody''s rights.';
revoke all on routine private.read_context_entries from public, anon, authenticated, service_role;


create function private.fit_context(
  p_entries private.context_entry[],
  p_all boolean,
  p_tokens bigint,
  p_messages bigint,
  out over boolean,
  out turn integer,
  out turn_tokens bigint,
  out turn_messages bigint,
  out cut integer,
  out cut_tokens bigint,
  out truncated boolean,
  out unpaired integer[]
)
language plpgsql
stable
set search_path = ''
-- An array in a from clause is planned as ten rows, and nested loops over ten thousand would take seconds.
set enable_nestloop = off
-- Compiling takes longer than the query, whatever a plan with a switched-off join is said to cost.
set jit = off
as $$
declare
  -- A result this many numbers after its call has lost it; a turn longer than this counts from its last group.
  c_reach constant integer := 256;
  c_turn constant integer := 1000;
  -- A worker has to hold the answer: an image of megabytes costs few tokens. The newest turn is in, whatever its size.
  c_bytes constant bigint := 8 * 1024 * 1024;
  v_first integer := p_entries[1].sequence_order;
  v_last integer := p_entries[cardinality(p_entries)].sequence_order;
  v_user integer;
begin
  select max(e.sequence_order) into v_user
  from unnest(p_entries) e
  where e.kind = 'user' and e.sequence_order > v_last - c_turn;

  with entries as (
    select * from unnest(p_entries)
  ),
  -- Every result belongs to the nearest call of its key before it: some providers use their ids again.
  keys as (
    select k.key, k.sequence_order, count(*) as asked, true as is_call
    from (select e.sequence_order, unnest(e.calls) as key from entries e) k
    group by k.key, k.sequence_order
    union all
    select e.answers, e.sequence_order, null, false from entries e where e.answers is not null
  ),
  nearest as (
    select
      k.*,
      max(k.sequence_order) filter (where k.is_call) over (partition by k.key order by k.sequence_order) as call
    from keys k
  ),
  ranked as (
    select
      n.*,
      max(n.asked) over (partition by n.key, n.call) as wanted,
      row_number() over (partition by n.key, n.call order by n.sequence_order) - 1 as nth
    from nearest n
  ),
  results as (
    -- One for each call: a second answer to the same call is refused by some APIs.
    select
      r.sequence_order, r.key, r.call,
      r.call is not null and r.sequence_order - r.call <= c_reach and r.nth <= r.wanted as paired,
      -- Its call may be among the messages that are not read yet.
      r.call is null and r.sequence_order - c_reach < v_first and not p_all as open
    from ranked r
    where not r.is_call
  ),
  -- The messages all of whose calls are answered, and how far their results reach.
  answered as (
    select c.sequence_order, max(r.reach) as reach
    from ranked c
    left join (
      select p.key, p.call, count(*) as results, max(p.sequence_order) as reach
      from results p
      where p.paired
      group by p.key, p.call
    ) r on r.key = c.key and r.call = c.sequence_order
    where c.is_call
    group by c.sequence_order
    having bool_and(c.wanted = coalesce(r.results, 0))
  ),
  paired as (
    select
      e.*, c.reach,
      (coalesce(cardinality(e.calls), 0) = 0 or c.sequence_order is not null)
        and (e.answers is null or a.sequence_order is not null) as usable,
      min(e.sequence_order) filter (where e.kind <> 'reasoning') over (order by e.sequence_order desc) as follower
    from entries e
    left join answered c on c.sequence_order = e.sequence_order
    left join results r on r.sequence_order = e.sequence_order and r.paired
    left join answered a on a.sequence_order = r.call
  ),
  -- Reasoning stays with what the model did next, and goes with it.
  judged as (
    select
      p.sequence_order, p.tokens, p.bytes,
      case when p.kind = 'reasoning' then coalesce(f.usable and f.kind = 'model', false) else p.usable end as usable,
      case when p.kind = 'reasoning' then p.follower else p.reach end as reach
    from paired p
    left join paired f on f.sequence_order = p.follower
  ),
  summed as (
    select
      j.*,
      sum(j.tokens) filter (where j.usable) over newest_first as tokens_from,
      count(*) filter (where j.usable) over newest_first as messages_from,
      sum(j.bytes) filter (where j.usable) over newest_first as bytes_from,
      j.sequence_order > (select coalesce(max(r.sequence_order), 0) from results r where r.open) as known,
      coalesce(
        max(j.reach) filter (where j.usable)
          over (order by j.sequence_order rows between unbounded preceding and 1 preceding),
        0
      ) < j.sequence_order as between_groups
    from judged j
    window newest_first as (order by j.sequence_order desc)
  ),
  -- Where the context may begin.
  starts as (
    select s.*, s.tokens_from <= p_tokens and s.messages_from <= p_messages as fits
    from summed s
    where s.usable and s.known and s.between_groups
  ),
  chosen as (
    select
      max(s.sequence_order) filter (
        where case
          when v_user is not null then s.sequence_order <= v_user
          -- Only when it is certain that there is no user message.
          else p_all or v_first <= v_last - c_turn + 1
        end
      ) as turn,
      min(s.sequence_order) filter (where s.fits and s.bytes_from <= c_bytes) as cut,
      min(s.sequence_order) filter (where p_all) as first
    from starts s
  ),
  decided as (
    select t.sequence_order as turn, t.tokens_from, t.messages_from, case when t.fits then least(c.cut, t.sequence_order) end as cut
    from chosen c
    left join starts t on t.sequence_order = coalesce(c.turn, c.first)
  )
  select
    coalesce((
      select bool_or(s.tokens_from > p_tokens or s.messages_from > p_messages or s.bytes_from > c_bytes)
      from summed s
      where s.usable and s.known
    ), false),
    d.turn, d.tokens_from, d.messages_from, d.cut, k.tokens_from,
    exists (select from summed s where s.usable and s.sequence_order < d.cut),
    array(
      select s.sequence_order
      from summed s
      where not s.usable and s.sequence_order >= d.cut
      order by s.sequence_order
    )
  into over, turn, turn_tokens, turn_messages, cut, cut_tokens, truncated, unpaired
  from decided d
  left join starts k on k.sequence_order = d.cut;
end;
$$;
comment on routine private.fit_context is
  'Which of the newest messages of a conversation fit: those from cut on, except unpaired. turn is where the newest '
  'turn begins, null while that is not known; cut_tokens is null if the turn does not fit. over: older messages '
  'cannot change the answer. p_all: there are none.';
revoke all on routine private.fit_context from public, anon, authenticated, service_role;


create function private.get_context(
  p_conversation_id uuid, p_max_tokens integer, p_max_messages integer, p_explain boolean, p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- As many of the first messages can lead. The newest are read in chunks, each twice as long as the one before.
  c_leading constant integer := 64;
  v_chunk integer := 16;
  -- Messages may be empty and cost next to nothing: what is older than this many is not looked at.
  c_messages constant integer := 10000;
  v_user_id uuid := private.caller_id(p_user_id);
  v_tokens bigint := 0;
  v_count integer := 0;
  v_after integer := 0;
  v_messages jsonb := '[]';
  v_included jsonb := '[]';
  v_summary public.conversation_messages;
  v_read private.context_entry[];
  v_entries private.context_entry[] := '{}';
  v_all boolean := false;
  v_fit record;
  v_part record;
  v_left_out jsonb;
  v_result jsonb;
begin
  select 'system', 'conversation_summary', c.summary into v_summary.role, v_summary.name, v_summary.content
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  if v_summary.content <> '' then
    v_tokens := private.message_tokens(v_summary);
    v_count := 1;
    v_messages := jsonb_build_array(jsonb_build_object(
      'role', v_summary.role, 'content', v_summary.content, 'name', v_summary.name
    ));
    v_included := jsonb_build_array(jsonb_build_object('tokens', v_tokens, 'reason', 'summary'));
  end if;

  select
    coalesce(max(m.sequence_order), 0) as last,
    count(*) as messages,
    coalesce(sum(private.message_tokens(m.message)), 0) as tokens,
    coalesce(to_jsonb(array_agg(private.context_message(m.message) order by m.sequence_order)), '[]') as shown,
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'sequence_order', m.sequence_order, 'tokens', private.message_tokens(m.message), 'reason', 'leading'
        )
        order by m.sequence_order
      ),
      '[]'
    ) as included
  into v_part
  from (
    select
      m.sequence_order, m as message,
      bool_and(m.type = 'message' and m.role in ('system', 'developer')) over (order by m.sequence_order) as leads
    from private.read_messages(p_conversation_id, 0, 2147483647, c_leading, 'asc') m
  ) m
  where m.leads;
  v_after := v_part.last;
  v_tokens := v_tokens + v_part.tokens;
  v_count := v_count + v_part.messages;
  v_messages := v_messages || v_part.shown;
  v_included := v_included || v_part.included;

  loop
    v_read := private.read_context_entries(
      p_conversation_id, v_after, coalesce(v_entries[1].sequence_order, 2147483647), v_chunk
    );
    v_all := cardinality(v_read) < v_chunk;
    v_entries := v_read || v_entries;
    v_chunk := least(2 * v_chunk, c_messages - cardinality(v_entries));
    select * into v_fit
    from private.fit_context(
      v_entries, v_all,
      coalesce(p_max_tokens, 2147483647) - v_tokens, coalesce(p_max_messages, 2147483647)::bigint - v_count
    );
    exit when v_all or v_chunk = 0 or v_fit.over and v_fit.turn is not null;
  end loop;
  if v_chunk = 0 and not v_all and not v_fit.truncated then
    v_fit.truncated := cardinality(
      private.read_context_entries(p_conversation_id, v_after, v_entries[1].sequence_order, 1)
    ) > 0;
  end if;

  v_tokens := v_tokens + coalesce(v_fit.cut_tokens, v_fit.turn_tokens, 0);
  if v_fit.turn is not null and v_fit.cut_tokens is null or v_tokens > p_max_tokens or v_count > p_max_messages then
    raise sqlstate 'PT409' using
      message = 'budget_too_small',
      detail = format(
        'The newest turn and what always comes first need %s tokens in %s messages.',
        v_tokens, v_count + coalesce(v_fit.turn_messages, 0)
      ),
      hint = 'Raise max_tokens (or max_messages), or shorten the summary.';
  end if;

  if v_fit.cut is not null then
    select
      to_jsonb(array_agg(private.context_message(m) order by m.sequence_order)) as shown,
      case when p_explain then
        jsonb_agg(
          jsonb_build_object(
            'sequence_order', m.sequence_order,
            'tokens', private.message_tokens(m),
            'reason', case when m.sequence_order >= v_fit.turn then 'newest_turn' else 'fits' end
          )
          order by m.sequence_order
        )
      end as included
    into v_part
    from private.read_messages(p_conversation_id, v_fit.cut - 1, 2147483647, 2147483647, 'desc') m
    where m.sequence_order <> all (v_fit.unpaired);
    v_messages := v_messages || v_part.shown;
    v_included := v_included || v_part.included;
  end if;

  v_result := jsonb_build_object('messages', v_messages, 'total_tokens', v_tokens, 'truncated', v_fit.truncated);
  if p_explain then
    select coalesce(jsonb_agg(jsonb_build_object('from', u.n, 'to', u.n, 'reason', 'unpaired') order by u.n), '[]')
    into v_left_out
    from unnest(v_fit.unpaired) u (n);
    if v_fit.truncated then
      v_left_out := jsonb_build_array(
        jsonb_build_object(
          'from', v_after + 1, 'to', coalesce(v_fit.cut, v_entries[1].sequence_order) - 1, 'reason', 'over_budget'
        )
      ) || v_left_out;
    end if;
    v_result := v_result || jsonb_build_object(
      'explain', jsonb_build_object('included', v_included, 'left_out', v_left_out)
    );
  end if;
  return v_result;
end;
$$;
comment on routine private.get_context is 'See public.get_context.';


create function public.get_context(
  p_conversation_id uuid,
  p_max_tokens integer,
  p_max_messages integer default null,
  p_explain boolean default false,
  p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.get_context(p_conversation_id, p_max_tokens, p_max_messages, p_explain, p_user_id);
comment on routine public.get_context is
  'What of a conversation fits a model: the summary as a system message named conversation_summary, the leading system '
  'and developer messages, then the newest messages, in order. Answers {messages, total_tokens, truncated}, and with '
  'p_explain explain: {included, left_out}. Never more than p_max_tokens (private.message_tokens counts) or '
  'p_max_messages, never half of a call and its results. The newest turn is always in, else PT409 budget_too_small.';
revoke all on routine private.get_context, public.get_context from public, anon, authenticated, service_role;
grant execute on routine private.get_context, public.get_context to authenticated, service_role;
