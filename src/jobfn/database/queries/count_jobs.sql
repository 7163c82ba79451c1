-- $1-$13 as in jobs_matching.sql, $14 how far to count.
select count(*)
from (
    select
    from @jobs@ j
    where
@matching@
    limit $14
) matching
