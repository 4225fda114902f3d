-- What the API does with documents. All of it runs in definer functions that filter by the owner themselves: under row
-- level security the containment operator could not use its index.

-- ---------------------------------------------------------------------------------------------------------------------
-- Reading
-- ---------------------------------------------------------------------------------------------------------------------
create function private.find_documents(
  p_collection text, p_filters jsonb, p_limit integer, p_cursor jsonb, p_sort text, p_count boolean, p_user_id uuid
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_owner_id uuid := private.document_owner(p_user_id);
  v_sort_at timestamptz := private.creation_time(p_cursor ->> 'creation_utc');
  v_is_page boolean := v_sort_at is not null and p_cursor ->> 'id' is not null;
  v_from text;
  v_item jsonb;
  v_items jsonb[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
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

  -- One more than the page, to know whether there is more. An answer that is full of bytes ends early, after one document at
  -- the least.
  for v_item in
    execute format(
      'select private.to_document(id, version, creation_utc, data) %1$s %2$s order by sort_at %3$s, id %3$s limit $6',
      v_from,
      case when v_is_page then format('and (sort_at, id) %s ($4, $5)', case p_sort when 'asc' then '>' else '<' end) end,
      p_sort
    )
    using p_filters, v_owner_id, p_collection, v_sort_at, p_cursor ->> 'id', p_limit::bigint + 1
  loop
    v_bytes := v_bytes + octet_length(v_item::text);
    v_has_more := coalesce(cardinality(v_items) = p_limit, false)
      or (v_bytes > c_max_bytes and cardinality(v_items) > 0);
    exit when v_has_more;
    v_items := array_append(v_items, v_item);
  end loop;

  if coalesce(p_count, true) then
    if v_has_more or v_is_page then
      execute 'select count(*) ' || v_from into v_total_count using p_filters, v_owner_id, p_collection;
    else
      v_total_count := cardinality(v_items);
    end if;
  end if;
  return jsonb_build_object('items', to_jsonb(v_items), 'total_count', v_total_count, 'has_more', v_has_more);
end;
$$;
comment on function private.find_documents(text, jsonb, integer, jsonb, text, boolean, uuid) is 'See public.find_documents.';
revoke all on function private.find_documents(text, jsonb, integer, jsonb, text, boolean, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.find_documents(text, jsonb, integer, jsonb, text, boolean, uuid)
  to authenticated, service_role;


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
security invoker
set search_path = ''
as $$
  select private.find_documents(p_collection, p_filters, p_limit, p_cursor, p_sort, p_count, p_user_id);
$$;
comment on function public.find_documents(text, jsonb, integer, jsonb, text, boolean, uuid) is
  'The documents that match, by (creation_utc, id), after p_cursor ({creation_utc, id}; ignored where it is no cursor): at '
  'most p_limit (null: all) and about 8 MiB. Answers {items, total_count, has_more}: total_count is exact and counts all '
  'that match, or is null without p_count.';
revoke all on function public.find_documents(text, jsonb, integer, jsonb, text, boolean, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.find_documents(text, jsonb, integer, jsonb, text, boolean, uuid)
  to authenticated, service_role;


create function private.find_document(p_collection text, p_filters jsonb, p_sort jsonb, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_document jsonb;
begin
  perform private.require_collection(p_collection);
  if p_sort is not null and p_sort - 'order' is distinct from '{}' then
    perform private.refuse_part('sort', 'Expected {order}.');
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
comment on function private.find_document(text, jsonb, jsonb, uuid) is 'See public.find_document.';
revoke all on function private.find_document(text, jsonb, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.find_document(text, jsonb, jsonb, uuid) to authenticated, service_role;


create function public.find_document(
  p_collection text, p_filters jsonb default '{}', p_sort jsonb default null, p_user_id uuid default null
) returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select private.find_document(p_collection, p_filters, p_sort, p_user_id);
$$;
comment on function public.find_document(text, jsonb, jsonb, uuid) is
  'The first document that matches: {document}, null if none does. p_sort is {order}: "asc" or "desc" by '
  '(creation_utc, id), or [{field, direction?}].';
revoke all on function public.find_document(text, jsonb, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function public.find_document(text, jsonb, jsonb, uuid) to authenticated, service_role;


create function private.count_documents(p_collection text, p_filters jsonb, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_count bigint;
begin
  perform private.require_collection(p_collection);
  execute format(
    'select count(*) from public.documents where owner_id = $2 and collection = $3 and %s',
    private.compile_filters(p_filters)
  )
  into v_count using p_filters, v_owner_id, p_collection;
  return jsonb_build_object('count', v_count);
end;
$$;
comment on function private.count_documents(text, jsonb, uuid) is 'See public.count_documents.';
revoke all on function private.count_documents(text, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.count_documents(text, jsonb, uuid) to authenticated, service_role;


create function public.count_documents(p_collection text, p_filters jsonb default '{}', p_user_id uuid default null)
returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select private.count_documents(p_collection, p_filters, p_user_id);
$$;
comment on function public.count_documents(text, jsonb, uuid) is 'How many documents match: {count}.';
revoke all on function public.count_documents(text, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function public.count_documents(text, jsonb, uuid) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Inserting
-- ---------------------------------------------------------------------------------------------------------------------
create function private.insert_documents(
  p_collection text, p_documents jsonb, p_idempotency_key text, p_user_id uuid
) returns jsonb
language plpgsql
volatile
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
  perform private.require_document(d.value, format('documents[%s]', d.n - 1))
  from jsonb_array_elements(p_documents) with ordinality as d (value, n);

  if p_idempotency_key is not null then
    v_result := private.claim_idempotency_key(v_owner_id::text, v_scope, p_idempotency_key, p_documents);
  end if;
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
    if p_idempotency_key is not null then
      perform private.keep_idempotent_result(v_owner_id::text, v_scope, p_idempotency_key, to_jsonb(v_ids));
    end if;
  else
    v_ids := array(select jsonb_array_elements_text(v_result));
  end if;

  select coalesce(jsonb_agg(private.to_document(d.id, d.version, d.creation_utc, d.data) order by i.n), '[]')
    into v_documents
  from unnest(v_ids) with ordinality as i (id, n)
  join public.documents d on d.owner_id = v_owner_id and d.collection = p_collection and d.id = i.id;
  return jsonb_build_object('documents', v_documents)
    || case when v_result is null then '{}' else '{"replayed": true}' end::jsonb;
end;
$$;
comment on function private.insert_documents(text, jsonb, text, uuid) is 'See public.insert_documents.';
revoke all on function private.insert_documents(text, jsonb, text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.insert_documents(text, jsonb, text, uuid) to authenticated, service_role;


create function public.insert_documents(
  p_collection text, p_documents jsonb, p_idempotency_key text default null, p_user_id uuid default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.insert_documents(p_collection, p_documents, p_idempotency_key, p_user_id);
$$;
comment on function public.insert_documents(text, jsonb, text, uuid) is
  'Inserts 1 to 1,000 documents, all or none. One without id gets a uuid, one without creation_utc the time. Answers '
  '{documents, replayed?}. Raises PT409 document_exists, PT409 idempotency_mismatch.';
revoke all on function public.insert_documents(text, jsonb, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.insert_documents(text, jsonb, text, uuid) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Updating and deleting
-- ---------------------------------------------------------------------------------------------------------------------
create function private.lock_document(p_owner_id uuid, p_collection text, p_filters jsonb) returns public.documents
language plpgsql
volatile
security definer
set search_path = ''
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
comment on function private.lock_document(uuid, text, jsonb) is
  'The first document that matches, locked until the transaction ends; all null if none does.';
revoke all on function private.lock_document(uuid, text, jsonb) from public, anon, authenticated, service_role;


create function private.update_document(
  p_collection text, p_filters jsonb, p_params jsonb, p_upsert boolean, p_if_version text, p_user_id uuid
) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
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
comment on function private.update_document(text, jsonb, jsonb, boolean, text, uuid) is 'See public.update_document.';
revoke all on function private.update_document(text, jsonb, jsonb, boolean, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.update_document(text, jsonb, jsonb, boolean, text, uuid) to authenticated, service_role;


create function public.update_document(
  p_collection text,
  p_filters jsonb,
  p_params jsonb,
  p_upsert boolean default false,
  p_if_version text default null,
  p_user_id uuid default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.update_document(p_collection, p_filters, p_params, p_upsert, p_if_version, p_user_id);
$$;
comment on function public.update_document(text, jsonb, jsonb, boolean, text, uuid) is
  'Merges p_params into the top level of the first document that matches, id and creation_utc included. Without a match '
  'p_upsert inserts p_params as they are. Answers {matched_count, modified_count, updated_document}: 0 modified where '
  'nothing changed, 0 and 0 for an insert. Raises PT409 version_conflict where the document''s version is not '
  'p_if_version, PT409 document_exists.';
revoke all on function public.update_document(text, jsonb, jsonb, boolean, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.update_document(text, jsonb, jsonb, boolean, text, uuid) to authenticated, service_role;


create function private.delete_document(p_collection text, p_filters jsonb, p_user_id uuid) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
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
comment on function private.delete_document(text, jsonb, uuid) is 'See public.delete_document.';
revoke all on function private.delete_document(text, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.delete_document(text, jsonb, uuid) to authenticated, service_role;


create function public.delete_document(p_collection text, p_filters jsonb, p_user_id uuid default null) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.delete_document(p_collection, p_filters, p_user_id);
$$;
comment on function public.delete_document(text, jsonb, uuid) is
  'Deletes the first document that matches: {deleted_count, deleted_document}.';
revoke all on function public.delete_document(text, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function public.delete_document(text, jsonb, uuid) to authenticated, service_role;


create function private.delete_documents(p_collection text, p_filters jsonb, p_user_id uuid) returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
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
comment on function private.delete_documents(text, jsonb, uuid) is 'See public.delete_documents.';
revoke all on function private.delete_documents(text, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.delete_documents(text, jsonb, uuid) to authenticated, service_role;


create function public.delete_documents(p_collection text, p_filters jsonb, p_user_id uuid default null) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.delete_documents(p_collection, p_filters, p_user_id);
$$;
comment on function public.delete_documents(text, jsonb, uuid) is
  'Deletes the documents that match, all of them for {}: {deleted_count}.';
revoke all on function public.delete_documents(text, jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function public.delete_documents(text, jsonb, uuid) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Collections
-- ---------------------------------------------------------------------------------------------------------------------
create function private.list_collections(p_limit integer, p_after text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_owner_id uuid := private.document_owner(p_user_id);
  v_page jsonb;
begin
  perform private.require_limit(p_limit);
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
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
      order by c.collection
    ),
    '[]'
  ) into v_page
  from (
    -- One whose documents are all in quarantine, or that has a version only, is to be found as well.
    select n.collection
    from (
      select d.collection from public.documents d where d.owner_id = v_owner_id
      union
      select f.collection from public.document_failures f where f.owner_id = v_owner_id
      union
      select v.collection from private.collection_versions v where v.owner_id = v_owner_id
    ) n
    where n.collection > coalesce(p_after, '')
    order by n.collection
    limit p_limit + 1
  ) c;
  return jsonb_build_object('data', v_page - p_limit, 'has_more', jsonb_array_length(v_page) > p_limit);
end;
$$;
comment on function private.list_collections(integer, text, uuid) is 'See public.list_collections.';
revoke all on function private.list_collections(integer, text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.list_collections(integer, text, uuid) to authenticated, service_role;


create function public.list_collections(p_limit integer default 50, p_after text default null, p_user_id uuid default null)
returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select private.list_collections(p_limit, p_after, p_user_id);
$$;
comment on function public.list_collections(integer, text, uuid) is
  'A page of the collections, by name, also those with failed documents or a version alone: '
  '{data: [{collection, documents, failures, version}], has_more}.';
revoke all on function public.list_collections(integer, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.list_collections(integer, text, uuid) to authenticated, service_role;


create function private.drop_collection(p_collection text, p_user_id uuid) returns jsonb
language plpgsql
volatile
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
comment on function private.drop_collection(text, uuid) is 'See public.drop_collection.';
revoke all on function private.drop_collection(text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.drop_collection(text, uuid) to authenticated, service_role;


create function public.drop_collection(p_collection text, p_user_id uuid default null) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.drop_collection(p_collection, p_user_id);
$$;
comment on function public.drop_collection(text, uuid) is
  'Deletes a collection, its version and its failed documents: {deleted_count} of documents. Indexes are everybody''s and '
  'stay.';
revoke all on function public.drop_collection(text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.drop_collection(text, uuid) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Versions
-- ---------------------------------------------------------------------------------------------------------------------
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
comment on function private.get_collection_version(text, uuid) is 'See public.get_collection_version.';
revoke all on function private.get_collection_version(text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.get_collection_version(text, uuid) to authenticated, service_role;


create function public.get_collection_version(p_collection text, p_user_id uuid default null) returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select private.get_collection_version(p_collection, p_user_id);
$$;
comment on function public.get_collection_version(text, uuid) is
  'The version of the store that a collection is part of: {version}, null if none was set.';
revoke all on function public.get_collection_version(text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.get_collection_version(text, uuid) to authenticated, service_role;


create function private.set_collection_version(
  p_collection text, p_version text, p_expected_version text, p_user_id uuid
) returns jsonb
language plpgsql
volatile
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
comment on function private.set_collection_version(text, text, text, uuid) is 'See public.set_collection_version.';
revoke all on function private.set_collection_version(text, text, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function private.set_collection_version(text, text, text, uuid) to authenticated, service_role;


create function public.set_collection_version(
  p_collection text, p_version text, p_expected_version text default null, p_user_id uuid default null
) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.set_collection_version(p_collection, p_version, p_expected_version, p_user_id);
$$;
comment on function public.set_collection_version(text, text, text, uuid) is
  'Sets the version of a collection''s store if it is p_expected_version (null: none was set): {version}. Raises PT409 '
  'version_conflict.';
revoke all on function public.set_collection_version(text, text, text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.set_collection_version(text, text, text, uuid) to authenticated, service_role;

-- ---------------------------------------------------------------------------------------------------------------------
-- Quarantine
-- ---------------------------------------------------------------------------------------------------------------------
create function private.fail_document(p_collection text, p_id text, p_reason text, p_user_id uuid) returns jsonb
language plpgsql
volatile
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
  insert into public.document_failures as f (
    owner_id, collection, id, version, creation_utc, sort_at, data, reason
  )
  select d.owner_id, d.collection, d.id, d.version, d.creation_utc, d.sort_at, d.data, p_reason
  from failed d
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
comment on function private.fail_document(text, text, text, uuid) is 'See public.fail_document.';
revoke all on function private.fail_document(text, text, text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.fail_document(text, text, text, uuid) to authenticated, service_role;


create function private.to_failure(p_failure public.document_failures) returns jsonb
language sql
immutable
security invoker
set search_path = ''
as $$
  select jsonb_build_object(
    'document', private.to_document(p_failure.id, p_failure.version, p_failure.creation_utc, p_failure.data),
    'reason', p_failure.reason,
    'failed_at', p_failure.failed_at
  );
$$;
comment on function private.to_failure(public.document_failures) is 'A failed document as the API answers it.';
revoke all on function private.to_failure(public.document_failures) from public, anon, authenticated, service_role;


create function public.fail_document(p_collection text, p_id text, p_reason text, p_user_id uuid default null)
returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.fail_document(p_collection, p_id, p_reason, p_user_id);
$$;
comment on function public.fail_document(text, text, text, uuid) is
  'Moves a document out of its collection, to the failed ones: {document, reason, failed_at}. Raises PT404 '
  'document_not_found, PT409 document_exists.';
revoke all on function public.fail_document(text, text, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.fail_document(text, text, text, uuid) to authenticated, service_role;


create function private.restore_document(p_collection text, p_id text, p_user_id uuid) returns jsonb
language plpgsql
volatile
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
  insert into public.documents as d (owner_id, collection, id, version, creation_utc, sort_at, data)
  select f.owner_id, f.collection, f.id, f.version, f.creation_utc, f.sort_at, f.data
  from restored f
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
comment on function private.restore_document(text, text, uuid) is 'See public.restore_document.';
revoke all on function private.restore_document(text, text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.restore_document(text, text, uuid) to authenticated, service_role;


create function public.restore_document(p_collection text, p_id text, p_user_id uuid default null) returns jsonb
language sql
volatile
security invoker
set search_path = ''
as $$
  select private.restore_document(p_collection, p_id, p_user_id);
$$;
comment on function public.restore_document(text, text, uuid) is
  'Puts a failed document back into its collection: {document}. Raises PT404 document_not_found, PT409 document_exists.';
revoke all on function public.restore_document(text, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.restore_document(text, text, uuid) to authenticated, service_role;


create function private.list_failures(p_collection text, p_limit integer, p_after text, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_owner_id uuid := private.document_owner(p_user_id);
  v_failure jsonb;
  v_page jsonb[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
begin
  perform private.require_collection(p_collection);
  perform private.require_limit(p_limit);
  for v_failure in
    select private.to_failure(f)
    from public.document_failures f
    where f.owner_id = v_owner_id and f.collection = p_collection and f.id > coalesce(p_after, '')
    order by f.id
    limit p_limit + 1
  loop
    v_bytes := v_bytes + octet_length(v_failure::text);
    v_has_more := cardinality(v_page) = p_limit or (v_bytes > c_max_bytes and cardinality(v_page) > 0);
    exit when v_has_more;
    v_page := array_append(v_page, v_failure);
  end loop;
  return jsonb_build_object('data', to_jsonb(v_page), 'has_more', v_has_more);
end;
$$;
comment on function private.list_failures(text, integer, text, uuid) is 'See public.list_failures.';
revoke all on function private.list_failures(text, integer, text, uuid) from public, anon, authenticated, service_role;
grant execute on function private.list_failures(text, integer, text, uuid) to authenticated, service_role;


create function public.list_failures(
  p_collection text, p_limit integer default 50, p_after text default null, p_user_id uuid default null
) returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  select private.list_failures(p_collection, p_limit, p_after, p_user_id);
$$;
comment on function public.list_failures(text, integer, text, uuid) is
  'A page of a collection''s failed documents, by id, after p_after: {data: [{document, reason, failed_at}], has_more}.';
revoke all on function public.list_failures(text, integer, text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.list_failures(text, integer, text, uuid) to authenticated, service_role;
