-- What Postgres cannot store, as functions/_shared/json.ts writes it.

create function private.without_marks(p_text text) returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select case
    when strpos(p_text, U&'\FDD0') = 0 then p_text
    else regexp_replace(p_text, '\ufdd0(0000|d[89a-f][0-9a-f]{2}|fdd0)?', ' ', 'g')
  end;
$$;
comment on routine private.without_marks is
  'A text with a space for each NUL and each half of a surrogate pair, which stand there as U+FDD0 and four hex digits: for whoever '
  'looks for words in it.';
revoke all on routine private.without_marks from public, anon, authenticated, service_role;
