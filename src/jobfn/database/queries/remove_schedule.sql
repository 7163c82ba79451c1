delete from @schema@.scheduled_jobs where id = $1 returning id
