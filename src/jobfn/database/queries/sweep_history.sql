-- $1 how many rows at most. Returns how many went.
select @schema@.sweep_history($1)
