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
