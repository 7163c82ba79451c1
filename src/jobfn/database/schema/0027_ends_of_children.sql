-- A transaction that ends children locks their parents, in the order of ids, before it changes the steps of these. So it
-- does not deadlock with one that changes a parent and its steps, nor with another batch: also of a batch in which some
-- jobs have failed, which settle_mixed_jobs settles one by one. A child that is removed has not completed. A durable job
-- that its worker releases keeps the number of its attempt, so that no two deliveries have the same one.

create or replace function @schema@.tg_end_awaited_job() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config(
        'jobfn.ended_jobs',
        concat_ws(
            ',',
            nullif(current_setting('jobfn.ended_jobs', true), ''),
            -- complete_jobs, which removes jobs, has unlocked them
            case when tg_op = 'DELETE' and old.locked_at is not null then old.id else -old.id end
        ),
        true
    );
    return null;
end
$$;

comment on function @schema@.tg_end_awaited_job() is
    'Collect the ended jobs of a statement for end_calls: the id of a completed one, and the negative id of another.';

create function @schema@.end_calls() returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_ended constant text := current_setting('jobfn.ended_jobs', true);
    v_children bigint[];
    v_parents bigint[];
    v_groups int[];
begin
    if coalesce(v_ended, '') = '' then
        return;
    end if;
    perform set_config('jobfn.ended_jobs', '', true);
    v_children := string_to_array(v_ended, ',')::bigint[];
    perform from @schema@.jobs j
    where j.id = any (array(
        select s.job_id
        from unnest(v_children) as ended (id)
        join @schema@.job_steps s on s.child_id = abs(ended.id)
        where s.state = 'waiting'
    ))
    order by j.id
    for no key update;
    with outcome as (
        select abs(ended.id) as id, ended.id > 0 as is_completed, case
                when ended.id > 0 then null
                when j.id is null then 'it was removed'
                else coalesce(j.last_error, 'it failed without an error message')
            end as error
        from unnest(v_children) as ended (id)
        left join @schema@.jobs j on j.id = -ended.id
    ),
    call as (
        update @schema@.job_steps s
        set state = case when outcome.is_completed then 'completed' else 'failed' end,
            error = outcome.error,
            ended_at = now()
        from outcome
        where s.child_id = outcome.id and s.state = 'waiting'
        returning s.job_id, s.wait_group
    )
    select array_agg(ended.job_id), array_agg(ended.wait_group)
    into v_parents, v_groups
    from (select distinct call.job_id, call.wait_group from call) ended;
    if v_parents is not null then
        perform @schema@.wake_parked_jobs(v_parents, v_groups);
    end if;
end
$$;

comment on function @schema@.end_calls() is
    'End the steps that wait for the jobs that have ended in this transaction, and wake their jobs.';

create or replace function @schema@.tg_wake_parked_jobs() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(current_setting('jobfn.ended_jobs', true), '') <> ''
        and coalesce(current_setting('jobfn.collects_ended_jobs', true), '') = ''
    then
        perform @schema@.end_calls();
    end if;
    return null;
end
$$;

create or replace function @schema@.settle_mixed_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[]
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_settlement record;
    v_ended record;
    v_job @schema@.job_row;
    v_history_enabled boolean := @schema@.history_enabled();
    v_runs @schema@.job_runs[] := '{}';
    v_notify boolean := false;
