-- $1 worker, $2 host, $3 process, $4 version, $5 parts, $6 concurrency, $7 in flight, $8 how often this is said.
select @schema@.note_worker($1, $2, $3, $4, $5, $6, $7, $8)
