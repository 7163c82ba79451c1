-- $1 worker: unlocks what it held when it died. Returns the jobs as they were held; before migration
-- 0015, their ids alone.
select taken.* from @schema@.take_back_jobs($1) as taken (id)
