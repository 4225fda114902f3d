-- Idempotency keys for owners that are no users of Auth: a session belongs to any text.

alter table private.idempotency_keys drop constraint idempotency_keys_user_id_fkey;
alter table private.idempotency_keys alter column user_id type text using user_id::text;
comment on column private.idempotency_keys.user_id is
  'Whose request it was: the id of an auth user, or what else sessions.user_id may be.';


create function private.claim_idempotency_key(p_user_id text, p_scope text, p_key text, p_request jsonb) returns jsonb
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
comment on function private.claim_idempotency_key(text, text, text, jsonb) is
  'Null if the request is new, and then the key is taken with the transaction; else the result of the first one. Raises '
  'PT409 idempotency_mismatch if that had another body.';
revoke all on function private.claim_idempotency_key(text, text, text, jsonb)
  from public, anon, authenticated, service_role;


create function private.keep_idempotent_result(p_user_id text, p_scope text, p_key text, p_result jsonb) returns void
language sql
volatile
security definer
set search_path = ''
as $$
  update private.idempotency_keys k set result = p_result
  where k.user_id = p_user_id and k.scope = p_scope and k.key = p_key;
$$;
comment on function private.keep_idempotent_result(text, text, text, jsonb) is
  'Keeps where the answer of a claimed key is found.';
revoke all on function private.keep_idempotent_result(text, text, text, jsonb)
  from public, anon, authenticated, service_role;


create or replace function private.claim_idempotency_key(p_user_id uuid, p_scope text, p_key text, p_request jsonb)
returns jsonb
language sql
volatile
security definer
set search_path = ''
as $$
  select private.claim_idempotency_key(p_user_id::text, p_scope, p_key, p_request);
$$;
comment on function private.claim_idempotency_key(uuid, text, text, jsonb) is 'The same for a user of Auth.';


create or replace function private.keep_idempotent_result(p_user_id uuid, p_scope text, p_key text, p_result jsonb)
returns void
language sql
volatile
security definer
set search_path = ''
as $$
  select private.keep_idempotent_result(p_user_id::text, p_scope, p_key, p_result);
$$;
comment on function private.keep_idempotent_result(uuid, text, text, jsonb) is 'The same for a user of Auth.';

-- ---------------------------------------------------------------------------------------------------------------------
-- When a user of Auth is deleted, what belongs to them by text goes as well. Later modules extend the function.
-- ---------------------------------------------------------------------------------------------------------------------
create function private.erase_deleted_user() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  delete from private.idempotency_keys k where k.user_id = old.id::text;
  return null;
end;
$$;
comment on function private.erase_deleted_user() is
  'Deletes the rows of a deleted user that no foreign key ties to auth.users.';
revoke all on function private.erase_deleted_user() from public, anon, authenticated, service_role;

create trigger erase_deleted_user after delete on auth.users
  for each row execute function private.erase_deleted_user();
