-- The claims pass jobs through the gate of limits. They pick more jobs where limits held some of those that were picked.

create or replace function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval = null,
    exclude_tasks text[] = '{}',
    max_payload_bytes bigint = null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
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
    v_has_limits constant boolean := exists (select from @schema@.limits);
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
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
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
    end if;
    loop
        v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        v_is_waiting := cardinality(v_rows) > 0;
        v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        if cardinality(v_queues) > 0 then
            v_rows := v_rows
                || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
        end if;
        if cardinality(v_rows) > v_picked then
            v_rows := array(
                select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
                order by j.priority, j.run_at, j.id
                limit v_picked
            );
        end if;
        exit when not v_has_limits or cardinality(v_rows) = 0;
        v_round := v_round + 1;
        select gate.admitted, gate.has_limited, gate.is_done into v_rows, v_is_limited, v_is_done
        from @schema@.admit_jobs(v_rows, max_jobs, max_payload_bytes, v_round = 4) gate;
        exit when v_is_done;
        v_picked := least(8 * v_picked, greatest(max_jobs, 2000)); -- others are not to wait behind a flood
    end loop;
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
    end if;
    if v_known.id is not null or @schema@.claim_entries_read() - v_entries_read > 10000 then
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

create or replace function @schema@.claim_jobs_of_queues(
    worker_id text,
    queue_names text[],
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval = null,
    exclude_tasks text[] = '{}',
    max_payload_bytes bigint = null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_beginning constant @schema@.claim_positions := row(
        null, 0, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null
    );
    v_rows tid[]; -- as in claim_jobs
    v_queues text[];
    v_claimed int;
    v_is_large boolean := false;
    v_has_limits constant boolean := exists (select from @schema@.limits);
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
    end if;
    loop
        v_rows := '{}';
        if '' = any (queue_names) then
            v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_beginning);
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
            limit v_picked
        );
        if cardinality(v_queues) > 0 then
            v_rows := v_rows
                || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_beginning);
        end if;
        if cardinality(v_rows) > v_picked then
            v_rows := array(
                select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
                order by j.priority, j.run_at, j.id
                limit v_picked
            );
        end if;
        exit when not v_has_limits or cardinality(v_rows) = 0;
        v_round := v_round + 1;
        select gate.admitted, gate.has_limited, gate.is_done into v_rows, v_is_limited, v_is_done
        from @schema@.admit_jobs(v_rows, max_jobs, max_payload_bytes, v_round = 4) gate;
        exit when v_is_done;
        v_picked := least(8 * v_picked, greatest(max_jobs, 2000)); -- others are not to wait behind a flood
    end loop;
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
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
                locked_by = claim_jobs_of_queues.worker_id,
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
