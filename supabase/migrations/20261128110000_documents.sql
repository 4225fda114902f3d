-- Made from supabase/schemas/60_documents by "npm run migration": change it there.

set check_function_bodies = off;

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

-- Collections and the versions of their stores.

create function private.list_collections(p_limit integer, p_after text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_rows refcursor;
begin
  perform private.require_limit(p_limit);
  open v_rows for
    select jsonb_build_object(
      'collection', c.collection,
      'documents', (
        select count(*) from public.documents d where d.owner_id = v_owner_id and d.collection = c.collection
      ),
      'version', (
        select v.version from private.collection_versions v where v.owner_id = v_owner_id and v.collection = c.collection
      ),
      'failures', (
        select count(*) from public.document_failures f where f.owner_id = v_owner_id and f.collection = c.collection
      )
    )
    from (
      -- One whose documents are all in quarantine, or that has a version only, is to be found as well.
      select d.collection from public.documents d where d.owner_id = v_owner_id
      union
      select f.collection from public.document_failures f where f.owner_id = v_owner_id
      union
      select v.collection from private.collection_versions v where v.owner_id = v_owner_id
    ) c
    where c.collection > coalesce(p_after, '')
    order by c.collection
    limit p_limit + 1;
  return private.read_page(v_rows, p_limit);
end;
$$;
comment on routine private.list_collections is 'See public.list_collections.';


create function public.list_collections(p_limit integer default 50, p_after text default null, p_user_id uuid default null)
returns jsonb
language sql
stable
set search_path = ''
return private.list_collections(p_limit, p_after, p_user_id);
comment on routine public.list_collections is
  'A page of the collections, by name, also those with failed documents or a version alone: '
  '{data: [{collection, documents, failures, version}], has_more}.';
revoke all on routine private.list_collections, public.list_collections from public, anon, authenticated, service_role;
grant execute on routine private.list_collections, public.list_collections to authenticated, service_role;


create function private.drop_collection(p_collection text, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
  v_count bigint;
begin
  perform private.require_collection(p_collection);
  delete from private.collection_versions v where v.owner_id = v_owner_id and v.collection = p_collection;
  delete from public.document_failures f where f.owner_id = v_owner_id and f.collection = p_collection;
  delete from public.documents d where d.owner_id = v_owner_id and d.collection = p_collection;
  get diagnostics v_count = row_count;
  return jsonb_build_object('deleted_count', v_count);
end;
$$;
comment on routine private.drop_collection is 'See public.drop_collection.';


create function public.drop_collection(p_collection text, p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.drop_collection(p_collection, p_user_id);
comment on routine public.drop_collection is
  'Deletes a collection, its version and its failed documents: {deleted_count} of documents. Indexes are everybody''s and '
  'stay.';
revoke all on routine private.drop_collection, public.drop_collection from public, anon, authenticated, service_role;
grant execute on routine private.drop_collection, public.drop_collection to authenticated, service_role;


create function private.get_collection_version(p_collection text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
begin
  perform private.require_collection(p_collection);
  return jsonb_build_object('version', (
    select v.version from private.collection_versions v where v.owner_id = v_owner_id and v.collection = p_collection
  ));
end;
$$;
comment on routine private.get_collection_version is 'See public.get_collection_version.';


create function public.get_collection_version(p_collection text, p_user_id uuid default null) returns jsonb
language sql
stable
set search_path = ''
return private.get_collection_version(p_collection, p_user_id);
comment on routine public.get_collection_version is
  'The version of the store that a collection is part of: {version}, null if none was set.';
revoke all on routine private.get_collection_version, public.get_collection_version
  from public, anon, authenticated, service_role;
grant execute on routine private.get_collection_version, public.get_collection_version to authenticated, service_role;


create function private.set_collection_version(
  p_collection text, p_version text, p_expected_version text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
begin
  perform private.require_collection(p_collection);
  if coalesce(char_length(p_version), 0) not between 1 and 256 then
    perform private.refuse_part('version', 'Expected a string of 1 to 256 characters.');
  end if;
  if p_expected_version is null then
    insert into private.collection_versions (owner_id, collection, version)
    values (v_owner_id, p_collection, p_version)
    on conflict do nothing;
  else
    update private.collection_versions v set version = p_version
    where v.owner_id = v_owner_id and v.collection = p_collection and v.version = p_expected_version;
  end if;
  if not found then
    raise sqlstate 'PT409' using
      message = 'version_conflict',
      detail = format('The collection is at version %s.', coalesce((
        select v.version from private.collection_versions v where v.owner_id = v_owner_id and v.collection = p_collection
      ), 'null'));
  end if;
  return jsonb_build_object('version', p_version);
end;
$$;
comment on routine private.set_collection_version is 'See public.set_collection_version.';


create function public.set_collection_version(
  p_collection text, p_version text, p_expected_version text default null, p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.set_collection_version(p_collection, p_version, p_expected_version, p_user_id);
comment on routine public.set_collection_version is
  'Sets the version of a collection''s store if it is p_expected_version (null: none was set): {version}. Raises PT409 '
  'version_conflict.';
revoke all on routine private.set_collection_version, public.set_collection_version
  from public, anon, authenticated, service_role;
grant execute on routine private.set_collection_version, public.set_collection_version to authenticated, service_role;

insert into private.repeatable_calls (name, keeps, reader) values
  ('drop_collection', '{"deleted_count": "{deleted_count}"}', null),
  ('set_collection_version', '{}', 'public.get_collection_version');

-- What a filter may have, so that it costs little whatever is stored: docs/limits.md, "Cost".

create function private.id_path(p_filter jsonb) returns text[]
language sql
immutable
set search_path = ''
as $$
  select case
    when jsonb_typeof(p_filter) <> 'object' or p_filter - 'id' <> '{}' then null
    when jsonb_typeof(p_filter -> 'id') = 'string' then '{id}'::text[]
    when jsonb_typeof(p_filter #> '{id,$eq}') = 'string'
      and p_filter -> 'id' = jsonb_build_object('$eq', p_filter #> '{id,$eq}')
    then '{id,$eq}'::text[]
  end;
$$;
comment on routine private.id_path is
  'Where in a filter that is nothing but an id this stands; null for another. Frameworks ask so for hundreds of documents, and the '
  'planner compares alternatives with each other: as one array they take it no time.';
revoke all on routine private.id_path from public, anon, authenticated, service_role;


create function private.filter_conditions(p_filters jsonb)
returns table (is_id boolean, field text, operator text, operand jsonb)
language sql
immutable
set search_path = ''
as $$
  with recursive filters (value, level, parent) as (
    select p_filters, 0, null
    union all
    select e.value, f.level + 1, k.key
    from filters f
    cross join jsonb_each(case jsonb_typeof(f.value) when 'object' then f.value else '{}' end) k
    cross join jsonb_array_elements(case jsonb_typeof(k.value) when 'array' then k.value else '[]' end) e
    where k.key in ('$and', '$or') and f.level <= 16
  )
  select f.parent = '$or' and private.id_path(f.value) is not null, k.key, o.key, o.value
  from filters f
  cross join jsonb_each(case jsonb_typeof(f.value) when 'object' then f.value else '{}' end) k
  cross join jsonb_each(
    case when k.value @? 'strict $.keyvalue().key ? (@ starts with "$")' then k.value
    else jsonb_build_object('$eq', k.value) end
  ) o
  where k.key not in ('$and', '$or');
$$;
comment on routine private.filter_conditions is
  'Every operator on a field that a filter has, whatever is around it; is_id: it is an alternative that is nothing but an id.';
revoke all on routine private.filter_conditions from public, anon, authenticated, service_role;


create function private.require_filters(p_filters jsonb, out o_fields text[], out o_max_text integer)
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- What these come to is in docs/limits.md, "Cost".
  c_max_bytes constant integer := 64 * 1024;
  c_max_conditions constant integer := 100;
  c_max_fields constant integer := 16;
  c_max_elements constant integer := 2000;
  c_max_contained constant integer := 32;
  c_max_pattern constant integer := 1000;
  -- Bytes of a text × bytes of the patterns. A text that begins like a pattern over and over costs one step for each.
  c_max_steps constant integer := 128 * 1024 * 1024;
  v_count record;
begin
  if octet_length(p_filters::text) > c_max_bytes then
    perform private.refuse_part('filters', 'Larger than 64 KiB.', 'filter_bytes');
  end if;
  select
    count(*) filter (where not c.is_id) as conditions,
    array_agg(distinct c.field) filter (where split_part(c.field, '.', 1) not in ('id', 'version', 'creation_utc')) as fields,
    coalesce(sum(jsonb_array_length(c.operand)) filter (
      where c.operator in ('$in', '$nin') and jsonb_typeof(c.operand) = 'array'
    ), 0) + count(*) filter (where c.is_id) as elements,
    -- Containers count as well: every value but the outermost.
    sum(jsonb_array_length(jsonb_path_query_array(c.operand, 'strict $.**{1 to last}.type()')))
      filter (where c.operator = '$contains') as contained,
    sum(char_length(c.operand #>> '{}')) filter (where c.operator = '$like') as pattern,
    sum(octet_length(c.operand #>> '{}')) filter (where c.operator = '$like') as pattern_bytes
  into v_count
  from private.filter_conditions(p_filters) c;
  if v_count.conditions > c_max_conditions then
    perform private.refuse_part('filters', 'Has more than 100 operators on fields.', 'filter_conditions');
  elsif cardinality(v_count.fields) > c_max_fields then
    perform private.refuse_part('filters', 'Has more than 16 different fields.', 'filter_fields');
  elsif v_count.elements > c_max_elements then
    perform private.refuse_part('filters', 'Has more than 2,000 elements in $in, $nin and ids.', 'filter_elements');
  elsif v_count.contained > c_max_contained then
    perform private.refuse_part('filters', 'Has more than 32 values in $contains.', 'contained_values');
  elsif v_count.pattern > c_max_pattern then
    perform private.refuse_part('filters', 'Has more than 1,000 characters of patterns in $like.', 'filter_pattern');
  end if;
  o_fields := coalesce(v_count.fields, '{}');
  o_max_text := c_max_steps / greatest(v_count.pattern_bytes, 1);
end;
$$;
comment on routine private.require_filters is
  'Raises PT400 invalid_request, with the limit''s name, for a filter that would cost too much, whatever is stored. Answers its '
  'fields but for columns, and how many bytes a text may have for its patterns to be tried.';
revoke all on routine private.require_filters from public, anon, authenticated, service_role;

-- Filters: what the index on data knows of one. It only narrows down, and lets more through than what matches.

create function private.path_condition(p_field text, p_operator text, p_operand jsonb) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- More elements than this are no longer worth a look into the index each.
  c_max_lookups constant integer := 32;
  v_path text;
begin
  select '$.' || string_agg(to_json(part)::text, '.' order by n) into v_path
  from unnest((private.document_field(p_field)).path) with ordinality as p (part, n);
  return case
    when p_operator = '$eq' and jsonb_typeof(p_operand) in ('string', 'number', 'boolean')
      then format('%s == %s', v_path, p_operand)
    when p_operator = '$in' and jsonb_typeof(p_operand) = 'array' and jsonb_array_length(p_operand) <= c_max_lookups
      and not jsonb_path_exists(p_operand, 'strict $[*] ? (@.type() == "null" || @.type() == "array" || @.type() == "object")')
    then (
      select '(' || string_agg(format('%s == %s', v_path, e), ' || ') || ')' from jsonb_array_elements(p_operand) e
    )
  end;
end;
$$;
comment on routine private.path_condition is
  'Which value a field has, as a part of a strict jsonpath; null for an operator that does not say.';
revoke all on routine private.path_condition from public, anon, authenticated, service_role;


create function private.containment_condition(p_field text, p_operand jsonb, p_ref text[]) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_path text[] := (private.document_field(p_field)).path;
  v_sql text := format('($1 #> %L::text[])', p_ref);
begin
  if jsonb_typeof(p_operand) not in ('array', 'object') then
    v_sql := format('jsonb_build_array(%s)', v_sql);
  end if;
  for i in reverse cardinality(v_path)..1 loop
    v_sql := format('jsonb_build_object(%L::text, %s)', v_path[i], v_sql);
  end loop;
  return format('data @> %s', v_sql);
end;
$$;
comment on routine private.containment_condition is
  'What a field contains, as SQL. By a jsonpath it would take forty times as long on a large array that the index has found.';
revoke all on routine private.containment_condition from public, anon, authenticated, service_role;


create function private.narrow_filter(p_filter jsonb, p_path text[], out o_path text, out o_contained text)
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_key text;
  v_value jsonb;
  v_path text;
  v_contained text;
begin
  for v_key, v_value in select * from jsonb_each(p_filter) loop
    if v_key = '$and' then
      select string_agg(n.o_path, ' && '), string_agg(n.o_contained, ' and ') into v_path, v_contained
      from jsonb_array_elements(v_value) with ordinality as f (value, n)
      cross join lateral private.narrow_filter(f.value, p_path || array[v_key, (f.n - 1)::text]) n;
    elsif v_key = '$or' then
      -- One alternative that the index cannot find, and all of them have to be looked at.
      select
        case when bool_and(n.o_path is not null) then '(' || string_agg('(' || n.o_path || ')', ' || ') || ')' end,
        case when bool_and(n.o_contained is not null) then '(' || string_agg('(' || n.o_contained || ')', ' or ') || ')' end
      into v_path, v_contained
      from jsonb_array_elements(v_value) with ordinality as f (value, n)
      cross join lateral private.narrow_filter(f.value, p_path || array[v_key, (f.n - 1)::text]) n;
    -- To the index a number in a path is the name of a field, never the place in an array that it may be to #>.
    elsif v_key ~ '^(id|version|creation_utc)(\.|$)' or v_key ~ '\.[+-]?\d+(\.|$)' then
      continue;
    elsif v_value @? 'strict $.keyvalue().key ? (@ starts with "$")' then
      select
        string_agg(private.path_condition(v_key, o.key, o.value), ' && '),
        string_agg(private.containment_condition(v_key, o.value, p_path || array[v_key, o.key]), ' and ')
          filter (where o.key = '$contains')
      into v_path, v_contained
      from jsonb_each(v_value) o;
    else
      select private.path_condition(v_key, '$eq', v_value), null into v_path, v_contained;
    end if;
    o_path := nullif(concat_ws(' && ', o_path, v_path), '');
    o_contained := nullif(concat_ws(' and ', o_contained, v_contained), '');
  end loop;
end;
$$;
comment on routine private.narrow_filter is
  'What every match of a filter, or of the part of one at p_path, fulfils: o_path as a jsonpath, o_contained as SQL. Null where '
  'there is nothing.';
revoke all on routine private.narrow_filter from public, anon, authenticated, service_role;


create function private.filter_path(p_filters jsonb) returns jsonpath
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_max_comparisons constant integer := 128;
  v_path text := (private.narrow_filter(p_filters, '{}')).o_path;
begin
  return case when regexp_count(v_path, ' == ') <= c_max_comparisons then ('strict ' || v_path)::jsonpath end;
end;
$$;
comment on routine private.filter_path is
  'What values every match of a filter has, for the index on data; null where the filter does not say.';
revoke all on routine private.filter_path from public, anon, authenticated, service_role;

-- Filters: {"age": {"$gte": 18}, "$or": [{"name": "Ada"}, {"tags": {"$contains": "vip"}}]} becomes a condition in SQL.
--
-- No value is ever part of the SQL text. A condition refers to its operand by the path at which it stands in the filter, and the
-- filter itself is bound as $1. What the text does contain of a filter, names of fields, is there as quoted literals.
--
-- A document may have 4 MiB, and every operator that looks into it unpacks all of it and keeps that until the row is done with.
-- So what decides reads a document once and each field once, in a subquery (private.compile_filters). What an index serves
-- stands before it, on the columns, and only narrows down: how equal values do, is one path for the index on data
-- (private.filter_path).

create function private.document_field(
  p_field text, out is_column boolean, out path text[], out value text, out number text, out string text
)
language plpgsql
immutable
set search_path = ''
as $$
begin
  path := case p_field when '' then '{""}' else string_to_array(p_field, '.') end;
  if cardinality(path) > 16 then
    perform private.refuse_part(p_field, 'Has more than 16 parts.', 'filter_path');
  end if;
  is_column := p_field in ('id', 'version', 'creation_utc');
  if is_column then
    value := format('to_jsonb(%I)', p_field);
    number := 'null::numeric';
    string := format('(%I collate "C")', p_field);
  elsif path[1] in ('id', 'version', 'creation_utc') then
    value := 'null::jsonb'; -- a text has no fields
    number := 'null::numeric';
    string := '(null::text collate "C")';
  else
    value := format('(data #> %L::text[])', path);
    number := format($f$(case jsonb_typeof(%1$s) when 'number' then %1$s::numeric end)$f$, value);
    string := format($f$(case jsonb_typeof(%1$s) when 'string' then %1$s #>> '{}' end collate "C")$f$, value);
  end if;
end;
$$;
comment on routine private.document_field is
  'A field of documents as SQL expressions: its value as jsonb (null: missing), the value if it is a number, the value if '
  'it is a string. A dot is a path. Filters, sorts and indexes have them from here: an index serves an expression that is '
  'spelled as its own.';
revoke all on routine private.document_field from public, anon, authenticated, service_role;


create function private.compile_condition(
  p_field text, p_operator text, p_operand jsonb, p_path text[], p_name text, p_fields text[],
  out o_exact text, out o_column text, out o_range text
)
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_field record;
  v_n integer := array_position(p_fields, p_field);
  -- The operand, where it stands in the filter.
  v_ref text := format('($1 #> %L::text[])', p_path);
  v_text text := format('($1 #>> %L::text[])', p_path);
  v_type text := jsonb_typeof(p_operand);
  v_comparison text := '{"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}'::jsonb ->> p_operator;
  v_value text;
  v_number text;
  v_string text;
begin
  select * into v_field from private.document_field(p_field);
  v_value := case when v_n is null then v_field.value else format('f.v%s', v_n) end;
  v_number := case
    when v_n is null then v_field.number
    else format($f$(case jsonb_typeof(%1$s) when 'number' then %1$s::numeric end)$f$, v_value)
  end;
  v_string := case when v_n is null then v_field.string else format('f.t%s', v_n) end;
  if p_field = 'creation_utc' and v_type = 'string' and p_operator in ('$eq', '$ne', '$gt', '$gte', '$lt', '$lte') then
    -- As the instant that it names; what names none is no document's. In a subquery it is worked out once.
    v_text := format('(select private.creation_time(%s))', v_text);
    v_ref := v_text;
    v_value := 'sort_at';
    v_string := v_value;
  end if;

  case p_operator
    when '$eq' then
      o_exact := case
        when v_type = 'null' then format($f$coalesce(jsonb_typeof(%s), 'null') = 'null'$f$, v_value)
        when not v_field.is_column then format('%s = %s', v_value, v_ref)
        when v_type = 'string' then format('%s = %s', v_string, v_text)
        else 'false'
      end;

    when '$ne' then
      o_exact := case
        when v_type = 'null' then format($f$coalesce(jsonb_typeof(%s), 'null') <> 'null'$f$, v_value)
        else format('(%s = %s) is not true', v_value, v_ref)
      end;

    when '$gt', '$gte', '$lt', '$lte' then
      case v_type
        when 'number' then
          o_exact := format('%s %s %s::numeric', v_number, v_comparison, v_ref);
          o_range := format('%s %s %s::numeric', v_field.number, v_comparison, v_ref);
        when 'string' then
          o_exact := format('%s %s %s', v_string, v_comparison, v_text);
          -- What an index of the field knows (private.create_document_index).
          o_range := format(
            '(%1$s is null and left(%2$s, 256) %3$s left(%4$s, 256))',
            v_field.number, v_field.string, left(v_comparison, 1) || '=', v_text
          );
        when 'boolean' then
          o_exact := format($f$(jsonb_typeof(%1$s) = 'boolean' and %1$s %2$s %3$s)$f$, v_value, v_comparison, v_ref);
        else
          perform private.refuse_part(p_name, 'Expected a number, a string or a boolean.');
      end case;

    when '$in', '$nin' then
      if v_type <> 'array' then
        perform private.refuse_part(p_name, 'Expected an array.');
      elsif jsonb_array_length(p_operand) > 1000 then
        perform private.refuse_part(p_name, 'Has more than 1,000 elements.', 'filter_elements');
      elsif p_field = 'creation_utc' then
        o_exact := format(
          '(sort_at = any (array(select private.creation_time(e #>> ''{}'') from jsonb_array_elements(%s) e)))', v_ref
        );
        o_exact := case p_operator when '$in' then o_exact else o_exact || ' is not true' end;
      elsif p_operator = '$nin' then
        o_exact := format($f$coalesce(%s, 'null') not in (select jsonb_array_elements(%s))$f$, v_value, v_ref);
      elsif v_field.is_column and not jsonb_path_exists(p_operand, 'strict $[*] ? (@.type() != "string")') then
        o_exact := format('%s = any (array(select jsonb_array_elements_text(%s)))', v_string, v_ref);
      else
        o_exact := format($f$coalesce(%s, 'null') in (select jsonb_array_elements(%s))$f$, v_value, v_ref);
      end if;

    when '$exists' then
      if v_type <> 'boolean' then
        perform private.refuse_part(p_name, 'Expected a boolean.');
      end if;
      o_exact := format('%s is %s null', v_value, case when p_operand::boolean then 'not' else '' end);

    when '$contains' then
      o_exact := format($f$(jsonb_typeof(%1$s) in ('array', 'object') and %1$s @> %2$s)$f$, v_value, v_ref);

    when '$like' then
      if v_type <> 'string' then
        perform private.refuse_part(p_name, 'Expected a string.');
      elsif regexp_replace(p_operand #>> '{}', '\\.', '', 'g') like '%\\' then
        perform private.refuse_part(p_name, 'Ends with a backslash, which escapes nothing.');
      end if;
      o_exact := case
        when v_n is null then format('%s like %s', v_string, v_text)
        else format('(octet_length(%1$s) <= f.max_text and %1$s like %2$s)', v_string, v_text)
      end;

    else
      perform private.refuse_part(
        p_name,
        'There is no such operator. There are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $contains, $like, and '
        '$and, $or around fields.'
      );
  end case;
  if v_field.is_column then
    o_column := o_exact;
    o_range := null;
  end if;
end;
$$;
comment on routine private.compile_condition is
  'One operator on one field as SQL: o_exact decides, with the field as f.v<n> and f.t<n> of private.compile_filters; o_column and '
  'o_range are what an index can serve of it, on the table''s columns. Comparison is typed: a number never equals its text. A '
  'missing field is as null is to $eq, $ne, $in and $nin, and matches no range.';
revoke all on routine private.compile_condition from public, anon, authenticated, service_role;


create function private.compile_filter(
  p_filter jsonb, p_path text[], p_name text, p_fields text[], out o_exact text, out o_columns text[], out o_ranges text[]
)
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_max_depth constant integer := 16;
  v_key text;
  v_value jsonb;
  v_name text;
  v_part record;
  v_parts text[];
  v_ids text;
  v_conditions text[] := '{}';
  v_operators text[];
begin
  o_columns := '{}';
  o_ranges := '{}';
  if jsonb_typeof(p_filter) is distinct from 'object' then
    perform private.refuse_part(p_name, 'Expected an object.');
  end if;
  for v_key, v_value in select * from jsonb_each(p_filter) loop
    v_name := p_name || '.' || v_key;
    if v_key in ('$and', '$or') then
      if jsonb_typeof(v_value) <> 'array' then
        perform private.refuse_part(v_name, 'Expected an array of filters.');
      elsif cardinality(p_path) >= 2 * c_max_depth then
        perform private.refuse_part(v_name, format('Is nested deeper than %s levels.', c_max_depth), 'filter_depth');
      end if;
      v_ids := null;
      if v_key = '$or' then
        select format(
          'id = any (array(select e #>> private.id_path(e) from jsonb_array_elements($1 #> %L::text[]) e))', p_path || v_key
        ) into v_ids
        where exists (select from jsonb_array_elements(v_value) f where private.id_path(f) is not null);
      end if;
      v_parts := case when v_ids is null then '{}' else array[v_ids] end;
      for v_part in
        select c.*
        from jsonb_array_elements(v_value) with ordinality as f (value, n)
        cross join lateral private.compile_filter(
          f.value, p_path || array[v_key, (f.n - 1)::text], format('%s[%s]', v_name, f.n - 1), p_fields
        ) c
        where v_key = '$and' or private.id_path(f.value) is null
        order by f.n
      loop
        v_parts := v_parts || v_part.o_exact;
        -- Alternatives are narrowed down by the index on data, or by their ids, or not at all.
        if v_key = '$and' then
          o_columns := o_columns || v_part.o_columns;
          o_ranges := o_ranges || v_part.o_ranges;
        end if;
      end loop;
      if v_parts = array[v_ids] then
        o_columns := o_columns || v_ids;
      end if;
      v_conditions := v_conditions || case
        when v_parts = '{}' then case v_key when '$and' then 'true' else 'false' end
        else '(' || array_to_string(v_parts, case v_key when '$and' then ' and ' else ' or ' end) || ')'
      end;
    elsif v_key like '$%' then
      perform private.refuse_part(v_name, 'There is no such operator: between fields there are $and and $or.');
    elsif char_length(v_key) > 256 then
      perform private.refuse_part(v_name, 'A field is longer than 256 characters.', 'filter_path');
    else
      v_operators := case
        when jsonb_typeof(v_value) = 'object' then array(select k from jsonb_object_keys(v_value) k where k like '$%')
        else '{}'
      end;
      if cardinality(v_operators) between 1 and (select count(*) - 1 from jsonb_object_keys(v_value)) then
        perform private.refuse_part(v_name, 'Has operators and fields side by side.');
      end if;
      for v_part in
        select c.*
        from unnest(v_operators) o
        cross join lateral private.compile_condition(
          v_key, o, v_value -> o, p_path || array[v_key, o], v_name || '.' || o, p_fields
        ) c
        union all
        select c.*
        from private.compile_condition(v_key, '$eq', v_value, p_path || v_key, v_name, p_fields) c
        where v_operators = '{}'
      loop
        v_conditions := v_conditions || v_part.o_exact;
        o_columns := array_remove(o_columns || v_part.o_column, null);
        o_ranges := array_remove(o_ranges || v_part.o_range, null);
      end loop;
    end if;
  end loop;
  o_exact := case v_conditions when '{}' then 'true' else '(' || array_to_string(v_conditions, ' and ') || ')' end;
end;
$$;
comment on routine private.compile_filter is
  'A filter, or the part of one at p_path, as SQL that decides, and what of it every match fulfils that indexes of columns and of '
  'fields serve. See private.compile_filters.';
revoke all on routine private.compile_filter from public, anon, authenticated, service_role;


create function private.compile_filters(p_filters jsonb) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Each unpacks the document again.
  c_max_ranges constant integer := 2;
  c_max_containments constant integer := 12;
  v_known record := private.require_filters(p_filters);
  v_filter record := private.compile_filter(p_filters, '{}', 'filters', v_known.o_fields);
  v_contained text := (private.narrow_filter(p_filters, '{}')).o_contained;
  v_unpacked text;
begin
  if v_known.o_fields = '{}' then
    return v_filter.o_exact;
  end if;
  select format(
    '(select %s from (select w.*, %s, %s as max_text from (select %s from (select data || ''{}'' as data offset 0) d offset 0) w '
    'offset 0) f)',
    v_filter.o_exact,
    string_agg(format($f$case jsonb_typeof(w.v%1$s) when 'string' then w.v%1$s #>> '{}' end collate "C" as t%1$s$f$, f.n), ', '),
    v_known.o_max_text,
    string_agg(format('d.data #> %L::text[] as v%s', (private.document_field(f.field)).path, f.n), ', ')
  ) into v_unpacked
  from unnest(v_known.o_fields) with ordinality as f (field, n);
  return array_to_string(
    array[
      case when private.filter_path(p_filters) is not null then 'data @@ private.filter_path($1)' end,
      case when regexp_count(v_contained, 'data @>') <= c_max_containments then v_contained end
    ] || v_filter.o_columns || v_filter.o_ranges[:c_max_ranges] || v_unpacked,
    ' and '
  );
end;
$$;
comment on routine private.compile_filters is
  'The condition on public.documents that a filter means, as SQL in which $1 is the filter itself. Raises PT400 '
  'invalid_request with the path of what is malformed, of an unknown operator, or of what is too deep or too large.';
revoke all on routine private.compile_filters from public, anon, authenticated, service_role;


create function private.compile_sort(p_sort jsonb) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_key jsonb;
  v_field record;
  v_direction text;
  v_terms text[] := '{}';
  v_name text;
begin
  if p_sort in ('"asc"', '"desc"') then
    return format('sort_at %1$s, id %1$s', p_sort #>> '{}');
  elsif jsonb_typeof(p_sort) is distinct from 'array' or jsonb_array_length(p_sort) not between 1 and 4 then
    perform private.refuse_part('sort', 'Expected "asc", "desc", or an array of 1 to 4 {field, direction}.');
  end if;
  for i in 0..jsonb_array_length(p_sort) - 1 loop
    v_key := p_sort -> i;
    v_name := format('sort[%s]', i);
    if jsonb_typeof(v_key) <> 'object' or v_key - '{field,direction}'::text[] <> '{}'
      or jsonb_typeof(v_key -> 'field') is distinct from 'string' or char_length(v_key ->> 'field') > 256
      or coalesce(v_key -> 'direction', '"asc"') not in ('"asc"', '"desc"')
    then
      perform private.refuse_part(v_name, 'Expected {field, direction?}, the direction "asc" or "desc".');
    end if;
    select * into v_field from private.document_field(v_key ->> 'field');
    v_direction := case v_key ->> 'direction' when 'desc' then 'desc nulls last' else 'asc nulls first' end;
    v_terms := v_terms || case
      when v_field.is_column then format('%s %s', v_field.string, v_direction)
      -- The first 256 characters beside the whole: an index of the field has the order of those.
      else format('%1$s %3$s, left(%2$s, 256) %3$s, %2$s %3$s', v_field.number, v_field.string, v_direction)
    end;
  end loop;
  return array_to_string(v_terms, ', ') || ', sort_at, id';
end;
$$;
comment on routine private.compile_sort is
  '"asc" or "desc" by (creation_utc, id), or [{field, direction?}], as SQL. Ascending: what is neither string nor number or '
  'is missing, then strings, then numbers.';
revoke all on routine private.compile_sort from public, anon, authenticated, service_role;

-- Indexes of single fields, made when they are asked for. They are what range filters and sorts by a field use; equality
-- and containment have the index on data.

create function private.document_index(
  p_collection text, p_field text, out name text, out number text, out string text, out definition text
)
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_field record;
begin
  perform private.require_collection(p_collection);
  select * into v_field from private.document_field(p_field);
  if p_field is null or v_field.path[1] in ('id', 'version', 'creation_utc') or char_length(p_field) > 256 then
    perform private.refuse_part(
      'field', 'Expected a field of at most 256 characters, but none of id, version and creation_utc.'
    );
  end if;
  name := 'idx_documents_field_' || left(md5(p_collection || '/' || p_field), 16);
  number := v_field.number;
  string := format('left(%s, 256)', v_field.string);
  definition := format(
    '%I on public.documents (owner_id, %s nulls first, %s nulls first) where collection = %L',
    name, number, string, p_collection
  );
end;
$$;
comment on routine private.document_index is
  'A field''s index: its name, the two expressions in it, and what follows "create index". Of a string it has the first 256 '
  'characters: an index row that is too long would make an insert fail. Raises PT400 invalid_request.';
revoke all on routine private.document_index from public, anon, authenticated, service_role;


create function private.describe_document_index(p_collection text, p_field text) returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'collection', p_collection,
    'field', p_field,
    'name', i.name,
    'definition', 'create index concurrently if not exists ' || i.definition
  )
  from private.document_index(p_collection, p_field) i;
$$;
comment on routine private.describe_document_index is
  'A field''s index as the API answers it: {collection, field, name, definition}.';
revoke all on routine private.describe_document_index from public, anon, authenticated, service_role;


create function private.document_indexes() returns table (name text, collection text, field text, is_valid boolean)
language sql
stable
security definer
set search_path = ''
as $$
  select c.relname::text, d.about ->> 'collection', d.about ->> 'field', i.indisvalid
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  left join lateral (
    select obj_description(c.oid, 'pg_class')::jsonb as about
  ) d on true
  where i.indrelid = 'public.documents'::regclass and c.relname like 'idx\_documents\_field\_%';
$$;
comment on routine private.document_indexes is
  'The indexes of fields. Their comments say of which collection and field: the catalogue is the only list of them.';
revoke all on routine private.document_indexes from public, anon, authenticated, service_role;


create function private.create_document_index(p_collection text, p_field text) returns jsonb
language plpgsql
security definer
set search_path = ''
-- Whoever writes a document while this waits for the table waits behind it.
set lock_timeout = '1s'
as $$
declare
  c_max_in_collection constant integer := 8;
  c_max constant integer := 100;
  v_index record;
  v_exists boolean;
begin
  select * into v_index from private.document_index(p_collection, p_field);
  perform pg_advisory_xact_lock(hashtextextended('document_indexes', 0));
  -- One that "create index concurrently" left unfinished.
  if exists (select from private.document_indexes() i where i.name = v_index.name and not i.is_valid) then
    execute format('drop index public.%I', v_index.name);
  end if;
  v_exists := exists (select from private.document_indexes() i where i.name = v_index.name);
  if not v_exists and (
    (select count(*) from private.document_indexes() i where i.collection = p_collection) >= c_max_in_collection
    or (select count(*) from private.document_indexes()) >= c_max
  ) then
    raise sqlstate 'PT409' using
      message = 'index_limit',
      detail = format('There are %s indexes for a collection, and %s together, at the most.', c_max_in_collection, c_max);
  end if;
  -- Of a partial index the planner uses no statistics: without these it would guess that a range has a third of all.
  -- First, because it locks out nobody.
  if not exists (
    select from pg_catalog.pg_statistic_ext e
    where e.stxnamespace = 'private'::regnamespace and e.stxname = v_index.name || '_number'
  ) then
    execute format('create statistics private.%I on %s from public.documents', v_index.name || '_number', v_index.number);
    execute format('create statistics private.%I on (%s) from public.documents', v_index.name || '_string', v_index.string);
    analyze public.documents;
  end if;
  if not v_exists then
    execute 'create index ' || v_index.definition;
  end if;
  execute format(
    'comment on index public.%I is %L',
    v_index.name, jsonb_build_object('collection', p_collection, 'field', p_field)
  );
  return jsonb_build_object('index', private.describe_document_index(p_collection, p_field), 'created', not v_exists);
end;
$$;
comment on routine private.create_document_index is 'See public.create_document_index.';


create function public.create_document_index(p_collection text, p_field text) returns jsonb
language sql
set search_path = ''
return private.create_document_index(p_collection, p_field);
comment on routine public.create_document_index is
  'Makes the index of a field of a collection, whoever its documents belong to, or finds it: {index, created}. Nobody '
  'writes a document meanwhile; on a large table run the definition by hand, then call this. Raises PT409 index_limit.';
revoke all on routine private.create_document_index, public.create_document_index
  from public, anon, authenticated, service_role;
grant execute on routine private.create_document_index, public.create_document_index to service_role;


create function private.drop_document_index(p_collection text, p_field text) returns void
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1s'
as $$
declare
  v_index record;
begin
  select * into v_index from private.document_index(p_collection, p_field);
  perform pg_advisory_xact_lock(hashtextextended('document_indexes', 0));
  if not exists (select from private.document_indexes() i where i.name = v_index.name) then
    raise sqlstate 'PT404' using message = 'index_not_found';
  end if;
  execute format('drop index public.%I', v_index.name);
  execute format(
    'drop statistics if exists private.%I, private.%I', v_index.name || '_number', v_index.name || '_string'
  );
end;
$$;
comment on routine private.drop_document_index is 'See public.drop_document_index.';


create function public.drop_document_index(p_collection text, p_field text) returns void
language sql
set search_path = ''
return private.drop_document_index(p_collection, p_field);
comment on routine public.drop_document_index is 'Drops the index of a field. Raises PT404 index_not_found.';
revoke all on routine private.drop_document_index, public.drop_document_index
  from public, anon, authenticated, service_role;
grant execute on routine private.drop_document_index, public.drop_document_index to service_role;


create function private.list_document_indexes(p_collection text) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  perform private.require_collection(p_collection);
  -- There are few: no pages.
  return jsonb_build_object('has_more', false, 'data', (
    select coalesce(jsonb_agg(private.describe_document_index(i.collection, i.field) order by i.field), '[]')
    from private.document_indexes() i
    where i.collection = p_collection and i.is_valid
  ));
end;
$$;
comment on routine private.list_document_indexes is 'See public.list_document_indexes.';


create function public.list_document_indexes(p_collection text) returns jsonb
language sql
stable
set search_path = ''
return private.list_document_indexes(p_collection);
comment on routine public.list_document_indexes is
  'The indexes of a collection''s fields: {data: [{collection, field, name, definition}], has_more}.';
revoke all on routine private.list_document_indexes, public.list_document_indexes
  from public, anon, authenticated, service_role;
grant execute on routine private.list_document_indexes, public.list_document_indexes to service_role;

-- The answer has nothing of a user's.
insert into private.repeatable_calls (name, keeps) values
  ('create_document_index', '{"index": "{index}", "created": "{created}"}'),
  ('drop_document_index', '{}');

-- Quarantine: documents that a client could not convert to its version.

create function private.to_failure(p_failure public.document_failures) returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'document', private.to_document(p_failure.id, p_failure.version, p_failure.creation_utc, p_failure.data),
    'reason', p_failure.reason,
    'failed_at', p_failure.failed_at
  );
$$;
comment on routine private.to_failure is 'A failed document as the API answers it.';
revoke all on routine private.to_failure from public, anon, authenticated, service_role;


create function private.fail_document(p_collection text, p_id text, p_reason text, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
  v_failure public.document_failures;
begin
  perform private.require_collection(p_collection);
  if coalesce(char_length(p_reason), 0) not between 1 and 2000 then
    perform private.refuse_part('reason', 'Expected a string of 1 to 2,000 characters.');
  end if;
  with failed as (
    delete from public.documents d
    where d.owner_id = v_owner_id and d.collection = p_collection and d.id = p_id
    returning d.*
  )
  insert into public.document_failures as f
  select r.*
  from failed d
  cross join lateral jsonb_populate_record(
    null::public.document_failures, to_jsonb(d) || jsonb_build_object('reason', p_reason, 'failed_at', now())
  ) r
  returning f.* into v_failure;
  if not found then
    raise sqlstate 'PT404' using message = 'document_not_found';
  end if;
  return private.to_failure(v_failure);
exception
  when unique_violation then
    raise sqlstate 'PT409' using
      message = 'document_exists', detail = 'A document of this id is among the failed ones already.';
end;
$$;
comment on routine private.fail_document is 'See public.fail_document.';


create function public.fail_document(p_collection text, p_id text, p_reason text, p_user_id uuid default null)
returns jsonb
language sql
set search_path = ''
return private.fail_document(p_collection, p_id, p_reason, p_user_id);
comment on routine public.fail_document is
  'Moves a document out of its collection, to the failed ones: {document, reason, failed_at}. Raises PT404 '
  'document_not_found, PT409 document_exists.';
revoke all on routine private.fail_document, public.fail_document from public, anon, authenticated, service_role;
grant execute on routine private.fail_document, public.fail_document to authenticated, service_role;


create function private.restore_document(p_collection text, p_id text, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
  v_document public.documents;
begin
  perform private.require_collection(p_collection);
  with restored as (
    delete from public.document_failures f
    where f.owner_id = v_owner_id and f.collection = p_collection and f.id = p_id
    returning f.*
  )
  insert into public.documents as d
  select r.*
  from restored f
  cross join lateral jsonb_populate_record(null::public.documents, to_jsonb(f)) r
  returning d.* into v_document;
  if not found then
    raise sqlstate 'PT404' using message = 'document_not_found';
  end if;
  return jsonb_build_object(
    'document', private.to_document(v_document.id, v_document.version, v_document.creation_utc, v_document.data)
  );
exception
  when unique_violation then
    raise sqlstate 'PT409' using message = 'document_exists', detail = 'The collection has a document of this id again.';
end;
$$;
comment on routine private.restore_document is 'See public.restore_document.';


create function public.restore_document(p_collection text, p_id text, p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.restore_document(p_collection, p_id, p_user_id);
comment on routine public.restore_document is
  'Puts a failed document back into its collection: {document}. Raises PT404 document_not_found, PT409 document_exists.';
revoke all on routine private.restore_document, public.restore_document from public, anon, authenticated, service_role;
grant execute on routine private.restore_document, public.restore_document to authenticated, service_role;


create function private.list_failures(p_collection text, p_limit integer, p_after text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_rows refcursor;
begin
  perform private.require_collection(p_collection);
  perform private.require_limit(p_limit);
  open v_rows for
    select private.to_failure(f)
    from public.document_failures f
    where f.owner_id = v_owner_id and f.collection = p_collection and f.id > coalesce(p_after, '')
    order by f.id
    limit p_limit + 1;
  return private.read_page(v_rows, p_limit);
end;
$$;
comment on routine private.list_failures is 'See public.list_failures.';


create function public.list_failures(
  p_collection text, p_limit integer default 50, p_after text default null, p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.list_failures(p_collection, p_limit, p_after, p_user_id);
comment on routine public.list_failures is
  'A page of a collection''s failed documents, by id, after p_after: {data: [{document, reason, failed_at}], has_more}.';
revoke all on routine private.list_failures, public.list_failures from public, anon, authenticated, service_role;
grant execute on routine private.list_failures, public.list_failures to authenticated, service_role;


create function private.reread_failure(p_collection text, p_id text, p_user_id uuid default null) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_failure public.document_failures;
begin
  select * into v_failure
  from public.document_failures f
  where f.owner_id = private.document_owner(p_user_id) and f.collection = p_collection and f.id = p_id;
  if not found then
    raise sqlstate 'PT404' using message = 'document_not_found';
  end if;
  return private.to_failure(v_failure);
end;
$$;
comment on routine private.reread_failure is
  'What a replayed move into quarantine answers. Raises PT404 document_not_found where it has been restored since.';

create function private.reread_restored(p_collection text, p_id text, p_user_id uuid default null) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select jsonb_build_object('document', private.reread_document(p_collection, p_id, p_user_id) -> 'updated_document');
$$;
comment on routine private.reread_restored is 'What a replayed restoration answers: null if the document is gone by then.';
revoke all on routine private.reread_failure, private.reread_restored from public, anon, authenticated, service_role;
grant execute on routine private.reread_failure, private.reread_restored to authenticated, service_role;

insert into private.repeatable_calls (name, reader) values
  ('fail_document', 'private.reread_failure'),
  ('restore_document', 'private.reread_restored');

-- Reading documents, in definer functions that filter by the owner themselves: under row level security the containment
-- operator could not use its index.

create function private.find_documents(
  p_collection text, p_filters jsonb, p_limit integer, p_cursor jsonb, p_sort text, p_count boolean, p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- To compile a filter to machine code takes longer than most collections take to be read.
set jit = off
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_sort_at timestamptz := private.creation_time(p_cursor ->> 'creation_utc');
  v_is_page boolean := v_sort_at is not null and p_cursor ->> 'id' is not null;
  v_from text;
  v_rows refcursor;
  v_page jsonb;
  v_total_count bigint;
begin
  perform private.require_collection(p_collection);
  if p_limit < 1 then
    perform private.refuse_part('limit', 'Expected a positive integer.');
  elsif coalesce(p_sort not in ('asc', 'desc'), true) then
    perform private.refuse_part('sort', 'Expected "asc" or "desc".');
  end if;
  v_from := format(
    'from public.documents where owner_id = $2 and collection = $3 and %s', private.compile_filters(p_filters)
  );
  if octet_length(p_filters::text) > 512 then
    perform private.take_turn(v_owner_id::text);
  end if;

  open v_rows for
    execute format(
      'select private.to_document(id, version, creation_utc, data) %1$s %2$s order by sort_at %3$s, id %3$s limit $6',
      v_from,
      case when v_is_page then format('and (sort_at, id) %s ($4, $5)', case p_sort when 'asc' then '>' else '<' end) end,
      p_sort
    )
    using p_filters, v_owner_id, p_collection, v_sort_at, p_cursor ->> 'id', p_limit::bigint + 1;
  v_page := private.read_page(v_rows, p_limit);
  if coalesce(p_count, true) then
    if v_is_page or v_page -> 'has_more' = 'true' then
      execute 'select count(*) ' || v_from into v_total_count using p_filters, v_owner_id, p_collection;
    else
      v_total_count := jsonb_array_length(v_page -> 'data');
    end if;
  end if;
  return jsonb_build_object(
    'items', v_page -> 'data', 'total_count', v_total_count, 'has_more', v_page -> 'has_more'
  );
end;
$$;
comment on routine private.find_documents is 'See public.find_documents.';


create function public.find_documents(
  p_collection text,
  p_filters jsonb default '{}',
  p_limit integer default null,
  p_cursor jsonb default null,
  p_sort text default 'asc',
  p_count boolean default true,
  p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.find_documents(p_collection, p_filters, p_limit, p_cursor, p_sort, p_count, p_user_id);
comment on routine public.find_documents is
  'The documents that match, by (creation_utc, id), after p_cursor ({creation_utc, id}; ignored where it is no cursor): at '
  'most p_limit (null: all) and about 8 MiB. Answers {items, total_count, has_more}: total_count is exact and counts all '
  'that match, or is null without p_count.';
revoke all on routine private.find_documents, public.find_documents from public, anon, authenticated, service_role;
grant execute on routine private.find_documents, public.find_documents to authenticated, service_role;


create function private.find_document(p_collection text, p_filters jsonb, p_sort jsonb, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set jit = off
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_document jsonb;
begin
  perform private.require_collection(p_collection);
  if jsonb_typeof(p_sort) <> 'object' or p_sort - 'order' <> '{}' then
    perform private.refuse_part('sort', 'Expected {order}.');
  end if;
  if octet_length(p_filters::text) > 512 then
    perform private.take_turn(v_owner_id::text);
  end if;
  execute format(
    'select private.to_document(id, version, creation_utc, data) from public.documents '
    'where owner_id = $2 and collection = $3 and %s order by %s limit 1',
    private.compile_filters(p_filters), private.compile_sort(coalesce(p_sort -> 'order', '"asc"'))
  )
  into v_document using p_filters, v_owner_id, p_collection;
  return jsonb_build_object('document', v_document);
end;
$$;
comment on routine private.find_document is 'See public.find_document.';


create function public.find_document(
  p_collection text, p_filters jsonb default '{}', p_sort jsonb default null, p_user_id uuid default null
) returns jsonb
language sql
stable
set search_path = ''
return private.find_document(p_collection, p_filters, p_sort, p_user_id);
comment on routine public.find_document is
  'The first document that matches: {document}, null if none does. p_sort is {order}: "asc" or "desc" by '
  '(creation_utc, id), or [{field, direction?}].';
revoke all on routine private.find_document, public.find_document from public, anon, authenticated, service_role;
grant execute on routine private.find_document, public.find_document to authenticated, service_role;


create function private.count_documents(p_collection text, p_filters jsonb, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set jit = off
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_count bigint;
begin
  perform private.require_collection(p_collection);
  if octet_length(p_filters::text) > 512 then
    perform private.take_turn(v_owner_id::text);
  end if;
  execute format(
    'select count(*) from public.documents where owner_id = $2 and collection = $3 and %s',
    private.compile_filters(p_filters)
  )
  into v_count using p_filters, v_owner_id, p_collection;
  return jsonb_build_object('count', v_count);
end;
$$;
comment on routine private.count_documents is 'See public.count_documents.';


create function public.count_documents(p_collection text, p_filters jsonb default '{}', p_user_id uuid default null)
returns jsonb
language sql
stable
set search_path = ''
return private.count_documents(p_collection, p_filters, p_user_id);
comment on routine public.count_documents is 'How many documents match: {count}.';
revoke all on routine private.count_documents, public.count_documents from public, anon, authenticated, service_role;
grant execute on routine private.count_documents, public.count_documents to authenticated, service_role;

-- Retention of documents: by their creation_utc, in the collections that have a policy.

create function private.retain_documents(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 2000;
  v_policy record;
  v_table text;
  v_piece record;
begin
  removed := '{"documents": 0, "document_failures": 0}';
  more := false;
  for v_policy in
    select p.collection, p_now - p.keep as cutoff
    from private.retention_policies p
    where p.kind = 'documents' and p.keep is not null and p.collection >= coalesce(p_position ->> 'collection', '')
    order by p.collection
  loop
    p_position := jsonb_build_object('collection', v_policy.collection);
    foreach v_table in array '{documents,document_failures}'::text[] loop
      v_piece := private.remove_oldest(
        format('public.%I', v_table)::regclass,
        format('t.collection = %L and t.sort_at < $3', v_policy.collection), v_policy.cutoff, 'sort_at', 'data',
        c_removed - (removed ->> 'documents')::integer - (removed ->> 'document_failures')::integer
      );
      removed := jsonb_set(removed, array[v_table], to_jsonb((removed ->> v_table)::integer + v_piece.removed));
      more := v_piece.more;
      exit when more;
    end loop;
    exit when more;
  end loop;
end;
$$;
comment on routine private.retain_documents is
  'Deletes up to 2,000 documents, those in quarantine included, of the collections that have a policy, whoever owns them.';
revoke all on routine private.retain_documents from public, anon, authenticated, service_role;

-- Inserting, updating and deleting documents.

create function private.insert_documents(
  p_collection text, p_documents jsonb, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
  v_scope text := 'POST /documents/' || p_collection;
  v_result jsonb;
  v_now timestamptz;
  v_ids text[];
  v_taken bigint;
  v_documents jsonb;
begin
  perform private.require_collection(p_collection);
  if jsonb_typeof(p_documents) is distinct from 'array' or jsonb_array_length(p_documents) not between 1 and 1000 then
    perform private.refuse_part('documents', 'Expected an array of 1 to 1000 documents.');
  end if;
  if jsonb_array_length(p_documents) > 500 then
    perform private.take_turn(v_owner_id::text);
  end if;
  perform private.require_document(d.value, format('documents[%s]', d.n - 1))
  from jsonb_array_elements(p_documents) with ordinality as d (value, n);

  v_result := private.claim_idempotency_key(v_owner_id::text, v_scope, p_idempotency_key, p_documents);
  if v_result is null then
    -- Those without a time of their own keep the order in which they came.
    v_now := clock_timestamp();
    with given as (
      select
        d.n,
        d.value,
        coalesce(d.value ->> 'id', gen_random_uuid()::text) as id,
        coalesce(
          d.value ->> 'creation_utc',
          to_char((v_now + d.n * interval '1 microsecond') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
        ) as creation_utc
      from jsonb_array_elements(p_documents) with ordinality as d (value, n)
    ),
    stored as (
      insert into public.documents as d (owner_id, collection, id, version, creation_utc, sort_at, data)
      select
        v_owner_id, p_collection, g.id, g.value ->> 'version', g.creation_utc, private.creation_time(g.creation_utc),
        g.value - '{id,version,creation_utc}'::text[]
      from given g
      -- In the order of the key: two batches that overlap wait for each other, and cannot deadlock.
      order by g.id collate "C"
      on conflict do nothing
      returning d.id
    )
    select array_agg(g.id order by g.n), min(g.n) filter (where not g.is_stored) - 1 into v_ids, v_taken
    from (
      select g.n, g.id, s.id is not null and row_number() over (partition by g.id order by g.n) = 1 as is_stored
      from given g
      left join stored s on s.id = g.id
    ) g;
    if v_taken is not null then
      raise sqlstate 'PT409' using
        message = 'document_exists', detail = format('documents[%s].id belongs to another document.', v_taken);
    end if;
    perform private.keep_idempotent_result(v_owner_id::text, v_scope, p_idempotency_key, to_jsonb(v_ids));
  else
    v_ids := array(select jsonb_array_elements_text(v_result));
  end if;

  select coalesce(to_jsonb(array_agg(private.to_document(d.id, d.version, d.creation_utc, d.data) order by i.n)), '[]')
    into v_documents
  from unnest(v_ids) with ordinality as i (id, n)
  join public.documents d on d.owner_id = v_owner_id and d.collection = p_collection and d.id = i.id;
  return jsonb_build_object('documents', v_documents)
    || case when v_result is null then '{}' else '{"replayed": true}' end::jsonb;
end;
$$;
comment on routine private.insert_documents is 'See public.insert_documents.';


create function public.insert_documents(
  p_collection text, p_documents jsonb, p_idempotency_key text default null, p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.insert_documents(p_collection, p_documents, p_idempotency_key, p_user_id);
comment on routine public.insert_documents is
  'Inserts 1 to 1,000 documents, all or none. One without id gets a uuid, one without creation_utc the time. Answers '
  '{documents, replayed?}. Raises PT409 document_exists, PT409 idempotency_mismatch.';
revoke all on routine private.insert_documents, public.insert_documents from public, anon, authenticated, service_role;
grant execute on routine private.insert_documents, public.insert_documents to authenticated, service_role;


create function private.lock_document(p_owner_id uuid, p_collection text, p_filters jsonb) returns public.documents
language plpgsql
security definer
set search_path = ''
-- To compile a filter to machine code takes longer than most collections take to be read.
set jit = off
as $$
declare
  v_document public.documents;
begin
  -- Whoever waits here for another writer looks at what that one left: a document that no longer matches is passed over.
  execute format(
    'select * from public.documents where owner_id = $2 and collection = $3 and %s order by sort_at, id limit 1 for update',
    private.compile_filters(p_filters)
  )
  into v_document using p_filters, p_owner_id, p_collection;
  return v_document;
end;
$$;
comment on routine private.lock_document is
  'The first document that matches, locked until the transaction ends; all null if none does.';
revoke all on routine private.lock_document from public, anon, authenticated, service_role;


create function private.update_document(
  p_collection text, p_filters jsonb, p_params jsonb, p_upsert boolean, p_if_version text, p_user_id uuid
) returns jsonb
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
  v_document public.documents;
  v_old jsonb;
  v_new jsonb;
begin
  perform private.require_collection(p_collection);
  perform private.require_document(p_params, 'params');
  v_document := private.lock_document(v_owner_id, p_collection, p_filters);
  if v_document.id is null and p_upsert then
    -- There is nothing to lock yet. Whoever comes second looks again, and finds what the first one has inserted.
    perform pg_advisory_xact_lock(hashtextextended(v_owner_id || '/' || p_collection, 0));
    v_document := private.lock_document(v_owner_id, p_collection, p_filters);
  end if;

  if p_if_version is not null and (v_document.id is not null or p_upsert)
    and p_if_version is distinct from v_document.version
  then
    raise sqlstate 'PT409' using
      message = 'version_conflict',
      detail = case
        when v_document.id is null then 'There is no such document.'
        when v_document.version is null then 'The document has no version.'
        else format('The document is at version %s.', v_document.version)
      end;
  end if;
  if v_document.id is null then
    return jsonb_build_object(
      'matched_count', 0,
      'modified_count', 0,
      'updated_document', case when p_upsert then
        private.insert_documents(p_collection, jsonb_build_array(p_params), null, p_user_id) #> '{documents,0}'
      end
    );
  end if;

  v_old := private.to_document(v_document.id, v_document.version, v_document.creation_utc, v_document.data);
  v_new := v_old || p_params;
  if v_new <> v_old then
    perform private.require_document(v_new, 'params');
    begin
      update public.documents d set
        id = v_new ->> 'id',
        version = v_new ->> 'version',
        creation_utc = v_new ->> 'creation_utc',
        sort_at = private.creation_time(v_new ->> 'creation_utc'),
        data = v_new - '{id,version,creation_utc}'::text[]
      where d.owner_id = v_owner_id and d.collection = p_collection and d.id = v_document.id;
    exception
      when unique_violation then
        raise sqlstate 'PT409' using message = 'document_exists', detail = 'Another document has the id already.';
    end;
  end if;
  return jsonb_build_object(
    'matched_count', 1, 'modified_count', (v_new <> v_old)::integer, 'updated_document', v_new
  );
end;
$$;
comment on routine private.update_document is 'See public.update_document.';


create function public.update_document(
  p_collection text,
  p_filters jsonb,
  p_params jsonb,
  p_upsert boolean default false,
  p_if_version text default null,
  p_user_id uuid default null
) returns jsonb
language sql
set search_path = ''
return private.update_document(p_collection, p_filters, p_params, p_upsert, p_if_version, p_user_id);
comment on routine public.update_document is
  'Merges p_params into the top level of the first document that matches, id and creation_utc included. Without a match '
  'p_upsert inserts p_params as they are. Answers {matched_count, modified_count, updated_document}: 0 modified where '
  'nothing changed, 0 and 0 for an insert. Raises PT409 version_conflict where the document''s version is not '
  'p_if_version, PT409 document_exists.';
revoke all on routine private.update_document, public.update_document from public, anon, authenticated, service_role;
grant execute on routine private.update_document, public.update_document to authenticated, service_role;


create function private.delete_document(p_collection text, p_filters jsonb, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
  v_document public.documents;
begin
  perform private.require_collection(p_collection);
  v_document := private.lock_document(v_owner_id, p_collection, p_filters);
  if v_document.id is null then
    return '{"deleted_count": 0, "deleted_document": null}';
  end if;
  delete from public.documents d
  where d.owner_id = v_owner_id and d.collection = p_collection and d.id = v_document.id;
  return jsonb_build_object(
    'deleted_count', 1,
    'deleted_document',
      private.to_document(v_document.id, v_document.version, v_document.creation_utc, v_document.data)
  );
end;
$$;
comment on routine private.delete_document is 'See public.delete_document.';


create function public.delete_document(p_collection text, p_filters jsonb, p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.delete_document(p_collection, p_filters, p_user_id);
comment on routine public.delete_document is
  'Deletes the first document that matches: {deleted_count, deleted_document}.';
revoke all on routine private.delete_document, public.delete_document from public, anon, authenticated, service_role;
grant execute on routine private.delete_document, public.delete_document to authenticated, service_role;


create function private.delete_documents(p_collection text, p_filters jsonb, p_user_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1500ms'
set jit = off
as $$
declare
  v_owner_id uuid := private.document_writer(p_user_id);
  v_count bigint;
begin
  perform private.require_collection(p_collection);
  execute format(
    'delete from public.documents where owner_id = $2 and collection = $3 and %s', private.compile_filters(p_filters)
  )
  using p_filters, v_owner_id, p_collection;
  get diagnostics v_count = row_count;
  return jsonb_build_object('deleted_count', v_count);
end;
$$;
comment on routine private.delete_documents is 'See public.delete_documents.';


create function public.delete_documents(p_collection text, p_filters jsonb, p_user_id uuid default null) returns jsonb
language sql
set search_path = ''
return private.delete_documents(p_collection, p_filters, p_user_id);
comment on routine public.delete_documents is 'Deletes the documents that match, all of them for {}: {deleted_count}.';
revoke all on routine private.delete_documents, public.delete_documents from public, anon, authenticated, service_role;
grant execute on routine private.delete_documents, public.delete_documents to authenticated, service_role;


create function private.reread_document(p_collection text, p_id text, p_user_id uuid default null) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select jsonb_build_object('updated_document', (
    select private.to_document(d.id, d.version, d.creation_utc, d.data)
    from public.documents d
    where d.owner_id = private.document_owner(p_user_id) and d.collection = p_collection and d.id = p_id
  ));
$$;
comment on routine private.reread_document is 'What a replayed update answers of its document: null if it is gone by then.';
revoke all on routine private.reread_document from public, anon, authenticated, service_role;
grant execute on routine private.reread_document to authenticated, service_role;

insert into private.repeatable_calls (name, keeps, reader) values
  (
    'update_document',
    '{"matched_count": "{matched_count}", "modified_count": "{modified_count}", "p_id": "{updated_document,id}"}',
    'private.reread_document'
  ),
  -- What was deleted is not kept to be answered again.
  ('delete_document', '{"deleted_count": "{deleted_count}", "deleted_document": "{none}"}', null),
  ('delete_documents', '{"deleted_count": "{deleted_count}"}', null);

reset check_function_bodies;
