-- $1 scheduler, $2 ids or null for all.
select @schema@.release_scheduled_jobs($1, $2)
