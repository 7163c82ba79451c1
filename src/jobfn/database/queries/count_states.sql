-- All jobs by state: in all, by task, and by named queue. $1 how many queues at most: those with the most jobs. Task and
-- queue are counted together first, which several processes of the server can share.
with counted as (
    select j.task_identifier, j.queue_name,
        count(*) filter (where not j.is_held and not j.exhausted and j.run_at <= now()) as ready,
        count(*) filter (where not j.is_held and not j.exhausted) as waiting,
        count(*) filter (where j.is_held) as running,
        count(*) as jobs,
        min(j.run_at) filter (where not j.is_held and not j.exhausted) as first_run_at
    from @jobs@ j
    group by j.task_identifier, j.queue_name
),
summed as (
    select grouping(c.task_identifier) = 0 as is_task, grouping(c.queue_name) = 0 as is_queue,
        c.task_identifier, c.queue_name,
        coalesce(sum(c.ready), 0)::bigint as ready,
        coalesce(sum(c.waiting - c.ready), 0)::bigint as delayed,
        coalesce(sum(c.running), 0)::bigint as running,
        coalesce(sum(c.jobs - c.waiting - c.running), 0)::bigint as failed,
        coalesce(sum(c.jobs), 0)::bigint as jobs,
        case when sum(c.ready) > 0 then extract(epoch from now() - min(c.first_run_at))::float8 end
            as oldest_ready_seconds
    from counted c
    group by grouping sets ((), (c.task_identifier), (c.queue_name))
)
(select s.*, now() as now from summed s where not s.is_queue)
union all
(
    select s.*, now() as now
    from summed s
    where s.is_queue and s.queue_name is not null
    order by s.jobs desc, s.queue_name
    limit $1
)
