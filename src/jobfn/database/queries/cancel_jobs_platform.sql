-- As cancel_jobs.sql, by the contract's functions, which leave alone what runs.
select cancelled.id
from @schema@.permanently_fail_jobs(
    array(
        select j.id from @schema@.jobs j
        where j.id = any ($1::bigint[]) and j.locked_at is null and j.attempts < j.max_attempts
        order by j.id
        for update
    ),
    $2
) cancelled
