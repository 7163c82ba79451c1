-- $1 jobs. Returns those that were delayed, and now are due.
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
