-- Record and load the steps of durable functions, and park their jobs.

-- name: record_steps
-- $1 workers, $2 jobs, $3 attempts, $4 the lease, and of each step: $5 position, $6 name, $7 kind, $8 state, $9 group,
-- $10 result, $11 error, $12 seconds, $13 what it waits for or calls. Returns the steps as they are recorded, without
-- those of jobs that are not held.
select job_id, step_position, name, state, result
from @schema@.record_steps(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, cast($10::text[] as json[]), $11, $12, cast($13::text[] as json[])
)

-- name: load_steps
-- $1 workers, $2 jobs, $3 attempts, $4 positions to begin after, $5 about how many bytes to return for each job.
select * from @schema@.load_steps($1, $2, $3, $4, $5)

-- name: park_jobs
-- $1 workers, $2 jobs, $3 attempts (null: any), $4 the groups of steps that each waits for, as JSON arrays. Returns the
-- jobs that changed.
select id, task_identifier, database_id, attempts from @schema@.park_jobs($1, $2, $3, cast($4::text[] as json[]))

-- name: signal_job
-- $1 job, $2 the event, $3 the payload or null. Returns whether the job got it.
select @schema@.signal(cast($1 as bigint), $2, cast($3::text as json))

-- name: signal_job_key
-- As signal_job. $1 the job's key or, else, its id.
select @schema@.signal(cast($1 as text), $2, cast($3::text as json))

-- name: may_signal_as_operator
-- $1 the schema's name. Whether this role may send signals that are recorded in the audit list.
select exists (
    select from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = $1 and p.proname = 'signal_by_operator' and has_function_privilege(p.oid, 'execute')
)

-- name: signal_job_as_operator
select @schema@.signal_by_operator(cast($1 as bigint), $2, cast($3::text as json))

-- name: signal_job_key_as_operator
select @schema@.signal_by_operator(cast($1 as text), $2, cast($3::text as json))
