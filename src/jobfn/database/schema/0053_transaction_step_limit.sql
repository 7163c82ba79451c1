-- A function that vanishes between the record of a step and the commit leaves its job locked. Settlements and renewals of
-- leases wait for that lock, those of other jobs with them. The server ends such a session after a short time.

create or replace function @schema@.record_transaction_step(
    worker_id text,
    job_id bigint,
    attempt int,
    step_position int,
    step_name text,
    result json,
    seconds double precision
) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform from @schema@.jobs j
    where j.id = record_transaction_step.job_id
        and j.locked_by = record_transaction_step.worker_id
        and j.attempts = record_transaction_step.attempt
    for no key update; -- until the commit: another delivery begins after it, or this step is not committed
    if not found then
        raise exception 'job % is not held by this worker in this attempt', record_transaction_step.job_id
            using errcode = 'JF409';
    end if;
    perform set_config('idle_in_transaction_session_timeout', '10s', true); -- the commit is next
    update @schema@.jobs j set has_steps = true
    where j.id = record_transaction_step.job_id and j.has_steps is null;
    insert into @schema@.job_steps (job_id, position, name, kind, state, result, attempt, started_at, ended_at)
    values (
        record_transaction_step.job_id, step_position, step_name, 'step', 'completed', record_transaction_step.result,
        record_transaction_step.attempt, clock_timestamp() - seconds * interval '1 second', clock_timestamp()
    );
end
$$;
