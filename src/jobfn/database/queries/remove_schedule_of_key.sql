delete from @schema@.scheduled_jobs where key = $1 returning id
