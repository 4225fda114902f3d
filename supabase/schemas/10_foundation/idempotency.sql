-- Idempotency keys: a request that is repeated does nothing twice.

create table private.idempotency_keys (
  user_id text not null,
  scope text not null,
  key text not null,
  request_hash bytea not null,
  result jsonb,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_pkey primary key (user_id, scope, key),
  constraint idempotency_keys_key_check check (char_length(key) between 1 and 255)
);

create index idx_idempotency_keys_created_at on private.idempotency_keys (created_at);

comment on table private.idempotency_keys is
  'What a request with an Idempotency-Key did: a hash of the request and pointers to rows, never content. Good for 24 hours.';
comment on column private.idempotency_keys.user_id is
  'Whose request it was: the id of an auth user, or what else sessions.user_id may be.';
comment on column private.idempotency_keys.scope is 'Method and path of the request: a key means something there only.';
comment on column private.idempotency_keys.result is 'Where to find the first answer: ids and sequence numbers.';

select private.close_table('private.idempotency_keys');


create function private.claim_idempotency_key(p_user_id text, p_scope text, p_key text, p_request jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_hash bytea := sha256(convert_to(p_request::text, 'UTF8'));
  v_known private.idempotency_keys;
begin
  if p_key is null then
    return null;
  end if;
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
comment on routine private.claim_idempotency_key is
  'Null if the request is new, and then the key is taken with the transaction, or has no key; else the result of the first '
  'one. Raises PT409 idempotency_mismatch if that had another body.';
revoke all on routine private.claim_idempotency_key from public, anon, authenticated, service_role;


create function private.keep_idempotent_result(p_user_id text, p_scope text, p_key text, p_result jsonb) returns void
language sql
security definer
set search_path = ''
as $$
  update private.idempotency_keys k set result = p_result
  where k.user_id = p_user_id and k.scope = p_scope and k.key = p_key;
$$;
comment on routine private.keep_idempotent_result is 'Keeps where the answer of a claimed key is found. Without a key it keeps nothing.';
revoke all on routine private.keep_idempotent_result from public, anon, authenticated, service_role;


create function private.retain_idempotency_keys(
  p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_piece record;
begin
  v_piece := private.remove_oldest(
    'private.idempotency_keys', 't.created_at < $3', private.retention_cutoff('idempotency_keys', p_now), 'created_at',
    'key', 5000
  );
  removed := jsonb_build_object('idempotency_keys', v_piece.removed);
  more := v_piece.more;
end;
$$;
comment on routine private.retain_idempotency_keys is 'Deletes up to 5,000 idempotency keys.';
revoke all on routine private.retain_idempotency_keys from public, anon, authenticated, service_role;
