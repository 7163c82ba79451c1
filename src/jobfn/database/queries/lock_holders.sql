-- Who holds how many jobs.
select j.locked_by, count(*) as jobs from @jobs@ j where j.is_held group by j.locked_by order by j.locked_by
