-- $1-$13 as in jobs_matching.sql, $14 how many. The highest first.
select j.id
from @jobs@ j
where
@matching@
order by j.id desc
limit $14
