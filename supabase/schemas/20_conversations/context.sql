-- The context of a conversation: what of it fits a model, with its calls and their results together. What fits is decided in
-- context_fit.sql, what a message consists of in pieces.sql.

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
  -- OpenAI: 85 for an image in low detail, 765 for one of a megapixel; Anthropic: up to 1,600.
  c_image constant integer := 1000;
  c_low_detail constant integer := 85;
  v_text text := '';
  v_json text;
  v_blobs bigint := 0;
  v_images bigint := 0;
  v_low bigint := 0;
  v_media bigint := 0;
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
    select count(*), coalesce(sum(octet_length(s.value)), 0) into v_blobs, v_media
    from unnest(string_to_array(v_json, '"')) s (value)
    where octet_length(s.value) >= 200 and s.value ~ '^(data:[!-~]*|[A-Za-z0-9+/=_-]*)$';
  end if;
  if v_json <> '' then
    -- An image that is linked or uploaded has no bytes to count. In JSON as Postgres prints it no text can look like this.
    v_images := greatest(
      private.occurrences(v_json, '"type": "image') + private.occurrences(v_json, '"type": "input_image"')
        + private.occurrences(v_json, '"type": "computer_screenshot"') - private.occurrences(v_json, '"type": "image_generation_call"'),
      private.occurrences(v_json, '"mediaType": "image/') + private.occurrences(v_json, '"mimeType": "image/')
    ) - v_blobs;
    v_low := least(greatest(v_images, 0), private.occurrences(v_json, '"detail": "low"'));
    v_images := greatest(v_images, 0) - v_low;
  end if;
  return 4 + (3 * octet_length(v_text)::bigint - char_length(v_text) - 2 * v_media + 7) / 8
    + c_image * (v_blobs + v_images) + c_low_detail * v_low;
end;
$$;
comment on routine private.message_tokens is
  'What a message costs: its token_count, or else 4 + ceil((3 * bytes - characters) / 8) over content, name, parts, '
  'function_call and tool_calls, or over the item alone where there is one. That is a token for 4 ASCII characters and '
  'for each Chinese, Japanese or Korean one. JSON counts as Postgres prints it, except that a string of 200 characters '
  'or more which is a data: URL or base64 counts 1,000, about an image. An image that is linked or uploaded counts 1,000 '
  'more than its address, in low detail 85.';
revoke all on routine private.message_tokens from public, anon, authenticated, service_role;


create function private.occurrences(p_text text, p_of text) returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- Most texts have none, and replace() copies.
  return case when strpos(p_text, p_of) = 0 then 0
    else (octet_length(p_text) - octet_length(replace(p_text, p_of, ''))) / octet_length(p_of) end;
end;
$$;
comment on routine private.occurrences is 'How often a text has another in it.';
revoke all on routine private.occurrences from public, anon, authenticated, service_role;


create function private.context_message(
  p_message public.conversation_messages, p_places int4multirange, p_format text
) returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_message public.conversation_messages := p_message;
  v_item jsonb := case when p_message.item is not null and private.is_whole_item(p_message) then p_message.item end;
  v_parts integer;
