-- $1 after how long a lock without a lease counts as forgotten.
select buried.id from @schema@.bury_expired_jobs($1) as buried (id)
