-- $1 job, $2 delay or null: unlocked as if it had not been claimed.
with freed as (
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
from freed
where q.queue_name = freed.queue_name
