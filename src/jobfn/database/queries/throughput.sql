-- Attempts that ended in [$1, $2), by minute.
select date_trunc('minute', r.ended_at) as at,
    count(*) filter (where r.outcome = 'completed') as completed,
    count(*) filter (where r.outcome <> 'completed') as failed,
    avg(r.seconds) as mean_seconds,
    percentile_cont(array[0.5, 0.95]) within group (order by r.seconds) as shares,
    max(r.seconds) as max_seconds,
    percentile_cont(0.95) within group (order by r.queue_seconds) as queue_p95_seconds
from (
    select h.ended_at, h.outcome, extract(epoch from h.ended_at - h.started_at)::float8 as seconds,
        greatest(extract(epoch from h.started_at - greatest(h.due_at, h.enqueued_at))::float8, 0) as queue_seconds
    from @schema@.job_runs h
    where h.ended_at >= $1 and h.ended_at < $2
        and h.started_at is not null
        and h.outcome in ('completed', 'failed', 'failed_for_good', 'lost')
) r
group by 1
order by 1
