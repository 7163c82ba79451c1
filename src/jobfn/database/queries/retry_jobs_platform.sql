-- As retry_jobs.sql, by the contract's functions.
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
