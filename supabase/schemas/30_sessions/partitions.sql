-- A partition of event_logs for every month, made ahead. An event never waits for one: the default partition takes it.

create function private.make_event_partition(p_month timestamptz) returns void
language plpgsql
security definer
set search_path = ''
-- What waits longer than this goes back to the end of the queue: everybody who writes would wait behind it.
set lock_timeout = '200ms'
set timezone = 'UTC'
as $$
declare
  v_from timestamptz := date_trunc('month', p_month);
  v_to timestamptz := v_from + interval '1 month';
  v_leaf text := format('event_logs_%s', to_char(v_from, 'YYYY_MM'));
begin
  -- In the order in which append_events takes them, so that the two cannot wait for each other. A plain insert takes them in
  -- the other order: there, lock_timeout ends it.
  lock table public.sessions in share row exclusive mode;
  lock table private.event_logs_default in access exclusive mode;

  execute format('create table private.%I (like public.event_logs including defaults including constraints)', v_leaf);
  -- Saves ATTACH a look at every row.
  execute format(
    'alter table private.%I add constraint %I check (created_at >= %L and created_at < %L)',
    v_leaf, v_leaf || '_created_at_check', v_from, v_to
  );
  execute format(
    'with moved as (delete from private.event_logs_default where created_at >= %L and created_at < %L returning *)
     insert into private.%I select * from moved',
    v_from, v_to, v_leaf
  );
  execute format('alter table public.event_logs attach partition private.%I for values from (%L) to (%L)', v_leaf, v_from, v_to);
  execute format('alter table private.%I drop constraint %I', v_leaf, v_leaf || '_created_at_check');

  perform private.close_table(format('private.%I', v_leaf)::regclass, '{sequence, created_at}');
  execute format('comment on table private.%I is %L', v_leaf, 'Events of ' || to_char(v_from, 'YYYY-MM') || ' (UTC).');
end;
$$;
comment on routine private.make_event_partition is
  'Makes the partition of a month (UTC), and moves there what the default partition took in its stead.';
revoke all on routine private.make_event_partition from public, anon, authenticated, service_role;


create function private.event_partition_step(p_now timestamptz default now()) returns boolean
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  c_months_ahead constant integer := 3;
  -- Nobody can write while they move: about 200 ms.
  c_max_moved constant bigint := 20000;
  v_months timestamptz[];
  v_waiting bigint[];
begin
  if not private.begin_step('private.event_partition_step') then
    return false;
  end if;

  select array_agg(month order by month), array_agg(coalesce(d.waiting, 0) order by month) into v_months, v_waiting
  from generate_series(
    date_trunc('month', p_now), date_trunc('month', p_now) + c_months_ahead * interval '1 month', interval '1 month'
  ) as m (month)
  full join (
    select date_trunc('month', e.created_at) as month, count(*) as waiting
    from private.event_logs_default e
    group by 1
  ) d using (month)
  where to_regclass(format('private.event_logs_%s', to_char(month, 'YYYY_MM'))) is null;

  for i in 1 .. coalesce(cardinality(v_months), 0) loop
    if v_waiting[i] <= c_max_moved then
      perform private.make_event_partition(v_months[i]);
      return true;
    end if;
    raise warning 'The default partition holds % events of %: they stay there, readable as ever, until somebody calls private.make_event_partition when nobody writes.',
      v_waiting[i], to_char(v_months[i], 'YYYY-MM');
  end loop;
  return false;
exception
  when lock_not_available then
    raise warning 'A partition of event_logs waits for the next run: the tables are in use.';
    return false;
end;
$$;
comment on routine private.event_partition_step is
  'Makes one missing partition: of this month, of the three after it, or of a month of which the default partition took some '
  'events; more than 20,000 are left there. '
  'True while there may be more to do. p_now is there for tests.';
revoke all on routine private.event_partition_step from public, anon, authenticated, service_role;


do $$
begin
  loop
    exit when not private.event_partition_step();
  end loop;
end;
$$;

select private.schedule_job('threadbase-event-partitions', '17 * * * *', 'private.event_partition_step()');
