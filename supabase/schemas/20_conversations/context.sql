-- The context of a conversation: what of it fits a model, with its calls and their results together. What fits is decided in
-- context_fit.sql, what a message consists of in pieces.sql.

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
