-- Retention of responses: since they were stored, or replaced last.

insert into private.retention_policies (kind, keep) values ('conversation_states', '7 days');


create function private.retain_conversation_states(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 1000;
  v_cutoff timestamptz := private.retention_cutoff('conversation_states', p_now);
  v_count integer;
begin
  -- No lock of the user's, as private.remove_response takes it: a response that is being continued is locked, and passed by;
  -- the queue prunes without waiting. A conversation that somebody deletes at this moment could not be put there.
  with expired as materialized (
    select s.user_id, s.response_id, s.conversation_id
    from public.conversation_states s
    join public.conversations c on c.user_id = s.user_id and c.id = s.conversation_id
    where s.updated_at < v_cutoff
    order by s.updated_at
    limit c_removed
    for update of s skip locked
    for key share of c skip locked
  ),
  deleted as (
    delete from public.conversation_states s
    using expired e
    where s.user_id = e.user_id and s.response_id = e.response_id
    returning s.user_id
  ),
  queued as (
    insert into private.prune_queue (conversation_id, user_id)
    select distinct e.conversation_id, e.user_id from expired e
    on conflict do nothing
  )
  select count(*) into v_count from deleted;
  removed := jsonb_build_object('conversation_states', v_count);
  more := v_count = c_removed;
end;
$$;
comment on routine private.retain_conversation_states is
  'Deletes up to 1,000 responses. What of their history nothing else shows is left to private.prune_queue.';
revoke all on routine private.retain_conversation_states from public, anon, authenticated, service_role;
