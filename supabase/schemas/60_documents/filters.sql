-- Filters: {"age": {"$gte": 18}, "$or": [{"name": "Ada"}, {"tags": {"$contains": "vip"}}]} becomes a condition in SQL.
--
-- No value is ever part of the SQL text. A condition refers to its operand by the path at which it stands in the filter, and the
-- filter itself is bound as $1. What the text does contain of a filter, names of fields, is there as quoted literals.
--
-- A document may have 4 MiB, and every operator that looks into it unpacks all of it and keeps that until the row is done with.
-- So what decides reads a document once and each field once, in a subquery (private.compile_filters). What an index serves
-- stands before it, on the columns, and only narrows down: how equal values do, is one path for the index on data
-- (private.filter_path).

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
    perform private.refuse_part(p_field, 'Has more than 16 parts.', 'filter_path');
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


create function private.compile_condition(
  p_field text, p_operator text, p_operand jsonb, p_path text[], p_name text, p_fields text[],
  out o_exact text, out o_column text, out o_range text
)
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_field record;
  v_n integer := array_position(p_fields, p_field);
  -- The operand, where it stands in the filter.
  v_ref text := format('($1 #> %L::text[])', p_path);
  v_text text := format('($1 #>> %L::text[])', p_path);
  v_type text := jsonb_typeof(p_operand);
  v_comparison text := '{"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}'::jsonb ->> p_operator;
  v_value text;
  v_number text;
  v_string text;
