-- Sessions that nobody ends are ended by the scheduled job. All of it happens in 2001, where no other test has sessions.
begin;
select plan(14);

-- The job may run at this moment, and a step that finds another one at work does nothing.
select pg_advisory_xact_lock(hashtext('private.close_idle_sessions_step'));

insert into public.sessions (id, user_id, start_time, created_at, last_sequence, last_event_at) values
  ('00000000-0000-4000-8000-00000000d001', 'idle', '2001-01-01 10:00Z', '2001-01-01 10:00Z', 7, '2001-01-01 10:20Z'),
  ('00000000-0000-4000-8000-00000000d002', 'idle', '2001-01-01 10:00Z', '2001-01-01 10:00Z', 0, null),
  ('00000000-0000-4000-8000-00000000d003', 'idle', '2001-01-01 10:00Z', '2001-01-01 10:00Z', 9, '2001-01-01 10:45Z'),
  ('00000000-0000-4000-8000-00000000d004', 'idle', '2001-01-01 10:45Z', '2001-01-01 10:45Z', 0, null),
  -- Clocks that go wrong: a start after the last event ends at the start.
  ('00000000-0000-4000-8000-00000000d005', 'idle', '2001-01-01 10:30Z', '2001-01-01 10:00Z', 1, '2001-01-01 10:05Z');
insert into public.sessions (id, user_id, start_time, created_at, end_time, summary) values
  ('00000000-0000-4000-8000-00000000d006', 'idle', '2001-01-01 10:00Z', '2001-01-01 10:00Z', '2001-01-01 10:01Z', 'told');

create function pg_temp.ends() returns setof text language sql as $$
  select right(s.id::text, 1) || ' ' || coalesce(to_char(s.end_time at time zone 'UTC', 'HH24:MI'), 'open')
  from public.sessions s where s.user_id = 'idle' order by s.id
$$;
create function pg_temp.queue() returns setof text language sql as $$
  select right(u.session_id::text, 1) from private.unsummarized_sessions u where u.user_id = 'idle' order by 1
$$;

select is(private.close_idle_sessions_step('2001-01-01 10:20Z'), false, 'nothing is idle yet');
select results_eq(
  'select * from pg_temp.ends()', array['1 open', '2 open', '3 open', '4 open', '5 open', '6 10:01'],
  'so nothing ends'
);
select is(private.close_idle_sessions_step('2001-01-01 11:00Z'), false, 'one step is enough for three');
select results_eq(
  'select * from pg_temp.ends()', array['1 10:20', '2 10:00', '3 open', '4 open', '5 10:30', '6 10:01'],
  'idle ones end with their last event, or at their start; fresh ones go on; an end stays as it is'
);
select results_eq('select * from pg_temp.queue()', array['1', '2', '5'], 'and they wait for a summary');
select is(
  (select s.duration from public.sessions s where s.id = '00000000-0000-4000-8000-00000000d001'), 1200::double precision,
  'the duration is that of the call'
);
select private.close_idle_sessions_step('2001-01-01 11:00Z');
select results_eq(
  'select * from pg_temp.ends()', array['1 10:20', '2 10:00', '3 open', '4 open', '5 10:30', '6 10:01'],
  'a second run changes nothing'
);

-- ---- the setting ------------------------------------------------------------------------------------------------------
update private.session_settings set idle_timeout = '10 minutes';
select private.close_idle_sessions_step('2001-01-01 11:00Z');
select results_eq(
  'select * from pg_temp.ends()', array['1 10:20', '2 10:00', '3 10:45', '4 10:45', '5 10:30', '6 10:01'],
  'a shorter idle timeout ends the others'
);
select throws_ok(
  $$update private.session_settings set idle_timeout = '0 seconds'$$, '23514', null, 'a timeout that ends every call is refused'
);
select throws_ok($$insert into private.session_settings (only_row) values (false)$$, '23514', null, 'there is one row of settings');

-- ---- batches ----------------------------------------------------------------------------------------------------------
insert into public.sessions (user_id, start_time, created_at)
select 'idle many', '2000-01-01', '2000-01-01' from generate_series(1, 501);
select results_eq(
  $$select private.close_idle_sessions_step('2000-01-02') union all select private.close_idle_sessions_step('2000-01-02')$$,
  array[true, false], 'a step is bounded, and says that there is more'
);
select is(
  (select count(*) from private.unsummarized_sessions u where u.user_id = 'idle many'), 501::bigint, 'the next one ends the rest'
);

-- ---- who may ----------------------------------------------------------------------------------------------------------
select is_empty(
  $$select r.rolname from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator')
      and has_function_privilege(r.rolname, 'private.close_idle_sessions_step(timestamptz)', 'execute')$$,
  'no client role may run it'
);
select results_eq(
  $$select j.schedule, j.command ~ 'private\.close_idle_sessions_step\(\); commit;' from private.scheduled_jobs j
    where j.name = 'threadbase-idle-sessions'$$,
  $$values ('* * * * *', true)$$, 'it is scheduled for every minute'
);

select * from finish();
rollback;
