-- $1 workers, $2 jobs, $3 attempts (null: any), $4 outcomes, $5 errors, $6 delays. Returns the ids that changed.
select id from @schema@.settle_held_jobs($1, $2, $3, $4, $5, $6)
