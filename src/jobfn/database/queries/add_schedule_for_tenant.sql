-- As add_schedule, with the tenant as $8.
select (@schema@.add_scheduled_job(
    db_id := $8, identifier := $1, payload := $2::json, schedule_info := $3::json, job_key := $4, queue_name := $5,
    max_attempts := $6, priority := $7
)).id
