-- One migration at a time in a database, whichever schemas they are about. The number spells "jobfn".
select pg_advisory_lock(456568464)
