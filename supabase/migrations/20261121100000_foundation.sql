-- What every module stands on: a schema that no client reaches through the API, and the one place
-- that answers "for whom does this call act?".

create schema private;
comment on schema private is
  'Functions and tables behind the API. Not in the API''s exposed schemas; nothing in it trusts an argument.';
revoke all on schema private from public;
-- Invoker functions in public call definer functions in private, so their callers need the schema.
grant usage on schema private to authenticated, service_role;


create function private.caller_role() returns text
language sql
stable
security invoker
set search_path = ''
as $$
  select coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
    nullif(current_setting('request.jwt.claim.role', true), '')
  );
$$;
comment on function private.caller_role() is
  'The role claim of the caller''s token; null outside an API request. Inside a definer function current_user is the '
  'owner and proves nothing, so trust is decided by this claim.';
revoke all on function private.caller_role() from public, anon, authenticated, service_role;
-- authenticated and service_role: the default of conversation_messages.author runs as the inserting role.
grant execute on function private.caller_role() to authenticated, service_role;


create function private.caller_id(p_user_id uuid) returns uuid
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_role text := private.caller_role();
begin
  if v_role = 'authenticated' and auth.uid() is not null then
    return auth.uid();
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
comment on function private.caller_id(uuid) is
  'The user a call acts for. A user is always themself: the argument counts only with the service_role claim, where null '
  'means "whoever owns the row". Raises PT401 without claims, PT404 user_not_found for an unknown user.';
revoke all on function private.caller_id(uuid) from public, anon, authenticated, service_role;
grant execute on function private.caller_id(uuid) to authenticated, service_role;


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
comment on function private.acting_user(uuid) is
  'private.caller_id for operations that need a user: creating, writing and listing. Raises PT400 user_id_required.';
revoke all on function private.acting_user(uuid) from public, anon, authenticated, service_role;
grant execute on function private.acting_user(uuid) to authenticated, service_role;


create function public.health() returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select jsonb_build_object('status', 'ok');
$$;
comment on function public.health() is 'Answers when the database does. For GET /<function>/health.';
revoke all on function public.health() from public, anon, authenticated, service_role;
grant execute on function public.health() to service_role;
