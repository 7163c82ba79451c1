-- A RetryLater of one job can pause all jobs of the same key of a limit.

-- Without a time: until the jobs are due. Returns whether a limit pauses.
create function @schema@.pause_limits_of_jobs(job_ids bigint[], paused_until timestamptz default null) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set jit = off
as $$
begin
    perform @schema@.lock_limits(); -- a claim changes these rows in another order
    insert into @schema@.limit_keys as k (limit_name, key, paused_until)
    select l.name, found.key, max(coalesce(pause_limits_of_jobs.paused_until, j.run_at))
    from @schema@.jobs j
    join @schema@.limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
        and (l.queue_name is null or l.queue_name = j.queue_name)
    cross join lateral @schema@.limit_key(
        l.per, j.database_id, j.queue_name, j.key, j.task_identifier, j.payload
    ) found (key)
    where j.id = any (job_ids)
        and coalesce(pause_limits_of_jobs.paused_until, j.run_at) > now()
        and l.pauses_on_retry_later
    group by l.name, found.key
    on conflict (limit_name, key) do update
    set paused_until = greatest(k.paused_until, excluded.paused_until);
    return found;
end
$$;-- A RetryLater of one job can pause all jobs of the same key of a limit.

create or replace function @schema@.snooze_jobs(
    worker_ids text[], job_ids bigint[], job_attempts int[], reasons text[], delays interval[], max_ages interval[]
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_snooze record;
    v_ended record;
    v_job @schema@.job_row;
    v_history_enabled boolean := @schema@.history_enabled();
    v_pauses_limits constant boolean := exists (select from @schema@.limits l where l.pauses_on_retry_later);
    v_snoozed bigint[] := '{}';
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
        returning @schema@.to_job_row(j) as job, before.attempts as attempt, before.run_at as due_at,
            before.locked_at as started_at,
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
        if v_pauses_limits and v_ended.is_allowed then
            v_snoozed := v_snoozed || v_job.id;
        end if;
        return next v_job;
    end loop;
    if found then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
    if cardinality(v_snoozed) > 0 then
        perform @schema@.pause_limits_of_jobs(v_snoozed);
    end if;
end
$$;

revoke execute on function @schema@.pause_limits_of_jobs(bigint[], timestamptz) from public;
