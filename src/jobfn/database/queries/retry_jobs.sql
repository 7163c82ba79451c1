-- $1 jobs. Returns those that had failed for good, and now wait anew.
select retried.id from @schema@.retry_jobs($1) as retried (id)
