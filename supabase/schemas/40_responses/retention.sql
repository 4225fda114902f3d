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
begin
  -- No lock of the user's, as private.remove_response takes it: the queue prunes without waiting.
  select jsonb_build_object('conversation_states', n), n = c_removed into removed, more
  from private.remove_pointers('public.conversation_states', 'updated_at', v_cutoff, c_removed) n;
end;
$$;
comment on routine private.retain_conversation_states is
  'Deletes up to 1,000 responses. What of their history nothing else shows is left to private.prune_queue.';
revoke all on routine private.retain_conversation_states from public, anon, authenticated, service_role;
