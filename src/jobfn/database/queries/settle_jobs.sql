-- $1 workers, $2 jobs, $3 attempts (null: any), $4 errors (null: completed). Returns the ids that changed.
select id from @schema@.settle_held_jobs($1, $2, $3, $4)
