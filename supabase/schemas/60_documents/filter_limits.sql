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
