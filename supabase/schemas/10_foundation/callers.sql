-- For whom does a call act? Answered in one place.

-- In PL/pgSQL, whose plans a connection keeps. A function in SQL that is not inlined, and one with a search_path is not, is
-- parsed and planned again by every statement that calls it.
create function private.caller_role() returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
    nullif(current_setting('request.jwt.claim.role', true), '')
  );
end;
$$;
comment on routine private.caller_role is
  'The role claim of the caller''s token; null outside an API request. Inside a definer function current_user is the '
  'owner and proves nothing, so trust is decided by this claim.';
revoke all on routine private.caller_role from public, anon, authenticated, service_role;
-- authenticated and service_role: the default of conversation_messages.author runs as the inserting role.
grant execute on routine private.caller_role to authenticated, service_role;


create function private.caller_id(p_user_id uuid) returns uuid
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- As in private.caller_role, which would be one more call on every path.
  v_role text := coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
    nullif(current_setting('request.jwt.claim.role', true), '')
  );
  v_id uuid;
begin
  if v_role = 'authenticated' then
    v_id := auth.uid();
    if v_id is not null then
      return v_id;
    end if;
  elsif v_role = 'service_role' then
    if p_user_id is not null and not exists (select from auth.users u where u.id = p_user_id) then
      raise sqlstate 'PT404' using
        message = 'user_not_found',
        detail = 'No auth user has the id that the request acts for.';
    end if;
    return p_user_id;
  end if;
  raise sqlstate 'PT401' using
    message = 'unauthorized',
    detail = 'The call carries neither a user''s token nor the secret key.';
end;
$$;
comment on routine private.caller_id is
  'The user a call acts for. A user is always themself: the argument counts only with the service_role claim, where null '
  'means "whoever owns the row". Raises PT401 without claims, PT404 user_not_found for an unknown user.';
revoke all on routine private.caller_id from public, anon, authenticated, service_role;
grant execute on routine private.caller_id to authenticated, service_role;


create function private.acting_user(p_user_id uuid) returns uuid
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id uuid := private.caller_id(p_user_id);
begin
  if v_user_id is null then
    raise sqlstate 'PT400' using
      message = 'user_id_required',
      detail = 'A backend says for whom it writes or lists.',
      hint = 'Send the user''s id in the x-user-id header.';
  end if;
  return v_user_id;
end;
$$;
comment on routine private.acting_user is
  'private.caller_id for operations that need a user: creating, writing and listing. Raises PT400 user_id_required.';
revoke all on routine private.acting_user from public, anon, authenticated, service_role;
grant execute on routine private.acting_user to authenticated, service_role;


create function private.session_user_id(p_user_id text) returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_user_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then lower(p_user_id)
    else p_user_id
  end;
$$;
comment on routine private.session_user_id is
  'The one spelling of a session''s owner: what is shaped like a uuid is in lower case, as auth.uid() is.';
revoke all on routine private.session_user_id from public, anon, authenticated, service_role;
grant execute on routine private.session_user_id to authenticated, service_role;


create function private.session_caller_id(p_user_id text) returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  if private.caller_role() is distinct from 'service_role' then
    return private.caller_id(null);
  elsif char_length(p_user_id) not between 1 and 256 then
    perform private.refuse('The user id of a session has between 1 and 256 characters.');
  end if;
  return private.session_user_id(p_user_id);
end;
$$;
comment on routine private.session_caller_id is
  'private.caller_id for sessions, whose owner is any text: a backend''s caller need not be a user of Auth. Null, with the '
  'service_role claim alone, means everybody.';
revoke all on routine private.session_caller_id from public, anon, authenticated, service_role;
grant execute on routine private.session_caller_id to authenticated, service_role;


create function private.session_acting_user(p_user_id text) returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id text := private.session_caller_id(p_user_id);
begin
  if v_user_id is null then
    perform private.acting_user(null); -- which refuses
  end if;
  return v_user_id;
end;
$$;
comment on routine private.session_acting_user is
  'private.session_caller_id for what needs a user. Raises PT400 user_id_required.';
revoke all on routine private.session_acting_user from public, anon, authenticated, service_role;
grant execute on routine private.session_acting_user to authenticated, service_role;


create function private.hold_owner(p_user_id text) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- Taken exclusively by private.erase_deleted_user: either that sees the session, or this sees that the user is gone.
  perform pg_advisory_xact_lock_shared(hashtextextended('session owner ' || p_user_id, 0));
  if private.caller_role() = 'authenticated' and not exists (select from auth.users u where u.id::text = p_user_id) then
    raise sqlstate 'PT401' using message = 'unauthorized', detail = 'The user of the token does not exist any more.';
  end if;
end;
$$;
comment on routine private.hold_owner is
  'Keeps a user from being deleted until the transaction ends. Raises PT401 where the token has outlived its user.';
revoke all on routine private.hold_owner from public, anon, authenticated, service_role;
grant execute on routine private.hold_owner to authenticated, service_role;
