-- Search: the query, how well a text matches it, and what to show. The text decides; filters spare reading most of it.

create function private.parse_search(
  p_query text,
  out o_word_groups integer[],
  out o_words bigint[],
  out o_groups integer[],
  out o_patterns text[],
  out o_excluded boolean[],
  out o_highlight text
)
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_run text := '[' || private.unspaced_scripts() || ']';
  v_break text := '[' || private.word_breaks() || ']';
  v_letter text := '[^' || private.word_breaks() || private.unspaced_scripts() || ']';
  v_query text := left(p_query, 1000);
  v_group integer := 1;
  v_kept integer := 0;
  -- Postgres keeps 32 compiled expressions: more terms than that would be compiled again for every row.
  v_left integer := 24;
  v_hashes bigint[] := '{}';
  v_highlights text[] := '{}';
  v_positive boolean := false;
  v_token text[];
  v_excluded boolean;
  v_prefix boolean;
  v_units text[];
  v_pattern text;
begin
  o_word_groups := '{}';
  o_words := '{}';
  o_groups := '{}';
  o_patterns := '{}';
  o_excluded := '{}';

  -- The end of the query ends a phrase that is open, and is an OR, so that the last group is closed like the others.
  if mod(char_length(v_query) - char_length(replace(v_query, '"', '')), 2) = 1 then
    v_query := v_query || '"';
  end if;
  for v_token in
    select t from regexp_matches(v_query || ' OR', '(-?)(?:"([^"]*)"|([^\s"]+))', 'g') t
  loop
    if v_token[1] = '' and v_token[3] = 'OR' then
      if v_positive then
        -- Nothing of it is a whole word: any message may match. One null makes the whole of o_words null in the end.
        o_words := o_words || case when v_hashes = '{}' then array[null::bigint] else v_hashes end;
        o_word_groups := o_word_groups || array_fill(v_group, array[greatest(cardinality(v_hashes), 1)]);
        v_group := v_group + 1;
        v_kept := cardinality(o_groups);
      else
        -- A group that only excludes is no search.
        o_groups := o_groups[:v_kept];
        o_patterns := o_patterns[:v_kept];
        o_excluded := o_excluded[:v_kept];
      end if;
      v_hashes := '{}';
      v_positive := false;
      continue;
    end if;

    v_excluded := v_token[1] = '-';
    v_units := string_to_array(btrim(private.fold_text(coalesce(v_token[2], v_token[3]))), ' ');
    -- More would be no question, but a load: every word is a part of a regular expression.
    v_units := v_units[:v_left];
    v_left := v_left - cardinality(v_units);
    continue when v_units = '{}';
    v_prefix := coalesce(v_token[2], v_token[3]) ~ '\*\s*$' and v_units[cardinality(v_units)] !~ v_run;

    -- The term in the text as it was written: either case, an accent on any letter, any break between two words.
    select string_agg(
      case
        when u.ch = ' ' then v_break || case when u.before ~ v_run or u.after ~ v_run then '*' else '+' end
        when upper(u.ch) <> u.ch and char_length(upper(u.ch)) = 1 then '[' || u.ch || upper(u.ch) || '][\u0300-\u036f]*'
        else u.ch || '[\u0300-\u036f]*'
      end,
      '' order by u.n
    ) into v_pattern
    from (
      select c.ch, c.n, lag(c.ch) over (order by c.n) as before, lead(c.ch) over (order by c.n) as after
      from string_to_table(normalize(array_to_string(v_units, ' '), nfkd), null) with ordinality as c (ch, n)
    ) u;
    v_pattern := case when v_units[1] ~ v_run then '' else '(?<!' || v_letter || ')' end
      || v_pattern
      || case
        when v_prefix then v_letter || '*'
        -- The text is decomposed: 하 begins 한 there and か begins が, and is no part of it.
        when v_units[cardinality(v_units)] ~ '[\uac00-\ud7a3]$' then '(?![\u11a8-\u11ff])'
        when v_units[cardinality(v_units)] ~ '[\u3041-\u30ff]$' then '(?![\u3099\u309a])'
        when v_units[cardinality(v_units)] ~ v_run then ''
        else '(?!' || v_letter || ')'
      end;
    o_groups := o_groups || v_group;
    o_patterns := o_patterns || v_pattern;
    o_excluded := o_excluded || v_excluded;

    if not v_excluded then
      v_positive := true;
      v_highlights := v_highlights || v_pattern;
      -- A filter knows whole words and bigrams, and not what is only the beginning of one; what may be there, never what is not.
      select v_hashes || private.word_hashes(array_agg(t.lexeme)) into v_hashes
      from unnest(v_units) with ordinality as u (unit, n)
      cross join lateral string_to_table(private.text_lexemes(u.unit), ' ') as t (lexeme)
      where case
        -- Of a run the bigrams: a character by itself is known for the end of a run only.
        when u.unit ~ v_run then char_length(t.lexeme) = 2
        else not (v_prefix and u.n = cardinality(v_units))
      end
        -- What composes with its neighbour is another character in the text: 한ㄱ, which is 한국 half typed, finds that.
        and array_to_string(v_units, ' ')
          !~ '[\u1025\u1100-\u11ff\u3099\u309a\ua960-\ua97f\ud7b0-\ud7ff]|(^| )\u102e';
    end if;
  end loop;

  if array_position(o_words, null) is not null then
    o_words := null;
  end if;
  o_highlight := array_to_string(v_highlights, '|');
