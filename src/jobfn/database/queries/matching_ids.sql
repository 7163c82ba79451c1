-- $1-$11 as in jobs_matching.sql, $12 how many. The highest first.
select j.id
from @jobs@ j
where
@matching@
order by j.id desc
limit $12
