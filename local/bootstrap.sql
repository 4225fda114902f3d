-- What the Supabase platform has before a project's first migration. Runs once per cluster, as supabase_admin,
-- inside one transaction, after the tables of the auth schema have been made.

-- Roles. `postgres` is no superuser, exactly as on the platform: what fails there fails here.
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit password 'postgres';
grant anon, authenticated, service_role to authenticator;

create role postgres login nosuperuser createdb createrole replication bypassrls password 'postgres';
grant anon, authenticated, service_role, pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
-- As the platform lets it: alter role authenticator set pgrst.… (https://supabase.com/docs/guides/api/securing-your-api)
grant authenticator to postgres with admin option;
grant set on parameter pgrst.db_pre_request to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';

-- The owner of the database owns schema public (through pg_database_owner) and may install trusted extensions.
alter database postgres owner to postgres;
alter database postgres set search_path = "$user", public, extensions;
grant usage on schema public to anon, authenticated, service_role;

-- Older projects grant every new object to every API role. Newer ones do not; keeping the generous default here
-- shows up any migration that forgets to revoke.
alter default privileges for role postgres in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to anon, authenticated, service_role;

-- Extensions.
create schema extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to postgres;
create extension pgcrypto with schema extensions;
create extension "uuid-ossp" with schema extensions;

do $$
begin
  if current_setting('shared_preload_libraries') like '%pg_cron%' then
    create extension pg_cron with schema pg_catalog; -- where the platform puts it
    grant usage on schema cron to postgres;
    grant select on cron.job to postgres;
    grant select, delete on cron.job_run_details to postgres;
  end if;
end;
$$;

-- Auth. GoTrue's role owns the tables; postgres may refer to users, seed them and react to them.
create role supabase_auth_admin nologin noinherit createrole;
alter schema auth owner to supabase_auth_admin;

do $$
declare
  auth_table regclass;
begin
  for auth_table in select oid from pg_class where relnamespace = 'auth'::regnamespace and relkind = 'r' loop
    execute format('alter table %s owner to supabase_auth_admin', auth_table);
  end loop;
end;
$$;

-- Columns and defaults that seeds written for the platform rely on and @supabase/lite does without.
alter table auth.users add column instance_id uuid, add column is_super_admin boolean;
alter table auth.identities alter column id set default gen_random_uuid();

grant usage on schema auth to anon, authenticated, service_role, postgres;
grant select, insert, update, delete, references, trigger on all tables in schema auth to postgres;

-- The platform's definitions: PostgREST once set one setting per claim and now sets a single JSON object.
create or replace function auth.uid() returns uuid language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
  )::uuid
$$;

create or replace function auth.role() returns text language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
  )
$$;

create or replace function auth.email() returns text language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.email', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
  )
$$;

create or replace function auth.jwt() returns jsonb language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')
  )::jsonb
$$;

grant execute on all functions in schema auth to anon, authenticated, service_role, postgres;