begin
  if p_message.role is distinct from 'assistant' then
    v_message.function_call := null;
    v_message.tool_calls := null;
  end if;
  if p_places is not null then
    v_parts := coalesce(jsonb_array_length(p_message.parts), 0);
    if not 0 <@ p_places then
      v_message.content := null;
    end if;
    if not v_parts + 1 <@ p_places then
      v_message.function_call := null;
    end if;
    v_message.parts := (
      select jsonb_agg(p.value order by p.n)
      from jsonb_array_elements(p_message.parts) with ordinality p (value, n)
      where p.n::integer <@ p_places
    );
    v_message.tool_calls := (
      select jsonb_agg(c.value order by c.n)
      from jsonb_array_elements(v_message.tool_calls) with ordinality c (value, n)
      where v_parts + 1 + c.n::integer <@ p_places
    );
  end if;
  v_message.tool_calls := nullif(v_message.tool_calls, '[]');

  return jsonb_build_object(
    'type', v_message.type,
    'role', v_message.role,
    -- Null only where something else carries the message: an API takes no other null.
    'content', coalesce(
      v_message.content,
      case when num_nonnulls(v_message.parts, v_message.function_call, v_message.tool_calls, v_item) = 0 then '' end
    ),
    'parts', v_message.parts,
    'name', v_message.name,
    'function_call', v_message.function_call,
    'tool_calls', v_message.tool_calls,
    'tool_call_id', v_message.tool_call_id,
    'item_id', v_message.item_id,
    'item', v_item,
    'author', v_message.author,
    'sequence_order', v_message.sequence_order
  ) - array[
    case when v_message.type = 'message' then 'type' end,
    case when v_message.role is null then 'role' end,
    case when v_message.parts is null then 'parts' end,
    case when v_message.name is null then 'name' end,
    case when v_message.function_call is null then 'function_call' end,
    case when v_message.tool_calls is null then 'tool_calls' end,
    case when v_message.tool_call_id is null then 'tool_call_id' end,
    case when v_message.item_id is null then 'item_id' end,
    case when v_item is null then 'item' end
  ] || case
    when p_format = 'message' then '{}'
    else jsonb_strip_nulls(jsonb_build_object(
      'status', nullif(v_message.status, 'complete'), 'model', v_message.model
    )) || case when p_places is null and v_message.source is not null then jsonb_build_object('source', v_message.source) else '{}' end
  end;
end;
$$;
comment on routine private.context_message is
  'A message, or only what of it is at p_places (private.pieces), as a model needs it, with author and sequence_order. Fields '
  'that are null are left out, except content. For what converts it to a format of another API also its model, its status unless '
  'it is complete, and the source of a whole message.';
revoke all on routine private.context_message from public, anon, authenticated, service_role;


create type private.context_piece as (
  sequence_order integer,
  tokens bigint,
  bytes bigint,
  place integer,
  upto integer,
  kind text,
  key text,
  type text
);
comment on type private.context_piece is
  'A piece (private.piece) of a message, with what the message costs and its size as stored. Bodies stay behind: what is read '
  'beyond the budget costs no memory.';


create function private.read_context_pieces(
  p_conversation_id uuid, p_after integer, p_before integer, p_limit integer, p_pieces integer default null
) returns private.context_piece[]
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(array_agg(
      (p.sequence_order, p.tokens, p.bytes, p.place, p.upto, p.kind, p.key, p.type)::private.context_piece
      order by p.sequence_order, p.place
    ), '{}')
    from (
      select m.sequence_order, m.tokens, m.bytes, p.place, p.upto, p.kind, p.key, p.type
      from (
        -- Once for each message, however many pieces it has.
        select
          m as message, m.sequence_order, private.message_tokens(m) as tokens,
          coalesce(octet_length(m.content), 0) + coalesce(pg_column_size(m.parts), 0) + coalesce(pg_column_size(m.item), 0)
            + coalesce(pg_column_size(m.tool_calls), 0) + coalesce(pg_column_size(m.source), 0) as bytes
        from private.read_messages(p_conversation_id, p_after, p_before, p_limit, 'desc') m
        offset 0
      ) m
      cross join lateral private.pieces(m.message) p
      limit p_pieces
    ) p
  );
end;
$$;
comment on routine private.read_context_pieces is
  'The pieces of the newest p_limit messages that a conversation shows with p_after < sequence_order < p_before, in order; of '
  'more than p_pieces the newest, which may leave half of the oldest message. Checks nobody''s rights.';
revoke all on routine private.read_context_pieces from public, anon, authenticated, service_role;


