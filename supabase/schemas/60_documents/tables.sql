-- Documents: any number of collections in one table, each owner's apart.

create function private.check_document(p_collection text, p_id text, p_version text, p_data jsonb) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_broken text := case
    when p_collection !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$' then '{collection,"is no name of a collection"}'
    when char_length(p_id) not between 1 and 256 then '{id,"has not 1 to 256 characters"}'
    when char_length(p_version) > 256 then '{version,"has more than 256 characters"}'
    when jsonb_typeof(p_data) <> 'object' or p_data ?| '{id,version,creation_utc}'::text[]
      then '{data,"is no object, or has id, version or creation_utc, which are columns"}'
  end;
begin
  return v_broken is null or private.refuse_row('documents', v_broken::text[]);
end;
$$;
comment on routine private.check_document is
  'Every rule of a document''s row, as one check. Its size is private.require_document''s: only functions write documents.';
revoke all on routine private.check_document from public, anon, authenticated, service_role;


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
  constraint documents_check check (private.check_document(collection, id, version, data))
);

create index idx_documents_sort_at on public.documents (owner_id, collection, sort_at, id);
create index idx_documents_data on public.documents using gin (data jsonb_path_ops);
create index idx_documents_collection on public.documents (collection, sort_at);

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

-- The exception (docs/decisions/0026): without these a filter reads the whole collection. An erasure samples anew.
select private.sample_only('public.documents', '{owner_id, collection, sort_at, data}');
alter table public.documents enable row level security, force row level security;
revoke all on public.documents from anon, authenticated, service_role;
-- Writing takes the functions below: they keep the columns in agreement with each other.
grant select on public.documents to authenticated, service_role;

create policy "Users see their own documents" on public.documents
  for select to authenticated using (owner_id = (select auth.uid()));

select private.count_writes_to('public.documents', 'owner_id', '{data}');


create table public.document_failures (
  like public.documents,
  reason text not null,
  failed_at timestamptz not null default now(),
  constraint document_failures_pkey primary key (owner_id, collection, id),
  constraint document_failures_reason_check check (char_length(reason) between 1 and 2000)
);

create index idx_document_failures_collection on public.document_failures (collection, sort_at);

comment on table public.document_failures is
  'Documents that a client could not convert to its version, out of the way of what reads the collection.';
comment on column public.document_failures.reason is 'What went wrong, in the client''s words.';
comment on column public.document_failures.failed_at is 'When the document was put here.';

select private.sample_only('public.document_failures', '{failed_at}');
alter table public.document_failures enable row level security, force row level security;
revoke all on public.document_failures from anon, authenticated, service_role;
grant select on public.document_failures to authenticated, service_role;

create policy "Users see their own failed documents" on public.document_failures
  for select to authenticated using (owner_id = (select auth.uid()));

select private.count_writes_to('public.document_failures', 'owner_id');


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

select private.close_table('private.collection_versions');


create function private.sample_documents() returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_is_empty boolean := not exists (select from public.documents);
begin
  -- Of an empty table ANALYZE keeps what it has copied before.
  if v_is_empty then
    insert into public.documents values (
      '00000000-0000-0000-0000-000000000000', 'empty', 'empty', null, '', '-infinity', '{}'
    );
  end if;
  analyze public.documents;
  if v_is_empty then
    delete from public.documents d where d.collection = 'empty' and d.creation_utc = '';
  end if;
end;
$$;
comment on routine private.sample_documents is
  'Takes the statistics of documents anew: nothing of what has been deleted is in them, in this transaction above all.';
revoke all on routine private.sample_documents from public, anon, authenticated, service_role;
