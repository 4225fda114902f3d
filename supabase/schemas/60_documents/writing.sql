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
