select pg_advisory_unlock(456568464)
