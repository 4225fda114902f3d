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
