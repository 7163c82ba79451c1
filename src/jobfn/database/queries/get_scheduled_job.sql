-- $1 scheduler, $2 task identifiers or null.
select s.id, s.task_identifier, s.schedule_info, s.locked_by, s.locked_at, s.last_scheduled
from @schema@.get_scheduled_job($1, $2) s
where s.id is not null
