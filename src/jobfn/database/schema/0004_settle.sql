-- How jobs come to an end: completed, failed, given back.

-- An outcome is one of: completed; failed (tried again after the delay, or after the contract's backoff where there is
-- none); failed_for_good; given_back (unlocked as if it had not been claimed, not before the delay).
create function @schema@.settle_held_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[]
) returns setof @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
    v_waiting boolean := false;
begin
    for v_job in
        -- Locked in the order of their ids, so that two batches with jobs in common do not wait for each other.
        with held as materialized (
            select j.id, settled.outcome, settled.error_message, settled.delay
            from unnest(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
                as settled (worker_id, job_id, attempt, outcome, error_message, delay)
            join @schema@.jobs j
                on j.id = settled.job_id
                and j.locked_by = settled.worker_id
                and (settled.attempt is null or j.attempts = settled.attempt)
            order by j.id
            for update of j
        ),
        decided as (
            select distinct on (held.id) held.* from held order by held.id, held.outcome
        ),
        gone as (
            delete from @schema@.jobs j using decided where j.id = decided.id and decided.outcome = 'completed'
            returning j.*
        ),
        kept as (
            update @schema@.jobs j
            set last_error = case when decided.outcome = 'given_back' then j.last_error else decided.error_message end,
                attempts = case decided.outcome
                    when 'failed_for_good' then j.max_attempts
                    when 'given_back' then greatest(j.attempts - 1, 0)
                    else j.attempts
                end,
                run_at = case
                    when decided.outcome = 'failed_for_good' then j.run_at
                    when decided.outcome = 'given_back' then greatest(j.run_at, now() + decided.delay)
                    when decided.delay is not null then now() + decided.delay
                    else greatest(now(), j.run_at) + exp(least(j.attempts, 10)) * interval '1 second'
                end,
                locked_at = null,
                locked_by = null,
                lease_expires_at = null,
                updated_at = now()
            from decided
            where j.id = decided.id and decided.outcome <> 'completed'
            returning j.*
        )
        select gone.* from gone
        union all
        select kept.* from kept
    loop
        v_waiting := v_waiting or v_job.locked_by is null;
        return next v_job;
    end loop;
    if v_waiting then
        perform pg_notify('jobs:insert', ''); -- there is a new time to wake at
    end if;
end
$$;

comment on function @schema@.settle_held_jobs(text[], bigint[], int[], text[], text[], interval[]) is
    'Write down how the jobs that these workers hold ended, each in the given attempt (null: in any). '
    'Returns those that were held so.';

create function @schema@.complete_job(worker_id text, job_id bigint) returns @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select * into v_job
    from @schema@.settle_held_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['completed'], array[null]::text[],
        array[null]::interval[]
    );
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
    from @schema@.settle_held_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['failed'],
        array[coalesce(error_message, 'UNKNOWN_ERROR')], array[null]::interval[]
    );
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
    with held as materialized (
        select j.id from @schema@.jobs j where j.locked_by = worker_id order by j.id for update
    )
    update @schema@.jobs j
    set locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        attempts = greatest(j.attempts - 1, 0),
        updated_at = now()
    from held
    where j.id = held.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l where l.locked_by = worker_id; -- what is left: held by hand
end
$$;

comment on function @schema@.release_jobs(text) is
    'Unlock all that this worker holds, giving each the attempt back.';

-- For people and tools, on jobs that nobody holds (or whose holder has been gone for four hours).

create function @schema@.lock_unheld_jobs(job_ids bigint[]) returns setof bigint
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    select j.id
    from @schema@.jobs j
    where j.id = any (job_ids) and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'))
    order by j.id
    for update
$$;

comment on function @schema@.lock_unheld_jobs(bigint[]) is
    'Those of these jobs that nobody holds, locked until the transaction ends.';

create function @schema@.complete_jobs(job_ids bigint[]) returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    with unheld as materialized (select id from @schema@.lock_unheld_jobs(job_ids) as found (id))
    delete from @schema@.jobs j using unheld where j.id = unheld.id
    returning j.*
$$;

comment on function @schema@.complete_jobs(bigint[]) is 'Remove jobs that nobody holds, as if they had run.';

create function @schema@.permanently_fail_jobs(job_ids bigint[], error_message text default null)
    returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    with unheld as materialized (select id from @schema@.lock_unheld_jobs(job_ids) as found (id))
    update @schema@.jobs j
    set last_error = coalesce(error_message, 'Failed by hand, without a reason given'),
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from unheld
    where j.id = unheld.id
    returning j.*
$$;

comment on function @schema@.permanently_fail_jobs(bigint[], text) is
    'Use up the attempts of jobs that nobody holds, with a reason.';

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
    with unheld as materialized (select found.id from @schema@.lock_unheld_jobs(job_ids) as found (id))
    update @schema@.jobs j
    set run_at = coalesce(reschedule_jobs.run_at, j.run_at),
        priority = coalesce(reschedule_jobs.priority, j.priority),
        attempts = coalesce(reschedule_jobs.attempts, j.attempts),
        max_attempts = coalesce(reschedule_jobs.max_attempts, j.max_attempts),
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from unheld
    where j.id = unheld.id
    returning j.*;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.reschedule_jobs(bigint[], timestamptz, int, int, int) is
    'Change when and how often jobs that nobody holds will run; null leaves a value as it is.';
