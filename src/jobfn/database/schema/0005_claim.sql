-- Claiming: claim_jobs for a batch; get_job of the contract is the same for one job.
--
-- A claim never waits for another session: it skips locked rows and queues. Planner settings force index scans in index
-- order, because a plan that was made while the table was small is kept when a million jobs have arrived.
--
-- An expired lock is one whose lease has ended, or, without a lease, one that is older than expired_before.

create function @schema@.ready_jobs_of_any_task(
    task_identifiers text[], exclude_tasks text[], expired_before timestamptz, max_jobs int
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := '{}';
    v_priority bigint := -2147483649; -- below the lowest int
begin
    -- One priority after the other: within one, the delayed jobs are at the end of the index range and are not read.
    for v_step in 1..16 loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is null and not j.exhausted and j.priority > v_priority
        order by j.priority
        limit 1;
        if not found then
            return v_ids;
        end if;
        v_ids := v_ids || array(
            select j.id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = v_priority
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

comment on function @schema@.ready_jobs_of_any_task(text[], text[], timestamptz, int) is
    'The most urgent ready jobs without a queue, read in the order of all tasks. Part of ready_jobs.';

create function @schema@.ready_jobs_of_task(task text, expired_before timestamptz, max_jobs int) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_task_ready_idx
    v_ids bigint[] := '{}';
    v_priority bigint := -2147483649; -- below the lowest int
begin
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
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
        v_ids := v_ids || array(
            select j.id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = v_priority
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

comment on function @schema@.ready_jobs_of_task(text, timestamptz, int) is
    'The most urgent ready jobs of one task without a queue. Part of ready_jobs.';

-- Skips from task to task with one index lookup each, in the order of jobs_task_ready_idx.
create function @schema@.ready_task_identifiers(max_tasks int) returns text[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive task (name, hash) as (
        (
            select j.task_identifier, hashtextextended(j.task_identifier, 0)
            from @schema@.jobs j
            where j.queue_name is null and not j.exhausted
            order by hashtextextended(j.task_identifier, 0)
            limit 1
        )
        union all
        select following.task_identifier, following.hash
        from task
        cross join lateral (
            select j.task_identifier, hashtextextended(j.task_identifier, 0) as hash
            from @schema@.jobs j
            where j.queue_name is null and not j.exhausted and hashtextextended(j.task_identifier, 0) > task.hash
            order by hashtextextended(j.task_identifier, 0)
            limit 1
        ) following
    )
    select array(select task.name from task limit max_tasks)
$$;

comment on function @schema@.ready_task_identifiers(int) is
    'Up to max_tasks tasks that have jobs without a queue and with attempts left. Part of ready_jobs.';

create function @schema@.ready_jobs(
    task_identifiers text[], exclude_tasks text[], expired_before timestamptz, max_jobs int
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
        return @schema@.ready_jobs_of_any_task(task_identifiers, exclude_tasks, expired_before, max_jobs);
    end if;
    foreach v_task in array v_tasks loop
        if v_task <> all (exclude_tasks) then
            v_ids := v_ids || @schema@.ready_jobs_of_task(v_task, expired_before, max_jobs);
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

comment on function @schema@.ready_jobs(text[], text[], timestamptz, int) is
    'The most urgent ready jobs without a queue, rows locked until the transaction ends. Part of claim_jobs.';

create function @schema@.is_queue_locked(name text, expired_before timestamptz) returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from @schema@.queue_locks l
        where l.queue_name = name and not coalesce(l.lease_expires_at < now(), l.locked_at < expired_before)
    );
end
$$;

comment on function @schema@.is_queue_locked(text, timestamptz) is
    'Whether a queue has a lock that has not expired. Part of claim_jobs.';

create function @schema@.try_lock_queue(name text) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The oid of the row type keeps the queues of two jobs schemas apart.
    return pg_try_advisory_xact_lock(hashtextextended(name, pg_typeof(null::@schema@.jobs)::oid::bigint));
end
$$;

comment on function @schema@.try_lock_queue(text) is
    'Lock a queue for claims of this transaction only; false if another transaction has it. Part of claim_jobs.';

create function @schema@.ready_queues(
    task_identifiers text[], exclude_tasks text[], expired_before timestamptz, max_queues int
) returns text[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_window constant int := 64 + 4 * max_queues;
    v_candidates text[] := '{}'; -- the queues of the most urgent jobs, with repetitions
    v_priority bigint := -2147483649;
    v_names text[];
begin
    -- First try the queues of the most urgent jobs. That is enough if many queues have a few jobs each.
    for v_step in 1..16 loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is not null and not j.exhausted and j.priority > v_priority
        order by j.priority
        limit 1;
        exit when not found;
        v_candidates := v_candidates || array(
            select j.queue_name
            from @schema@.jobs j
            where j.queue_name is not null
                and not j.exhausted
                and j.priority = v_priority
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.run_at, j.id
            limit v_window - cardinality(v_candidates)
        );
        exit when cardinality(v_candidates) >= v_window;
    end loop;
    v_names := array(
        select urgent.name
        from (
            select candidate.name
            from unnest(v_candidates) with ordinality as candidate (name, position)
            group by candidate.name
            order by min(candidate.position)
            offset 0 -- keeps the order: try_lock_queue is called for the most urgent queue first
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, expired_before) and @schema@.try_lock_queue(urgent.name)
        limit max_queues
    );
    if v_priority is null or cardinality(v_names) >= max_queues then -- null: all priorities were read
        return v_names;
    end if;

    -- A few long queues filled the window. Skip from queue to queue and read the head of each.
    return array(
        with recursive queue (name) as (
            (
                select j.queue_name
                from @schema@.jobs j
                where j.queue_name is not null and not j.exhausted
                order by j.queue_name
                limit 1
            )
            union all
            select following.queue_name
            from queue
            cross join lateral (
                select j.queue_name
                from @schema@.jobs j
                where j.queue_name > queue.name and j.queue_name is not null and not j.exhausted
                order by j.queue_name
                limit 1
            ) following
        )
        select urgent.name
        from (
            select queue.name
            from queue
            cross join lateral (
                select j.priority, j.run_at, j.id
                from @schema@.jobs j
                where j.queue_name = queue.name
                    and not j.exhausted
                    and j.run_at <= now()
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, expired_before) and @schema@.try_lock_queue(urgent.name)
        limit max_queues
    );
end
$$;

comment on function @schema@.ready_queues(text[], text[], timestamptz, int) is
    'The unlocked queues with the most urgent ready jobs, locked until the transaction ends. Part of claim_jobs.';

create function @schema@.ready_queue_heads(
    queue_names text[], task_identifiers text[], exclude_tasks text[], expired_before timestamptz
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The transaction has the advisory lock of each queue. This statement has a newer snapshot than ready_queues, so it
    -- sees the true head, and whether the queue was claimed before the advisory lock was taken. If another session is
    -- changing the head now, the queue is skipped: its second job must not overtake.
    return array(
        select locked.id
        from unnest(queue_names) as queue (name)
        cross join lateral (
            select j.id
            from @schema@.jobs j
            where j.queue_name = queue.name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.priority, j.run_at, j.id
            limit 1
        ) head
        cross join lateral (
            select j.id
            from @schema@.jobs j
            where j.id = head.id
                and j.queue_name = queue.name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            for update skip locked
        ) locked
        where not @schema@.is_queue_locked(queue.name, expired_before)
    );
end
$$;

comment on function @schema@.ready_queue_heads(text[], text[], text[], timestamptz) is
    'The first ready job of each queue, with its row locked until the transaction ends. Part of claim_jobs.';

create function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}'
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
    v_ids := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, max_jobs);
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

comment on function @schema@.claim_jobs(text, text[], interval, int, interval, text[]) is
    'Lock up to max_jobs ready jobs for a worker, most urgent first, at most one of each queue. A lease limits the '
    'lock, and renew_leases extends it. Without a lease, the lock expires after the job_expiry of a later claim.';

create function @schema@.get_job(
    worker_id text,
    task_identifiers text[] default null,
    job_expiry interval default '4 hours'
) returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select * into v_job from @schema@.claim_jobs(worker_id, task_identifiers, job_expiry, 1);
    return v_job;
end
$$;

comment on function @schema@.get_job(text, text[], interval) is
    'Lock the next ready job for a worker; all null if there is none.';

-- Reads the indexes of claims, one priority after the other. An index on run_at would cost each insert, claim and
-- vacuum.
create function @schema@.next_run_at(lookback interval) returns timestamptz
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_next timestamptz;
    v_next_of_priority timestamptz;
    v_priority bigint := -2147483649; -- below the lowest int
begin
    loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is null and not j.exhausted and j.priority > v_priority
        order by j.priority
        limit 1;
        exit when not found;
        select j.run_at into v_next_of_priority
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - lookback
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_next := least(v_next, v_next_of_priority); -- least ignores nulls
    end loop;

    v_priority := -2147483649;
    loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is not null and not j.exhausted and j.priority > v_priority
        order by j.priority
        limit 1;
        exit when not found;
        select j.run_at into v_next_of_priority
        from @schema@.jobs j
        where j.queue_name is not null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - lookback
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_next := least(v_next, v_next_of_priority);
    end loop;
    return v_next;
end
$$;

comment on function @schema@.next_run_at(interval) is
    'The earliest run_at of an unlocked job that is later than now() - lookback; null if there is none.';

revoke execute on all functions in schema @schema@ from public;
