-- Steps, signals and children of durable functions, for the command line and the dashboard. @jobs@ as in operations.sql.

-- name: durable_steps
-- The latest steps, latest first. $1 job, $2 the maximum number, $3 the maximum number of characters of a result.
select s.position, s.name, s.kind, s.state, s.attempt, s.started_at, s.ended_at, s.wake_at, s.event, s.child_id,
    case when not s.is_large then s.value end as result, s.is_large, s.error, s.step_count, s.child_count
from (
    select latest.*, coalesce(latest.is_compressed_large or length(latest.value) > $3, false) as is_large
    from (
        select r.*, pg_column_size(r.result) > 2 * $3 as is_compressed_large,
            -- The size as it is stored is known without reading the value.
            case when pg_column_size(r.result) <= 2 * $3 then r.result::text end as value,
            (select count(*) from @schema@.job_steps c where c.job_id = $1) as step_count,
            (select count(c.child_id) from @schema@.job_steps c where c.job_id = $1) as child_count
        from @schema@.job_steps r
        where r.job_id = $1
        order by r.position desc
        limit $2
    ) latest
) s
order by s.position desc

-- name: unread_signals
-- In the order of arrival. $1 job, $2 the maximum number, $3 the maximum number of characters of a payload.
select g.event, g.sent_at,
    case when pg_column_size(g.payload) <= 2 * $3 and length(g.payload::text) <= $3 then g.payload::text end as payload,
    coalesce(pg_column_size(g.payload) > 2 * $3 or length(g.payload::text) > $3, false) as is_large,
    count(*) over () as signal_count
from @schema@.job_signals g
where g.job_id = $1
order by g.id
limit $2

-- name: durable_waits
-- The groups of steps that a parked job waits for. $1 job, $2 the maximum number.
select s.kind, min(s.event) as event, min(s.wake_at) as until, count(*) filter (where s.state = 'waiting') as waiting,
    count(*) as total
from @schema@.job_steps s
where s.job_id = $1
    and s.kind <> 'then'
    and s.wait_group in (
        select w.wait_group from @schema@.job_steps w where w.job_id = $1 and w.state = 'waiting' and w.kind <> 'then'
    )
group by s.wait_group, s.kind
order by s.wait_group
limit $2

-- name: child_tree
-- The children of a job, and theirs, each before its own. $1 job, $2 the maximum number.
with recursive child as (
    (
        select s.child_id, s.name, s.state, 1 as depth, array[s.position] as path
        from @schema@.job_steps s
        where s.job_id = $1 and s.child_id is not null
        order by s.position
        limit $2
    )
    union all
    select below.child_id, below.name, below.state, child.depth + 1, child.path || below.position
    from child
    cross join lateral (
        select s.child_id, s.name, s.state, s.position
        from @schema@.job_steps s
        where s.job_id = child.child_id and s.child_id is not null
        order by s.position
        limit $2
    ) below
    where child.depth < 20
),
found as (select child.* from child limit 10 * $2)
select found.child_id, found.name, found.state, found.depth, j.task_identifier, j.is_running, j.exhausted, j.ended_as, j.is_parked,
    j.run_at > now() as is_delayed
from found
left join @jobs@ j on j.id = found.child_id
order by found.path
limit $2

-- name: find_step
-- A step by name or position, and what a retry from there would forget. $1 job, $2 the name or null, $3 the position.
select s.position, s.name, later.steps, later.children
from @schema@.job_steps s
cross join lateral (
    select count(*) as steps, count(l.child_id) filter (where l.state = 'waiting') as children
    from @schema@.job_steps l
    where l.job_id = s.job_id and l.position >= s.position
) later
where s.job_id = $1 and s.kind <> 'then' and (s.name = $2 or s.position = $3)

-- name: retry_job_from_step
-- $1 job, $2 the position of the step. Returns whether the job was not running.
select @schema@.retry_job_from_step($1, $2)

-- name: waiting_descendants
-- The children of jobs, and theirs, that wait to run. $1 jobs.
with recursive descendant as (
    select s.child_id, 1 as depth
    from @schema@.job_steps s
    where s.job_id = any ($1::bigint[]) and s.state = 'waiting' and s.child_id is not null
    union all
    select s.child_id, descendant.depth + 1
    from descendant
    join @schema@.job_steps s on s.job_id = descendant.child_id and s.state = 'waiting' and s.child_id is not null
    where descendant.depth < 20
)
select j.id from @schema@.jobs j
where j.id in (select descendant.child_id from descendant) and j.locked_at is null and not j.exhausted

-- name: count_failed
-- $1 jobs. Returns how many of them have permanently failed.
select count(*) from @schema@.jobs j where j.id = any ($1::bigint[]) and j.exhausted and j.locked_at is null
