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
