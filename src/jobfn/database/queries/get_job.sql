-- $1 worker, $2 task identifiers or null, $3 after how long a lock counts as forgotten. For schemas without
-- claim_jobs; columns that this one lacks are filled in as null.
select j.id, j.task_identifier, j.payload, j.attempts, j.queue_name, j.database_id,
    @actor_id@ as actor_id, @entity_id@ as entity_id, null::text as traceparent, null::text as tracestate,
    extract(epoch from j.locked_at - j.run_at)::float8 as waited_seconds
from @schema@.get_job($1, $2, $3) j
where j.id is not null
