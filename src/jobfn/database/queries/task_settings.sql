-- Settings of tasks.

-- name: task_settings
-- The settings of each task that has any, with the limit of its name.
select
    coalesce(s.task_identifier, l.name) as task_identifier, s.declared_in, s.queue_name, s.priority, s.max_attempts,
    s.unique_for, s.unique_until, s.unique_by, s.on_conflict, s.override_queue_name, s.override_priority,
    s.override_max_attempts, l.set_by as limit_set_by, l.concurrency, l.rate_count, l.rate_interval, l.per
from @schema@.task_settings s
full join (select * from @schema@.limits l where l.task_identifier = l.name) l on l.name = s.task_identifier
order by 1

-- name: declare_task
-- $1 task, $2 where it is declared or null, $3 queue, $4 priority, $5 max_attempts, $6 period, $7 until, $8 fields, $9
-- what to do with a duplicate.
insert into @schema@.task_settings as s (
    task_identifier, declared_in, queue_name, priority, max_attempts, unique_for, unique_until, unique_by, on_conflict
) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (task_identifier) do update set
    declared_in = excluded.declared_in,
    queue_name = excluded.queue_name,
    priority = excluded.priority,
    max_attempts = excluded.max_attempts,
    unique_for = excluded.unique_for,
    unique_until = excluded.unique_until,
    unique_by = excluded.unique_by,
    on_conflict = excluded.on_conflict,
    updated_at = now()

-- name: override_task
-- $1 task, $2 queue, $3 priority, $4 max_attempts; null leaves a value as it is.
insert into @schema@.task_settings as s (
    task_identifier, override_queue_name, override_priority, override_max_attempts
) values ($1, $2, $3, $4)
on conflict (task_identifier) do update set
    override_queue_name = coalesce(excluded.override_queue_name, s.override_queue_name),
    override_priority = coalesce(excluded.override_priority, s.override_priority),
    override_max_attempts = coalesce(excluded.override_max_attempts, s.override_max_attempts),
    updated_at = now()

-- name: reset_task
-- $1 task. Returns the number of tasks that had overrides.
with changed as (
    update @schema@.task_settings s
    set override_queue_name = null, override_priority = null, override_max_attempts = null, updated_at = now()
    where s.task_identifier = $1
        and coalesce(s.override_queue_name, s.override_priority::text, s.override_max_attempts::text) is not null
    returning 1
)
select count(*) from changed

-- name: delete_empty_task_settings
-- Rows without a declaration and without an override.
delete from @schema@.task_settings s
where s.declared_in is null
    and coalesce(s.override_queue_name, s.override_priority::text, s.override_max_attempts::text) is null

-- name: declare_limit
-- $1 task, $2 concurrency, $3 starts in $4, an interval, $5 per.
select @schema@.set_limit(
    name => $1, task_identifier => $1, concurrency => $2, rate_count => $3, rate_interval => $4, per => $5,
    set_by => 'code'
)
