-- $1 jobs. Those that are there.
select j.id, j.exhausted, j.is_held, j.run_at > now() as is_delayed from @jobs@ j where j.id = any ($1::bigint[])
