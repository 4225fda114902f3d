-- Documents: whose they are, and what may be stored as one.

create function private.document_owner(p_user_id uuid) returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select coalesce(private.caller_id(p_user_id), '00000000-0000-0000-0000-000000000000');
$$;
comment on routine private.document_owner is
  'Whose documents a call means: those of private.caller_id, or where a backend acts for nobody its own.';
revoke all on routine private.document_owner from public, anon, authenticated, service_role;


create function private.document_writer(p_user_id uuid) returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
begin
  perform private.hold_owner(v_owner_id::text);
  return v_owner_id;
end;
$$;
comment on routine private.document_writer is
  'private.document_owner for what writes: a user who is being deleted leaves no document behind. Raises PT401 where the token '
  'has outlived its user.';
revoke all on routine private.document_writer from public, anon, authenticated, service_role;


create function private.require_collection(p_collection text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_collection is null or p_collection !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$' then
    perform private.refuse_part(
      'collection', 'Expected 1 to 128 letters, digits, "_", "-" and ".", the first one a letter, a digit or "_".'
    );
  end if;
end;
$$;
comment on routine private.require_collection is 'Raises PT400 invalid_request for what is no name of a collection.';
revoke all on routine private.require_collection from public, anon, authenticated, service_role;


create function private.creation_time(p_creation_utc text) returns timestamptz
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  -- The pattern first: a cast also takes "tomorrow".
  if p_creation_utc ~ '^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?)?$' then
    return p_creation_utc::timestamptz;
  end if;
  return null;
exception
  when datetime_field_overflow or invalid_datetime_format then
    return null;
end;
$$;
comment on routine private.creation_time is
  'The time that a creation_utc says, in UTC where it does not say: an ISO 8601 date, or date and time. Null for what is '
  'none.';
revoke all on routine private.creation_time from public, anon, authenticated, service_role;


create function private.require_document(p_document jsonb, p_name text) returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  c_max_bytes constant integer := 4 * 1024 * 1024;
  -- $contains compares each with each of its own.
  c_max_values constant integer := 200000;
  -- More than any double has. An entry of an index has no room for thousands.
  c_max_digits constant integer := 400;
  v_text text := p_document::text;
begin
  if jsonb_typeof(p_document) is distinct from 'object' then
    perform private.refuse_part(p_name, 'Expected an object.');
  end if;
  if octet_length(v_text) > c_max_bytes then
    perform private.refuse_part(p_name, 'The document is larger than 4 MiB.', 'document_bytes');
  end if;
  if octet_length(v_text) > c_max_digits then
    -- Numbers, literals and what stands around them. In text: to walk a document by a jsonpath takes each value apart from
    -- all that follow it.
    v_text := regexp_replace(v_text, '"(?:[^"\\]|\\.)*"', '', 'g');
    -- A value follows each of these.
    if octet_length(v_text) - octet_length(translate(v_text, ',[{', '')) > c_max_values then
      perform private.refuse_part(p_name, 'The document has more than 200,000 values.', 'document_values');
    elsif strpos(translate(v_text, '123456789.-', '00000000000'), repeat('0', c_max_digits + 1)) > 0 then
      perform private.refuse_part(p_name, 'A number has more than 400 digits.', 'document_digits');
    end if;
  end if;
  if p_document ? 'id' and (
    jsonb_typeof(p_document -> 'id') <> 'string' or char_length(p_document ->> 'id') not between 1 and 256
  ) then
    perform private.refuse_part(p_name || '.id', 'Expected a string of 1 to 256 characters.');
  end if;
  if p_document ? 'version' and (
    jsonb_typeof(p_document -> 'version') <> 'string' or char_length(p_document ->> 'version') > 256
  ) then
    perform private.refuse_part(p_name || '.version', 'Expected a string of at most 256 characters.');
  end if;
  if p_document ? 'creation_utc' and (
    jsonb_typeof(p_document -> 'creation_utc') <> 'string'
    or private.creation_time(p_document ->> 'creation_utc') is null
  ) then
    perform private.refuse_part(p_name || '.creation_utc', 'Expected an ISO 8601 date and time.');
  end if;
end;
$$;
comment on routine private.require_document is
  'Raises PT400 invalid_request, with a path that begins with p_name, for what cannot be stored as a document.';
revoke all on routine private.require_document from public, anon, authenticated, service_role;


create function private.to_document(p_id text, p_version text, p_creation_utc text, p_data jsonb) returns jsonb
language sql
immutable
set search_path = ''
as $$
  select p_data
    || jsonb_build_object('id', p_id, 'creation_utc', p_creation_utc)
    || case when p_version is null then '{}' else jsonb_build_object('version', p_version) end;
$$;
comment on routine private.to_document is 'A stored document as the flat object that came in.';
revoke all on routine private.to_document from public, anon, authenticated, service_role;
