-- $1 job, $2 how many at most: the latest, oldest first.
select latest.*
from (
    select r.* from @schema@.job_runs r where r.job_id = $1 order by r.ended_at desc, r.attempt desc limit $2
) latest
order by latest.ended_at, latest.attempt
