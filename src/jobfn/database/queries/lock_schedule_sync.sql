-- One sync at a time in a database, until the transaction ends.
select pg_advisory_xact_lock(456568465)
