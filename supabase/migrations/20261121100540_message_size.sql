-- What a few bytes may print as. A number such as 1e-16383 is stored in a few bytes and prints as sixteen thousand: a
-- megabyte of them could be written and never be read again.

alter table public.conversation_messages add constraint conversation_messages_size_check check (
  coalesce(octet_length(parts::text), 0) + coalesce(octet_length(function_call::text), 0)
  + coalesce(octet_length(tool_calls::text), 0) + coalesce(octet_length(usage::text), 0)
  + coalesce(octet_length(item::text), 0) <= 16777216
);


create or replace function public.list_conversations(
  p_limit integer default 50,
  p_before_updated_at timestamptz default null,
  p_before_id uuid default null,
  p_video_id uuid default null,
  p_metadata jsonb default null,
  p_user_id uuid default null
) returns jsonb
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
  -- A worker has 256 MB for the answer and its copies; a summary may have 4 MiB.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_user_id uuid := private.acting_user(p_user_id);
  v_read bigint;
  v_page jsonb;
begin
  perform private.require_limit(p_limit);
  -- Sorted after the owner's rows are found: an index on updated_at would make every append rewrite it. One more than the
  -- page is read, to know whether there is more; a page that is full of bytes ends early, after one row at the least.
  select
    count(*),
    coalesce(
      jsonb_agg(to_jsonb(c) - '{deleted_at,n,bytes}'::text[] order by c.n)
        filter (where c.n = 1 or c.n <= p_limit and c.bytes <= c_max_bytes),
      '[]'
    )
  into v_read, v_page
  from (
    select
      c.*,
      row_number() over newest as n,
      sum(coalesce(octet_length(c.summary), 0) + octet_length(c.metadata::text)) over newest as bytes
    from (
      select *
      from public.conversations c
      where c.user_id = v_user_id
        and c.deleted_at is null
        and (p_before_updated_at is null or (c.updated_at, c.id) < (p_before_updated_at, p_before_id))
        and (p_video_id is null or c.video_id = p_video_id)
        and (p_metadata is null or c.metadata @> p_metadata)
      order by c.updated_at desc, c.id desc
      limit p_limit + 1
    ) c
    window newest as (order by c.updated_at desc, c.id desc rows unbounded preceding)
  ) c;
  return jsonb_build_object('data', v_page, 'has_more', v_read > jsonb_array_length(v_page));
end;
$$;
