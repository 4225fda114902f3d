-- A gateway that speaks SQL: the table it knows, as a view over what is stored once.

-- Roles belong to the cluster: another database of it may have made this one.
do $$
begin
  if not exists (select from pg_catalog.pg_roles r where r.rolname = 'gateway') then
    create role gateway nologin;
  end if;
end;
$$;
-- The gateway's statements do not name a schema.
alter role gateway set search_path = 'gateway';
comment on role gateway is
  'Reads and writes gateway.conversation_states and nothing else. To use it: alter role gateway login password ''…''.';

create schema gateway;
comment on schema gateway is 'For gateways that speak SQL, as the role gateway. Not in the API''s exposed schemas.';
revoke all on schema gateway from public;
grant usage on schema gateway to gateway;
grant usage on schema private to gateway;


create function private.gateway_user_id() returns uuid
language sql
immutable
set search_path = ''
as $$
  select '67617465-7761-4900-8000-000000000000'::uuid;
$$;
comment on routine private.gateway_user_id is
  'The owner of what the role gateway stores: a user of Auth without a way to log in, made with the first response.';
revoke all on routine private.gateway_user_id from public, anon, authenticated, service_role;
-- The functions of a view run as whoever reads it.
grant execute on routine private.gateway_user_id to gateway;


create function private.gateway_items(p_response_id text) returns jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select private.response_items(s.conversation_id, 0, s.sequence_order)
  from public.conversation_states s
  where s.user_id = private.gateway_user_id() and s.response_id = p_response_id;
$$;
comment on routine private.gateway_items is 'The whole history of one of the gateway''s own responses.';
revoke all on routine private.gateway_items from public, anon, authenticated, service_role;
grant execute on routine private.gateway_items to gateway;


-- A barrier: a function of the reader's own, in a condition, sees no row that the view does not show.
create view gateway.conversation_states with (security_barrier) as
select
  s.response_id,
  private.gateway_items(s.response_id) as input_items,
  s.created_at,
  s.model,
  s.provider,
  s.updated_at
from public.conversation_states s
where s.user_id = private.gateway_user_id();
comment on view gateway.conversation_states is
  'The responses that the gateway has stored, each with its whole history. An insert stores what is new in it, and replaces '
  'what has the same response_id.';
revoke all on gateway.conversation_states from public, anon, authenticated, service_role;
grant select, insert, delete on gateway.conversation_states to gateway;


create function private.history_hashes(p_items jsonb) returns bytea[]
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_hash bytea := '';
  v_hashes bytea[] := '{}';
  v_item jsonb;
begin
  for v_item in select i.value from jsonb_array_elements(p_items) with ordinality as i (value, n) order by i.n loop
    v_hash := sha256(v_hash || sha256(convert_to(v_item::text, 'UTF8')));
    v_hashes := v_hashes || v_hash;
  end loop;
  return v_hashes;
end;
$$;
comment on routine private.history_hashes is 'For each n, what identifies the first n items of a history.';
revoke all on routine private.history_hashes from public, anon, authenticated, service_role;


create function private.insert_gateway_state() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_hashes bytea[];
  v_known record;
  v_previous_id text;
  v_after integer := 0;
begin
  if new.response_id is null or new.model is null or new.provider is null then
    raise not_null_violation using message = 'response_id, input_items, model and provider are required.';
  end if;
  -- Any number of them: a row brings its whole history.
  perform private.require_items(new.input_items, 'input_items', 2147483647);
  insert into auth.users (
    id, aud, role, confirmation_token, recovery_token, email_change, email_change_token_new, email_change_token_current,
    phone_change, phone_change_token, reauthentication_token
  )
  values (private.gateway_user_id(), 'authenticated', 'authenticated', '', '', '', '', '', '', '', '')
  on conflict do nothing;

  -- The longest history that is stored and that this one goes on from. Checked item by item: a message may have been
  -- deleted since.
  v_hashes := private.history_hashes(new.input_items);
  for v_known in
    select s.response_id, h.n
    from unnest(v_hashes) with ordinality as h (hash, n)
    join public.conversation_states s on s.user_id = private.gateway_user_id() and s.history_hash = h.hash
    where s.response_id <> new.response_id
    order by h.n desc, s.updated_at desc, s.response_id
  loop
    if private.gateway_items(v_known.response_id) = (
      select to_jsonb(array_agg(i.value order by i.n))
      from jsonb_array_elements(new.input_items) with ordinality as i (value, n)
      where i.n <= v_known.n
    ) then
      v_previous_id := v_known.response_id;
      v_after := v_known.n;
      exit;
    end if;
  end loop;

  perform private.store_response(
    private.gateway_user_id(),
    new.response_id,
    jsonb_strip_nulls(jsonb_build_object('previous_response_id', v_previous_id)) || jsonb_build_object(
      'model', new.model, 'provider', new.provider, 'output', '[]'::jsonb,
      'input', (
        select coalesce(to_jsonb(array_agg(i.value order by i.n)), '[]')
        from jsonb_array_elements(new.input_items) with ordinality as i (value, n)
        where i.n > v_after
      )
    ),
    new.created_at
  );
  update public.conversation_states s set
    history_hash = v_hashes[cardinality(v_hashes)],
    updated_at = coalesce(new.updated_at, s.updated_at)
  where s.user_id = private.gateway_user_id() and s.response_id = new.response_id;
  return new;
end;
$$;
comment on routine private.insert_gateway_state is
  'Stores a row of gateway.conversation_states: of its history what no earlier response has, as its continuation.';
revoke all on routine private.insert_gateway_state from public, anon, authenticated, service_role;

create trigger insert_gateway_state instead of insert on gateway.conversation_states
  for each row execute function private.insert_gateway_state();


create function private.delete_gateway_state() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if private.remove_response(private.gateway_user_id(), old.response_id) then
    return old;
  end if;
  return null;
end;
$$;
comment on routine private.delete_gateway_state is
  'Deletes a row of gateway.conversation_states, and of its history what nothing else shows.';
revoke all on routine private.delete_gateway_state from public, anon, authenticated, service_role;

create trigger delete_gateway_state instead of delete on gateway.conversation_states
  for each row execute function private.delete_gateway_state();
