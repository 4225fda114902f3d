-- What a database of Threadbase consists of, one row for each object, by name: (kind, name, value). Two databases are
-- equal if these rows are. Months of events count once, whatever there are: they come and go with the calendar. Indexes of
-- fields of documents do not count: private.create_document_index makes them when they are asked for.
with
schemas as (
  select n.oid, n.nspname, n.nspowner, n.nspacl
  from pg_catalog.pg_namespace n
  where n.nspname in ('public', 'private', 'gateway')
),
of_extensions as (
  select d.classid, d.objid from pg_catalog.pg_depend d where d.deptype = 'e'
),
relations as (
  select
    c.*,
    s.nspname || '.' || regexp_replace(c.relname, '_[0-9]{4}_[0-9]{2}(?=_|$)', '_month') as name
  from pg_catalog.pg_class c
  join schemas s on s.oid = c.relnamespace
  where c.relname !~ '^idx_documents_field_'
    and not exists (select from of_extensions e where e.classid = 'pg_class'::regclass and e.objid = c.oid)
),
functions as (
  select p.*, format('%s.%s(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as name
  from pg_catalog.pg_proc p
  join schemas s on s.oid = p.pronamespace
  where not exists (select from of_extensions e where e.classid = 'pg_proc'::regclass and e.objid = p.oid)
),
objects (kind, name, value) as (
  -- Whose schema public is, and who may use it, is the platform's.
  select 'schema', s.nspname, concat_ws(
    E'\n', pg_get_userbyid(s.nspowner),
    (select string_agg(a::text, ' ' order by a::text) from unnest(coalesce(s.nspacl, acldefault('n', s.nspowner))) a),
    obj_description(s.oid, 'pg_namespace')
  )
  from schemas s
  where s.nspname <> 'public'

  union all
  select 'relation', r.name, concat_ws(
    E'\n', r.relkind, pg_get_userbyid(r.relowner), r.relpersistence, r.reloptions, r.relreplident,
    case when r.relrowsecurity then 'row level security' end, case when r.relforcerowsecurity then 'forced' end,
    pg_get_partkeydef(r.oid),
    case when r.relispartition then
      (select i.inhparent::regclass::text from pg_catalog.pg_inherits i where i.inhrelid = r.oid)
    end,
    regexp_replace(pg_get_expr(r.relpartbound, r.oid), '''[^'']*''', 'month', 'g'),
    case when r.relkind in ('v', 'm') then pg_get_viewdef(r.oid) end,
    -- In an order of its own: grants that were made in another order are the same grants.
    case when r.relkind not in ('i', 'I') then (
      select string_agg(a::text, ' ' order by a::text)
      from unnest(coalesce(r.relacl, acldefault(case r.relkind when 'S' then 's' else 'r' end::"char", r.relowner))) a
    ) end,
    case
      when r.relispartition then regexp_replace(obj_description(r.oid, 'pg_class'), '[0-9]{4}-[0-9]{2}', 'month')
      else obj_description(r.oid, 'pg_class')
    end
  )
  from relations r
  where r.relkind not in ('i', 'I')

  union all
  select 'column', r.name || '.' || a.attname, concat_ws(
    E'\n',
    (
      select count(*)
      from pg_catalog.pg_attribute b
      where b.attrelid = a.attrelid and b.attnum between 1 and a.attnum and not b.attisdropped
    ),
    format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
    (
      select pg_get_expr(d.adbin, d.adrelid)
      from pg_catalog.pg_attrdef d
      where d.adrelid = a.attrelid and d.adnum = a.attnum
    ),
    nullif(a.attidentity::text, ''), nullif(a.attgenerated::text, ''),
    case when a.attcollation <> 0 then a.attcollation::regcollation end,
    'storage ' || a.attstorage::text, 'compression ' || nullif(a.attcompression::text, ''),
    'statistics ' || nullif(a.attstattarget, -1),
    -- pg_attver is the server's own: Postgres 15.20 writes a place in its log there.
    (select string_agg(o, ' ' order by o) from unnest(a.attoptions) o where o !~ '^pg_attver='),
    (select string_agg(x::text, ' ' order by x::text) from unnest(a.attacl) x),
    col_description(r.oid, a.attnum)
  )
  from relations r
  join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  where r.relkind not in ('i', 'I')

  union all
  select 'sequence', r.name, concat_ws(
    ' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle
  )
  from relations r
  join pg_catalog.pg_sequence s on s.seqrelid = r.oid

  union all
  select 'constraint', r.name || '.' || regexp_replace(c.conname, '_[0-9]{4}_[0-9]{2}(?=_|$)', '_month'), concat_ws(
    E'\n', pg_get_constraintdef(c.oid), case when not c.convalidated then 'not valid' end,
    case when not c.conislocal then 'inherited' end, obj_description(c.oid, 'pg_constraint')
  )
  from relations r
  join pg_catalog.pg_constraint c on c.conrelid = r.oid

  union all
  select 'index', r.name, concat_ws(
    E'\n', regexp_replace(pg_get_indexdef(r.oid), '_[0-9]{4}_[0-9]{2}(?=[_ ])', '_month', 'g'),
    case when not i.indisvalid then 'invalid' end, case when i.indisreplident then 'replica identity' end,
    (
      select string_agg('statistics ' || a.attnum || ' ' || nullif(a.attstattarget, -1), ' ' order by a.attnum)
      from pg_catalog.pg_attribute a
      where a.attrelid = r.oid
    ),
    obj_description(r.oid, 'pg_class')
  )
  from relations r
  join pg_catalog.pg_index i on i.indexrelid = r.oid

  union all
  select 'statistics', s.nspname || '.' || x.stxname, pg_get_statisticsobjdef(x.oid)
  from pg_catalog.pg_statistic_ext x
  join schemas s on s.oid = x.stxnamespace
  where x.stxname !~ '^idx_documents_field_'

  union all
  select 'policy', r.name || '.' || p.polname, concat_ws(
    E'\n', p.polcmd, p.polpermissive, array(select pg_get_userbyid(o) from unnest(p.polroles) o order by 1),
    'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid),
    obj_description(p.oid, 'pg_policy')
  )
  from relations r
  join pg_catalog.pg_policy p on p.polrelid = r.oid

  union all
  -- On tables of others, too: auth.users has one of ours.
  select 'trigger', coalesce(r.name, t.tgrelid::regclass::text) || '.' || t.tgname, concat_ws(
    E'\n', regexp_replace(pg_get_triggerdef(t.oid), '_[0-9]{4}_[0-9]{2}(?=[_ ])', '_month', 'g'), t.tgenabled,
    obj_description(t.oid, 'pg_trigger')
  )
  from pg_catalog.pg_trigger t
  join functions f on f.oid = t.tgfoid
  left join relations r on r.oid = t.tgrelid
  where not t.tgisinternal or t.tgparentid <> 0

  union all
  select 'rule', r.name || '.' || w.rulename, pg_get_ruledef(w.oid)
  from relations r
  join pg_catalog.pg_rewrite w on w.ev_class = r.oid
  where w.rulename <> '_RETURN'

  union all
  select 'function', f.name, concat_ws(
    E'\n', case when f.prokind = 'a' then 'aggregate' else pg_get_functiondef(f.oid) end, pg_get_userbyid(f.proowner),
    (select string_agg(a::text, ' ' order by a::text) from unnest(coalesce(f.proacl, acldefault('f', f.proowner))) a),
    obj_description(f.oid, 'pg_proc')
  )
  from functions f

  union all
  select 'type', s.nspname || '.' || t.typname, concat_ws(
    E'\n', t.typtype, pg_get_userbyid(t.typowner), format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typdefault,
    array(select e.enumlabel from pg_catalog.pg_enum e where e.enumtypid = t.oid order by e.enumsortorder),
    (select string_agg(a::text, ' ' order by a::text) from unnest(coalesce(t.typacl, acldefault('T', t.typowner))) a),
    obj_description(t.oid, 'pg_type')
  )
  from pg_catalog.pg_type t
  join schemas s on s.oid = t.typnamespace
  left join pg_catalog.pg_class c on c.oid = t.typrelid
  where t.typelem = 0 and (t.typrelid = 0 or c.relkind = 'c')
    and not exists (select from of_extensions e where e.classid = 'pg_type'::regclass and e.objid = t.oid)

  union all
  select 'role', r.rolname, concat_ws(
    E'\n', r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls,
    (
      select string_agg(c, ' ' order by c)
      from pg_catalog.pg_db_role_setting s
      cross join unnest(s.setconfig) c
      where s.setrole = r.oid
    ),
    array(select pg_get_userbyid(m.roleid)::text from pg_catalog.pg_auth_members m where m.member = r.oid order by 1),
    shobj_description(r.oid, 'pg_authid')
  )
  from pg_catalog.pg_roles r
  where r.rolname = 'gateway'

  union all
  select 'extension', e.extname, e.extnamespace::regnamespace::text
  from pg_catalog.pg_extension e
  where e.extname = 'pg_cron'
)
select kind, name, string_agg(distinct value, E'\n\n') as value from objects group by kind, name order by kind, name
