-- The handler of a cancelled job may still clean up. Its slots, and its named queue, are free when it has ended, or when
-- the lease that it had ends: not before, so that a limit is never exceeded.

create table @schema@.cancelled_runs (
    id bigserial,
    job_id bigint not null,
    attempt int not null,
    worker_id text not null,
    queue_name text,
    ends_at timestamptz not null,
    constraint cancelled_runs_pkey primary key (id)
);

create index cancelled_runs_job_id_idx on @schema@.cancelled_runs (job_id);

create index cancelled_runs_ends_at_idx on @schema@.cancelled_runs (ends_at);

comment on table @schema@.cancelled_runs is
    'Attempts of cancelled jobs whose handlers may still run, and keep slots of limits or a named queue.';
comment on column @schema@.cancelled_runs.ends_at is 'When the attempt''s lease ends: nothing is kept for longer.';
comment on column @schema@.limit_slots.job_id is 'The job; of a cancelled one, minus the id in cancelled_runs.';

create function @schema@.end_cancelled_runs(run_ids bigint[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    with ended as (
        delete from @schema@.cancelled_runs r where r.id = any (run_ids) returning r.*
    ),
    slots as (
        delete from @schema@.limit_slots s using ended where s.job_id = -ended.id returning s.limit_name, s.key
    ),
    queues as (
        delete from @schema@.queue_locks l
        using ended
        where l.queue_name = ended.queue_name
            and l.job_id is null
            and l.locked_by = ended.worker_id
            and l.lease_expires_at = ended.ends_at
    )
    insert into @schema@.limit_wakeups select slots.limit_name, slots.key from slots;
    perform pg_notify('jobs:insert', '');
end
$$;

create function @schema@.end_cancelled_run(worker_id text, job_id bigint, job_attempt int) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_runs constant bigint[] := array(
        select r.id
        from @schema@.cancelled_runs r
        where r.job_id = end_cancelled_run.job_id
            and r.worker_id = end_cancelled_run.worker_id
            and (job_attempt is null or r.attempt = job_attempt)
        for update
    );
begin
    if cardinality(v_runs) = 0 then
        return false;
    end if;
    perform @schema@.end_cancelled_runs(v_runs);
    return true;
end
$$;

comment on function @schema@.end_cancelled_run(text, bigint, int) is
    'Free what the handler of a cancelled job kept, because it has ended: its slots of limits, and its named queue. '
    'Returns whether it kept something.';

create or replace function @schema@.cancel_jobs_unrecorded(job_ids bigint[], reason text, include_running boolean)
    returns table (job_id bigint, was_running boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_children bigint[];
begin
    return query
    with target as materialized (
        select j.*, j.locked_at is not null and not coalesce(
            j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'
        ) as is_running
        from @schema@.jobs j
        where j.id = any (job_ids)
        order by j.id
        for update
    ),
    cancelled as materialized (
        select target.*
        from target
        where (not target.is_running or include_running) and (target.is_running or not target.exhausted)
    ),
    recorded as (
        insert into @schema@.job_runs
        select cancelled.id, cancelled.attempts, cancelled.task_identifier, cancelled.queue_name,
            cancelled.database_id, cancelled.locked_by, cancelled.created_at, cancelled.run_at, cancelled.locked_at,
            now(), 'cancelled', reason
        from cancelled
        where @schema@.history_enabled()
    ),
    kept as (
        insert into @schema@.cancelled_runs (job_id, attempt, worker_id, queue_name, ends_at)
        select cancelled.id, cancelled.attempts, cancelled.locked_by, cancelled.queue_name, cancelled.lease_expires_at
        from cancelled
        where cancelled.is_running
            and cancelled.lease_expires_at is not null
            and (cancelled.queue_name is not null or cancelled.is_limited)
        returning *
    ),
    slots as (
        update @schema@.limit_slots s set job_id = -kept.id from kept where s.job_id = kept.job_id
    ),
    queues as (
        update @schema@.queue_locks l set job_id = null, lease_expires_at = kept.ends_at
        from kept
        where l.queue_name = kept.queue_name and l.job_id = kept.job_id
    )
    update @schema@.jobs j
    set last_error = reason,
        ended_as = 'cancelled',
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from cancelled
    where j.id = cancelled.id
    returning j.id, cancelled.is_running;
    if found and include_running then
        perform pg_notify('jobs:cancel', '');
    end if;
    v_children := array(
        select j.id
        from @schema@.job_steps s
        join @schema@.jobs p on p.id = s.job_id
        join @schema@.jobs j on j.id = s.child_id
        where s.job_id = any (job_ids)
            and s.child_id is not null
            and s.state = 'waiting'
            and p.exhausted
            and p.locked_at is null
            and j.locked_at is null
        for update of j skip locked -- those are just ending
    );
    if cardinality(v_children) > 0 then
        perform from @schema@.cancel_jobs_unrecorded(v_children, 'the job that called it was cancelled', false);
    end if;
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

create or replace function @schema@.sweep_limits() returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
as $$
declare
    v_max_keys constant int := 500;
    v_started_at timestamptz;
    v_sweep @schema@.limit_sweeps;
    v_keys int;
begin
    if not exists (
        select from @schema@.limits
        union all select from @schema@.held_jobs
        union all select from @schema@.limit_wakeups
        union all select from @schema@.cancelled_runs
    ) then
        return;
    end if;
    update @schema@.limit_sweeps s set swept_at = now()
    where s.swept_at < now() - interval '4 seconds'
        and s.ctid = any (array(select p.ctid from @schema@.limit_sweeps p for update skip locked))
    returning s.* into v_sweep;
    if not found then
        return; -- another worker has just done it
    end if;
    if v_sweep.starts_due_at <= now() then -- a scan of a large table takes at most a twentieth of the time
        v_started_at := clock_timestamp();
        delete from @schema@.limit_starts s
        where not exists (
            select from @schema@.limits l where l.name = s.limit_name and s.ends_at > now() - l.rate_interval
        );
        update @schema@.limit_sweeps s
        set starts_due_at = clock_timestamp() + 19 * (clock_timestamp() - v_started_at);
    end if;
    perform @schema@.lock_limits();
    with ended as (
        delete from @schema@.limit_slots s
        where case
            when s.job_id < 0 then not exists (select from @schema@.cancelled_runs r where r.id = -s.job_id)
            else not exists (select from @schema@.jobs j where j.id = s.job_id and j.locked_at is not null)
        end
        returning s.limit_name, s.key
    )
    insert into @schema@.limit_wakeups select ended.limit_name, ended.key from ended;
    delete from @schema@.limit_keys k where k.wake_at is null and coalesce(k.paused_until <= now(), true);
    with recursive waiting (limit_name, key) as (
        (
            select h.limit_name, h.key
            from @schema@.held_jobs h
            where (h.limit_name, h.key) > (v_sweep.limit_name, v_sweep.key)
            order by h.limit_name, h.key
            limit 1
        )
        union all
        select following.limit_name, following.key
        from waiting
        cross join lateral (
            select h.limit_name, h.key
            from @schema@.held_jobs h
            where (h.limit_name, h.key) > (waiting.limit_name, waiting.key)
            order by h.limit_name, h.key
            limit 1
        ) following
    ),
    swept as materialized (
        select waiting.limit_name, waiting.key from waiting limit v_max_keys
    ),
    woken as (
        insert into @schema@.limit_wakeups select swept.limit_name, swept.key from swept
    ),
    last as (
        select swept.limit_name, swept.key from swept order by swept.limit_name desc, swept.key desc limit 1
    )
    select count(*), max(last.limit_name), max(last.key) into v_keys, v_sweep.limit_name, v_sweep.key
    from swept
    cross join last;
    update @schema@.limit_sweeps s
    set limit_name = case when v_keys = v_max_keys then v_sweep.limit_name else '' end,
        key = case when v_keys = v_max_keys then v_sweep.key else '' end;
    perform @schema@.wake_limit_keys(10);
end
$$;

create or replace function @schema@.explain_limits(job @schema@.jobs)
    returns table (code text, reason text, since timestamptz, until timestamptz, job_ids bigint[])
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
begin
    if not exists (select from @schema@.limits) and job.is_limited is null then
        return;
    end if;
    return query
    with refused as (
        select h.limit_name, h.key, h.held_at
        from @schema@.held_jobs h
        where h.job_id = job.id
        union all
        select v.limit_name, v.key, null
        from @schema@.limit_verdicts(array(select j.ctid from @schema@.jobs j where j.id = job.id), 0) v
        where job.run_at <= now() and not v.is_admitted
    )
    select 'limit', format('limit %s%s ', r.limit_name, case
                when l.per = 'queue' then format(' of the queue %s', r.key)
                when l.per like 'payload.%' then format(' of its %s', l.per) -- the value is a part of the payload
                when l.per is not null then format(' of the %s %s', l.per, r.key)
                else ''
            end) || case
                when k.paused_until > now() then format('paused until %s', @schema@.format_utc(k.paused_until))
                when cardinality(running.ids) >= l.concurrency then format(
                    'reached: %s of %s running, %s', cardinality(running.ids), l.concurrency,
                    @schema@.format_job_ids(running.ids)
                )
                when recent.starts >= l.rate_count then format(
                    'reached: %s of %s starts in %s', recent.starts, l.rate_count, l.rate_interval
                ) || coalesce(format(', the next one at %s', @schema@.format_utc(k.wake_at)), '')
                when r.held_at is not null and coalesce(least(room.free_slots, room.free_starts) > 0, true)
                then 'has room again: the next claim looks at the jobs that it holds'
                else 'lets more urgent jobs start first'
            end,
        r.held_at, coalesce(case when k.paused_until > now() then k.paused_until end, k.wake_at), running.ids[1:10]
    from refused r
    left join @schema@.limits l on l.name = r.limit_name
    left join @schema@.limit_keys k on k.limit_name = r.limit_name and k.key = r.key
    cross join lateral (
        select array_agg(coalesce(c.job_id, s.job_id) order by coalesce(c.job_id, s.job_id)) as ids
        from @schema@.limit_slots s
        left join @schema@.cancelled_runs c on c.id = -s.job_id
        where s.limit_name = r.limit_name and s.key = r.key
    ) running
    left join lateral @schema@.limit_room(r.limit_name, r.key) room on true
    cross join lateral (
        select coalesce(sum(s.starts), 0) as starts
        from @schema@.limit_starts s
        where s.limit_name = r.limit_name and s.key = r.key and s.ends_at > now() - l.rate_interval
    ) recent
    order by r.limit_name;
end
$$;

revoke execute on function
    @schema@.end_cancelled_runs(bigint[]),
    @schema@.end_cancelled_run(text, bigint, int)
    from public;

select @schema@.grant_like('renew_leases', '{end_cancelled_run}');

select @schema@.grant_like('limit_slots', '{cancelled_runs}');
