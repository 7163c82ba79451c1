-- How jobs go out and come to an end. The batch forms (claim_jobs, complete_held_jobs, fail_held_jobs) are
-- jobfn's own; the contract's get_job, complete_job and fail_job are the same for one job.

create function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int
) returns setof @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_queues text[];
    v_expired constant timestamptz := now() - job_expiry;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;

    -- First the named queues: hold the free ones, the one with the most urgent job first. Who holds a queue's
    -- row alone decides what runs in it, so the next statement, with its fresh snapshot, sees its true head.
    select array_agg(free.queue_name) into v_queues
    from (
        select q.queue_name
        from @schema@.job_queues q
        cross join lateral (
            select j.priority, j.run_at, j.id
            from @schema@.jobs j
            where j.queue_name = q.queue_name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or j.locked_at < v_expired)
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            order by j.priority, j.run_at, j.id
            limit 1
        ) head
        where q.locked_at is null or q.locked_at < v_expired
        order by head.priority, head.run_at, head.id
        limit max_jobs
        for update of q skip locked
    ) free;

    return query
    with ready as materialized (
        select head.id, head.priority, head.run_at
        from unnest(v_queues) as held (queue_name)
        cross join lateral (
            select j.id, j.priority, j.run_at
            from @schema@.jobs j
            where j.queue_name = held.queue_name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or j.locked_at < v_expired)
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            order by j.priority, j.run_at, j.id
            limit 1
            for update skip locked
        ) head
        union all
        select free.id, free.priority, free.run_at
        from (
            select j.id, j.priority, j.run_at
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or j.locked_at < v_expired)
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            order by j.priority, j.run_at, j.id
            limit max_jobs
            for update skip locked
        ) free
    ),
    chosen as materialized (
        select ready.id from ready order by ready.priority, ready.run_at, ready.id limit max_jobs
    ),
    claimed as (
        update @schema@.jobs j
        set attempts = j.attempts + 1, locked_by = claim_jobs.worker_id, locked_at = now(), updated_at = now()
        from chosen
        where j.id = chosen.id
        returning j.*
    ),
    held as (
        update @schema@.job_queues q
        set locked_by = claim_jobs.worker_id, locked_at = now()
        from claimed
        where q.queue_name = claimed.queue_name
    )
    select claimed.* from claimed order by claimed.priority, claimed.run_at, claimed.id;
end
$$;

comment on function @schema@.claim_jobs(text, text[], interval, int) is
    'Lock up to max_jobs ready jobs for a worker, most urgent first, at most one of each named queue.';

create function @schema@.get_job(
    worker_id text,
    task_identifiers text[] default null,
    job_expiry interval default '4 hours'
) returns @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select * into v_job from @schema@.claim_jobs(worker_id, task_identifiers, job_expiry, 1);
    return v_job;
end
$$;

comment on function @schema@.get_job(text, text[], interval) is
    'Lock the next ready job for a worker; all null when there is none.';

create function @schema@.complete_held_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[]
) returns setof @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
    v_queues boolean := false;
begin
    for v_job in
        with gone as (
            delete from @schema@.jobs j
            using unnest(worker_ids, job_ids, job_attempts) as settled (worker_id, job_id, attempt)
            where j.id = settled.job_id
                and j.locked_by = settled.worker_id
                and (settled.attempt is null or j.attempts = settled.attempt)
            returning j.*
        ),
        freed as (
            update @schema@.job_queues q
            set locked_at = null, locked_by = null
            from gone
            where q.queue_name = gone.queue_name and q.locked_by = gone.locked_by
        )
        select gone.* from gone
    loop
        v_queues := v_queues or v_job.queue_name is not null;
        return next v_job;
    end loop;
    if v_queues then
        perform pg_notify('jobs:insert', ''); -- the queue's next job may run now
    end if;
end
$$;

comment on function @schema@.complete_held_jobs(text[], bigint[], int[]) is
    'Complete the jobs that these workers hold, each in the given attempt (null: in any). Returns those that were.';

create function @schema@.fail_held_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    error_messages text[]
) returns setof @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
    v_any boolean := false;
begin
    for v_job in
        with settled as (
            select * from unnest(worker_ids, job_ids, job_attempts, error_messages)
                as t (worker_id, job_id, attempt, error_message)
        ),
        failed as (
            update @schema@.jobs j
            set last_error = coalesce(settled.error_message, 'UNKNOWN_ERROR'),
                run_at = greatest(now(), j.run_at) + exp(least(j.attempts, 10)) * interval '1 second',
                locked_at = null,
                locked_by = null,
                updated_at = now()
            from settled
            where j.id = settled.job_id
                and j.locked_by = settled.worker_id
                and (settled.attempt is null or j.attempts = settled.attempt)
            returning j.*
        ),
        freed as (
            update @schema@.job_queues q
            set locked_at = null, locked_by = null
            from failed join settled on settled.job_id = failed.id
            where q.queue_name = failed.queue_name and q.locked_by = settled.worker_id
        )
        select failed.* from failed
    loop
        v_any := true;
        return next v_job;
    end loop;
    if v_any then
        perform pg_notify('jobs:insert', ''); -- queues are free, and there is a new time to wake at
    end if;
end
$$;

comment on function @schema@.fail_held_jobs(text[], bigint[], int[], text[]) is
    'Fail the jobs that these workers hold, each in the given attempt (null: in any). Returns those that were.';

create function @schema@.complete_job(worker_id text, job_id bigint) returns @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select * into v_job
    from @schema@.complete_held_jobs(array[worker_id], array[job_id], array[null]::int[]);
    return v_job;
end
$$;

comment on function @schema@.complete_job(text, bigint) is
    'Delete a job and free its queue, if this worker holds it; otherwise nothing, and all null.';

create function @schema@.fail_job(worker_id text, job_id bigint, error_message text) returns @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select * into v_job
    from @schema@.fail_held_jobs(array[worker_id], array[job_id], array[null]::int[], array[error_message]);
    return v_job;
end
$$;

comment on function @schema@.fail_job(text, bigint, text) is
    'Record an error, unlock job and queue, retry after exp(least(attempts, 10)) seconds, if this worker holds it.';

create function @schema@.release_jobs(worker_id text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    update @schema@.jobs j
    set locked_at = null, locked_by = null, attempts = greatest(j.attempts - 1, 0), updated_at = now()
    where j.locked_by = worker_id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    update @schema@.job_queues q set locked_at = null, locked_by = null where q.locked_by = worker_id;
end
$$;

comment on function @schema@.release_jobs(text) is
    'Unlock all that this worker holds, giving each the attempt back.';
