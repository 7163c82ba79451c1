select @schema@.release_jobs($1)
