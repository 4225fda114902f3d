-- Made from supabase/schemas/10_foundation by "npm run migration": change it there.

set check_function_bodies = off;

-- The schema private: what stands behind the API, and out of every client's reach.

create schema private;
comment on schema private is
  'Functions and tables behind the API. Not in the API''s exposed schemas; nothing in it trusts an argument.';
revoke all on schema private from public;
-- Invoker functions in public call definer functions in private, so their callers need the schema.
grant usage on schema private to authenticated, service_role;


create function private.sample_only(p_table regclass, p_columns text[]) returns void
language plpgsql
set search_path = ''
as $$
begin
  execute (
    select format('alter table %s ', p_table) || string_agg(
      format('alter column %I set statistics %s', a.attname, case when a.attname = any (p_columns) then -1 else 0 end), ', '
    )
    from pg_catalog.pg_attribute a
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
  );
end;
$$;
comment on routine private.sample_only is
  'ANALYZE copies values of a table to where no erasure reaches them: of these columns, and of no others. They are those that '
  'the database alone writes and that say nothing of a person.';
revoke all on routine private.sample_only from public, anon, authenticated, service_role;


create function private.close_table(p_table regclass, p_sampled text[] default '{}') returns void
language plpgsql
set search_path = ''
as $$
begin
  execute format('alter table %s enable row level security, force row level security', p_table);
  execute format('revoke all on %s from public, anon, authenticated, service_role', p_table);
  -- As closed without it; but then the advisors would take the table for one whose policies were forgotten.
  execute format('create policy "No client reaches this table" on %s for select to authenticated using (false)', p_table);
  perform private.sample_only(p_table, p_sampled);
end;
$$;
comment on routine private.close_table is
  'Closes a table to every client: no grant, and row level security, also for the owner, that shows nothing; with statistics '
  'of p_sampled alone.';
revoke all on routine private.close_table from public, anon, authenticated, service_role;

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

-- Columns by the catalogue: what concerns every column of a table takes them from there, and names only those it leaves out.

create function private.columns_of(p_table regclass, p_without text[] default '{}') returns text[]
language sql
stable
set search_path = ''
as $$
  select array_agg(a.attname::text order by a.attnum)
  from pg_catalog.pg_attribute a
  where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    and a.attname <> all (p_without)
$$;
comment on routine private.columns_of is 'The columns of a table that can be written, in their order, but for some.';
revoke all on routine private.columns_of from public, anon, authenticated, service_role;


