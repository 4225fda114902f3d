-- Two people who can log in, and one conversation that only the first of them can see.
--   alice@example.com / threadbase-demo
--   bob@example.com   / threadbase-demo
-- For local development; `supabase db push` leaves seeds out unless told --include-seed.

insert into auth.users (
  instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data,
  created_at, updated_at,
  -- Auth reads these as text: null here would make every login answer 500.
  confirmation_token, recovery_token, email_change, email_change_token_new, email_change_token_current,
  phone_change, phone_change_token, reauthentication_token
)
select
  '00000000-0000-0000-0000-000000000000', u.id, 'authenticated', 'authenticated', u.email,
  extensions.crypt('threadbase-demo', extensions.gen_salt('bf', 10)), now(),
  '{"provider": "email", "providers": ["email"]}', jsonb_build_object('name', u.name), now(), now(),
  '', '', '', '', '', '', '', ''
from (
  values
    ('a11ce000-0000-4000-8000-000000000001'::uuid, 'alice@example.com', 'Alice'),
    ('b0b00000-0000-4000-8000-000000000002'::uuid, 'bob@example.com', 'Bob')
) as u (id, email, name)
on conflict (id) do nothing;

insert into auth.identities (id, user_id, provider_id, provider, identity_data, last_sign_in_at, created_at, updated_at)
select
  gen_random_uuid(), u.id, u.id::text, 'email',
  jsonb_build_object('sub', u.id, 'email', u.email, 'email_verified', true), now(), now(), now()
from auth.users u
where u.id in ('a11ce000-0000-4000-8000-000000000001', 'b0b00000-0000-4000-8000-000000000002')
on conflict do nothing;

do $$
begin
  if exists (select from public.conversations where user_id = 'a11ce000-0000-4000-8000-000000000001') then
    return;
  end if;
  -- As Alice, through the same function that the API calls.
  perform set_config(
    'request.jwt.claims', '{"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated"}', true
  );
  perform public.create_conversation(
    '{"title": "A weekend in Lisbon", "metadata": {"topic": "travel"}}',
    '[
      {"role": "system", "content": "You are a travel assistant. Look things up before you answer."},
      {"role": "user", "content": "Will I need an umbrella in Lisbon on Saturday?"},
      {"role": "assistant", "content": null,
       "function_call": {"name": "get_forecast", "arguments": "{\"city\": \"Lisbon\", \"day\": \"saturday\"}"}},
      {"role": "function", "name": "get_forecast", "content": "{\"rain\": 0.05, \"high_c\": 24}"},
      {"role": "assistant", "content": "No. Saturday is dry and sunny, with up to 24 °C.", "model": "demo-model"}
    ]'
  );
end;
$$;
