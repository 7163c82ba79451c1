-- $1 schedule. A job that runs counts as running for as long as its worker's lock holds.
select made.id, made.database_id from @schema@.run_scheduled_job($1, interval '4 hours') as made
