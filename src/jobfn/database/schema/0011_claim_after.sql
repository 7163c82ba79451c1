-- Claims that start after a job. Without it, each claim reads past the index entries of the jobs that are running and of
-- those that have ended since the last vacuum, which are very many while a long transaction holds vacuum back.

drop function @schema@.ready_jobs(text[], text[], timestamptz, int);
drop function @schema@.ready_jobs_of_any_task(text[], text[], timestamptz, int);
drop function @schema@.ready_jobs_of_task(text, timestamptz, int);

create function @schema@.ready_jobs_of_any_task(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_jobs int,
    after_priority int,
    after_run_at timestamptz,
    after_id bigint
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := '{}';
    v_priority bigint := coalesce(after_priority, -2147483649); -- below the lowest int
    v_run_at timestamptz := coalesce(after_run_at, '-infinity');
    v_id bigint := coalesce(after_id, 0);
begin
    -- One priority after the other: within one, the delayed jobs are at the end of the index range and are not read.
    for v_step in 1..16 loop
        if v_step > 1 or after_priority is null then
            select j.priority into v_priority
            from @schema@.jobs j
            where j.queue_name is null and not j.exhausted and j.priority > v_priority
            order by j.priority
            limit 1;
            if not found then
                return v_ids;
            end if;
            v_run_at := '-infinity';
            v_id := 0;
        end if;
        v_ids := v_ids || array(
            select j.id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = v_priority
                and (j.run_at, j.id) > (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_ids)
            for update skip locked
        );
        if cardinality(v_ids) >= max_jobs then
            return v_ids;
        end if;
    end loop;
    -- With more than 16 priorities, reading past the delayed jobs is cheaper than one query for each priority.
    return v_ids || array(
        select j.id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            and j.task_identifier <> all (exclude_tasks)
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_ids)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_any_task(text[], text[], timestamptz, int, int, timestamptz, bigint) is
    'The most urgent ready jobs without a queue, read in the order of all tasks. Part of ready_jobs.';

create function @schema@.ready_jobs_of_task(
    task text,
    expired_before timestamptz,
    max_jobs int,
    after_priority int,
    after_run_at timestamptz,
    after_id bigint
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_task_ready_idx
    v_ids bigint[] := '{}';
    v_priority bigint := coalesce(after_priority, -2147483649); -- below the lowest int
    v_run_at timestamptz := coalesce(after_run_at, '-infinity');
    v_id bigint := coalesce(after_id, 0);
begin
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        if v_step > 1 or after_priority is null then
            select j.priority into v_priority
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority > v_priority
            order by j.priority
            limit 1;
            if not found then
                return v_ids;
            end if;
            v_run_at := '-infinity';
            v_id := 0;
        end if;
        v_ids := v_ids || array(
            select j.id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = v_priority
                and (j.run_at, j.id) > (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_ids)
            for update skip locked
        );
        if cardinality(v_ids) >= max_jobs then
            return v_ids;
        end if;
    end loop;
    return v_ids || array(
        select j.id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_ids)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_task(text, timestamptz, int, int, timestamptz, bigint) is
    'The most urgent ready jobs of one task without a queue. Part of ready_jobs.';

create function @schema@.ready_jobs(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_jobs int,
    after_priority int,
    after_run_at timestamptz,
    after_id bigint
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_max_tasks constant int := 100; -- with more, one scan over all tasks is cheaper than one for each
    v_tasks text[];
    v_task text;
    v_ids bigint[] := '{}';
begin
    if task_identifiers is not null then
        v_tasks := array(select distinct wanted.task from unnest(task_identifiers) as wanted (task));
    elsif cardinality(exclude_tasks) > 0 then
        v_tasks := @schema@.ready_task_identifiers(v_max_tasks + 1);
    end if;
    if v_tasks is null or cardinality(v_tasks) > v_max_tasks then
        return @schema@.ready_jobs_of_any_task(
            task_identifiers, exclude_tasks, expired_before, max_jobs, after_priority, after_run_at, after_id
        );
    end if;
    foreach v_task in array v_tasks loop
        if v_task <> all (exclude_tasks) then
            v_ids := v_ids || @schema@.ready_jobs_of_task(
                v_task, expired_before, max_jobs, after_priority, after_run_at, after_id
            );
        end if;
    end loop;
    if cardinality(v_ids) <= max_jobs then
        return v_ids;
    end if;
    return array(
        select j.id from @schema@.jobs j where j.id = any (v_ids) order by j.priority, j.run_at, j.id limit max_jobs
    );
end
$$;

comment on function @schema@.ready_jobs(text[], text[], timestamptz, int, int, timestamptz, bigint) is
    'The most urgent ready jobs without a queue, rows locked until the transaction ends. Part of claim_jobs.';

create function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}',
    after_priority int default null,
    after_run_at timestamptz default null,
    after_id bigint default null
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off -- disabled scans have an enormous cost, for which PostgreSQL would compile each call
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_ids bigint[];
    v_queues text[];
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    v_ids := @schema@.ready_jobs(
        task_identifiers, exclude_tasks, v_expired_before, max_jobs, after_priority, after_run_at, after_id
    );
    v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, max_jobs);
    if cardinality(v_queues) > 0 then
        v_ids := v_ids || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before);
    end if;
    if cardinality(v_ids) = 0 then
        return;
    end if;
    if cardinality(v_ids) > max_jobs then
        v_ids := array(
            select j.id from @schema@.jobs j where j.id = any (v_ids) order by j.priority, j.run_at, j.id limit max_jobs
        );
    end if;
    return query
    with claimed as (
        update @schema@.jobs j
        set attempts = j.attempts + 1,
            locked_by = claim_jobs.worker_id,
            locked_at = now(),
            lease_expires_at = now() + lease,
            progress = null,
            progress_message = null,
            updated_at = now()
        where j.id = any (v_ids)
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

comment on function @schema@.claim_jobs(
    text, text[], interval, int, interval, text[], int, timestamptz, bigint
) is
    'Lock up to max_jobs ready jobs for a worker, most urgent first, at most one of each queue. A lease limits the '
    'lock, and renew_leases extends it. Without a lease, the lock expires after the job_expiry of a later claim. With '
    'the priority, run_at and id of a job, only jobs after it are locked, of those without a queue.';

-- The roles that may call the old function may call the new one.
do $$
declare
    v_jobs constant oid := pg_typeof(null::@schema@.jobs);
    v_new constant regprocedure := (
        select p.oid from pg_proc p where p.proname = 'claim_jobs' and p.prorettype = v_jobs and p.pronargs = 9
    );
    v_role text;
begin
    for v_role in
        select quote_ident(pg_get_userbyid(granted.grantee))
        from pg_proc p
        cross join lateral aclexplode(p.proacl) as granted
        where p.proname = 'claim_jobs'
            and p.prorettype = v_jobs
            and p.pronargs = 6
            and granted.grantee not in (0, p.proowner)
    loop
        execute format('grant execute on function %s to %s', v_new, v_role);
    end loop;
end
$$;

drop function @schema@.claim_jobs(text, text[], interval, int, interval, text[]);

revoke execute on all functions in schema @schema@ from public;
