-- $1 worker, $2 job, $3 attempt, $4 the lease, $5 progress or null, $6 note or null. Whether this worker holds it.
select @schema@.note_progress($1, $2, $3, $4, $5, $6)
