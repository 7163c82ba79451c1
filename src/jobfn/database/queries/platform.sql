-- On the platform's schema, by the contract's functions: it has neither batches nor leases, and perhaps fewer
-- columns.

-- name: get_job
-- $1 worker, $2 task identifiers or null, $3 the age at which a lock expires. @actor_id@, @entity_id@ and
-- @organization_id@ are null on schemas without these columns.
select j.id, j.task_identifier, j.payload, j.attempts, j.max_attempts, j.queue_name, j.database_id,
    @actor_id@ as actor_id, @entity_id@ as entity_id, @organization_id@ as organization_id,
    null::text as traceparent, null::text as tracestate,
    null::int as snoozes,
    null::boolean as is_awaited,
    coalesce(extract(epoch from j.locked_at - nullif(j.run_at, '-infinity')), 0)::float8 as waited_seconds,
    date_part('epoch', j.created_at) as created_at, coalesce(j.priority, 0) as priority
from @schema@.get_job($1, $2, $3) j
where j.id is not null

-- name: lock_claimed_job
-- $1 worker, $2 job, $3 the attempt or null, $4 the tag of its row or null (Job.row_tag): lock the job's row, if this
-- worker runs it in that attempt. An attempt at the maximum also counts: the platform's add_job sets it when it takes the
-- key of a running job.
select id, task_identifier, database_id, attempts, last_error, now() as now from @schema@.jobs
where id = $2
    and locked_by = $1
    and ($3::int is null or attempts = $3 or attempts = max_attempts)
    and ($4::bigint is null or ((extract(epoch from created_at) * 1000000)::bigint & 4294967295) = $4)
for update

-- name: complete_job
select (@schema@.complete_job($1, $2)).id

-- name: fail_job
select (@schema@.fail_job($1, $2, $3)).id

-- name: adjust_failed_job
-- $1 job, $2 whether it failed permanently, $3 the delay, or null for the contract's backoff, which fail_job has set.
update @schema@.jobs j
set attempts = case when $2 then j.max_attempts else j.attempts end,
    run_at = coalesce(now() + $3, j.run_at)
where j.id = $1

-- name: snooze_platform_job
-- $1 job, $2 the delay or null: give the attempt of a failed job back.
update @schema@.jobs j
set attempts = greatest(j.attempts - 1, 0), run_at = now() + coalesce($2, interval '0')
where j.id = $1

-- name: release_platform_job
-- $1 job, $2 delay or null: unlock the job; the attempt does not count.
with released as (
    update @schema@.jobs j
    set locked_at = null,
        locked_by = null,
        attempts = greatest(j.attempts - 1, 0),
        run_at = greatest(j.run_at, now() + coalesce($2, interval '0'))
    where j.id = $1
    returning j.queue_name
)
update @schema@.job_queues q
set locked_at = null, locked_by = null
from released
where q.queue_name = released.queue_name

-- name: renew_platform_leases
-- $1 worker, $2 jobs, $3 their attempts, $4 the tags of their rows or nulls, $5 the lease. There is no column for it, so
-- run_at of a locked job holds its end: nobody else reads run_at while the job is locked, and only a lease sets it after
-- locked_at. Returns the ids that this worker has locked.
update @schema@.jobs j
set run_at = now() + $5
from unnest($2::bigint[], $3::int[], $4::bigint[]) as claimed (job_id, attempt, row_tag)
where j.id = claimed.job_id
    and j.locked_by = $1
    and (j.attempts = claimed.attempt or j.attempts = j.max_attempts)
    and (claimed.row_tag is null or ((extract(epoch from j.created_at) * 1000000)::bigint & 4294967295) = claimed.row_tag)
returning j.id

-- name: has_platform_lease
-- $1 worker, $2 job, $3 attempt, $4 the tag of its row or null. See renew_platform_leases.
select exists (
    select from @schema@.jobs j
    where j.id = $2
        and j.locked_by = $1
        and (j.attempts = $3 or j.attempts = j.max_attempts)
        and ($4::bigint is null or ((extract(epoch from j.created_at) * 1000000)::bigint & 4294967295) = $4)
        and j.run_at > j.locked_at
        and j.run_at >= now()
)

-- name: cancelled_platform_jobs
-- $1 jobs. Returns the ids of those that were cancelled: cancel_platform_jobs leaves only their error as a sign.
select j.id
from @schema@.jobs j
where j.id = any ($1::bigint[])
    and j.locked_at is null
    and j.attempts >= j.max_attempts
    and starts_with(j.last_error, 'cancelled')

-- name: end_platform_leases
-- $1 worker, $2 job or null for all: make run_at a time to run at again, before the job is unlocked.
update @schema@.jobs j
set run_at = j.locked_at
where j.locked_by = $1 and ($2::bigint is null or j.id = $2) and j.run_at > j.locked_at

-- name: unlock_expired_platform_jobs
-- Unlock the jobs whose lease has ended, and their queues. $1 the age at which a lock without a lease expires: the
-- platform's newest get_job does not find such jobs. Returns those that have failed permanently by that, as they were
-- locked.
with expired as materialized (
    select j.*
    from @schema@.jobs j
    where j.locked_at is not null
        and case when j.run_at > j.locked_at then j.run_at < now() else j.locked_at < now() - $1::interval end
    order by j.id
    for update
),
unlocked as (
    update @schema@.jobs j
    set locked_at = null,
        locked_by = null,
        last_error = case
            when j.attempts < j.max_attempts then j.last_error
            else format('the worker %s died, or lost its lease, in the last attempt', j.locked_by)
        end
    from expired
    where j.id = expired.id
),
queues as (
    update @schema@.job_queues q
    set locked_at = null, locked_by = null
    from expired
    where q.queue_name = expired.queue_name
)
select id, task_identifier, attempts, locked_by, database_id from expired where attempts >= max_attempts

