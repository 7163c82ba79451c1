-- Lock schedules whose time has come, or whose time is yet to be reckoned. $1 now, null for the database's clock;
-- $2 task identifiers or null; $3 ids to pass over; $4 for how long past its due time a schedule that another
-- scheduler holds is left to it; $5 how many.
select s.id, s.task_identifier, s.key, s.schedule_info, s.due_at, s.rule_since, s.last_scheduled, s.locked_by,
    coalesce($1::timestamptz, statement_timestamp()) as now
from @schema@.scheduled_jobs s
where (s.due_at is null or s.due_at <= coalesce($1::timestamptz, statement_timestamp()))
    and (
        s.due_at is null or s.locked_by is null
        or s.due_at <= coalesce($1::timestamptz, statement_timestamp()) - $4::interval
    )
    and ($2::text[] is null or s.task_identifier = any ($2))
    and s.id <> all ($3::bigint[])
order by s.due_at nulls first, s.priority, s.id
limit $5
for update skip locked
