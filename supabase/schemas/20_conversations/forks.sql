-- A fork is one row: it shares the first fork_sequence messages of its parent, through any number of parents.

create function private.lineage(p_conversation_id uuid) returns table (id uuid, upper integer)
language plpgsql
stable
security definer
rows 10
set search_path = ''
as $$
begin
  return query
    with recursive line (id, parent_id, fork_sequence, upper) as (
      select c.id, c.parent_id, c.fork_sequence, 2147483647
      from public.conversations c
      where c.id = p_conversation_id
      union all
      select c.id, c.parent_id, c.fork_sequence, least(l.upper, l.fork_sequence)
      from line l
      -- A probe of the primary key for each step, however few rows the planner believes there to be.
      cross join lateral (select * from public.conversations c where c.id = l.parent_id offset 0) c
    )
    select l.id, l.upper from line l;
end;
$$;
comment on routine private.lineage is
  'The conversations whose messages a conversation shows, itself first, and up to which number of each. Checks nobody''s rights.';
revoke all on routine private.lineage from public, anon, authenticated, service_role;


create function private.require_depth(p_parent_id uuid) returns void
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  if (select count(*) from private.lineage(p_parent_id)) >= 1000 then
    raise sqlstate 'PT409' using
      message = 'fork_limit',
      detail = 'The conversation is a fork of a fork, 1,000 deep.',
      hint = 'Fork a conversation further up, or copy the messages into a new one.';
  end if;
end;
$$;
comment on routine private.require_depth is
  'Raises PT409 fork_limit where a fork of this conversation would be the 1,001st of its line: reading walks all of it.';
revoke all on routine private.require_depth from public, anon, authenticated, service_role;


create function private.fork_conversation(
  p_conversation_id uuid, p_at integer, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.acting_user(p_user_id);
  v_source public.conversations;
  v_parent_id uuid;
  v_grandparent_id uuid;
  v_fork_sequence integer;
  v_scope text := 'POST /conversations/' || p_conversation_id || '/fork';
  v_result jsonb;
  v_id uuid;
begin
  v_result := private.claim_idempotency_key(v_user_id::text, v_scope, p_idempotency_key, jsonb_build_array(p_at));
  if v_result is not null then
    return public.get_conversation((v_result ->> 'conversation_id')::uuid, v_user_id) || '{"replayed": true}';
  end if;

  -- Key share: appends go on meanwhile, a deletion of what the fork will share waits.
  select * into v_source
  from public.conversations c
  where c.id = p_conversation_id and c.user_id = v_user_id and c.deleted_at is null
  for key share;
  if not found then
    raise sqlstate 'PT404' using message = 'conversation_not_found';
  end if;
  if p_at is null or p_at < 0 or p_at > v_source.last_sequence_order then
    perform private.refuse(format('at is %s, the conversation goes from 0 to %s.', p_at, v_source.last_sequence_order));
  end if;

  -- Point at the ancestor that owns message p_at: lines stay short, and a parent's share always exceeds its own fork.
  v_parent_id := case when p_at > 0 then v_source.id end;
  v_grandparent_id := v_source.parent_id;
  v_fork_sequence := v_source.fork_sequence;
  while p_at > 0 and p_at <= v_fork_sequence loop
    select c.id, c.parent_id, c.fork_sequence into v_parent_id, v_grandparent_id, v_fork_sequence
    from public.conversations c
    where c.id = v_grandparent_id
    for key share;
  end loop;
  perform private.require_depth(v_parent_id);

  -- What it is about comes along. What was done with the original does not: neither pinned nor archived, no expires_at, and
  -- no summary, which may tell of what comes after.
  insert into public.conversations (
    user_id, video_id, title, metadata, parent_id, fork_sequence, last_sequence_order
  )
  values (
    v_user_id, v_source.video_id, v_source.title, v_source.metadata, v_parent_id,
    case when v_parent_id is not null then p_at end, p_at
  )
  returning id into v_id;
  perform private.keep_idempotent_result(
    v_user_id::text, v_scope, p_idempotency_key, jsonb_build_object('conversation_id', v_id)
  );
  return public.get_conversation(v_id, v_user_id);
end;
$$;
comment on routine private.fork_conversation is 'See public.fork_conversation.';


create function public.fork_conversation(
  p_conversation_id uuid, p_at integer, p_idempotency_key text default null, p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.fork_conversation(p_conversation_id, p_at, p_idempotency_key, p_user_id);
comment on routine public.fork_conversation is
  'A new conversation that shares the first p_at messages of this one: one row, whatever p_at is. Title, video and '
  'metadata are taken over, nothing else is: the summary may tell of what comes after.';
revoke all on routine private.fork_conversation, public.fork_conversation
  from public, anon, authenticated, service_role;
grant execute on routine private.fork_conversation, public.fork_conversation to authenticated, service_role;
