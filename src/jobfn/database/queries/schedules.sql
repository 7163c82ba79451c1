-- Every schedule as JSON, whatever columns this schema has, and what became of the last job of each.
select row_to_json(s)::text as schedule,
    case
        when s.last_scheduled_id is null then null
        when j.id is null then 'done'
        when j.locked_at is not null then 'running, attempt ' || j.attempts
        when j.attempts >= j.max_attempts then 'failed: ' || coalesce(j.last_error, 'no reason given')
        when j.last_error is not null then 'to be tried again: ' || j.last_error
        else 'waiting'
    end as outcome
from @schema@.scheduled_jobs s
left join @schema@.jobs j on j.id = s.last_scheduled_id
order by s.task_identifier, s.id
