-- All jobs by state: in all, by task, and by named queue. $1 how many queues at most: those with the most jobs.
with counted as (
    select grouping(j.task_identifier) = 0 as is_task, grouping(j.queue_name) = 0 as is_queue,
        j.task_identifier, j.queue_name,
        count(*) filter (where not j.is_held and not j.exhausted and j.run_at <= now()) as ready,
        count(*) filter (where not j.is_held and not j.exhausted and j.run_at > now()) as delayed,
        count(*) filter (where j.is_held) as running,
        count(*) filter (where not j.is_held and j.exhausted) as failed,
        extract(epoch from now() - min(j.run_at) filter (
            where not j.is_held and not j.exhausted and j.run_at <= now()
        ))::float8 as oldest_ready_seconds,
        count(*) as jobs
    from @jobs@ j
    group by grouping sets ((), (j.task_identifier), (j.queue_name))
)
(select c.*, now() as now from counted c where not c.is_queue)
union all
(
    select c.*, now() as now
    from counted c
    where c.is_queue and c.queue_name is not null
    order by c.jobs desc, c.queue_name
    limit $1
)
