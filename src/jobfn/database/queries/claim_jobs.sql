-- $1 worker, $2 task identifiers or null, $3 after how long a lock counts as forgotten, $4 how many.
select id, task_identifier, payload, attempts, queue_name, database_id, actor_id, entity_id
from @schema@.claim_jobs($1, $2, $3, $4)
