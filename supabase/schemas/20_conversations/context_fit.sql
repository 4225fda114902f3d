-- What of a conversation fits: which pieces belong together, in which order they are sent, and where the context begins.

create type private.context_slice as (sequence_order integer, places int4multirange, tokens bigint, in_turn boolean);
comment on type private.context_slice is
  'What a context shows of a message at one place: the whole message (places null), or some of its pieces. tokens is what it '
  'costs, 0 where another slice has been charged for the message.';


create function private.fit_context(
  p_pieces private.context_piece[],
  p_first integer,
  p_all boolean,
  p_tokens bigint,
  p_messages bigint,
  p_bytes bigint,
  p_begin text,
  p_explain boolean,
  p_format text,
  out over boolean,
  out has_user boolean,
  out fits boolean,
  out needed_tokens bigint,
  out needed_messages bigint,
  out slices private.context_slice[],
  out tokens bigint,
  out truncated boolean,
  out left_out integer,
  out reasons jsonb
)
language plpgsql
stable
set search_path = ''
-- An array in a from clause is planned as ten rows, and nested loops over ten thousand would take seconds.
set enable_nestloop = off
-- Planning and compiling take longer than the query, whatever a plan with a switched-off join is said to cost.
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  -- A result this many numbers after its call has lost it.
  c_reach constant integer := 256;
