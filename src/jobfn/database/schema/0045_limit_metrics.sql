-- Metrics of limits. Roles of workers may read the names of limits and what they count, but no keys.

create function @schema@.limit_usage()
    returns table (name text, slots int, running bigint, held bigint, paused_keys bigint)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select l.name, l.concurrency, coalesce(s.running, 0), coalesce(h.held, 0), coalesce(k.paused, 0)
    from @schema@.limits l
    left join (
        select limit_name, count(*) as running from @schema@.limit_slots group by limit_name
    ) s on s.limit_name = l.name
    left join (
        select limit_name, count(*) as held from @schema@.held_jobs group by limit_name
    ) h on h.limit_name = l.name
    left join (
        select limit_name, count(*) as paused from @schema@.limit_keys where paused_until > now() group by limit_name
    ) k on k.limit_name = l.name
    order by l.name
$$;

comment on function @schema@.limit_usage() is
    'The limits by name: their slots (of each key; null: any number), running and held jobs, and paused keys.';

revoke execute on function @schema@.limit_usage() from public;

select @schema@.grant_like('renew_leases', '{limit_usage}');