create function private.newest_compaction(p_conversation_id uuid) returns integer
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select max(m.sequence_order)
    from private.lineage(p_conversation_id) l
    cross join lateral (
      select m.sequence_order
      from public.conversation_messages m
      where m.conversation_id = l.id and m.sequence_order <= l.upper and m.type = 'compaction'
      order by m.sequence_order desc
      limit 1
    ) m
  );
end;
$$;
comment on routine private.newest_compaction is
  'The number of the newest item that stands for everything before it, or null. Checks nobody''s rights.';
revoke all on routine private.newest_compaction from public, anon, authenticated, service_role;


create function private.last_user_message(p_conversation_id uuid, p_after integer, p_before integer, p_limit integer)
returns integer
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_chunk integer := 128;
  v_left integer := p_limit;
  v_before integer := p_before;
  v_read integer;
  v_lowest integer;
  v_found integer;
begin
  while v_left > 0 loop
    v_chunk := least(v_chunk, v_left);
    select
      count(*), min(m.sequence_order),
      max(m.sequence_order) filter (
        where m.role = 'user' and exists (select from private.pieces(m) p where p.kind = 'user')
      )
    into v_read, v_lowest, v_found
    from private.read_messages(p_conversation_id, p_after, v_before, v_chunk, 'desc') m;
    exit when v_found is not null or v_read < v_chunk;
    v_before := v_lowest;
    v_left := v_left - v_read;
    v_chunk := 2 * v_chunk;
  end loop;
  return v_found;
end;
$$;
comment on routine private.last_user_message is
  'The number of the last message in which a user says something, of the p_limit newest with p_after < sequence_order < '
  'p_before, or null. Checks nobody''s rights.';
revoke all on routine private.last_user_message from public, anon, authenticated, service_role;


