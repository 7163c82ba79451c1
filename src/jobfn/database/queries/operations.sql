-- For the command line and the dashboard. @jobs@ stands for native_jobs or platform_jobs, and @matching@ for
-- jobs_matching (operations/statements.py).

-- name: native_jobs
-- Not a statement by itself: @jobs@ on jobfn's schema.
(
    select j.id, j.database_id, j.actor_id, j.entity_id, j.queue_name, j.task_identifier, j.payload, j.priority,
        j.run_at,
        -- The row of a job that has ended uses up all attempts: the history has the number of the last one. The
        -- maximum of (time, attempt) needs no sort.
        coalesce(
            case when j.exhausted and j.locked_at is null then (
                select (max(array[extract(epoch from r.ended_at)::numeric, r.attempt]))[2]::int
                from @schema@.job_runs r
                where r.job_id = j.id
            ) end,
            j.attempts
        ) - coalesce(j.snoozes, 0) as attempts,
        -- The function applies the limit of its task to jobs that allow more attempts.
        least(
            j.max_attempts - coalesce(j.snoozes, 0),
            coalesce(
                (select s.max_attempts from @schema@.task_settings s where s.task_identifier = j.task_identifier),
                (select l.max_attempts from @schema@.learned_attempts l where l.task_identifier = j.task_identifier)
            )
        ) as max_attempts, coalesce(j.snoozes, 0) as snoozes,
        -- Null if the history does not have all attempts that do not count.
        case when j.has_steps then (
            select case
                when count(*) >= coalesce(j.snoozes, 0)
                then least(count(*) filter (where r.outcome = 'parked'), coalesce(j.snoozes, 0))
            end
            from @schema@.job_runs r
            where r.job_id = j.id and r.outcome in ('parked', 'snoozed', 'released')
        ) else 0 end as parks,
        j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at,
        j.lease_expires_at, j.progress, j.progress_message, j.exhausted,
        case when j.exhausted then j.ended_as end as ended_as, j.expires_at, coalesce(j.has_steps, false) as has_steps,
        coalesce(j.parked_attempt = j.attempts, false) and j.locked_at is null and not j.exhausted and j.run_at > now()
            as is_parked,
        (select s.job_id from @schema@.job_steps s where s.child_id = j.id limit 1) as parent_id,
        j.locked_at is not null
            and not coalesce(j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours') as is_running
    from @schema@.jobs j
)

-- name: platform_jobs
-- Not a statement by itself: @jobs@ on the platform's schema, where run_at holds the lease (renew_platform_leases).
(
    select j.id, j.database_id, @actor_id@ as actor_id, @entity_id@ as entity_id, j.queue_name, j.task_identifier,
        j.payload, j.priority, j.run_at, j.attempts, j.max_attempts,
        coalesce(substring(j.last_error from ' \(snoozed ([0-9]{1,9}) times? since \S{1,40}\)$')::int, 0) as snoozes,
        0 as parks, false as has_steps, false as is_parked, null::bigint as parent_id, j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at,
        case when j.locked_at is not null and j.run_at > j.locked_at then j.run_at end as lease_expires_at,
        null::real as progress, null::text as progress_message, j.attempts >= j.max_attempts as exhausted,
        case when j.attempts >= j.max_attempts and starts_with(j.last_error, 'cancelled') then 'cancelled' end as ended_as,
        null::timestamptz as expires_at,
        j.locked_at is not null and case
            when j.run_at > j.locked_at then j.run_at >= now() else j.locked_at >= now() - interval '4 hours'
        end as is_running
    from @schema@.jobs j
)

-- name: jobs_matching
-- Not a statement by itself: @matching@. $1 ids below this, $2 task, $3 queue, $4 state, $5 part of the last error,
-- $6 the search text, $7 the search text as an id, $8 tenant, $9 worker, $10 minimum age, $11 maximum age; null: any.
-- $12 and $13 are the bounds of the keys that begin with $6, so that the index on keys finds them. $14 minimum time since
-- the failure, $15 maximum time since the failure, $16 path in the payload and $17 its value, $18 group of errors.
    ($1::bigint is null or j.id < $1)
    and ($2::text is null or j.task_identifier = $2)
    and ($3::text is null or j.queue_name = $3)
    and ($4::text is null or case $4
        when 'ready' then not j.is_running and not j.exhausted and j.run_at <= now()
        when 'delayed' then not j.is_running and not j.exhausted and j.run_at > now() and not j.is_parked
        when 'parked' then j.is_parked
        when 'running' then j.is_running
        when 'failed' then not j.is_running and j.exhausted and j.ended_as is null
        when 'cancelled' then not j.is_running and j.exhausted and j.ended_as = 'cancelled'
        when 'expired' then not j.is_running and j.exhausted and j.ended_as = 'expired'
    end)
    and ($5::text is null or (j.last_error is not null and strpos(lower(j.last_error), lower($5)) > 0))
    and (
        $6::text is null
        or j.id = $7::bigint
        or (j.key >= $12::text and ($13::text is null or j.key < $13) and starts_with(j.key, $6))
        or ($7 is null and starts_with(j.task_identifier, $6))
        or ($7 is null and j.last_error is not null and strpos(lower(j.last_error), lower($6)) > 0)
    )
    and ($8::uuid is null or j.database_id = $8)
    and ($9::text is null or (j.locked_by = $9 and j.is_running))
    and ($10::interval is null or j.created_at <= now() - $10)
    and ($11::interval is null or j.created_at > now() - $11)
    and ($14::interval is null or (j.exhausted and not j.is_running and j.updated_at <= now() - $14))
    and ($15::interval is null or (j.exhausted and not j.is_running and j.updated_at > now() - $15))
    and (
        $16::text[] is null
        -- PostgreSQL cannot read a field of a document with this escape.
        or case when strpos(j.payload::text, '\u0000') = 0 then j.payload #>> $16 = $17::text else false end
    )
    and ($18::text is null or (j.last_error is not null and left(md5(@error@), 12) = $18))

-- name: normalized_error
-- Not a statement by itself: @error@, the start of the last error without what differs between errors of one cause. It
-- is cut after the replacements, too: values of different lengths would shift the end.
left(regexp_replace(regexp_replace(regexp_replace(
    left(split_part(ltrim(j.last_error, E' \t\r\n'), E'\n', 1), 600),
    $q$"[^"]*"|`[^`]*`|(?<![[:alnum:]])'[^']*'$q$, '<value>', 'g'),
    '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\m(0x[0-9a-f]+|(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,})\M', '<id>', 'gi'),
    '[0-9]+([.,][0-9]+)*', '<n>', 'g'), 200)

-- name: error_groups
-- The last errors of jobs by task and normalized text, the most frequent first. $1-$18 as in jobs_matching, $19 the
-- maximum number of jobs, the newest ones; $20 the maximum number of groups.
with newest as (
    select j.task_identifier, j.updated_at, j.is_running, j.exhausted, j.last_error
    from @jobs@ j
    where
@matching@
        and j.last_error is not null
        and j.ended_as is null
    order by j.id desc
    limit $19
)
select counted.*, left(md5(counted.error), 12) as id, sum(counted.failed + counted.retrying) over ()::bigint as jobs
from (
    select j.task_identifier, @error@ as error,
        count(*) filter (where j.exhausted and not j.is_running) as failed,
        count(*) filter (where j.is_running or not j.exhausted) as retrying,
        min(j.updated_at) as first_at, max(j.updated_at) as last_at
    from newest j
    group by 1, 2
) counted
order by counted.failed + counted.retrying desc, counted.last_at desc, counted.error, counted.task_identifier
limit $20

-- name: list_jobs
-- Newest first. $1-$18 as in jobs_matching, $19 the maximum number.
select j.id, j.database_id, j.actor_id, j.entity_id, j.queue_name, j.task_identifier, j.priority, j.run_at, j.attempts,
    j.max_attempts, j.snoozes, j.parks, j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at,
    j.lease_expires_at, j.progress, j.progress_message, j.exhausted, j.ended_as, j.is_running, j.is_parked,
    j.run_at > now() as is_delayed
from @jobs@ j
where
@matching@
order by j.id desc
limit $19

-- name: list_updated_jobs
-- The latest change first. $1-$18 as in jobs_matching, $19 the maximum number; only those below $20, the time of the
-- last change, and $21, the id; null: from the start.
select j.id, j.database_id, j.actor_id, j.entity_id, j.queue_name, j.task_identifier, j.priority, j.run_at, j.attempts,
    j.max_attempts, j.snoozes, j.parks, j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at,
    j.lease_expires_at, j.progress, j.progress_message, j.exhausted, j.ended_as, j.is_running, j.is_parked,
    j.run_at > now() as is_delayed
from @jobs@ j
where
@matching@
    and ($20::timestamptz is null or (j.updated_at, j.id) < ($20, $21::bigint))
order by j.updated_at desc, j.id desc
limit $19

-- name: matching_ids
-- The highest first. $1-$18 as in jobs_matching, $19 the maximum number.
select j.id
from @jobs@ j
where
@matching@
order by j.id desc
limit $19

-- name: count_jobs
-- $1-$18 as in jobs_matching, $19 the highest number to count to.
select count(*)
from (
    select
    from @jobs@ j
    where
@matching@
    limit $19
) matching

-- name: list_completed
-- Completed jobs from the history, newest first. $1 ids below this, $2 task, $3 queue, $4 id, $5 tenant, $6 worker,
-- $7 minimum age, $8 maximum age, $9 the beginning of the task, $10 path in the stored payload, and $11 its value, each
-- null for any; $12 the maximum number.
select r.*
from @schema@.job_runs r
where r.outcome = 'completed'
    and ($1::bigint is null or r.job_id < $1)
    and ($2::text is null or r.task_identifier = $2)
    and ($3::text is null or r.queue_name = $3)
    and ($4::bigint is null or r.job_id = $4)
    and ($5::uuid is null or r.database_id = $5)
    and ($6::text is null or r.worker = $6)
    and ($7::interval is null or r.enqueued_at <= now() - $7)
    and ($8::interval is null or r.enqueued_at > now() - $8)
    and ($9::text is null or starts_with(r.task_identifier, $9))
    and (
        $10::text[] is null
        or exists (
            select from @schema@.completed_jobs c
            where c.id = r.job_id
                and case when strpos(c.payload::text, '\u0000') = 0 then c.payload #>> $10 = $11::text else false end
        )
    )
order by r.job_id desc
limit $12

-- name: stored_completed
-- Not a statement by itself: @stored@, the completed jobs that are stored with their payloads. $1-$11 as in list_completed.
    select c.id
    from @schema@.completed_jobs c
    where ($1::bigint is null or c.id < $1)
        and ($2::text is null or c.task_identifier = $2)
        and ($3::text is null or c.queue_name = $3)
        and ($4::bigint is null or c.id = $4)
        and ($5::uuid is null or c.database_id = $5)
        and (
            $6::text is null
            or exists (
                select from @schema@.job_runs r where r.job_id = c.id and r.outcome = 'completed' and r.worker = $6
            )
        )
        and ($7::interval is null or c.created_at <= now() - $7)
        and ($8::interval is null or c.created_at > now() - $8)
        and ($9::text is null or starts_with(c.task_identifier, $9))
        and (
            $10::text[] is null
            or case when strpos(c.payload::text, '\u0000') = 0 then c.payload #>> $10 = $11::text else false end
        )

-- name: matching_completed_ids
-- The highest first. $12 the maximum number.
select stored.id
from (
@stored@
) stored
order by stored.id desc
limit $12

-- name: count_completed
-- $12 the highest number to count to.
select count(*)
from (
@stored@
    limit $12
) stored

-- name: show_completed
-- $1 job. A completed job that is stored.
select c.task_identifier, c.payload, c.created_at, c.completed_at from @schema@.completed_jobs c where c.id = $1

-- name: stored_ids
-- $1 jobs. Returns those that have completed and are stored.
select c.id from @schema@.completed_jobs c where c.id = any ($1::bigint[])

-- name: run_jobs_again
-- $1 jobs. Returns those that had completed and were stored, with the jobs that were added.
select again.job_id as id, again.new_job_id from @schema@.run_jobs_again($1) again

-- name: show_job
-- $1 job.
select j.*, j.run_at > now() as is_delayed, now() as now from @jobs@ j where j.id = $1

-- name: explain_wait
-- $1 job. Why it does not run, those reasons first that block first; no row if it does not exist. A paused job that is
-- the first one of its queue holds up the queue.
select
    w.code,
    w.reason || coalesce((
        select format(', and is paused: %s', trim(concat(p.kind, ' ', p.name)))
        from @schema@.job_pauses(w.job_ids[1]) p
        where w.code = 'queue_order'
        limit 1
    ), '') as reason,
    w.since,
    w.until,
    w.job_ids
from @schema@.explain_wait($1) w

-- name: explain_platform_wait
-- As explain_wait, on the platform's schema, with the conditions of its get_job. It has no list of workers.
with job as (select j.*, now() - interval '4 hours' as expired_before from @jobs@ j where j.id = $1),
blocking as (
    select 1 as position, 'running' as code,
        format('running on %s since %s', job.locked_by, to_char(job.locked_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'))
            as reason,
        job.locked_at as since, job.lease_expires_at as until, null::bigint[] as job_ids
    from job
    where job.is_running
    union all
    select 2, 'attempts_used_up', 'attempts used up: it has permanently failed, until it is retried', job.updated_at, null, null
    from job
    where not job.is_running and job.exhausted
    union all
    select 3, 'not_due',
        format('not due until %s', to_char(job.run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')),
        null, job.run_at, null
    from job
    where not job.is_running and not job.exhausted and job.run_at > now()
    union all
    select 4, 'queue_locked',
        format('the queue %s is held by ', q.queue_name) || coalesce(
            format('job %s, which runs on %s', holder.id, q.locked_by), q.locked_by
        ),
        q.locked_at, null, case when holder.id is not null then array[holder.id] end
    from job
    join @schema@.job_queues q on q.queue_name = job.queue_name and q.locked_at >= job.expired_before
    left join lateral (
        select h.id from @schema@.jobs h
        where h.queue_name = job.queue_name and h.locked_by = q.locked_by and h.locked_at is not null
        limit 1
    ) holder on true
    where not job.is_running and not job.exhausted
)
select b.code, b.reason, b.since, b.until, b.job_ids from (
    select * from blocking
    union all
    select 5, 'ready', 'ready: the next claim takes it, unless more urgent jobs are ready', job.run_at, null, null
    from job
    where not exists (select from blocking)
) b
order by b.position

-- name: job_runs
-- $1 job, $2 the maximum number: the latest attempts, oldest first.
select latest.*, (
    select t.traceback from @schema@.job_tracebacks t where t.job_id = latest.job_id and t.ended_at = latest.ended_at
) as traceback
from (
    select r.* from @schema@.job_runs r where r.job_id = $1 order by r.ended_at desc, r.attempt desc limit $2
) latest
order by latest.ended_at, latest.attempt

-- name: job_states
-- $1 jobs. Returns those that exist.
select j.id, j.exhausted, j.ended_as, j.is_running, j.is_parked, j.run_at > now() as is_delayed
from @jobs@ j
where j.id = any ($1::bigint[])

-- name: highest_job_id
select max(id) from @schema@.jobs

-- name: highest_completed_id
select max(id) from @schema@.completed_jobs

-- name: count_states
-- All jobs by state: in total, by task, and by queue. $1 the maximum number of queues: those with the most jobs. Task
-- and queue are counted together first, which several processes of the server can share.
with counted as (
    select j.task_identifier, j.queue_name,
        count(*) filter (where not j.is_running and not j.exhausted and j.run_at <= now()) as ready,
        count(*) filter (where not j.is_running and not j.exhausted) as waiting,
        count(*) filter (where j.is_parked) as parked,
        count(*) filter (where j.is_running) as running,
        count(*) filter (where not j.is_running and j.ended_as = 'cancelled') as cancelled,
        count(*) filter (where not j.is_running and j.ended_as = 'expired') as expired,
        count(*) as jobs,
        min(nullif(j.run_at, '-infinity')) filter (where not j.is_running and not j.exhausted) as first_run_at
    from @jobs@ j
    group by j.task_identifier, j.queue_name
),
summed as (
    select grouping(c.task_identifier) = 0 as is_task, grouping(c.queue_name) = 0 as is_queue,
        c.task_identifier, c.queue_name,
        coalesce(sum(c.ready), 0)::bigint as ready,
        coalesce(sum(c.waiting - c.ready - c.parked), 0)::bigint as delayed,
        coalesce(sum(c.parked), 0)::bigint as parked,
        coalesce(sum(c.running), 0)::bigint as running,
        coalesce(sum(c.jobs - c.waiting - c.running - c.cancelled - c.expired), 0)::bigint as failed,
        coalesce(sum(c.cancelled), 0)::bigint as cancelled,
        coalesce(sum(c.expired), 0)::bigint as expired,
        coalesce(sum(c.jobs), 0)::bigint as jobs,
        case when sum(c.ready) > 0 then extract(epoch from now() - min(c.first_run_at))::float8 end
            as oldest_ready_seconds
    from counted c
    group by grouping sets ((), (c.task_identifier), (c.queue_name))
)
(select s.*, now() as now from summed s where not s.is_queue)
union all
(
    select s.*, now() as now
    from summed s
    where s.is_queue and s.queue_name is not null
    order by s.jobs desc, s.queue_name
    limit $1
)

-- name: count_matching_states
-- $1-$18 as in jobs_matching.
select
    count(*) filter (where not j.is_running and not j.exhausted and j.run_at <= now()) as ready,
    count(*) filter (where not j.is_running and not j.exhausted and j.run_at > now() and not j.is_parked) as delayed,
    count(*) filter (where j.is_parked) as parked,
    count(*) filter (where j.is_running) as running,
    count(*) filter (where not j.is_running and j.exhausted and j.ended_as is null) as failed,
    count(*) filter (where not j.is_running and j.ended_as = 'cancelled') as cancelled,
    count(*) filter (where not j.is_running and j.ended_as = 'expired') as expired
from @jobs@ j
where
@matching@

-- name: throughput
-- Attempts that ended in [$1, $2), by periods of the length $3, of the task $4 (null: of all).
select date_bin($3, r.ended_at, '2000-01-01 00:00:00+00') as at,
    count(*) filter (where r.outcome = 'completed') as completed,
    count(*) filter (where r.outcome <> 'completed') as failed,
    avg(r.seconds) as mean_seconds,
    percentile_cont(array[0.5, 0.95]) within group (order by r.seconds) as percentiles,
    max(r.seconds) as max_seconds,
    percentile_cont(0.95) within group (order by r.queue_seconds) as queue_p95_seconds
from (
    select h.ended_at, h.outcome, extract(epoch from h.ended_at - h.started_at)::float8 as seconds,
        greatest(extract(epoch from h.started_at - greatest(h.due_at, h.enqueued_at))::float8, 0) as queue_seconds
    from @schema@.job_runs h
    where h.ended_at >= $1 and h.ended_at < $2
        and h.started_at is not null
        and h.outcome in ('completed', 'failed', 'permanently_failed', 'lost')
        and ($4::text is null or h.task_identifier = $4)
) r
group by 1
order by 1

-- name: running_by_worker
select j.locked_by, count(*) as jobs from @jobs@ j where j.is_running group by j.locked_by order by j.locked_by

-- name: list_workers
select w.worker_id, w.host, w.pid, w.version, w.roles, w.concurrency, w.in_flight, w.started_at, w.last_heartbeat_at,
    w.last_heartbeat_at > now() - 3 * w.heartbeat_interval as is_alive, w.tasks, w.queues
from @schema@.workers w
order by w.worker_id, w.host, w.pid

-- name: worker_heartbeats
-- The processes that run jobs: whether they are alive, and whether they stopped to send heartbeats in the last hour.
select w.worker_id, w.last_heartbeat_at,
    w.last_heartbeat_at > now() - 3 * w.heartbeat_interval as is_alive,
    w.last_heartbeat_at <= now() - 3 * w.heartbeat_interval
        and w.last_heartbeat_at > now() - interval '1 hour'
        and not exists (
            select from @schema@.workers o
            where o.worker_id = w.worker_id and o.last_heartbeat_at > now() - 3 * o.heartbeat_interval
        ) as is_recently_silent
from @schema@.workers w
where 'worker' = any (w.roles)
order by w.worker_id, w.last_heartbeat_at

-- name: paused_schedules
select s.id, s.task_identifier from @schema@.scheduled_jobs s where s.paused_at is not null order by s.id limit 1000

-- name: write_temporary_file
-- The rows do not fit into a work_mem of 64 kB, so that the function's result is written to a temporary file.
select count(*) from generate_series(1, 10000) as written (number)

-- name: recent_tasks
-- The tasks of the latest jobs. $1 the number of jobs to read.
select distinct latest.task_identifier
from (select j.task_identifier from @schema@.jobs j order by j.id desc limit $1) latest

-- name: recently_run_tasks
-- The tasks of the attempts that ended last. $1 the number of attempts to read.
select distinct latest.task_identifier
from (select r.task_identifier from @schema@.job_runs r order by r.ended_at desc limit $1) latest

-- name: history_retention
-- For how many days attempts are kept; 0: none are recorded.
select extract(epoch from h.retention)::float8 / 86400 from @schema@.history_settings h

-- name: keys_in_byte_order
-- $1: the schema's name. Whether its index on job keys is in the order of bytes (as in a database made with C or
-- C.UTF-8): only then do all keys with one beginning lie between two known bounds.
select
    case c.collname
        when 'C' then true
        when 'default' then
            case to_jsonb(d) ->> 'datlocprovider' -- not there before PostgreSQL 15
                when 'i' then false
                when 'b' then true
                else d.datcollate in ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
            end
        else false
    end
from pg_catalog.pg_class t
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attname = 'key'
join pg_catalog.pg_collation c on c.oid = a.attcollation
join pg_catalog.pg_database d on d.datname = current_database()
where n.nspname = $1 and t.relname = 'jobs'

-- name: clock
-- The current time of the database.
select clock_timestamp()

-- name: retry_jobs
-- $1 jobs. Returns those that had permanently failed, and are ready now.
select retried.id from @schema@.retry_jobs($1) as retried (id)

-- name: run_jobs_now
-- $1 jobs. Returns those that were delayed, and are ready now. Parked ones would only park again.
select moved.id
from @schema@.run_jobs_now(array(select j.id from @jobs@ j where j.id = any ($1::bigint[]) and not j.is_parked))
    as moved (id)

-- name: wakeable_ids
-- $1 jobs. Returns those that are parked until a time.
select distinct s.job_id as id
from @schema@.job_steps s
where s.job_id = any ($1::bigint[]) and s.state = 'waiting' and s.wake_at is not null

-- name: wake_jobs
-- $1 jobs. Returns those that were parked until a time, and are ready now. Others would only park again.
select woken.id
from @schema@.wake_jobs(
    array(
        select s.job_id from @schema@.job_steps s
        where s.job_id = any ($1::bigint[]) and s.state = 'waiting' and s.wake_at is not null
    )
) as woken (id)

-- name: run_platform_jobs_now
-- As run_jobs_now, on the platform's schema.
select moved.id
from @schema@.reschedule_jobs(
    array(
        select j.id from @schema@.jobs j
        where j.id = any ($1::bigint[]) and j.locked_at is null and j.attempts < j.max_attempts and j.run_at > now()
        order by j.id
        for update
    ),
    run_at := now()
) moved

-- name: cancel_jobs
-- $1 jobs, $2 the reason, $3 whether to include running ones. Returns those that were cancelled.
select cancelled.job_id as id from @schema@.cancel_jobs($1, $2, $3) cancelled

-- name: remove_jobs
-- $1 jobs. Returns those that no worker ran, and that are deleted.
select removed.id from @schema@.complete_jobs($1) removed

-- name: notify_cancelled
-- Let workers look for cancelled jobs among those that they run.
select pg_notify('jobs:cancel', '')

-- name: notify_jobs
-- Wake workers: there may be ready jobs.
select pg_notify('jobs:insert', '')

-- name: horizon_holders
-- The oldest transactions, prepared ones, slots and standbys, which keep vacuum from removing dead rows. Vacuums have snapshots that do not count.
select holder.kind, holder.name, holder.seconds, holder.transactions, holder.advice
from (
    select
        'session' as kind,
        format('%s of %s (%s)', a.pid, a.usename, coalesce(a.state, a.backend_type)) as name,
        extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8 as seconds,
        greatest(age(a.backend_xmin), age(a.backend_xid)) as transactions,
        format('end the transaction, or run: select pg_terminate_backend(%s)', a.pid) as advice
    from pg_stat_activity a
    where a.datname = current_database()
        and a.pid <> pg_backend_pid()
        and a.backend_type not in ('walsender', 'autovacuum worker')
        and a.query !~* '^\s*vacuum'
        and coalesce(a.backend_xmin, a.backend_xid) is not null
    union all
    select
        'prepared transaction',
        left(p.gid, 100),
        extract(epoch from clock_timestamp() - p.prepared)::float8,
        age(p.transaction),
        format('run: rollback prepared %L, or commit it', left(p.gid, 100))
    from pg_prepared_xacts p
    where p.database = current_database()
    union all
    select
        'replication slot',
        s.slot_name::text,
        null,
        age(s.xmin),
        format('start its standby, or run: select pg_drop_replication_slot(%L)', s.slot_name)
    from pg_replication_slots s
    where s.xmin is not null
    union all
    select
        'standby',
        format('%s at %s', coalesce(nullif(r.application_name, ''), '?'), coalesce(host(r.client_addr), 'a socket')),
        null,
        age(r.backend_xmin),
        'end long queries on the standby, or set hot_standby_feedback = off there'
    from pg_stat_replication r
    where r.backend_xmin is not null
) holder
order by holder.transactions desc, holder.seconds desc nulls last

-- name: list_limits
select l.name, l.task_identifier as task, l.queue_name as queue, l.per, l.concurrency, l.rate_count, l.rate_interval,
    l.set_by, l.pauses_on_retry_later,
    (select count(*) from @schema@.limit_slots s where s.limit_name = l.name) as running,
    (select count(*) from @schema@.held_jobs h where h.limit_name = l.name) as held,
    (
        select coalesce(sum(s.starts), 0) from @schema@.limit_starts s
        where s.limit_name = l.name and s.ends_at > now() - l.rate_interval
    ) as starts
from @schema@.limits l
order by l.name

-- name: list_limit_keys
-- $1 the maximum number of keys of a limit, $2 of running jobs of a key.
with counted as (
    select s.limit_name, s.key, count(*) as running, 0 as held, 0 as starts
    from @schema@.limit_slots s
    group by s.limit_name, s.key
    union all
    select h.limit_name, h.key, 0, count(*), 0 from @schema@.held_jobs h group by h.limit_name, h.key
    union all
    select s.limit_name, s.key, 0, 0, sum(s.starts)
    from @schema@.limit_starts s
    join @schema@.limits l on l.name = s.limit_name
    where s.ends_at > now() - l.rate_interval
    group by s.limit_name, s.key
    union all
    select k.limit_name, k.key, 0, 0, 0
    from @schema@.limit_keys k
    where k.paused_until > now() or k.wake_at is not null
),
ranked as (
    select counted.limit_name, counted.key, sum(counted.running)::bigint as running, sum(counted.held)::bigint as held,
        sum(counted.starts)::bigint as starts,
        row_number() over (
            partition by counted.limit_name order by sum(counted.held) desc, sum(counted.running) desc, counted.key
        ) as position
    from counted
    group by counted.limit_name, counted.key
)
select r.limit_name, r.key, r.running, r.held, r.starts,
    case when k.paused_until > now() then k.paused_until end as paused_until, k.wake_at as wakes_at,
    array(
        select coalesce(c.job_id, s.job_id)
        from @schema@.limit_slots s
        left join @schema@.cancelled_runs c on c.id = -s.job_id -- their handlers clean up
        where s.limit_name = r.limit_name and s.key = r.key
        order by 1
        limit $2
    ) as job_ids
from ranked r
left join @schema@.limit_keys k on k.limit_name = r.limit_name and k.key = r.key
where r.position <= $1
order by r.limit_name, r.position

-- name: set_limit
select from @schema@.set_limit(
    name := $1, task_identifier := $2, queue_name := $3, per := $4, concurrency := $5, rate_count := $6,
    rate_interval := $7, pauses_on_retry_later := $8
)

-- name: remove_limit
select @schema@.remove_limit($1) as is_found

-- name: pause_limit_key
-- $1 the limit, $2 the key, $3 for how long; null: not any more, if it is paused.
select
    case
        when p.is_changed then @schema@.pause_limit_key($1, $2, now() + $3::interval)
        else exists (select from @schema@.limits l where l.name = $1)
    end as is_found,
    p.is_changed
from (
    select $3::interval is not null or exists (
        select from @schema@.limit_keys k where k.limit_name = $1 and k.key = $2 and k.paused_until > now()
    ) as is_changed
) p

-- name: audit_log
-- $1 since, $2 a part of the name of the actor or the role, $3 action, $4 entries before this id, $5 the maximum number;
-- $1 to $4 can be null. The entries of a bulk action are one. Reads the newest 10,000 that match.
with found as (
    select a.*
    from @schema@.audit_log a
    where ($1::timestamptz is null or a.at >= $1)
        and ($2::text is null or strpos(lower(a.actor), lower($2)) > 0 or strpos(lower(a.role), lower($2)) > 0)
        and ($3::text is null or a.action = $3)
        and ($4::bigint is null or a.id < $4)
        and ($4 is null or a.operation is null or not exists (
            select from @schema@.audit_log listed where listed.operation = a.operation and listed.id >= $4
        ))
    order by a.id desc
    limit 10000
)
select max(f.id) as id, min(f.at) as at, f.actor, f.role, f.source, f.action, f.target,
    sum(f.job_count)::int as job_count, (array_agg(f.details order by f.id))[1] as details
from found f
group by coalesce(f.operation::text, f.id::text), f.actor, f.role, f.source, f.action, f.target
order by 1 desc
limit $5

-- name: pauses
select kind, name, since, until, paused_by, reason
from @schema@.pauses
where until is null or until > now()
order by since, kind, name

-- name: pause
-- $1 task, $2 queue, $3 tenant, $4 whether everything, $5 for how many seconds, $6 until when, $7 reason, $8 by whom.
select p.kind
from @schema@.pause(
    task := $1, queue := $2, tenant := $3::text::uuid, everything := $4,
    until := coalesce($6::timestamptz, now() + make_interval(secs => $5::float8)), reason := $7, paused_by := $8
) p

-- name: resume
-- Arguments as pause.
select @schema@.resume(task := $1, queue := $2, tenant := $3::text::uuid, everything := $4) as resume

-- name: tenant_weights
select database_id::text as tenant, weight from @schema@.tenant_weights order by weight desc, database_id

-- name: set_tenant_weight
select @schema@.set_tenant_weight($1::text::uuid, $2)
