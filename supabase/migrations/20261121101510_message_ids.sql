-- Ids of messages that rise with time (UUID version 7, RFC 9562): new ones go to the end of the primary key instead of anywhere
-- in it. An index over random ids is a third larger, and with many rows every insert touches a page that nobody else needs.

-- Postgres has uuidv7() from version 18 on. 48 bits of milliseconds, the version, and 74 random bits of a version 4. An
-- expression instead of a function: a call for every row would cost more than what it calls.
alter table public.conversation_messages alter column id set default (
  lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
  || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid;
