-- Export: all conversations of a user, page by page, as lines of NDJSON.

create function private.export_conversation(p_conversation_id uuid) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select case
    when c.deleted_at is null then to_jsonb(c) - '{user_id,deleted_at}'::text[]
    else (
      select jsonb_object_agg(t.key, t.value) || '{"deleted": true}'
      from jsonb_each(to_jsonb(c) - '{user_id,deleted_at}'::text[]) t
      where t.key = any (private.tombstone_columns())
    )
  end
  from public.conversations c
  where c.id = p_conversation_id;
$$;
comment on routine private.export_conversation is
  'A conversation as an export shows it: every column but its user. A deleted one says so, and has what is left of it.';
revoke all on routine private.export_conversation from public, anon, authenticated, service_role;


create function private.export_message(p_message public.conversation_messages) returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(p_message) - '{user_id,type}'::text[] || jsonb_build_object('message_type', p_message.type);
$$;
comment on routine private.export_message is
  'A message as an export shows it: every column but its user. Its type is message_type, for type says what a line is.';
revoke all on routine private.export_message from public, anon, authenticated, service_role;


create function private.export_page(p_cursor jsonb, p_user_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- By index, tree by tree, whatever the statistics say: one conversation with thousands of forks, whoever made it, and each tree
-- of everybody's was joined with the whole table. 1,000 lines took minutes. Without JIT: what is off looks expensive enough for it.
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_material = off
set enable_sort = off
set jit = off
as $$
declare
  c_lines constant integer := 1000;
  c_bytes constant integer := 1048576;
  v_user_id uuid := private.acting_user(p_user_id);
  -- What is created while the export runs is not part of it: its parent's turn may be over.
  v_as_of timestamptz := coalesce((p_cursor ->> 'as_of')::timestamptz, now());
  v_root_id uuid := (p_cursor ->> 'root_id')::uuid;
  v_depth integer := (p_cursor ->> 'depth')::integer;
  v_id uuid := (p_cursor ->> 'id')::uuid;
  v_after integer := (p_cursor ->> 'after')::integer;
  v_last integer := (p_cursor ->> 'last')::integer;
  v_root record;
  v_conversation record;
  v_message public.conversation_messages;
  v_line text;
  v_lines text[] := '{}';
  v_count integer := 0;
  v_bytes bigint := 0;
  v_conversations integer := 0;
  v_tombstones integer := 0;
  v_messages integer := 0;
  v_is_full boolean := false;
begin
  perform private.take_turn(v_user_id::text);
  -- A tree at a time, a level at a time: parents before forks, and a page costs what it shows and one tree.
  <<trees>>
  for v_root in
    select c.id
    from public.conversations c
    where c.user_id = v_user_id and c.parent_id is null and (v_root_id is null or c.id >= v_root_id)
    order by c.id
  loop
    for v_conversation in
      with recursive tree (id, depth) as (
        select v_root.id, 0
        union all
        select c.id, t.depth + 1
        from tree t
        join public.conversations c on c.parent_id = t.id
      )
      select c.*, t.depth
      from tree t
      join public.conversations c on c.id = t.id
      where c.created_at <= v_as_of
        and (v_root.id is distinct from v_root_id or (t.depth, t.id) >= (v_depth, v_id))
        and not exists (
          select from private.imports i where i.user_id = v_user_id and i.conversation_id = c.id and i.incomplete
        )
      order by t.depth, t.id
    loop
      if v_conversation.id is distinct from v_id then
        v_is_full := v_count >= c_lines or v_bytes >= c_bytes;
        exit trees when v_is_full;
        v_root_id := v_root.id;
        v_depth := v_conversation.depth;
        v_id := v_conversation.id;
        v_after := 0;
        -- Appended while the export runs: after the number that this line tells.
        v_last := v_conversation.last_sequence_order;
        v_line := '{"type": "conversation", ' || substr(private.export_conversation(v_conversation.id)::text, 2);
        v_count := v_count + 1;
        v_lines[v_count] := v_line;
        v_bytes := v_bytes + octet_length(v_line);
        v_conversations := v_conversations + (v_conversation.deleted_at is null)::integer;
        v_tombstones := v_tombstones + (v_conversation.deleted_at is not null)::integer;
      end if;

      -- Row by row: how long a line is shows only once it is made, and a thousand of them may not fit into memory.
      for v_message in
        select m.*
        from public.conversation_messages m
        where m.conversation_id = v_id and m.sequence_order > v_after and m.sequence_order <= v_last
        order by m.sequence_order
      loop
        v_is_full := v_count >= c_lines or v_bytes >= c_bytes;
        exit trees when v_is_full;
        v_line := '{"type": "message", ' || substr(private.export_message(v_message)::text, 2);
        v_count := v_count + 1;
        v_lines[v_count] := v_line;
        v_bytes := v_bytes + octet_length(v_line);
        v_messages := v_messages + 1;
        v_after := v_message.sequence_order;
      end loop;
    end loop;
  end loop trees;
  -- The lines are one string: nobody on the way has to parse them, and no number in them loses a digit.
  return jsonb_build_object(
    'lines', array_to_string(v_lines, E'\n'), 'conversations', v_conversations, 'tombstones', v_tombstones,
    'messages', v_messages, 'next', case
      when v_is_full then jsonb_build_object(
        'as_of', v_as_of, 'root_id', v_root_id, 'depth', v_depth, 'id', v_id, 'after', v_after, 'last', v_last
      )
    end
  );
end;
$$;
comment on routine private.export_page is 'See public.export_page.';


create function public.export_page(p_cursor jsonb default '{}', p_user_id uuid default null) returns jsonb
language sql
stable
set search_path = ''
return private.export_page(p_cursor, p_user_id);
comment on routine public.export_page is
  'A page of everything the user owns, as lines of NDJSON in one string: {lines, conversations, tombstones, messages, '
  'next}. Each conversation is followed by its own messages and comes before its forks. A page is at most 1,000 lines, '
  'and ends with the line that fills 1 MiB. next is the p_cursor of the page after it, null at the end.';
revoke all on routine private.export_page, public.export_page from public, anon, authenticated, service_role;
grant execute on routine private.export_page, public.export_page to authenticated, service_role;
