-- Audit: what happened in a window of time, over all sessions, in the order in which it happened.

create function private.fold_chunks(
  p_session_id uuid,
  p_sequence integer,
  p_from timestamptz,
  p_to timestamptz,
  out o_event jsonb,
  out o_chunks integer,
  out o_next integer
)
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- Where a run is cut: a session that streams and logs nothing else is one run without end.
  c_max_chunks constant integer := 10000;
  c_max_bytes constant integer := 1024 * 1024;
  v_first public.event_logs;
  v_last public.event_logs;
  v_chunk public.event_logs;
  v_text text;
  v_size integer;
  v_texts text[] := '{}';
  v_bytes bigint := 0;
begin
  for v_chunk in
    select *
    from public.event_logs e
    where e.session_id = p_session_id
      and e.sequence >= p_sequence
      and e.created_at >= p_from - interval '5 minutes' and e.created_at < p_to + interval '168 hours'
    order by e.sequence
    limit c_max_chunks + 1
  loop
    v_text := private.event_text(v_chunk.content);
    -- Of all the content: beside its text a chunk may carry what takes long to read.
    v_size := octet_length(v_chunk.content::text);
    if v_texts = '{}' then
      v_first := v_chunk;
    else
      -- The condition under which private.audit_events lets a chunk go with the one before it.
      exit when v_chunk.sequence <> v_last.sequence + 1
        or v_chunk.event_type <> 'ai_chunk'
        or v_text is null
        or v_chunk.source is distinct from v_last.source
        or v_chunk.trace_id is distinct from v_last.trace_id
        or v_chunk.occurred_at < p_from
        or v_chunk.occurred_at >= p_to;
      if cardinality(v_texts) = c_max_chunks or v_bytes + v_size > c_max_bytes then
        o_next := v_chunk.sequence;
        exit;
      end if;
    end if;
    v_texts := array_append(v_texts, v_text);
    v_bytes := v_bytes + v_size;
    v_last := v_chunk;
  end loop;

  o_chunks := cardinality(v_texts);
  o_event := to_jsonb(v_first) || jsonb_build_object(
    'content', jsonb_build_object('text', array_to_string(v_texts, '')),
    'last_sequence', v_last.sequence,
    'last_occurred_at', v_last.occurred_at
  );
end;
$$;
comment on routine private.fold_chunks is
  'The run of ai_chunk events that starts at p_sequence, as far as it lies in the window, as one event with the text of all. '
  'At most 10,000 chunks or 1 MiB of them: o_next is the chunk with which it goes on, null at its end.';
revoke all on routine private.fold_chunks from public, anon, authenticated, service_role;


