-- Settling: the outcomes of running jobs. settle_jobs takes a batch; complete_job and fail_job of the contract are the
-- same for one job.
--
-- An outcome is one of:
--   completed           the job is deleted
--   failed              retried after the delay, or after the contract's backoff if the delay is null
--   permanently_failed  not retried
--   released            unlocked, the attempt does not count, not run again before the delay

create function @schema@.settle_mixed_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[]
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs: the plan outlives the time when the table was small
    set jit = off -- as in claim_jobs
as $$
declare
    v_settlement record;
    v_ended record;
    v_job @schema@.jobs;
    v_history_enabled boolean := @schema@.history_enabled();
    v_runs @schema@.job_runs[] := '{}';
    v_notify boolean := false;
begin
    -- In the order of ids, so that two batches with jobs in common do not deadlock. Of two outcomes of one job, the
    -- better one counts, which the alphabet happens to sort first.
    for v_settlement in
        select settlement.*
        from unnest(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
            as settlement (worker_id, job_id, attempt, outcome, error_message, delay)
        order by settlement.job_id, settlement.outcome
    loop
        if v_settlement.outcome = 'completed' then
            delete from @schema@.jobs j
            where j.id = v_settlement.job_id
                and j.locked_by = v_settlement.worker_id
                and (v_settlement.attempt is null or j.attempts = v_settlement.attempt)
            returning j.* into v_job;
            continue when not found;
            if v_history_enabled then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_job.attempts, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_job.locked_by, v_job.created_at, v_job.run_at, v_job.locked_at, now(), 'completed', null
                )::@schema@.job_runs);
            end if;
        else
            with before as materialized (
                select j.id, j.attempts, j.run_at, j.locked_at
                from @schema@.jobs j
                where j.id = v_settlement.job_id
                    and j.locked_by = v_settlement.worker_id
                    and (v_settlement.attempt is null or j.attempts = v_settlement.attempt)
                for update
            )
            update @schema@.jobs j
            set last_error = case
                    when v_settlement.outcome = 'released' then j.last_error else v_settlement.error_message
                end,
                attempts = case v_settlement.outcome
                    when 'permanently_failed' then j.max_attempts
                    when 'released' then greatest(j.attempts - 1, 0)
                    else j.attempts
                end,
                run_at = case
                    when v_settlement.outcome = 'permanently_failed' then j.run_at
                    when v_settlement.outcome = 'released' then greatest(j.run_at, now() + v_settlement.delay)
                    when v_settlement.delay is not null then now() + v_settlement.delay
                    else greatest(now(), j.run_at) + exp(least(j.attempts, 10)) * interval '1 second'
                end,
                locked_at = null,
                locked_by = null,
                lease_expires_at = null,
                updated_at = now()
            from before
            where j.id = before.id
            returning j as job, before.attempts as attempt, before.run_at as due_at, before.locked_at as started_at
                into v_ended;
            continue when not found;
            v_job := v_ended.job;
            v_notify := v_notify or v_settlement.outcome in ('failed', 'released');
            if v_history_enabled then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_ended.attempt, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_settlement.worker_id, v_job.created_at, v_ended.due_at, v_ended.started_at, now(),
                    case
                        when v_settlement.outcome = 'released' then 'released'
                        when v_job.exhausted then 'permanently_failed'
                        else 'failed'
                    end,
                    case when v_settlement.outcome <> 'released' then v_settlement.error_message end
                )::@schema@.job_runs);
            end if;
        end if;
        return next v_job;
    end loop;
    if cardinality(v_runs) > 0 then
        insert into @schema@.job_runs select run.* from unnest(v_runs) run;
    end if;
    if v_notify then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
end
$$;

comment on function @schema@.settle_mixed_jobs(text[], bigint[], int[], text[], text[], interval[]) is
    'Settle jobs with different outcomes, one after the other. Part of settle_jobs.';

create function @schema@.settle_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[]
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set enable_bitmapscan = off -- the rows are locked in the order of their ids
    set jit = off
as $$
declare
    v_history_enabled boolean := @schema@.history_enabled();
    v_workers text[];
    v_ids bigint[];
    v_attempts int[];
    v_ids_are_unique boolean;
