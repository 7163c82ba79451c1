-- $1 schedule, $2 when, null for the database's clock.
update @schema@.scheduled_jobs set locked_at = coalesce($2, clock_timestamp()) where id = $1
