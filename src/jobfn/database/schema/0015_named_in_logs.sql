-- What is unlocked because its worker died, and what a schedule enqueued, is told with all that a log line names a job
-- by. The ids come first, as before: `from take_back_jobs(...) as taken (id)` means the same as ever.

drop function @schema@.bury_expired_jobs(interval);

create function @schema@.bury_expired_jobs(job_expiry interval)
    returns table (id bigint, task_identifier text, attempts int, locked_by text, database_id uuid)
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with dead as materialized (
        select j.*, format('the worker %s died, or lost its lease, in the last attempt', j.locked_by) as reason
        from @schema@.jobs j
        where j.exhausted
            and j.locked_at is not null
            and coalesce(j.lease_expires_at < now(), j.locked_at < now() - job_expiry)
        order by j.id
        for update
    ),
    noted as (
        insert into @schema@.job_runs
        select dead.id, dead.attempts, dead.task_identifier, dead.queue_name, dead.database_id, dead.locked_by,
            dead.created_at, dead.run_at, dead.locked_at, now(), 'lost', dead.reason
        from dead
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = dead.reason,
        outlived_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from dead
    where j.id = dead.id
    returning dead.id, dead.task_identifier, dead.attempts, dead.locked_by, dead.database_id
$$;

comment on function @schema@.bury_expired_jobs(interval) is
    'Unlock jobs whose last attempt nobody will end any more; they have failed for good. Returns them as they were held.';

drop function @schema@.take_back_jobs(text);

create function @schema@.take_back_jobs(worker_id text)
    returns table (id bigint, task_identifier text, attempts int, locked_by text, database_id uuid)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    -- The attempts count: functions may still be at work on these jobs, and their reports are told from those of the
    -- next deliveries by the attempt.
    return query
    with held as materialized (
        select j.*
        from @schema@.jobs j
        where j.locked_by = worker_id
            and not coalesce(j.accepted_attempt = j.attempts and j.lease_expires_at >= now(), false)
        order by j.id
        for update
    ),
    noted as (
        insert into @schema@.job_runs
        select held.id, held.attempts, held.task_identifier, held.queue_name, held.database_id, held.locked_by,
            held.created_at, held.run_at, held.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', held.locked_by)
        from held
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = case
            when j.exhausted then format('the worker %s died, or lost its lease, in the last attempt', worker_id)
            else j.last_error
        end,
        outlived_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from held
    where j.id = held.id
    returning held.id, held.task_identifier, held.attempts, held.locked_by, held.database_id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l -- what is left: held by hand, or by a job that is left alone
    where l.locked_by = worker_id
        and not exists (select from @schema@.jobs j where j.id = l.job_id and j.locked_by = worker_id);
end
$$;

comment on function @schema@.take_back_jobs(text) is
    'Unlock all that this worker held when it died, as if its leases had ended. Returns them as they were held.';

alter function
    @schema@.advance_schedule(bigint, boolean, boolean, timestamptz, timestamptz, bigint, timestamptz, text)
    rename to take_schedule_step;

comment on function
    @schema@.take_schedule_step(bigint, boolean, boolean, timestamptz, timestamptz, bigint, timestamptz, text) is
    'Enqueue a schedule''s job if its time has come, and move on to the next due time. A part of advance_schedule.';

create function @schema@.advance_schedule(
    schedule_id bigint,
    enqueues boolean,
    waits boolean,
    due timestamptz,
    next_due timestamptz,
    let_go bigint,
    last_let_go timestamptz,
    problem text
) returns table (outcome text, job_id bigint, error text, database_id uuid)
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select step.outcome, step.job_id, step.error, s.database_id
    from @schema@.take_schedule_step(schedule_id, enqueues, waits, due, next_due, let_go, last_let_go, problem) as step
    left join @schema@.scheduled_jobs s on s.id = schedule_id
$$;

comment on function
    @schema@.advance_schedule(bigint, boolean, boolean, timestamptz, timestamptz, bigint, timestamptz, text) is
    'For schedulers: enqueue a schedule''s job if its time has come, and move on to the next due time. Returns what came '
    'of it, and the tenant.';

revoke execute on all functions in schema @schema@ from public;
