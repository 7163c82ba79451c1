-- For people and tools: complete, fail, reschedule, cancel and retry jobs. Except for cancel_jobs with include_running,
-- these functions leave locked jobs alone, unless the lock has expired.

create function @schema@.lock_idle_jobs(job_ids bigint[]) returns setof bigint
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    select j.id
    from @schema@.jobs j
    where j.id = any (job_ids)
        and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'))
    order by j.id
    for update
$$;

comment on function @schema@.lock_idle_jobs(bigint[]) is
    'Those of the jobs that no worker runs, with their rows locked until the transaction ends.';

create function @schema@.complete_jobs(job_ids bigint[]) returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    with idle as materialized (select id from @schema@.lock_idle_jobs(job_ids) as found (id)),
    removed as (
        delete from @schema@.jobs j using idle where j.id = idle.id
        returning j.*
    ),
    recorded as (
        insert into @schema@.job_runs
        select removed.id, removed.attempts, removed.task_identifier, removed.queue_name, removed.database_id,
            removed.locked_by, removed.created_at, removed.run_at, removed.locked_at, now(), 'removed',
            removed.last_error
        from removed
        where @schema@.history_enabled()
    )
    select * from removed
$$;

comment on function @schema@.complete_jobs(bigint[]) is 'Delete jobs that no worker runs, as if they had completed.';

create function @schema@.permanently_fail_jobs(job_ids bigint[], error_message text default null)
    returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    with idle as materialized (
        select j.*, coalesce(error_message, 'Failed by hand, without a reason given') as reason
        from @schema@.lock_idle_jobs(job_ids) as found (id)
        join @schema@.jobs j on j.id = found.id
    ),
    recorded as (
        insert into @schema@.job_runs
        select idle.id, idle.attempts, idle.task_identifier, idle.queue_name, idle.database_id, idle.locked_by,
            idle.created_at, idle.run_at, idle.locked_at, now(), 'cancelled', idle.reason
        from idle
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set last_error = idle.reason,
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from idle
    where j.id = idle.id
    returning j.*
$$;

comment on function @schema@.permanently_fail_jobs(bigint[], text) is
    'Permanently fail jobs that no worker runs, with an error message.';

create function @schema@.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz default null,
    priority int default null,
    attempts int default null,
    max_attempts int default null
) returns setof @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with idle as materialized (select found.id from @schema@.lock_idle_jobs(job_ids) as found (id))
    update @schema@.jobs j
    set run_at = coalesce(reschedule_jobs.run_at, j.run_at),
        priority = coalesce(reschedule_jobs.priority, j.priority),
        attempts = coalesce(reschedule_jobs.attempts, j.attempts),
        max_attempts = coalesce(reschedule_jobs.max_attempts, j.max_attempts),
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from idle
    where j.id = idle.id
    returning j.*;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.reschedule_jobs(bigint[], timestamptz, int, int, int) is
    'Change when and how often jobs run that no worker runs now; null leaves a value as it is.';

create function @schema@.cancel_jobs(job_ids bigint[], reason text, include_running boolean)
    returns table (job_id bigint, was_running boolean)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with target as materialized (
        select j.*, j.locked_at is not null and not coalesce(
            j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'
        ) as is_running
        from @schema@.jobs j
        where j.id = any (job_ids)
        order by j.id
        for update
    ),
    cancelled as materialized (
        select target.*
        from target
        where (not target.is_running or include_running) and (target.is_running or not target.exhausted)
    ),
    recorded as (
        insert into @schema@.job_runs
        select cancelled.id, cancelled.attempts, cancelled.task_identifier, cancelled.queue_name,
            cancelled.database_id, cancelled.locked_by, cancelled.created_at, cancelled.run_at, cancelled.locked_at,
            now(), 'cancelled', reason
        from cancelled
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set last_error = reason,
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from cancelled
    where j.id = cancelled.id
    returning j.id, cancelled.is_running;
end
$$;

comment on function @schema@.cancel_jobs(bigint[], text, boolean) is
    'Permanently fail waiting jobs, with a reason. With include_running also running ones: their workers lose the '
    'locks, and late reports change nothing.';

create function @schema@.retry_jobs(job_ids bigint[]) returns setof bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with failed as materialized (
        select j.id
        from @schema@.jobs j
        where j.id = any (job_ids) and j.exhausted and j.locked_at is null
        order by j.id
        for update
    )
    update @schema@.jobs j
    set attempts = coalesce(j.fenced_attempt, 0),
        max_attempts = least(j.max_attempts::bigint + coalesce(j.fenced_attempt, 0), 2147483647),
        run_at = now(),
        updated_at = now()
    from failed
    where j.id = failed.id
    returning j.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.retry_jobs(bigint[]) is
    'Run permanently failed jobs again from now, with all their attempts.';

revoke execute on all functions in schema @schema@ from public;
