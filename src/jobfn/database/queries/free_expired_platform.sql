-- Unlocks the jobs whose lease (see lease_platform.sql) is over, and their queues. Other workers' locks stay. Returns
-- those that have failed for good by that, as they were held.
with expired as materialized (
    select j.*
    from @schema@.jobs j
    where j.locked_at is not null and j.run_at > j.locked_at and j.run_at < now()
    order by j.id
    for update
),
freed as (
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