create function private.insert_rows(p_table regclass, p_rows jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_columns text;
  v_values text;
begin
  select
    string_agg(format('%I', a.attname), ', '),
    string_agg(
      case
        when a.attnotnull and d.adbin is not null
          then format('coalesce(r.%I, %s)', a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
        else format('r.%I', a.attname)
      end,
      ', '
    )
  into v_columns, v_values
  from pg_catalog.pg_attribute a
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = p_table and a.attname = any (private.columns_of(p_table));
  execute format(
    'insert into %1$s (%2$s) select %3$s from pg_catalog.jsonb_populate_recordset(null::%1$s, $1) r',
    p_table, v_columns, v_values
  )
  using p_rows;
exception
  -- The error of a cast quotes the value, and Postgres logs it.
  when data_exception then
    perform private.refuse('A field has a value that is none of its type.');
end;
$$;
comment on routine private.insert_rows is
  'Inserts a JSON array of objects as rows: a column takes what the object has under its name. What is missing is null, or '
  'its default in a column that is never null. Checks nobody''s rights, and no value.';
revoke all on routine private.insert_rows from public, anon, authenticated, service_role;

-- Receipts of erasures. What erases is in each module, and in 90_users.

create table private.erasures (
  id uuid not null default gen_random_uuid(),
  scope text not null,
  user_id text,
  removed jsonb not null default '{}',
  error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint erasures_pkey primary key (id),
  constraint erasures_scope_check check (scope in ('conversations', 'user')),
  constraint erasures_user_id_check check ((user_id is null) = (scope = 'user' and finished_at is not null))
);

-- One at a time: a request that is repeated finds the first one.
create unique index idx_erasures_unfinished on private.erasures (user_id, scope) where finished_at is null;

create index idx_erasures_user_id on private.erasures (user_id) where user_id is not null;
create index idx_erasures_finished_at on private.erasures (finished_at) where finished_at is not null;

comment on table private.erasures is
  'What was asked to be erased, and how far that is: receipts, without content. Kept for 30 days after the end.';
comment on column private.erasures.scope is 'conversations: all of a user''s. user: everything that is stored of them.';
comment on column private.erasures.user_id is
  'Whose; null when everything of a user is erased: the receipt would be what is left of them.';
comment on column private.erasures.removed is 'How many rows of which table: {table: rows}.';
comment on column private.erasures.error is
  'The SQLSTATE with which the last step failed; null when it did not. The next run tries again.';

select private.close_table('private.erasures', '{scope, created_at, updated_at, finished_at}');

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

-- Scheduled work. pg_cron runs it where there is pg_cron, the local stack's scheduler where there is not; both read this
-- table.

create table private.scheduled_jobs (
  name text not null,
  schedule text not null,
  command text not null,
  constraint scheduled_jobs_pkey primary key (name)
);

comment on table private.scheduled_jobs is
  'What runs by itself, and when. After a change: select private.schedule_jobs();';
comment on column private.scheduled_jobs.schedule is 'In cron''s five fields, UTC.';
comment on column private.scheduled_jobs.command is
  'A do block that calls a step function until that answers false, and commits in between. A step is bounded, so that no '
  'lock is held for long; the block is what may commit: a procedure with a pinned search_path cannot.';

select private.close_table('private.scheduled_jobs');

do $$
begin
  if exists (select from pg_available_extensions where name = 'pg_cron')
    and not exists (select from pg_extension where extname = 'pg_cron')
  then
    create extension pg_cron with schema pg_catalog;
  end if;
end;
$$;


create function private.schedule_jobs() returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    raise notice 'pg_cron is not installed: nothing runs the jobs in private.scheduled_jobs. Install it, then: select private.schedule_jobs();';
    return;
  end if;
  -- Dynamic, because the function is made where there is no pg_cron, too. A name that is known is rescheduled.
  execute 'select cron.schedule(j.name, j.schedule, j.command) from private.scheduled_jobs j';
end;
$$;
comment on routine private.schedule_jobs is 'Hands the jobs to pg_cron, replacing those of the same name.';
revoke all on routine private.schedule_jobs from public, anon, authenticated, service_role;


create function private.schedule_job(p_name text, p_schedule text, p_step text) returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into private.scheduled_jobs (name, schedule, command)
  values (p_name, p_schedule, format('do $job$ begin loop exit when not %s; commit; end loop; end; $job$', p_step));
  perform private.schedule_jobs();
end;
$$;
comment on routine private.schedule_job is 'Adds a job that calls a step until that answers false.';
revoke all on routine private.schedule_job from public, anon, authenticated, service_role;


create function private.begin_step(p_step text) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  return clock_timestamp() <= statement_timestamp() + interval '60 seconds'
    and pg_try_advisory_xact_lock(hashtext(p_step));
end;
$$;
comment on routine private.begin_step is
  'Whether a step may begin: not when the job has run for a minute, nor beside another step of the same name.';
revoke all on routine private.begin_step from public, anon, authenticated, service_role;

-- What Postgres cannot store, as functions/_shared/json.ts writes it.

create function private.without_marks(p_text text) returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select case
    when strpos(p_text, U&'\FDD0') = 0 then p_text
    else regexp_replace(p_text, '\ufdd0(0000|d[89a-f][0-9a-f]{2}|fdd0)?', ' ', 'g')
  end;
$$;
comment on routine private.without_marks is
  'A text with a space for each NUL and each half of a surrogate pair, which stand there as U+FDD0 and four hex digits: for whoever '
  'looks for words in it.';
revoke all on routine private.without_marks from public, anon, authenticated, service_role;

-- Quotas: how much each user may do in a day (UTC). Off until one is set, and then nothing of this is in anybody's way:
-- private.set_quota makes the triggers and the hook that count, and drops them with the last quota (docs/decisions/0027).

create table private.quotas (
  user_id text not null,
  metric text not null,
  quota bigint not null,
  updated_at timestamptz not null default now(),
  constraint quotas_pkey primary key (user_id, metric),
  constraint quotas_user_id_check check (char_length(user_id) <= 256),
  constraint quotas_metric_check check (metric in ('requests', 'writes', 'bytes')),
  constraint quotas_quota_check check (quota >= 0)
);

comment on table private.quotas is
  'How much a user may do in a day, UTC. To change it: select private.set_quota(''writes'', 10000);';
comment on column private.quotas.user_id is 'Whose; empty: of everybody who has none of their own.';
comment on column private.quotas.metric is
  'requests: calls of the REST API, those that functions make for a user included. writes: rows that are added or changed. '
  'bytes: their size, before compression.';

select private.close_table('private.quotas');


create table private.quota_use (
  user_id text not null,
  day date not null,
  slot uuid not null default gen_random_uuid(),
  requests bigint not null default 0,
  writes bigint not null default 0,
  bytes bigint not null default 0,
  constraint quota_use_pkey primary key (user_id, day, slot)
)
-- Every count updates a row. Room on the page and no index on what moves keep that update HOT.
with (fillfactor = 50);

create index idx_quota_use_day on private.quota_use (day);

comment on table private.quota_use is
  'What users have used of their quotas: the sum over the slots. A count takes a slot that nobody holds, or adds one, so no two '
  'transactions wait for each other, and there are as many as have ever counted at once.';
comment on column private.quota_use.day is 'UTC. Days that are over are removed.';

select private.close_table('private.quota_use');


create table private.counted_tables (
  name text not null,
  owner text not null,
  changes text[] not null default '{}',
  condition text not null default 'true',
  constraint counted_tables_pkey primary key (name),
  constraint counted_tables_owner_check check (owner in ('user_id', 'owner_id'))
);

comment on table private.counted_tables is 'Where users write. Each module adds its own, by private.count_writes_to.';
comment on column private.counted_tables.owner is 'The column that says whose a row is.';
comment on column private.counted_tables.changes is
  'The columns that users change. What the database moves along, such as counters, is none of them.';
comment on column private.counted_tables.condition is 'In SQL, of the changed row: no write of a user''s without it.';

select private.close_table('private.counted_tables');


create function private.refuse_quota(p_metric text, p_quota bigint, p_now timestamptz) returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  v_until timestamptz := (date_trunc('day', p_now at time zone 'UTC') + interval '1 day') at time zone 'UTC';
begin
  -- PostgREST takes a header of an error from nowhere else:
  -- https://docs.postgrest.org/en/stable/references/errors.html#raise-errors-with-http-status-codes
  raise sqlstate 'PGRST' using
    message = json_build_object(
      'code', 'PT429',
      'message', 'quota_exceeded',
      'details', jsonb_build_array(jsonb_build_object(
        'path', '',
        'message', format(
          'No more than %s %s a day, until %s.',
          p_quota, p_metric, to_char(v_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        ),
        'limit', p_metric
      ))::text,
      'hint', null
    ),
    detail = json_build_object(
      'status', 429,
      'headers', json_build_object('retry-after', ceil(extract(epoch from v_until - p_now))::text)
    );
end;
$$;
comment on routine private.refuse_quota is
  'Raises PT429 quota_exceeded, with which quota in its details and retry-after: the seconds until the day ends.';
revoke all on routine private.refuse_quota from public, anon, authenticated, service_role;


create function private.quotas_of(p_user_id text) returns bigint[]
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  -- The user's own are after everybody's, whose id is empty.
  return (
    select array[
      (array_agg(q.quota order by q.user_id desc) filter (where q.metric = 'requests'))[1],
      (array_agg(q.quota order by q.user_id desc) filter (where q.metric = 'writes'))[1],
      (array_agg(q.quota order by q.user_id desc) filter (where q.metric = 'bytes'))[1]
    ]
    from private.quotas q
    where q.user_id in ('', p_user_id)
  );
end;
$$;
comment on routine private.quotas_of is 'A user''s quotas: requests, writes, bytes; null where there is none.';
revoke all on routine private.quotas_of from public, anon, authenticated, service_role;


create function private.used_on(p_user_id text, p_day date) returns bigint[]
language plpgsql
-- volatile: who has waited for others has to see what they counted.
security definer
set search_path = ''
as $$
begin
  return (
    select array[coalesce(sum(u.requests), 0), coalesce(sum(u.writes), 0), coalesce(sum(u.bytes), 0)]::bigint[]
    from private.quota_use u
    where u.user_id = p_user_id and u.day = p_day
  );
end;
$$;
comment on routine private.used_on is 'What a user has used in a day: requests, writes, bytes.';
revoke all on routine private.used_on from public, anon, authenticated, service_role;


create function private.add_use(p_user_id text, p_day date, p_used bigint[]) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  update private.quota_use u set
    requests = u.requests + p_used[1], writes = u.writes + p_used[2], bytes = u.bytes + p_used[3]
  where u.user_id = p_user_id and u.day = p_day and u.slot = (
    select s.slot from private.quota_use s
    where s.user_id = p_user_id and s.day = p_day
    order by s.slot
    limit 1
    for no key update skip locked
  );
  return found;
end;
$$;
comment on routine private.add_use is 'Adds to a slot of the user''s that nobody holds. False: there is none.';
revoke all on routine private.add_use from public, anon, authenticated, service_role;


create function private.use_quota(p_user_id text, p_used bigint[], p_now timestamptz default now()) returns void
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1s'
as $$
declare
  c_metrics constant text[] := '{requests,writes,bytes}';
  -- What others have added and not committed is not seen. Without the lock nobody adds more than a 640th of what is left, so 32
  -- of them are a twentieth over at the most.
  c_share constant integer := 640;
  v_day constant date := (p_now at time zone 'UTC')::date;
  v_quotas constant bigint[] := private.quotas_of(p_user_id);
  v_used bigint[];
begin
  -- The backend's own documents are nobody's.
  if p_user_id = '00000000-0000-0000-0000-000000000000'
    or not exists (select from unnest(v_quotas, p_used) as t (quota, added) where t.added > 0 and t.quota is not null)
  then
    return;
  end if;
  for v_pass in 1 .. 2 loop
    v_used := private.used_on(p_user_id, v_day);
    for i in 1 .. 3 loop
      if p_used[i] > 0 and v_used[i] + p_used[i] > v_quotas[i] then
        perform private.refuse_quota(c_metrics[i], v_quotas[i], p_now);
      end if;
    end loop;
    exit when v_pass = 2 or not exists (
      select from unnest(v_quotas, v_used, p_used) as t (quota, used, added)
      where t.added > 0 and t.used + c_share * t.added > t.quota
    );
    -- Near the end one after the other, each of which sees all that was counted.
    perform pg_advisory_xact_lock(hashtextextended('quota ' || p_user_id, 0));
  end loop;
  if not private.add_use(p_user_id, v_day, p_used) then
    perform private.hold_owner(p_user_id);
    insert into private.quota_use (user_id, day, requests, writes, bytes)
    values (p_user_id, v_day, p_used[1], p_used[2], p_used[3]);
  end if;
end;
$$;
comment on routine private.use_quota is
  'Counts requests, writes and bytes of a user''s in the caller''s transaction. Raises PT429 quota_exceeded for more than there is, '
  'and 55P03 where the user''s other requests take long to get theirs. p_now is there for tests.';
revoke all on routine private.use_quota from public, anon, authenticated, service_role;


create function private.count_writes() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_user_id text;
  v_writes bigint;
  v_bytes bigint;
begin
  -- Jobs, and sessions of the database's own, have no quota.
  if private.caller_role() is null then
    return null;
  end if;
  -- Either column is in some tables only: an expression that is not reached is not planned.
  if tg_level = 'ROW' then
    if tg_argv[0] = 'owner_id' then
      v_user_id := new.owner_id;
    else
      v_user_id := new.user_id;
    end if;
    perform private.use_quota(v_user_id, array[0, 1, pg_column_size(new)]);
  elsif tg_argv[0] = 'owner_id' then
    for v_user_id, v_writes, v_bytes in
      select w.owner_id, count(*), sum(pg_column_size(w)) from written w group by w.owner_id order by w.owner_id
    loop
      perform private.use_quota(v_user_id, array[0, v_writes, v_bytes]);
    end loop;
  else
    for v_user_id, v_writes, v_bytes in
      select w.user_id, count(*), sum(pg_column_size(w)) from written w group by w.user_id order by w.user_id
    loop
      perform private.use_quota(v_user_id, array[0, v_writes, v_bytes]);
    end loop;
  end if;
  return null;
end;
$$;
comment on routine private.count_writes is
  'Counts rows that an API request has added or changed, for their owners. The argument is the column that names them.';
revoke all on routine private.count_writes from public, anon, authenticated, service_role;


create function private.count_request() returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_readers constant integer := 100;
  v_role constant text := private.caller_role();
  v_user_id constant text := private.session_user_id(case v_role
    when 'authenticated' then nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    when 'service_role' then nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-user-id'
  end);
  v_day constant date := (now() at time zone 'UTC')::date;
  v_quota bigint;
  v_reads jsonb;
  v_key text;
  v_count bigint;
begin
  if v_user_id is null then
    return;
  end if;
  -- {"2026-01-31 authenticated <user>": 3}: what this connection has read in transactions that may write nothing, not even this.
  v_reads := coalesce(nullif(current_setting('threadbase.reads', true), ''), '{}');
  if current_setting('transaction_read_only')::boolean then
    v_quota := (private.quotas_of(v_user_id))[1];
    if v_quota is null then
      return;
    end if;
    v_key := concat_ws(' ', v_day, v_role, v_user_id);
    v_count := coalesce((v_reads ->> v_key)::bigint, 0) + 1;
    if (private.used_on(v_user_id, v_day))[1] + v_count > v_quota then
      perform private.refuse_quota('requests', v_quota, now());
    end if;
    if v_reads ? v_key or (select count(*) from jsonb_object_keys(v_reads)) < c_readers then
      perform set_config('threadbase.reads', (v_reads || jsonb_build_object(v_key, v_count))::text, false);
    end if;
    return;
  end if;
  if v_reads <> '{}' then
    perform private.count_reads(v_reads);
    perform set_config('threadbase.reads', '', false);
  end if;
  perform private.use_quota(v_user_id, '{1,0,0}');
end;
$$;
comment on routine private.count_request is
  'Counts a request of the REST API for the user of its token, or whom x-user-id names beside the secret key. PostgREST calls '
  'it before each (pgrst.db_pre_request), in the request''s transaction. One that may only read is counted with the next one of '
  'its connection that may write. Raises PT429 quota_exceeded.';
revoke all on routine private.count_request from public, anon, authenticated, service_role;


create function private.count_reads(p_reads jsonb) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_read record;
begin
  for v_read in
    select split_part(r.key, ' ', 1)::date as day, split_part(r.key, ' ', 2) as role,
      substr(r.key, length(split_part(r.key, ' ', 1)) + length(split_part(r.key, ' ', 2)) + 3) as user_id, r.value::bigint as count
    from jsonb_each_text(p_reads) r
    where split_part(r.key, ' ', 1)::date >= (now() at time zone 'UTC')::date
  loop
    continue when private.add_use(v_read.user_id, v_read.day, array[v_read.count, 0, 0]);
    -- Nothing is kept of a user who has been deleted meanwhile, or is being (see private.hold_owner, which would wait for that).
    if pg_try_advisory_xact_lock_shared(hashtextextended('session owner ' || v_read.user_id, 0))
      and (v_read.role <> 'authenticated' or exists (select from auth.users u where u.id = v_read.user_id::uuid))
    then
      insert into private.quota_use (user_id, day, requests) values (v_read.user_id, v_read.day, v_read.count);
    end if;
  end loop;
end;
$$;
comment on routine private.count_reads is 'Counts what private.count_request has noted of requests that only read.';
revoke all on routine private.count_reads from public, anon, authenticated, service_role;


create function private.install_quotas() returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_hook constant text := 'private.count_request';
  v_counts_requests constant boolean := exists (select from private.quotas q where q.metric = 'requests');
  v_counts_writes constant boolean := exists (select from private.quotas q where q.metric in ('writes', 'bytes'));
  v_table private.counted_tables;
  v_is_counted boolean;
  v_hook text;
begin
  for v_table in select * from private.counted_tables t order by t.name loop
    v_is_counted := exists (
      select from pg_catalog.pg_trigger t where t.tgrelid = v_table.name::regclass and t.tgname = 'count_writes'
    );
    if v_counts_writes and not v_is_counted then
      execute format(
        'create trigger count_writes after insert on %s referencing new table as written '
        'for each statement execute function private.count_writes(%L)',
        v_table.name, v_table.owner
      );
      if v_table.changes <> '{}' then
        execute format(
          'create trigger count_changes after update of %s on %s for each row when (%s) '
          'execute function private.count_writes(%L)',
          array_to_string(v_table.changes, ', '), v_table.name, v_table.condition, v_table.owner
        );
      end if;
    elsif v_is_counted and not v_counts_writes then
      execute format('drop trigger count_writes on %s', v_table.name);
      execute format('drop trigger if exists count_changes on %s', v_table.name);
    end if;
  end loop;

  select split_part(c.setting, '=', 2) into v_hook
  from pg_catalog.pg_db_role_setting s
  cross join lateral unnest(s.setconfig) as c (setting)
  where s.setrole = to_regrole('authenticator')
    and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))
    and c.setting like 'pgrst.db_pre_request=%'
  order by s.setdatabase desc
  limit 1;
  v_hook := coalesce(v_hook, '');
  if v_counts_requests then
    if v_hook not in ('', c_hook) and not exists (
      select from pg_catalog.pg_proc p where p.oid = to_regproc(v_hook) and p.prosrc ~ 'private\.count_request\s*\('
    ) then
      raise sqlstate 'PT409' using
        message = 'conflict',
        detail = format('PostgREST calls %s before each request, and can call only one function.', v_hook),
        hint = 'Have that one call private.count_request() first, then set the quota again.';
    end if;
    grant usage on schema private to anon;
    grant execute on routine private.count_request to anon, authenticated, service_role;
    if v_hook = '' then
      execute format('alter role authenticator in database %I set pgrst.db_pre_request = %L', current_database(), c_hook);
      perform pg_notify('pgrst', 'reload config');
    end if;
  elsif has_function_privilege('anon', 'private.count_request()', 'execute') then
    if v_hook = c_hook then
      execute format('alter role authenticator in database %I reset pgrst.db_pre_request', current_database());
      perform pg_notify('pgrst', 'reload config');
    end if;
    revoke execute on routine private.count_request from anon, authenticated, service_role;
    revoke usage on schema private from anon;
  end if;
end;
$$;
comment on routine private.install_quotas is
  'Has counted what there are quotas of, and nothing else. PostgREST calls its hook as whoever makes the request, so all of them '
  'get the right to, while there is a quota of requests: it tells them nothing, and does nothing for anon.';
revoke all on routine private.install_quotas from public, anon, authenticated, service_role;


create function private.set_quota(p_metric text, p_quota bigint, p_user_id text default null) returns void
language plpgsql
security definer
set search_path = ''
-- Where others write for that long, it is they who go first.
set lock_timeout = '500ms'
as $$
declare
  v_user_id constant text := coalesce(private.session_user_id(p_user_id), '');
begin
  lock table private.quotas in share row exclusive mode;
  if p_metric is null or p_metric not in ('requests', 'writes', 'bytes') then
    perform private.refuse('There is no such quota: requests, writes, bytes.');
  elsif p_quota < 0 or p_user_id = '' or char_length(p_user_id) > 256 then
    perform private.refuse('A quota is 0 or more, and of a user whose id has 1 to 256 characters, or of everybody.');
  elsif p_quota is null then
    delete from private.quotas q where q.user_id = v_user_id and q.metric = p_metric;
  else
    insert into private.quotas (user_id, metric, quota) values (v_user_id, p_metric, p_quota)
    on conflict (user_id, metric) do update set quota = excluded.quota, updated_at = now();
  end if;
  perform private.install_quotas();
end;
$$;
comment on routine private.set_quota is
  'Says how much a user may do in a day, UTC; null: there is no quota. For the owner of the database, in SQL: '
  'select private.set_quota(''writes'', 10000); for everybody, '
  'select private.set_quota(''writes'', 50000, ''<user id>''); for one user. Metrics are those of private.quotas. '
  'Raises PT400 invalid_request; PT409 conflict where the project has a pgrst.db_pre_request of its own; 55P03 where a table is '
  'in use for long: try again.';
revoke all on routine private.set_quota from public, anon, authenticated, service_role;


create function private.count_writes_to(p_table text, p_owner text, p_changes text[] default '{}', p_condition text default 'true')
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into private.counted_tables (name, owner, changes, condition) values (p_table, p_owner, p_changes, p_condition);
  perform private.install_quotas();
end;
$$;
comment on routine private.count_writes_to is
  'Counts what users write to a table, while there are quotas. For migrations. See private.counted_tables.';
revoke all on routine private.count_writes_to from public, anon, authenticated, service_role;


create function private.quota_use_step(p_now timestamptz default now()) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  if not private.begin_step('private.quota_use_step') then
    return false;
  end if;
  delete from private.quota_use u
  where u.ctid = any (array(
    select u.ctid from private.quota_use u
    where u.day < (p_now at time zone 'UTC')::date
    limit 1000
    for update skip locked
  ));
  return found;
end;
$$;
comment on routine private.quota_use_step is 'Removes counts of days that are over. True while there may be more. p_now is there for tests.';
revoke all on routine private.quota_use_step from public, anon, authenticated, service_role;

select private.schedule_job('threadbase-quotas', '7 * * * *', 'private.quota_use_step()');

-- What every request may need: refusals, and the checks that many share.

create function public.health() returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('status', 'ok');
$$;
comment on routine public.health is 'Answers when the database does. For GET /<function>/health.';
revoke all on routine public.health from public, anon, authenticated, service_role;
grant execute on routine public.health to service_role;


create function private.refuse(p_detail text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  raise sqlstate 'PT400' using message = 'invalid_request', detail = p_detail;
end;
$$;
comment on routine private.refuse is 'Raises PT400 invalid_request and says what is wrong.';
revoke all on routine private.refuse from public, anon, authenticated, service_role;
grant execute on routine private.refuse to authenticated, service_role;


create function private.refuse_row(p_table text, p_broken text[]) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  raise check_violation using
    message = format('%s of %s %s.', p_broken[1], p_table, p_broken[2]),
    schema = 'public', table = p_table, constraint = format('%s_%s_check', p_table, p_broken[1]);
end;
$$;
comment on routine private.refuse_row is
  'Raises 23514 as a check of the broken rule, {name, what is wrong}, by itself would, without quoting a value. For the one '
  'check of a table (docs/decisions/0023).';
revoke all on routine private.refuse_row from public, anon, authenticated, service_role;
grant execute on routine private.refuse_row to authenticated, service_role;


create function private.to_time(p_name text, p_value text) returns timestamptz
language plpgsql
stable
strict
set search_path = ''
as $$
begin
  return p_value::timestamptz;
exception
  when data_exception then
    perform private.refuse(p_name || ' is no time.');
end;
$$;


create function private.to_uuid(p_name text, p_value text) returns uuid
language plpgsql
immutable
strict
set search_path = ''
as $$
begin
  return p_value::uuid;
exception
  when data_exception then
    perform private.refuse(p_name || ' is no UUID.');
end;
$$;
comment on routine private.to_time is
  'A text of the caller''s as a time. Raises PT400 invalid_request: the error of a cast quotes the text, and Postgres logs it.';
comment on routine private.to_uuid is 'A text of the caller''s as a UUID, as private.to_time does it.';
revoke all on routine private.to_time, private.to_uuid from public, anon, authenticated, service_role;
grant execute on routine private.to_time, private.to_uuid to authenticated, service_role;


create function private.refuse_part(p_name text, p_message text, p_limit text default null) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  raise sqlstate 'PT400' using
    message = 'invalid_request',
    -- A name that is a megabyte long helps nobody.
    detail = jsonb_build_array(jsonb_strip_nulls(
      jsonb_build_object('path', left(p_name, 300), 'message', p_message, 'limit', p_limit)
    ))::text;
end;
$$;
comment on routine private.refuse_part is
  'Raises PT400 invalid_request for one part of a request. The detail is the JSON of what zod''s refusals say, '
  '[{path, message}], with the name that a limit has in docs/limits.md.';
revoke all on routine private.refuse_part from public, anon, authenticated, service_role;
grant execute on routine private.refuse_part to authenticated, service_role;


create function private.require_limit(p_limit integer) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    perform private.refuse('limit is not between 1 and 1000.');
  end if;
end;
$$;
comment on routine private.require_limit is 'Raises PT400 invalid_request unless a page size is 1 to 1,000.';
revoke all on routine private.require_limit from public, anon, authenticated, service_role;
grant execute on routine private.require_limit to authenticated, service_role;


create function private.read_page(p_rows refcursor, p_limit integer) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies; a row may have 4 MiB.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_row jsonb;
  v_rows jsonb[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
begin
  loop
    fetch p_rows into v_row;
    exit when not found;
    v_bytes := v_bytes + octet_length(v_row::text);
    v_has_more := coalesce(cardinality(v_rows) = p_limit, false) or v_bytes > c_max_bytes and cardinality(v_rows) > 0;
    exit when v_has_more;
    v_rows := array_append(v_rows, v_row);
  end loop;
  close p_rows;
  return jsonb_build_object('data', to_jsonb(v_rows), 'has_more', v_has_more);
end;
$$;
comment on routine private.read_page is
  'The first p_limit rows (null: all) of a cursor, each one jsonb, as a page: {data, has_more}. A page that is full of bytes '
  'ends early, after one row at the least. The cursor has one row more than the page, to know whether there is more.';
revoke all on routine private.read_page from public, anon, authenticated, service_role;
grant execute on routine private.read_page to authenticated, service_role;


create function private.require_metadata(p_metadata jsonb) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if jsonb_typeof(p_metadata) <> 'object' or octet_length(p_metadata::text) > 65536 then
    perform private.refuse('metadata is not an object, or larger than 64 KiB as Postgres prints it.');
  end if;
end;
$$;
comment on routine private.require_metadata is
  'The rule of metadata in a row''s check as an error that says so: PT400 invalid_request.';
revoke all on routine private.require_metadata from public, anon, authenticated, service_role;
grant execute on routine private.require_metadata to authenticated, service_role;


create function private.wait_for_row(p_table regclass, p_id uuid, p_user_id text) returns void
language plpgsql
security definer
set search_path = ''
-- Many writers of a moment each get their turn in this time.
set lock_timeout = '1s'
as $$
declare
  c_lock constant text := format(
    'select from %s t where t.id = $1 and t.user_id::text = coalesce($2, t.user_id::text) for no key update', p_table
  );
  c_key constant bigint := hashtextextended(format('waits for %s %s %s', p_table, p_id, p_user_id), 0);
begin
  -- A session of the database's own has settings of its own.
  if private.caller_role() is null then
    return;
  end if;
  -- A look, not a lock: in one expression, which nothing interrupts between the two.
  if not (pg_try_advisory_lock_shared(c_key) and pg_advisory_unlock_shared(c_key)) then
    raise lock_not_available using message = 'Somebody has waited for this row for long already.';
  end if;
  begin
    execute c_lock using p_id, p_user_id;
  exception
    when lock_not_available then
      -- One waits on. While it does, nobody else waits at all.
      if not pg_try_advisory_xact_lock(c_key) then
        raise;
      end if;
      execute c_lock using p_id, p_user_id;
  end;
end;
$$;
comment on routine private.wait_for_row is
  'Locks a row that another request holds, if it is p_user_id''s (null: anybody''s). A connection that waits is one that nobody '
  'else has: all wait for a second, one of them a second longer, and meanwhile those that come are refused at once, with 55P03. '
  'For whoever has tried "for no key update skip locked" in vain: what is free costs nothing more.';
revoke all on routine private.wait_for_row from public, anon, authenticated, service_role;


create function private.take_turn(p_user_id text) returns void
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1s'
as $$
declare
  -- PostgREST has ten connections: however many requests one user sends, others have four of them.
  c_turns constant integer := 3;
  c_waiting constant integer := 3;
  c_key constant text := '%s of ' || p_user_id || ' %s';
begin
  -- Jobs and sessions of the database's own take none, nor does a backend that acts for nobody.
  if private.caller_role() is null or coalesce(p_user_id, '') in ('', '00000000-0000-0000-0000-000000000000') then
    return;
  end if;
  for i in 1 .. c_turns loop
    if pg_try_advisory_xact_lock(hashtextextended(format(c_key, 'turn', i), 0)) then
      return;
    end if;
  end loop;
  for i in 1 .. c_waiting loop
    if pg_try_advisory_xact_lock(hashtextextended(format(c_key, 'waits for a turn', i), 0)) then
      perform pg_advisory_xact_lock(hashtextextended(format(c_key, 'turn', i), 0));
      return;
    end if;
  end loop;
  raise lock_not_available;
exception
  when lock_not_available then
    raise sqlstate 'PT429' using message = 'user_busy';
end;
$$;
comment on routine private.take_turn is
  'For what is large, until the transaction ends: three requests of a user are worked on at a time, three wait for a second, and the '
  'others are refused at once. Raises PT429 user_busy. What is small does not ask.';
revoke all on routine private.take_turn from public, anon, authenticated, service_role;


create function private.require_contained(p_contained jsonb, p_name text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- The size first: to count takes memory.
  if octet_length(p_contained::text) > 65536
    or jsonb_array_length(jsonb_path_query_array(p_contained, 'strict $.**.type()')) > 32
  then
    perform private.refuse_part(p_name, 'Has more than 32 values, or more than 64 KiB.', 'contained_values');
  end if;
end;
$$;
comment on routine private.require_contained is
  'Raises PT400 invalid_request for more than what "contains" may ask for: each value is compared with every one of an array.';
revoke all on routine private.require_contained from public, anon, authenticated, service_role;
grant execute on routine private.require_contained to authenticated, service_role;

-- Retention: how long each kind of data is kept, and the record of what went. What removes is in the modules whose data it is,
-- and the job in 80_retention.

create table private.retention_policies (
  kind text not null,
  -- Of documents alone.
  collection text collate "C" not null default '',
  keep interval,
  updated_at timestamptz not null default now(),
  constraint retention_policies_pkey primary key (kind, collection),
  constraint retention_policies_kind_check check (
    kind in (
      'conversations', 'sessions', 'event_logs', 'conversation_states', 'documents', 'idempotency_keys', 'job_run_details',
      'retention_runs'
    )
  ),
  constraint retention_policies_collection_check check (
    case kind when 'documents' then collection ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$' else collection = '' end
  ),
  -- "1 month -29 days" is positive, and three days before March it is in the future: every part for itself.
  constraint retention_policies_keep_check check (
    keep > interval '0' and keep <= interval '1000 years'
    and least(
      extract(year from keep), extract(month from keep), extract(day from keep), extract(hour from keep),
      extract(minute from keep), extract(second from keep)
    ) >= 0
  )
);

comment on table private.retention_policies is
  'How long each kind of data is kept. To change it: select private.set_retention_policy(''conversations'', ''1 year'');';
comment on column private.retention_policies.collection is
  'The collection, of kind documents. One without a policy is kept; empty for every other kind.';
comment on column private.retention_policies.keep is 'Since the last activity, or the creation, of a row; null: for ever.';

select private.close_table('private.retention_policies');

insert into private.retention_policies (kind, keep) values ('idempotency_keys', '24 hours');


create function private.set_retention_policy(p_kind text, p_keep interval, p_collection text default null) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_constraint text;
begin
  insert into private.retention_policies (kind, collection, keep)
  values (p_kind, coalesce(p_collection, ''), p_keep)
  on conflict (kind, collection) do update set keep = excluded.keep, updated_at = now();
  if to_regprocedure(format('private.retain_%s(timestamptz, jsonb)', p_kind)) is null then
    raise check_violation; -- the kind of a module that is not installed
  end if;
exception
  when check_violation or not_null_violation then
    get stacked diagnostics v_constraint = constraint_name;
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = case v_constraint
        when 'retention_policies_keep_check' then 'The time to keep is not between 0 and 1000 years, in all its parts.'
        when 'retention_policies_collection_check' then 'Documents have a policy for each collection, other kinds have none.'
        else 'There is no such kind.'
      end,
      hint = 'See private.get_retention_policies() for the kinds.';
end;
$$;
comment on routine private.set_retention_policy is
  'Says how long a kind of data is kept; null: for ever. For the owner of the database, in SQL: '
  'select private.set_retention_policy(''conversations'', ''1 year''); '
  'select private.set_retention_policy(''documents'', ''30 days'', ''traces''); '
  'Kinds are those of private.retention_policies. Raises PT400 invalid_request.';
revoke all on routine private.set_retention_policy from public, anon, authenticated, service_role;


create function private.retention_cutoff(p_kind text, p_now timestamptz) returns timestamptz
language sql
stable
security definer
set search_path = ''
as $$
  select p_now - p.keep from private.retention_policies p where p.kind = p_kind and p.collection = '';
$$;
comment on routine private.retention_cutoff is 'What is older has to go; null where the kind is kept.';
revoke all on routine private.retention_cutoff from public, anon, authenticated, service_role;


create table private.retention_runs (
  id bigint generated always as identity,
  started_at timestamptz not null,
  last_step_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  complete boolean not null default false,
  steps integer not null default 0,
  last_step_ms integer not null default 0,
  longest_step_ms integer not null default 0,
  removed jsonb not null default '{}',
  errors jsonb not null default '[]',
  kinds_left text[] not null,
  positions jsonb not null default '{}',
  constraint retention_runs_pkey primary key (id),
  -- The time of the statement that is the run: by it each step finds its run.
  constraint retention_runs_started_at_key unique (started_at),
  constraint retention_runs_removed_check check (jsonb_typeof(removed) = 'object'),
  constraint retention_runs_errors_check check (jsonb_typeof(errors) = 'array')
);

comment on table private.retention_runs is 'The runs of the job threadbase-retention: what each removed, without content.';
comment on column private.retention_runs.finished_at is 'Null while it runs, and for ever where it was killed.';
comment on column private.retention_runs.complete is 'False: its time was up, and the next run goes on.';
comment on column private.retention_runs.longest_step_ms is 'How long it held locks at the most.';
comment on column private.retention_runs.removed is 'How many rows of each table went: {"conversations": 12}.';
comment on column private.retention_runs.errors is
  'Kinds that failed, and so were left to the next run: [{kind, sqlstate, constraint}]. Never a message, which may quote rows.';
comment on column private.retention_runs.kinds_left is 'What is still to be looked through, in order.';
comment on column private.retention_runs.positions is
  'How far it has come in each kind: what it has passed and kept is not read again by the same run.';

select private.close_table('private.retention_runs');


create function private.retention_is_running() returns boolean
language sql
stable
security definer
set search_path = ''
as $$
  select exists (
    select from private.retention_runs r
    where r.finished_at is null and r.last_step_at > clock_timestamp() - interval '5 seconds'
  );
$$;
comment on routine private.retention_is_running is
  'Whether there is a run that has made a step within five seconds. One that was killed is none.';
revoke all on routine private.retention_is_running from public, anon, authenticated, service_role;


create function private.add_counts(p_counts jsonb, p_more jsonb) returns jsonb
language sql
immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(s.key, s.total), '{}')
  from (
    select c.key, sum(c.value::bigint) as total
    from (select * from jsonb_each_text(p_counts) union all select * from jsonb_each_text(p_more)) c
    group by c.key
    having sum(c.value::bigint) > 0
  ) s;
$$;
comment on routine private.add_counts is 'The sum of two {table: count}, without those that are 0.';
revoke all on routine private.add_counts from public, anon, authenticated, service_role;


create function private.remove_oldest(
  p_table regclass, p_condition text, p_before timestamptz, p_order name, p_content name, p_limit integer,
  out removed integer, out more boolean
)
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- What is stored aside is removed in chunks of 2 kB: this is 32,000 of them, and takes about as long as 10,000 rows.
  c_bytes constant bigint := 64 * 1024 * 1024;
begin
  execute format(
    $query$
      with oldest as (
        select t.ctid as row_id, pg_column_size(t.%4$I) as bytes
        from %1$s t
        where %2$s
        order by t.%3$I
        limit $1
        for update skip locked
      ),
      piece as (
        select o.*, sum(o.bytes) over (rows unbounded preceding) - o.bytes as before from oldest o
      ),
      deleted as (
        delete from %1$s t using piece p where t.ctid = p.row_id and p.before < $2 returning 1
      )
      select count(*), count(*) = $1 or coalesce((select max(p.before) >= $2 from piece p), false) from deleted
    $query$,
    p_table, p_condition, p_order, p_content
  )
  into removed, more using p_limit, c_bytes, p_before;
end;
$$;
comment on routine private.remove_oldest is
  'Removes the first rows of a table by p_order that meet a condition in SQL, where $3 is p_before: at most p_limit, and no '
  'more after 64 MiB of p_content. It waits for nobody. more: there may be more of them. No client has a part in p_condition.';
revoke all on routine private.remove_oldest from public, anon, authenticated, service_role;

reset check_function_bodies;