begin
    perform set_config('jobfn.collects_ended_jobs', 'on', true);
    -- In the order of ids, so that two batches with jobs in common do not deadlock. Of two outcomes of one job, the
    -- better one counts, which the alphabet happens to sort first.
    for v_settlement in
        select settlement.*
        from unnest(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
            as settlement (worker_id, job_id, attempt, outcome, error_message, delay)
        order by settlement.job_id, settlement.outcome
    loop
        if v_settlement.outcome = 'completed' then
            delete from @schema@.jobs j
            where j.id = v_settlement.job_id
                and j.locked_by = v_settlement.worker_id
                and (v_settlement.attempt is null or j.attempts = v_settlement.attempt)
            returning (@schema@.to_job_row(j)).* into v_job;
            continue when not found;
            if v_history_enabled then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_job.attempts, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_job.locked_by, v_job.created_at, v_job.run_at, v_job.locked_at, now(), 'completed', null
                )::@schema@.job_runs);
            end if;
        else
            with before as materialized (
                select j.id, j.attempts, j.run_at, j.locked_at
                from @schema@.jobs j
                where j.id = v_settlement.job_id
                    and j.locked_by = v_settlement.worker_id
                    and (v_settlement.attempt is null or j.attempts = v_settlement.attempt)
                for update
            )
            update @schema@.jobs j
            set last_error = case
                    when v_settlement.outcome = 'released' then j.last_error else v_settlement.error_message
                end,
                attempts = case v_settlement.outcome
                    when 'permanently_failed' then j.max_attempts
                    when 'released' then case when j.has_steps then j.attempts else greatest(j.attempts - 1, 0) end
                    else j.attempts
                end,
                max_attempts = case
                    when v_settlement.outcome = 'released' and j.has_steps
                    then least(j.max_attempts::bigint + 1, 2147483647)
                    else j.max_attempts
                end,
                snoozes = case
                    when v_settlement.outcome = 'released' and j.has_steps then coalesce(j.snoozes, 0) + 1
                    else j.snoozes
                end,
                run_at = case
                    when v_settlement.outcome = 'permanently_failed' then j.run_at
                    when v_settlement.outcome = 'released' then greatest(j.run_at, now() + v_settlement.delay)
                    when v_settlement.delay is not null then now() + v_settlement.delay
                    else greatest(now(), j.run_at)
                        + exp(least(j.attempts - coalesce(j.snoozes, 0), 10)) * interval '1 second'
                end,
                locked_at = null,
                locked_by = null,
                lease_expires_at = null,
                updated_at = now()
            from before
            where j.id = before.id
            returning @schema@.to_job_row(j) as job, before.attempts as attempt, before.run_at as due_at,
                before.locked_at as started_at
                into v_ended;
            continue when not found;
            v_job := v_ended.job;
            v_notify := v_notify or v_settlement.outcome in ('failed', 'released');
            if v_history_enabled then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_ended.attempt, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_settlement.worker_id, v_job.created_at, v_ended.due_at, v_ended.started_at, now(),
                    case
                        when v_settlement.outcome = 'released' then 'released'
                        when v_job.exhausted then 'permanently_failed'
                        else 'failed'
                    end,
                    case when v_settlement.outcome <> 'released' then v_settlement.error_message end
                )::@schema@.job_runs);
            end if;
        end if;
        return next v_job;
    end loop;
    perform set_config('jobfn.collects_ended_jobs', '', true);
    perform @schema@.end_calls();
    if cardinality(v_runs) > 0 then
        insert into @schema@.job_runs select run.* from unnest(v_runs) run;
    end if;
    if v_notify then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
end
$$;

create or replace function @schema@.retry_jobs(
    job_ids bigint[]
) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The rows of jobs are locked before those of their steps, as everywhere.
    perform from @schema@.jobs j
    where j.id = any (job_ids) and j.exhausted and j.locked_at is null and j.has_steps
    order by j.id
    for update;
    -- Completed steps are kept; failed ones run again.
    delete from @schema@.job_steps s
    using @schema@.jobs j
    where s.job_id = any (job_ids)
        and j.id = s.job_id
        and j.exhausted
        and j.locked_at is null
        and (s.state = 'failed' or s.kind = 'then');
    return query
    with failed as materialized (
        select j.id
        from @schema@.jobs j
        where j.id = any (job_ids) and j.exhausted and j.locked_at is null
        order by j.id
        for update
    )
    update @schema@.jobs j
    set attempts = case when j.has_steps then j.attempts else coalesce(j.fenced_attempt, 0) end,
        max_attempts = least(
            greatest(j.max_attempts - coalesce(j.snoozes, 0), 1)::bigint
                + case when j.has_steps then j.attempts else coalesce(j.fenced_attempt, 0) end,
            2147483647
        ),
        snoozes = case when j.has_steps then j.attempts end,
        snoozing_since = null,
        run_at = now(),
        updated_at = now()
    from failed
    where j.id = failed.id
    returning j.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

create or replace function @schema@.retry_job_from_step(job_id bigint, first_position int) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_job @schema@.jobs;
    v_children bigint[];
begin
    select j.* into v_job from @schema@.jobs j where j.id = retry_job_from_step.job_id for update;
    if not found or v_job.locked_at is not null then
        return false;
    end if;
    with forgotten as (
        delete from @schema@.job_steps s where s.job_id = v_job.id and s.position >= first_position
        returning s.state, s.child_id
    )
    select array_agg(forgotten.child_id) into v_children
    from forgotten
    where forgotten.state = 'waiting' and forgotten.child_id is not null;
    v_children := array(
        select j.id from @schema@.jobs j where j.id = any (v_children) for update skip locked -- those are just ending
    );
    perform from @schema@.cancel_jobs(v_children, 'Its parent was retried from an earlier step', false);
    if v_job.exhausted then
        perform from @schema@.retry_jobs(array[v_job.id]);
    else
        update @schema@.jobs j set run_at = now(), updated_at = now() where j.id = v_job.id;
        perform pg_notify('jobs:insert', '');
    end if;
    return true;
end
$$;

revoke execute on function @schema@.end_calls() from public;
