-- Search: full text over one's own messages and titles, served by one GIN index.

-- ---------------------------------------------------------------------------------------------------------------------
-- Text to words
-- ---------------------------------------------------------------------------------------------------------------------
-- Character classes as the inside of a bracket expression. Spelled out instead of \w or the text search parser: those
-- follow the C library or ICU, and an index built with one version of it would quietly miss rows under the next.
create function private.word_breaks() returns text
language sql
immutable
parallel safe
security invoker
set search_path = ''
as $$
  select '\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7'
    '\u055a-\u055f\u0589\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u1680\u180e'
    '\u2000-\u25ff\u27c0-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d-\u3040\u30a0\u30fb\ufe00-\ufe6f'
    '\ufeff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U000e0000-\U000e0fff';
$$;
comment on function private.word_breaks() is 'Characters that end a word: space, punctuation, symbols.';
revoke all on function private.word_breaks() from public, anon, authenticated, service_role;
-- Down to message_lexemes: an index expression runs as whoever inserts the row.
grant execute on function private.word_breaks() to authenticated, service_role;


create function private.unspaced_scripts() returns text
language sql
immutable
parallel safe
security invoker
set search_path = ''
as $$
  select '\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2600-\u27bf\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f'
    '\u3031-\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff'
    '\ua960-\ua97f\uac00-\ud7fb\uf900-\ufaff\uff66-\uff9f\U0001f000-\U0001faff\U00020000-\U0003ffff';
$$;
comment on function private.unspaced_scripts() is
  'Characters of scripts whose words a program cannot tell apart by spaces: Chinese, Japanese, Korean, Thai, Lao, '
  'Khmer, Burmese; and emoji. Searched as substrings.';
revoke all on function private.unspaced_scripts() from public, anon, authenticated, service_role;
grant execute on function private.unspaced_scripts() to authenticated, service_role;


create function private.fold_text(p_text text) returns text
language plpgsql
immutable
parallel safe
security invoker
set search_path = ''
as $$
declare
  v_text text := p_text;
begin
  if octet_length(v_text) = char_length(v_text) then
    return ' ' || btrim(regexp_replace(lower(v_text collate "C"), '[^a-z0-9]+', ' ', 'g')) || ' ';
  end if;
  v_text := regexp_replace(normalize(v_text, nfkd), '[\u0300-\u036f]+', '', 'g');
  v_text := regexp_replace(lower(normalize(v_text, nfkc)), '[' || private.word_breaks() || ']+', ' ', 'g');
  if v_text ~ ('[' || private.unspaced_scripts() || ']') then
    v_text := regexp_replace(
      v_text, '([' || private.unspaced_scripts() || '])(?=[^ ' || private.unspaced_scripts() || '])', '\1 ', 'g'
    );
    v_text := regexp_replace(
      v_text, '([^ ' || private.unspaced_scripts() || '])(?=[' || private.unspaced_scripts() || '])', '\1 ', 'g'
    );
  end if;
  return ' ' || btrim(v_text) || ' ';
end;
$$;
comment on function private.fold_text(text) is
  'The words of a text, each between single spaces: lower case, without accents and punctuation, compatibility forms '
  'made plain. A run of an unspaced script is one word: "GPT模型, Café!" becomes " gpt 模型 cafe ".';
revoke all on function private.fold_text(text) from public, anon, authenticated, service_role;
grant execute on function private.fold_text(text) to authenticated, service_role;


create function private.text_lexemes(p_folded text) returns text
language plpgsql
immutable
parallel safe
security invoker
set search_path = ''
as $$
declare
  v_text text := btrim(p_folded);
begin
  -- Pairs from the first character on, then pairs from the second: every bigram, and the last character by itself.
  if octet_length(v_text) <> char_length(v_text) and v_text ~ ('[' || private.unspaced_scripts() || ']') then
    v_text := regexp_replace(v_text, '([' || private.unspaced_scripts() || ']{2})', '\1 ', 'g') || ' '
      || regexp_replace(
        regexp_replace(v_text, '(^| )([' || private.unspaced_scripts() || '])', '\1\2 ', 'g'),
        '([' || private.unspaced_scripts() || ']{2})', '\1 ', 'g'
      );
  end if;
  -- What no one types, such as base64, and what a lexeme cannot hold.
  if v_text ~ '[^ ]{65}' then
    v_text := regexp_replace(v_text, '([^ ]{64})[^ ]+', '\1', 'g');
  end if;
  return v_text;
