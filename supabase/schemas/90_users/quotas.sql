-- What a user may do in a day, and has done.

create function private.get_quotas(p_user_id text) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_user_id constant text := private.session_acting_user(p_user_id);
  v_used constant bigint[] := private.used_on(v_user_id, (now() at time zone 'UTC')::date);
begin
  return jsonb_build_object(
    'data', coalesce(
      (
        select jsonb_agg(
          jsonb_build_object(
            'metric', q.metric, 'limit', q.quota, 'used', q.used,
            'resets_at', (date_trunc('day', now() at time zone 'UTC') + interval '1 day') at time zone 'UTC'
          )
          order by q.n
        )
        from unnest('{requests,writes,bytes}'::text[], private.quotas_of(v_user_id), v_used)
          with ordinality as q (metric, quota, used, n)
        where q.quota is not null
      ),
      '[]'
    ),
    'has_more', false
  );
end;
$$;
comment on routine private.get_quotas is 'See public.get_quotas.';


create function public.get_quotas(p_user_id text default null) returns jsonb
language sql
stable
set search_path = ''
return private.get_quotas(p_user_id);
comment on routine public.get_quotas is
  'The caller''s quotas: {data: [{metric, limit, used, resets_at}], has_more}. used is since the day began, UTC, or since there '
  'has been a quota. Empty where there are none.';
revoke all on routine private.get_quotas, public.get_quotas from public, anon, authenticated, service_role;
grant execute on routine private.get_quotas, public.get_quotas to authenticated, service_role;
