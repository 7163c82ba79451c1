-- Recurring jobs: for people, and for schedulers on jobfn's schema.

-- name: schedules
-- Every schedule as JSON, with the columns that this schema has, and the state of its last job.
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

-- name: add_schedule
-- $1 task, $2 payload, $3 schedule_info, $4 key, $5 queue, $6 max_attempts, $7 priority.
select (@schema@.add_scheduled_job(
    identifier := $1, payload := $2::json, schedule_info := $3::json, job_key := $4, queue_name := $5,
    max_attempts := $6, priority := $7
)).id

-- name: add_schedule_for_tenant
-- As add_schedule, with the tenant as $8.
select (@schema@.add_scheduled_job(
    db_id := $8, identifier := $1, payload := $2::json, schedule_info := $3::json, job_key := $4, queue_name := $5,
    max_attempts := $6, priority := $7
)).id

-- name: remove_schedule
delete from @schema@.scheduled_jobs where id = $1 returning id

-- name: remove_schedule_of_key
delete from @schema@.scheduled_jobs where key = $1 returning id

-- name: run_scheduled_job
-- $1 schedule. A running job counts as running while its worker's lock is valid.
select enqueued.id, enqueued.database_id from @schema@.run_scheduled_job($1, interval '4 hours') as enqueued

-- name: run_schedule
-- $1 schedule.
select enqueued.id, enqueued.database_id from @schema@.run_schedule($1::bigint) as enqueued

-- name: pause_schedule
-- $1 schedule, $2 the reason or null, $3 when the pause ends or null, $4 after how many seconds or null. Returns
-- whether it exists.
select @schema@.pause_schedule(
    $1::bigint, $2, coalesce($3::timestamptz, now() + make_interval(secs => $4::float8))
) as is_found

-- name: resume_schedule
-- $1 schedule. Returns whether it exists.
select @schema@.resume_schedule($1::bigint) as is_found

-- name: lock_schedule_sync
-- $1 the lock number: one sync at a time in a database, until the transaction ends.
select pg_advisory_xact_lock($1)

-- name: limit_schedule_locks
-- For the transaction that locks schedules. A scheduler whose machine dies in the middle of it must not keep them for
-- the hours that a network connection may take to end, and a lock on one job must not delay all schedules.
select set_config('idle_in_transaction_session_timeout', '10s', true), set_config('lock_timeout', '1s', true)

-- name: end_schedule_pauses
-- $1 now, null for the database's clock.
select @schema@.end_schedule_pauses(coalesce($1::timestamptz, statement_timestamp()))

-- name: due_schedules
-- Lock schedules that are due, or whose due time is not computed yet. $1 now, null for the database's clock; $2 task
-- identifiers or null; $3 ids to exclude; $4 for how long past its due time a schedule is left to another scheduler
-- that has locked it; $5 the maximum number.
select s.id, s.task_identifier, s.key, s.schedule_info, s.due_at, s.rule_changed_at, s.last_scheduled, s.locked_by,
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

-- name: advance_schedules
-- $1-$8: one element for each schedule, in the order of advance_schedule's arguments.
select decision.id, advanced.*
from unnest(
    $1::bigint[], $2::boolean[], $3::boolean[], $4::timestamptz[], $5::timestamptz[], $6::bigint[],
    $7::timestamptz[], $8::text[]
) as decision (id, enqueue, wait_for_previous, due, next_due, missed_count, last_missed_at, rule_error)
cross join lateral @schema@.advance_schedule(
    decision.id, decision.enqueue, decision.wait_for_previous, decision.due, decision.next_due,
    decision.missed_count, decision.last_missed_at, decision.rule_error
) as advanced

-- name: next_schedule_due
-- Seconds until the next schedule is due; zero or less if one is, but locked by another scheduler. $1-$4 as for
-- due_schedules. Ends of pauses count, too.
select extract(epoch from min(
    case
        when s.paused_until is not null then s.paused_until
        when s.due_at is null then coalesce($1::timestamptz, statement_timestamp())
        when s.locked_by is null then s.due_at
        else s.due_at + $4::interval
    end
) - coalesce($1::timestamptz, statement_timestamp()))::float8
from @schema@.scheduled_jobs s
where (s.due_at is distinct from 'infinity' or s.paused_until is not null)
    and ($2::text[] is null or s.task_identifier = any ($2))
    and s.id <> all ($3::bigint[])
