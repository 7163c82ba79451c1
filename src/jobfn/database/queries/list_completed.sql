-- Jobs that are done, newest first, from history. $1 ids below this, $2 task, $3 queue, $4 id, $5 tenant, $6 worker,
-- $7 at least so old, $8 at most so old, $9 the beginning of the task, each null for any; $10 how many.
select r.*
from @schema@.job_runs r
where r.outcome = 'completed'
    and ($1::bigint is null or r.job_id < $1)
    and ($2::text is null or r.task_identifier = $2)
    and ($3::text is null or r.queue_name = $3)
    and ($4::bigint is null or r.job_id = $4)
    and ($5::uuid is null or r.database_id = $5)
    and ($6::text is null or r.worker = $6)
    and ($7::interval is null or r.enqueued_at <= now() - $7)
    and ($8::interval is null or r.enqueued_at > now() - $8)
    and ($9::text is null or starts_with(r.task_identifier, $9))
order by r.job_id desc
limit $10
