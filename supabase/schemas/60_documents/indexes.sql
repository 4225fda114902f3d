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
