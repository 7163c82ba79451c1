-- $1 worker, $2 task identifiers or null, $3 after how long a lock without a lease counts as forgotten, $4 how many,
-- $5 the lease, $6 task identifiers to leave out.
select id, task_identifier, payload, attempts, queue_name, database_id, actor_id, entity_id, traceparent, tracestate,
    extract(epoch from locked_at - greatest(run_at, created_at))::float8 as waited_seconds
from @schema@.claim_jobs($1, $2, $3, $4, $5, $6)
