-- Analytics past the edge: who may call it, what it refuses by itself, and what it leaves behind.
begin;
select plan(20);

create function pg_temp.become(p_role text, p_user_id uuid) returns void language plpgsql as $$
begin
  perform set_config('request.jwt.claim.sub', coalesce(p_user_id::text, ''), true);
  perform set_config('request.jwt.claim.role', p_role, true);
  perform set_config('request.jwt.claims', json_build_object('sub', p_user_id, 'role', p_role)::text, true);
  perform set_config('role', p_role, true);
end;
$$;

-- ---- borders --------------------------------------------------------------------------------------------------------
set local timezone = 'Europe/Berlin';
select is(
  private.bucket_borders('2026-10-24 10:07+00', '2026-10-26 12:00+00', 'day'),
  '{2026-10-24 10:07+00,2026-10-24 22:00+00,2026-10-25 23:00+00,2026-10-26 12:00+00}'::timestamptz[],
  'days are cut by the window, and one has 25 hours'
);
select is(
  private.bucket_borders('2026-10-25 00:00+00', '2026-10-25 02:00+00', 'hour'),
  '{2026-10-25 00:00+00,2026-10-25 01:00+00,2026-10-25 02:00+00}'::timestamptz[],
  'an hour that comes twice is two'
);
-- From 2:50 to 2:10.
select is(
  private.bucket_borders('2026-10-25 00:50+00', '2026-10-25 01:10+00', 'hour'),
  '{2026-10-25 00:50+00,2026-10-25 01:00+00,2026-10-25 01:10+00}'::timestamptz[],
  'a window may end at an earlier local time than it begins'
);
-- Back by three hours: from 3:30 over the end of that hour, when it becomes 1:00, to 2:10.
set local timezone = 'Antarctica/Casey';
select is(
  private.bucket_borders('2012-02-21 16:30+00', '2012-02-21 18:10+00', 'hour'),
  '{2012-02-21 16:30+00,2012-02-21 17:00+00,2012-02-21 18:00+00,2012-02-21 18:10+00}'::timestamptz[],
  'hours go on when the clock is set back by several'
);
set local timezone = 'America/Havana';
select is(
  private.bucket_borders('2026-11-01 04:30+00', '2026-11-01 05:30+00', 'day'),
  '{2026-11-01 04:30+00,2026-11-01 05:30+00}'::timestamptz[],
  'the second midnight of a day is no border'
);
set local timezone = 'UTC';
select is(
  private.bucket_borders('2026-10-25 00:00:00.000001+00', '2026-10-26 00:00+00', 'week'),
  '{2026-10-25 00:00:00.000001+00,2026-10-26 00:00+00}'::timestamptz[],
  'a window that ends with a week has nothing of the next'
);

-- ---- callers --------------------------------------------------------------------------------------------------------
insert into public.sessions (user_id, start_time) values ('00000000-0000-4000-8000-00000000000a', '2001-01-02 12:00+00');

create temporary view answers as
select public.session_analytics('2001-01-01 00:00+00', '2001-01-04 00:00+00') as everybody,
  public.session_analytics(
    '2001-01-01 00:00+00', '2001-01-04 00:00+00', p_of_user_id => '00000000-0000-4000-8000-00000000000A'
  ) as a;
grant select on answers to authenticated, service_role, anon;

select pg_temp.become('authenticated', '00000000-0000-4000-8000-00000000000a');
select is(
  (select array[everybody #> '{totals,sessions}', a #> '{totals,sessions}'] from answers), '{1,1}'::jsonb[],
  'a user counts their own'
);
select is(
  (select jsonb_agg(b -> 'sessions') from answers, jsonb_array_elements(a -> 'buckets') b), '[0, 1, 0]',
  'a bucket without anything is there, with zeros'
);
select pg_temp.become('authenticated', '00000000-0000-4000-8000-00000000000b');
select is(
  (select array[everybody #> '{totals,sessions}', a #> '{totals,sessions}'] from answers), '{0,0}'::jsonb[],
  'another user counts nothing of it, whomever they name'
);
select pg_temp.become('service_role', null);
select is(
  (select array[everybody #> '{totals,sessions}', a #> '{totals,sessions}'] from answers), '{1,1}'::jsonb[],
  'a backend counts it'
);
select pg_temp.become('anon', null);
select throws_ok('select public.session_analytics()', '42501', null, 'anon may not call it');
select pg_temp.become('authenticated', null);
select throws_ok('select public.session_analytics()', 'PT401', 'unauthorized', 'a token of nobody counts nobody''s');

-- ---- arguments ------------------------------------------------------------------------------------------------------
select pg_temp.become('service_role', null);
select throws_ok(
  $$select public.session_analytics(p_bucket => 'year')$$, 'PT400', 'invalid_request', 'an unknown bucket is refused'
);
select throws_ok(
  $$select public.session_analytics(p_bucket => null)$$, 'PT400', 'invalid_request', 'and so is none'
);
select throws_ok(
  $$select public.session_analytics(p_time_zone => null)$$, 'PT400', 'invalid_request', 'no time zone is refused'
);
select throws_ok(
  $$select public.session_analytics(p_time_zone => 'Foo/Bar+5')$$, 'PT400', 'invalid_request',
  'and so is an offset as POSIX writes it'
);
select throws_ok(
  $$select public.session_analytics('-infinity', 'infinity', 'month')$$, 'PT400', 'invalid_request',
  'a window without end is refused'
);
select throws_ok(
  $$select public.session_analytics('2001-01-01', '2001-02-12', 'hour')$$, 'PT400', 'invalid_request',
  'more than 1,000 buckets are refused'
);
select is(
  public.session_analytics('2001-01-01 00:00+00', '2001-01-02 00:00+00', p_time_zone => 'Asia/Kathmandu') ->> 'from',
  '2001-01-01T05:45:00+05:45', 'the answer is in its time zone'
);
select is(current_setting('timezone'), 'UTC', 'the session''s own is as before');

select * from finish();
rollback;
