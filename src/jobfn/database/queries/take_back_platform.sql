-- $1 worker: unlocks what it held when it died, and its queues, as free_expired_platform.sql does when a lease ends.
with held as materialized (
    select j.* from @schema@.jobs j where j.locked_by = $1 order by j.id for update
),
freed as (
    update @schema@.jobs j
    set run_at = least(j.run_at, j.locked_at),
        locked_at = null,
        locked_by = null,
        last_error = case
            when j.attempts < j.max_attempts then j.last_error
            else format('the worker %s died, or lost its lease, in the last attempt', j.locked_by)
        end
    from held
    where j.id = held.id
    returning held.id, held.task_identifier, held.attempts, held.locked_by, held.database_id
),
queues as (
    update @schema@.job_queues q set locked_at = null, locked_by = null where q.locked_by = $1
)
select freed.* from freed
