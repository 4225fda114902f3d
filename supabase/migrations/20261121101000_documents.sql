-- Documents: any number of collections in one table, each owner's apart.

-- ---------------------------------------------------------------------------------------------------------------------
-- documents
-- ---------------------------------------------------------------------------------------------------------------------
create table public.documents (
  owner_id uuid not null,
  -- "C": ids and names compare by code point, whatever the database's locale is. So do the strings of filters.
  collection text collate "C" not null,
  id text collate "C" not null,
  version text,
  creation_utc text not null,
  sort_at timestamptz not null,
  data jsonb not null,
  constraint documents_pkey primary key (owner_id, collection, id),
  constraint documents_collection_check check (collection ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'),
  constraint documents_id_check check (char_length(id) between 1 and 256),
  constraint documents_version_check check (char_length(version) <= 256),
  constraint documents_data_check check (
    jsonb_typeof(data) = 'object' and not data ?| '{id,version,creation_utc}'::text[]
  )
);

create index idx_documents_sort_at on public.documents (owner_id, collection, sort_at, id);
create index idx_documents_data on public.documents using gin (data jsonb_path_ops);

comment on table public.documents is
  'The documents of all collections. A collection is a name: it is there with its first document. A document is read and '
  'written as one flat object; id, version and creation_utc are kept apart from its other fields.';
comment on column public.documents.owner_id is
  'A user of Auth, or 00000000-0000-0000-0000-000000000000: the store of the backend itself.';
comment on column public.documents.version is 'What the application says its version is; null if it does not say.';
comment on column public.documents.creation_utc is
  'As it was given, or the time of the insert: ISO 8601, UTC if it does not say.';
comment on column public.documents.sort_at is 'creation_utc as a time: documents are ordered by (sort_at, id).';
comment on column public.documents.data is 'The fields that are not columns.';

alter table public.documents enable row level security;
alter table public.documents force row level security;
revoke all on public.documents from anon, authenticated, service_role;
-- Writing takes the functions below: they keep the columns in agreement with each other.
grant select on public.documents to authenticated, service_role;

create policy "Users see their own documents" on public.documents
  for select to authenticated using (owner_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------------------
-- document_failures
-- ---------------------------------------------------------------------------------------------------------------------
create table public.document_failures (
  owner_id uuid not null,
  collection text collate "C" not null,
  id text collate "C" not null,
  version text,
  creation_utc text not null,
  sort_at timestamptz not null,
  data jsonb not null,
  reason text not null,
  failed_at timestamptz not null default now(),
  constraint document_failures_pkey primary key (owner_id, collection, id),
  constraint document_failures_reason_check check (char_length(reason) between 1 and 2000)
);

comment on table public.document_failures is
  'Documents that a client could not convert to its version, out of the way of what reads the collection.';
comment on column public.document_failures.reason is 'What went wrong, in the client''s words.';
comment on column public.document_failures.failed_at is 'When the document was put here.';

alter table public.document_failures enable row level security;
alter table public.document_failures force row level security;
revoke all on public.document_failures from anon, authenticated, service_role;
grant select on public.document_failures to authenticated, service_role;

create policy "Users see their own failed documents" on public.document_failures
  for select to authenticated using (owner_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------------------
-- collection_versions
-- ---------------------------------------------------------------------------------------------------------------------
create table private.collection_versions (
  owner_id uuid not null,
  collection text collate "C" not null,
  version text not null,
  constraint collection_versions_pkey primary key (owner_id, collection),
  constraint collection_versions_version_check check (char_length(version) between 1 and 256)
);

comment on table private.collection_versions is
  'The version of the store that a collection is part of, by its client''s word: where it agrees with the client''s own '
  'there is nothing to convert, and nothing to scan for it.';

alter table private.collection_versions enable row level security;
alter table private.collection_versions force row level security;
revoke all on private.collection_versions from public, anon, authenticated, service_role;
create policy "No client sees collection versions" on private.collection_versions for select to authenticated using (false);

-- ---------------------------------------------------------------------------------------------------------------------
-- Owners and arguments
-- ---------------------------------------------------------------------------------------------------------------------
create function private.document_owner(p_user_id uuid) returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select coalesce(private.caller_id(p_user_id), '00000000-0000-0000-0000-000000000000');
$$;
comment on function private.document_owner(uuid) is
  'Whose documents a call means: those of private.caller_id, or where a backend acts for nobody its own.';
revoke all on function private.document_owner(uuid) from public, anon, authenticated, service_role;


create function private.document_writer(p_user_id uuid) returns uuid
language plpgsql
volatile
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
comment on function private.document_writer(uuid) is
  'private.document_owner for what writes: a user who is being deleted leaves no document behind. Raises PT401 where the token '
  'has outlived its user.';
revoke all on function private.document_writer(uuid) from public, anon, authenticated, service_role;


create function private.refuse_part(p_name text, p_message text) returns void
language plpgsql
immutable
security invoker
set search_path = ''
as $$
begin
  raise sqlstate 'PT400' using
    message = 'invalid_request',
    -- A name that is a megabyte long helps nobody.
    detail = jsonb_build_array(jsonb_build_object('path', left(p_name, 300), 'message', p_message))::text;
end;
$$;
comment on function private.refuse_part(text, text) is
  'Raises PT400 invalid_request for one part of a request. The detail is the JSON of what zod''s refusals say: '
  '[{path, message}].';
revoke all on function private.refuse_part(text, text) from public, anon, authenticated, service_role;


create function private.require_collection(p_collection text) returns void
language plpgsql
immutable
security invoker
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
comment on function private.require_collection(text) is 'Raises PT400 invalid_request for what is no name of a collection.';
revoke all on function private.require_collection(text) from public, anon, authenticated, service_role;


create function private.creation_time(p_creation_utc text) returns timestamptz
language plpgsql
stable
security invoker
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
comment on function private.creation_time(text) is
  'The time that a creation_utc says, in UTC where it does not say: an ISO 8601 date, or date and time. Null for what is '
  'none.';
revoke all on function private.creation_time(text) from public, anon, authenticated, service_role;


create function private.require_document(p_document jsonb, p_name text) returns void
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
  c_max_bytes constant integer := 4 * 1024 * 1024;
  -- More than any double has. An entry of an index has no room for thousands.
  c_max_digits constant integer := 400;
begin
  if jsonb_typeof(p_document) is distinct from 'object' then
    perform private.refuse_part(p_name, 'Expected an object.');
  end if;
  if octet_length(p_document::text) > c_max_bytes then
    perform private.refuse_part(p_name, 'The document is larger than 4 MiB.');
  end if;
  if exists (
    select
    from jsonb_path_query(p_document, 'strict $.** ? (@.type() == "number")') as n (value)
    where octet_length(n.value::text) > c_max_digits
  ) then
    perform private.refuse_part(p_name, 'A number has more than 400 digits.');
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
comment on function private.require_document(jsonb, text) is
  'Raises PT400 invalid_request, with a path that begins with p_name, for what cannot be stored as a document.';
revoke all on function private.require_document(jsonb, text) from public, anon, authenticated, service_role;


create function private.to_document(p_id text, p_version text, p_creation_utc text, p_data jsonb) returns jsonb
language sql
immutable
security invoker
set search_path = ''
as $$
  select p_data
    || jsonb_build_object('id', p_id, 'creation_utc', p_creation_utc)
    || case when p_version is null then '{}' else jsonb_build_object('version', p_version) end;
$$;
comment on function private.to_document(text, text, text, jsonb) is 'A stored document as the flat object that came in.';
revoke all on function private.to_document(text, text, text, jsonb) from public, anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Erasure
-- ---------------------------------------------------------------------------------------------------------------------
create or replace function private.erase_deleted_user() returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  -- See private.hold_owner.
  perform pg_advisory_xact_lock(hashtextextended('session owner ' || old.id, 0));
  -- In the order in which an append locks them.
  delete from public.sessions s where s.user_id = old.id::text;
  delete from private.idempotency_keys k where k.user_id = old.id::text;
  delete from public.documents d where d.owner_id = old.id;
  delete from public.document_failures f where f.owner_id = old.id;
  delete from private.collection_versions v where v.owner_id = old.id;
  return null;
end;
$$;
