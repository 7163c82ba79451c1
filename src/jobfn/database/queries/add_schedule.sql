-- $1 task, $2 payload, $3 schedule_info, $4 key, $5 queue, $6 max_attempts, $7 priority.
select (@schema@.add_scheduled_job(
    identifier := $1, payload := $2::json, schedule_info := $3::json, job_key := $4, queue_name := $5,
    max_attempts := $6, priority := $7
)).id
