-- Claims of a worker that is limited to queues (JOBS_QUEUES), in a function of their own, so that other claims cost the
-- same as before; and whether an attempt still has its lease.

create function @schema@.claim_jobs_of_queues(
    worker_id text,
    queue_names text[], -- '' stands for the jobs without a queue
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}'
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_beginning constant @schema@.claim_positions := row(
        null, 0, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null
    );
    v_rows tid[] := '{}'; -- as in claim_jobs
    v_queues text[];
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if '' = any (queue_names) then
        v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_beginning);
    end if;
    v_queues := array(
        select urgent.name
        from (
            select wanted.name
            from (select distinct given.name from unnest(queue_names) as given (name)) wanted
            cross join lateral (
                select j.priority, j.run_at, j.id
                from @schema@.jobs j
                where j.queue_name = wanted.name
                    and not j.exhausted
                    and j.run_at <= now()
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0 -- keeps the order, as in ready_queues
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, v_expired_before) and @schema@.try_lock_queue(urgent.name)
        limit max_jobs
    );
    if cardinality(v_queues) > 0 then
        v_rows := v_rows
            || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_beginning);
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    if cardinality(v_rows) > max_jobs then
        v_rows := array(
            select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
            order by j.priority, j.run_at, j.id
            limit max_jobs
        );
    end if;
    return query
    with claimed as (
        update @schema@.jobs j
        set attempts = j.attempts + 1,
            locked_by = claim_jobs_of_queues.worker_id,
            locked_at = now(),
            lease_expires_at = now() + lease,
            progress = null,
            progress_message = null,
            updated_at = now()
        where j.ctid = any (v_rows)
        returning j.*
    ),
    queues as (
        insert into @schema@.queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
        select claimed.queue_name, claimed.id, claimed.locked_by, claimed.locked_at, claimed.lease_expires_at
        from claimed
        where claimed.queue_name is not null
        on conflict (queue_name) do update
        set job_id = excluded.job_id,
            locked_by = excluded.locked_by,
            locked_at = excluded.locked_at,
            lease_expires_at = excluded.lease_expires_at
    )
    select claimed.* from claimed order by claimed.priority, claimed.run_at, claimed.id;
end
$$;

comment on function @schema@.claim_jobs_of_queues(text, text[], text[], interval, int, interval, text[]) is
    'As claim_jobs, for jobs of some queues only; the empty name stands for the jobs without a queue.';

create function @schema@.has_lease(worker_id text, job_id bigint, attempt int) returns boolean
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from @schema@.jobs j
        where j.id = has_lease.job_id
            and j.locked_by = has_lease.worker_id
            and j.attempts = has_lease.attempt
            and j.lease_expires_at >= now()
    )
$$;

comment on function @schema@.has_lease(text, bigint, int) is
    'Whether a worker has locked a job in an attempt, with a lease that has not ended.';

revoke execute on function
    @schema@.claim_jobs_of_queues(text, text[], text[], interval, int, interval, text[]),
    @schema@.has_lease(text, bigint, int)
    from public;

-- The roles that may claim jobs may call both.
do $$
declare
    v_namespace constant oid := (
        select c.relnamespace from pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)
    );
    v_function regprocedure;
    v_role text;
begin
    for v_function, v_role in
        select new.oid, quote_ident(pg_get_userbyid(granted.grantee))
        from pg_proc p
        cross join lateral aclexplode(p.proacl) as granted
        join pg_proc new
            on new.pronamespace = p.pronamespace and new.proname in ('claim_jobs_of_queues', 'has_lease')
        where p.proname = 'claim_jobs' and p.pronamespace = v_namespace and granted.grantee not in (0, p.proowner)
    loop
        execute format('grant execute on function %s to %s', v_function, v_role);
    end loop;
end
$$;
