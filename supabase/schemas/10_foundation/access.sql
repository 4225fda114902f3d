-- The schema private: what stands behind the API, and out of every client's reach.

create schema private;
comment on schema private is
  'Functions and tables behind the API. Not in the API''s exposed schemas; nothing in it trusts an argument.';
revoke all on schema private from public;
-- Invoker functions in public call definer functions in private, so their callers need the schema.
grant usage on schema private to authenticated, service_role;


create function private.sample_only(p_table regclass, p_columns text[]) returns void
language plpgsql
set search_path = ''
as $$
begin
  execute (
    select format('alter table %s ', p_table) || string_agg(
      format('alter column %I set statistics %s', a.attname, case when a.attname = any (p_columns) then -1 else 0 end), ', '
    )
    from pg_catalog.pg_attribute a
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
  );
end;
$$;
comment on routine private.sample_only is
  'ANALYZE copies values of a table to where no erasure reaches them: of these columns, and of no others. They are those that '
  'the database alone writes and that say nothing of a person.';
revoke all on routine private.sample_only from public, anon, authenticated, service_role;


create function private.close_table(p_table regclass, p_sampled text[] default '{}') returns void
language plpgsql
set search_path = ''
as $$
begin
  execute format('alter table %s enable row level security, force row level security', p_table);
  execute format('revoke all on %s from public, anon, authenticated, service_role', p_table);
  -- As closed without it; but then the advisors would take the table for one whose policies were forgotten.
  execute format('create policy "No client reaches this table" on %s for select to authenticated using (false)', p_table);
  perform private.sample_only(p_table, p_sampled);
end;
$$;
comment on routine private.close_table is
  'Closes a table to every client: no grant, and row level security, also for the owner, that shows nothing; with statistics '
  'of p_sampled alone.';
revoke all on routine private.close_table from public, anon, authenticated, service_role;
