-- Deletion in pieces: what is deleted is gone at once, and its messages follow, a bounded number at a time.

create table private.prune_queue (
  conversation_id uuid not null,
  user_id uuid not null,
  failed_at timestamptz,
  error text,
  constraint prune_queue_pkey primary key (conversation_id),
  constraint prune_queue_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade
);

create index idx_prune_queue_user_id on private.prune_queue (user_id, conversation_id);
create index idx_prune_queue_failed_at on private.prune_queue (failed_at nulls first, conversation_id);

comment on table private.prune_queue is
  'Conversations of which something may be left that nothing shows. Who deletes removes up to 10,000 messages himself; '
  'private.prune_queue_step removes the rest.';
comment on column private.prune_queue.failed_at is
  'When it could not be removed; null when nobody has failed. Its turn comes again after all others''.';
comment on column private.prune_queue.error is
  'The SQLSTATE of that, and the constraint if it was one: "23503 bookmarks_fkey" is a table of the host''s that refers to the '
  'conversation.';

select private.close_table('private.prune_queue', '{failed_at}');


create function private.shows_itself(p_conversation_id uuid) returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_conversation public.conversations;
begin
  select * into v_conversation from public.conversations c where c.id = p_conversation_id;
  if v_conversation.deleted_at is not null or to_regclass('private.response_conversations') is null then
    return v_conversation.deleted_at is null;
  end if;
  return not exists (
    select
    from private.response_conversations r
    where r.user_id = v_conversation.user_id
      and r.conversation_id = v_conversation.id
      and r.last_sequence_order = v_conversation.last_sequence_order
  );
end;
$$;
comment on routine private.shows_itself is
  'Whether a conversation keeps its messages by itself. A deleted one does not, nor one that responses have made, unless '
  'somebody made it their own: wrote on, or gave it a title, a summary, a video, metadata or a pin.';
revoke all on routine private.shows_itself from public, anon, authenticated, service_role;


create function private.remove_messages(
  p_conversation_ids uuid[], p_above integer, p_limit integer, out removed integer, out complete boolean
)
language plpgsql
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
          + coalesce(pg_column_size(m.item), 0) + coalesce(pg_column_size(m.source), 0)
          + coalesce(pg_column_size(m.usage), 0) + pg_column_size(m.metadata) as bytes
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
comment on routine private.remove_messages is
  'Removes messages whose number is above p_above from conversations that the caller has locked: at most p_limit, and no '
  'more after 64 MiB. complete: these were all. Checks nobody''s rights.';
revoke all on routine private.remove_messages from public, anon, authenticated, service_role;


create function private.prune_conversation(p_conversation_id uuid, p_limit integer, p_wait boolean default true)
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_id uuid := p_conversation_id;
  v_user_id uuid;
  v_parent_id uuid;
  v_deleted_at timestamptz;
  v_shown integer;
  v_answered integer;
  v_removed bigint := 0;
  v_piece record;
  v_until constant timestamptz := clock_timestamp() + interval '1 second';
