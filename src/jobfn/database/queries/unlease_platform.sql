-- $1 worker, $2 job or null for all: run_at is a time to run at again, before the lock is taken off.
update @schema@.jobs j
set run_at = j.locked_at
where j.locked_by = $1 and ($2::bigint is null or j.id = $2) and j.run_at > j.locked_at
