-- Erasure of a user's conversations: everything is hidden first, then messages go, then conversations.

create table private.erasure_conversations (
  erasure_id uuid not null,
  conversation_id uuid not null,
  stage smallint not null default 0,
  constraint erasure_conversations_pkey primary key (erasure_id, conversation_id),
  constraint erasure_conversations_erasure_id_fkey foreign key (erasure_id) references private.erasures (id)
    on delete cascade,
  constraint erasure_conversations_stage_check check (stage between 0 and 2)
);

create index idx_erasure_conversations_stage on private.erasure_conversations (erasure_id, stage);

comment on table private.erasure_conversations is
  'The conversations of an erasure that are not gone yet. A list and not a time: an import may bring old times along, and what '
  'comes after the request stays. No foreign key to conversations: every deletion of one would look here.';
comment on column private.erasure_conversations.stage is '0: to be hidden; 1: hidden; 2: without messages.';

select private.close_table('private.erasure_conversations', '{stage}');


create function private.list_conversations_to_erase(p_erasure_id uuid, p_user_id uuid) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into private.erasure_conversations (erasure_id, conversation_id)
  select p_erasure_id, c.id
  from public.conversations c
  where c.user_id = p_user_id
  on conflict do nothing;
  return found;
end;
$$;
comment on routine private.list_conversations_to_erase is
  'Puts what a user has at this moment on an erasure''s list, deleted conversations included. False if that is nothing new.';
revoke all on routine private.list_conversations_to_erase from public, anon, authenticated, service_role;


create function private.erase_conversations_piece(p_erasure_id uuid, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_messages constant integer := 2000;
  c_states constant integer := 2000;
  c_keys constant integer := 500;
  v_has_responses constant boolean := to_regclass('private.response_conversations') is not null;
  v_stage smallint;
  v_listed uuid[];
  v_ids uuid[];
  v_gone bigint;
  v_piece record;
  v_states bigint := 0;
  v_messages bigint := 0;
  v_conversations bigint := 0;
  v_imports bigint := 0;
  v_sources bigint := 0;
  v_made bigint := 0;
begin
  -- Everything is hidden before anything is removed, and every message is removed before the first conversation: where a
  -- table of the host's holds one of them fast, nothing of what was said is left.
  select min(l.stage) into v_stage from private.erasure_conversations l where l.erasure_id = p_erasure_id;
  if v_stage is null then
    -- Of a request that made one of them, or wrote to it, the key: it has the hash of what was written.
    delete from private.idempotency_keys k
    where k.ctid = any (array(
      select k.ctid
      from private.idempotency_keys k
      where k.user_id = p_user_id::text
        and k.scope ~ '^(\w+ (/openai/v1)?/conversations(/|$)|import_conversation$)'
        and not exists (
          select
          from public.conversations c
          where c.id = coalesce(substring(k.scope from '/conversations/([0-9a-f-]{36})/'), k.result ->> 'conversation_id')::uuid
        )
      limit c_keys
      for update skip locked
    ));
    get diagnostics v_gone = row_count;
    return case when v_gone > 0 then jsonb_build_object('idempotency_keys', v_gone) end;
  end if;
  v_listed := array(
    select l.conversation_id
    from private.erasure_conversations l
    where l.erasure_id = p_erasure_id and l.stage = v_stage
    limit case when v_stage = 0 then 500 else 200 end
  );

  if v_stage = 0 then
    -- The locks in the order in which storing a response and importing take them.
    perform pg_advisory_xact_lock(hashtextextended('responses of ' || p_user_id, 0));
    -- An import that went on would show its conversation again when it is complete.
    delete from private.imports i where i.user_id = p_user_id and i.conversation_id = any (v_listed);
    get diagnostics v_imports = row_count;
    delete from private.import_sources s where s.user_id = p_user_id and s.conversation_id = any (v_listed);
    get diagnostics v_sources = row_count;
  end if;
  -- No fork is being made of what is locked so. What somebody is writing to is passed by: its turn comes.
  v_ids := array(
    select c.id from public.conversations c where c.id = any (v_listed) for update skip locked
  );

  if v_stage = 0 then
    if v_has_responses then
      delete from public.conversation_states s
      where s.ctid = any (array(
        select s.ctid
        from public.conversation_states s
        where s.user_id = p_user_id and s.conversation_id = any (v_ids)
        limit c_states
      ));
      get diagnostics v_states = row_count;
      if v_states = c_states then
        return jsonb_build_object('conversation_states', v_states, 'imports', v_imports, 'import_sources', v_sources);
      end if;
    end if;
    perform private.hide_conversations(v_ids);
    -- Removed here and counted, not by the job of the queue.
    delete from private.prune_queue q where q.conversation_id = any (v_ids);
    update private.erasure_conversations l set stage = 1
    where l.erasure_id = p_erasure_id and l.conversation_id = any (v_ids);

  elsif v_stage = 1 then
    v_piece := private.remove_messages(v_ids, 0, c_messages);
    v_messages := v_piece.removed;
    if v_piece.complete then
      update private.erasure_conversations l set stage = 2
      where l.erasure_id = p_erasure_id and l.conversation_id = any (v_ids);
    end if;

  else
    -- Forks that were made after the list was: they show what has to go, and go too.
    insert into private.erasure_conversations (erasure_id, conversation_id)
    select p_erasure_id, c.id
    from public.conversations c
    where c.parent_id = any (v_ids)
    on conflict do nothing;
    if found then
      return '{}';
    end if;
    if v_has_responses then
      delete from private.response_conversations r where r.user_id = p_user_id and r.conversation_id = any (v_ids);
      get diagnostics v_made = row_count;
    end if;
    -- What forks of them are left is on the list, hidden and empty. So the order does not matter.
    update public.conversations c set parent_id = null, fork_sequence = null where c.parent_id = any (v_ids);
    delete from public.conversations c where c.id = any (v_ids);
    get diagnostics v_conversations = row_count;
  end if;

  delete from private.erasure_conversations l
  where l.erasure_id = p_erasure_id
    and l.conversation_id = any (v_listed)
    and not exists (select from public.conversations c where c.id = l.conversation_id);
  get diagnostics v_gone = row_count;
  if v_ids = '{}' and v_gone = 0 then
    raise lock_not_available;
  end if;
  return jsonb_build_object(
    'conversations', v_conversations,
    'conversation_messages', v_messages,
    'conversation_states', v_states,
    'imports', v_imports,
    'import_sources', v_sources,
    'response_conversations', v_made
  );
end;
$$;
comment on routine private.erase_conversations_piece is
  'A piece of the conversations on an erasure''s list: 2,000 responses go, or 500 conversations without any are hidden, or '
  '2,000 messages go, or 200 empty conversations, or 500 idempotency keys of conversations that are not there. Answers '
  '{table: rows}, null when there is nothing left.';
revoke all on routine private.erase_conversations_piece from public, anon, authenticated, service_role;
