-- $1 worker, $2 host, $3 process.
select @schema@.forget_worker($1, $2, $3)
