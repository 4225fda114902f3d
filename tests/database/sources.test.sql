-- source: what a message of another API says beyond our columns. And which format leaves out which reasoning.
begin;
select plan(59);

insert into auth.users (id, email) values ('00000000-0000-4000-8000-00000000005a', 'pgtap-sources@example.com');
select set_config(
  'request.jwt.claims', '{"sub": "00000000-0000-4000-8000-00000000005a", "role": "authenticated"}', true
);
create temporary table made as
select (public.create_conversation('{}', '[
  {"role": "user", "content": "zebras", "source": {"dialect": "anthropic", "rest": {"cache_control": {"type": "ephemeral"}}}},
  {"role": "assistant", "content": "yes", "item": {"phase": "final"}, "source": null}
]') ->> 'id')::uuid as id;
grant select on made to authenticated;

-- ---- what it may be -----------------------------------------------------------------------------------------------
create function pg_temp.append(p_message jsonb) returns jsonb language sql as $$
  select public.append_messages((select id from made), jsonb_build_array('{"role": "user", "content": "x"}' || p_message))::jsonb
$$;
create function pg_temp.append_source(p_source jsonb) returns jsonb language sql as $$
  select pg_temp.append(jsonb_build_object('source', p_source))
$$;

select throws_like(format('select pg_temp.append_source(%L)', source), 'source of conversation_messages %', source)
from (values
  ('"anthropic"'), ('[]'), ('{}'), ('{"dialect": "chat"}'), ('{"rest": {}}'), ('{"dialect": "message", "rest": {}}'),
  ('{"dialect": "cobol", "rest": {}}'), ('{"dialect": null, "rest": {}}'), ('{"dialect": "chat", "rest": null}'),
  ('{"dialect": "chat", "rest": []}'), ('{"dialect": "chat", "rest": {}, "more": 1}')
) s (source);
select throws_like($$select pg_temp.append('{"item": []}')$$, 'item of conversation_messages %', 'an item is an object');
select throws_like(
  $$select pg_temp.append('{"content": null, "source": {"dialect": "chat", "rest": {}}}')$$, 'body of conversation_messages %',
  'a source is no body'
);
select throws_like(
  format('select pg_temp.append_source(%L)', jsonb_build_object('dialect', 'chat', 'rest', jsonb_build_object('a', repeat('x', 8388608)))),
  'size of conversation_messages %', 'a source counts in the 8 MiB'
);
select throws_like(
  format(
    'select pg_temp.append_source(%L)',
    format('{"dialect": "chat", "rest": {"a": %s1%s, "b": "%s"}}', repeat('[', 110), repeat(']', 110), repeat('x', 900))
  ),
  'depth of conversation_messages %', 'and in the 100 levels'
);
select lives_ok(
  format('select pg_temp.append_source(%L)', jsonb_build_object('dialect', dialect, 'rest', '{"a": 1}'::jsonb)), dialect
)
from unnest('{chat,responses,anthropic,gemini,ai-sdk,langchain}'::text[]) dialect;

-- ---- where it is shown ----------------------------------------------------------------------------------------------
select is(
  (public.list_messages((select id from made), p_limit => 2) -> 'data' -> 0)::jsonb ? 'source', false, 'message has no source'
);
select is(
  (select jsonb_agg(m.value -> 'source' order by m.n)
    from jsonb_array_elements(public.list_messages((select id from made), p_limit => 2, p_format => 'anthropic')::jsonb -> 'data')
      with ordinality m (value, n)),
  '[{"dialect": "anthropic", "rest": {"cache_control": {"type": "ephemeral"}}}, null]', 'every other format has'
);
select is(
  (select jsonb_agg(m.value - 'source' order by m.n)
    from jsonb_array_elements(public.list_messages((select id from made), p_format => 'chat')::jsonb -> 'data')
      with ordinality m (value, n)),
  public.list_messages((select id from made))::jsonb -> 'data', 'beside what message has'
);
select is(
  (select array_agg(k.key order by k.n) from json_object_keys(
    public.list_messages((select id from made), p_limit => 1, p_format => 'chat') -> 'data' -> 0
  ) with ordinality k (key, n) where k.n > 19),
  '{item,source}', 'as the last field'
);
select is(
  pg_temp.append_source('{"dialect": "chat", "rest": {}}') -> 'messages' -> 0 ? 'source', false, 'an append does not answer it'
);
select throws_ok(
  format('select public.list_messages(%L, p_format => %L)', (select id from made), format), 'PT400', 'invalid_request',
  'a page in the format ' || coalesce(format, 'null')
)
from (values ('xml'), (null::text)) f (format);
select throws_ok(
  format('select public.get_context(%L, 1000, p_format => %L)', (select id from made), 'xml'), 'PT400', 'invalid_request',
  'a context in the format xml'
);
select is(
  public.search_messages('ephemeral') -> 'data', '[]', 'a search does not find it'
);

-- ---- the same item again --------------------------------------------------------------------------------------------
select lives_ok(
  format('select pg_temp.append(%L)', '{"item_id": "i"}'::jsonb || source), 'item_id: ' || source::text
)
from (values
  ('{"source": {"dialect": "chat", "rest": {"a": 1}}}'::jsonb), ('{"source": {"rest": {"a": 1.0}, "dialect": "chat"}}'), ('{}')
) s (source);
select throws_ok(
  $$select pg_temp.append('{"item_id": "i", "source": {"dialect": "chat", "rest": {"a": 2}}}')$$, 'PT409', 'item_conflict',
  'another source is another message'
);

-- ---- by the REST API, out and in again -------------------------------------------------------------------------------
set local role authenticated;
select lives_ok(
  $$insert into public.conversation_messages (conversation_id, role, content, source)
    values ((select id from made), 'user', 'by REST', '{"dialect": "gemini", "rest": {}}')$$,
  'clients insert it'
);
reset role;

-- ---- which reasoning is whose ---------------------------------------------------------------------------------------
select is(
  (select jsonb_object_agg(t.type, t.formats) from (
    select t.type, coalesce(jsonb_agg(f.format order by f.n) filter (where private.format_leaves_out(t.type, f.format)), '[]')
    from unnest('{reasoning,thinking,thought,reasoning_text,compaction,other}'::text[]) t (type)
    cross join unnest('{message,chat,responses,anthropic,gemini,ai-sdk,langchain,null}'::text[]) with ordinality f (format, n)
    group by t.type
  ) t (type, formats)),
  '{"reasoning": ["chat", "anthropic", "gemini"], "thinking": ["chat", "responses", "gemini"],
    "thought": ["chat", "responses", "anthropic"], "reasoning_text": ["chat", "responses", "anthropic", "gemini"],
    "compaction": ["chat", "anthropic", "gemini", "ai-sdk", "langchain"], "other": []}', 'what a format leaves out'
);
select is(private.format_leaves_out(null, 'chat'), false, 'and never what is no reasoning');

