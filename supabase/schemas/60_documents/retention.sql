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
