-- $1 days; 0 for no history.
select @schema@.set_history_days($1)
