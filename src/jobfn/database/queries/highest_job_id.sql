select max(id) from @schema@.jobs
