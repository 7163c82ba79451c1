-- The tasks of the latest jobs. $1 how many jobs to look at.
select distinct latest.task_identifier
from (select j.task_identifier from @schema@.jobs j order by j.id desc limit $1) latest
