-- As add_job, with the tenant as $8.
select (@schema@.add_job(
    db_id := $8, identifier := $1, payload := $2::json, job_key := $3, queue_name := $4,
    run_at := coalesce($5, now()), max_attempts := $6, priority := $7
)).id
