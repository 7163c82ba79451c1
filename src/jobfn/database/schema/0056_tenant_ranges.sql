-- PostgreSQL uses an index in the way that its functions mean, whatever the statistics say, if no other index has the
-- order that they ask for: each has its own places for nulls, which these columns never hold. Their bounds are
-- equalities, after which a scan ends at the last entry that fits. A row of columns as an upper bound ends it at the end
-- of the first column only (before PostgreSQL 18): a claim read all entries of a tenant with a flood, or all delayed
-- jobs, to find that another tenant has no more.

drop index @schema@.jobs_tenant_ready_idx;
create index jobs_tenant_ready_idx on @schema@.jobs (priority, database_id, run_at nulls first, id)
    where database_id is not null and queue_name is null and not exhausted;

drop index @schema@.jobs_tenant_task_ready_idx;
create index jobs_tenant_task_ready_idx on @schema@.jobs (
    hashtextextended(task_identifier, 0), priority, database_id nulls first, run_at nulls first, id nulls first
) where database_id is not null and queue_name is null and not exhausted;

drop index @schema@.jobs_task_ready_idx;
create index jobs_task_ready_idx on @schema@.jobs (
    hashtextextended(task_identifier, 0), priority, run_at, id nulls first
) where database_id is null and queue_name is null and not exhausted;

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
) returns table(id uuid, is_ready boolean)
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
                and j.priority = at_priority
                and j.database_id = visited.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id
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
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id >= lowest and j.database_id <= highest
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by j.database_id nulls first
            limit 1
        )
        union all
        select following.database_id, visited.visits + 1
        from visited
        cross join lateral (
            select j.database_id
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id > visited.id and j.database_id <= highest
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by j.database_id nulls first
            limit 1
        ) following
        where visited.visits < max_tenants
    )
    select visited.id, visited.id <> all (paused_tenants) and (
        select true
        from @schema@.jobs j
        where j.database_id is not null and j.queue_name is null and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority = at_priority
            and j.database_id = visited.id
            and (j.run_at, j.id) >= (first_run_at, first_id)
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.run_at nulls first, j.id nulls first
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
                and j.priority = at_priority
                and j.database_id = tenant.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id
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
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id = tenant.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id nulls first
            limit tenant.max_jobs
            for update skip locked
        ) ready;
    end if;
end
$$;

create or replace function @schema@.lock_jobs_without_tenant(
    tasks text[],
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    max_jobs int
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select ready.place
        from unnest(tasks) as task (name)
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.database_id is null
                and hashtextextended(j.task_identifier, 0) = hashtextextended(task.name, 0)
                and j.task_identifier = task.name
                and j.priority = at_priority
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id nulls first
            limit max_jobs
            for update skip locked
        ) ready
    );
end
$$;

create or replace function @schema@.lock_jobs_at_priority(
    task text,
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    max_jobs int,
    paused_tenants uuid[],
    is_later_included boolean
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
    v_highest constant int := case when is_later_included then 2147483647 else at_priority end;
begin
    if task is null and not is_later_included then
        return array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = at_priority
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
            order by j.run_at, j.id
            limit max_jobs
            for update skip locked
        );
    elsif task is null then
        return array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) >= (at_priority, first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
            order by j.priority, j.run_at, j.id
            limit max_jobs
            for update skip locked
        );
    end if;
    return array(
        select j.ctid
        from @schema@.jobs j
        where j.database_id is not null
            and j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority >= at_priority
            and (j.priority, j.run_at, j.id) >= (at_priority, first_run_at, first_id)
            and j.priority <= v_highest
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and j.database_id <> all (paused_tenants)
        order by j.priority, j.database_id nulls first, j.run_at nulls first, j.id nulls first
        limit max_jobs
        for update skip locked
    );
end
$$;

create or replace function @schema@.ready_jobs_of_tenants(
    task text,
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions,
    paused_tenants uuid[]
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
    v_tasks text[] := array[task];
    v_after @schema@.claim_positions;
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    if task is null then
        v_tasks := @schema@.ready_task_identifiers(100, start);
    end if;
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        if task is null then
            select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
            order by j.priority, j.run_at, j.id
            limit 1;
        else
            select least(with_tenant.priority, without.priority) into v_priority
            from (select) as one
            left join (
                select j.priority
                from @schema@.jobs j
                where j.database_id is not null
                    and j.queue_name is null
                    and not j.exhausted
                    and hashtextextended(j.task_identifier, 0) = v_hash
                    and j.task_identifier = task
                    and j.priority >= v_priority
                    and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
                order by j.priority, j.database_id nulls first
                limit 1
            ) with_tenant on true
            left join (
                select j.priority
                from @schema@.jobs j
                where j.database_id is null
                    and j.queue_name is null
                    and not j.exhausted
                    and hashtextextended(j.task_identifier, 0) = v_hash
                    and j.task_identifier = task
                    and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
                order by j.priority, j.run_at, j.id nulls first
                limit 1
            ) without on true;
            v_run_at := case when v_priority = start.priority then start.run_at else '-infinity' end;
            v_id := case when v_priority = start.priority then start.job_id + 1 else 0 end;
        end if;
        if v_priority is null then
            return v_rows;
        end if;
        v_rows := v_rows || @schema@.fair_jobs_at_priority(
            task, v_tasks, v_priority, v_run_at, v_id, expired_before, max_jobs - cardinality(v_rows), paused_tenants
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    if task is not null then
        v_after := start;
        v_after.priority := v_priority;
        v_after.run_at := 'infinity';
        v_after.job_id := 9223372036854775807;
        v_rows := v_rows || @schema@.ready_jobs_of_task(task, expired_before, max_jobs - cardinality(v_rows), v_after);
    end if;
    return v_rows || @schema@.lock_jobs_at_priority(
        task, v_priority, 'infinity', 9223372036854775807, expired_before, max_jobs - cardinality(v_rows),
        paused_tenants, true
    );
end
$$;

create or replace function @schema@.ready_jobs_of_task(
    task text,
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_task_ready_idx
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.database_id is null
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id nulls first
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.database_id is null
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id nulls first
            limit max_jobs - cardinality(v_rows)
            for update skip locked
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    return v_rows || array(
        select j.ctid
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.database_id is null
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.priority, j.run_at, j.id nulls first
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$$;
