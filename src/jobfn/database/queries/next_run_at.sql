-- When the next delayed job is due, in seconds from now; null when none is delayed. $1: jobs that became due within
-- this time count too, as due now: they did so after whoever asks has looked for ready ones.
select extract(epoch from min(run_at) - now())::float8
from @schema@.jobs
where not exhausted and run_at > now() - $1::interval and locked_at is null
