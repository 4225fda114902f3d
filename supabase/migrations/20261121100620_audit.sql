-- Audit: what happened in a window of time, over all sessions, in the order in which it happened.

create function private.event_text(p_content jsonb) returns text
language sql
immutable
security invoker
set search_path = ''
as $$
  select case
    when jsonb_typeof(p_content) = 'string' then p_content #>> '{}'
    when jsonb_typeof(p_content -> 'text') = 'string' then p_content ->> 'text'
  end;
$$;
comment on function private.event_text(jsonb) is
  'The text of an event: its content where that is a string, or the "text" of it where that is one; else null.';
revoke all on function private.event_text(jsonb) from public, anon, authenticated, service_role;
