-- $1 worker: unlocks what it held when it died. Returns the ids.
select taken.id from @schema@.take_back_jobs($1) as taken (id)
