-- What each role may do to conversations and messages, past the functions: plain SQL, as the REST API runs it.
begin;
select plan(25);

insert into auth.users (id, email) values
  ('00000000-0000-4000-8000-00000000000a', 'pgtap-a@example.com'),
  ('00000000-0000-4000-8000-00000000000b', 'pgtap-b@example.com');

create function pg_temp.become(p_role text, p_user_id uuid) returns void language plpgsql as $$
begin
  perform set_config('request.jwt.claim.sub', coalesce(p_user_id::text, ''), true);
  perform set_config('request.jwt.claim.role', p_role, true);
  perform set_config('request.jwt.claims', json_build_object('sub', p_user_id, 'role', p_role)::text, true);
  perform set_config('role', p_role, true);
end;
$$;

-- ---- user A: the positive controls ----------------------------------------------------------------------------------
select pg_temp.become('authenticated', '00000000-0000-4000-8000-00000000000a');

insert into public.conversations (id, title) values ('00000000-0000-4000-8000-0000000000c1', 'mine');
select is(
  (select user_id from public.conversations where id = '00000000-0000-4000-8000-0000000000c1'),
  '00000000-0000-4000-8000-00000000000a', 'a plain insert belongs to the caller'
);
insert into public.conversation_messages (conversation_id, role, content) values
  ('00000000-0000-4000-8000-0000000000c1', 'user', 'one'), ('00000000-0000-4000-8000-0000000000c1', 'assistant', 'two');
select results_eq(
  $$select sequence_order, author from public.conversation_messages
    where conversation_id = '00000000-0000-4000-8000-0000000000c1' order by 1$$,
  $$values (1, 'user'), (2, 'user')$$, 'plain inserts are numbered by the database, and marked as the user''s'
);
select lives_ok(
  $$insert into public.conversation_messages (conversation_id, sequence_order, role, content)
    values ('00000000-0000-4000-8000-0000000000c1', 3, 'user', 'three')$$, 'an explicit number is accepted if it is the next'
);
select throws_ok(
  $$insert into public.conversation_messages (conversation_id, sequence_order, role, content)
    values ('00000000-0000-4000-8000-0000000000c1', 9, 'user', 'nine')$$, 'PT409', 'sequence_conflict', 'a number that leaves a gap is refused'
);
select throws_ok(
  $$insert into public.conversation_messages (conversation_id, sequence_order, role, content)
    values ('00000000-0000-4000-8000-0000000000c1', 2, 'user', 'two again')$$, 'PT409', 'sequence_conflict', 'a number that is taken is refused'
);
select is(
  (public.append_messages('00000000-0000-4000-8000-0000000000c1', '[{"role": "user", "content": "four"}]') ->> 'last_sequence_order')::integer,
  4, 'append continues after plain inserts'
);
select lives_ok(
  $$update public.conversations set title = 'renamed' where id = '00000000-0000-4000-8000-0000000000c1'$$, 'a title can be changed'
);
select lives_ok(
  $$select public.append_messages('00000000-0000-4000-8000-0000000000c1', '[{"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}]')$$,
  'an assistant''s call without content is a message'
);

-- ---- user A: what even the owner may not do ---------------------------------------------------------------------------
select throws_ok($$update public.conversation_messages set content = 'forged'$$, '42501', null, 'a message cannot be updated');
select throws_ok($$delete from public.conversation_messages$$, '42501', null, 'a message cannot be deleted past the API');
select throws_ok($$delete from public.conversations$$, '42501', null, 'a conversation cannot be deleted past the API');
select throws_ok($$truncate public.conversation_messages$$, '42501', null, 'nothing can be truncated');
select throws_ok($$update public.conversations set last_sequence_order = 99$$, '42501', null, 'the counter cannot be moved');
select throws_ok(
  $$update public.conversations set user_id = '00000000-0000-4000-8000-00000000000b'$$, '42501', null, 'a conversation cannot be given away'
);
select throws_ok(
  $$insert into public.conversation_messages (conversation_id, role, content, author)
    values ('00000000-0000-4000-8000-0000000000c1', 'user', 'x', 'service')$$, '42501', null, 'author cannot be forged'
);
select throws_ok(
  $$insert into public.conversations (user_id) values ('00000000-0000-4000-8000-00000000000b')$$, '42501', null,
  'a conversation cannot be created for someone else'
);
select throws_ok(
  $$select public.append_messages('00000000-0000-4000-8000-0000000000c1', '[{"role": "user", "content": "x"}, {"role": "narrator", "content": "y"}]')$$,
  '23514', null, 'an unknown role is refused'
);
select throws_ok(
  $$select public.append_messages('00000000-0000-4000-8000-0000000000c1', '[{"role": "user", "content": "x"}, {"role": "user", "contents": "y"}]')$$,
  'PT400', 'invalid_request', 'an unknown field is refused in SQL too'
);
select is(
  (select last_sequence_order from public.conversations where id = '00000000-0000-4000-8000-0000000000c1'), 5,
  'what was refused left nothing behind'
);

-- ---- user B -----------------------------------------------------------------------------------------------------------
select pg_temp.become('authenticated', '00000000-0000-4000-8000-00000000000b');
select is_empty($$select from public.conversations$$, 'another user sees no conversation');
select is_empty($$select from public.conversation_messages$$, 'another user sees no message');
select throws_ok(
  $$insert into public.conversation_messages (conversation_id, role, content)
    values ('00000000-0000-4000-8000-0000000000c1', 'user', 'x')$$, 'PT404', 'conversation_not_found', 'another user cannot insert'
);
select throws_ok(
  $$select public.append_messages('00000000-0000-4000-8000-0000000000c1', '[{"role": "user", "content": "x"}]', null, '00000000-0000-4000-8000-00000000000a')$$,
  'PT404', 'conversation_not_found', 'a user cannot act as someone else'
);

-- ---- a backend, and nobody ----------------------------------------------------------------------------------------------
select pg_temp.become('service_role', null);
insert into public.conversation_messages (conversation_id, role, content)
values ('00000000-0000-4000-8000-0000000000c1', 'assistant', 'from a backend');
select results_eq(
  $$select sequence_order, author, user_id from public.conversation_messages where content = 'from a backend'$$,
  $$values (6, 'service', '00000000-0000-4000-8000-00000000000a'::uuid)$$, 'a backend''s plain insert is numbered, owned and marked as its own'
);

select pg_temp.become('anon', null);
select throws_ok($$select from public.conversations$$, '42501', null, 'anon is refused');

reset role;
select * from finish();
rollback;
