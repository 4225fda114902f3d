-- Search, off the path of who appends: a filter for every 64 numbers of a conversation instead of an index entry for every
-- word of a message (docs/decisions/0016).

drop index public.idx_conversation_messages_search;
drop function private.message_lexemes(uuid, text, jsonb);
drop function private.word_buckets(text[]);

create table private.search_filters (
  conversation_id uuid not null,
  block integer not null,
  up_to_sequence integer not null default 0,
  words bytea,
  constraint search_filters_pkey primary key (conversation_id, block),
  constraint search_filters_conversation_id_fkey foreign key (conversation_id)
    references public.conversations (id) on delete cascade,
  constraint search_filters_words_check check (words is not null or up_to_sequence = 0)
);
create index idx_search_filters_unfilled on private.search_filters (conversation_id, block) where words is null;
comment on table private.search_filters is
  'Which words the messages of a conversation may have, in blocks of 64 numbers. A search passes over the messages of a block '
  'whose filter has not got its words, and reads all others: a filter that is missing or old costs time, never a match.';
comment on column private.search_filters.block is 'The messages 64 × block + 1 to 64 × block + 64.';
comment on column private.search_filters.up_to_sequence is 'The last of them that the filter knows of.';
comment on column private.search_filters.words is
  'A Bloom filter: two bits for each word, see private.search_filter. Null: private.search_filter_step has yet to fill it.';
alter table private.search_filters enable row level security;
alter table private.search_filters force row level security;
revoke all on private.search_filters from public, anon, authenticated, service_role;
create policy "No client sees search filters" on private.search_filters for select to authenticated using (false);

-- ---------------------------------------------------------------------------------------------------------------------
-- A filter
-- ---------------------------------------------------------------------------------------------------------------------
create function private.word_hashes(p_words text[]) returns bigint[]
language sql
immutable
parallel safe
security invoker
set search_path = ''
as $$
  -- The hash of hash partitions, which has to survive an upgrade of Postgres as well. Of letters that are one letter in upper
  -- case: σ and ς are both Σ, and a search for either finds that.
  select coalesce(array_agg(distinct pg_catalog.hashtextextended(lower(upper(w.word)) collate "C", 0)), '{}')
  from unnest(p_words) as w (word)
  where w.word <> '';
$$;
comment on function private.word_hashes(text[]) is 'A hash of 64 bits for each different word, whatever its case.';
revoke all on function private.word_hashes(text[]) from public, anon, authenticated, service_role;


create function private.search_filter(p_hashes bigint[]) returns bytea
language plpgsql
immutable
parallel safe
security invoker
set search_path = ''
as $$
declare
  v_bytes integer := least(greatest(cardinality(p_hashes), 1), 8192);
  v_filter bytea := decode(repeat('00', v_bytes), 'hex');
  v_bits bigint := v_bytes * 8;
  v_hash bigint;
begin
  if cardinality(p_hashes) > 4 * v_bytes then
    return '\xff';
  end if;
  foreach v_hash in array p_hashes loop
    v_filter := set_bit(set_bit(v_filter, (v_hash & 4294967295) % v_bits, 1), ((v_hash >> 32) & 4294967295) % v_bits, 1);
  end loop;
  return v_filter;
end;
$$;
comment on function private.search_filter(bigint[]) is
  'A Bloom filter of hashed words: a byte for each word and two of its bits set, so that a word that is not there seems to be '
  'in 5 of 100 cases. At most 8 KiB, and for more than 32,768 words, which would set most bits there, a single byte that has '
  'every word: setting each bit copies the filter.';
revoke all on function private.search_filter(bigint[]) from public, anon, authenticated, service_role;


create function private.may_match(p_filter bytea, p_groups integer[], p_hashes bigint[]) returns boolean
language plpgsql
immutable
parallel safe
strict
security invoker
cost 50
set search_path = ''
as $$
declare
  v_bits bigint := octet_length(p_filter) * 8;
  v_group integer := p_groups[1];
  v_holds boolean := true;
