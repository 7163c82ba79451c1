-- $1 worker, $2 job, $3 attempt: a function has accepted it and reports later.
select @schema@.note_accepted($1, $2, $3)