end;
$$;
comment on routine private.parse_search is
  'Reads a query as people type it: words are ANDed, "a phrase" is kept together, wor* is a prefix, -word excludes, OR '
  'in capitals separates alternatives; a word that punctuation divides is a phrase. The first 24 words count, and '
  'nothing is an error. Term i belongs to the alternative o_groups[i] and is the regular expression o_patterns[i]; the terms '
  'decide. o_words are the hashes of the words that a message needs, word i for the alternative o_word_groups[i]: null if any '
  'message may match, empty if none can. o_highlight is what to mark.';
revoke all on routine private.parse_search from public, anon, authenticated, service_role;


create function private.search_score(
  p_text text, p_groups integer[], p_patterns text[], p_excluded boolean[]
) returns numeric
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_text text := left(p_text, 32768);
  v_length double precision := 0.3 + char_length(v_text) * 0.0015;
  v_count integer;
  v_score double precision := 0;
  v_found boolean := false;
  v_group integer := 0;
  v_holds boolean := false;
begin
  if octet_length(v_text) <> char_length(v_text) then
    v_text := normalize(private.without_marks(v_text), nfkd);
  end if;
  for i in 1 .. cardinality(p_patterns) loop
    v_count := regexp_count(v_text, p_patterns[i]);
    if not p_excluded[i] then
      v_score := v_score + v_count * 2.2 / (v_count + v_length);
    end if;
    if p_groups[i] <> v_group then
      v_found := v_found or v_holds;
      v_group := p_groups[i];
      v_holds := true;
    end if;
    v_holds := v_holds and (v_count > 0) <> p_excluded[i];
    -- There is no other alternative: most texts are out with the first word, and the others cost as much each.
    if not v_holds and p_groups[cardinality(p_groups)] = p_groups[1] then
      return null;
    end if;
  end loop;
  if v_found or v_holds then
    return round(v_score::numeric, 6);
  end if;
  return null;
end;
$$;
comment on routine private.search_score is
  'How well a text matches what parse_search read; null if it does not. BM25 without the rarity of words (k1 1.2, b 0.75, '
  'average 600 characters): a score depends on the text alone, so it is the same on every page.';
revoke all on routine private.search_score from public, anon, authenticated, service_role;


create function private.search_snippet(p_text text, p_highlight text) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_letter text := '[^' || private.word_breaks() || private.unspaced_scripts() || ']';
  -- Accents apart from their letters, as the expression expects them. U+0001 and U+0002 mark until all is escaped.
  v_text text := normalize(
    regexp_replace(translate(private.without_marks(left(p_text, 32768)), E'\u0001\u0002', ''), '\s+', ' ', 'g'), nfd
  );
  v_start integer := greatest(regexp_instr(v_text, p_highlight) - 60, 1);
  v_snippet text := substr(v_text, v_start, 240);
