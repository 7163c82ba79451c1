-- Unlocks the jobs whose lease (see lease_platform.sql) is over, and their queues. Other workers' locks stay.
with freed as (
    update @schema@.jobs j
    set locked_at = null,
        locked_by = null,
        last_error = case
            when j.attempts < j.max_attempts then j.last_error
            else format('the worker %s died, or lost its lease, in the last attempt', j.locked_by)
        end
    where j.locked_at is not null and j.run_at > j.locked_at and j.run_at < now()
    returning j.queue_name
)
update @schema@.job_queues q
set locked_at = null, locked_by = null
from freed
where q.queue_name = freed.queue_name
