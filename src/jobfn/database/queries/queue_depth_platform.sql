-- As queue_depth, for schemas without the column exhausted.
select
    count(*) filter (where attempts < max_attempts and locked_at is null and run_at <= now()) as ready,
    count(*) filter (where attempts < max_attempts and locked_at is null and run_at > now()) as delayed,
    count(*) filter (where locked_at is not null) as running,
    count(*) filter (where attempts >= max_attempts and locked_at is null) as failed,
    coalesce(
        extract(
            epoch from now() - min(run_at) filter (
                where attempts < max_attempts and locked_at is null and run_at <= now()
            )
        ),
        0
    )::float8 as oldest_ready_seconds
from @schema@.jobs
