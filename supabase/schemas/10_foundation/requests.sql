-- What every request may need.

create function public.health() returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('status', 'ok');
$$;
comment on function public.health is 'Answers when the database does. For GET /<function>/health.';
revoke all on function public.health from public, anon, authenticated, service_role;
grant execute on function public.health to service_role;


create function private.require_limit(p_limit integer) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    raise sqlstate 'PT400' using message = 'invalid_request', detail = 'limit is not between 1 and 1000.';
  end if;
end;
$$;
comment on function private.require_limit is 'Raises PT400 invalid_request unless a page size is 1 to 1,000.';
revoke all on function private.require_limit from public, anon, authenticated, service_role;
grant execute on function private.require_limit to authenticated, service_role;


create function private.require_metadata(p_metadata jsonb) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if jsonb_typeof(p_metadata) <> 'object' or octet_length(p_metadata::text) > 65536 then
    raise sqlstate 'PT400' using
      message = 'invalid_request',
      detail = 'metadata is not an object, or larger than 64 KiB as Postgres prints it.';
  end if;
end;
$$;
comment on function private.require_metadata is
  'The rule of conversations_metadata_check as an error that says so: PT400 invalid_request.';
revoke all on function private.require_metadata from public, anon, authenticated, service_role;
grant execute on function private.require_metadata to authenticated, service_role;
