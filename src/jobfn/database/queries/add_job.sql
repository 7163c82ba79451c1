-- $1 identifier, $2 payload, $3 key, $4 queue, $5 run_at or null for now, $6 max_attempts, $7 priority.
select (@schema@.add_job(
    identifier := $1, payload := $2::json, job_key := $3, queue_name := $4, run_at := coalesce($5, now()),
    max_attempts := $6, priority := $7
)).id
