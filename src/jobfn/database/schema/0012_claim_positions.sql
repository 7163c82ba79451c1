-- Claims that start after the jobs that have ended, and that find their rows by place instead of by id.
--
-- While a transaction stays open, vacuum cannot remove the index entries of the jobs that end, and each claim would read
-- all of them before the first job that waits. So a claim that has read many records where it stopped, for all workers
-- and for jobs with and without a queue, and claims start there for a while. A job with an earlier place that is added
-- or unlocked in the meantime is found by the next claim that starts at the beginning.

create unlogged table @schema@.claim_positions (
    id bigint generated always as identity primary key,
    claims bigint not null, -- for which claims: a hash of their tasks
    -- The last place in the order of claims before which no job without a queue waits.
    priority int not null,
    run_at timestamptz not null,
    job_id bigint not null,
    -- The same for jobs with a queue.
    queued_priority int not null,
    queued_run_at timestamptz not null,
    queued_job_id bigint not null,
    valid_until timestamptz not null -- after that, a claim starts at the beginning
);

comment on table @schema@.claim_positions is
    'Where claims start while ended jobs cannot be vacuumed. The latest row counts. Rows are not updated, because their '
    'old versions cannot be vacuumed either.';

create index claim_positions_claims_idx on @schema@.claim_positions (claims, id);

drop function
    @schema@.ready_jobs(text[], text[], timestamptz, int, int, timestamptz, bigint),
    @schema@.ready_jobs_of_any_task(text[], text[], timestamptz, int, int, timestamptz, bigint),
    @schema@.ready_jobs_of_task(text, timestamptz, int, int, timestamptz, bigint),
    @schema@.ready_task_identifiers(int),
    @schema@.ready_queues(text[], text[], timestamptz, int),
    @schema@.ready_queue_heads(text[], text[], text[], timestamptz);

