-- A 429 or 503 response with Retry-After pauses limits, as RetryLater does.

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

revoke execute on function @schema@.pause_limits_of_job(text, bigint, int, interval) from public;

select @schema@.grant_like('renew_leases', '{pause_limits_of_job}');
