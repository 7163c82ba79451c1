-- $1 worker, $2 jobs, $3 their attempts, $4 the lease. Returns the ids that this worker does hold.
select held.id from @schema@.renew_leases($1, $2, $3, $4) as held (id)