begin
  for i in 1 .. cardinality(p_hashes) loop
    if p_groups[i] <> v_group then
      if v_holds then
        return true;
      end if;
      v_group := p_groups[i];
      v_holds := true;
    end if;
    v_holds := v_holds
      and get_bit(p_filter, (p_hashes[i] & 4294967295) % v_bits) = 1
      and get_bit(p_filter, ((p_hashes[i] >> 32) & 4294967295) % v_bits) = 1;
  end loop;
  return v_holds;
end;
$$;
comment on function private.may_match(bytea, integer[], bigint[]) is
  'Whether a filter has all words of one of the alternatives: word i is of the alternative p_groups[i].';
revoke all on function private.may_match(bytea, integer[], bigint[]) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Filling
-- ---------------------------------------------------------------------------------------------------------------------
create function private.begin_search_filter() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_block integer := (new.sequence_order - 1) / 64;
begin
  insert into private.search_filters (conversation_id, block) values (new.conversation_id, v_block)
  on conflict do nothing;
  -- The block before is complete. If its filter was made when it was not, it is made again.
  update private.search_filters f set words = null, up_to_sequence = 0
  where f.conversation_id = new.conversation_id and f.block = v_block - 1
    and f.words is not null and f.up_to_sequence < v_block * 64;
  return null;
end;
$$;
comment on function private.begin_search_filter() is 'Leaves word that a conversation has begun another block.';
revoke all on function private.begin_search_filter() from public, anon, authenticated, service_role;

create trigger begin_search_filter after insert on public.conversation_messages
  for each row when (new.sequence_order % 64 = 1)
  execute function private.begin_search_filter();


create function private.begin_fork_filter() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  insert into private.search_filters (conversation_id, block) values (new.id, new.fork_sequence / 64);
  return null;
end;
$$;
comment on function private.begin_fork_filter() is 'A fork begins amid a block.';
revoke all on function private.begin_fork_filter() from public, anon, authenticated, service_role;

create trigger begin_fork_filter after insert on public.conversations
  for each row when (new.fork_sequence % 64 <> 0)
  execute function private.begin_fork_filter();


create function private.fill_search_filter(p_conversation_id uuid, p_block integer) returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_last integer;
  v_words text[];
begin
  -- Numbers are given in the order of commits: who sees one of them sees all before it.
  select max(m.sequence_order), array_agg(w.word)
  into v_last, v_words
  from public.conversation_messages m
  left join lateral string_to_table(
    private.text_lexemes(private.fold_text(left(private.message_text(m.content, m.parts), 32768))), ' '
  ) as w (word) on true
  where m.conversation_id = p_conversation_id
    and m.sequence_order > p_block * 64 and m.sequence_order <= p_block::bigint * 64 + 64;

  update private.search_filters f set
    words = private.search_filter(private.word_hashes(v_words)), up_to_sequence = coalesce(v_last, p_block * 64)
  where f.conversation_id = p_conversation_id and f.block = p_block;
end;
$$;
comment on function private.fill_search_filter(uuid, integer) is
  'Makes the filter of a block from its messages: of each the first 32,768 characters.';
revoke all on function private.fill_search_filter(uuid, integer) from public, anon, authenticated, service_role;


create function private.search_filter_step() returns boolean
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_filter record;
  v_filled boolean := false;
  v_until constant timestamptz := clock_timestamp() + interval '1 second';
begin
  if clock_timestamp() > statement_timestamp() + interval '60 seconds'
    or not pg_try_advisory_xact_lock(hashtext('private.search_filter_step'))
  then
    return false;
  end if;
  -- Of a conversation that goes on, complete blocks only: its last one would be made again with every turn.
  for v_filter in
    select f.conversation_id, f.block
    from private.search_filters f
    join public.conversations c on c.id = f.conversation_id
    where f.words is null
      and (c.last_sequence_order >= f.block::bigint * 64 + 64 or c.updated_at < clock_timestamp() - interval '10 minutes')
    limit 100
    for update of f skip locked
  loop
    perform private.fill_search_filter(v_filter.conversation_id, v_filter.block);
    v_filled := true;
    exit when clock_timestamp() > v_until;
  end loop;
  return v_filled;
