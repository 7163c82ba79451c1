-- A 429 or 503 response with Retry-After pauses limits, as RetryLater does.

drop function @schema@.pause_limits_of_jobs(bigint[]);

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
$$;

create function @schema@.pause_limits_of_job(worker_id text, job_id bigint, job_attempt int, retry_after interval)
    returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
begin
    return exists (select from @schema@.limits l where l.pauses_on_retry_later)
        and exists (
            select from @schema@.jobs j
            where j.id = pause_limits_of_job.job_id
                and j.locked_by = pause_limits_of_job.worker_id
                and j.attempts = job_attempt
        )
        and @schema@.pause_limits_of_jobs(array[pause_limits_of_job.job_id], now() + retry_after);
end
$$;

comment on function @schema@.pause_limits_of_job(text, bigint, int, interval) is
    'Pause the keys of a running job whose function has responded with Retry-After, of limits that pause for it. '
    'Returns whether there is one.';

comment on column @schema@.limits.pauses_on_retry_later is
    'Whether a RetryLater of one job, or a response with Retry-After, pauses the jobs of its key in all workers.';

revoke execute on function
    @schema@.pause_limits_of_jobs(bigint[], timestamptz),
    @schema@.pause_limits_of_job(text, bigint, int, interval)
    from public;

select @schema@.grant_like('renew_leases', '{pause_limits_of_job}');