create function private.get_context(
  p_conversation_id uuid, p_max_tokens integer, p_max_messages integer, p_explain boolean, p_begin text, p_user_id uuid,
  p_format text
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
  -- Messages may be empty and cost next to nothing: what is older than this many, or these many pieces, is not looked at.
  c_messages constant integer := 10000;
  c_pieces constant integer := 20000;
  -- A worker has to hold the answer: an image of megabytes costs few tokens. The newest messages are in, whatever their size.
  c_bytes constant bigint := 8 * 1024 * 1024;
  v_user_id uuid := private.caller_id(p_user_id);
  v_tokens bigint := 0;
  v_count integer := 0;
  v_tokens_left bigint;
  v_messages_left bigint;
  v_after integer;
  v_messages jsonb := '[]';
  v_included jsonb := '[]';
  v_left_out jsonb := '[]';
  v_not_read integer := 0;
  v_summary public.conversation_messages;
  -- Where nobody could read the item, what it stands for is sent instead.
  v_compaction integer := case
    when not private.format_leaves_out('compaction', p_format) then private.newest_compaction(p_conversation_id)
  end;
  v_begin text := case when p_format in ('anthropic', 'gemini') then 'user' else p_begin end;
  v_user integer;
  v_read private.context_piece[];
  v_pieces private.context_piece[] := '{}';
  v_first integer := 2147483647;
  v_looked_at integer := 0;
  v_count_read integer;
  v_is_cut boolean;
  v_read_tokens bigint := 0;
  v_read_bytes bigint := 0;
  v_all boolean;
  v_fit record;
  v_part record;
  v_result jsonb;
begin
  if p_begin is null or p_begin not in ('any', 'user') then
    perform private.refuse('begin is neither any nor user.');
  end if;
  perform private.require_format(p_format);
  if p_max_tokens > 100000 then
    perform private.take_turn(v_user_id::text);
  end if;
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

  -- What always comes first: the instructions, and the item that stands for everything before it.
  select
    coalesce(max(m.sequence_order) filter (where m.reason = 'leading'), 0) as leading,
    count(*) as messages,
    coalesce(sum(private.message_tokens(m.message)), 0) as tokens,
    coalesce(jsonb_agg(private.context_message(m.message, null, p_format) order by m.sequence_order), '[]') as shown,
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'sequence_order', m.sequence_order, 'tokens', private.message_tokens(m.message), 'reason', m.reason
        )
        order by m.sequence_order
      ),
      '[]'
    ) as included
  into v_part
  from (
    select l.sequence_order, l.message, 'leading' as reason
    from (
      select
        m.sequence_order, m as message,
        bool_and(m.type = 'message' and m.role in ('system', 'developer')) over (order by m.sequence_order) as leads
      from private.read_messages(p_conversation_id, 0, 2147483647, c_leading, 'asc') m
    ) l
    where l.leads
    union all
    select m.sequence_order, m, 'compaction'
    from private.read_messages(p_conversation_id, v_compaction - 1, v_compaction + 1, 1, 'asc') m
  ) m;
  v_after := greatest(v_part.leading, v_compaction);
  v_tokens := v_tokens + v_part.tokens;
  v_count := v_count + v_part.messages;
  v_messages := v_messages || v_part.shown;
  v_included := v_included || v_part.included;
  v_tokens_left := coalesce(p_max_tokens, 2147483647) - v_tokens;
  v_messages_left := coalesce(p_max_messages, 2147483647) - v_count;
  if v_part.leading < v_compaction - 1 then
    v_not_read := v_compaction - 1 - v_part.leading;
    v_left_out := jsonb_build_array(
      jsonb_build_object('from', v_part.leading + 1, 'to', v_compaction - 1, 'reason', 'compacted')
    );
  end if;

  loop
    v_read := private.read_context_pieces(p_conversation_id, v_after, v_first, v_chunk, c_pieces - cardinality(v_pieces));
    v_is_cut := cardinality(v_read) = c_pieces - cardinality(v_pieces);
    if v_is_cut then
      v_read := array(select p from unnest(v_read) p where p.sequence_order > v_read[1].sequence_order);
    end if;
    select count(*), v_read_tokens + coalesce(sum(m.tokens), 0), v_read_bytes + coalesce(sum(m.bytes), 0)
    into v_count_read, v_read_tokens, v_read_bytes
    from (select distinct on (p.sequence_order) p.tokens, p.bytes from unnest(v_read) p order by p.sequence_order) m;
    v_all := v_count_read < v_chunk and not v_is_cut;
    v_first := coalesce(v_read[1].sequence_order, v_first);
    v_pieces := v_read || v_pieces;
    v_looked_at := v_looked_at + v_count_read;
    v_chunk := case when v_is_cut then 0 else least(2 * v_chunk, c_messages - v_looked_at) end;
    if v_chunk = 0 and not v_all then
      v_all := private.read_context_pieces(p_conversation_id, v_after, v_first, 1) = '{}';
    end if;
    -- Until the budget is read, there is no question what fits.
    continue when not v_all and v_chunk > 0 and v_read_tokens <= v_tokens_left and v_read_bytes <= c_bytes
      and v_looked_at <= v_messages_left;
    select * into v_fit
    from private.fit_context(
      v_pieces, v_first, v_all,
      v_tokens_left, v_messages_left, c_bytes, v_begin, p_explain, p_format
    );
    exit when v_all or v_chunk = 0 or v_fit.over;
  end loop;
  if not v_all and v_chunk > 0 and not v_fit.has_user then
    v_user := private.last_user_message(p_conversation_id, v_after, v_first, c_messages - v_looked_at);
    select * into v_fit
    from private.fit_context(
      private.read_context_pieces(p_conversation_id, v_user - 1, v_user + 1, 1) || v_pieces, v_first, v_all,
      v_tokens_left, v_messages_left, c_bytes, v_begin, p_explain, p_format
    );
  end if;

  if not v_fit.fits or v_tokens + v_fit.tokens > p_max_tokens or v_count > p_max_messages then
    raise sqlstate 'PT409' using
      message = 'budget_too_small',
      detail = format(
        'The newest turn and what always comes first need %s tokens in %s messages.',
        v_tokens + coalesce(v_fit.needed_tokens, 0), v_count + coalesce(v_fit.needed_messages, 0)
      ),
      hint = 'Raise max_tokens (or max_messages), or shorten the summary.';
  end if;
  v_tokens := v_tokens + v_fit.tokens;

  if v_fit.slices is not null then
    select
      jsonb_agg(private.context_message(m, s.places, p_format) order by s.n) as shown,
      case when p_explain then
        jsonb_agg(
          jsonb_build_object(
            'sequence_order', s.sequence_order, 'tokens', s.tokens,
            'reason', case when s.in_turn then 'newest_turn' else 'fits' end
          )
          order by s.n
        )
      end as included
    into v_part
    from unnest(v_fit.slices) with ordinality s (sequence_order, places, tokens, in_turn, n)
    join private.read_messages(
      p_conversation_id, (select min(s.sequence_order) - 1 from unnest(v_fit.slices) s), 2147483647, 2147483647, 'desc'
    ) m using (sequence_order);
    v_messages := v_messages || v_part.shown;
    v_included := v_included || v_part.included;
  end if;

  if not v_all then
    v_not_read := v_not_read + greatest(v_first - v_after - 1, 0) - (v_user is not null)::integer;
  end if;
  v_result := jsonb_build_object(
    'messages', v_messages, 'total_tokens', v_tokens, 'truncated', v_fit.truncated, 'left_out', v_not_read + v_fit.left_out
  );
  if p_explain then
    -- What was not read lies before the first that was, or between it and the user's message.
    if not v_all then
      if v_after < v_user - 1 then
        v_left_out := v_left_out || jsonb_build_object('from', v_after + 1, 'to', v_user - 1, 'reason', 'over_budget');
      end if;
      if v_fit.reasons -> 0 @> jsonb_build_object('from', v_first, 'reason', 'over_budget') then
        v_fit.reasons := jsonb_set(v_fit.reasons, '{0,from}', to_jsonb(coalesce(v_user, v_after) + 1));
      elsif coalesce(v_user, v_after) < v_first - 1 then
        v_left_out := v_left_out
          || jsonb_build_object('from', coalesce(v_user, v_after) + 1, 'to', v_first - 1, 'reason', 'over_budget');
      end if;
    end if;
    v_result := v_result || jsonb_build_object(
      'explain', jsonb_build_object('included', v_included, 'left_out', v_left_out || coalesce(v_fit.reasons, '[]'))
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
  p_begin text default 'any',
  p_user_id uuid default null,
  p_format text default 'message'
) returns jsonb
language sql
stable
set search_path = ''
return private.get_context(p_conversation_id, p_max_tokens, p_max_messages, p_explain, p_begin, p_user_id, p_format);
comment on routine public.get_context is
  'What of a conversation fits a model: the summary as a system message named conversation_summary, the leading system and '
  'developer messages, the newest compaction item, which stands for what is before it, then the newest messages. Results are '
  'directly behind their call; a call or a result without the other is left out, and so is what says nothing. A context that '
  'is cut begins with a user''s message, with p_begin user every one does. Never more than p_max_tokens '
  '(private.message_tokens counts) or p_max_messages. A turn that does not fit keeps its user''s message and the newest that '
  'does, else PT409 budget_too_small. Answers {messages, total_tokens, truncated, left_out}, left_out being how many messages '
  'are not in it or only in part, and with p_explain explain: {included, left_out}. p_format is what the messages will be '
  'converted to: what that API cannot take (private.format_leaves_out) is left out, and the compaction item stands for nothing '
  'where it is; for anthropic and gemini it begins with a user''s message.';
revoke all on routine private.get_context, public.get_context from public, anon, authenticated, service_role;
grant execute on routine private.get_context, public.get_context to authenticated, service_role;