end;
$$;
comment on function private.text_lexemes(text) is
  'The lexemes of a folded text, separated by spaces: words, cut after 64 characters, and the bigrams of unspaced '
  'scripts, with the last character of each run by itself.';
revoke all on function private.text_lexemes(text) from public, anon, authenticated, service_role;
grant execute on function private.text_lexemes(text) to authenticated, service_role;


create function private.message_text(p_content text, p_parts jsonb) returns text
language sql
immutable
parallel safe
security invoker
set search_path = ''
as $$
  select concat_ws(
    E'\n',
    p_content,
    (
      select string_agg(p.value ->> 'text', E'\n' order by p.n)
      from jsonb_array_elements(p_parts) with ordinality as p (value, n)
      where p.value ->> 'type' in ('text', 'input_text', 'output_text') and jsonb_typeof(p.value -> 'text') = 'string'
    )
  );
$$;
comment on function private.message_text(text, jsonb) is
  'What people read of a message: its content and the text of its parts of type text, input_text and output_text.';
revoke all on function private.message_text(text, jsonb) from public, anon, authenticated, service_role;
grant execute on function private.message_text(text, jsonb) to authenticated, service_role;


create function private.message_lexemes(p_user_id uuid, p_content text, p_parts jsonb) returns tsvector
language plpgsql
immutable
parallel safe
security invoker
-- Honest, and what keeps the planner from computing it for every row instead of asking the index.
cost 10000
set search_path = ''
as $$
declare
  v_text text := case when p_parts is null then p_content else private.message_text(p_content, p_parts) end;
begin
  if v_text is null then
    return '';
  end if;
  v_text := private.text_lexemes(private.fold_text(left(v_text, 32768)));
  -- No word contains "@": the owner cannot be mistaken for one.
  return array_to_tsvector(array_remove(string_to_array(v_text, ' '), '') || ('@' || p_user_id));
end;
$$;
comment on function private.message_lexemes(uuid, text, jsonb) is
  'What the index knows of a message: its owner, and the lexemes of its first 32,768 characters. '
  'Without positions, which a GIN index does not keep: phrases are checked against the text.';
revoke all on function private.message_lexemes(uuid, text, jsonb) from public, anon, authenticated, service_role;
grant execute on function private.message_lexemes(uuid, text, jsonb) to authenticated, service_role;

-- An expression, not a column: the message row stays as small as it was.
create index idx_conversation_messages_search on public.conversation_messages
  using gin (private.message_lexemes(user_id, content, parts))
  -- New entries wait in a list that every search reads and one append in many flushes: without it a message costs twice
  -- the time, with the default of 4 MB a search reads everyone's latest and the list's pages outweigh a small index.
  with (fastupdate = on, gin_pending_list_limit = 128);
-- No statistics: ANALYZE would compute the expression for 30,000 rows, and no estimate changes the plan.
alter index public.idx_conversation_messages_search alter column 1 set statistics 0;

-- ---------------------------------------------------------------------------------------------------------------------
-- A query
-- ---------------------------------------------------------------------------------------------------------------------
create function private.parse_search(
  p_query text,
  p_user_id uuid,
  out o_query tsquery,
  out o_exact boolean,
  out o_groups integer[],
  out o_patterns text[],
  out o_excluded boolean[],
  out o_highlight text
)
language plpgsql
immutable
security invoker
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
  v_queries text[] := '{}';
  v_terms text[] := '{}';
  v_highlights text[] := '{}';
  v_positive boolean := false;
  v_token text[];
  v_excluded boolean;
  v_prefix boolean;
  v_units text[];
  v_lexemes text[];
  v_pattern text;
