-- Explain that tenants take turns.

create function @schema@.jobs_ahead(job_id bigint, max_count int, out jobs int, out own_jobs int, out other_tenants int)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set jit = off
as $$
    with recursive job as (
        select j.id, j.priority, j.run_at, j.database_id
        from @schema@.jobs j
        where j.id = job_id and j.queue_name is null
    ),
    urgency (priority) as (
        (
            select j.priority from @schema@.jobs j
            where j.queue_name is null and not j.exhausted
            order by j.priority
            limit 1
        )
        union all
        select (
            select j.priority from @schema@.jobs j
            where j.queue_name is null and not j.exhausted and j.priority > urgency.priority
            order by j.priority
            limit 1
        )
        from urgency
        join job on urgency.priority < job.priority
    ),
    ahead as (
        select ready.database_id is distinct from job.database_id and urgency.priority = job.priority as is_other,
            ready.database_id
        from job
        join urgency on urgency.priority <= job.priority
        cross join lateral (
            select j.database_id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = urgency.priority
                and (j.run_at, j.id) < (
                    case when urgency.priority = job.priority then job.run_at else 'infinity' end, job.id
                )
                and j.run_at <= now()
                and j.locked_at is null
            limit max_count
        ) ready
        limit max_count
    )
    select count(*)::int, count(*) filter (where not ahead.is_other)::int,
        (count(distinct coalesce(ahead.database_id::text, '')) filter (where ahead.is_other))::int
    from ahead
$$;

comment on function @schema@.jobs_ahead(bigint, int) is
    'Up to max_count ready jobs without a queue that are more urgent or older than a job: all, those of a more urgent '
    'priority or of the same tenant, and the number of other tenants. Part of explain_turn.';

create or replace function @schema@.explain_turn(job @schema@.jobs)
    returns table (code text, reason text, since timestamptz, until timestamptz, job_ids bigint[])
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case when ahead.other_tenants > 0 then 'tenant_turn' else 'jobs_ahead' end,
        case
            when ahead.other_tenants > 0 then format(
                '%s turns with %s other%s, and %s ready job%s before it',
                case when job.database_id is null then 'jobs without a tenant take' else 'its tenant takes' end,
                ahead.other_tenants, case ahead.other_tenants when 1 then '' else 's' end,
                ahead.own_jobs, case ahead.own_jobs when 1 then ' comes' else 's come' end
            )
            else format(
                '%s%s ready job%s more urgent', ahead.jobs, case when ahead.jobs = 1000 then ' or more' else '' end,
                case ahead.jobs when 1 then ' is' else 's are' end
            )
        end, null::timestamptz, null::timestamptz, null::bigint[]
    from @schema@.jobs_ahead(job.id, 1000) ahead
    where job.queue_name is null and job.run_at <= now() and ahead.jobs > 0
$$;

drop function @schema@.count_jobs_ahead(bigint, int);

revoke execute on all functions in schema @schema@ from public;
