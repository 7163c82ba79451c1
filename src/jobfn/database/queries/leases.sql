-- Keep and end the locks of jobs; heartbeats of workers; pruning and vacuuming.

-- name: renew_leases
-- $1 worker, $2 jobs, $3 their attempts, $4 the lease. Returns the ids that this worker has locked.
select renewed.id from @schema@.renew_leases($1, $2, $3, $4) as renewed (id)

-- name: heartbeat_job
-- $1 worker, $2 job, $3 attempt, $4 the lease, $5 progress or null, $6 message or null, $7 the tag of the job's row or
-- null. Returns whether this worker has locked the job.
select @schema@.heartbeat_job($1, (@schema@.same_jobs(array[$2::bigint], array[$7::bigint]))[1], $3, $4, $5, $6)

-- name: cancelled_jobs
-- $1 jobs, $2 their attempts. Returns the ids of those that were cancelled while they ran.
select cancelled.id from @schema@.cancelled_jobs($1, $2) as cancelled (id)

-- name: end_cancelled_run
-- $1 worker, $2 job, $3 attempt (null: any). Returns whether its handler kept a slot or a queue.
select @schema@.end_cancelled_run($1, $2, $3)

-- name: expire_jobs
-- End jobs that wait past their expires_at. Returns their ids.
select expired.id from @schema@.expire_jobs() as expired (id)

-- name: has_lease
-- $1 worker, $2 job, $3 attempt, $4 the tag of the job's row or null.
select @schema@.has_lease($1, (@schema@.same_jobs(array[$2::bigint], array[$4::bigint]))[1], $3)

-- name: mark_accepted
-- $1 worker, $2 job, $3 attempt.
select @schema@.mark_accepted($1, $2, $3)

-- name: release_jobs
-- $1 worker.
select @schema@.release_jobs($1)

-- name: reclaim_jobs
-- $1 worker: the jobs that it had locked when it died.
select * from @schema@.reclaim_jobs($1)

-- name: reap_expired_jobs
-- $1 the age at which a lock without a lease expires.
select * from @schema@.reap_expired_jobs($1)

-- name: heartbeat_worker
-- $1 worker, $2 host, $3 process, $4 version, $5 roles, $6 concurrency, $7 in flight, $8 interval of heartbeats, $9 tasks
-- or null, $10 queues or null, $11 the maximum size of large payloads in flight.
select @schema@.heartbeat_worker($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: deregister_worker
-- $1 worker, $2 host, $3 process.
select @schema@.deregister_worker($1, $2, $3)

-- name: set_history_retention
-- $1 days; 0 turns the history off.
select @schema@.set_history_retention($1)

-- name: set_completed_payload_retention
-- $1 days; 0 stores no completed jobs.
select @schema@.set_completed_payload_retention($1)

-- name: prune_completed_jobs
-- $1 the maximum number.
select @schema@.prune_completed_jobs($1)

-- name: prune_failed_jobs
-- $1 retention, $2 ids above this, $3 the maximum number to read.
select removed, last_id from @schema@.prune_failed_jobs($1, $2, $3)

-- name: create_job_runs_partitions
-- $1 the number of days after today.
select @schema@.create_job_runs_partitions($1)

-- name: prune_job_runs
-- $1 the maximum number of rows. Returns the number of deleted rows.
select greatest(
    @schema@.prune_job_runs($1), @schema@.prune_job_tracebacks($1), @schema@.prune_audit_log($1)
)

-- name: prune_unique_jobs
-- $1 the maximum number of keys. Returns the number of keys that it has looked at.
select @schema@.prune_unique_jobs($1)

-- name: sweep_limits
select @schema@.sweep_limits()

-- name: limit_usage
select * from @schema@.limit_usage()

-- name: jobs_vacuum_state
-- Whether the jobs table should be vacuumed, from the catalog and the statistics, which every role may read. $1 the
-- schema's name, $2 the number of dead rows from which it reads the locks too.
select
    pg_stat_get_live_tuples(c.oid) as live,
    pg_stat_get_dead_tuples(c.oid) as dead,
    pg_stat_get_vacuum_count(c.oid) + pg_stat_get_autovacuum_count(c.oid) as vacuums,
    -- the owner of the table or of the database, a superuser, and since 17 each role with the right to maintain
    pg_has_role(c.relowner, 'usage') or pg_has_role(d.datdba, 'usage') or case
        when current_setting('server_version_num')::int >= 170000 then has_table_privilege(c.oid, 'maintain')
        else false
    end as is_allowed,
    -- another session vacuums, or has a lock that a vacuum would wait for: skip_locked would leave a warning in the log
    case when pg_stat_get_dead_tuples(c.oid) >= $2 then exists (
        select from pg_catalog.pg_locks l
        where l.relation = c.oid
            and l.database = d.oid
            and l.mode in (
                'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
            )
    ) else false end as is_locked
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = $1
join pg_catalog.pg_database d on d.datname = current_database()
where c.relname = 'jobs'

-- name: vacuum_jobs
-- Outside a transaction. Skips the table if another session has it, does not truncate the file, which would lock the
-- table, and uses one process, because the jobs need the others.
vacuum (skip_locked, truncate false, parallel 0) @schema@.jobs

-- name: record_learned_attempts
-- $1 tasks, $2 the maximum number of attempts that each allows, or null.
select @schema@.record_learned_attempts($1, $2)