begin
    select array_agg(settlement.worker_id order by settlement.job_id),
        array_agg(settlement.job_id order by settlement.job_id),
        array_agg(settlement.attempt order by settlement.job_id),
        count(distinct settlement.job_id) = count(*)
    into v_workers, v_ids, v_attempts, v_ids_are_unique
    from unnest(worker_ids, job_ids, job_attempts) as settlement (worker_id, job_id, attempt);
    if not v_ids_are_unique or outcomes <> array_fill('completed'::text, array[cardinality(outcomes)]) then
        return query
        select * from @schema@.settle_mixed_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays);
        return;
    end if;
    -- All completed, as in most batches: one statement. Rows are found by the primary key, and their worker and attempt
    -- by binary search in the sorted arrays. A join would be simpler, but statistics can spoil its plan: after a vacuum
    -- of an empty table, it read all jobs and compared each with each settlement.
    return query
    with completed as (
        delete from @schema@.jobs j
        where j.id = any (v_ids)
            and j.locked_by = v_workers[width_bucket(j.id, v_ids)]
            and j.attempts = coalesce(v_attempts[width_bucket(j.id, v_ids)], j.attempts)
        returning j.*
    ),
    recorded as (
        insert into @schema@.job_runs
        select completed.id, completed.attempts, completed.task_identifier, completed.queue_name,
            completed.database_id, completed.locked_by, completed.created_at, completed.run_at, completed.locked_at,
            now(), 'completed', null
        from completed
        where v_history_enabled
    )
    select completed.* from completed;
end
$$;

comment on function @schema@.settle_jobs(text[], bigint[], int[], text[], text[], interval[]) is
    'Settle jobs that these workers have locked, each in the given attempt (null: in any). Returns the jobs that were '
    'locked so; others stay as they are.';

create function @schema@.settle_jobs_with_results(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[],
    results json[],
    storage_errors text[],
    retention_seconds float8[] -- null: the result of this job is not stored
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
    v_settled bigint[] := '{}';
    v_stored bigint;
begin
    for v_job in
        select * from @schema@.settle_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
    loop
        v_settled := v_settled || v_job.id;
        return next v_job;
    end loop;
    for v_stored in
        insert into @schema@.job_results as r (job_id, result, storage_error, expires_at)
        select given.job_id, given.result, given.storage_error, now() + given.retention_seconds * interval '1 second'
        from unnest(job_ids, outcomes, results, storage_errors, retention_seconds)
            as given (job_id, outcome, result, storage_error, retention_seconds)
        where given.retention_seconds is not null and given.outcome = 'completed' and given.job_id = any (v_settled)
        on conflict (job_id) do nothing
        returning r.job_id
    loop
        perform pg_notify('jobs:result', v_stored::text);
    end loop;
    -- Each call deletes some expired results, so that no other process has to.
    delete from @schema@.job_results r
    where r.job_id in (
        select old.job_id from @schema@.job_results old
        where old.expires_at < now()
        order by old.expires_at
        limit 100
        for update skip locked
    );
end
$$;

comment on function
    @schema@.settle_jobs_with_results(
        text[], bigint[], int[], text[], text[], interval[], json[], text[], float8[]
    ) is
    'As settle_jobs, and store the return values of completed jobs. Notifies jobs:result with each id.';

create function @schema@.job_result(job_id bigint) returns text
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (
            select json_build_object(
                'state', 'completed', 'result', r.result, 'storage_error', r.storage_error
            )::text
            from @schema@.job_results r
            where r.job_id = job_result.job_id and r.expires_at > now()
        ),
        (
            select json_build_object(
                'state', case
                    when j.locked_at is not null then 'running'
                    when j.exhausted then 'failed'
                    else 'waiting'
                end,
                'attempts', j.attempts,
                'error', j.last_error
            )::text
            from @schema@.jobs j
            where j.id = job_result.job_id
        ),
        '{"state": "gone"}'
    )
$$;

comment on function @schema@.job_result(bigint) is
    'The state of a job as JSON text, with its return value if that is stored.';

create function @schema@.complete_job(worker_id text, job_id bigint) returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select * into v_job
    from @schema@.settle_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['completed'], array[null]::text[],
        array[null]::interval[]
    );
    return v_job;
end
$$;

comment on function @schema@.complete_job(text, bigint) is
    'Delete a job and unlock its queue, if this worker has locked it; else change nothing and return all null.';

create function @schema@.fail_job(worker_id text, job_id bigint, error_message text) returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select * into v_job
    from @schema@.settle_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['failed'],
        array[coalesce(error_message, 'UNKNOWN_ERROR')], array[null]::interval[]
    );
    return v_job;
end
$$;

comment on function @schema@.fail_job(text, bigint, text) is
    'Record an error, unlock job and queue, and retry after exp(least(attempts, 10)) seconds, if this worker has '
    'locked the job.';

revoke execute on all functions in schema @schema@ from public;
