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