end;
$$;
comment on function private.search_filter_step() is
  'Makes up to 100 filters, for about a second: of blocks that are complete, and of conversations that have been quiet for ten '
  'minutes. True while there may be more to do.';
revoke all on function private.search_filter_step() from public, anon, authenticated, service_role;

insert into private.scheduled_jobs (name, schedule, command)
values (
  'threadbase-search-filters',
  '* * * * *',
  'do $job$ begin loop exit when not private.search_filter_step(); commit; end loop; end; $job$'
);
select private.schedule_jobs();

-- What there is already.
insert into private.search_filters (conversation_id, block)
select distinct m.conversation_id, (m.sequence_order - 1) / 64 from public.conversation_messages m;

-- ---------------------------------------------------------------------------------------------------------------------
-- Forgetting
-- ---------------------------------------------------------------------------------------------------------------------
create function private.forget_words(p_conversation_id uuid, p_sequence_order integer) returns void
language sql
volatile
security definer
set search_path = ''
as $$
  update private.search_filters f set words = null, up_to_sequence = 0
  -- An empty one as well: the job may have read the message already. This waits until what it makes of it can be seen.
  where f.conversation_id = p_conversation_id and f.block = (p_sequence_order - 1) / 64;
$$;
comment on function private.forget_words(uuid, integer) is
  'Has the filter of a message''s block made again: something there is deleted, and nothing is to tell of it.';
revoke all on function private.forget_words(uuid, integer) from public, anon, authenticated, service_role;


create or replace function private.delete_message(p_conversation_id uuid, p_message_id uuid, p_user_id uuid) returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
  v_conversation_id uuid;
  v_sequence_order integer;
begin
  if not exists (
    select from public.conversations c
    where c.id = p_conversation_id and c.user_id = coalesce(v_user_id, c.user_id) and c.deleted_at is null
  ) then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  with recursive line (id, parent_id, fork_sequence, upper) as (
    select c.id, c.parent_id, c.fork_sequence, 2147483647
    from public.conversations c
    where c.id = p_conversation_id
    union all
    select c.id, c.parent_id, c.fork_sequence, least(l.upper, l.fork_sequence)
    from line l
    join public.conversations c on c.id = l.parent_id
  )
  delete from public.conversation_messages m
  using line l
  where m.id = p_message_id and m.conversation_id = l.id and m.sequence_order <= l.upper
  returning m.conversation_id, m.sequence_order into v_conversation_id, v_sequence_order;
  if not found then
    raise sqlstate 'PT404' using message = 'message_not_found';
  end if;
  perform private.forget_words(v_conversation_id, v_sequence_order);
end;
$$;


create or replace function private.delete_item(p_conversation_id uuid, p_item_id text, p_user_id uuid) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
  v_conversation_id uuid;
  v_sequence_order integer;
begin
  perform private.require_conversation(p_conversation_id, v_user_id);
  delete from public.conversation_messages m
  using private.find_item(p_conversation_id, p_item_id) f
  where m.id = (f.message).id
  returning m.conversation_id, m.sequence_order into v_conversation_id, v_sequence_order;
  if not found then
    raise sqlstate 'PT404' using message = 'item_not_found';
  end if;
  perform private.forget_words(v_conversation_id, v_sequence_order);
  return public.get_conversation(p_conversation_id, v_user_id);
end;
$$;


create or replace function private.remove_messages(
  p_conversation_ids uuid[], p_above integer, p_limit integer, out removed integer, out complete boolean
)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  -- What is stored aside is removed in chunks of 2 kB: this is 32,000 of them, and takes about as long as 10,000 rows.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_count integer;
  v_ctids tid[];
