-- Items in, items out: each as it came, whatever columns it was kept in.
begin;
select plan(20);

insert into auth.users (id, email) values ('00000000-0000-4000-8000-00000000001a', 'pgtap-items@example.com');
select set_config(
  'request.jwt.claims', '{"sub": "00000000-0000-4000-8000-00000000001a", "role": "authenticated"}', true
);
insert into public.conversations (id, user_id)
values ('00000000-0000-4000-8000-0000000001c1', '00000000-0000-4000-8000-00000000001a');

create temporary table samples (n serial, item jsonb);
insert into samples (item) values
  ('{"role": "user", "content": "easy"}'),
  ('{"role": "user", "content": ""}'),
  ('{"type": "message", "role": "assistant", "content": "a string"}'),
  ('{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "usual"}]}'),
  ('{"role": "developer", "content": [{"type": "input_text", "text": "no type"}]}'),
  ('{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": "final", "content": [{"type": "output_text", "text": "It is ½.", "annotations": [], "logprobs": []}]}'),
  ('{"type": "message", "id": "msg_2", "status": "incomplete", "role": "assistant", "content": [{"type": "output_text", "text": "cited", "annotations": [{"type": "url_citation", "url": "https://example.com", "start_index": 0}]}]}'),
  ('{"type": "message", "id": "msg_3", "status": "completed", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}'),
  ('{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}, {"type": "input_file", "file_id": "file_1"}]}'),
  ('{"type": "message", "role": "user", "content": []}'),
  ('{"type": "message", "role": "user", "content": ["odd", 1, null]}'),
  ('{"type": "message", "role": "user", "content": [{"type": "input_text", "text": 7}]}'),
  ('{"type": "message", "role": "user", "content": null}'),
  ('{"type": "message", "role": "critic", "content": [{"type": "text", "text": "a role of theirs"}]}'),
  ('{"type": "message", "role": "tool", "content": [{"type": "input_text", "text": "no call"}], "tool_calls": [1], "name": "n"}'),
  ('{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"a\":1}", "status": "completed", "content": "?"}'),
  ('{"type": "function_call_output", "call_id": "call_1", "output": "42"}'),
  ('{"type": "function_call_output", "id": "fco_1", "call_id": "call_2", "output": [{"type": "input_text", "text": "seen"}, {"type": "input_image", "file_id": "file_2"}], "status": "completed"}'),
  ('{"type": "function_call_output", "call_id": "call_3", "output": {"not": "a string"}}'),
  ('{"type": "function_call", "call_id": null, "name": "f", "arguments": {}}'),
  ('{"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "gAAAAA=="}'),
  ('{"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"], "results": null}'),
  ('{"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}'),
  ('{"type": "computer_call", "id": "cu_1", "call_id": "call_4", "action": {"type": "click", "x": 1.50, "y": 2}, "pending_safety_checks": [], "status": "completed"}'),
  ('{"type": "computer_call_output", "call_id": "call_4", "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"}}'),
  ('{"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []}'),
  ('{"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "t", "arguments": "{}", "output": "o", "error": null}'),
  ('{"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "t", "arguments": "{}"}'),
  ('{"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": true}'),
  ('{"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_5", "name": "t", "input": "raw"}'),
  ('{"type": "custom_tool_call_output", "call_id": "call_5", "output": "done"}'),
  ('{"type": "item_reference", "id": "msg_1"}'),
  ('{"type": "a_type_of_next_year", "payload": {"n": [1, 2.0, "three"]}}'),
  ('{"type": "message", "id": "msg_1", "role": "user", "content": "an id that is taken"}'),
  ('{"type": null, "role": "user", "content": "null is not absent"}'),
  ('{"id": 7, "role": "user", "content": "an id that is no string"}'),
  ('{"id": 7, "role": "assistant", "content": [{"type": "output_text", "text": "7", "annotations": [], "logprobs": []}], "status": "completed"}'),
  ('{"id": "", "role": "assistant", "content": [{"type": "output_text", "text": "empty id"}]}'),
  ('{"type": "message", "id": "msg_4", "role": "assistant", "content": [{"type": "output_text", "text": "no status"}]}'),
  ('{"type": "message", "id": "msg_5", "role": "assistant", "content": "a string", "status": null}'),
  ('{"type": "message", "id": "msg_6", "role": "assistant", "content": "a string", "status": false}'),
  ('{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "taken", "annotations": [], "logprobs": []}]}'),
  ('{"type": "function_call_output", "id": "fco_2", "call_id": "call_1", "output": "no status"}'),
  ('{"without": "type"}'),
  ('{}');
insert into samples (item) select jsonb_build_object('type', repeat('x', 65), 'role', 'user');

select private.store_messages(
  '00000000-0000-4000-8000-0000000001c1',
  private.place_items('00000000-0000-4000-8000-0000000001c1', (select jsonb_agg(s.item order by s.n) from samples s)),
  null, null, null, null
);
create temporary view stored as
select m as message, m.* from public.conversation_messages m where m.conversation_id = '00000000-0000-4000-8000-0000000001c1';

