-- $1 jobs. Returns those that nobody held, and that are gone.
select removed.id from @schema@.complete_jobs($1) removed