begin
  select count(*), array_agg(s.ctid) filter (where s.n <= p_limit and s.before < c_bytes)
  into v_count, v_ctids
  from (
    select
      m.ctid,
      row_number() over (rows unbounded preceding) as n,
      sum(m.bytes) over (rows unbounded preceding) - m.bytes as before
    from unnest(p_conversation_ids) c (id)
    cross join lateral (
      -- Each column: the size of a row would be known only with everything read that is stored aside.
      select
        m.ctid,
        coalesce(pg_column_size(m.content), 0) + coalesce(pg_column_size(m.parts), 0)
          + coalesce(pg_column_size(m.function_call), 0) + coalesce(pg_column_size(m.tool_calls), 0)
          + coalesce(pg_column_size(m.item), 0) + coalesce(pg_column_size(m.usage), 0) + pg_column_size(m.metadata)
          as bytes
      from public.conversation_messages m
      where m.conversation_id = c.id and m.sequence_order > p_above
      order by m.sequence_order desc
      limit p_limit + 1
    ) m
    limit p_limit + 1
  ) s;
  complete := v_count = coalesce(cardinality(v_ctids), 0);
  if complete then
    -- By the index. For thousands of row ids the planner may read the whole table.
    delete from public.conversation_messages m
    where m.conversation_id = any (p_conversation_ids) and m.sequence_order > p_above;
  else
    delete from public.conversation_messages m where m.ctid = any (v_ctids);
  end if;
  get diagnostics removed = row_count;
  delete from private.search_filters f
  where f.conversation_id = any (p_conversation_ids) and f.block::bigint * 64 >= p_above;
  if p_above > 0 then
    perform private.forget_words(c.id, p_above) from unnest(p_conversation_ids) c (id);
  end if;
end;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Searching
-- ---------------------------------------------------------------------------------------------------------------------
drop function private.parse_search(text, uuid);
drop function private.search_score(text, boolean, integer[], text[], boolean[]);

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
comment on function private.parse_search(text) is
  'Reads a query as people type it: words are ANDed, "a phrase" is kept together, wor* is a prefix, -word excludes, OR '
  'in capitals separates alternatives; a word that punctuation divides is a phrase. The first 24 words count, and '
  'nothing is an error. Term i belongs to the alternative o_groups[i] and is the regular expression o_patterns[i]; the terms '
  'decide. o_words are the hashes of the words that a message needs, word i for the alternative o_word_groups[i]: null if any '
  'message may match, empty if none can. o_highlight is what to mark.';
revoke all on function private.parse_search(text) from public, anon, authenticated, service_role;


create function private.search_score(
  p_text text, p_groups integer[], p_patterns text[], p_excluded boolean[]
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
  v_found boolean := false;
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
comment on function private.search_score(text, integer[], text[], boolean[]) is
  'How well a text matches what parse_search read; null if it does not. BM25 without the rarity of words (k1 1.2, b 0.75, '
  'average 600 characters): a score depends on the text alone, so it is the same on every page.';
revoke all on function private.search_score(text, integer[], text[], boolean[])
  from public, anon, authenticated, service_role;


create or replace function private.search_messages(
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
            case when m.parts is null then m.content else private.message_text(m.content, m.parts) end,
            v_search.o_groups, v_search.o_patterns, v_search.o_excluded
          ) as score
        from public.conversation_messages m
        where m.ctid = n.row_id
          -- A fifth of what a score costs, and as good where the text is short, and ASCII: nothing to cut off or to decompose.
          and (
            m.content ~ all (v_required) or m.parts is not null or octet_length(m.content) > 32768
            or octet_length(m.content) <> char_length(m.content)
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
  'See public.search_messages. Definer: nobody else reads the filters.';
revoke all on function private.search_messages(text, integer, numeric, timestamptz, uuid, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.search_messages(text, integer, numeric, timestamptz, uuid, uuid)
  to authenticated, service_role;


