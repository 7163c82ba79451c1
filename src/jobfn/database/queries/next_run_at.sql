-- When the next delayed job is due, in seconds from now; null when none is delayed.
select extract(epoch from min(run_at) - now())::float8
from @schema@.jobs
where not exhausted and run_at > now()
