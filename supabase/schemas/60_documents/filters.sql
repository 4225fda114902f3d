-- Filters: {"age": {"$gte": 18}, "$or": [{"name": "Ada"}, {"tags": {"$contains": "vip"}}]} becomes a condition in SQL.
--
-- No value is ever part of the SQL text. A condition refers to its operand by the path at which it stands in the filter,
-- and the filter itself is bound as $1: the example is
--
--   (case jsonb_typeof(data #> '{age}') when 'number' then (data #> '{age}')::numeric end) >= ($1 #> '{age,$gte}')::numeric
--   and (… or …)
--
-- What the text does contain of a filter, names of fields, is there as quoted literals.

create function private.document_field(
  p_field text, out is_column boolean, out path text[], out value text, out number text, out string text
)
language plpgsql
immutable
set search_path = ''
as $$
begin
  path := case p_field when '' then '{""}' else string_to_array(p_field, '.') end;
  if cardinality(path) > 16 then
    -- Every part is a part of the query, for every element of an $in.
    perform private.refuse_part(p_field, 'Has more than 16 parts.');
  end if;
  is_column := p_field in ('id', 'version', 'creation_utc');
  if is_column then
    value := format('to_jsonb(%I)', p_field);
    number := 'null::numeric';
    string := format('(%I collate "C")', p_field);
  elsif path[1] in ('id', 'version', 'creation_utc') then
    value := 'null::jsonb'; -- a text has no fields
    number := 'null::numeric';
    string := '(null::text collate "C")';
  else
    value := format('(data #> %L::text[])', path);
    number := format($f$(case jsonb_typeof(%1$s) when 'number' then %1$s::numeric end)$f$, value);
    string := format($f$(case jsonb_typeof(%1$s) when 'string' then %1$s #>> '{}' end collate "C")$f$, value);
  end if;
end;
$$;
comment on routine private.document_field is
  'A field of documents as SQL expressions: its value as jsonb (null: missing), the value if it is a number, the value if '
  'it is a string. A dot is a path. Filters, sorts and indexes have them from here: an index serves an expression that is '
  'spelled as its own.';
revoke all on routine private.document_field from public, anon, authenticated, service_role;


create function private.compile_condition(p_field text, p_operator text, p_operand jsonb, p_path text[], p_name text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- More alternatives than this are no longer worth a look into the index each.
  c_max_lookups constant integer := 32;
  v_field record;
  -- The operand, where it stands in the filter.
  v_ref text := format('($1 #> %L::text[])', p_path);
  v_text text := format('($1 #>> %L::text[])', p_path);
  v_type text := jsonb_typeof(p_operand);
  v_comparison text := '{"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}'::jsonb ->> p_operator;
  -- What the index on data narrows down, where it can; null prints as nothing.
  v_candidates text;
begin
  select * into v_field from private.document_field(p_field);

  case p_operator
    when '$eq' then
      if v_type = 'null' then
        return format($f$coalesce(jsonb_typeof(%s), 'null') = 'null'$f$, v_field.value);
      elsif v_field.is_column then
        return case v_type when 'string' then format('%s = %s', v_field.string, v_text) else 'false' end;
      end if;
      v_candidates := private.containment(v_field.path, v_ref) || ' and ';
      return format('(%s%s = %s)', v_candidates, v_field.value, v_ref);

    when '$ne' then
      if v_type = 'null' then
        return format($f$coalesce(jsonb_typeof(%s), 'null') <> 'null'$f$, v_field.value);
      end if;
      return format('(%s = %s) is not true', v_field.value, v_ref);

    when '$gt', '$gte', '$lt', '$lte' then
      case v_type
        when 'number' then
          return format('%s %s %s::numeric', v_field.number, v_comparison, v_ref);
        when 'string' then
          if v_field.is_column then
            return format('%s %s %s', v_field.string, v_comparison, v_text);
          end if;
          -- The first two are what an index of the field knows (private.create_document_index): implied by the third.
          return format(
            '(%1$s is null and left(%2$s, 256) %3$s left(%4$s, 256) and %2$s %5$s %4$s)',
            v_field.number, v_field.string, left(v_comparison, 1) || '=', v_text, v_comparison
          );
        when 'boolean' then
          return format($f$(jsonb_typeof(%1$s) = 'boolean' and %1$s %2$s %3$s)$f$, v_field.value, v_comparison, v_ref);
        else
          perform private.refuse_part(p_name, 'Expected a number, a string or a boolean.');
      end case;

    when '$in', '$nin' then
      if v_type <> 'array' then
        perform private.refuse_part(p_name, 'Expected an array.');
      elsif jsonb_array_length(p_operand) > 1000 then
        perform private.refuse_part(p_name, 'Has more than 1,000 elements.');
      elsif p_operator = '$nin' then
        return format($f$coalesce(%s, 'null') not in (select jsonb_array_elements(%s))$f$, v_field.value, v_ref);
      elsif v_field.is_column and not jsonb_path_exists(p_operand, 'strict $[*] ? (@.type() != "string")') then
        return format('%s = any (array(select jsonb_array_elements_text(%s)))', v_field.string, v_ref);
      elsif not v_field.is_column and jsonb_array_length(p_operand) between 1 and c_max_lookups
        and not p_operand @> 'null'
      then
        select '(' || string_agg(private.containment(v_field.path, format('(%s -> %s)', v_ref, i)), ' or ') || ') and '
          into v_candidates
        from generate_series(0, jsonb_array_length(p_operand) - 1) i;
      end if;
      return format(
        $f$(%scoalesce(%s, 'null') in (select jsonb_array_elements(%s)))$f$, v_candidates, v_field.value, v_ref
      );

    when '$exists' then
      if v_type <> 'boolean' then
        perform private.refuse_part(p_name, 'Expected a boolean.');
      end if;
      return format('%s is %s null', v_field.value, case when p_operand::boolean then 'not' else '' end);

    when '$contains' then
      v_candidates := private.containment(
        v_field.path, case when v_type in ('array', 'object') then v_ref else format('jsonb_build_array(%s)', v_ref) end
      ) || ' and ';
      return format(
        $f$(%1$sjsonb_typeof(%2$s) in ('array', 'object') and %2$s @> %3$s)$f$, v_candidates, v_field.value, v_ref
      );

    when '$like' then
      if v_type <> 'string' or char_length(p_operand #>> '{}') > 1000 then
        perform private.refuse_part(p_name, 'Expected a string of at most 1,000 characters.');
      elsif regexp_replace(p_operand #>> '{}', '\\.', '', 'g') like '%\\' then
        perform private.refuse_part(p_name, 'Ends with a backslash, which escapes nothing.');
      end if;
      return format('%s like %s', v_field.string, v_text);

    else
      perform private.refuse_part(
        p_name,
        'There is no such operator. There are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $contains, $like, and '
        '$and, $or around fields.'
      );
  end case;
end;
$$;
comment on routine private.compile_condition is
  'One operator on one field as SQL. Comparison is typed: a number never equals its text. A missing field is as null is to '
  '$eq, $ne, $in and $nin, and matches no range.';
revoke all on routine private.compile_condition from public, anon, authenticated, service_role;


create function private.containment(p_path text[], p_operand text) returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- To containment a number in a path is the name of a field, never the place in an array that it may be to #>.
  if exists (select from unnest(p_path[2:]) part where part ~ '^[+-]?\d+$')
    or p_path[1] in ('id', 'version', 'creation_utc')
  then
    return null;
  end if;
  for i in reverse cardinality(p_path)..1 loop
    p_operand := format('jsonb_build_object(%L::text, %s)', p_path[i], p_operand);
  end loop;
  return format('data @> %s', p_operand);
end;
$$;
comment on routine private.containment is
  'The condition that the index on data serves for a value at a path; null where there is none. It lets more through than '
  'what equals the operand.';
revoke all on routine private.containment from public, anon, authenticated, service_role;


create function private.compile_ids(p_alternatives jsonb, p_path text[]) returns text
language sql
immutable
set search_path = ''
as $$
  select case when bool_and(a.path is not null) then
    format('id = any (array[%s])', string_agg(format('$1 #>> %L::text[]', p_path || a.path), ', '))
  end
  from (
    select case
      when jsonb_typeof(f.value) <> 'object' or f.value - 'id' <> '{}' then null
      when jsonb_typeof(f.value -> 'id') = 'string' then array[(f.n - 1)::text, 'id']
      when jsonb_typeof(f.value #> '{id,$eq}') = 'string'
        and f.value -> 'id' = jsonb_build_object('$eq', f.value #> '{id,$eq}')
      then array[(f.n - 1)::text, 'id', '$eq']
    end as path
    from jsonb_array_elements(p_alternatives) with ordinality as f (value, n)
  ) a;
$$;
comment on routine private.compile_ids is
  'Alternatives that are nothing but ids, as SQL; null where one is something else. Frameworks ask so for hundreds of '
  'documents, and the planner compares conditions with each other: as one array they take it no time.';
revoke all on routine private.compile_ids from public, anon, authenticated, service_role;


create function private.compile_filter(p_filter jsonb, p_path text[], p_name text) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_max_depth constant integer := 16;
  v_key text;
  v_value jsonb;
  v_name text;
  v_condition text;
  v_conditions text[] := '{}';
  v_operators text[];
begin
  if jsonb_typeof(p_filter) is distinct from 'object' then
    perform private.refuse_part(p_name, 'Expected an object.');
  end if;
  for v_key, v_value in select * from jsonb_each(p_filter) loop
    v_name := p_name || '.' || v_key;
    if v_key in ('$and', '$or') then
      if jsonb_typeof(v_value) <> 'array' then
        perform private.refuse_part(v_name, 'Expected an array of filters.');
      elsif cardinality(p_path) >= 2 * c_max_depth then
        perform private.refuse_part(v_name, format('Is nested deeper than %s levels.', c_max_depth));
      end if;
      v_condition := case v_key when '$or' then private.compile_ids(v_value, p_path || v_key) end;
      if v_condition is null then
        select '(' || string_agg(
          private.compile_filter(f.value, p_path || array[v_key, (f.n - 1)::text], format('%s[%s]', v_name, f.n - 1)),
          case v_key when '$and' then ' and ' else ' or ' end
        ) || ')' into v_condition
        from jsonb_array_elements(v_value) with ordinality as f (value, n);
      end if;
      v_conditions := v_conditions || coalesce(v_condition, case v_key when '$and' then 'true' else 'false' end);
    elsif v_key like '$%' then
      perform private.refuse_part(v_name, 'There is no such operator: between fields there are $and and $or.');
    elsif char_length(v_key) > 256 then
      perform private.refuse_part(v_name, 'A field is longer than 256 characters.');
    else
      v_operators := case
        when jsonb_typeof(v_value) = 'object' then array(select k from jsonb_object_keys(v_value) k where k like '$%')
        else '{}'
      end;
      if v_operators = '{}' then
        v_conditions := v_conditions || private.compile_condition(v_key, '$eq', v_value, p_path || v_key, v_name);
      elsif cardinality(v_operators) < (select count(*) from jsonb_object_keys(v_value)) then
        perform private.refuse_part(v_name, 'Has operators and fields side by side.');
      else
        v_conditions := v_conditions || (
          select array_agg(
            private.compile_condition(v_key, o, v_value -> o, p_path || array[v_key, o], v_name || '.' || o)
          )
          from unnest(v_operators) o
        );
      end if;
    end if;
  end loop;
  return case v_conditions when '{}' then 'true' else '(' || array_to_string(v_conditions, ' and ') || ')' end;
end;
$$;
comment on routine private.compile_filter is
  'A filter, or the part of one at p_path, as SQL. See private.compile_filters.';
revoke all on routine private.compile_filter from public, anon, authenticated, service_role;


create function private.compile_filters(p_filters jsonb) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_max_bytes constant integer := 64 * 1024;
begin
  if octet_length(p_filters::text) > c_max_bytes then
    perform private.refuse_part('filters', 'Larger than 64 KiB.');
  end if;
  return private.compile_filter(p_filters, '{}', 'filters');
end;
$$;
comment on routine private.compile_filters is
  'The condition on public.documents that a filter means, as SQL in which $1 is the filter itself. Raises PT400 '
  'invalid_request with the path of what is malformed, of an unknown operator, or of what is too deep or too large.';
revoke all on routine private.compile_filters from public, anon, authenticated, service_role;


create function private.compile_sort(p_sort jsonb) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_key jsonb;
  v_field record;
  v_direction text;
  v_terms text[] := '{}';
  v_name text;
begin
  if p_sort in ('"asc"', '"desc"') then
    return format('sort_at %1$s, id %1$s', p_sort #>> '{}');
  elsif jsonb_typeof(p_sort) is distinct from 'array' or jsonb_array_length(p_sort) not between 1 and 4 then
    perform private.refuse_part('sort', 'Expected "asc", "desc", or an array of 1 to 4 {field, direction}.');
  end if;
  for i in 0..jsonb_array_length(p_sort) - 1 loop
    v_key := p_sort -> i;
    v_name := format('sort[%s]', i);
    if jsonb_typeof(v_key) <> 'object' or v_key - '{field,direction}'::text[] <> '{}'
      or jsonb_typeof(v_key -> 'field') is distinct from 'string' or char_length(v_key ->> 'field') > 256
      or coalesce(v_key -> 'direction', '"asc"') not in ('"asc"', '"desc"')
    then
      perform private.refuse_part(v_name, 'Expected {field, direction?}, the direction "asc" or "desc".');
    end if;
    select * into v_field from private.document_field(v_key ->> 'field');
    v_direction := case v_key ->> 'direction' when 'desc' then 'desc nulls last' else 'asc nulls first' end;
    v_terms := v_terms || case
      when v_field.is_column then format('%s %s', v_field.string, v_direction)
      -- The first 256 characters beside the whole: an index of the field has the order of those.
      else format('%1$s %3$s, left(%2$s, 256) %3$s, %2$s %3$s', v_field.number, v_field.string, v_direction)
    end;
  end loop;
  return array_to_string(v_terms, ', ') || ', sort_at, id';
end;
$$;
comment on routine private.compile_sort is
  '"asc" or "desc" by (creation_utc, id), or [{field, direction?}], as SQL. Ascending: what is neither string nor number or '
  'is missing, then strings, then numbers.';
revoke all on routine private.compile_sort from public, anon, authenticated, service_role;
