-- The tasks of the attempts that ended last. $1 how many attempts to look at.
select distinct latest.task_identifier
from (select r.task_identifier from @schema@.job_runs r order by r.ended_at desc limit $1) latest
