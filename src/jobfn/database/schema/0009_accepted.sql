-- Jobs that a function has accepted (202) and runs on by itself: their signs of life keep their locks, so a worker that
-- is started again under its id does not take them back while those come.

alter table @schema@.jobs add column accepted_attempt int;

comment on column @schema@.jobs.accepted_attempt is
    'The attempt that a function has accepted and reports on later; null: none.';

create function @schema@.note_accepted(worker_id text, job_id bigint, attempt int) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.jobs j
    set accepted_attempt = note_accepted.attempt
    where j.id = note_accepted.job_id
        and j.locked_by = note_accepted.worker_id
        and j.attempts = note_accepted.attempt
$$;

comment on function @schema@.note_accepted(text, bigint, int) is
    'A function runs this attempt on its own: it outlives its worker for as long as its signs of life come.';

create or replace function @schema@.take_back_jobs(worker_id text) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The attempts count: functions may still be at work on these jobs, and their reports are told from those of the
    -- next deliveries by the attempt.
    return query
    with held as materialized (
        select j.*
        from @schema@.jobs j
        where j.locked_by = worker_id
            and not coalesce(j.accepted_attempt = j.attempts and j.lease_expires_at >= now(), false)
        order by j.id
        for update
    ),
    noted as (
        insert into @schema@.job_runs
        select held.id, held.attempts, held.task_identifier, held.queue_name, held.database_id, held.locked_by,
            held.created_at, held.run_at, held.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', held.locked_by)
        from held
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = case
            when j.exhausted then format('the worker %s died, or lost its lease, in the last attempt', worker_id)
            else j.last_error
        end,
        outlived_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from held
    where j.id = held.id
    returning j.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l -- what is left: held by hand, or by a job that is left alone
    where l.locked_by = worker_id
        and not exists (select from @schema@.jobs j where j.id = l.job_id and j.locked_by = worker_id);
end
$$;

revoke execute on function @schema@.note_accepted(text, bigint, int) from public;
