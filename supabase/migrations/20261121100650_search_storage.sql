-- Search, with an index that keeps buckets of words instead of words: a fraction of the size (docs/decisions/0007).

create function private.word_buckets(p_words text[]) returns text[]
language sql
immutable
parallel safe
security invoker
set search_path = ''
as $$
  -- The hash of hash indexes, which have to survive an upgrade of Postgres as well.
  select coalesce(array_agg(distinct to_hex(pg_catalog.hashtext(w.word collate "C") & 1023)), '{}')
  from unnest(p_words) as w (word)
  where w.word <> '';
$$;
comment on function private.word_buckets(text[]) is
  'Which of 1,024 buckets the words fall into. Words share one: what has the bucket may have the word, what has it not, '
  'has not.';
revoke all on function private.word_buckets(text[]) from public, anon, authenticated, service_role;
-- An index expression runs as whoever inserts the row.
grant execute on function private.word_buckets(text[]) to authenticated, service_role;

drop index public.idx_conversation_messages_search;

create or replace function private.message_lexemes(p_user_id uuid, p_content text, p_parts jsonb) returns tsvector
language plpgsql
immutable
parallel safe
security invoker
-- Honest, and what keeps the planner from computing it for every row instead of asking the index.
cost 10000
set search_path = ''
as $$
declare
  -- A message that has more of the buckets is a candidate for any word: it would be one for most, and cost an entry for each.
  c_max_buckets constant integer := 256;
  v_text text := case when p_parts is null then p_content else private.message_text(p_content, p_parts) end;
  v_buckets text[];
begin
  if v_text is null then
    return '';
  end if;
  v_text := private.text_lexemes(private.fold_text(left(v_text, 32768)));
  v_buckets := private.word_buckets(string_to_array(v_text, ' '));
  if cardinality(v_buckets) > c_max_buckets then
    v_buckets := '{*}';
  end if;
  -- No bucket contains "@": the owner cannot be mistaken for one.
  return array_to_tsvector(v_buckets || ('@' || p_user_id));
end;
$$;
comment on function private.message_lexemes(uuid, text, jsonb) is
  'What the index knows of a message: its owner, and the buckets of the words in its first 32,768 characters, or * where '
  'these are more than 256. It finds candidates; the text decides.';

create index idx_conversation_messages_search on public.conversation_messages
  using gin (private.message_lexemes(user_id, content, parts))
  -- No pending list: its pages would outweigh what the buckets save, and every search would read it.
  with (fastupdate = off);
-- No statistics: ANALYZE would compute the expression for 30,000 rows, and no estimate changes the plan.
alter index public.idx_conversation_messages_search alter column 1 set statistics 0;


create or replace function private.parse_search(
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
  v_owner constant text := '@' || p_user_id;
  v_terms text[] := '{}';
  v_highlights text[] := '{}';
  v_positive boolean := false;
  v_token text[];
  v_excluded boolean;
  v_prefix boolean;
  v_units text[];
  v_buckets text[];
  v_pattern text;
begin
  o_exact := false;
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
        v_queries := v_queries || case
          when v_terms = '{}' then quote_literal(v_owner)
          else format('((%s | ''*'') & %L)', array_to_string(v_terms, ' & '), v_owner)
        end;
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

    -- The index knows whole words and bigrams. What is only the beginning of one is left to the text.
    select private.word_buckets(array_agg(t.lexeme)) into v_buckets
    from unnest(v_units) with ordinality as u (unit, n)
    cross join lateral string_to_table(private.text_lexemes(u.unit), ' ') as t (lexeme)
    where case
      -- Of a run the bigrams: a character by itself is in the index for the end of a run only.
      when u.unit ~ v_run then char_length(t.lexeme) = 2
      else not (v_prefix and u.n = cardinality(v_units))
    end;

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

    -- A bucket says what may be there, never what is not.
    if not v_excluded then
      v_positive := true;
      v_terms := v_terms || v_buckets;
      v_highlights := v_highlights || v_pattern;
    end if;
  end loop;

  if v_queries <> '{}' then
    -- The index starts with the rarest lexeme: the owner, or a bucket that is rarer still.
    o_query := array_to_string(v_queries, ' | ')::tsquery;
  end if;
  o_highlight := array_to_string(v_highlights, '|');
end;
$$;
comment on function private.parse_search(text, uuid) is
  'Reads a query as people type it: words are ANDed, "a phrase" is kept together, wor* is a prefix, -word excludes, OR '
  'in capitals separates alternatives; a word that punctuation divides is a phrase. The first 24 words count, and '
  'nothing is an error. o_query finds candidates in the index, and the terms decide (o_exact is false). Term i belongs '
  'to the alternative o_groups[i] and is the regular expression o_patterns[i]; o_highlight is what to mark.';
