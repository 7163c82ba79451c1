-- $1 after how long a lock without a lease counts as forgotten. Returns the jobs as they were held; before migration
-- 0015, their ids alone.
select buried.* from @schema@.bury_expired_jobs($1) as buried (id)