begin
  with pieces as (
    select p.*, p.type is not null and private.format_leaves_out(p.type, p_format) as is_out
    from unnest(p_pieces) with ordinality p (sequence_order, tokens, bytes, place, upto, kind, key, type, n)
  ),
  -- Every result belongs to the nearest message before it that makes the call: some providers use their ids again. An id is one
  -- call however often a message says it; calls that have only a name are answered one after the other.
  keyed as (
    select
      p.n, p.sequence_order, p.kind, p.key,
      case when p.key ^@ 'name ' then row_number() over (partition by p.key, p.sequence_order, p.kind order by p.n) else 1 end as nth,
      max(p.sequence_order) filter (where p.kind = 'call') over (partition by p.key order by p.n) as call_row
    from pieces p
    where p.key is not null and not p.is_out
  ),
  results as (
    -- A second answer to the same call is refused by some APIs.
    select k.n, k.key, k.sequence_order, k.call_row, row_number() over (partition by k.key, k.call_row order by k.n) as nth
    from keyed k
    where k.kind = 'result' and k.sequence_order - k.call_row <= c_reach
  ),
  pairs as (
    select c.n as call, r.n as result, c.sequence_order <> r.sequence_order as is_apart
    from results r
    join keyed c on c.kind = 'call' and c.key = r.key and c.sequence_order = r.call_row and c.nth = r.nth
  ),
  paired as (
    select
      p.*, r.call,
      coalesce(r.is_apart, p.kind = 'result') as is_apart,
      case p.kind when 'call' then c.call is not null when 'result' then r.result is not null else p.kind <> 'empty' end as usable
    from pieces p
    left join (select distinct t.call from pairs t) c on c.call = p.n
    left join (select t.result, min(t.call) as call, bool_or(t.is_apart) as is_apart from pairs t group by t.result) r
      on r.result = p.n
  ),
  -- Reasoning, and what the model did upon it: up to the next reasoning, or what is not the model's.
  stretches as (
    select p.*, count(*) filter (where p.begins) over (order by p.n) as stretch
    from (
      select
        p.*,
        p.kind in ('user', 'system', 'compaction') or p.is_apart
          or p.kind = 'reasoning' and lag(p.kind) over (order by p.n) is distinct from 'reasoning' as begins
      from paired p
      where p.kind <> 'empty' and not p.is_out
    ) p
  ),
  judged as (
    select
      s.n, s.sequence_order, s.tokens, s.bytes, s.place, s.upto, s.kind, s.is_apart, s.call, s.stretch,
      s.kind not in ('user', 'system', 'compaction') and not s.is_apart as is_models
    from (
      select
        s.*,
        case s.kind
          when 'reasoning' then bool_or(s.usable and s.kind in ('model', 'call')) over (partition by s.stretch)
          else s.usable
        end as stays
      from stretches s
    ) s
    where s.stays
  ),
  -- Groups, to be shown whole or not at all: reasoning and what followed from it; calls that were made at once, with their
  -- results; or one message.
  begun as (
    select
      j.*,
      lag(j.is_models) over (order by j.n) is not true
        or j.sequence_order <> lag(j.sequence_order) over (order by j.n) and case
          when lag(j.row_calls) over (order by j.n) then not j.row_only_calls
          else not (j.reasoned and j.stretch = lag(j.stretch) over (order by j.n))
        end as begins
    from (
      select
        j.*,
        bool_or(j.kind = 'call') over (partition by j.sequence_order) as row_calls,
        bool_and(j.kind = 'call') over (partition by j.sequence_order) as row_only_calls,
        bool_or(j.kind = 'reasoning') over (partition by j.stretch) as reasoned
      from judged j
    ) j
  ),
  grouped as (
    select
      b.*,
      case
        when b.is_apart then null
        when b.is_models then max(b.n) filter (where b.is_models and b.begins) over (order by b.n)
        else min(b.n) filter (where not b.is_apart) over (partition by b.sequence_order, b.kind)
      end as own_group
    from begun b
  ),
  -- Results stand directly behind the calls.
  placed as (
    select
      g.*, coalesce(g.own_group, c.own_group) as group_n,
      row_number() over (order by coalesce(g.own_group, c.own_group), g.is_apart, g.n) as r
    from grouped g
    left join grouped c on g.is_apart and c.n = g.call
  ),
  -- A message is charged once, where it is newest.
  charged as (
    select
      p.*,
      case when p.r = max(p.r) over of_message then p.tokens else 0 end as charge,
      case when p.r = max(p.r) over of_message then p.bytes else 0 end as weight,
      (lag(p.n) over (order by p.r) < p.n and lag(p.sequence_order) over (order by p.r) = p.sequence_order) is not true as begins_slice
    from placed p
    window of_message as (partition by p.sequence_order)
  ),
  summed as (
    select
      c.*,
      sum(c.charge) over newest_first as tokens_from,
      sum(c.weight) over newest_first as bytes_from,
      count(*) filter (where c.begins_slice) over newest_first + (not c.begins_slice)::integer as messages_from,
      sum(c.charge) over of_group as group_tokens,
      sum(c.weight) over of_group as group_bytes,
      min(c.r) over of_group as group_first,
      max(c.r) over of_group as group_last
    from charged c
    window newest_first as (order by c.r desc), of_group as (partition by c.group_n)
  ),
  -- Where a context may begin. The first group that was read may begin further back, unless it is one message.
  starts as (
    select
      s.*,
      s.kind = 'user' as is_user,
      s.tokens_from <= p_tokens and s.messages_from <= p_messages as affordable,
      p_all or not s.is_models or s.r > (select min(f.r) from summed f where f.sequence_order >= p_first) as known
    from summed s
    where s.r = s.group_first
  ),
  turn as (
    select s.* from starts s where s.is_user order by s.r desc limit 1
  ),
  latest as (
    select s.* from starts s order by s.r desc limit 1
  ),
  -- From a user's message on, or from the very first.
  whole as (
    select min(s.r) as r
    from starts s
    where s.known and s.affordable and s.bytes_from <= p_bytes
      and case
        when s.is_user then true
        when p_begin = 'user' then false
        when exists (select from turn) then p_all and s.r = 1
        else true
      end
  ),
  -- A turn that does not fit is its user's message and the newest groups that do: the last one whatever its size.
  tail as (
    select coalesce(
      min(s.r) filter (where s.bytes_from + t.group_bytes <= p_bytes),
      max(s.r) filter (where s.r = (select l.r from latest l))
    ) as r
    from turn t
    join starts s on s.r > t.r and s.known
      and s.tokens_from + t.group_tokens <= p_tokens and s.messages_from + 1 <= p_messages
  ),
  decided as (
    select
      t.r as user_r, t.group_last as user_last,
      coalesce(
        w.r, i.r,
        case when l.affordable and (l.r = t.r or t.r is null and p_begin = 'any') then l.r end
      ) as cut,
      o.is_empty,
      case when o.is_empty then 0 else l.tokens_from + case when l.r > t.r then t.group_tokens else 0 end end as needed_tokens,
      case when o.is_empty then 0 else l.messages_from + case when l.r > t.r then 1 else 0 end end as needed_messages
    from (
      select not exists (select from starts) or p_begin = 'user' and not exists (select from turn) as is_empty
    ) o
    left join turn t on true
    left join latest l on true
    left join whole w on true
    left join tail i on w.r is null
  ),
  chosen as (
    select
      s.n, s.r, s.sequence_order, s.place, s.upto, s.charge, coalesce(s.r >= d.user_r, false) as in_turn,
      -- Also where what stood between is left out.
      s.begins_slice or s.r = d.cut as begins_slice
    from summed s
    join decided d on s.r >= d.cut or d.cut > d.user_r and s.r between d.user_r and d.user_last
  ),
  counted as (
    select
      p.sequence_order, count(*) as pieces, count(c.n) as chosen
    from pieces p
    left join chosen c on c.n = p.n
    group by p.sequence_order
  ),
  sliced as (
    select
      c.slice, min(c.sequence_order) as sequence_order, sum(c.charge)::bigint as tokens, bool_or(c.in_turn) as in_turn,
      case when count(*) < min(a.pieces) then range_agg(int4range(c.place, c.upto, '[]')) end as places
    from (select c.*, count(*) filter (where c.begins_slice) over (order by c.r) as slice from chosen c) c
    join counted a using (sequence_order)
    group by c.slice
  ),
  -- What is not shown, message by message. What lies where the budget ends is over it, whatever else it is.
  missing as (
    select
      p.sequence_order,
      dense_rank() over (order by p.sequence_order) as nth,
      case
        when bool_or(s.n is not null and c.n is null and s.r < f.user_first) then 'before_user'
        when bool_or(s.n is not null and c.n is null) or p.sequence_order < f.first and f.is_cut
          or p.sequence_order > f.gap_from and p.sequence_order < f.gap_to then 'over_budget'
        when bool_and(p.kind = 'empty') then 'empty'
        when bool_or(c.n is null and not p.is_out) then 'unpaired'
        when bool_or(p.is_out) then 'format'
      end as reason,
      bool_or(c.n is not null) as in_part
    from pieces p
    cross join (
      select
        min(c.sequence_order) as first,
        max(c.sequence_order) filter (where d.cut > d.user_r and c.r <= d.user_last) as gap_from,
        min(c.sequence_order) filter (where d.cut > d.user_r and c.r >= d.cut) as gap_to,
        not p_all or exists (select from summed s where s.r < min(c.r)) as is_cut,
        -- Nothing but the rule keeps these out.
        case when p_all and p_begin = 'user' then
          coalesce((select min(u.r) from starts u where u.is_user), 2147483647)
        end as user_first
      from decided d
      left join chosen c on true
    ) f
    left join summed s on s.n = p.n
    left join chosen c on c.n = p.n
    where p_explain
    group by p.sequence_order, f.first, f.is_cut, f.gap_from, f.gap_to
  )
  select
    coalesce((select bool_or(not s.affordable or s.bytes_from > p_bytes) from starts s where s.known), false),
    d.user_r is not null,
    d.is_empty or d.cut is not null,
    d.needed_tokens, d.needed_messages,
    (select array_agg((s.sequence_order, s.places, s.tokens, s.in_turn)::private.context_slice order by s.slice) from sliced s),
    coalesce((select sum(c.charge) from chosen c), 0),
    not p_all or exists (select from summed s where s.n not in (select c.n from chosen c)),
    (select count(*) from counted c where c.chosen < c.pieces),
    (
      select jsonb_agg(
        jsonb_build_object('from', r.lower, 'to', r.upper, 'reason', r.reason)
          || case when r.in_part then '{"in_part": true}' else '{}'::jsonb end
        order by r.lower
      )
      from (
        select min(m.sequence_order) as lower, max(m.sequence_order) as upper, m.reason, m.in_part
        from (
          select m.*, m.nth - row_number() over (partition by m.reason, m.in_part order by m.nth) as island from missing m
          where m.reason is not null
        ) m
        group by m.reason, m.in_part, m.island
      ) r
    )
  into over, has_user, fits, needed_tokens, needed_messages, slices, tokens, truncated, left_out, reasons
  from decided d;
end;
$$;
comment on routine private.fit_context is
  'What of these pieces fits into p_tokens and p_messages, and into p_bytes where it is more than the least. They are those of the newest messages of a conversation, from number '
  'p_first on, and of its last user message where that is older; p_all: there are no others. over: older messages cannot '
  'change the answer, except the last user message (has_user: it is there). Unless it fits, needed_ is what the least would '
  'need. p_begin any: a context that is cut begins with a user message; user: every one does. What p_format leaves out is '
  'not there for anything else. left_out: how many of their messages are not in, or in part; reasons: which, and why.';
revoke all on routine private.fit_context from public, anon, authenticated, service_role;
