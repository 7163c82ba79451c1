-- $1 worker, $2 jobs, $3 their attempts, $4 the lease. On a schema without a column for it, a held job's run_at says
-- until when its lock is good: nobody else reads it while the job is locked, and only a lease puts it after locked_at.
-- Returns the ids that this worker does hold.
update @schema@.jobs j
set run_at = now() + $4
from unnest($2::bigint[], $3::int[]) as mine (job_id, attempt)
where j.id = mine.job_id
    and j.locked_by = $1
    and (j.attempts = mine.attempt or j.attempts = j.max_attempts)
returning j.id