create function @schema@.ready_jobs_of_any_task(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    -- One priority after the other: within one, the delayed jobs are at the end of the index range and are not read.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_rows)
            for update skip locked
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity'; -- on to the next priority
        v_id := 9223372036854775807;
    end loop;
    -- With more than 16 priorities, reading past the delayed jobs is cheaper than one query for each priority.
    return v_rows || array(
        select j.ctid
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            and j.task_identifier <> all (exclude_tasks)
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_any_task(text[], text[], timestamptz, int, @schema@.claim_positions) is
    'The most urgent ready jobs without a queue, read in the order of all tasks. Part of ready_jobs.';

create function @schema@.ready_jobs_of_task(
    task text, expired_before timestamptz, max_jobs int, start @schema@.claim_positions
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_task_ready_idx
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_rows)
            for update skip locked
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    return v_rows || array(
        select j.ctid
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_task(text, timestamptz, int, @schema@.claim_positions) is
    'The most urgent ready jobs of one task without a queue. Part of ready_jobs.';

-- Skips from task to task with one index lookup each, in the order of jobs_task_ready_idx.
create function @schema@.ready_task_identifiers(max_tasks int, start @schema@.claim_positions) returns text[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive task (name, hash) as (
        (
            select j.task_identifier, hashtextextended(j.task_identifier, 0)
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
            order by hashtextextended(j.task_identifier, 0)
            limit 1
        )
        union all
        select following.task_identifier, following.hash
        from task
        cross join lateral (
            select j.task_identifier, hashtextextended(j.task_identifier, 0) as hash
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and hashtextextended(j.task_identifier, 0) > task.hash
                and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
            order by hashtextextended(j.task_identifier, 0)
            limit 1
        ) following
    )
    select array(select task.name from task limit max_tasks)
$$;

comment on function @schema@.ready_task_identifiers(int, @schema@.claim_positions) is
    'Up to max_tasks tasks that have jobs without a queue and with attempts left. Part of ready_jobs.';

create function @schema@.ready_jobs(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_max_tasks constant int := 100; -- with more, one scan over all tasks is cheaper than one for each
    v_tasks text[];
    v_task text;
    v_rows tid[] := '{}';
begin
    if task_identifiers is not null then
        v_tasks := array(select distinct wanted.task from unnest(task_identifiers) as wanted (task));
    elsif cardinality(exclude_tasks) > 0 then
        v_tasks := @schema@.ready_task_identifiers(v_max_tasks + 1, start);
    end if;
    if v_tasks is null or cardinality(v_tasks) > v_max_tasks then
        return @schema@.ready_jobs_of_any_task(task_identifiers, exclude_tasks, expired_before, max_jobs, start);
    end if;
    foreach v_task in array v_tasks loop
        if v_task <> all (exclude_tasks) then
            v_rows := v_rows || @schema@.ready_jobs_of_task(v_task, expired_before, max_jobs, start);
        end if;
    end loop;
    if cardinality(v_rows) <= max_jobs then
        return v_rows;
    end if;
    return array(
        select j.ctid from @schema@.jobs j where j.ctid = any (v_rows) order by j.priority, j.run_at, j.id limit max_jobs
    );
end
$$;

comment on function @schema@.ready_jobs(text[], text[], timestamptz, int, @schema@.claim_positions) is
    'The most urgent ready jobs without a queue, rows locked until the transaction ends. Part of claim_jobs.';

create function @schema@.ready_queues(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_queues int,
    start @schema@.claim_positions
) returns text[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_window constant int := 64 + 4 * max_queues;
    v_candidates text[] := '{}'; -- the queues of the most urgent jobs, with repetitions
    v_priority int := start.queued_priority;
    v_run_at timestamptz := start.queued_run_at;
    v_id bigint := start.queued_job_id;
    v_names text[];
begin
    -- First try the queues of the most urgent jobs. That is enough if many queues have a few jobs each.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from @schema@.jobs j
        where j.queue_name is not null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        exit when not found;
        v_candidates := v_candidates || array(
            select j.queue_name
            from @schema@.jobs j
            where j.queue_name is not null
                and not j.exhausted
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.run_at, j.id
            limit v_window - cardinality(v_candidates)
        );
        exit when cardinality(v_candidates) >= v_window;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
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
                where j.queue_name is not null
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                order by j.queue_name
                limit 1
            )
            union all
            select following.queue_name
            from queue
            cross join lateral (
                select j.queue_name
                from @schema@.jobs j
                where j.queue_name > queue.name
                    and j.queue_name is not null
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
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
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
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

comment on function @schema@.ready_queues(text[], text[], timestamptz, int, @schema@.claim_positions) is
    'The unlocked queues with the most urgent ready jobs, locked until the transaction ends. Part of claim_jobs.';

create function @schema@.ready_queue_heads(
    queue_names text[],
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    start @schema@.claim_positions
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The transaction has the advisory lock of each queue. This statement has a newer snapshot than ready_queues, so it
    -- sees the true head, and whether the queue was claimed before the advisory lock was taken. If another session is
    -- changing the head now, the queue is skipped: its second job must not overtake.
    return array(
        select locked.place
        from unnest(queue_names) as queue (name)
        cross join lateral (
            select j.id
            from @schema@.jobs j
            where j.queue_name = queue.name
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.priority, j.run_at, j.id
            limit 1
        ) head
        cross join lateral (
            select j.ctid as place
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

comment on function
    @schema@.ready_queue_heads(text[], text[], text[], timestamptz, @schema@.claim_positions) is
    'The first ready job of each queue, with its row locked until the transaction ends. Part of claim_jobs.';

create function @schema@.claim_entries_read() returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_stat_get_xact_tuples_returned('@schema@.jobs_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_task_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_queued_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_queue_name_ready_idx'::regclass);
end
$$;

comment on function @schema@.claim_entries_read() is
    'How many entries this session has read from the indexes of claims; 0 if track_counts is off. Part of claim_jobs.';

create function @schema@.record_claim_position(
    start @schema@.claim_positions, -- where the claim started; without an id: at the beginning
    known @schema@.claim_positions, -- the latest position; null: there is none
    claimed tid[],
    is_waiting boolean, -- whether the claim found jobs without a queue
    entries_read bigint
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    -- Jobs with an earlier run_at may be committed later.
    v_latest constant timestamptz := now() - interval '100 milliseconds';
    v_next @schema@.claim_positions := case when known.id is not null then known else start end;
    v_place record;
begin
    if start.id is null then
        delete from @schema@.claim_positions p
        where p.claims = start.claims or p.valid_until < clock_timestamp() - interval '1 minute';
        if entries_read < 10000 then
            return;
        end if;
        -- Reading takes a second for some five million entries: a tenth of the time.
        v_next.valid_until := clock_timestamp() + greatest(entries_read / 500000.0, 0.1) * interval '1 second';
    elsif entries_read < 1000 then
        return;
    end if;

    select j.priority, j.run_at, j.id into v_place
    from @schema@.jobs j
    where j.ctid = any (claimed) and j.queue_name is null
    order by j.priority desc, j.run_at desc, j.id desc
    limit 1;
    if found or not is_waiting then
        v_next.priority := coalesce(v_place.priority, nullif(v_next.priority, -2147483648), 0);
        v_next.run_at := least(v_place.run_at, v_latest);
        v_next.job_id := case when v_place.run_at = v_next.run_at then v_place.id else -1 end;
    end if;

    -- The first waiting job, because its queue may be locked until later.
    select j.priority, j.run_at, j.id into v_place
    from @schema@.jobs j
    where j.queue_name is not null
        and not j.exhausted
        and (j.priority, j.run_at, j.id) > (start.queued_priority, start.queued_run_at, start.queued_job_id)
        and j.run_at <= now()
        and j.locked_at is null
    order by j.priority, j.run_at, j.id
    limit 1;
    v_next.queued_priority := coalesce(v_place.priority, nullif(v_next.queued_priority, -2147483648), 0);
    v_next.queued_run_at := least(v_place.run_at, v_latest);
    v_next.queued_job_id := case when v_place.run_at = v_next.queued_run_at then v_place.id - 1 else -1 end;

    insert into @schema@.claim_positions (
        claims, priority, run_at, job_id, queued_priority, queued_run_at, queued_job_id, valid_until
    ) values (
        v_next.claims, v_next.priority, v_next.run_at, v_next.job_id, v_next.queued_priority, v_next.queued_run_at,
        v_next.queued_job_id, v_next.valid_until
    );
end
$$;

comment on function
    @schema@.record_claim_position(@schema@.claim_positions, @schema@.claim_positions, tid[], boolean, bigint) is
    'Record where the next claims start, if this one has read many entries that led to no job. Part of claim_jobs.';

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
    v_claims constant bigint := hashtextextended(row(task_identifiers, exclude_tasks)::text, 0);
    v_entries_read constant bigint := @schema@.claim_entries_read();
    v_known @schema@.claim_positions;
    v_start @schema@.claim_positions;
    v_rows tid[]; -- rows keep their place while they are locked
    v_is_waiting boolean;
    v_queues text[];
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    select p.* into v_known from @schema@.claim_positions p where p.claims = v_claims order by p.id desc limit 1;
    if v_known.valid_until > clock_timestamp() then
        v_start := v_known;
    else
        v_start := row(null, v_claims, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null);
    end if;
    v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_start);
    v_is_waiting := cardinality(v_rows) > 0;
    v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_start);
    if cardinality(v_queues) > 0 then
        v_rows := v_rows
            || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
    end if;
    if cardinality(v_rows) > max_jobs then
        v_rows := array(
            select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
            order by j.priority, j.run_at, j.id
            limit max_jobs
        );
    end if;
    if v_known.id is not null or @schema@.claim_entries_read() - v_entries_read > 10000 then
        perform @schema@.record_claim_position(
            v_start, v_known, v_rows, v_is_waiting, @schema@.claim_entries_read() - v_entries_read - 5 * max_jobs
        );
    end if;
    if cardinality(v_rows) = 0 then
        return;
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

comment on function @schema@.claim_jobs(text, text[], interval, int, interval, text[]) is
    'Lock up to max_jobs ready jobs for a worker, most urgent first, at most one of each queue. A lease limits the '
    'lock, and renew_leases extends it. Without a lease, the lock expires after the job_expiry of a later claim.';

-- The roles that may call the old function may call the new one.
do $$
declare
    v_jobs constant oid := pg_typeof(null::@schema@.jobs);
    v_role text;
begin
    for v_role in
        select quote_ident(pg_get_userbyid(granted.grantee))
        from pg_proc p
        cross join lateral aclexplode(p.proacl) as granted
        where p.proname = 'claim_jobs'
            and p.prorettype = v_jobs
            and p.pronargs = 9
            and granted.grantee not in (0, p.proowner)
    loop
        execute format(
            'grant execute on function %s to %s',
            (
                select p.oid::regprocedure from pg_proc p
                where p.proname = 'claim_jobs' and p.prorettype = v_jobs and p.pronargs = 6
            ),
            v_role
        );
    end loop;
end
$$;

drop function @schema@.claim_jobs(text, text[], interval, int, interval, text[], int, timestamptz, bigint);

create or replace function @schema@.next_run_at(lookback interval) returns timestamptz
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
    v_found int;
    v_priority bigint;
    v_limit bigint;
    -- Priorities with many ended jobs, between which others are looked for.
    v_ended int;
    v_queued_ended int;
begin
    select p.priority, p.queued_priority, case when p.valid_until > now() then p.valid_until end
    into v_ended, v_queued_ended, v_next
    from @schema@.claim_positions p
    order by p.id desc
    limit 1;

    v_priority := -2147483649; -- below the lowest int
    loop
        v_limit := case when v_ended > v_priority then v_ended else 2147483648 end;
        select j.priority into v_found
        from @schema@.jobs j
        where j.queue_name is null and not j.exhausted and j.priority > v_priority and j.priority < v_limit
        order by j.priority
        limit 1;
        exit when v_found is null and v_limit = 2147483648;
        v_priority := coalesce(v_found, v_limit);
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

    v_priority := -2147483649; -- below the lowest int
    loop
        v_limit := case when v_queued_ended > v_priority then v_queued_ended else 2147483648 end;
        select j.priority into v_found
        from @schema@.jobs j
        where j.queue_name is not null and not j.exhausted and j.priority > v_priority and j.priority < v_limit
        order by j.priority
        limit 1;
        exit when v_found is null and v_limit = 2147483648;
        v_priority := coalesce(v_found, v_limit);
        select j.run_at into v_next_of_priority
        from @schema@.jobs j
        where j.queue_name is not null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - lookback
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_next := least(v_next, v_next_of_priority); -- least ignores nulls
    end loop;
    return v_next;
end
$$;

comment on function @schema@.next_run_at(interval) is
    'The earliest run_at of an unlocked job that is later than now() - lookback, or the time when a claim starts at the '
    'beginning if that is earlier; null if there is none.';

revoke execute on all functions in schema @schema@ from public;
