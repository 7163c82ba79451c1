-- $1 worker, $2 job, $3 the attempt or null: locks the job's row, if this worker holds it in that attempt. An
-- attempt at the limit also counts: the platform's add_job puts it there when it takes a running job's key away.
select id, task_identifier, database_id, attempts from @schema@.jobs
where id = $2 and locked_by = $1 and ($3::int is null or attempts = $3 or attempts = max_attempts)
for update
