-- Snoozes: an attempt that ends with "not yet" does not count. Its number is not used again, because a late report of
-- it must not settle the next attempt. So the maximum rises with it, and the column snoozes is the part of both that
-- does not count.

alter table @schema@.job_runs drop constraint job_runs_outcome_known;
alter table @schema@.job_runs add constraint job_runs_outcome_known check (
    outcome in (
        'completed', 'failed', 'permanently_failed', 'released', 'snoozed', 'lost', 'cancelled', 'removed'
    )
) not valid; -- the rows that exist had fewer outcomes to choose from

create function @schema@.snooze_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    reasons text[],
    delays interval[],
    max_ages interval[]
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set jit = off
as $$
declare
    v_snooze record;
    v_ended record;
    v_job @schema@.jobs;
    v_history_enabled boolean := @schema@.history_enabled();
begin
    for v_snooze in
        select snooze.*
        from unnest(worker_ids, job_ids, job_attempts, reasons, delays, max_ages)
            as snooze (worker_id, job_id, attempt, reason, delay, max_age)
        order by snooze.job_id -- so that two batches with jobs in common do not deadlock
    loop
        with before as materialized (
            select j.id, j.attempts, j.run_at, j.locked_at,
                coalesce(j.snoozing_since, now()) + v_snooze.max_age > now() as is_allowed,
                case
                    when isfinite(j.snoozing_since) and j.snoozing_since + v_snooze.max_age <= now() then format(
                        '%s (snoozed %s times since %s, longer than its maximum age of %s seconds)',
                        v_snooze.reason, j.snoozes,
                        to_char(j.snoozing_since at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
                        extract(epoch from v_snooze.max_age)::bigint
                    )
                    else v_snooze.reason
                end as error
            from @schema@.jobs j
            where j.id = v_snooze.job_id
                and j.locked_by = v_snooze.worker_id
                and (v_snooze.attempt is null or j.attempts = v_snooze.attempt)
            for update
        )
        update @schema@.jobs j
        set last_error = before.error,
            attempts = case when before.is_allowed then j.attempts else j.max_attempts end,
            max_attempts = case
                when before.is_allowed then least(j.max_attempts::bigint + 1, 2147483647) else j.max_attempts
            end,
            snoozes = case when before.is_allowed then coalesce(j.snoozes, 0) + 1 else j.snoozes end,
            snoozing_since = case
                when before.is_allowed then coalesce(j.snoozing_since, now()) else j.snoozing_since
            end,
            run_at = case when before.is_allowed then now() + v_snooze.delay else j.run_at end,
            locked_at = null,
            locked_by = null,
            lease_expires_at = null,
            updated_at = now()
        from before
        where j.id = before.id
        returning j as job, before.attempts as attempt, before.run_at as due_at, before.locked_at as started_at,
            before.is_allowed, before.error
            into v_ended;
        continue when not found;
        v_job := v_ended.job;
        if v_history_enabled then
            insert into @schema@.job_runs values (
                v_job.id, v_ended.attempt, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                v_snooze.worker_id, v_job.created_at, v_ended.due_at, v_ended.started_at, now(),
                case when v_ended.is_allowed then 'snoozed' else 'permanently_failed' end, v_ended.error
            );
        end if;
        return next v_job;
    end loop;
    if found then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
end
$$;

comment on function @schema@.snooze_jobs(text[], bigint[], int[], text[], interval[], interval[]) is
    'Run locked jobs again after a delay, without counting the attempt. A job whose first snooze is longer ago than '
    'max_age fails permanently. Returns the jobs that were locked so, as settle_jobs does.';

-- The roles that may settle jobs may snooze them.
do $$
declare
    v_jobs constant oid := pg_typeof(null::@schema@.jobs);
    v_new constant regprocedure := (
        select p.oid from pg_catalog.pg_proc p where p.proname = 'snooze_jobs' and p.prorettype = v_jobs
    );
    v_role text;
begin
    for v_role in
        select quote_ident(pg_get_userbyid(granted.grantee))
        from pg_catalog.pg_proc p
        cross join lateral aclexplode(p.proacl) as granted
        where p.proname = 'settle_jobs'
            and p.prorettype = v_jobs
            and granted.grantee not in (0, p.proowner)
    loop
        execute format('grant execute on function %s to %s', v_new, v_role);
    end loop;
end
$$;

-- The contract's backoff counts attempts without snoozes.
create or replace function @schema@.settle_mixed_jobs(
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
                    else greatest(now(), j.run_at)
                        + exp(least(j.attempts - coalesce(j.snoozes, 0), 10)) * interval '1 second'
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

create or replace function @schema@.retry_jobs(job_ids bigint[]) returns setof bigint
    language plpgsql
    security definer
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
        max_attempts = least(
            greatest(j.max_attempts - coalesce(j.snoozes, 0), 1)::bigint + coalesce(j.fenced_attempt, 0), 2147483647
        ),
        snoozes = null,
        snoozing_since = null,
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

create or replace function @schema@.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz default null,
    priority int default null,
    attempts int default null,
    max_attempts int default null
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform @schema@.check_job(null, null, null, max_attempts);
    return query
    with idle as materialized (select found.id from @schema@.lock_idle_jobs(job_ids) as found (id))
    update @schema@.jobs j
    set run_at = coalesce(reschedule_jobs.run_at, j.run_at),
        priority = coalesce(reschedule_jobs.priority, j.priority),
        attempts = coalesce(reschedule_jobs.attempts, j.attempts),
        max_attempts = coalesce(
            reschedule_jobs.max_attempts,
            case
                when reschedule_jobs.attempts is null then j.max_attempts
                else greatest(j.max_attempts - coalesce(j.snoozes, 0), 1)
            end
        ),
        -- With new attempts, the job begins anew.
        snoozes = case when reschedule_jobs.attempts is null then j.snoozes end,
        snoozing_since = case when reschedule_jobs.attempts is null then j.snoozing_since end,
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

revoke execute on all functions in schema @schema@ from public;
