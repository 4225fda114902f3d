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
