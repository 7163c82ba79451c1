-- How many jobs wait, run, and have failed for good, and for how long the oldest ready one has been due, in seconds.
-- Reads no column that a worker's role may not (grant_worker.sql).
select
    count(*) filter (where not exhausted and locked_at is null and run_at <= now()) as ready,
    count(*) filter (where not exhausted and locked_at is null and run_at > now()) as delayed,
    count(*) filter (where locked_at is not null) as running,
    count(*) filter (where exhausted and locked_at is null) as failed,
    coalesce(
        extract(epoch from now() - min(run_at) filter (where not exhausted and locked_at is null and run_at <= now())), 0
    )::float8 as oldest_ready_seconds
from @schema@.jobs
