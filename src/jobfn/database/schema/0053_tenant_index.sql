-- Ask for the order of the indexes of tenants, and bound it by rows of their columns: no other index has it. By statistics
-- of a flood of one tenant, PostgreSQL would read the whole flood to find the jobs of another tenant.

create or replace function @schema@.ready_tenants(
    task text,
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    paused_tenants uuid[],
    lowest uuid,
    highest uuid,
    max_tenants int
) returns table (id uuid, is_ready boolean)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
begin
    if task is null then
        return query
        with recursive visited (id, visits) as (
            (
                select j.database_id, 1
                from @schema@.jobs j
                where j.database_id is not null and j.queue_name is null and not j.exhausted
                    and j.priority = at_priority
                    and j.database_id >= lowest and j.database_id <= highest
                    and (j.run_at, j.id) >= (first_run_at, first_id)
                order by j.database_id
                limit 1
            )
            union all
            select following.database_id, visited.visits + 1
            from visited
            cross join lateral (
                select j.database_id
                from @schema@.jobs j
                where j.database_id is not null and j.queue_name is null and not j.exhausted
                    and j.priority = at_priority
                    and j.database_id > visited.id and j.database_id <= highest
                    and (j.run_at, j.id) >= (first_run_at, first_id)
                order by j.database_id
                limit 1
            ) following
            where visited.visits < max_tenants
        )
        select visited.id, visited.id <> all (paused_tenants) and (
            select true
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and (j.priority, j.database_id, j.run_at, j.id)
                    >= (at_priority, visited.id, first_run_at, first_id)
                and (j.priority, j.database_id, j.run_at) <= (at_priority, visited.id, now())
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.priority, j.database_id, j.run_at, j.id
            limit 1
        ) is true
        from visited;
        return;
    end if;
    return query
    with recursive visited (id, visits) as (
        (
            select j.database_id, 1
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and j.task_identifier = task
                and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id) >= (v_hash, at_priority, lowest)
                and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id) <= (v_hash, at_priority, highest)
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by hashtextextended(j.task_identifier, 0), j.priority, j.database_id
            limit 1
        )
        union all
        select following.database_id, visited.visits + 1
        from visited
        cross join lateral (
            select j.database_id
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and j.task_identifier = task
                and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id) > (v_hash, at_priority, visited.id)
                and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id) <= (v_hash, at_priority, highest)
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by hashtextextended(j.task_identifier, 0), j.priority, j.database_id
            limit 1
        ) following
        where visited.visits < max_tenants
    )
    select visited.id, visited.id <> all (paused_tenants) and (
        select true
        from @schema@.jobs j
        where j.database_id is not null and j.queue_name is null and not j.exhausted
            and j.task_identifier = task
            and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id, j.run_at, j.id)
                >= (v_hash, at_priority, visited.id, first_run_at, first_id)
            and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id, j.run_at)
                <= (v_hash, at_priority, visited.id, now())
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by hashtextextended(j.task_identifier, 0), j.priority, j.database_id, j.run_at, j.id
        limit 1
    ) is true
    from visited;
end
$$;

create or replace function @schema@.lock_jobs_of_tenants(
    task text,
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    tenants uuid[],
    max_jobs int[],
    out places tid[],
    out owners int[]
)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
begin
    if task is null then
        select coalesce(array_agg(ready.place), '{}'), coalesce(array_agg(tenant.position::int), '{}')
        into places, owners
        from unnest(tenants, max_jobs) with ordinality as tenant (id, max_jobs, position)
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and (j.priority, j.database_id, j.run_at, j.id)
                    >= (at_priority, tenant.id, first_run_at, first_id)
                and (j.priority, j.database_id, j.run_at) <= (at_priority, tenant.id, now())
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.priority, j.database_id, j.run_at, j.id
            limit tenant.max_jobs
            for update skip locked
        ) ready;
    else
        select coalesce(array_agg(ready.place), '{}'), coalesce(array_agg(tenant.position::int), '{}')
        into places, owners
        from unnest(tenants, max_jobs) with ordinality as tenant (id, max_jobs, position)
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and j.task_identifier = task
                and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id, j.run_at, j.id)
                    >= (v_hash, at_priority, tenant.id, first_run_at, first_id)
                and (hashtextextended(j.task_identifier, 0), j.priority, j.database_id, j.run_at)
                    <= (v_hash, at_priority, tenant.id, now())
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by hashtextextended(j.task_identifier, 0), j.priority, j.database_id, j.run_at, j.id
            limit tenant.max_jobs
            for update skip locked
        ) ready;
    end if;
end
$$;
