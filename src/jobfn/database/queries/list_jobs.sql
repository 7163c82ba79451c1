-- Newest first. $1-$13 as in jobs_matching.sql, $14 how many.
select j.id, j.database_id, j.actor_id, j.entity_id, j.queue_name, j.task_identifier, j.priority, j.run_at, j.attempts,
    j.max_attempts, j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at, j.lease_expires_at,
    j.progress, j.progress_note, j.exhausted, j.is_held, j.run_at > now() as is_delayed
from @jobs@ j
where
@matching@
order by j.id desc
limit $14
