-- $1 schedule: locks its row.
select id, task_identifier, schedule_info, locked_by, locked_at, last_scheduled
from @schema@.scheduled_jobs
where id = $1 and locked_at is not null and locked_by is not null
for update