-- name: reclaim_platform_jobs
-- $1 worker: unlock the jobs and queues that it had locked when it died, as if its leases had ended.
with lost as materialized (
    select j.* from @schema@.jobs j where j.locked_by = $1 order by j.id for update
),
unlocked as (
    update @schema@.jobs j
    set run_at = least(j.run_at, j.locked_at),
        locked_at = null,
        locked_by = null,
        last_error = case
            when j.attempts < j.max_attempts then j.last_error
            else format('the worker %s died, or lost its lease, in the last attempt', j.locked_by)
        end
    from lost
    where j.id = lost.id
    returning lost.id, lost.task_identifier, lost.attempts, lost.locked_by, lost.database_id
),
queues as (
    update @schema@.job_queues q set locked_at = null, locked_by = null where q.locked_by = $1
)
select unlocked.* from unlocked

-- name: next_platform_run_at
-- As next_run_at.
select extract(epoch from min(nullif(run_at, 'infinity')) - now())::float8
from @schema@.jobs
where attempts < max_attempts and run_at > now() - $1::interval and locked_at is null

-- name: platform_installation_id
-- There is no table for it: a hash of the server's identifier, if this role may read it, the database and the table.
select md5(concat_ws(
    ':',
    case
        when has_function_privilege('pg_control_system()', 'execute')
        then (select s.system_identifier from pg_control_system() s)
    end,
    (select d.oid from pg_catalog.pg_database d where d.datname = current_database()),
    pg_typeof(null::@schema@.jobs)::oid
))::uuid

-- name: platform_queue_depth
-- As queue_depth.
select
    count(*) filter (where attempts < max_attempts and locked_at is null and run_at <= now()) as ready,
    count(*) filter (where attempts < max_attempts and locked_at is null and run_at > now()) as delayed,
    count(*) filter (where locked_at is not null) as running,
    count(*) filter (
        where attempts >= max_attempts and locked_at is null and not coalesce(starts_with(last_error, 'cancelled'), false)
    ) as failed,
    count(*) filter (where attempts >= max_attempts and locked_at is null and starts_with(last_error, 'cancelled'))
        as cancelled,
    coalesce(
        extract(
            epoch from now() - min(nullif(run_at, '-infinity')) filter (
                where attempts < max_attempts and locked_at is null and run_at <= now()
            )
        ),
        0
    )::float8 as oldest_ready_seconds
from @schema@.jobs

-- name: retry_platform_jobs
-- As retry_jobs.
select retried.id
from @schema@.reschedule_jobs(
    array(
        select j.id from @schema@.jobs j
        where j.id = any ($1::bigint[]) and j.locked_at is null and j.attempts >= j.max_attempts
        order by j.id
        for update
    ),
    run_at := now(),
    attempts := 0
) retried

-- name: cancel_platform_jobs
-- As cancel_jobs: $1 jobs, $2 the reason, which begins with "cancelled", $3 whether to include running ones.
with target as materialized (
    select j.id, j.queue_name, j.locked_by
    from @schema@.jobs j
    where j.id = any ($1::bigint[])
        and case when j.locked_at is null then j.attempts < j.max_attempts else $3::boolean end
    order by j.id
    for update
),
cancelled as (
    update @schema@.jobs j
    set attempts = j.max_attempts,
        last_error = $2,
        run_at = least(j.run_at, coalesce(j.locked_at, j.run_at)), -- not the end of its lease
        locked_at = null,
        locked_by = null
    from target
    where j.id = target.id
    returning j.id
),
queues as (
    update @schema@.job_queues q
    set locked_at = null, locked_by = null
    from target
    where q.queue_name = target.queue_name and q.locked_by = target.locked_by
)
select cancelled.id from cancelled

-- name: get_scheduled_job
-- $1 scheduler, $2 task identifiers or null.
select s.id, s.task_identifier, s.schedule_info, s.locked_by, s.locked_at, s.last_scheduled
from @schema@.get_scheduled_job($1, $2) s
where s.id is not null

-- name: locked_schedules
-- $1 task identifiers or null.
select id, task_identifier, schedule_info, locked_by, locked_at, last_scheduled
from @schema@.scheduled_jobs
where locked_at is not null and locked_by is not null and ($1::text[] is null or task_identifier = any ($1))
order by priority, id

-- name: locked_schedule
-- $1 schedule: lock its row.
select id, task_identifier, schedule_info, locked_by, locked_at, last_scheduled
from @schema@.scheduled_jobs
where id = $1 and locked_at is not null and locked_by is not null
for update

-- name: touch_scheduled_job
-- $1 schedule, $2 when, null for the database's clock.
update @schema@.scheduled_jobs set locked_at = coalesce($2, clock_timestamp()) where id = $1

-- name: release_scheduled_jobs
-- $1 scheduler, $2 ids or null for all.
select @schema@.release_scheduled_jobs($1, $2)