select is((select count(*) from stored), (select count(*) from samples), 'an item is a message');
select is_empty(
  $$select s.item, private.items_from_message(m.message) from samples s join stored m on m.sequence_order = s.n
    where private.items_from_message(m.message) is distinct from jsonb_build_array(s.item)$$,
  'every item comes back as it was'
);
select is_empty(
  $$select item from stored m where item is not null and not private.is_whole_item(m.message)
      and (item ? 'text' or item::text ~ 'usual|cited"|see|42|arguments')$$,
  'no text is stored twice'
);
select results_eq(
  $$select role, content, parts, item from stored where sequence_order in (4, 5) order by sequence_order$$,
  $$values ('user', 'usual', null::jsonb, '{}'::jsonb), ('developer', 'no type', null, '{"type": null}')$$,
  'a text is the content'
);
select results_eq(
  $$select content, item_id, status, item from stored where sequence_order in (6, 7) order by sequence_order$$,
  $$values ('It is ½.', 'msg_1', 'complete',
      '{"phase": "final"}'::jsonb),
    ('cited', 'msg_2', 'incomplete', '{"status": "incomplete", "content": [{"type": "output_text",
      "annotations": [{"type": "url_citation", "url": "https://example.com", "start_index": 0}]}]}')$$,
  'its id is the item_id, and item keeps what is not usual'
);
select is(
  (select jsonb_build_array(type, role, content, tool_calls) from stored where sequence_order = 16),
  '["message", "assistant", null, [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]]',
  'a function call is an assistant''s tool call'
);
select results_eq(
  $$select type, role, tool_call_id, content from stored where sequence_order = 17$$,
  $$values ('message', 'tool', 'call_1', '42')$$, 'its output is a tool''s message'
);
select results_eq(
  $$select type, role from stored where sequence_order in (13, 14, 21, 44, 46) order by sequence_order$$,
  $$values ('message', 'user'), ('item', null), ('reasoning', null), ('item', null), ('item', 'user')$$,
  'what no column holds is kept whole under its type'
);
select is((select item_id from stored where sequence_order = 34), null, 'an id that is taken is nobody else''s item_id');
select throws_ok(
  $$select private.message_from_item('[]')$$, 'PT400', 'invalid_request', 'an item is an object'
);

-- ---- the API's ids ------------------------------------------------------------------------------------------------
select is_empty(
  $$select i.value ->> 'id' from stored m, jsonb_array_elements(private.openai_items(m.message)) i group by 1 having count(*) > 1$$,
  'ids are unique'
);
select is_empty(
  $$select m.item_id from stored m where m.item_id is not null and private.openai_items(m.message) -> 0 ->> 'id' <> m.item_id$$,
  'and the item''s own where it has one'
);

-- ---- messages of the conversations API ------------------------------------------------------------------------------
select public.append_messages('00000000-0000-4000-8000-0000000001c1', '[
  {"role": "user", "content": "hi"},
  {"role": "assistant", "content": "Let me see.", "tool_calls": [
    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}}]},
  {"role": "tool", "tool_call_id": "c1", "content": "1"},
  {"role": "assistant", "content": null, "function_call": {"name": "h", "arguments": "{}"}},
  {"role": "function", "name": "h", "content": "2"},
  {"role": "user", "content": null, "parts": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
  {"role": "assistant", "content": "", "tool_calls": []},
  {"type": "reasoning", "content": "Hm."}
]');
create temporary table native as
select m.sequence_order as n, m as message
from public.conversation_messages m
where m.conversation_id = '00000000-0000-4000-8000-0000000001c1' and m.sequence_order > (select count(*) from samples);

select is(
  (select jsonb_agg(private.items_from_message(message) order by n) -> 0 from native),
  '[{"type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "hi"}]}]',
  'a user''s text is a message item'
);
select is(
  (select jsonb_agg(private.items_from_message(message) order by n) -> 1 from native),
  '[{"type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"},
    {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"}]',
  'a message with calls is several items'
);
select is(
  (select jsonb_agg(private.items_from_message(message) order by n) -> 2 from native),
  '[{"type": "function_call_output", "call_id": "c1", "output": "1", "status": "completed"}]', 'a tool''s result is an output'
);
select is(
  (select jsonb_path_query_array(jsonb_agg(private.items_from_message(message) order by n), '$[3 to 4][*].call_id') from native),
  '["call_h", "call_h"]', 'the legacy call and its result find each other'
);
select is(
  (select jsonb_agg(private.items_from_message(message) order by n) -> 5 -> 0 -> 'content' from native),
  '[{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"}]',
  'parts become the Responses API''s'
);
select is(
  (select min(jsonb_array_length(private.openai_items(message))) from native), 1, 'every message is one item at the least'
);
select is(
  (select jsonb_path_query_array(private.openai_items(message), '$[*].id') from native order by n offset 1 limit 1),
  (select jsonb_build_array('msg_' || x, 'fc_' || x || '_2', 'ctc_' || x || '_3')
    from (select replace((message).id::text, '-', '') as x from native order by n offset 1 limit 1) i),
  'the ids say where an item is'
);

-- ---- context ------------------------------------------------------------------------------------------------------
select is(
  (select jsonb_path_query_array(
    public.get_context('00000000-0000-4000-8000-0000000001c1', 100000),
    '$.messages[*] ? (@.sequence_order == 4 || @.sequence_order == 16 || @.sequence_order == 17 || @.sequence_order == 23).item.type'
  )),
  '["web_search_call"]', 'a model gets an item where it is the message, and never what is left of one'
);

select * from finish();
rollback;
