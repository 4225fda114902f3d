-- Erasure of a user's sessions and their events.

create function private.erase_sessions_piece(p_user_id text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_events constant integer := 2000;
  -- See private.remove_messages.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_id uuid;
  v_piece record;
  v_bytes bigint := 0;
  v_sessions bigint := 0;
  v_events bigint := 0;
  v_counts bigint := 0;
  v_queued bigint := 0;
  v_count bigint;
begin
  -- A session that somebody is writing to is passed by: its turn comes.
  for v_id in
    select s.id
    from public.sessions s
    where s.user_id = p_user_id
    order by s.start_time, s.id
    limit 100
    for update skip locked
  loop
    v_piece := private.remove_events(v_id, c_events - v_events, c_bytes - v_bytes, '-infinity', 'infinity');
    v_events := v_events + v_piece.removed;
    v_bytes := v_bytes + v_piece.bytes;
    exit when not v_piece.complete;

    delete from private.event_counts c where c.session_id = v_id;
    get diagnostics v_count = row_count;
    v_counts := v_counts + v_count;
    delete from private.unsummarized_sessions u where u.session_id = v_id;
    get diagnostics v_count = row_count;
    v_queued := v_queued + v_count;
    delete from public.sessions s where s.id = v_id;
    v_sessions := v_sessions + 1;
  end loop;
  if not found then
    if exists (select from public.sessions s where s.user_id = p_user_id) then
      raise lock_not_available;
    end if;
    return null;
  end if;
  return jsonb_build_object(
    'sessions', v_sessions, 'event_logs', v_events, 'event_counts', v_counts, 'unsummarized_sessions', v_queued
  );
end;
$$;
comment on routine private.erase_sessions_piece is
  'A piece of a user''s sessions: 2,000 events, or 64 MiB of them, or 100 sessions with what events they have. Answers '
  '{table: rows}, null when there is none left.';
revoke all on routine private.erase_sessions_piece from public, anon, authenticated, service_role;
