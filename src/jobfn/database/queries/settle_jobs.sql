-- $1 workers, $2 jobs, $3 attempts (null: any), $4 outcomes, $5 errors, $6 delays. Returns the jobs that
-- changed; of those that were given back, the attempt is one less now.
select id, task_identifier, database_id, attempts from @schema@.settle_held_jobs($1, $2, $3, $4, $5, $6)
