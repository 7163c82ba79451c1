-- For how many days attempts are kept; 0: none are written down.
select extract(epoch from h.keep)::float8 / 86400 from @schema@.history_settings h
