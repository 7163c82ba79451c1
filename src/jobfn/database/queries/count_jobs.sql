-- $1-$11 as in jobs_matching.sql, $12 how far to count.
select count(*)
from (
    select
    from @jobs@ j
    where
@matching@
    limit $12
) matching
