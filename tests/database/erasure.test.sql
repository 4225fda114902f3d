-- Erasure: who may ask for it, and what a step does, seen from inside the database.
begin;
select plan(25);

insert into auth.users (id, email) values ('00000000-0000-4000-8000-00000000001e', 'pgtap-erasure@example.com');
insert into public.conversations (id, user_id, last_sequence_order)
values ('00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-00000000001e', 3);
insert into public.conversation_messages (conversation_id, user_id, sequence_order, role, content)
select '00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-00000000001e', n, 'user', 'x'
from generate_series(1, 3) n;
insert into public.sessions (user_id) values ('+49 30 pgtap');

-- ---- callers -------------------------------------------------------------------------------------------------------
select is_empty(
  $$select r.rolname, p.oid::regprocedure
    from pg_proc p, (values ('anon'), ('authenticated'), ('service_role')) as r (rolname)
    where p.pronamespace = 'private'::regnamespace
      and p.proname ~ '(_piece|_step|^advance_erasure|^request_erasure|^list_conversations_to_erase)$'
      and has_function_privilege(r.rolname, p.oid, 'execute')$$,
  'no client role runs a step, or a piece of one'
);
select cmp_ok(
  (select count(*) from pg_proc where pronamespace = 'private'::regnamespace and proname ~ '(_piece|erasure_step|advance_erasure)$'),
  '>=', 6::bigint, 'there are such functions'
);
select throws_ok($$select public.erase_conversations()$$, 'PT401', 'unauthorized', 'nobody has nothing to erase');
select throws_ok($$select public.erase_user('x')$$, 'PT401', 'unauthorized', 'nor erases a user');

set local role authenticated;
select set_config('request.jwt.claims', '{"role": "authenticated", "sub": "00000000-0000-4000-8000-00000000001e"}', true);
select throws_ok($$select public.erase_user('+49 30 pgtap')$$, '42501', null, 'a user erases no user');
select throws_ok($$select private.erasure_step()$$, '42501', null, 'and runs no step');
select throws_ok($$select * from private.erasures$$, '42501', null, 'and sees no receipt but by its id');
reset role;
set local role anon;
select throws_ok($$select public.erase_conversations()$$, '42501', null, 'anon erases nothing');
reset role;
select set_config('request.jwt.claims', '{"role": "authenticated", "sub": "00000000-0000-4000-8000-00000000001e"}', true);
select throws_ok(
  $$select private.erase_user('+49 30 pgtap')$$, 'PT403', 'forbidden', 'the claim decides, not the role that runs it'
);

-- ---- what goes -----------------------------------------------------------------------------------------------------
set local role authenticated;
select is(
  public.erase_conversations() - '{id,created_at,finished_at}'::text[],
  '{"scope": "conversations", "removed": {"conversations": 1, "conversation_messages": 3}, "error": null}',
  'a user erases their conversations, and the receipt says what went'
);
reset role;
select is_empty(
  $$select from public.conversations where user_id = '00000000-0000-4000-8000-00000000001e'$$, 'nothing is left of them'
);

select set_config('request.jwt.claims', '{"role": "service_role"}', true);
set local role service_role;
select throws_ok($$select public.erase_conversations()$$, 'PT400', 'user_id_required', 'a backend says whose');
select throws_ok($$select public.erase_user()$$, 'PT400', 'user_id_required', 'and who');
select throws_ok($$select public.erase_user('')$$, 'PT400', 'invalid_request', 'not nobody');
select throws_ok(
  $$select public.erase_user(repeat('x', 257))$$, 'PT400', 'invalid_request', 'nor more than a user id can be'
);
select throws_ok(
  $$select public.erase_user('00000000-0000-0000-0000-000000000000')$$, 'PT400', 'invalid_request',
  'the owner of the backend''s own documents is no user'
);
create temporary table receipt as select public.erase_user('+49 30 pgtap') as receipt;
reset role;
select is(
  (select receipt - '{id,created_at,finished_at}'::text[] from receipt),
  '{"scope": "user", "removed": {"sessions": 1}, "error": null}', 'a backend erases a caller who is no user of Auth'
);
select is(
  (select e.user_id from private.erasures e, receipt r where e.id = (r.receipt ->> 'id')::uuid), null,
  'the receipt names nobody'
);

-- ---- the table -----------------------------------------------------------------------------------------------------
select throws_ok(
  $$insert into private.erasures (scope, user_id, finished_at) values ('user', 'x', now())$$, '23514', null,
  'no receipt can'
);
select throws_ok(
  $$insert into private.erasures (scope, user_id) values ('user', null)$$, '23514', null, 'before it has an end it has to'
);
insert into private.erasures (scope, user_id) values ('user', 'pgtap twice');
select throws_ok(
  $$insert into private.erasures (scope, user_id) values ('user', 'pgtap twice')$$, '23505', null,
  'one erasure of a user goes on at a time'
);
delete from private.erasures where user_id = 'pgtap twice';

-- ---- what a table of the host's holds fast ---------------------------------------------------------------------------
select set_config('request.jwt.claims', '', true);
create table public.pgtap_tickets (conversation_id uuid references public.conversations (id));
insert into public.conversations (id, user_id, last_sequence_order)
select ('00000000-0000-4000-8000-0000000000f' || n)::uuid, '00000000-0000-4000-8000-00000000001e', 0 from generate_series(1, 2) n;
insert into public.pgtap_tickets values ('00000000-0000-4000-8000-0000000000f1');
insert into public.videos (user_id, title) values ('00000000-0000-4000-8000-00000000001e', 'x');
insert into public.sessions (user_id) values ('00000000-0000-4000-8000-00000000001e');
insert into public.documents (owner_id, collection, id, creation_utc, sort_at, data)
values ('00000000-0000-4000-8000-00000000001e', 'pgtap', 'x', '2026-01-01T00:00:00Z', '2026-01-01', '{}');

select private.hide_conversations('{00000000-0000-4000-8000-0000000000f1,00000000-0000-4000-8000-0000000000f2}');
select ok(
  (private.drain_prune_queue(100, '00000000-0000-4000-8000-00000000001e')).progress,
  'what cannot be pruned is put aside, and there may be more to do'
);
-- One that has failed comes again with the next statement that a client sends.
select private.drain_prune_queue(100, '00000000-0000-4000-8000-00000000001e');
select results_eq(
  $$select conversation_id, error from private.prune_queue where user_id = '00000000-0000-4000-8000-00000000001e'$$,
  $$values ('00000000-0000-4000-8000-0000000000f1'::uuid, '23503 pgtap_tickets_conversation_id_fkey')$$,
  'it stays in the queue and says why, and the next one is gone'
);

-- A request gives up after 400 ms, which a busy machine may need for what goes: the rest in a minute at the most.
create function pg_temp.erase() returns jsonb language plpgsql as $$
declare
  v_id uuid := private.request_erasure('user', '00000000-0000-4000-8000-00000000001e') ->> 'id';
begin
  perform private.advance_erasure(v_id, '1 minute');
  return (select to_jsonb(e) from private.erasures e where e.id = v_id);
end;
$$;
select is(
  pg_temp.erase() - '{id,user_id,created_at,updated_at}'::text[],
  '{"scope": "user", "removed": {"documents": 1, "sessions": 1, "videos": 1}, "error": "23503", "finished_at": null}',
  'of a user who is erased it keeps nothing else'
);
delete from public.pgtap_tickets;
select is(
  pg_temp.erase() #> '{removed,conversations}', '1',
  'and when it lets go, the rest goes as well'
);

select * from finish();
rollback;
