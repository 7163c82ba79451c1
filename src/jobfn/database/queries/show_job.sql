-- $1 job.
select j.*, j.run_at > now() as is_delayed, now() as now from @jobs@ j where j.id = $1
