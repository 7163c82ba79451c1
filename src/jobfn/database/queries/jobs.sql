-- Enqueue, claim and settle jobs, and count those that wait.

-- name: add_job
-- $1 identifier, $2 payload, $3 key, $4 queue, $5 run_at or null for now, $6 max_attempts, $7 priority.
select (@schema@.add_job(
    identifier := $1, payload := $2::json, job_key := $3, queue_name := $4, run_at := coalesce($5, now()),
    max_attempts := $6, priority := $7
)).id

-- name: add_job_for_tenant
-- As add_job, with the tenant as $8.
select (@schema@.add_job(
    db_id := $8, identifier := $1, payload := $2::json, job_key := $3, queue_name := $4,
    run_at := coalesce($5, now()), max_attempts := $6, priority := $7
)).id

-- name: add_job_for_entity
-- As add_job, with $8 entity, $9 organization and $10 what the entity is.
select (@schema@.add_job(
    identifier := $1, payload := $2::json, job_key := $3, queue_name := $4, run_at := coalesce($5, now()),
    max_attempts := $6, priority := $7, entity_id := $8, organization_id := $9, entity_type := $10
)).id

-- name: has_tenant_form
-- $1 the schema's name. Whether it has add_job_for_tenant. The platform's newest schema does not.
select exists (
    select
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = $1 and p.proname = 'add_job' and 'db_id' = any (p.proargnames)
)

-- name: settings
-- $1 names of settings of this session. Returns their values in the same order; '' for those that were never set.
select array(
    select coalesce(current_setting(setting.name, true), '')
    from unnest($1::text[]) with ordinality as setting (name, position)
    order by setting.position
)

-- name: set_settings
-- $1 names of settings, $2 their values until the transaction ends.
select set_config(setting.name, setting.value, true) from unnest($1::text[], $2::text[]) as setting (name, value)

-- name: claim_jobs
-- $1 worker, $2 task identifiers or null, $3 the age at which a lock without a lease expires, $4 the maximum number of
-- jobs, $5 the lease, $6 task identifiers to exclude, $7 the maximum size of payloads over 16 KiB together, $8 the queues
-- or null.
select id, task_identifier, payload, attempts, max_attempts, queue_name, database_id, actor_id, entity_id, traceparent,
    tracestate, organization_id, snoozes, key like 'jobfn:child:%' as is_awaited,
    extract(epoch from locked_at - greatest(run_at, created_at))::float8 as waited_seconds,
    date_part('epoch', created_at) as created_at, priority
from @schema@.claim_jobs($1, $2, $3, $4, $5, $6, $7, $8)

-- name: settle_jobs
-- $1 workers, $2 jobs, $3 attempts (null: any), $4 outcomes, $5 errors, $6 delays. Returns the jobs that changed, as
-- they are now: the attempt of a released job is one less.
select id, task_identifier, database_id, attempts from @schema@.settle_jobs($1, $2, $3, $4, $5, $6)

-- name: settle_jobs_with_results
-- As settle_jobs, with $7 results, $8 storage errors, $9 for how many seconds each result is stored (null: not at all).
select id, task_identifier, database_id, attempts
from @schema@.settle_jobs_with_results($1, $2, $3, $4, $5, $6, cast($7::text[] as json[]), $8, $9)

-- name: settle_jobs_with_tracebacks
-- As settle_jobs_with_results, with $10 tracebacks of failed jobs. Null for $7, $8 and $9 stands for no results.
select id, task_identifier, database_id, attempts
from @schema@.settle_jobs_with_tracebacks($1, $2, $3, $4, $5, $6, cast($7::text[] as json[]), $8, $9, $10)

-- name: same_jobs
-- $1 jobs, $2 the tags of their rows (null: any). Returns the jobs, with a negative id those that have another row. In
-- place of the jobs of another statement, if a report names the rows.
select @schema@.same_jobs($1::bigint[], $2::bigint[])

-- name: snooze_jobs
-- $1 workers, $2 jobs, $3 attempts (null: any), $4 reasons, $5 delays, $6 how long ago the first snooze may be. Returns
-- the jobs that changed, as they are now.
select id, task_identifier, database_id, attempts, exhausted from @schema@.snooze_jobs($1, $2, $3, $4, $5, $6)

-- name: next_run_at
-- Seconds until the next delayed job is due; null if none is delayed. $1: jobs that became due within this time count
-- as due now, because they became so after the caller's last claim.
-- A job with run_at = 'infinity' is parked: it is never due.
select extract(epoch from nullif(@schema@.next_run_at($1::interval), 'infinity') - now())::float8

-- name: paused_jobs
-- $1 jobs. Returns those that are paused.
select paused.id from @schema@.paused_jobs($1::bigint[]) as paused (id)

-- name: pause_limits_of_job
-- $1 worker, $2 job, $3 attempt, $4 the time. Returns whether a limit pauses.
select @schema@.pause_limits_of_job($1, $2, $3, $4)

-- name: callback_secret
select @schema@.callback_secret()

-- name: is_locked_without_lease
-- $1 worker, $2 job.
select @schema@.is_locked_without_lease($1, $2)

-- name: installation_id
select @schema@.installation_id()

-- name: set_default_expiry
-- $1 the time after which jobs that this transaction adds are not started.
select @schema@.set_default_expiry($1)

-- name: queue_depth
-- The number of jobs by state, and for how many seconds the oldest ready one has been due. Reads no column that a
-- worker's role may not (grant_worker).
select
    count(*) filter (where not exhausted and locked_at is null and run_at <= now()) as ready,
    greatest(
        count(*) filter (
            where not exhausted and locked_at is null and run_at > now() and parked_attempt is distinct from attempts
        ) - (select count(h.job_id) from @schema@.held_jobs h),
        0
    ) as delayed,
    (select count(h.job_id) from @schema@.held_jobs h) as held,
    count(*) filter (
        where not exhausted and locked_at is null and run_at > now() and parked_attempt = attempts
    ) as parked,
    count(*) filter (where locked_at is not null) as running,
    count(*) filter (where exhausted and locked_at is null and ended_as is null) as failed,
    count(*) filter (where exhausted and locked_at is null and ended_as = 'cancelled') as cancelled,
    count(*) filter (where exhausted and locked_at is null and ended_as = 'expired') as expired,
    coalesce(
        extract(
            epoch from now() - min(nullif(run_at, '-infinity')) filter (
                where not exhausted and locked_at is null and run_at <= now()
            )
        ),
        0
    )::float8 as oldest_ready_seconds,
    (select count(*) from @schema@.pauses p where p.until is null or p.until > now()) as pauses,
    (
        select count(*) from @schema@.scheduled_jobs s where s.paused_at is null and s.last_error is null
    ) as active_schedules,
    (select count(*) from @schema@.scheduled_jobs s where s.paused_at is not null) as paused_schedules,
    (
        select count(*) from @schema@.scheduled_jobs s where s.paused_at is null and s.last_error is not null
    ) as broken_schedules
from @schema@.jobs