begin
  loop
    -- Lock first, judge afterwards: a fork that is being made holds a key share lock here, and a parent that another
    -- transaction is deleting looks alive until that has committed.
    if p_wait then
      select c.user_id, c.parent_id, c.deleted_at into v_user_id, v_parent_id, v_deleted_at
      from public.conversations c
      where c.id = v_id
      for update;
    else
      select c.user_id, c.parent_id, c.deleted_at into v_user_id, v_parent_id, v_deleted_at
      from public.conversations c
      where c.id = v_id
      for update skip locked;
    end if;
    exit when not found;
    if private.shows_itself(v_id) then
      delete from private.prune_queue q where q.conversation_id = v_id;
      exit;
    end if;

    select max(c.fork_sequence) into v_shown from public.conversations c where c.parent_id = v_id;
    if to_regclass('private.response_conversations') is not null then
      select max(s.sequence_order) into v_answered
      from public.conversation_states s
      where s.user_id = v_user_id and s.conversation_id = v_id;
      v_shown := greatest(v_shown, v_answered);
    end if;
    -- Of a conversation that responses have made and none is left of, only what forks show, and nobody finds it.
    if v_deleted_at is null and v_answered is null then
      perform private.hide_conversations(array[v_id]);
    end if;

    -- Forks and responses always lie above their conversation's own fork, so what that shares with its ancestors stays
    -- shown.
    v_piece := private.remove_messages(array[v_id], coalesce(v_shown, 0), (p_limit - v_removed)::integer);
    v_removed := v_removed + v_piece.removed;
    if not v_piece.complete or v_removed >= p_limit or clock_timestamp() > v_until then
      insert into private.prune_queue (conversation_id, user_id) values (v_id, v_user_id) on conflict do nothing;
      exit;
    end if;

    if v_shown is not null then
      delete from private.prune_queue q where q.conversation_id = v_id;
      exit;
    end if;
    -- Not without its parent, whose turn would never come: not even the queue takes what somebody else has locked.
    if not p_wait and v_parent_id is not null then
      perform from public.conversations c where c.id = v_parent_id for update skip locked;
      if not found then
        insert into private.prune_queue (conversation_id, user_id) values (v_id, v_user_id) on conflict do nothing;
        exit;
      end if;
    end if;
    delete from public.conversations c where c.id = v_id;
    exit when v_parent_id is null;
    v_id := v_parent_id;
  end loop;
  return v_removed;
end;
$$;
comment on routine private.prune_conversation is
  'Removes what nothing shows any more: a conversation that does not show itself and has neither forks nor responses, '
  'then its parent if that is one too, and so on upwards; of one that has some, the messages above the highest they show. '
  'At most p_limit messages, which are counted in the answer, 64 MiB of a conversation and about a second: where that is '
  'too little, or where a conversation is locked and p_wait is false, private.prune_queue has the rest.';
revoke all on routine private.prune_conversation from public, anon, authenticated, service_role;


