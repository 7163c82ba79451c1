-- $1 job, $2 whether it failed for good, $3 delay or null for the contract's backoff, which fail_job has set.
update @schema@.jobs j
set attempts = case when $2 then j.max_attempts else j.attempts end,
    run_at = coalesce(now() + $3, j.run_at)
where j.id = $1
