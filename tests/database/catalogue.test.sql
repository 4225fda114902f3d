-- Rules for the whole schema, read from the catalogue: a new table or function is under test the day it appears.
begin;
select plan(20);

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

-- ---- statistics ----------------------------------------------------------------------------------------------------
-- What ANALYZE copies no erasure reaches: it is what the database alone writes and what says nothing of a person. Documents are
-- the exception, which an erasure samples anew (docs/decisions/0026).
create temporary view sampled as
select distinct
  regexp_replace(c.relname::text, '_([0-9]{4}_[0-9]{2}|default)$', '') collate "default" as name,
  case c.relkind when 'i' then '(expression)' else a.attname::text end collate "default" as attname
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_index i on i.indexrelid = c.oid
where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
  -- ANALYZE looks at the expressions of an index, and at columns only in tables.
  and (c.relkind in ('r', 'p', 'm') or c.relkind = 'i' and i.indkey[a.attnum - 1] = 0)
  and coalesce(a.attstattarget, -1) <> 0;

select results_eq(
  $$select name, string_agg(attname, ' ' order by attname collate "C") from sampled
    where name !~ '^idx_documents_field_' group by name order by name collate "C"$$,
  $$values ('conversation_messages', 'author created_at sequence_order'),
    ('conversation_states', 'after_sequence created_at input_sequence sequence_order updated_at'),
    ('conversations', 'created_at deleted_at last_sequence_order updated_at'),
    ('deleted_messages', 'deleted_at sequence_order'),
    ('document_failures', 'failed_at'),
    ('documents', 'collection data owner_id sort_at'),
    ('erasure_conversations', 'stage'),
    ('erasures', 'created_at finished_at scope updated_at'),
    ('event_logs', 'created_at sequence'),
    ('idempotency_keys', 'created_at'),
    ('import_sources', 'last_sequence'),
    ('imports', 'created_at incomplete tombstone'),
    ('prune_queue', 'failed_at'),
    ('search_filters', 'block up_to_sequence'),
    ('sessions', 'created_at last_event_at last_sequence'),
    ('unsummarized_sessions', 'attempts lease_expires_at'),
    ('videos', 'created_at')$$,
  'ANALYZE copies values of the columns that are decided, and of no others'
);
select is_empty(
  $$select stxname from pg_statistic_ext
    where stxrelid in (select oid from our_tables) and stxname !~ '^idx_documents_field_'$$,
  'no table has extended statistics but for the fields of documents that have an index'
);
create index idx_videos_test on public.videos (lower(title));
select results_eq(
  $$select attname::text from sampled where name = 'idx_videos_test'$$, $$values ('(expression)')$$,
  'an index of an expression would be seen'
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
