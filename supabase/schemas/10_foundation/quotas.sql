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