create function private.prune_lineage(p_conversation_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- A second at the most: a request has eight.
  perform private.prune_conversation(p_conversation_id, 10000);
end;
$$;
comment on routine private.prune_lineage is
  'private.prune_conversation for a request: at once, as far as that goes in about a second.';
revoke all on routine private.prune_lineage from public, anon, authenticated, service_role;


create function private.tombstone_columns() returns text[]
language sql
immutable
set search_path = ''
return array[
  -- Who it is, and what its forks share.
  'id', 'user_id', 'parent_id', 'fork_sequence', 'last_sequence_order',
  -- An export pages by created_at, and an import keeps both.
  'created_at', 'updated_at',
  -- That it is one.
  'deleted_at'
];
comment on routine private.tombstone_columns is
  'What is left of a deleted conversation that a living fork still shows: these columns. All others are cleared.';
revoke all on routine private.tombstone_columns from public, anon, authenticated, service_role;


create function private.hide_conversations(p_ids uuid[]) returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_hidden integer;
begin
  execute format(
    $sql$
      with hidden as (
        update public.conversations c set deleted_at = now(), %s
        where c.id = any ($1) and c.deleted_at is null
        returning c.id, c.user_id
      ),
      queued as (
        insert into private.prune_queue (conversation_id, user_id)
        select h.id, h.user_id from hidden h
        on conflict do nothing
      ),
      -- Of the chat that it came from nothing is known any more, either.
      forgotten as (
        delete from private.import_sources s
        using hidden h
        where s.user_id = h.user_id and s.conversation_id = h.id
      )
      select count(*) from hidden
    $sql$,
    -- Default is null where a column says none.
    (
      select string_agg(format('%I = default', name), ', ')
      from unnest(private.columns_of('public.conversations', private.tombstone_columns())) name
    )
  )
  into v_hidden
  using p_ids;
  return v_hidden;
end;
$$;
comment on routine private.hide_conversations is
  'Deletes conversations for everybody who asks; private.drain_prune_queue then removes what is '
  'left of them. Answers how many there were. Checks nobody''s rights.';
revoke all on routine private.hide_conversations from public, anon, authenticated, service_role;


create function private.drain_prune_queue(
  p_limit integer, p_user_id uuid default null, out messages bigint, out progress boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_from constant uuid := gen_random_uuid();
  v_ids uuid[];
  v_id uuid;
  v_constraint text;
  v_until constant timestamptz := clock_timestamp() + interval '1 second';
begin
  messages := 0;
  if p_user_id is null then
    -- A few of each of some users, every time of others: however much one of them has deleted, all have their turn.
    with recursive owners as (
      select coalesce(
        (select q.user_id from private.prune_queue q where q.user_id >= v_from order by q.user_id limit 1),
        (select q.user_id from private.prune_queue q order by q.user_id limit 1)
      ) as user_id
      union all
      select (select q.user_id from private.prune_queue q where q.user_id > o.user_id order by q.user_id limit 1)
      from owners o
      where o.user_id is not null
    )
    select array_agg(t.conversation_id order by t.n, random()) into v_ids
    from (
      select q.conversation_id, row_number() over (partition by o.user_id) as n
      from (select o.user_id from owners o limit 20) o
      cross join lateral (
        select q.conversation_id
        from private.prune_queue q
        where q.user_id = o.user_id and q.failed_at is null
        limit 10
        for update skip locked
      ) q
    ) t;
  end if;
  if v_ids is null then
    v_ids := array(
      select q.conversation_id
      from private.prune_queue q
      where (p_user_id is null or q.user_id = p_user_id)
        and (q.failed_at is null or q.failed_at < statement_timestamp())
      order by q.failed_at nulls first, q.conversation_id
      limit 200
      for update skip locked
    );
  end if;
  begin
    foreach v_id in array v_ids loop
      exit when messages >= p_limit or clock_timestamp() > v_until;
      messages := messages + private.prune_conversation(v_id, p_limit - messages::integer, false);
    end loop;
  exception
    when others then
      -- The others come again without this one. Never the message: it may have content in it.
      get stacked diagnostics v_constraint = constraint_name;
      update private.prune_queue q set
        failed_at = clock_timestamp(), error = concat_ws(' ', sqlstate, nullif(v_constraint, ''))
      where q.conversation_id = v_id;
      messages := 0;
      progress := true;
      return;
  end;
  -- What somebody holds stays in the queue: asking again at once would not help.
  progress := messages > 0 or cardinality(v_ids) > (
    select count(*) from private.prune_queue q where q.conversation_id = any (v_ids)
  );
end;
$$;
comment on routine private.drain_prune_queue is
  'Removes at most p_limit messages of at most 200 conversations in private.prune_queue, of one user or of all, for about a '
  'second. It waits for nobody''s lock. What fails stays, with the error, until the next run. messages: how many went; '
  'progress: whether another call may find more to do.';
revoke all on routine private.drain_prune_queue from public, anon, authenticated, service_role;


create function private.prune_queue_step() returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- Retention empties the queue as it fills it, and takes turns with who writes: both at once would be twice the load.
  if private.retention_is_running() or not private.begin_step('private.prune_queue_step') then
    return false;
  end if;
  delete from private.deleted_messages d
  where d.ctid = any (array(
    select d.ctid
    from private.deleted_messages d
    where d.deleted_at < now() - interval '1 day'
    order by d.deleted_at
    limit 5000
    for update skip locked
  ));
  return (private.drain_prune_queue(5000)).progress;
end;
$$;
comment on routine private.prune_queue_step is
  'Removes up to 5,000 messages that deletions have left behind, and forgets where 5,000 stood that were deleted more than a day '
  'ago. True while there may be more to do.';
revoke all on routine private.prune_queue_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-prune-queue', '* * * * *', 'private.prune_queue_step()');


create function private.delete_conversation(p_conversation_id uuid, p_user_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform private.lock_conversation(p_conversation_id, p_user_id);
  perform private.hide_conversations(array[p_conversation_id]);
  perform private.prune_lineage(p_conversation_id);
end;
$$;
comment on routine private.delete_conversation is 'See public.delete_conversation.';


create function public.delete_conversation(p_conversation_id uuid, p_user_id uuid default null) returns void
language sql
set search_path = ''
return private.delete_conversation(p_conversation_id, p_user_id);
comment on routine public.delete_conversation is
  'Deletes a conversation and its messages, except those that living forks still show.';
revoke all on routine private.delete_conversation, public.delete_conversation
  from public, anon, authenticated, service_role;
grant execute on routine private.delete_conversation, public.delete_conversation to authenticated, service_role;


create table private.deleted_messages (
  user_id uuid not null,
  conversation_id uuid not null,
  message_id uuid not null,
  sequence_order integer not null,
  item_id text,
  deleted_at timestamptz not null default now(),
  constraint deleted_messages_pkey primary key (user_id, conversation_id, message_id),
  constraint deleted_messages_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade
);

create index idx_deleted_messages_item_id
  on private.deleted_messages (user_id, conversation_id, item_id) where item_id is not null;
create index idx_deleted_messages_deleted_at on private.deleted_messages (deleted_at);

comment on table private.deleted_messages is
  'Where messages stood that were deleted one by one, for a day: who pages by the id of one goes on behind it. Ids and a number, '
  'never content.';
comment on column private.deleted_messages.item_id is 'The client''s own id of it.';

select private.close_table('private.deleted_messages', '{sequence_order, deleted_at}');


create function private.remove_message(p_conversation_id uuid, p_message_id uuid) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_message record;
begin
  delete from public.conversation_messages m
  using private.lineage(p_conversation_id) l
  where m.id = p_message_id and m.conversation_id = l.id and m.sequence_order <= l.upper
  returning m.user_id, m.conversation_id, m.id, m.sequence_order, m.item_id into v_message;
  if not found then
    return false;
  end if;
  insert into private.deleted_messages (user_id, conversation_id, message_id, sequence_order, item_id)
  values (v_message.user_id, v_message.conversation_id, v_message.id, v_message.sequence_order, v_message.item_id)
  on conflict do nothing;
  perform private.forget_words(v_message.conversation_id, v_message.sequence_order);
  return true;
end;
$$;
comment on routine private.remove_message is
  'Deletes one message that a conversation shows, and keeps for a day where it stood. False if it shows none such. Checks '
  'nobody''s rights.';
revoke all on routine private.remove_message from public, anon, authenticated, service_role;


create function private.deleted_place(p_conversation_id uuid, p_item_id text, p_message_id uuid) returns integer
language sql
stable
security definer
set search_path = ''
as $$
  select d.sequence_order
  from public.conversations c
  cross join private.lineage(c.id) l
  join private.deleted_messages d
    on d.user_id = c.user_id and d.conversation_id = l.id and d.sequence_order <= l.upper
    and (d.item_id = p_item_id or d.message_id = p_message_id)
  where c.id = p_conversation_id
  order by d.deleted_at desc
  limit 1;
$$;
comment on routine private.deleted_place is
  'The number that a message had which was deleted within the day, by its item_id or its id. Null if there was none such. Checks '
  'nobody''s rights.';
revoke all on routine private.deleted_place from public, anon, authenticated, service_role;


create function private.delete_message(p_conversation_id uuid, p_message_id uuid, p_user_id uuid) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform private.require_conversation(p_conversation_id, private.caller_id(p_user_id));
  if not private.remove_message(p_conversation_id, p_message_id) then
    raise sqlstate 'PT404' using message = 'message_not_found';
  end if;
end;
$$;
comment on routine private.delete_message is 'See public.delete_message.';


create function public.delete_message(p_conversation_id uuid, p_message_id uuid, p_user_id uuid default null)
returns void
language sql
set search_path = ''
return private.delete_message(p_conversation_id, p_message_id, p_user_id);
comment on routine public.delete_message is
  'Deletes a message, through whichever conversation shows it, from all that show it. Numbers do not change and are not '
  'used again.';
revoke all on routine private.delete_message, public.delete_message from public, anon, authenticated, service_role;
grant execute on routine private.delete_message, public.delete_message to authenticated, service_role;

insert into private.repeatable_calls (name) values ('delete_conversation'), ('delete_message');
