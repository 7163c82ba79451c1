-- Seconds until a schedule may be due; zero or less when one is, under another scheduler's lock. Parameters $1-$4 as
-- for due_schedules.
select extract(epoch from min(
    case
        when s.due_at is null then coalesce($1::timestamptz, statement_timestamp())
        when s.locked_by is null then s.due_at
        else s.due_at + $4::interval
    end
) - coalesce($1::timestamptz, statement_timestamp()))::float8
from @schema@.scheduled_jobs s
where s.due_at is distinct from 'infinity'
    and ($2::text[] is null or s.task_identifier = any ($2))
    and s.id <> all ($3::bigint[])
