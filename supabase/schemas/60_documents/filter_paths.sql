-- Filters: what the index on data knows of one. It only narrows down, and lets more through than what matches.

create function private.path_condition(p_field text, p_operator text, p_operand jsonb) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- More elements than this are no longer worth a look into the index each.
  c_max_lookups constant integer := 32;
  v_path text;
begin
  select '$.' || string_agg(to_json(part)::text, '.' order by n) into v_path
  from unnest((private.document_field(p_field)).path) with ordinality as p (part, n);
  return case
    when p_operator = '$eq' and jsonb_typeof(p_operand) in ('string', 'number', 'boolean')
      then format('%s == %s', v_path, p_operand)
    when p_operator = '$in' and jsonb_typeof(p_operand) = 'array' and jsonb_array_length(p_operand) <= c_max_lookups
      and not jsonb_path_exists(p_operand, 'strict $[*] ? (@.type() == "null" || @.type() == "array" || @.type() == "object")')
    then (
      select '(' || string_agg(format('%s == %s', v_path, e), ' || ') || ')' from jsonb_array_elements(p_operand) e
    )
  end;
end;
$$;
comment on routine private.path_condition is
  'Which value a field has, as a part of a strict jsonpath; null for an operator that does not say.';
revoke all on routine private.path_condition from public, anon, authenticated, service_role;


create function private.containment_condition(p_field text, p_operand jsonb, p_ref text[]) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_path text[] := (private.document_field(p_field)).path;
  v_sql text := format('($1 #> %L::text[])', p_ref);
begin
  if jsonb_typeof(p_operand) not in ('array', 'object') then
    v_sql := format('jsonb_build_array(%s)', v_sql);
  end if;
  for i in reverse cardinality(v_path)..1 loop
    v_sql := format('jsonb_build_object(%L::text, %s)', v_path[i], v_sql);
  end loop;
  return format('data @> %s', v_sql);
end;
$$;
comment on routine private.containment_condition is
  'What a field contains, as SQL. By a jsonpath it would take forty times as long on a large array that the index has found.';
revoke all on routine private.containment_condition from public, anon, authenticated, service_role;


create function private.narrow_filter(p_filter jsonb, p_path text[], out o_path text, out o_contained text)
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_key text;
  v_value jsonb;
  v_path text;
  v_contained text;
begin
  for v_key, v_value in select * from jsonb_each(p_filter) loop
    if v_key = '$and' then
      select string_agg(n.o_path, ' && '), string_agg(n.o_contained, ' and ') into v_path, v_contained
      from jsonb_array_elements(v_value) with ordinality as f (value, n)
      cross join lateral private.narrow_filter(f.value, p_path || array[v_key, (f.n - 1)::text]) n;
    elsif v_key = '$or' then
      -- One alternative that the index cannot find, and all of them have to be looked at.
      select
        case when bool_and(n.o_path is not null) then '(' || string_agg('(' || n.o_path || ')', ' || ') || ')' end,
        case when bool_and(n.o_contained is not null) then '(' || string_agg('(' || n.o_contained || ')', ' or ') || ')' end
      into v_path, v_contained
      from jsonb_array_elements(v_value) with ordinality as f (value, n)
      cross join lateral private.narrow_filter(f.value, p_path || array[v_key, (f.n - 1)::text]) n;
    -- To the index a number in a path is the name of a field, never the place in an array that it may be to #>.
    elsif v_key ~ '^(id|version|creation_utc)(\.|$)' or v_key ~ '\.[+-]?\d+(\.|$)' then
      continue;
    elsif v_value @? 'strict $.keyvalue().key ? (@ starts with "$")' then
      select
        string_agg(private.path_condition(v_key, o.key, o.value), ' && '),
        string_agg(private.containment_condition(v_key, o.value, p_path || array[v_key, o.key]), ' and ')
          filter (where o.key = '$contains')
      into v_path, v_contained
      from jsonb_each(v_value) o;
    else
      select private.path_condition(v_key, '$eq', v_value), null into v_path, v_contained;
    end if;
    o_path := nullif(concat_ws(' && ', o_path, v_path), '');
    o_contained := nullif(concat_ws(' and ', o_contained, v_contained), '');
  end loop;
end;
$$;
comment on routine private.narrow_filter is
  'What every match of a filter, or of the part of one at p_path, fulfils: o_path as a jsonpath, o_contained as SQL. Null where '
  'there is nothing.';
revoke all on routine private.narrow_filter from public, anon, authenticated, service_role;


create function private.filter_path(p_filters jsonb) returns jsonpath
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_max_comparisons constant integer := 128;
  v_path text := (private.narrow_filter(p_filters, '{}')).o_path;
begin
  return case when regexp_count(v_path, ' == ') <= c_max_comparisons then ('strict ' || v_path)::jsonpath end;
end;
$$;
comment on routine private.filter_path is
  'What values every match of a filter has, for the index on data; null where the filter does not say.';
revoke all on routine private.filter_path from public, anon, authenticated, service_role;
