-- Not a statement by itself: @jobs@ in others, the jobs of jobfn's own schema as operators see them.
(
    select j.id, j.database_id, j.actor_id, j.entity_id, j.queue_name, j.task_identifier, j.payload, j.priority,
        j.run_at, j.attempts, j.max_attempts, j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at,
        j.lease_expires_at, j.progress, j.progress_note, j.exhausted,
        j.locked_at is not null
            and not coalesce(j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours') as is_held
    from @schema@.jobs j
)