select is((private.piece_of(part, 'model')).type, type, part::text)
from (values
  ('{"type": "thinking", "thinking": "", "signature": "s"}'::jsonb, 'thinking'),
  ('{"type": "thinking", "thinking": "", "signature": ""}', 'reasoning_text'),
  ('{"type": "thinking", "thinking": "", "signature": 1}', 'reasoning_text'),
  ('{"type": "redacted_thinking", "data": "d"}', 'thinking'),
  ('{"type": "redacted_thinking", "data": null}', 'reasoning_text'),
  ('{"type": "reasoning", "text": "", "providerMetadata": {"anthropic": {"signature": "s"}}}', 'thinking'),
  ('{"type": "reasoning", "text": "", "providerOptions": {"anthropic": {"redactedData": "d"}}}', 'thinking'),
  ('{"type": "reasoning", "text": "", "providerMetadata": {"google": {"thoughtSignature": "s"}}}', 'thought'),
  ('{"type": "reasoning", "text": "", "providerMetadata": 1, "providerOptions": {"google": {"thoughtSignature": "s"}}}', 'thought'),
  ('{"type": "reasoning", "text": "", "providerMetadata": {"anthropic": {"signature": ""}}}', 'reasoning_text'),
  ('{"type": "reasoning", "text": "", "providerMetadata": [{"anthropic": {"signature": "s"}}]}', 'reasoning_text'),
  ('{"type": "reasoning", "text": "", "providerMetadata": {"openai": {"reasoningEncryptedContent": "e"}}}', 'reasoning_text'),
  ('{"type": "reasoning", "reasoning": "LangChain"}', 'reasoning_text'),
  ('{"reasoningContent": {"reasoningText": {"text": "Bedrock", "signature": "s"}}}', 'reasoning_text'),
  ('{"text": "hm", "thought": true}', 'thought'),
  ('{"text": "hm", "thought": "true"}', null),
  ('{"type": "compaction", "encrypted_content": "e"}', 'compaction'),
  ('{"type": "tool_use", "id": "c"}', null)
) p (part, type);

create function pg_temp.types(p_row jsonb) returns text language sql as $$
  select string_agg(concat_ws(' ', p.kind, p.type), ', ' order by p.place)
  from private.pieces(jsonb_populate_record(null::public.conversation_messages, '{"type": "message", "role": "assistant"}' || p_row)) p
$$;
select is(pg_temp.types(message), types, message::text)
from (values
  ('{"type": "reasoning", "item": {"type": "reasoning", "summary": []}}'::jsonb, 'reasoning reasoning'),
  ('{"type": "reasoning", "content": "hm"}', 'reasoning reasoning_text'),
  ('{"type": "compaction", "role": "user", "item": {"type": "compaction"}}', 'compaction compaction'),
  ('{"parts": [{"type": "thinking"}, {"type": "thinking", "signature": "s"}, {"type": "redacted_thinking", "data": ""},
    {"type": "text", "text": "a"}, {"text": "hm", "thought": true}]}',
    'reasoning reasoning_text, reasoning thinking, model, reasoning thought')
) m (message, types);

select * from finish();
rollback;
