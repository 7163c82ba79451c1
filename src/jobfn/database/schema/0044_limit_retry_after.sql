-- A function asks for patience with 429 or 503 and Retry-After, which pauses limits as RetryLater does.

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

do $$
declare
    v_schema constant oid := (
        select c.relnamespace from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)
    );
    v_function constant regprocedure := (
        select p.oid from pg_catalog.pg_proc p where p.proname = 'pause_limits_of_job' and p.pronamespace = v_schema
    );
    v_role text;
begin
    for v_role in
        select distinct quote_ident(pg_get_userbyid(granted.grantee))
        from pg_catalog.pg_proc old
        cross join lateral aclexplode(old.proacl) as granted
        where old.proname = 'renew_leases' and old.pronamespace = v_schema and granted.grantee not in (0, old.proowner)
    loop
        execute format('grant execute on function %s to %s', v_function, v_role);
    end loop;
end
$$;
