-- Documents: what their functions and constraints promise, seen from inside the database.
begin;
select plan(18);

-- ---- filters -------------------------------------------------------------------------------------------------------
select is(private.compile_filters('{}'), 'true', 'an empty filter is all documents');
select is(private.compile_filters('{"$or": []}'), '(false)', 'no alternative is none');
select is(private.compile_filters('{"$and": []}'), '(true)', 'no condition is all');
select is(
  private.compile_filters('{"$or": [{"id": "secret"}, {"id": {"$eq": "secret"}}]}'),
  $$((id = any (array(select e #>> private.id_path(e) from jsonb_array_elements($1 #> '{$or}'::text[]) e))))$$,
  'alternatives that are ids become one array'
);
select matches(
  private.compile_filters('{"it''s": {"$ne": "secret"}}'),
  $$^\(select \(\(f\.v1 = \(\$1 #> '{it''s,\$ne}'::text\[\]\)\) is not true\) from .* d\.data #> '{it''s}'::text\[\] as v1 from (?!.*secret)$$,
  'names are literals, values stay in the filter'
);
select throws_ok(
  $$select private.compile_filters('{"a": {"$or": 1}}')$$, 'PT400', 'invalid_request', 'an unknown operator is refused'
);

-- ---- times ---------------------------------------------------------------------------------------------------------
set local timezone = 'Asia/Tokyo';
select is(
  private.creation_time('2026-01-01T00:00:00'), timestamptz '2026-01-01 00:00:00+00', 'a time without a zone is UTC'
);
select is(private.creation_time('2026-01-01 02:00:00.5+0200'), timestamptz '2026-01-01 00:00:00.5+00', 'a zone counts');
select is(private.creation_time('tomorrow'), null, 'words are no times');
select is(private.creation_time('2026-13-01'), null, 'nor is what looks like one');

-- ---- the table -----------------------------------------------------------------------------------------------------
prepare store as insert into public.documents (owner_id, collection, id, creation_utc, sort_at, data)
values (gen_random_uuid(), $1, $2, '2026-01-01', '2026-01-01', $3);
select lives_ok($$execute store('c', 'a', '{"x": 1}')$$, 'a document is stored');
select throws_ok($$execute store('a b', 'a', '{}')$$, '23514', null, 'a name is checked');
select throws_ok($$execute store('c', '', '{}')$$, '23514', null, 'an id is not empty');
select throws_ok($$execute store('c', 'a', '[]')$$, '23514', null, 'data is an object');
select throws_ok($$execute store('c', 'a', '{"version": 1}')$$, '23514', null, 'what has a column is not in data');

-- ---- callers -------------------------------------------------------------------------------------------------------
select throws_ok($$select public.find_documents('c')$$, 'PT401', 'unauthorized', 'nobody has no documents');
select set_config('request.jwt.claims', '{"role": "service_role"}', true);
select is(
  private.document_owner(null), '00000000-0000-0000-0000-000000000000', 'a backend for nobody has its own store'
);
set local role authenticated;
select set_config('request.jwt.claims', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111"}', true);
select throws_ok(
  $$select public.create_document_index('c', 'a')$$, '42501', null, 'a user makes no index'
);
reset role;

select * from finish();
rollback;
