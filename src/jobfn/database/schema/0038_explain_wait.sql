-- Why does a job wait? explain_wait names the reasons, in the order in which they block: with the functions and conditions
-- of claims, so that it agrees with them.
--
-- Workers register what they take.

alter table @schema@.workers
    add column tasks text[],
    add column queues text[],
    add column max_in_flight_bytes bigint;

comment on column @schema@.workers.tasks is 'The tasks that it claims; null: all, or an older version that does not tell.';
comment on column @schema@.workers.queues is 'The queues that it claims from, '''' for the jobs without one; null: all.';
comment on column @schema@.workers.max_in_flight_bytes is 'JOBS_MAX_IN_FLIGHT_BYTES; null: unknown.';

create function @schema@.heartbeat_worker(
    worker_id text,
    host text,
    pid int,
    version text,
    roles text[],
    concurrency int,
    in_flight int,
    heartbeat_interval interval,
    tasks text[],
    queues text[],
    max_in_flight_bytes bigint
) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    perform @schema@.heartbeat_worker(worker_id, host, pid, version, roles, concurrency, in_flight, heartbeat_interval);
    update @schema@.workers w
    set tasks = heartbeat_worker.tasks,
        queues = heartbeat_worker.queues,
        max_in_flight_bytes = heartbeat_worker.max_in_flight_bytes
    where w.worker_id = heartbeat_worker.worker_id and w.host = heartbeat_worker.host and w.pid = heartbeat_worker.pid
        and (w.tasks, w.queues, w.max_in_flight_bytes) is distinct from (
            heartbeat_worker.tasks, heartbeat_worker.queues, heartbeat_worker.max_in_flight_bytes
        );
end
$$;

comment on function
    @schema@.heartbeat_worker(text, text, int, text, text[], int, int, interval, text[], text[], bigint) is
    'As heartbeat_worker, with what the process claims.';

create function @schema@.workers_for(task text, queue text) returns setof @schema@.workers
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select w.*
    from @schema@.workers w
    where 'worker' = any (w.roles)
        and w.last_heartbeat_at > now() - 3 * w.heartbeat_interval
        and (w.tasks is null or task = any (w.tasks))
        and (w.queues is null or coalesce(queue, '') = any (w.queues))
$$;

comment on function @schema@.workers_for(text, text) is
    'The registered workers that are alive and claim jobs of a task and a queue. Part of explain_wait.';

create function @schema@.format_utc(at timestamptz) returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
$$;

comment on function @schema@.format_utc(timestamptz) is 'A time for a message. Part of explain_wait.';

create function @schema@.format_job_ids(job_ids bigint[]) returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case when cardinality(job_ids) = 1 then 'job ' else 'jobs ' end || array_to_string(job_ids[1:10], ', ')
        || case when cardinality(job_ids) > 10 then format(' and %s more', cardinality(job_ids) - 10) else '' end
$$;

comment on function @schema@.format_job_ids(bigint[]) is 'Jobs for a message. Part of explain_wait.';

create function @schema@.explain_end(job @schema@.jobs)
    returns table (code text, reason text, since timestamptz, until timestamptz, job_ids bigint[])
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select
        case when job.exhausted then coalesce(job.ended_as, 'attempts_used_up') else 'expired' end,
        case
            when not job.exhausted then
                format('expired at %s: the next claim ends it', @schema@.format_utc(job.expires_at))
            when job.ended_as = 'cancelled' then 'cancelled, until it is retried'
            when job.ended_as = 'expired' then format(
                'expired%s: it was not started in time, and runs only if it is retried',
                coalesce(' at ' || @schema@.format_utc(job.expires_at), '')
            )
            when job.locked_at is null then 'attempts used up: it has permanently failed, until it is retried'
            else format(
                'attempts used up: %s died in the last one, and a worker will mark it as permanently failed',
                job.locked_by
            )
        end,
        case when job.exhausted then job.updated_at else job.expires_at end, null::timestamptz, null::bigint[]
    where job.exhausted or job.expires_at <= now()
$$;

comment on function @schema@.explain_end(@schema@.jobs) is 'Why a job has ended. Part of explain_wait.';

create function @schema@.explain_limits(job @schema@.jobs)
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
        select array_agg(s.job_id order by s.job_id) as ids
        from @schema@.limit_slots s
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

comment on function @schema@.explain_limits(@schema@.jobs) is
    'The limits that hold a job, or would hold it at the next claim. Part of explain_wait.';

create function @schema@.jobs_ahead(job_id bigint, max_count int, out jobs int, out own_jobs int, out other_tenants int)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set jit = off
as $$
    with recursive job as (
        select j.id, j.priority, j.run_at, j.database_id
        from @schema@.jobs j
        where j.id = job_id and j.queue_name is null
    ),
    urgency (priority) as (
        (
            select j.priority from @schema@.jobs j
            where j.queue_name is null and not j.exhausted
            order by j.priority
            limit 1
        )
        union all
        select (
            select j.priority from @schema@.jobs j
            where j.queue_name is null and not j.exhausted and j.priority > urgency.priority
            order by j.priority
            limit 1
        )
        from urgency
        join job on urgency.priority < job.priority
    ),
    ahead as (
        select ready.database_id is distinct from job.database_id and urgency.priority = job.priority as is_other,
            ready.database_id
        from job
        join urgency on urgency.priority <= job.priority
        cross join lateral (
            select j.database_id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = urgency.priority
                and (j.run_at, j.id) < (
                    case when urgency.priority = job.priority then job.run_at else 'infinity' end, job.id
                )
                and j.run_at <= now()
                and j.locked_at is null
            limit max_count
        ) ready
        limit max_count
    )
    select count(*)::int, count(*) filter (where not ahead.is_other)::int,
        (count(distinct coalesce(ahead.database_id::text, '')) filter (where ahead.is_other))::int
    from ahead
$$;

-- Explain that tenants take turns.

comment on function @schema@.jobs_ahead(bigint, int) is
    'Up to max_count ready jobs without a queue that are more urgent or older than a job: all, those of a more urgent '
    'priority or of the same tenant, and the number of other tenants. Part of explain_turn.';

create function @schema@.explain_turn(job @schema@.jobs)
    returns table (code text, reason text, since timestamptz, until timestamptz, job_ids bigint[])
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case when ahead.other_tenants > 0 then 'tenant_turn' else 'jobs_ahead' end,
        case
            when ahead.other_tenants > 0 then format(
                '%s turns with %s other%s, and %s ready job%s before it',
                case when job.database_id is null then 'jobs without a tenant take' else 'its tenant takes' end,
                ahead.other_tenants, case ahead.other_tenants when 1 then '' else 's' end,
                ahead.own_jobs, case ahead.own_jobs when 1 then ' comes' else 's come' end
            )
            else format(
                '%s%s ready job%s more urgent', ahead.jobs, case when ahead.jobs = 1000 then ' or more' else '' end,
                case ahead.jobs when 1 then ' is' else 's are' end
            )
        end, null::timestamptz, null::timestamptz, null::bigint[]
    from @schema@.jobs_ahead(job.id, 1000) ahead
    where job.queue_name is null and job.run_at <= now() and ahead.jobs > 0
$$;

comment on function @schema@.explain_turn(@schema@.jobs) is 'Which jobs come before a ready one. Part of explain_wait.';

create function @schema@.explain_wait(job_id bigint, job_expiry interval default '4 hours')
    returns table (code text, reason text, since timestamptz, until timestamptz, job_ids bigint[])
    language plpgsql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_job @schema@.jobs;
    v_is_locked boolean;
    v_is_explained boolean := false;
begin
    select j.* into v_job from @schema@.jobs j where j.id = explain_wait.job_id;
    if not found then
        return;
    end if;
    v_is_locked := v_job.locked_at is not null
        and not coalesce(v_job.lease_expires_at < now(), v_job.locked_at < v_expired_before);
    if v_is_locked then
        return query select 'running', format(
            'running on %s since %s', v_job.locked_by, @schema@.format_utc(v_job.locked_at)
        ), v_job.locked_at, v_job.lease_expires_at, null::bigint[];
        return;
    end if;
    return query select e.* from @schema@.explain_end(v_job) e;
    if found then
        return;
    end if;

    -- Before the due time: for other jobs, a time, a signal, or only the time.
    return query
    select 'dependency', format('depends on the %s', @schema@.format_job_ids(waiting.ids)), v_job.created_at,
        null::timestamptz, waiting.ids[1:10]
    from (
        select array_agg(d.dependency_id order by d.dependency_id) as ids
        from @schema@.job_dependencies d
        where d.job_id = v_job.id and not d.has_ended
    ) waiting
    where v_job.run_at = 'infinity' and v_job.parked_attempt = 0 and waiting.ids is not null;
    v_is_explained := found;
    return query select e.* from @schema@.explain_limits(v_job) e;
    v_is_explained := v_is_explained or found;
    if v_job.run_at > now() and v_job.parked_attempt = v_job.attempts and not v_is_explained then
        return query
        select 'parked', 'parked until ' || coalesce(string_agg(waits.text, ', or ' order by waits.wait_group), 'a signal'),
            v_job.updated_at, nullif(v_job.run_at, 'infinity'), (array_agg(waits.child_id) filter (where waits.child_id is not null))
        from (
            select s.wait_group, min(s.child_id) as child_id,
                case min(s.kind)
                    when 'sleep' then @schema@.format_utc(min(s.wake_at))
                    when 'wait' then format('the signal %L', min(s.event))
                        || coalesce(' or ' || @schema@.format_utc(min(s.wake_at)), '')
                    else format('%s end%s', @schema@.format_job_ids(array_agg(s.child_id order by s.child_id)),
                        case count(*) when 1 then 's' else '' end)
                end as text
            from @schema@.job_steps s
            where s.job_id = v_job.id and s.state = 'waiting' and s.kind <> 'then'
            group by s.wait_group
            order by s.wait_group
            limit 10
        ) waits;
        v_is_explained := true;
    end if;
    if v_job.run_at > now() and not v_is_explained then
        return query select 'not_due', case
            when v_job.run_at = 'infinity' then 'not due: its run_at is infinity'
            when v_job.attempts > coalesce(v_job.snoozes, 0) and v_job.last_error is not null then
                format('the next attempt is not due until %s', @schema@.format_utc(v_job.run_at))
            else format('not due until %s', @schema@.format_utc(v_job.run_at))
        end, null::timestamptz, nullif(v_job.run_at, 'infinity'), null::bigint[];
        v_is_explained := true;
    end if;

    return query
    select 'paused', format(
            'paused: %s since %s by %s%s%s',
            case p.kind when 'everything' then 'everything' else format('the %s %s', p.kind, p.name) end,
            @schema@.format_utc(p.since), p.paused_by, coalesce(' until ' || @schema@.format_utc(p.until), ''),
            coalesce(': ' || p.reason, '')
        ), p.since, p.until, null::bigint[]
    from @schema@.job_pauses(v_job.id) p;
    v_is_explained := v_is_explained or found;

    return query
    select 'no_worker', 'no registered worker that is alive takes this task' || case
            when v_job.queue_name is null then '' else ' from this queue'
        end || coalesce(': ' || string_agg(
            format('%s takes %s%s', w.worker_id, coalesce(array_to_string(w.tasks[1:5], ', '), 'all tasks'),
                coalesce(' of the queues ' || array_to_string(array_replace(w.queues[1:5], '', 'none'), ', '), '')),
            '; ' order by w.worker_id
        ), ': there is none'), null::timestamptz, null::timestamptz, null::bigint[]
    from (
        select distinct on (w.worker_id) w.*
        from @schema@.workers w
        where 'worker' = any (w.roles) and w.last_heartbeat_at > now() - 3 * w.heartbeat_interval
        order by w.worker_id
        limit 5
    ) w
    having not exists (select from @schema@.workers_for(v_job.task_identifier, v_job.queue_name));
    v_is_explained := v_is_explained or found;

    return query
    select 'queue_locked', format('the queue %s is ', l.queue_name) || case
            when l.job_id is null then format('locked by %s', l.locked_by)
            else format('held by job %s, which runs on %s', l.job_id, l.locked_by)
        end, l.locked_at, l.lease_expires_at, case when l.job_id is not null then array[l.job_id] end
    from @schema@.queue_locks l
    where l.queue_name = v_job.queue_name
        and not coalesce(l.lease_expires_at < now(), l.locked_at < v_expired_before);
    v_is_explained := v_is_explained or found;

    -- A claim takes the first job of a queue among the tasks of its worker, so each worker may see another one.
    return query
    select 'queue_order', format('job %s is ahead of it in the queue %s', min(head.id), v_job.queue_name),
        null::timestamptz, null::timestamptz, array[min(head.id)]
    from (
        select distinct w.tasks from @schema@.workers_for(v_job.task_identifier, v_job.queue_name) w
        union
        select null
        where not exists (select from @schema@.workers_for(v_job.task_identifier, v_job.queue_name))
    ) taker
    left join lateral (
        select j.id
        from @schema@.jobs j
        where j.queue_name = v_job.queue_name
            and not j.exhausted
            and (j.priority, j.run_at, j.id) < (v_job.priority, v_job.run_at, v_job.id)
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
            and (taker.tasks is null or j.task_identifier = any (taker.tasks))
        order by j.priority, j.run_at, j.id
        limit 1
    ) head on true
    having count(*) = count(head.id);
    v_is_explained := v_is_explained or found;

    if v_job.payload_bytes is not null then
        return query
        select 'too_large', format(
                'its payload of %s bytes does not fit beside those in flight: JOBS_MAX_IN_FLIGHT_BYTES is %s, of which %s '
                'are used; it waits until a claim finds no smaller job',
                v_job.payload_bytes, max(w.max_in_flight_bytes), min(used.bytes)
            ), null::timestamptz, null::timestamptz, null::bigint[]
        from @schema@.workers_for(v_job.task_identifier, v_job.queue_name) w
        cross join lateral (
            select coalesce(sum(j.payload_bytes), 0) as bytes
            from @schema@.jobs j
            where j.locked_by = w.worker_id and j.locked_at is not null and j.payload_bytes is not null
        ) used
        having count(*) > 0 and bool_and(used.bytes + v_job.payload_bytes > w.max_in_flight_bytes);
        v_is_explained := v_is_explained or found;
    end if;

    return query
    select 'workers_busy', format(
            'all slots of its workers are taken: %s of %s at their last heartbeats', sum(w.in_flight), sum(w.concurrency)
        ), null::timestamptz, null::timestamptz, null::bigint[]
    from @schema@.workers_for(v_job.task_identifier, v_job.queue_name) w
    having count(*) > 0 and bool_and(w.in_flight >= w.concurrency);
    v_is_explained := v_is_explained or found;

    return query select e.* from @schema@.explain_turn(v_job) e;
    v_is_explained := v_is_explained or found;

    if not v_is_explained then
        return query select 'ready', case
            when v_job.locked_at is null then format(
                'ready since %s: the next claim takes it',
                @schema@.format_utc(greatest(nullif(v_job.run_at, '-infinity'), v_job.created_at))
            )
            else format('ready: the lease of %s has ended, and the next claim takes it over', v_job.locked_by)
        end, greatest(nullif(v_job.run_at, '-infinity'), v_job.created_at), null::timestamptz, null::bigint[];
    end if;
end
$$;

comment on function @schema@.explain_wait(bigint, interval) is
    'Why a job does not run: each reason with a code and a line of text, those that block first. One row with the code '
    'ready if there is none, and no row if the job has ended.';

-- Roles that look at jobs may explain them, and those of workers register what they take.
select @schema@.grant_like('job_steps', '{explain_wait}');
select @schema@.grant_like('deregister_worker', '{heartbeat_worker}');

revoke execute on all functions in schema @schema@ from public;