begin
  select * into v_field from private.document_field(p_field);
  v_value := case when v_n is null then v_field.value else format('f.v%s', v_n) end;
  v_number := case
    when v_n is null then v_field.number
    else format($f$(case jsonb_typeof(%1$s) when 'number' then %1$s::numeric end)$f$, v_value)
  end;
  v_string := case when v_n is null then v_field.string else format('f.t%s', v_n) end;
  if p_field = 'creation_utc' and v_type = 'string' and p_operator in ('$eq', '$ne', '$gt', '$gte', '$lt', '$lte') then
    -- As the instant that it names; what names none is no document's. In a subquery it is worked out once.
    v_text := format('(select private.creation_time(%s))', v_text);
    v_ref := v_text;
    v_value := 'sort_at';
    v_string := v_value;
  end if;

  case p_operator
    when '$eq' then
      o_exact := case
        when v_type = 'null' then format($f$coalesce(jsonb_typeof(%s), 'null') = 'null'$f$, v_value)
        when not v_field.is_column then format('%s = %s', v_value, v_ref)
        when v_type = 'string' then format('%s = %s', v_string, v_text)
        else 'false'
      end;

    when '$ne' then
      o_exact := case
        when v_type = 'null' then format($f$coalesce(jsonb_typeof(%s), 'null') <> 'null'$f$, v_value)
        else format('(%s = %s) is not true', v_value, v_ref)
      end;

    when '$gt', '$gte', '$lt', '$lte' then
      case v_type
        when 'number' then
          o_exact := format('%s %s %s::numeric', v_number, v_comparison, v_ref);
          o_range := format('%s %s %s::numeric', v_field.number, v_comparison, v_ref);
        when 'string' then
          o_exact := format('%s %s %s', v_string, v_comparison, v_text);
          -- What an index of the field knows (private.create_document_index).
          o_range := format(
            '(%1$s is null and left(%2$s, 256) %3$s left(%4$s, 256))',
            v_field.number, v_field.string, left(v_comparison, 1) || '=', v_text
          );
        when 'boolean' then
          o_exact := format($f$(jsonb_typeof(%1$s) = 'boolean' and %1$s %2$s %3$s)$f$, v_value, v_comparison, v_ref);
        else
          perform private.refuse_part(p_name, 'Expected a number, a string or a boolean.');
      end case;

    when '$in', '$nin' then
      if v_type <> 'array' then
        perform private.refuse_part(p_name, 'Expected an array.');
      elsif jsonb_array_length(p_operand) > 1000 then
        perform private.refuse_part(p_name, 'Has more than 1,000 elements.', 'filter_elements');
      elsif p_field = 'creation_utc' then
        o_exact := format(
          '(sort_at = any (array(select private.creation_time(e #>> ''{}'') from jsonb_array_elements(%s) e)))', v_ref
        );
        o_exact := case p_operator when '$in' then o_exact else o_exact || ' is not true' end;
      elsif p_operator = '$nin' then
        o_exact := format($f$coalesce(%s, 'null') not in (select jsonb_array_elements(%s))$f$, v_value, v_ref);
      elsif v_field.is_column and not jsonb_path_exists(p_operand, 'strict $[*] ? (@.type() != "string")') then
        o_exact := format('%s = any (array(select jsonb_array_elements_text(%s)))', v_string, v_ref);
      else
        o_exact := format($f$coalesce(%s, 'null') in (select jsonb_array_elements(%s))$f$, v_value, v_ref);
      end if;

    when '$exists' then
      if v_type <> 'boolean' then
        perform private.refuse_part(p_name, 'Expected a boolean.');
      end if;
      o_exact := format('%s is %s null', v_value, case when p_operand::boolean then 'not' else '' end);

    when '$contains' then
      o_exact := format($f$(jsonb_typeof(%1$s) in ('array', 'object') and %1$s @> %2$s)$f$, v_value, v_ref);

    when '$like' then
      if v_type <> 'string' then
        perform private.refuse_part(p_name, 'Expected a string.');
      elsif regexp_replace(p_operand #>> '{}', '\\.', '', 'g') like '%\\' then
        perform private.refuse_part(p_name, 'Ends with a backslash, which escapes nothing.');
      end if;
      o_exact := case
        when v_n is null then format('%s like %s', v_string, v_text)
        else format('(octet_length(%1$s) <= f.max_text and %1$s like %2$s)', v_string, v_text)
      end;

    else
      perform private.refuse_part(
        p_name,
        'There is no such operator. There are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $contains, $like, and '
        '$and, $or around fields.'
      );
  end case;
  if v_field.is_column then
    o_column := o_exact;
    o_range := null;
  end if;
end;
$$;
comment on routine private.compile_condition is
  'One operator on one field as SQL: o_exact decides, with the field as f.v<n> and f.t<n> of private.compile_filters; o_column and '
  'o_range are what an index can serve of it, on the table''s columns. Comparison is typed: a number never equals its text. A '
  'missing field is as null is to $eq, $ne, $in and $nin, and matches no range.';
revoke all on routine private.compile_condition from public, anon, authenticated, service_role;


create function private.compile_filter(
  p_filter jsonb, p_path text[], p_name text, p_fields text[], out o_exact text, out o_columns text[], out o_ranges text[]
)
language plpgsql
immutable
set search_path = ''
as $$
declare
  c_max_depth constant integer := 16;
  v_key text;
  v_value jsonb;
  v_name text;
  v_part record;
  v_parts text[];
  v_ids text;
  v_conditions text[] := '{}';
  v_operators text[];
begin
  o_columns := '{}';
  o_ranges := '{}';
  if jsonb_typeof(p_filter) is distinct from 'object' then
    perform private.refuse_part(p_name, 'Expected an object.');
  end if;
  for v_key, v_value in select * from jsonb_each(p_filter) loop
    v_name := p_name || '.' || v_key;
    if v_key in ('$and', '$or') then
      if jsonb_typeof(v_value) <> 'array' then
        perform private.refuse_part(v_name, 'Expected an array of filters.');
      elsif cardinality(p_path) >= 2 * c_max_depth then
        perform private.refuse_part(v_name, format('Is nested deeper than %s levels.', c_max_depth), 'filter_depth');
      end if;
      v_ids := null;
      if v_key = '$or' then
        select format(
          'id = any (array(select e #>> private.id_path(e) from jsonb_array_elements($1 #> %L::text[]) e))', p_path || v_key
        ) into v_ids
        where exists (select from jsonb_array_elements(v_value) f where private.id_path(f) is not null);
      end if;
      v_parts := case when v_ids is null then '{}' else array[v_ids] end;
      for v_part in
        select c.*
        from jsonb_array_elements(v_value) with ordinality as f (value, n)
        cross join lateral private.compile_filter(
          f.value, p_path || array[v_key, (f.n - 1)::text], format('%s[%s]', v_name, f.n - 1), p_fields
        ) c
        where v_key = '$and' or private.id_path(f.value) is null
        order by f.n
      loop
        v_parts := v_parts || v_part.o_exact;
        -- Alternatives are narrowed down by the index on data, or by their ids, or not at all.
        if v_key = '$and' then
          o_columns := o_columns || v_part.o_columns;
          o_ranges := o_ranges || v_part.o_ranges;
        end if;
      end loop;
      if v_parts = array[v_ids] then
        o_columns := o_columns || v_ids;
      end if;
      v_conditions := v_conditions || case
        when v_parts = '{}' then case v_key when '$and' then 'true' else 'false' end
        else '(' || array_to_string(v_parts, case v_key when '$and' then ' and ' else ' or ' end) || ')'
      end;
    elsif v_key like '$%' then
      perform private.refuse_part(v_name, 'There is no such operator: between fields there are $and and $or.');
    elsif char_length(v_key) > 256 then
      perform private.refuse_part(v_name, 'A field is longer than 256 characters.', 'filter_path');
    else
      v_operators := case
        when jsonb_typeof(v_value) = 'object' then array(select k from jsonb_object_keys(v_value) k where k like '$%')
        else '{}'
      end;
      if cardinality(v_operators) between 1 and (select count(*) - 1 from jsonb_object_keys(v_value)) then
        perform private.refuse_part(v_name, 'Has operators and fields side by side.');
      end if;
      for v_part in
        select c.*
        from unnest(v_operators) o
        cross join lateral private.compile_condition(
          v_key, o, v_value -> o, p_path || array[v_key, o], v_name || '.' || o, p_fields
        ) c
        union all
        select c.*
        from private.compile_condition(v_key, '$eq', v_value, p_path || v_key, v_name, p_fields) c
        where v_operators = '{}'
      loop
        v_conditions := v_conditions || v_part.o_exact;
        o_columns := array_remove(o_columns || v_part.o_column, null);
        o_ranges := array_remove(o_ranges || v_part.o_range, null);
      end loop;
    end if;
  end loop;
  o_exact := case v_conditions when '{}' then 'true' else '(' || array_to_string(v_conditions, ' and ') || ')' end;
end;
$$;
comment on routine private.compile_filter is
  'A filter, or the part of one at p_path, as SQL that decides, and what of it every match fulfils that indexes of columns and of '
  'fields serve. See private.compile_filters.';
revoke all on routine private.compile_filter from public, anon, authenticated, service_role;


create function private.compile_filters(p_filters jsonb) returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Each unpacks the document again.
  c_max_ranges constant integer := 2;
  c_max_containments constant integer := 12;
  v_known record := private.require_filters(p_filters);
  v_filter record := private.compile_filter(p_filters, '{}', 'filters', v_known.o_fields);
  v_contained text := (private.narrow_filter(p_filters, '{}')).o_contained;
  v_unpacked text;
begin
  if v_known.o_fields = '{}' then
    return v_filter.o_exact;
  end if;
  select format(
    '(select %s from (select w.*, %s, %s as max_text from (select %s from (select data || ''{}'' as data offset 0) d offset 0) w '
    'offset 0) f)',
    v_filter.o_exact,
    string_agg(format($f$case jsonb_typeof(w.v%1$s) when 'string' then w.v%1$s #>> '{}' end collate "C" as t%1$s$f$, f.n), ', '),
    v_known.o_max_text,
    string_agg(format('d.data #> %L::text[] as v%s', (private.document_field(f.field)).path, f.n), ', ')
  ) into v_unpacked
  from unnest(v_known.o_fields) with ordinality as f (field, n);
  return array_to_string(
    array[
      case when private.filter_path(p_filters) is not null then 'data @@ private.filter_path($1)' end,
      case when regexp_count(v_contained, 'data @>') <= c_max_containments then v_contained end
    ] || v_filter.o_columns || v_filter.o_ranges[:c_max_ranges] || v_unpacked,
    ' and '
  );
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
