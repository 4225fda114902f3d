-- Retention of documents: by their creation_utc, in the collections that have a policy.

create function private.retain_documents(p_now timestamptz, inout p_position jsonb, out removed jsonb, out more boolean)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_removed constant integer := 2000;
  -- See private.remove_messages.
  c_bytes constant bigint := 64 * 1024 * 1024;
  v_cut boolean;
  v_policy record;
  v_documents integer := 0;
  v_failures integer := 0;
  v_count integer;
begin
  more := false;
  for v_policy in
    select p.collection, p_now - p.keep as cutoff
    from private.retention_policies p
    where p.kind = 'documents' and p.keep is not null and p.collection >= coalesce(p_position ->> 'collection', '')
    order by p.collection
  loop
    p_position := jsonb_build_object('collection', v_policy.collection);
    with expired as (
      select d.owner_id, d.id, pg_column_size(d.data) as bytes
      from public.documents d
      where d.collection = v_policy.collection and d.sort_at < v_policy.cutoff
      order by d.sort_at
      limit c_removed - v_documents - v_failures
      for update skip locked
    ),
    piece as (
      select x.*, sum(x.bytes) over (rows unbounded preceding) - x.bytes as before from expired x
    ),
    deleted as (
      delete from public.documents d
      using piece x
      where d.owner_id = x.owner_id and d.collection = v_policy.collection and d.id = x.id and x.before < c_bytes
      returning d.id
    )
    select count(*), coalesce((select max(x.before) >= c_bytes from piece x), false) into v_count, v_cut from deleted;
    v_documents := v_documents + v_count;
    more := v_cut or v_documents >= c_removed;
    exit when more;
    with expired as (
      select f.owner_id, f.id, pg_column_size(f.data) as bytes
      from public.document_failures f
      where f.collection = v_policy.collection and f.sort_at < v_policy.cutoff
      order by f.sort_at
      limit c_removed - v_documents - v_failures
      for update skip locked
    ),
    piece as (
      select x.*, sum(x.bytes) over (rows unbounded preceding) - x.bytes as before from expired x
    ),
    deleted as (
      delete from public.document_failures f
      using piece x
      where f.owner_id = x.owner_id and f.collection = v_policy.collection and f.id = x.id and x.before < c_bytes
      returning f.id
    )
    select count(*), coalesce((select max(x.before) >= c_bytes from piece x), false) into v_count, v_cut from deleted;
    v_failures := v_failures + v_count;
    more := v_cut or v_documents + v_failures >= c_removed;
    exit when more;
  end loop;
  removed := jsonb_build_object('documents', v_documents, 'document_failures', v_failures);
end;
$$;
comment on function private.retain_documents is
  'Deletes up to 2,000 documents, those in quarantine included, of the collections that have a policy, whoever owns them.';
revoke all on function private.retain_documents from public, anon, authenticated, service_role;
