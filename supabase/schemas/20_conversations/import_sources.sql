-- Import, again: which chats of other systems are there already.

create table private.import_sources (
  user_id uuid not null,
  source text not null,
  source_id text not null,
  conversation_id uuid not null,
  -- The end of what was brought: its item_id, which is known where the message was deleted, and its number.
  last_item text,
  last_sequence integer not null,
  constraint import_sources_pkey primary key (user_id, source, source_id, conversation_id),
  constraint import_sources_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade,
  constraint import_sources_check check (
    char_length(source) between 1 and 64 and char_length(source_id) between 1 and 256
  )
);

create index idx_import_sources_conversation_id on private.import_sources (user_id, conversation_id);

comment on table private.import_sources is
  'Which chat of which other system a conversation was imported from: the next import of that chat brings what is new in it. A '
  'chat with branches is several conversations. It goes when they are deleted.';

select private.close_table('private.import_sources', '{last_sequence}');


create function private.imported_place(
  p_user_id uuid, p_source jsonb, p_messages jsonb,
  out conversation_id uuid, out sequence_order integer, out messages integer
)
language sql
stable
security definer
set search_path = ''
as $$
  with items as (
    -- What follows nothing follows a chat that had no messages.
    select coalesce(p_source ->> 'after', '') as item_id, 0 as n
    union all
    select m.value ->> 'item_id', m.n::integer
    from jsonb_array_elements(p_messages) with ordinality as m (value, n)
  )
  select c.id, f.sequence_order, i.n
  from private.import_sources s
  join public.conversations c on c.user_id = s.user_id and c.id = s.conversation_id
  cross join lateral (
    select m.item_id, m.sequence_order
    from public.conversation_messages m
    where m.conversation_id = c.id and m.item_id = any (array(select i.item_id from items i))
    union all
    -- The last one, if it was deleted.
    select coalesce(s.last_item, ''), s.last_sequence
  ) f
  join items i using (item_id)
  where s.user_id = p_user_id and s.source = p_source ->> 'name' and s.source_id = p_source ->> 'id'
    -- What was deleted may come again; what is hidden because parts of it are missing is there.
    and (
      c.deleted_at is null
      or exists (select from private.imports p where p.user_id = s.user_id and p.conversation_id = c.id and p.incomplete)
    )
  -- Where two show it, the one that ends there goes on.
  order by i.n desc, c.last_sequence_order - f.sequence_order, c.id
  limit 1;
$$;
comment on routine private.imported_place is
  'How much of an imported way is there already: how many of its messages, 0 if it is only what they follow, and where the last '
  'of these stands. Null: nothing of it. A chat is a tree, so what comes before that is there, or was deleted.';
revoke all on routine private.imported_place from public, anon, authenticated, service_role;
