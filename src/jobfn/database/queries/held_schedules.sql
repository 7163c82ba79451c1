-- $1 task identifiers or null.
select id, task_identifier, schedule_info, locked_by, locked_at, last_scheduled
from @schema@.scheduled_jobs
where locked_at is not null and locked_by is not null and ($1::text[] is null or task_identifier = any ($1))
order by priority, id