begin
  if v_start > 1 then
    v_snippet := '…' || ltrim(regexp_replace(v_snippet, '^' || v_letter || '{1,40}', ''));
  end if;
  if v_start + 240 <= char_length(v_text) then
    v_snippet := rtrim(regexp_replace(v_snippet, v_letter || '{1,40}$', '')) || '…';
  end if;
  v_snippet := normalize(regexp_replace(v_snippet, '(' || p_highlight || ')', E'\u0001\\1\u0002', 'g'), nfc);
  v_snippet := replace(replace(replace(replace(replace(
    v_snippet, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
  return replace(replace(v_snippet, E'\u0001', '<mark>'), E'\u0002', '</mark>');
end;
$$;
comment on routine private.search_snippet is
  'Some 240 characters around the first match. The text is escaped, so that the only HTML in it is <mark> and </mark>.';
revoke all on routine private.search_snippet from public, anon, authenticated, service_role;


create function private.shown_by(p_conversation_id uuid, p_sequence_order integer) returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  -- A fork is younger than what it was made from, so the oldest is found without looking below the living ones.
  with recursive shown (id, deleted_at, created_at) as (
    select c.id, c.deleted_at, c.created_at
    from public.conversations c
    where c.id = p_conversation_id
    union all
    select c.id, c.deleted_at, c.created_at
    from shown s
    join public.conversations c on c.parent_id = s.id and c.fork_sequence >= p_sequence_order
    where s.deleted_at is not null
  )
  select s.id from shown s where s.deleted_at is null order by s.created_at, s.id limit 1;
$$;
comment on routine private.shown_by is
  'The conversation that shows a message: its owner, else the oldest living fork that shares it, else null.';
revoke all on routine private.shown_by from public, anon, authenticated, service_role;


create function private.search_messages(
  p_query text,
  p_limit integer,
  p_after_score numeric,
  p_after_created_at timestamptz,
  p_after_id uuid,
  p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- The planner takes the call for a dear one and would compile it and start workers, which takes longer than the search.
set jit = off
set max_parallel_workers_per_gather = 0
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_search record := private.parse_search(p_query);
  -- What every match has, where there are no alternatives.
  v_required text[] := array(
    select p.pattern
    from unnest(v_search.o_groups, v_search.o_patterns, v_search.o_excluded) as p (alternative, pattern, excluded)
    where not p.excluded and v_search.o_groups[1] = v_search.o_groups[cardinality(v_search.o_groups)]
  );
  v_data jsonb;
  v_last jsonb;
begin
  perform private.require_limit(p_limit);
  perform private.take_turn(v_user_id::text);
  with own as materialized (
    select c.id, c.last_sequence_order, c.deleted_at from public.conversations c where c.user_id = v_user_id
  ),
  -- From each block that has not got the words to the next one.
  ranges as (
    select
      r.id,
      r.deleted_at,
      r.up_to as after,
      coalesce(lead(r.after) over (partition by r.id order by r.after, r.up_to), r.last_sequence_order) as up_to
    from (
      select c.*, 0::bigint as after, 0::bigint as up_to from own c
      union all
      select c.*, f.after, f.up_to
      from own c
      cross join lateral (
        select f.block::bigint * 64 as after, f.up_to_sequence as up_to
        from private.search_filters f
        where f.conversation_id = c.id and not private.may_match(f.words, v_search.o_word_groups, v_search.o_words)
        offset 0
      ) f
    ) r
  ),
  candidates as materialized (
    select m.row_id, m.id, m.created_at, r.deleted_at
    from ranges r
    cross join lateral (
      select m.ctid as row_id, m.id, m.created_at
      from public.conversation_messages m
      where m.conversation_id = r.id and m.sequence_order > r.after and m.sequence_order <= r.up_to
      offset 0
    ) m
    where r.after < r.up_to and v_search.o_words is distinct from '{}'
  ),
  hits as (
    (
      select n.id, m.conversation_id, m.sequence_order, m.role, n.created_at, m.score
      from (
        select * from candidates n order by n.created_at desc, n.id desc
      ) n
      cross join lateral (
        select
          m.conversation_id, m.sequence_order, m.role,
          private.search_score(
            case
              when num_nonnulls(m.parts, m.function_call, m.tool_calls, m.item) = 0 then m.content
              else private.message_text(m)
            end,
            v_search.o_groups, v_search.o_patterns, v_search.o_excluded
          ) as score
        from public.conversation_messages m
        where m.ctid = n.row_id
          -- A fifth of what a score costs, and as good where the text is short, and ASCII: nothing to cut off or to decompose.
          and (
            m.content ~ all (v_required) or num_nonnulls(m.parts, m.function_call, m.tool_calls, m.item) > 0
            or octet_length(m.content) > 32768 or octet_length(m.content) <> char_length(m.content)
          )
        offset 0
      ) m
      where m.score is not null
        -- Of a tombstone, and of an import that is not finished, only what a living fork shows.
        and (n.deleted_at is null or private.shown_by(m.conversation_id, m.sequence_order) is not null)
      order by n.created_at desc, n.id desc
      limit 1000
    )
    union all
    -- No index on the titles: an index there would make every append rewrite it. A user's conversations are few.
    select c.id, c.id, null, null, c.created_at, c.score
    from (
      select
        c.id, c.created_at,
        2 * private.search_score(c.title, v_search.o_groups, v_search.o_patterns, v_search.o_excluded) as score
      from public.conversations c
      where c.user_id = v_user_id and c.deleted_at is null and c.title is not null
      offset 0
    ) c
    where c.score is not null
  ),
  page as (
    select h.*, row_number() over (order by h.score desc, h.created_at desc, h.id desc) as n
    from hits h
    where p_after_id is null or (h.score, h.created_at, h.id) < (p_after_score, p_after_created_at, p_after_id)
    order by h.score desc, h.created_at desc, h.id desc
    limit p_limit + 1
  )
  select
    coalesce(
      jsonb_agg(
        jsonb_build_object(
          'conversation_id', c.id,
          'title', c.title,
          'message', case
            when p.sequence_order is not null then jsonb_build_object(
              'id', p.id, 'sequence_order', p.sequence_order, 'role', p.role, 'created_at', p.created_at
            )
          end,
          'snippet', private.search_snippet(
            case when m.id is null then c.title else private.message_text(m) end, v_search.o_highlight
          ),
          'score', p.score
        ) order by p.n
      ),
      '[]'
    ),
    jsonb_agg(
      jsonb_build_object('score', p.score, 'created_at', p.created_at, 'id', p.id)
    ) filter (where p.n = p_limit) -> 0
  into v_data, v_last
  from page p
  join public.conversations c on c.id = case
    when p.sequence_order is null then p.conversation_id
    else private.shown_by(p.conversation_id, p.sequence_order)
  end
  left join public.conversation_messages m on m.id = p.id and p.sequence_order is not null;

  return jsonb_build_object(
    'data', v_data - p_limit,
    'has_more', jsonb_array_length(v_data) > p_limit,
    'last', case when jsonb_array_length(v_data) > p_limit then v_last end
  );
end;
$$;
comment on routine private.search_messages is 'See public.search_messages. Definer: nobody else reads the filters.';


create function public.search_messages(
  p_query text,
  p_limit integer default 50,
  p_after_score numeric default null,
  p_after_created_at timestamptz default null,
  p_after_id uuid default null,
  p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.search_messages(p_query, p_limit, p_after_score, p_after_created_at, p_after_id, p_user_id);
comment on routine public.search_messages is
  'A page of what the user wrote, read or named that matches p_query (see private.parse_search), best first, below '
  '(p_after_score, p_after_created_at, p_after_id). Of messages, the newest 1,000 matches are ranked. Answers {data, '
  'has_more, last}; a hit is {conversation_id, title, message (null: the title matches), snippet (HTML, text escaped, '
  'matches in <mark>), score}, last what the next page comes below.';
revoke all on routine private.search_messages, public.search_messages from public, anon, authenticated, service_role;
grant execute on routine private.search_messages, public.search_messages to authenticated, service_role;
