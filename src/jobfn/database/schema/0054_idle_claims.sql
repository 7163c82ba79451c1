-- Most claims find nothing, and each statement of a function costs more than what it then reads: one statement looks for
-- limits, expired jobs and the known position, and where no job of a queue is ready, no statement locks queues.

create or replace function @schema@.ready_queues(
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
    v_has_pauses boolean := false;
    v_paused record;
    v_paused_tasks text[] := '{}';
    v_paused_tenants uuid[] := '{}';
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
        if v_step = 1 and exists (select from @schema@.pauses) then
            select * into v_paused from @schema@.paused_now();
            if v_paused.has_everything then
                return v_candidates;
            end if;
            v_has_pauses := true;
            v_paused_tasks := v_paused.tasks;
            v_paused_tenants := v_paused.tenants;
        end if;
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
                and j.task_identifier <> all (v_paused_tasks)
                and (j.database_id is null or j.database_id <> all (v_paused_tenants))
            order by j.run_at, j.id
            limit v_window - cardinality(v_candidates)
        );
        exit when cardinality(v_candidates) >= v_window;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    if v_priority is null and cardinality(v_candidates) = 0 then -- null: all priorities were read
        return v_candidates;
    end if;
    v_names := array(
        select urgent.name
        from (
            select candidate.name
            from unnest(v_candidates) with ordinality as candidate (name, position)
            group by candidate.name
            order by min(candidate.position)
            offset 0 -- keeps the order: try_lock_queue is called for the most urgent queue first
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, expired_before)
            and not (v_has_pauses and @schema@.is_queue_paused(urgent.name, task_identifiers, exclude_tasks))
            and @schema@.try_lock_queue(urgent.name)
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
        where not @schema@.is_queue_locked(urgent.name, expired_before)
            and not (v_has_pauses and @schema@.is_queue_paused(urgent.name, task_identifiers, exclude_tasks))
            and @schema@.try_lock_queue(urgent.name)
        limit max_queues
    );
end
$$;

create or replace function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}',
    max_payload_bytes bigint default null,
    queue_names text[] default null -- only these queues; the empty name stands for the jobs without a queue
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
    set plan_cache_mode = force_generic_plan -- a plan for each call takes longer than a claim
    set enable_incremental_sort = off -- else a flood of one tenant is read and sorted
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
    v_claimed int;
    v_is_large boolean := false;
    v_first record;
    v_has_limits boolean;
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
begin
    lock table @schema@.jobs, @schema@.queue_locks in row exclusive mode; -- before reading, for REINDEX
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    select
        exists (select from @schema@.limits) as has_limits,
        exists (
            select from @schema@.jobs j
            where j.expires_at <= now()
                and not j.exhausted
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
        ) as has_expired,
        (
            select p from @schema@.claim_positions p
            where p.claims = v_claims and queue_names is null
            order by p.id desc
            limit 1
        ) as known
    into v_first;
    v_has_limits := v_first.has_limits;
    v_known := v_first.known;
    if v_first.has_expired and (select count(*) from @schema@.expire_jobs(500)) >= 500 then
        return; -- expired jobs may be left: the next claim goes on with them
    end if;
    if v_known.valid_until > clock_timestamp() then
        v_start := v_known;
    else
        v_start := row(null, v_claims, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null);
    end if;
    if v_has_limits and (
        exists (select from @schema@.limit_wakeups)
        or exists (select from @schema@.limit_keys k where k.wake_at <= now())
        or exists (select from @schema@.cancelled_runs r where r.ends_at <= now())
    ) then
        perform @schema@.wake_limit_keys(0);
    end if;
    loop
        if queue_names is null or '' = any (queue_names) then
            v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        else
            v_rows := '{}';
        end if;
        v_is_waiting := cardinality(v_rows) > 0;
        if queue_names is null then
            v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        else
            v_queues := @schema@.ready_queues_among(
                queue_names, task_identifiers, exclude_tasks, v_expired_before, v_picked
            );
        end if;
        if cardinality(v_queues) > 0 then
            v_rows := v_rows
                || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
        end if;
        if cardinality(v_rows) > v_picked then
            v_rows := @schema@.fair_choice(v_rows, v_picked);
        end if;
        exit when not v_has_limits or cardinality(v_rows) = 0 or not exists (
            select from @schema@.jobs j
            join @schema@.limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
                and (l.queue_name is null or l.queue_name = j.queue_name)
            where j.ctid = any (v_rows)
        );
        v_round := v_round + 1;
        select gate.admitted, gate.has_limited, gate.is_done into v_rows, v_is_limited, v_is_done
        from @schema@.admit_jobs(v_rows, max_jobs, max_payload_bytes, v_round = 4) gate;
        exit when v_is_done;
        v_picked := least(8 * v_picked, greatest(max_jobs, 2000)); -- others are not to wait behind a flood
    end loop;
    if v_has_limits and (
        exists (select from @schema@.limit_wakeups)
        or exists (select from @schema@.limit_keys k where k.wake_at <= now())
        or exists (select from @schema@.cancelled_runs r where r.ends_at <= now())
    ) then
        perform @schema@.wake_limit_keys(0);
    end if;
    if queue_names is null and (
        v_known.id is not null or @schema@.claim_entries_read() - v_entries_read > 10000
    ) then
        perform @schema@.record_claim_position(
            v_start, v_known, v_rows, v_is_waiting, @schema@.claim_entries_read() - v_entries_read - 5 * max_jobs
        );
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    -- Large payloads are rare: the jobs without one first, so that the others cost nothing if there are none.
    for v_step in 1..2 loop
        return query
        with claimed as (
            update @schema@.jobs j
            set attempts = j.attempts + 1,
                locked_by = claim_jobs.worker_id,
                locked_at = now(),
                lease_expires_at = now() + lease,
                progress = null,
                progress_message = null,
                is_limited = v_is_limited,
                updated_at = now()
            where j.ctid = any (v_rows) and (j.payload_bytes is null or v_is_large)
            returning (@schema@.to_job_row(j)).*
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
        get diagnostics v_claimed = row_count;
        exit when v_is_large or v_claimed = cardinality(v_rows);
        v_rows := @schema@.large_jobs_within(v_rows, max_payload_bytes, v_claimed = 0);
        v_is_large := true;
    end loop;
end
$$;
