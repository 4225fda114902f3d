-- Search filters: off the path of who appends, one for every 64 numbers of a conversation instead of an index entry for every
-- word of a message (docs/decisions/0016).

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

select private.close_table('private.search_filters', '{block, up_to_sequence}');


create function private.word_hashes(p_words text[]) returns bigint[]
language sql
immutable
parallel safe
set search_path = ''
as $$
  -- The hash of hash partitions, which has to survive an upgrade of Postgres as well. Of letters that are one letter in upper
  -- case: σ and ς are both Σ, and a search for either finds that.
  select coalesce(array_agg(distinct pg_catalog.hashtextextended(lower(upper(w.word)) collate "C", 0)), '{}')
  from unnest(p_words) as w (word)
  where w.word <> '';
$$;
comment on routine private.word_hashes is 'A hash of 64 bits for each different word, whatever its case.';
revoke all on routine private.word_hashes from public, anon, authenticated, service_role;


create function private.search_filter(p_hashes bigint[]) returns bytea
language plpgsql
immutable
parallel safe
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
comment on routine private.search_filter is
  'A Bloom filter of hashed words: a byte for each word and two of its bits set, so that a word that is not there seems to be '
  'in 5 of 100 cases. At most 8 KiB, and for more than 32,768 words, which would set most bits there, a single byte that has '
  'every word: setting each bit copies the filter.';
revoke all on routine private.search_filter from public, anon, authenticated, service_role;


create function private.may_match(p_filter bytea, p_groups integer[], p_hashes bigint[]) returns boolean
language plpgsql
immutable
parallel safe
strict
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
comment on routine private.may_match is
  'Whether a filter has all words of one of the alternatives: word i is of the alternative p_groups[i].';
revoke all on routine private.may_match from public, anon, authenticated, service_role;


create function private.begin_search_filter() returns trigger
language plpgsql
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
comment on routine private.begin_search_filter is 'Leaves word that a conversation has begun another block.';
revoke all on routine private.begin_search_filter from public, anon, authenticated, service_role;

create trigger begin_search_filter after insert on public.conversation_messages
  for each row when (new.sequence_order % 64 = 1)
  execute function private.begin_search_filter();


create function private.begin_fork_filter() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into private.search_filters (conversation_id, block) values (new.id, new.fork_sequence / 64);
  return null;
end;
$$;
comment on routine private.begin_fork_filter is 'A fork begins amid a block.';
revoke all on routine private.begin_fork_filter from public, anon, authenticated, service_role;

create trigger begin_fork_filter after insert on public.conversations
  for each row when (new.fork_sequence % 64 <> 0)
  execute function private.begin_fork_filter();


create function private.make_search_filter(p_conversation_id uuid, p_block integer) returns private.search_filters
language plpgsql
stable
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
    private.text_lexemes(private.fold_text(left(private.message_text(m), 32768))), ' '
  ) as w (word) on true
  where m.conversation_id = p_conversation_id
    and m.sequence_order > p_block * 64 and m.sequence_order <= p_block::bigint * 64 + 64;
  return row(
    p_conversation_id, p_block, coalesce(v_last, p_block * 64), private.search_filter(private.word_hashes(v_words))
  );
end;
$$;
comment on routine private.make_search_filter is
  'The filter of a block, from its messages: of each the first 32,768 characters. Stores nothing.';
revoke all on routine private.make_search_filter from public, anon, authenticated, service_role;


create function private.search_filter_step() returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_filter record;
  v_made private.search_filters[] := '{}';
  v_versions xid[] := '{}';
  v_until constant timestamptz := clock_timestamp() + interval '1 second';
begin
  if not private.begin_step('private.search_filter_step') then
    return false;
  end if;
  -- Of a conversation that goes on, complete blocks only: its last one would be made again with every turn. Without a lock:
  -- one block may take longer than a request waits.
  for v_filter in
    select f.conversation_id, f.block, f.xmin as version
    from private.search_filters f
    join public.conversations c on c.id = f.conversation_id
    where f.words is null
      and (c.last_sequence_order >= f.block::bigint * 64 + 64 or c.updated_at < clock_timestamp() - interval '10 minutes')
    limit 100
  loop
    v_made := v_made || private.make_search_filter(v_filter.conversation_id, v_filter.block);
    v_versions := v_versions || v_filter.version;
    exit when clock_timestamp() > v_until;
  end loop;

  -- Who deletes a message writes to the filter, which is another version then, and is made again.
  with unchanged as (
    select f.conversation_id, f.block, m.up_to_sequence, m.words
    from rows from (unnest(v_made), unnest(v_versions)) as m (conversation_id, block, up_to_sequence, words, version)
    join private.search_filters f using (conversation_id, block)
    where f.xmin = m.version
      and not exists (
        select from public.conversation_messages s
        where s.conversation_id = m.conversation_id
          and s.sequence_order > m.up_to_sequence and s.sequence_order <= m.block::bigint * 64 + 64
      )
    for update of f skip locked
  )
  update private.search_filters f set words = u.words, up_to_sequence = u.up_to_sequence
  from unchanged u
  where f.conversation_id = u.conversation_id and f.block = u.block;
  return found;
end;
$$;
comment on routine private.search_filter_step is
  'Makes up to 100 filters, for about a second: of blocks that are complete, and of conversations that have been quiet for ten '
  'minutes. It locks them for no longer than it takes to write what is made, and waits for nobody. True while there may be '
  'more to do.';
revoke all on routine private.search_filter_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-search-filters', '* * * * *', 'private.search_filter_step()');


create function private.forget_words(p_conversation_id uuid, p_sequence_order integer) returns void
language sql
security definer
set search_path = ''
as $$
  update private.search_filters f set words = null, up_to_sequence = 0
  -- An empty one as well: the job may have read the message already, and what it makes of it is not stored then.
  where f.conversation_id = p_conversation_id and f.block = (p_sequence_order - 1) / 64;
$$;
comment on routine private.forget_words is
  'Has the filter of a message''s block made again: something there is deleted, and nothing is to tell of it.';
revoke all on routine private.forget_words from public, anon, authenticated, service_role;
