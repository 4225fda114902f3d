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


-- ---------------------------------------------------------------------------------------------------------------------
-- Idempotency keys
-- ---------------------------------------------------------------------------------------------------------------------
create table private.idempotency_keys (
  user_id uuid not null,
  scope text not null,
  key text not null,
  request_hash bytea not null,
  result jsonb,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_pkey primary key (user_id, scope, key),
  constraint idempotency_keys_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint idempotency_keys_key_check check (char_length(key) between 1 and 255)
);
create index idx_idempotency_keys_created_at on private.idempotency_keys (created_at);
comment on table private.idempotency_keys is
  'What a request with an Idempotency-Key did: a hash of the request and pointers to rows, never content. Good for 24 hours.';
comment on column private.idempotency_keys.scope is 'Method and path of the request: a key means something there only.';
comment on column private.idempotency_keys.result is 'Where to find the first answer: ids and sequence numbers.';
alter table private.idempotency_keys enable row level security;
alter table private.idempotency_keys force row level security;
revoke all on private.idempotency_keys from public, anon, authenticated, service_role;
create policy "No client sees idempotency keys" on private.idempotency_keys
  for select to authenticated using (false);


create function private.claim_idempotency_key(p_user_id uuid, p_scope text, p_key text, p_request jsonb) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_hash bytea := sha256(convert_to(p_request::text, 'UTF8'));
  v_known private.idempotency_keys;
begin
  delete from private.idempotency_keys k
  where k.user_id = p_user_id and k.scope = p_scope and k.key = p_key and k.created_at < now() - interval '24 hours';

  -- A concurrent duplicate waits here until the first request has committed, or has failed and left the key free.
  insert into private.idempotency_keys (user_id, scope, key, request_hash)
  values (p_user_id, p_scope, p_key, v_hash)
  on conflict do nothing;
  if found then
    return null;
  end if;

  select * into v_known
  from private.idempotency_keys k
  where k.user_id = p_user_id and k.scope = p_scope and k.key = p_key;
  if v_known.request_hash <> v_hash then
    raise sqlstate 'PT409' using
      message = 'idempotency_mismatch',
      detail = 'The key was used for another request body.',
      hint = 'Use a new key for a new request.';
  end if;
  return v_known.result;
end;
$$;
comment on function private.claim_idempotency_key(uuid, text, text, jsonb) is
  'Null if the request is new, and then the key is taken with the transaction; else the result of the first one. Raises '
  'PT409 idempotency_mismatch if that had another body.';
revoke all on function private.claim_idempotency_key(uuid, text, text, jsonb)
  from public, anon, authenticated, service_role;


create function private.keep_idempotent_result(p_user_id uuid, p_scope text, p_key text, p_result jsonb) returns void
language sql
volatile
security definer
set search_path = ''
as $$
  update private.idempotency_keys k set result = p_result
  where k.user_id = p_user_id and k.scope = p_scope and k.key = p_key;
$$;
comment on function private.keep_idempotent_result(uuid, text, text, jsonb) is
  'Keeps where the answer of a claimed key is found.';
revoke all on function private.keep_idempotent_result(uuid, text, text, jsonb)
  from public, anon, authenticated, service_role;
