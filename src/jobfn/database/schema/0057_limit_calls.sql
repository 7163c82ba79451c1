-- Next to limits, a claim of jobs that none of them counts calls no function for them: each call took longer than what it did.

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
    v_has_limits constant boolean := exists (select from @schema@.limits);
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
begin
    lock table @schema@.jobs, @schema@.queue_locks in row exclusive mode; -- before reading, for REINDEX
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if exists (
        select from @schema@.jobs j
        where j.expires_at <= now()
            and not j.exhausted
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
    ) and (select count(*) from @schema@.expire_jobs(500)) >= 500 then
        return; -- expired jobs may be left: the next claim goes on with them
    end if;
    if queue_names is null then
        select p.* into v_known from @schema@.claim_positions p where p.claims = v_claims order by p.id desc limit 1;
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

create or replace function @schema@.wake_limit_keys(min_released int) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
#variable_conflict use_column
declare
    v_names text[];
    v_keys text[];
begin
    if exists (select from @schema@.cancelled_runs r where r.ends_at <= now()) then
        perform @schema@.end_cancelled_runs(
            array(select r.id from @schema@.cancelled_runs r where r.ends_at <= now() for update skip locked)
        );
    end if;
    if not exists (select from @schema@.limit_wakeups)
        and not exists (select from @schema@.limit_keys k where k.wake_at <= now())
    then
        return;
    end if;
    perform @schema@.lock_limits();
    with woken as (
        delete from @schema@.limit_wakeups w
        where w.ctid = any (array(select woken.ctid from @schema@.limit_wakeups woken limit 500 for update skip locked))
        returning w.limit_name, w.key
    ),
    due as (
        update @schema@.limit_keys k set wake_at = null
        where k.ctid = any (array(
            select due.ctid from @schema@.limit_keys due where due.wake_at <= now() order by due.wake_at limit 500
        ))
        returning k.limit_name, k.key
    )
    select array_agg(touched.limit_name), array_agg(touched.key) into v_names, v_keys
    from (select * from woken union select * from due) touched
    where (
        select true from @schema@.held_jobs h
        where h.limit_name = touched.limit_name and h.key = touched.key
        limit 1 -- which makes it a look-up of both
    );
    if exists (select from @schema@.limit_wakeups) or exists (select from @schema@.limit_keys k where k.wake_at <= now())
    then
        perform pg_notify('jobs:insert', ''); -- the next claim goes on with them
    end if;
    if v_names is null then
        return;
    end if;
    with free as materialized (
        select given.limit_name, given.key, case
                -- a limit that was removed while the job was added
                when not exists (select from @schema@.limits l where l.name = given.limit_name) then 1000
                else least(room.free_slots, room.free_starts, 1000)
            end as jobs
        from unnest(v_names, v_keys) as given (limit_name, key)
        left join lateral @schema@.limit_room(given.limit_name, given.key) room on true
    ),
    due as materialized (
        select j.id, first.run_at
        from free
        cross join lateral (
            select h.job_id, h.run_at
            from @schema@.held_jobs h
            where h.limit_name = free.limit_name and h.key = free.key
            order by h.priority, h.run_at, h.job_id
            limit greatest(free.jobs, min_released)
        ) first
        join @schema@.jobs j on j.id = first.job_id and j.run_at = 'infinity' and j.locked_at is null
        where free.jobs > 0
        for update of j skip locked
    )
    update @schema@.jobs j set run_at = due.run_at from due where j.id = due.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    -- A key waits for a time if a rate or a pause lets no other job start, else for the end of a job.
    insert into @schema@.limit_keys as k (limit_name, key, wake_at)
    select waiting.limit_name, waiting.key, waiting.wake_at
    from (
        select given.limit_name, given.key, greatest(
                (
                    select p.paused_until from @schema@.limit_keys p
                    where p.limit_name = given.limit_name and p.key = given.key and p.paused_until > now()
                ),
                case when l.rate_count <= coalesce(used.starts, 0) then used.first_ends_at + l.rate_interval end
            ) as wake_at
        from unnest(v_names, v_keys) as given (limit_name, key)
        join @schema@.limits l on l.name = given.limit_name
        cross join lateral (
            select sum(s.starts) as starts, min(s.ends_at) as first_ends_at
            from @schema@.limit_starts s
            where s.limit_name = given.limit_name and s.key = given.key and s.ends_at > now() - l.rate_interval
        ) used
        where (
            select true from @schema@.held_jobs h
            where h.limit_name = given.limit_name and h.key = given.key
            limit 1
        )
    ) waiting
    where waiting.wake_at is not null
    on conflict (limit_name, key) do update set wake_at = least(k.wake_at, excluded.wake_at);
end
$$;
