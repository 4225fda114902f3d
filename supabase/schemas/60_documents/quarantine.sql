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