begin
  o_exact := true;
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
        v_queries := v_queries || ('(' || array_to_string(v_terms, ' & ') || ')');
        v_group := v_group + 1;
        v_kept := cardinality(o_groups);
      else
        -- A group that only excludes is no search.
        o_groups := o_groups[:v_kept];
        o_patterns := o_patterns[:v_kept];
        o_excluded := o_excluded[:v_kept];
      end if;
      v_terms := '{}';
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

    select array_agg(
      quote_literal(l.lexeme)
      || case
        when u.unit ~ v_run and char_length(u.unit) = 1 or v_prefix and u.n = cardinality(v_units) then ':*'
        else ''
      end
    ) into v_lexemes
    from unnest(v_units) with ordinality as u (unit, n)
    cross join lateral (
      select distinct t.lexeme
      from string_to_table(private.text_lexemes(u.unit), ' ') as t (lexeme)
      -- Of a run the bigrams: a character by itself is in the index for the end of a run only.
      where t.lexeme <> '' and (u.unit !~ v_run or char_length(u.unit) = 1 or char_length(t.lexeme) = 2)
    ) l;

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
        -- The text is decomposed: 하 begins 한 there, and is no part of it.
        when v_units[cardinality(v_units)] ~ '[\uac00-\ud7a3]$' then '(?![\u11a8-\u11ff])'
        when v_units[cardinality(v_units)] ~ v_run then ''
        else '(?!' || v_letter || ')'
      end;
    o_groups := o_groups || v_group;
    o_patterns := o_patterns || v_pattern;
    o_excluded := o_excluded || v_excluded;

    -- One lexeme says all of one word. Of a phrase the index knows the words, not their order.
    if cardinality(v_lexemes) > 1 or char_length(v_units[1]) > 64 then
      o_exact := false;
    elsif v_excluded then
      v_terms := v_terms || ('!' || v_lexemes[1]);
    end if;
    if not v_excluded then
      v_positive := true;
      v_terms := v_terms || array_to_string(v_lexemes, ' & ');
      v_highlights := v_highlights || v_pattern;
    end if;
  end loop;

  if v_queries <> '{}' then
    -- The index starts with the rarest lexeme: the owner, or a word that is rarer still.
    o_query := format('%L & (%s)', '@' || p_user_id, array_to_string(v_queries, ' | '))::tsquery;
  end if;
  o_highlight := array_to_string(v_highlights, '|');
end;
$$;
comment on function private.parse_search(text, uuid) is
  'Reads a query as people type it: words are ANDed, "a phrase" is kept together, wor* is a prefix, -word excludes, OR '
  'in capitals separates alternatives; a word that punctuation divides is a phrase. The first 24 words count, and '
  'nothing is an error. o_query finds candidates in the index, and the matches themselves if o_exact; else the terms '
  'decide. Term i belongs to the alternative o_groups[i] and is the regular expression o_patterns[i]; o_highlight is '
  'what to mark.';
revoke all on function private.parse_search(text, uuid) from public, anon, authenticated, service_role;


create function private.search_score(
  p_text text, p_found boolean, p_groups integer[], p_patterns text[], p_excluded boolean[]
) returns numeric
language plpgsql
immutable
security invoker
set search_path = ''
as $$
declare
  v_text text := left(p_text, 32768);
  v_length double precision := 0.3 + char_length(v_text) * 0.0015;
  v_count integer;
  v_score double precision := 0;
  v_found boolean := p_found;
  v_group integer := 0;
  v_holds boolean := false;
begin
  if octet_length(v_text) <> char_length(v_text) then
    v_text := normalize(v_text, nfkd);
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
  end loop;
  if v_found or v_holds then
    return round(v_score::numeric, 6);
  end if;
  return null;
end;
$$;
comment on function private.search_score(text, boolean, integer[], text[], boolean[]) is
  'How well a text matches what parse_search read; null if it does not and p_found does not say that it does. BM25 '
  'without the rarity of words (k1 1.2, b 0.75, average 600 characters): a score depends on the text alone, so it '
  'is the same on every page.';
revoke all on function private.search_score(text, boolean, integer[], text[], boolean[])
  from public, anon, authenticated, service_role;


