-- Responses: what an LLM gateway keeps for previous_response_id. A response is a pointer into a conversation: the history
-- behind it is what that conversation shows up to there, and no message of it is stored again.

create function private.check_response(
  p_response_id text, p_previous_response_id text, p_after_sequence integer, p_input_sequence integer, p_sequence_order integer,
  p_model text, p_provider text
) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_broken text := case
    when char_length(p_response_id) not between 1 and 256 then '{response_id,"has not 1 to 256 characters"}'
    when p_previous_response_id = p_response_id then '{previous_response_id,"is its own"}'
    when not (0 <= p_after_sequence and p_after_sequence <= p_input_sequence and p_input_sequence <= p_sequence_order)
      then '{sequence,"runs backwards"}'
    when char_length(p_model) > 256 then '{model,"has more than 256 characters"}'
    when char_length(p_provider) > 256 then '{provider,"has more than 256 characters"}'
  end;
begin
  return v_broken is null or private.refuse_row('conversation_states', v_broken::text[]);
end;
$$;
comment on routine private.check_response is 'Every rule of a response''s row, as one check.';
revoke all on routine private.check_response from public, anon, authenticated, service_role;


create table public.conversation_states (
  user_id uuid not null,
  response_id text not null,
  conversation_id uuid not null,
  after_sequence integer not null,
  input_sequence integer not null,
  sequence_order integer not null,
  previous_response_id text,
  model text not null,
  provider text not null,
  request_hash bytea not null,
  history_hash bytea,
  created_at bigint not null default floor(extract(epoch from now())),
  updated_at timestamptz not null default now(),
  constraint conversation_states_pkey primary key (user_id, response_id),
  constraint conversation_states_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint conversation_states_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id),
  constraint conversation_states_check check (private.check_response(
    response_id, previous_response_id, after_sequence, input_sequence, sequence_order, model, provider
  ))
);

-- Serves the foreign key, and says how much of a conversation responses still show.
create index idx_conversation_states_conversation_id
  on public.conversation_states (user_id, conversation_id, sequence_order);
create index idx_conversation_states_history_hash
  on public.conversation_states (user_id, history_hash) where history_hash is not null;
create index idx_conversation_states_updated_at on public.conversation_states (updated_at);

comment on table public.conversation_states is
  'The responses of a model, by the id that previous_response_id names. Each points at the message where its history ends.';
comment on column public.conversation_states.conversation_id is
  'The conversation that shows its history. Responses that continue one another share it; another child of one forks.';
comment on column public.conversation_states.after_sequence is 'Where the history before it ends.';
comment on column public.conversation_states.input_sequence is 'Where its own input ends and its output begins.';
comment on column public.conversation_states.sequence_order is 'Where its output, and with it the history, ends.';
comment on column public.conversation_states.previous_response_id is
  'The response it continues, as the client said it; that one may have been deleted or replaced since.';
comment on column public.conversation_states.request_hash is 'SHA-256 of what was stored: the same again is a replay.';
comment on column public.conversation_states.history_hash is
  'SHA-256 over all items of the history, of what came through gateway.conversation_states; null elsewhere.';
comment on column public.conversation_states.created_at is 'Unix time in seconds, kept when the response is replaced.';
comment on column public.conversation_states.updated_at is 'When it was stored, or replaced last.';

select private.sample_only('public.conversation_states', '{after_sequence, input_sequence, sequence_order, created_at, updated_at}');
alter table public.conversation_states enable row level security, force row level security;
revoke all on public.conversation_states from anon, authenticated, service_role;
grant select on public.conversation_states to authenticated, service_role;

create policy "Users see their own responses" on public.conversation_states
  for select to authenticated using (user_id = (select auth.uid()));

select private.count_writes_to('public.conversation_states', 'user_id', '{request_hash}');


create table private.response_conversations (
  user_id uuid not null,
  conversation_id uuid not null,
  last_sequence_order integer not null,
  constraint response_conversations_pkey primary key (user_id, conversation_id),
  constraint response_conversations_conversation_id_fkey foreign key (user_id, conversation_id)
    references public.conversations (user_id, id) on delete cascade
);

comment on table private.response_conversations is 'The conversations that storing responses has made.';
comment on column private.response_conversations.last_sequence_order is
  'The last message a response wrote. A conversation that has gone on from there is somebody''s own.';

select private.close_table('private.response_conversations');


create function private.keep_conversation() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  delete from private.response_conversations r where r.user_id = new.user_id and r.conversation_id = new.id;
  return null;
end;
$$;
comment on routine private.keep_conversation is
  'A conversation that responses have made and somebody has titled, summarised, pinned, or given a video or metadata is theirs, '
  'for good.';
revoke all on routine private.keep_conversation from public, anon, authenticated, service_role;

create trigger keep_conversation after update of title, summary, video_id, metadata, pinned on public.conversations
  for each row when (num_nonnulls(new.title, new.summary, new.video_id) > 0 or new.metadata <> '{}' or new.pinned)
  execute function private.keep_conversation();