create function private.has_text(p_text text, p_part text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- A text that ends like the part over and over costs a step for each, and nothing interrupts it.
  c_max_steps constant bigint := 16 * 1024 * 1024;
begin
  if octet_length(p_text)::bigint * octet_length(p_part) <= c_max_steps then
    return strpos(p_text, p_part) > 0;
  end if;
  -- The part as it is, no pattern: as many steps as the text has characters.
  return p_text ~ ('***=' || p_part);
end;
$$;
comment on routine private.has_text is 'Whether a text has this part, in a time that the length of the text bounds.';
revoke all on routine private.has_text from public, anon, authenticated, service_role;


create function private.audit_events(
  p_from timestamptz,
  p_to timestamptz,
  p_types text[],
  p_query text,
  p_fold boolean,
  p_limit integer,
  p_after_occurred_at timestamptz,
  p_after_session_id uuid,
  p_after_sequence integer,
  p_after_chunk integer,
  p_of_user_id text,
  p_user_id text
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
-- The plan that stops where the page ends reads an index in order and sorts nothing but ties. Where statistics are behind, the
-- planner would expect few rows and sort them all, or compile the query and start workers first.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set max_parallel_workers_per_gather = 0
as $$
declare
  -- What a call looks through, so that no search runs into the platform's 8 seconds: the next one goes on from there.
  c_max_events constant integer := 100000;
  c_max_time constant interval := '2 seconds';
  c_max_text constant bigint := 32 * 1024 * 1024;
  -- As in private.read_page.
  c_max_bytes constant bigint := 8 * 1024 * 1024;
  v_deadline timestamptz := clock_timestamp() + c_max_time;
  v_user_id text := private.session_reader(p_user_id, p_of_user_id);
  v_to timestamptz := coalesce(p_to, now());
  v_from timestamptz := coalesce(p_from, v_to - interval '24 hours');
  v_query text := lower(p_query);
  v_rows refcursor;
  v_event record;
  v_entry jsonb;
  v_text text;
  v_content jsonb;
  v_chunks integer;
  v_next_chunk integer;
  v_scanned integer := 0;
  v_looked_at bigint := 0;
  v_entries jsonb[] := '{}';
  v_bytes bigint := 0;
  v_has_more boolean := false;
  -- Where the next page goes on: after this event, or with this chunk of the run that it starts.
  v_occurred_at timestamptz := coalesce(p_after_occurred_at, '-infinity');
  v_session_id uuid := coalesce(p_after_session_id, '00000000-0000-0000-0000-000000000000');
  v_sequence integer := coalesce(p_after_sequence, 0);
  v_chunk integer := nullif(p_after_chunk, 0);
begin
  perform private.require_limit(p_limit);
  if char_length(p_query) not between 1 and 1000 then
    perform private.refuse('q has between 1 and 1000 characters.');
  end if;
  if v_from >= v_to then
    perform private.refuse('from is not before to.');
  end if;

  perform private.require_types(p_types);
  perform private.take_turn(v_user_id);

  -- Fetched one by one: a loop over the query would take fifty events at a time, each of 8 MiB, before the time is looked at.
  open v_rows for
    -- Put together, so that each of the two shapes has a plan of its own: one owner's events are one range of the index on
    -- (user_id, occurred_at), everybody's one of the index on occurred_at. Written as such a range, because for "user_id = $1"
    -- the planner may take the other index and throw away rows of other users that no limit counts.
    -- occurred_at lies between seven days before created_at and five minutes after: other partitions are not looked into.
    execute format(
      $query$
        select e.*, %3$s as starts_run
        from public.event_logs e
        where (%1$s e.occurred_at) >= (%2$s $2)
          and (%1$s e.occurred_at) < (%2$s $3)
          and (%1$s e.occurred_at, e.session_id, e.sequence) > (%2$s $6, $7, $8)
          and e.created_at >= $4
          and e.created_at < $5
        order by %1$s e.occurred_at, e.session_id, e.sequence
        limit $9
      $query$,
      case when v_user_id is not null then 'e.user_id,' else '' end,
      case when v_user_id is not null then '$1,' else '' end,
      case when p_fold and 'ai_chunk' = any (coalesce(p_types, '{ai_chunk}')) then $starts_run$
        case when e.event_type = 'ai_chunk' and private.event_text(e.content) is not null then not exists (
          select
          from public.event_logs p
          where p.session_id = e.session_id
            and p.sequence = e.sequence - 1
            and p.created_at >= $4
            and p.created_at < $5
            and p.event_type = 'ai_chunk'
            and private.event_text(p.content) is not null
            and p.source is not distinct from e.source
            and p.trace_id is not distinct from e.trace_id
            and p.occurred_at >= $2
            and p.occurred_at < $3
        ) end
      $starts_run$ else 'null::boolean' end
    )
    using
      v_user_id, v_from, v_to, v_from - interval '5 minutes', v_to + interval '168 hours',
      v_occurred_at, v_session_id, case when v_chunk is null then v_sequence else v_sequence - 1 end,
      c_max_events + 1;
  <<scan>>
  loop
    fetch v_rows into v_event;
    exit when not found;
    v_chunk := case when (v_event.session_id, v_event.sequence) = (v_session_id, v_sequence) then v_chunk end;
    -- Once for an event, once for every part of a run.
    loop
      if v_scanned > 0 and (v_scanned >= c_max_events or v_looked_at >= c_max_text or clock_timestamp() > v_deadline) then
        v_has_more := true;
        exit scan;
      end if;
      v_scanned := v_scanned + 1;
      -- False: it belongs to a run that starts before it.
      exit when not v_event.starts_run or v_event.event_type <> all (p_types);

      v_entry := null;
      v_content := v_event.content;
      v_next_chunk := null;
      if v_event.starts_run then
        select f.o_event, f.o_event -> 'content', f.o_chunks, f.o_next into v_entry, v_content, v_chunks, v_next_chunk
        from private.fold_chunks(v_event.session_id, coalesce(v_chunk, v_event.sequence), v_from, v_to) f;
        v_scanned := v_scanned + v_chunks;
      end if;

      if v_query is not null then
        v_text := lower(private.without_marks(private.event_text(v_content)));
        v_looked_at := v_looked_at + coalesce(octet_length(v_text), 0);
      end if;
      if v_query is null or private.has_text(v_text, v_query) then
        v_entry := coalesce(
          v_entry,
          to_jsonb(v_event) || case
            when p_fold then jsonb_build_object('last_sequence', v_event.sequence, 'last_occurred_at', v_event.occurred_at)
            else '{}'
          end
        ) - 'starts_run';
        v_bytes := v_bytes + octet_length(v_entry::text);
        if cardinality(v_entries) = p_limit or (v_bytes > c_max_bytes and v_entries <> '{}') then
          v_has_more := true;
          exit scan;
        end if;
        v_entries := array_append(v_entries, v_entry);
      end if;

      exit when v_next_chunk is null;
      v_occurred_at := v_event.occurred_at;
      v_session_id := v_event.session_id;
      v_sequence := v_event.sequence;
      v_chunk := v_next_chunk;
    end loop;
    v_occurred_at := v_event.occurred_at;
    v_session_id := v_event.session_id;
    v_sequence := v_event.sequence;
    v_chunk := null;
  end loop scan;
  close v_rows;

  return jsonb_build_object(
    'data', to_jsonb(v_entries),
    'has_more', v_has_more,
    'next', case
      when v_has_more then jsonb_build_object(
        'from', v_from, 'to', v_to, 'occurred_at', v_occurred_at, 'session_id', v_session_id, 'sequence', v_sequence,
        'chunk', coalesce(v_chunk, 0)
      )
    end
  );
end;
$$;
comment on routine private.audit_events is
  'See public.audit_events. Definer: what it calls is granted to nobody, and no policy comes between its query and the index.';


create function public.audit_events(
  p_from timestamptz default null,
  p_to timestamptz default null,
  p_types text[] default null,
  p_query text default null,
  p_fold boolean default false,
  p_limit integer default 50,
  p_after_occurred_at timestamptz default null,
  p_after_session_id uuid default null,
  p_after_sequence integer default null,
  p_after_chunk integer default null,
  p_of_user_id text default null,
  p_user_id text default null
) returns jsonb
language sql
stable
set search_path = ''
return private.audit_events(
  p_from, p_to, p_types, p_query, p_fold, p_limit, p_after_occurred_at, p_after_session_id, p_after_sequence,
  p_after_chunk, p_of_user_id, p_user_id
);
comment on routine public.audit_events is
  'What occurred in [p_from, p_to), by default the last 24 hours, over all sessions of the user, ordered by (occurred_at, '
  'session_id, sequence): of the types given, with p_query in its text in either case. With p_fold a run of ai_chunk '
  'events of one session, with consecutive numbers and one source and trace_id, is one event with the text of all, '
  'last_sequence and last_occurred_at. A backend that acts for nobody reads everybody''s, or those of p_of_user_id. '
  'Answers {data, has_more, next}; next holds the window and the p_after_ arguments of the next page. A call looks '
  'through 100,000 events, 32 MiB of text or for 2 seconds: a page may be short, or empty, where has_more says that there '
  'is more to look through. Raises PT400 invalid_request.';
revoke all on routine private.audit_events, public.audit_events from public, anon, authenticated, service_role;
grant execute on routine private.audit_events, public.audit_events to authenticated, service_role;