create function private.search_snippet(p_text text, p_highlight text) returns text
language plpgsql
immutable
security invoker
set search_path = ''
as $$
declare
  v_letter text := '[^' || private.word_breaks() || private.unspaced_scripts() || ']';
  -- Accents apart from their letters, as the expression expects them. U+0001 and U+0002 mark until all is escaped.
  v_text text := normalize(
    regexp_replace(translate(left(p_text, 32768), E'\u0001\u0002', ''), '\s+', ' ', 'g'), nfd
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
comment on function private.search_snippet(text, text) is
  'Some 240 characters around the first match. The text is escaped, so that the only HTML in it is <mark> and </mark>.';
revoke all on function private.search_snippet(text, text) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- The API
-- ---------------------------------------------------------------------------------------------------------------------
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
comment on function private.shown_by(uuid, integer) is
  'The conversation that shows a message: its owner, else the oldest living fork that shares it, else null.';
revoke all on function private.shown_by(uuid, integer) from public, anon, authenticated, service_role;


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
  v_search record := private.parse_search(p_query, v_user_id);
  v_data jsonb;
  v_last jsonb;
begin
  perform private.require_limit(p_limit);
  -- By the index alone: with the owner in this condition, the planner may compute the lexemes of all the owner's rows.
  with matches as materialized (
    select m.id, m.user_id, m.created_at
    from public.conversation_messages m
    where private.message_lexemes(m.user_id, m.content, m.parts) @@ v_search.o_query
  ),
  hits as (
    (
      select m.id, m.conversation_id, m.sequence_order, m.role, n.created_at, m.score
      from (
        select n.id, n.created_at from matches n where n.user_id = v_user_id order by n.created_at desc, n.id desc
      ) n
      cross join lateral (
        select
          m.id, m.conversation_id, m.sequence_order, m.role, c.deleted_at,
          private.search_score(
            case when m.parts is null then m.content else private.message_text(m.content, m.parts) end,
            v_search.o_exact, v_search.o_groups, v_search.o_patterns, v_search.o_excluded
          ) as score
        from public.conversation_messages m
        join public.conversations c on c.id = m.conversation_id
        where m.id = n.id
        offset 0
      ) m
      where m.score is not null
        -- Of a tombstone, and of an import that is not finished, only what a living fork shows.
        and (m.deleted_at is null or private.shown_by(m.conversation_id, m.sequence_order) is not null)
      order by n.created_at desc, n.id desc
      limit 1000
    )
    union all
    -- No index on the titles: an index there would make every append rewrite it. A user's conversations are few.
    select c.id, c.id, null, null, c.created_at, c.score
    from (
      select
        c.id, c.created_at,
        2 * private.search_score(c.title, false, v_search.o_groups, v_search.o_patterns, v_search.o_excluded) as score
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
            case when m.id is null then c.title else private.message_text(m.content, m.parts) end, v_search.o_highlight
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
comment on function private.search_messages(text, integer, numeric, timestamptz, uuid, uuid) is
  'See public.search_messages. Definer: under row level security no index serves @@, which is not leakproof.';
revoke all on function private.search_messages(text, integer, numeric, timestamptz, uuid, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.search_messages(text, integer, numeric, timestamptz, uuid, uuid)
  to authenticated, service_role;


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
security invoker
set search_path = ''
as $$
  select private.search_messages(p_query, p_limit, p_after_score, p_after_created_at, p_after_id, p_user_id);
$$;
comment on function public.search_messages(text, integer, numeric, timestamptz, uuid, uuid) is
  'A page of what the user wrote, read or named that matches p_query (see private.parse_search), best first, below '
  '(p_after_score, p_after_created_at, p_after_id). Of messages, the newest 1,000 matches are ranked. Answers {data, '
  'has_more, last}; a hit is {conversation_id, title, message (null: the title matches), snippet (HTML, text escaped, '
  'matches in <mark>), score}, last what the next page comes below.';
revoke all on function public.search_messages(text, integer, numeric, timestamptz, uuid, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.search_messages(text, integer, numeric, timestamptz, uuid, uuid)
  to authenticated, service_role;
