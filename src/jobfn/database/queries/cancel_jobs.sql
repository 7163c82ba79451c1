-- $1 jobs, $2 the reason, $3 whether also those that run. Returns those that were cancelled.
select cancelled.job_id as id from @schema@.cancel_jobs($1, $2, $3) cancelled
