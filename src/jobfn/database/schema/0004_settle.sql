-- What becomes of jobs that are held: their locks are renewed, and they come to an end. The batch form,
-- settle_held_jobs, is jobfn's own; the contract's complete_job and fail_job are the same for one job.

create function @schema@.renew_leases(
    worker_id text,
    job_ids bigint[],
    job_attempts int[],
    lease interval
) returns setof bigint
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    with held as materialized (
        select j.id, j.queue_name
        from unnest(job_ids, job_attempts) as mine (job_id, attempt)
        join @schema@.jobs j
            on j.id = mine.job_id and j.locked_by = renew_leases.worker_id and j.attempts = mine.attempt
        order by j.id
        for update of j
    ),
    queues as (
        update @schema@.queue_locks l set lease_expires_at = now() + lease
        from held
        where l.queue_name = held.queue_name and l.job_id = held.id
    )
    update @schema@.jobs j set lease_expires_at = now() + lease
    from held
    where j.id = held.id
    returning j.id
$$;

comment on function @schema@.renew_leases(text, bigint[], int[], interval) is
    'Prolong the locks of the jobs that this worker holds in these attempts. Returns those that it does hold.';

create function @schema@.note_progress(
    worker_id text,
    job_id bigint,
    attempt int,
    lease interval,
    progress real,
    note text
) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform from @schema@.renew_leases(worker_id, array[job_id], array[attempt], lease);
    if not found then
        return false;
    end if;
    update @schema@.jobs j
    set progress = coalesce(note_progress.progress, j.progress), progress_note = coalesce(note, j.progress_note)
    where j.id = job_id and (note_progress.progress is not null or note is not null);
    return true;
end
$$;

comment on function @schema@.note_progress(text, bigint, int, interval, real, text) is
    'A running job''s sign of life: prolongs its lock and notes how far it is. False where this worker does not hold it.';

create function @schema@.bury_expired_jobs(job_expiry interval) returns setof bigint
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.jobs j
    set last_error = format('the worker %s died, or lost its lease, in the last attempt', j.locked_by),
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    where j.exhausted
        and j.locked_at is not null
        and coalesce(j.lease_expires_at < now(), j.locked_at < now() - job_expiry)
    returning j.id
$$;

comment on function @schema@.bury_expired_jobs(interval) is
    'Unlock jobs whose last attempt nobody will end any more; they have failed for good.';

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
    set enable_seqscan = off -- as claim_jobs: the plan outlives the time when the table was small
    set jit = off -- a scan that is forbidden has an enormous cost, for which PostgreSQL would compile each call anew
as $$
declare
    v_settled record;
    v_job @schema@.jobs;
    v_waiting boolean := false;
begin
    -- In the order of their ids, so that two batches with jobs in common do not wait for each other. Of two ends of
    -- one job, the better one counts, which the alphabet happens to put first.
    for v_settled in
        select settled.*
        from unnest(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
            as settled (worker_id, job_id, attempt, outcome, error_message, delay)
        order by settled.job_id, settled.outcome
    loop
        if v_settled.outcome = 'completed' then
            delete from @schema@.jobs j
            where j.id = v_settled.job_id
                and j.locked_by = v_settled.worker_id
                and (v_settled.attempt is null or j.attempts = v_settled.attempt)
            returning j.* into v_job;
        else
            update @schema@.jobs j
            set last_error = case
                    when v_settled.outcome = 'given_back' then j.last_error else v_settled.error_message
                end,
                attempts = case v_settled.outcome
                    when 'failed_for_good' then j.max_attempts
                    when 'given_back' then greatest(j.attempts - 1, 0)
                    else j.attempts
                end,
                run_at = case
                    when v_settled.outcome = 'failed_for_good' then j.run_at
                    when v_settled.outcome = 'given_back' then greatest(j.run_at, now() + v_settled.delay)
                    when v_settled.delay is not null then now() + v_settled.delay
                    else greatest(now(), j.run_at) + exp(least(j.attempts, 10)) * interval '1 second'
                end,
                locked_at = null,
                locked_by = null,
                lease_expires_at = null,
                updated_at = now()
            where j.id = v_settled.job_id
                and j.locked_by = v_settled.worker_id
                and (v_settled.attempt is null or j.attempts = v_settled.attempt)
            returning j.* into v_job;
        end if;
        if found then
            v_waiting := v_waiting or v_settled.outcome in ('failed', 'given_back');
            return next v_job;
        end if;
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

create function @schema@.take_back_jobs(worker_id text) returns setof bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The attempts count: functions may still be at work on these jobs, and their reports are told from those of the
    -- next deliveries by the attempt.
    return query
    with held as materialized (
        select j.id from @schema@.jobs j where j.locked_by = worker_id order by j.id for update
    )
    update @schema@.jobs j
    set last_error = case
            when j.exhausted then format('the worker %s died, or lost its lease, in the last attempt', worker_id)
            else j.last_error
        end,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from held
    where j.id = held.id
    returning j.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l where l.locked_by = worker_id; -- what is left: held by hand
end
$$;

comment on function @schema@.take_back_jobs(text) is
    'Unlock all that this worker held when it died, as if its leases had ended.';

-- For people and tools, on jobs that nobody holds (or whose holder has been gone for four hours).

create function @schema@.lock_unheld_jobs(job_ids bigint[]) returns setof bigint
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
