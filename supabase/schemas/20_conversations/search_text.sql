-- Text to words, for searches and their filters.

-- Character classes as the inside of a bracket expression. Spelled out instead of \w or the text search parser: those
-- follow the C library or ICU, and a filter made with one version of it would quietly miss words under the next.
create function private.word_breaks() returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select '\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7'
    '\u055a-\u055f\u0589\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u1680\u180e'
    '\u2000-\u25ff\u27c0-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d-\u3040\u30a0\u30fb\ufe00-\ufe6f'
    '\ufeff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U000e0000-\U000e0fff';
$$;
comment on routine private.word_breaks is 'Characters that end a word: space, punctuation, symbols.';
revoke all on routine private.word_breaks from public, anon, authenticated, service_role;


create function private.unspaced_scripts() returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select '\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2600-\u27bf\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f'
    '\u3031-\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff'
    '\ua960-\ua97f\uac00-\ud7fb\uf900-\ufaff\uff66-\uff9f\U0001f000-\U0001faff\U00020000-\U0003ffff';
$$;
comment on routine private.unspaced_scripts is
  'Characters of scripts whose words a program cannot tell apart by spaces: Chinese, Japanese, Korean, Thai, Lao, '
  'Khmer, Burmese; and emoji. Searched as substrings.';
revoke all on routine private.unspaced_scripts from public, anon, authenticated, service_role;


create function private.fold_text(p_text text) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
declare
  v_text text := p_text;
begin
  if octet_length(v_text) = char_length(v_text) then
    return ' ' || btrim(regexp_replace(lower(v_text collate "C"), '[^a-z0-9]+', ' ', 'g')) || ' ';
  end if;
  v_text := regexp_replace(normalize(private.without_marks(v_text), nfkd), '[\u0300-\u036f]+', '', 'g');
  v_text := regexp_replace(lower(normalize(v_text, nfkc)), '[' || private.word_breaks() || ']+', ' ', 'g');
  if v_text ~ ('[' || private.unspaced_scripts() || ']') then
    v_text := regexp_replace(
      v_text, '([' || private.unspaced_scripts() || '])(?=[^ ' || private.unspaced_scripts() || '])', '\1 ', 'g'
    );
    v_text := regexp_replace(
      v_text, '([^ ' || private.unspaced_scripts() || '])(?=[' || private.unspaced_scripts() || '])', '\1 ', 'g'
    );
  end if;
  return ' ' || btrim(v_text) || ' ';
end;
$$;
comment on routine private.fold_text is
  'The words of a text, each between single spaces: lower case, without accents and punctuation, compatibility forms '
  'made plain. A run of an unspaced script is one word: "GPT模型, Café!" becomes " gpt 模型 cafe ". What private.without_marks '
  'takes out parts words.';
revoke all on routine private.fold_text from public, anon, authenticated, service_role;


create function private.text_lexemes(p_folded text) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
declare
  v_text text := btrim(p_folded);
begin
  -- Pairs from the first character on, then pairs from the second: every bigram, and the last character by itself.
  if octet_length(v_text) <> char_length(v_text) and v_text ~ ('[' || private.unspaced_scripts() || ']') then
    v_text := regexp_replace(v_text, '([' || private.unspaced_scripts() || ']{2})', '\1 ', 'g') || ' '
      || regexp_replace(
        regexp_replace(v_text, '(^| )([' || private.unspaced_scripts() || '])', '\1\2 ', 'g'),
        '([' || private.unspaced_scripts() || ']{2})', '\1 ', 'g'
      );
  end if;
  -- What no one types, such as base64, and what a lexeme cannot hold.
  if v_text ~ '[^ ]{65}' then
    v_text := regexp_replace(v_text, '([^ ]{64})[^ ]+', '\1', 'g');
  end if;
  return v_text;
end;
$$;
comment on routine private.text_lexemes is
  'The lexemes of a folded text, separated by spaces: words, cut after 64 characters, and the bigrams of unspaced '
  'scripts, with the last character of each run by itself.';
revoke all on routine private.text_lexemes from public, anon, authenticated, service_role;


create function private.json_text(p_value jsonb) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
begin
  -- Looking everywhere costs a microsecond a value, in which nothing can cancel it.
  if octet_length(p_value::text) > 262144 then
    return (
      select string_agg(p.value ->> 'text', E'\n' order by p.n)
      from jsonb_array_elements(case jsonb_typeof(p_value) when 'array' then p_value end) with ordinality p (value, n)
      where jsonb_typeof(p.value -> 'text') = 'string'
    );
  end if;
  return (
    select string_agg(t.value #>> '{}', E'\n')
    from (
      select jsonb_path_query(p_value, 'strict $.** ? (@.type() == "object").keyvalue() ? (
        @.value.type() == "string" && !(@.key == "type" || @.key == "role" || @.key == "status" || @.key == "state"
          || @.key == "id" || @.key like_regex "(_id|Id)$" || @.key == "url" || @.key like_regex "(_url|Uri)$"
          || @.key == "data" || @.key == "file_data" || @.key == "encrypted_content" || @.key like_regex "[sS]ignature$"
          || @.key == "fingerprint" || @.key == "format" || @.key == "detail" || @.key like_regex "^(mime|media)_?[tT]ype$")
      ).value')
      union all
      select jsonb_path_query(p_value, 'strict $.** ? (@.type() == "array")[*] ? (@.type() == "string")')
    ) t (value)
  );
end;
$$;
comment on routine private.json_text is
  'The strings in a content part, a call or an item that say something: text, arguments and outputs of tools, refusals, summaries of '
  'reasoning, transcripts. Not ids, types, addresses, data and what only a provider can read. Of more than 256 KiB only the text of '
  'its elements.';
revoke all on routine private.json_text from public, anon, authenticated, service_role;


create function private.message_text(p_message public.conversation_messages) returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
begin
  return concat_ws(
    E'\n', p_message.content, private.json_text(p_message.parts), private.json_text(p_message.function_call),
    private.json_text(p_message.tool_calls), private.json_text(p_message.item)
  );
end;
$$;
comment on routine private.message_text is
  'What is said in a message, in whichever shape: its content, and what private.json_text finds in its parts, calls and item.';
revoke all on routine private.message_text from public, anon, authenticated, service_role;
