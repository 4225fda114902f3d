-- Receipts of erasures. What erases is in each module, and in 90_users.

create table private.erasures (
  id uuid not null default gen_random_uuid(),
  scope text not null,
  user_id text,
  removed jsonb not null default '{}',
  error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint erasures_pkey primary key (id),
  constraint erasures_scope_check check (scope in ('conversations', 'user')),
  constraint erasures_user_id_check check ((user_id is null) = (scope = 'user' and finished_at is not null))
);

-- One at a time: a request that is repeated finds the first one.
create unique index idx_erasures_unfinished on private.erasures (user_id, scope) where finished_at is null;

create index idx_erasures_user_id on private.erasures (user_id) where user_id is not null;
create index idx_erasures_finished_at on private.erasures (finished_at) where finished_at is not null;

comment on table private.erasures is
  'What was asked to be erased, and how far that is: receipts, without content. Kept for 30 days after the end.';
comment on column private.erasures.scope is 'conversations: all of a user''s. user: everything that is stored of them.';
comment on column private.erasures.user_id is
  'Whose; null when everything of a user is erased: the receipt would be what is left of them.';
comment on column private.erasures.removed is 'How many rows of which table: {table: rows}.';
comment on column private.erasures.error is
  'The SQLSTATE with which the last step failed; null when it did not. The next run tries again.';

select private.close_table('private.erasures', '{scope, created_at, updated_at, finished_at}');
