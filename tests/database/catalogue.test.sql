-- Rules for the whole schema, read from the catalogue: a new table or function is under test the day it appears.
begin;
select plan(17);

create temporary view client_roles as
select rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role');

create temporary view our_tables as
select c.oid, c.oid::regclass::text as name, n.nspname, c.relrowsecurity, c.relforcerowsecurity, c.relowner
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'private') and c.relkind in ('r', 'p');

create temporary view our_functions as
select p.oid, p.oid::regprocedure::text as name, n.nspname, p.prosecdef, p.proconfig, p.proacl
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('public', 'private')
  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e');

-- Positive controls: the views see what there is.
select cmp_ok((select count(*) from our_tables), '>=', 3::bigint, 'the catalogue shows our tables');
select cmp_ok((select count(*) from our_functions), '>=', 8::bigint, 'the catalogue shows our functions');

-- ---- row level security -------------------------------------------------------------------------------------------
select is_empty(
  $$select name from our_tables where not relrowsecurity or not relforcerowsecurity$$,
  'every table has row level security enabled and forced'
);
select is_empty(
  $$select t.name from our_tables t join pg_roles r on r.oid = t.relowner where not r.rolbypassrls$$,
  'every owner bypasses it, so that definer functions can do what the caller may not'
);
select is_empty(
  $$select tablename, policyname from pg_policies where schemaname = 'public' and roles <> '{authenticated}'$$,
  'every policy is for authenticated alone'
);
select is_empty(
  $$select tablename, cmd from pg_policies where schemaname = 'public' group by 1, 2 having count(*) > 1 or cmd = 'ALL'$$,
  'there is one policy for each verb'
);
select is_empty(
  $$select tablename, policyname from pg_policies
    where schemaname = 'public' and coalesce(qual, '') || coalesce(with_check, '') !~ 'SELECT auth\.uid\(\)'$$,
  'every policy compares with (select auth.uid()), evaluated once for a statement'
);

-- ---- privileges ----------------------------------------------------------------------------------------------------
select is_empty(
  $$select t.name, p.privilege from our_tables t,
      unnest(array['select', 'insert', 'update', 'references']) as p (privilege)
    where has_any_column_privilege('anon', t.oid, p.privilege)
    union all
    select t.name, p.privilege from our_tables t, unnest(array['delete', 'truncate', 'trigger']) as p (privilege)
    where has_table_privilege('anon', t.oid, p.privilege)$$,
  'anon has no privilege on any table'
);
select is_empty(
  $$select name from our_functions where has_function_privilege('anon', oid, 'execute')$$,
  'anon executes no function'
);
select is_empty(
  $$select f.name from our_functions f, aclexplode(coalesce(f.proacl, acldefault('f', 10))) a where a.grantee = 0$$,
  'no function is granted to public'
);
select is_empty(
  $$select r.rolname, t.name, p.privilege from client_roles r, our_tables t,
      unnest(array['truncate', 'references', 'trigger']) as p (privilege)
    where has_table_privilege(r.rolname, t.oid, p.privilege)$$,
  'no client role truncates, references or adds triggers'
);
select is_empty(
  $$select r.rolname, t.name from client_roles r, our_tables t
    where t.nspname = 'private' and has_any_column_privilege(r.rolname, t.oid, 'select,insert,update')$$,
  'no client role touches a private table'
);
select is_empty(
  $$select r.rolname, t.name, p.privilege from client_roles r, our_tables t,
      unnest(array['update', 'delete']) as p (privilege)
    where t.name ~ '^(public\.)?(conversation_messages|event_logs)$'
      and (has_table_privilege(r.rolname, t.oid, p.privilege)
        or p.privilege = 'update' and has_any_column_privilege(r.rolname, t.oid, 'update'))
    union all
    select r.rolname, t.name, 'delete' from client_roles r, our_tables t
    where t.name ~ '^(public\.)?(conversations|sessions)$' and has_table_privilege(r.rolname, t.oid, 'delete')$$,
  'no client role updates or deletes a message or an event, or deletes a conversation or a session'
);
select is_empty(
  $$select r.rolname, c.table_name, c.column_name from client_roles r, information_schema.columns c
    where c.table_schema = 'public'
      and c.column_name in ('author', 'created_at', 'updated_at', 'last_sequence_order', 'parent_id', 'fork_sequence', 'deleted_at',
        'sequence', 'last_sequence', 'last_event_at', 'duration')
      and (has_column_privilege(r.rolname, format('public.%I', c.table_name), c.column_name, 'insert')
        or has_column_privilege(r.rolname, format('public.%I', c.table_name), c.column_name, 'update'))$$,
  'no client role writes a column that the database owns'
);

-- ---- functions -----------------------------------------------------------------------------------------------------
select is_empty(
  $$select name from our_functions where prosecdef and nspname <> 'private'$$,
  'definer functions are in private only'
);
select is_empty(
  $$select name from our_functions where proconfig is null or not 'search_path=""' = any (proconfig)$$,
  'every function pins search_path to nothing'
);
select is_empty(
  $$select name from our_tables where obj_description(oid, 'pg_class') is null
    union all
    select name from our_functions where obj_description(oid, 'pg_proc') is null$$,
  'every table and function says what it is'
);

select * from finish();
rollback;
