-- As next_run_at, for schemas without the column exhausted.
select extract(epoch from min(run_at) - now())::float8
from @schema@.jobs
where attempts < max_attempts and run_at > now() - $1::interval and locked_at is null
