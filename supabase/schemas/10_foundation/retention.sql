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
