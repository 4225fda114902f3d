-- Idempotency keys: a request that is repeated does nothing twice.

create table private.idempotency_keys (
  user_id text not null,
  scope text not null,
  key text not null,
  request_hash bytea not null,
  result jsonb,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_pkey primary key (user_id, scope, key),
  -- 255 from a client, and the place of a conversation in an import.
  constraint idempotency_keys_key_check check (char_length(key) between 1 and 264)
);

create index idx_idempotency_keys_created_at on private.idempotency_keys (created_at);

comment on table private.idempotency_keys is
  'What a request with an Idempotency-Key did: a hash of the request and pointers to rows, never content. Good for 24 hours.';
comment on column private.idempotency_keys.user_id is
  'Whose request it was: the id of an auth user, or what else sessions.user_id may be.';
comment on column private.idempotency_keys.scope is
  'Method and path of the request, or name and target of the call: a key means something there only.';
comment on column private.idempotency_keys.result is 'Where to find the first answer: ids and sequence numbers.';

select private.close_table('private.idempotency_keys', '{created_at}');


create function private.claim_idempotency_key(p_user_id text, p_scope text, p_key text, p_request jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
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


create table private.repeatable_calls (
  name text not null,
  keeps jsonb not null default '{}',
  reader text,
  constraint repeatable_calls_pkey primary key (name)
);

comment on table private.repeatable_calls is
  'The functions that public.call_once calls. Each module adds its own. What takes p_idempotency_key itself is not among them.';
comment on column private.repeatable_calls.keeps is
  'What of the answer is kept for a replay, by its path there: {"deleted_count": "{deleted_count}"}. Never content.';
comment on column private.repeatable_calls.reader is
  'The function that reads the rest of a replayed answer, as it is by then. Its arguments are the call''s, and what is kept as p_….';

select private.close_table('private.repeatable_calls');


create function private.call_by_name(p_function regproc, p_arguments jsonb) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_call text;
  v_type regtype;
  v_answer jsonb;
begin
  select
    p.prorettype,
    format('select %s(%s)', p_function, string_agg(
      case
        when a.type = 'jsonb'::regtype then format('%I => $1 -> %L', a.name, a.name)
        else format('%I => ($1 ->> %L)::%s', a.name, a.name, a.type)
      end, ', ' order by a.n
    ) filter (where p_arguments ? a.name))
  into v_type, v_call
  from pg_catalog.pg_proc p
  cross join lateral unnest(p.proargnames, p.proargtypes::oid[]::regtype[]) with ordinality as a (name, type, n)
  where p.oid = p_function
  group by p.prorettype;
  if v_type = 'void'::regtype then
    execute v_call using p_arguments;
  else
    execute v_call into v_answer using p_arguments;
  end if;
  return v_answer;
end;
$$;
comment on routine private.call_by_name is
  'Calls a function, with the caller''s own rights, by what of the arguments it has a name for. Null for void.';
revoke all on routine private.call_by_name from public, anon, authenticated, service_role;
grant execute on routine private.call_by_name to authenticated, service_role;


create function private.claim_call(
  p_function text, p_arguments jsonb, p_key text, out scope text, out kept jsonb, out reader regproc, out owner_id text
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_call private.repeatable_calls;
begin
  owner_id := coalesce(
    private.session_caller_id(p_arguments ->> 'p_user_id'), '00000000-0000-0000-0000-000000000000'
  );
  select * into v_call from private.repeatable_calls c where c.name = p_function;
  if not found or jsonb_typeof(p_arguments) is distinct from 'object' then
    perform private.refuse('There is no such call, or its arguments are not an object.');
  elsif exists (
    select
    from jsonb_object_keys(p_arguments) k
    join pg_catalog.pg_proc p on p.oid = format('public.%I', p_function)::regproc
    where k <> all (p.proargnames)
  ) then
    perform private.refuse('The function has no argument of such a name.');
  elsif coalesce(char_length(p_key), 0) not between 1 and 264 then
    perform private.refuse('The key has not between 1 and 264 characters.');
  end if;
  -- The key would outlive a user who is being deleted.
  perform private.hold_owner(owner_id);
  scope := p_function || coalesce(
    ' /conversations/' || (p_arguments ->> 'p_conversation_id')::uuid || '/',
    ' ' || (p_arguments ->> 'p_session_id')::uuid,
    ' ' || left(p_arguments ->> 'p_collection', 256),
    -- A client's own words.
    ' ' || md5(p_arguments ->> 'p_response_id'),
    ''
  );
  kept := private.claim_idempotency_key(owner_id, scope, p_key, p_arguments - 'p_user_id');
  reader := v_call.reader::regproc;
end;
$$;
comment on routine private.claim_call is
  'Takes the key of a call for its caller. kept is null where the call is new; else what private.keep_call has kept, and reader '
  'reads the rest.';
revoke all on routine private.claim_call from public, anon, authenticated, service_role;
grant execute on routine private.claim_call to authenticated, service_role;


create function private.keep_call(p_function text, p_arguments jsonb, p_key text, p_answer jsonb) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_call record;
begin
  -- The key again, and not the caller's word for it: it is taken by this transaction, or this takes it and keeps nothing else.
  select * into v_call from private.claim_call(p_function, p_arguments, p_key);
  perform private.keep_idempotent_result(v_call.owner_id, v_call.scope, p_key, (
    select coalesce(jsonb_object_agg(k.key, p_answer #> k.value::text[]), '{}')
    from private.repeatable_calls c
    cross join lateral jsonb_each_text(c.keeps) k
    where c.name = p_function
  ));
end;
$$;
comment on routine private.keep_call is 'Keeps of the answer of a call what private.repeatable_calls says.';
revoke all on routine private.keep_call from public, anon, authenticated, service_role;
grant execute on routine private.keep_call to authenticated, service_role;


create function public.call_once(p_function text, p_arguments jsonb, p_idempotency_key text) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_known record;
  v_answer jsonb;
begin
  select * into v_known from private.claim_call(p_function, p_arguments, p_idempotency_key);
  if v_known.kept is null then
    v_answer := private.call_by_name(format('public.%I', p_function)::regproc, p_arguments);
    perform private.keep_call(p_function, p_arguments, p_idempotency_key, v_answer);
    return jsonb_build_object('answer', v_answer);
  end if;
  select nullif(coalesce(jsonb_object_agg(k.key, k.value), '{}'), '{}') into v_answer
  from jsonb_each(v_known.kept) k
  where not starts_with(k.key, 'p_');
  if v_known.reader is not null then
    v_answer := coalesce(v_answer, '{}') || private.call_by_name(v_known.reader, p_arguments || v_known.kept);
  end if;
  return jsonb_build_object('answer', v_answer, 'replayed', true);
end;
$$;
comment on routine public.call_once is
  'Calls a function that writes, by name and named arguments, once for a key within 24 hours: {answer}. A repeated key answers as '
  'the first time, with replayed: true. For those that have no p_idempotency_key of their own: PT400 invalid_request for any '
  'other. Raises PT409 idempotency_mismatch for other arguments, and what the function raises, which leaves the key free.';
revoke all on routine public.call_once from public, anon, authenticated, service_role;
grant execute on routine public.call_once to authenticated, service_role;


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
