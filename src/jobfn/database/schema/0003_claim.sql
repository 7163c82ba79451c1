-- How jobs go out. The batch form, claim_jobs, is jobfn's own; the contract's get_job is the same for one job.
--
-- A claim never waits for another session: what somebody else has in hand it leaves to them. It plans by indexes in
-- their order and nothing else: a plan made while the table was small is kept when a million jobs have arrived.

create function @schema@.ready_jobs(
    task_identifiers text[], except_tasks text[], expired timestamptz, max_jobs int
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := '{}';
    v_priority bigint := -2147483649; -- below the lowest int
begin
    -- One priority after the other: within one, the delayed jobs come last in the index and are never looked at.
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
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (except_tasks)
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_ids)
            for update skip locked
        );
        if cardinality(v_ids) >= max_jobs then
            return v_ids;
        end if;
    end loop;
    -- So many priorities are in use that going past the delayed jobs of the rest is cheaper than asking for each.
    return v_ids || array(
        select j.id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
            and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            and j.task_identifier <> all (except_tasks)
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_ids)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs(text[], text[], timestamptz, int) is
    'The most urgent ready jobs without a queue, locked until the transaction ends. A part of claim_jobs.';

create function @schema@.is_queue_held(name text, expired timestamptz) returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from @schema@.queue_locks l
        where l.queue_name = name and not coalesce(l.lease_expires_at < now(), l.locked_at < expired)
    );
end
$$;

comment on function @schema@.is_queue_held(text, timestamptz) is
    'Whether somebody holds a queue whose lock is still good. A part of claim_jobs.';

create function @schema@.take_queue(name text) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_try_advisory_xact_lock(hashtextextended(name, pg_typeof(null::@schema@.jobs)::oid::bigint));
end
$$;

comment on function @schema@.take_queue(text) is
    'Whether this transaction alone may claim from a queue until it ends. A part of claim_jobs.';

create function @schema@.ready_queues(
    task_identifiers text[], except_tasks text[], expired timestamptz, max_queues int
) returns text[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_window constant int := 64 + 4 * max_queues;
    v_front text[] := '{}'; -- the queues of the jobs in front of the line, again and again
    v_priority bigint := -2147483649;
    v_names text[];
begin
    -- What stands in front is enough where many queues have a few jobs each.
    for v_step in 1..16 loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is not null and not j.exhausted and j.priority > v_priority
        order by j.priority
        limit 1;
        exit when not found;
        v_front := v_front || array(
            select j.queue_name
            from @schema@.jobs j
            where j.queue_name is not null
                and not j.exhausted
                and j.priority = v_priority
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (except_tasks)
            order by j.run_at, j.id
            limit v_window - cardinality(v_front)
        );
        exit when cardinality(v_front) >= v_window;
    end loop;
    v_names := array(
        select urgent.name
        from (
            select front.name
            from unnest(v_front) with ordinality as front (name, place)
            group by front.name
            order by min(front.place)
            offset 0
        ) urgent
        where not @schema@.is_queue_held(urgent.name, expired) and @schema@.take_queue(urgent.name)
        limit max_queues
    );
    if v_priority is null or cardinality(v_names) >= max_queues then -- null: that was all
        return v_names;
    end if;

    -- Long queues fill the front: ask each queue for its head instead.
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
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (except_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0
        ) urgent
        where not @schema@.is_queue_held(urgent.name, expired) and @schema@.take_queue(urgent.name)
        limit max_queues
    );
end
$$;

comment on function @schema@.ready_queues(text[], text[], timestamptz, int) is
    'The free queues with the most urgent ready jobs, taken until the transaction ends. A part of claim_jobs.';

create function @schema@.ready_heads(
    queue_names text[], task_identifiers text[], except_tasks text[], expired timestamptz
) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Who has taken a queue alone decides what runs in it, so this statement, with a snapshot of its own, sees its
    -- true head, and whether it was claimed before it was taken. If somebody is changing the head right now, the
    -- queue waits: its second job must not overtake.
    return array(
        select locked.id
        from unnest(queue_names) as taken (name)
        cross join lateral (
            select j.id
            from @schema@.jobs j
            where j.queue_name = taken.name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (except_tasks)
            order by j.priority, j.run_at, j.id
            limit 1
        ) head
        cross join lateral (
            select j.id
            from @schema@.jobs j
            where j.id = head.id
                and j.queue_name = taken.name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
            for update skip locked
        ) locked
        where not @schema@.is_queue_held(taken.name, expired)
    );
end
$$;

comment on function @schema@.ready_heads(text[], text[], text[], timestamptz) is
    'The first ready job of each of these queues, locked until the transaction ends. A part of claim_jobs.';

create function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    except_tasks text[] default '{}'
) returns setof @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired constant timestamptz := now() - job_expiry;
    v_ids bigint[];
    v_queues text[];
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    v_ids := @schema@.ready_jobs(task_identifiers, except_tasks, v_expired, max_jobs);
    v_queues := @schema@.ready_queues(task_identifiers, except_tasks, v_expired, max_jobs);
    if cardinality(v_queues) > 0 then
        v_ids := v_ids || @schema@.ready_heads(v_queues, task_identifiers, except_tasks, v_expired);
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
            progress_note = null,
            updated_at = now()
        where j.id = any (v_ids)
        returning j.*
    ),
    held as (
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
    'Lock up to max_jobs ready jobs for a worker, most urgent first, at most one of each named queue. With a lease the '
    'lock is good for that long, and renew_leases prolongs it; without one it is forgotten after somebody''s job_expiry.';

create function @schema@.get_job(
    worker_id text,
    task_identifiers text[] default null,
    job_expiry interval default '4 hours'
) returns @schema@.jobs
    language plpgsql
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
    'Lock the next ready job for a worker; all null when there is none.';
