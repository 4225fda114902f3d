-- Retention of conversations: since the last message, or when the conversation itself says.

insert into private.retention_policies (kind, keep) values ('conversations', null);


create function private.retain_conversations(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 500;
  c_read constant integer := 5000;
  v_cutoff timestamptz := private.retention_cutoff('conversations', p_now);
  v_conversation record;
  v_read integer := 0;
  v_ids uuid[];
begin
  v_ids := array(
    select c.id
    from public.conversations c
    where c.deleted_at is null and c.expires_at is not null and not c.pinned and c.expires_at <= p_now
    order by c.expires_at
    limit c_removed
    for update skip locked
  );
  more := v_ids <> '{}';

  if v_ids = '{}' and v_cutoff is not null then
    for v_conversation in
      select c.id, c.created_at, c.updated_at
      from public.conversations c
      where c.deleted_at is null and c.expires_at is null and not c.pinned
        and c.created_at < v_cutoff
        and (c.created_at, c.id) > (
          coalesce((p_position ->> 'created_at')::timestamptz, '-infinity'),
          coalesce((p_position ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
        )
      order by c.created_at, c.id
      limit c_read
    loop
      v_read := v_read + 1;
      p_position := jsonb_build_object('created_at', v_conversation.created_at, 'id', v_conversation.id);
      if v_conversation.updated_at < v_cutoff then
        v_ids := v_ids || v_conversation.id;
      end if;
      exit when cardinality(v_ids) = c_removed;
    end loop;
    more := v_read = c_read or cardinality(v_ids) = c_removed;
    -- Again under the lock: somebody may have written to it, pinned it, or said when it expires.
    v_ids := array(
      select c.id
      from public.conversations c
      where c.id = any (v_ids)
        and c.deleted_at is null and c.expires_at is null and not c.pinned and c.updated_at < v_cutoff
      for update skip locked
    );
  end if;

  perform private.hide_conversations(v_ids);
  removed := jsonb_build_object('conversations', cardinality(v_ids));
end;
$$;
comment on routine private.retain_conversations is
  'Deletes up to 500 conversations: those past their expires_at, and those without one whose last message is past the policy. '
  'Pinned ones stay. Their messages are left to private.prune_queue.';
revoke all on routine private.retain_conversations from public, anon, authenticated, service_role;


create function private.retain_prune_queue(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
security definer
set search_path = ''
as $$
begin
  select jsonb_build_object('conversation_messages', d.messages), d.progress into removed, more
  from private.drain_prune_queue(5000) d;
end;
$$;
comment on routine private.retain_prune_queue is
  'Removes up to 5,000 messages that deletions have left behind, those of retention and everybody''s.';
revoke all on routine private.retain_prune_queue from public, anon, authenticated, service_role;


create function private.remove_pointers(p_table regclass, p_time name, p_before timestamptz, p_limit integer)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_count integer;
begin
  -- A row that somebody is going on with is locked, and passed by. So is one whose conversation somebody deletes at this
  -- moment: that could not be put into the queue.
  execute format(
    $query$
      with expired as materialized (
        select t.ctid as row_id, t.user_id, t.conversation_id
        from %1$s t
        join public.conversations c on c.user_id = t.user_id and c.id = t.conversation_id
        where t.%2$I < $1
        order by t.%2$I
        limit $2
        for update of t skip locked
        for key share of c skip locked
      ),
      deleted as (
        delete from %1$s t using expired e where t.ctid = e.row_id returning 1
      ),
      queued as (
        insert into private.prune_queue (conversation_id, user_id)
        select distinct e.conversation_id, e.user_id from expired e
        on conflict do nothing
      )
      select count(*) from deleted
    $query$,
    p_table, p_time
  )
  into v_count using p_before, p_limit;
  return v_count;
end;
$$;
comment on routine private.remove_pointers is
  'Removes the first p_limit rows by p_time, and from before p_before, of a table that points at conversations (user_id, '
  'conversation_id). What nothing shows of these is left to private.prune_queue. It waits for nobody. Answers how many.';
revoke all on routine private.remove_pointers from public, anon, authenticated, service_role;


create function private.retain_imports(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 500;
begin
  -- As in private.expire_imports.
  select jsonb_build_object('imports', n), n = c_removed into removed, more
  from private.remove_pointers('private.imports', 'created_at', p_now - interval '1 day', c_removed) n;
end;
$$;
comment on routine private.retain_imports is
  'Ends up to 500 imports that broke off more than a day ago. What nothing shows of them is left to private.prune_queue.';
revoke all on routine private.retain_imports from public, anon, authenticated, service_role;
