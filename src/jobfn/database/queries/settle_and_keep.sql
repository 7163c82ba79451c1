-- As settle_jobs, with $7 results, $8 problems, $9 for how many seconds each is kept (null: not at all).
select id, task_identifier, database_id, attempts
from @schema@.settle_and_keep($1, $2, $3, $4, $5, $6, cast($7::text[] as json[]), $8, $9)
