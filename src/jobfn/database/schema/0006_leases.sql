-- Leases: renewed for running jobs, kept for accepted ones, ended for those of a dead or stopping worker. Heartbeats of
-- workers are here too.

create function @schema@.renew_leases(
    worker_id text,
    job_ids bigint[],
    job_attempts int[],
    lease interval
) returns setof bigint
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with locked as materialized (
        select j.id, j.queue_name
        from unnest(job_ids, job_attempts) as given (job_id, attempt)
        join @schema@.jobs j
            on j.id = given.job_id and j.locked_by = renew_leases.worker_id and j.attempts = given.attempt
        order by j.id
        for update of j
    ),
    queues as (
        update @schema@.queue_locks l set lease_expires_at = now() + lease
        from locked
        where l.queue_name = locked.queue_name and l.job_id = locked.id
    )
    update @schema@.jobs j set lease_expires_at = now() + lease
    from locked
    where j.id = locked.id
    returning j.id
$$;

comment on function @schema@.renew_leases(text, bigint[], int[], interval) is
    'Extend the leases of jobs that this worker has locked in these attempts. Returns the ids of those jobs.';

create function @schema@.heartbeat_job(
    worker_id text,
    job_id bigint,
    attempt int,
    lease interval,
    progress real,
    message text
) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform from @schema@.renew_leases(worker_id, array[job_id], array[attempt], lease);
    if not found then
        return false;
    end if;
    update @schema@.jobs j
    set progress = coalesce(heartbeat_job.progress, j.progress),
        progress_message = coalesce(message, j.progress_message)
    where j.id = job_id and (heartbeat_job.progress is not null or message is not null);
    return true;
end
$$;

comment on function @schema@.heartbeat_job(text, bigint, int, interval, real, text) is
    'Extend the lease of a running job and store its progress; null leaves a value as it is. False if this worker has '
    'not locked the job in this attempt.';

create function @schema@.mark_accepted(worker_id text, job_id bigint, attempt int) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.jobs j
    set accepted_attempt = mark_accepted.attempt
    where j.id = mark_accepted.job_id
        and j.locked_by = mark_accepted.worker_id
        and j.attempts = mark_accepted.attempt
$$;

comment on function @schema@.mark_accepted(text, bigint, int) is
    'Record that a function accepted this attempt (202) and reports later. reclaim_jobs leaves it alone while the '
    'function''s heartbeats keep the lease.';

create function @schema@.release_jobs(worker_id text) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    with released as materialized (
        select j.* from @schema@.jobs j where j.locked_by = worker_id order by j.id for update
    ),
    recorded as (
        insert into @schema@.job_runs
        select released.id, released.attempts, released.task_identifier, released.queue_name, released.database_id,
            released.locked_by, released.created_at, released.run_at, released.locked_at, now(), 'released', null
        from released
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        attempts = greatest(j.attempts - 1, 0),
        updated_at = now()
    from released
    where j.id = released.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l where l.locked_by = worker_id; -- the trigger has not deleted locks without a job
end
$$;

comment on function @schema@.release_jobs(text) is
    'Unlock all jobs and queues of a worker. The attempts do not count.';

create function @schema@.reclaim_jobs(worker_id text)
    returns table (id bigint, task_identifier text, attempts int, locked_by text, database_id uuid)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    -- The attempts count: functions may still run them, and the number of the attempt tells a late report from one of
    -- the next attempt.
    return query
    with lost as materialized (
        select j.*
        from @schema@.jobs j
        where j.locked_by = worker_id
            and not coalesce(j.accepted_attempt = j.attempts and j.lease_expires_at >= now(), false)
        order by j.id
        for update
    ),
    recorded as (
        insert into @schema@.job_runs
        select lost.id, lost.attempts, lost.task_identifier, lost.queue_name, lost.database_id, lost.locked_by,
            lost.created_at, lost.run_at, lost.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', lost.locked_by)
        from lost
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set last_error = case
            when j.exhausted then format('the worker %s died, or lost its lease, in the last attempt', worker_id)
            else j.last_error
        end,
        fenced_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from lost
    where j.id = lost.id
    returning lost.id, lost.task_identifier, lost.attempts, lost.locked_by, lost.database_id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l -- the trigger has not deleted locks without a job
    where l.locked_by = worker_id
        and not exists (select from @schema@.jobs j where j.id = l.job_id and j.locked_by = worker_id);
end
$$;

comment on function @schema@.reclaim_jobs(text) is
    'Unlock the jobs that a worker had locked when it died, as if their leases had ended. Returns them as they were '
    'locked.';

create function @schema@.reap_expired_jobs(job_expiry interval)
    returns table (id bigint, task_identifier text, attempts int, locked_by text, database_id uuid)
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with lost as materialized (
        select j.*, format('the worker %s died, or lost its lease, in the last attempt', j.locked_by) as reason
        from @schema@.jobs j
        where j.in_last_attempt
            and coalesce(j.lease_expires_at < now(), j.locked_at < now() - job_expiry)
        order by j.id
        for update
    ),
    recorded as (
        insert into @schema@.job_runs
        select lost.id, lost.attempts, lost.task_identifier, lost.queue_name, lost.database_id, lost.locked_by,
            lost.created_at, lost.run_at, lost.locked_at, now(), 'lost', lost.reason
        from lost
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set last_error = lost.reason,
        fenced_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from lost
    where j.id = lost.id
    returning lost.id, lost.task_identifier, lost.attempts, lost.locked_by, lost.database_id
$$;

comment on function @schema@.reap_expired_jobs(interval) is
    'Permanently fail jobs whose lock expired in the last attempt: no claim takes them over. Returns them as they were '
    'locked.';

create function @schema@.heartbeat_worker(
    worker_id text,
    host text,
    pid int,
    version text,
    roles text[],
    concurrency int,
    in_flight int,
    heartbeat_interval interval
) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into @schema@.workers as w (
        worker_id, host, pid, version, roles, concurrency, in_flight, heartbeat_interval
    ) values (
        heartbeat_worker.worker_id,
        heartbeat_worker.host,
        heartbeat_worker.pid,
        heartbeat_worker.version,
        heartbeat_worker.roles,
        heartbeat_worker.concurrency,
        heartbeat_worker.in_flight,
        heartbeat_worker.heartbeat_interval
    )
    on conflict (worker_id, host, pid) do update
    set version = excluded.version,
        roles = excluded.roles,
        concurrency = excluded.concurrency,
        in_flight = excluded.in_flight,
        heartbeat_interval = excluded.heartbeat_interval,
        last_heartbeat_at = now();
    delete from @schema@.workers w where w.last_heartbeat_at < now() - interval '1 day';
end
$$;

comment on function @schema@.heartbeat_worker(text, text, int, text, text[], int, int, interval) is
    'Record a heartbeat of a process, and delete processes without one for a day.';

create function @schema@.deregister_worker(worker_id text, host text, pid int) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    delete from @schema@.workers w
    where w.worker_id = deregister_worker.worker_id
        and w.host = deregister_worker.host
        and w.pid = deregister_worker.pid
$$;

comment on function @schema@.deregister_worker(text, text, int) is 'Delete the row of a process that stops.';

revoke execute on all functions in schema @schema@ from public;
