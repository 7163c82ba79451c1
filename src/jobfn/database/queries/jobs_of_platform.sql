-- Not a statement by itself: @jobs@ in others, the jobs of the platform's own schema as operators see them. A lease
-- stands in run_at (lease_platform.sql).
(
    select j.id, j.database_id, @actor_id@ as actor_id, @entity_id@ as entity_id, j.queue_name, j.task_identifier,
        j.payload, j.priority, j.run_at, j.attempts, j.max_attempts, j.key, j.last_error, j.locked_at, j.locked_by,
        j.created_at, j.updated_at,
        case when j.locked_at is not null and j.run_at > j.locked_at then j.run_at end as lease_expires_at,
        null::real as progress, null::text as progress_note, j.attempts >= j.max_attempts as exhausted,
        j.locked_at is not null and case
            when j.run_at > j.locked_at then j.run_at >= now() else j.locked_at >= now() - interval '4 hours'
        end as is_held
    from @schema@.jobs j
)
