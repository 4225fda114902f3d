-- The schema private: what stands behind the API, and out of every client's reach.

create schema private;
comment on schema private is
  'Functions and tables behind the API. Not in the API''s exposed schemas; nothing in it trusts an argument.';
revoke all on schema private from public;
-- Invoker functions in public call definer functions in private, so their callers need the schema.
grant usage on schema private to authenticated, service_role;


create function private.close_table(p_table regclass) returns void
language plpgsql
set search_path = ''
as $$
begin
  execute format('alter table %s enable row level security, force row level security', p_table);
  execute format('revoke all on %s from public, anon, authenticated, service_role', p_table);
  -- As closed without it; but then the advisors would take the table for one whose policies were forgotten.
  execute format('create policy "No client reaches this table" on %s for select to authenticated using (false)', p_table);
end;
$$;
comment on routine private.close_table is
  'Closes a table to every client: no grant, and row level security, also for the owner, that shows nothing.';
revoke all on routine private.close_table from public, anon, authenticated, service_role;
