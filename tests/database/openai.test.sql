-- What OpenAI adds to an item, and how an item is found again.
begin;
select plan(44);

select is(private.normal_item(given::jsonb), expected::jsonb, given)
from (values
  (
    '{"role": "user", "content": "easy"}',
    '{"type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "easy"}]}'
  ),
  (
    '{"role": "assistant", "content": "easy"}',
    '{"type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "easy", "annotations": [], "logprobs": []}]}'
  ),
  (
    '{"type": null, "role": "assistant", "status": "incomplete", "content": [{"type": "output_text", "text": "x"}, {"type": "refusal", "refusal": "No."}]}',
    '{"type": "message", "role": "assistant", "status": "incomplete", "content": [{"type": "output_text", "text": "x", "annotations": [], "logprobs": []}, {"type": "refusal", "refusal": "No."}]}'
  ),
  ('{"type": "function_call", "call_id": "c"}', '{"type": "function_call", "call_id": "c", "status": "completed"}'),
  ('{"type": "reasoning", "id": "rs_1"}', '{"type": "reasoning", "id": "rs_1", "summary": []}'),
  ('{"type": "of_next_year", "content": "x"}', '{"type": "of_next_year", "content": "x"}'),
  ('{"type": "message", "role": "user", "content": ["odd", 1, null]}',
    '{"type": "message", "role": "user", "status": "completed", "content": ["odd", 1, null]}')
) as v (given, expected);
select is(
  private.normal_item(private.normal_item('{"role": "user", "content": "x"}')),
  private.normal_item('{"role": "user", "content": "x"}'),
  'a normal item stays as it is'
);

-- A message with text and two calls: three items.
insert into auth.users (id, email) values ('00000000-0000-4000-8000-00000000001b', 'pgtap-openai@example.com');
insert into public.conversations (id, user_id)
values
  ('00000000-0000-4000-8000-0000000001d1', '00000000-0000-4000-8000-00000000001b'),
  ('00000000-0000-4000-8000-0000000001d2', '00000000-0000-4000-8000-00000000001b');
insert into public.conversation_messages (id, conversation_id, role, content, tool_calls)
values (
  '00000000-0000-4000-8000-0000000001e1', '00000000-0000-4000-8000-0000000001d1', 'assistant', 'One moment.',
  '[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]'
);
select results_eq(
  $$
    select i ->> 'id', i ->> 'call_id'
    from public.conversation_messages m, jsonb_array_elements(private.openai_items(m)) i
    where m.id = '00000000-0000-4000-8000-0000000001e1'
  $$,
  $$
    values
      ('msg_000000000000400080000000000001e1', null),
      ('fc_000000000000400080000000000001e1_2', 'c1'),
      ('fc_000000000000400080000000000001e1_3', 'c2')
  $$,
  'each item has an id of its own, with the prefix of its type'
);
select is(
  (select f.place from private.find_item('00000000-0000-4000-8000-0000000001d1', id) f), place, coalesce(id, 'null')
)
from (values
  ('msg_000000000000400080000000000001e1', 1),
  ('fc_000000000000400080000000000001e1_3', 3),
  ('fc_000000000000400080000000000001e1_4', null),
  ('fc_000000000000400080000000000001e1_0', null),
  ('rs_000000000000400080000000000001e1', null),
  ('00000000-0000-4000-8000-0000000001e1', null)
) as v (id, place);

-- Ids that OpenAI takes, by type.
select is(private.is_openai_id(id, type), taken, format('%s of a %s', id, type))
from (values
  ('msg_1', 'message', true),
  ('fc_1', 'message', false),
  ('25fdab0e-8ec3-413c-8703-7ce5668ec990', 'message', false),
  ('msg_' || repeat('x', 60), 'message', true),
  ('msg_' || repeat('x', 61), 'message', false),
  ('msg_1:2', 'message', false),
  ('', 'message', false),
  ('fc_1', 'function_call', true),
  ('ctc_1', 'function_call', false),
  ('fc_1', 'function_call_output', true),
  ('fco_1', 'function_call_output', true),
  ('ctco_1', 'function_call_output', false),
  ('ctco_1', 'custom_tool_call_output', true),
  ('tsc_1', 'tool_search_call', true),
  ('ts_1', 'tool_search_call', false),
  ('tsc_1', 'tool_search_output', false),
  ('mcp_1', 'mcp_list_tools', false),
  ('mcpr_1', 'mcp_approval_response', true),
  ('prog_1', 'program_output', true),
  ('anything at all', 'of_next_year', true),
  ('anything at all', null, true)
) as v (id, type, taken);

insert into public.conversation_messages (id, conversation_id, role, content, item_id, tool_call_id)
values
  ('00000000-0000-4000-8000-0000000001e2', '00000000-0000-4000-8000-0000000001d1', 'user', 'Hi', 'foreign', null),
  ('00000000-0000-4000-8000-0000000001e3', '00000000-0000-4000-8000-0000000001d1', 'tool', '3', 'msg_taken', 'c1');
select is(
  (select (f.message).content from private.find_item('00000000-0000-4000-8000-0000000001d1', id) f), content, id || ' finds it'
)
from (values
  ('foreign', 'Hi'),
  ('msg_000000000000400080000000000001e2', 'Hi'),
  ('msg_taken', '3'),
  ('fco_000000000000400080000000000001e3', '3'),
  -- As it is shown where its call is not of a function.
  ('ctco_000000000000400080000000000001e3', '3'),
  ('prog_out_000000000000400080000000000001e3', '3'),
  ('msg_000000000000400080000000000001e3', null)
) as v (id, content);
select is_empty(
  $$ select private.find_item('00000000-0000-4000-8000-0000000001d2', 'msg_000000000000400080000000000001e1') $$,
  'an item is found in the conversation that shows it, and in no other'
);

select * from finish();
rollback;
