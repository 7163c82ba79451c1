-- Claims that want some tasks, or all but some: each task has an order of its own, so that a million jobs of a task that
-- is not wanted are not looked at.

create index jobs_task_order_idx on @schema@.jobs (task_identifier, priority, run_at, id)
    where queue_name is null and not exhausted;

create function @schema@.ready_jobs_of_task(task text, expired timestamptz, max_jobs int) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := '{}';
    v_priority bigint := -2147483649; -- below the lowest int
begin
    -- One priority after the other, as ready_jobs does.
    for v_step in 1..16 loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.task_identifier = task
            and j.priority > v_priority
        order by j.priority
        limit 1;
        if not found then
            return v_ids;
        end if;
        v_ids := v_ids || array(
            select j.id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.task_identifier = task
                and j.priority = v_priority
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_ids)
            for update skip locked
        );
        if cardinality(v_ids) >= max_jobs then
            return v_ids;
        end if;
    end loop;
    return v_ids || array(
        select j.id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_ids)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_task(text, timestamptz, int) is
    'The most urgent ready jobs of one task without a queue, locked until the transaction ends. A part of claim_jobs.';

create function @schema@.tasks_waiting(most int) returns text[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive task (name) as (
        (
            select j.task_identifier
            from @schema@.jobs j
            where j.queue_name is null and not j.exhausted
            order by j.task_identifier
            limit 1
        )
        union all
        select following.task_identifier
        from task
        cross join lateral (
            select j.task_identifier
            from @schema@.jobs j
            where j.queue_name is null and not j.exhausted and j.task_identifier > task.name
            order by j.task_identifier
            limit 1
        ) following
    )
    select array(select task.name from task limit most)
$$;

comment on function @schema@.tasks_waiting(int) is
    'The tasks that have jobs without a queue, at most so many: one look at the index for each. A part of claim_jobs.';

-- As it was for claims that take any task.
alter function @schema@.ready_jobs(text[], text[], timestamptz, int) rename to ready_jobs_of_any_task;

create function @schema@.ready_jobs(
    task_identifiers text[], except_tasks text[], expired timestamptz, max_jobs int
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_most constant int := 100; -- with more tasks than that, one walk past all of them is cheaper
    v_tasks text[];
    v_task text;
    v_ids bigint[] := '{}';
begin
    if task_identifiers is not null then
        v_tasks := array(select distinct wanted.task from unnest(task_identifiers) as wanted (task));
    elsif cardinality(except_tasks) > 0 then
        v_tasks := @schema@.tasks_waiting(v_most + 1);
    end if;
    if v_tasks is null or cardinality(v_tasks) > v_most then
        return @schema@.ready_jobs_of_any_task(task_identifiers, except_tasks, expired, max_jobs);
    end if;
    foreach v_task in array v_tasks loop
        if v_task <> all (except_tasks) then
            v_ids := v_ids || @schema@.ready_jobs_of_task(v_task, expired, max_jobs);
        end if;
    end loop;
    if cardinality(v_ids) <= max_jobs then
        return v_ids;
    end if;
    return array(
        select j.id from @schema@.jobs j where j.id = any (v_ids) order by j.priority, j.run_at, j.id limit max_jobs
    );
end
$$;

comment on function @schema@.ready_jobs(text[], text[], timestamptz, int) is
    'The most urgent ready jobs without a queue, of some tasks or all but some, locked until the transaction ends. A part '
    'of claim_jobs.';

revoke execute on all functions in schema @schema@ from public;
