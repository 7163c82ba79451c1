-- Recurring jobs: add_scheduled_job in every form that people write, and the functions of schedulers (contract,
-- section 3).

create function @schema@.tg_reset_due_at() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.schedule_info::text is distinct from old.schedule_info::text then
        if new.rule_changed_at is not distinct from old.rule_changed_at then
            new.rule_changed_at := clock_timestamp();
        end if;
        new.due_at := null;
        new.last_error := null;
    elsif old.due_at = 'infinity' and old.last_error is not null and new.last_error is null then
        -- The error of an invalid rule was cleared: try the rule again.
        new.rule_changed_at := clock_timestamp();
        new.due_at := null;
    end if;
    return new;
end
$$;

comment on function @schema@.tg_reset_due_at() is 'Let a scheduler compute due_at anew after a rule has changed.';

create trigger _100_reset_due_at
    before update of schedule_info on @schema@.scheduled_jobs
    for each row execute function @schema@.tg_reset_due_at();

create function @schema@.insert_scheduled_job(
    database_id uuid,
    identifier text,
    payload json,
    schedule_info json,
    job_key text,
    queue_name text,
    max_attempts int,
    priority int
) returns @schema@.scheduled_jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule @schema@.scheduled_jobs;
begin
    if coalesce(json_typeof(insert_scheduled_job.schedule_info), 'null') <> 'object' then
        raise exception 'INVALID_SCHEDULE'
            using hint =
                'schedule_info is an object: {"rule": "0 9 * * *"}, or parts such as {"hour": 9, "minute": 0}.';
    end if;
    insert into @schema@.scheduled_jobs as s (
        database_id, actor_id, task_identifier, payload, schedule_info, key, queue_name, max_attempts, priority
    ) values (
        insert_scheduled_job.database_id,
        @schema@.jwt_claim('jwt.claims.user_id'),
        insert_scheduled_job.identifier,
        coalesce(insert_scheduled_job.payload, '{}'),
        insert_scheduled_job.schedule_info,
        insert_scheduled_job.job_key,
        insert_scheduled_job.queue_name,
        coalesce(insert_scheduled_job.max_attempts, 25),
        coalesce(insert_scheduled_job.priority, 0)
    )
    on conflict (key) do update set
        database_id = excluded.database_id,
        actor_id = excluded.actor_id,
        task_identifier = excluded.task_identifier,
        payload = excluded.payload,
        schedule_info = excluded.schedule_info,
        queue_name = excluded.queue_name,
        max_attempts = excluded.max_attempts,
        priority = excluded.priority,
        last_error = null,
        updated_at = now()
    returning s.* into v_schedule;
    return v_schedule;
end
$$;

comment on function @schema@.insert_scheduled_job(uuid, text, json, json, text, text, int, int) is
    'Insert a schedule, or replace the one with the same key. All forms of add_scheduled_job call it.';

create function @schema@.add_scheduled_job(
    identifier text,
    cron text,
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    max_attempts int default 25,
    priority int default 0
) returns @schema@.scheduled_jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Calls of the platform's forms with untyped literals end here, because PostgreSQL prefers text to json and uuid.
    if @schema@.is_uuid(identifier) then -- add_scheduled_job('5b720132-...', 'x', '{}', '{"rule": ...}')
        return @schema@.insert_scheduled_job(
            identifier::uuid, cron, payload, job_key::json, queue_name, null, max_attempts, priority
        );
    end if;
    if cron ~ '^\s*[{[]' then -- add_scheduled_job('x', '{}', '{"rule": ...}'): a cron rule never begins like that
        return @schema@.insert_scheduled_job(
            @schema@.jwt_claim('jwt.claims.database_id'),
            identifier, cron::json, payload, job_key, queue_name, max_attempts, priority
        );
    end if;
    if coalesce(btrim(cron), '') = '' then
        raise exception 'INVALID_SCHEDULE' using hint = 'A cron rule has five fields, such as 0 9 * * *.';
    end if;
    return @schema@.insert_scheduled_job(
        @schema@.jwt_claim('jwt.claims.database_id'),
        identifier, payload, json_build_object('rule', cron), job_key, queue_name, max_attempts, priority
    );
end
$$;

comment on function @schema@.add_scheduled_job(text, text, json, text, text, int, int) is
    'Schedule a job by a cron rule of five fields, or six with seconds first.';

create function @schema@.add_scheduled_job(
    identifier text,
    payload json,
    schedule_info json,
    job_key text default null,
    queue_name text default null,
    max_attempts int default 25,
    priority int default 0
) returns @schema@.scheduled_jobs
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select * from @schema@.insert_scheduled_job(
        @schema@.jwt_claim('jwt.claims.database_id'),
        identifier, payload, schedule_info, job_key, queue_name, max_attempts, priority
    )
$$;

comment on function @schema@.add_scheduled_job(text, json, json, text, text, int, int) is
    'Schedule a job by schedule_info: {"rule", "start", "end", "tz"}, or parts such as {"hour": 9, "minute": 0}.';

create function @schema@.add_scheduled_job(
    db_id uuid,
    identifier text,
    payload json default '{}',
    schedule_info json default '{}',
    job_key text default null,
    queue_name text default null,
    max_attempts int default 25,
    priority int default 0
) returns @schema@.scheduled_jobs
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select * from @schema@.insert_scheduled_job(
        db_id, identifier, payload, schedule_info, job_key, queue_name, max_attempts, priority
    )
$$;

comment on function @schema@.add_scheduled_job(uuid, text, json, json, text, text, int, int) is
    'The older form of add_scheduled_job, with the tenant as an argument.';

create function @schema@.get_scheduled_job(worker_id text, task_identifiers text[] default null)
    returns @schema@.scheduled_jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule @schema@.scheduled_jobs;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A scheduler id has at least 4 characters.';
    end if;
    update @schema@.scheduled_jobs s
    set locked_by = worker_id, locked_at = now()
    where s.id = (
        select unlocked.id from @schema@.scheduled_jobs unlocked
        where unlocked.locked_at is null
            and (task_identifiers is null or unlocked.task_identifier = any (task_identifiers))
        order by unlocked.priority, unlocked.id
        limit 1
        for update skip locked
    )
    returning s.* into v_schedule;
    return v_schedule;
end
$$;

comment on function @schema@.get_scheduled_job(text, text[]) is
    'Lock the next unlocked schedule for a scheduler; all null if there is none.';

create function @schema@.run_scheduled_job(id bigint, job_expiry interval default '1 hours')
    returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule @schema@.scheduled_jobs;
    v_job @schema@.jobs;
begin
    select s.* into v_schedule from @schema@.scheduled_jobs s where s.id = run_scheduled_job.id for update;
    if not found then
        return null;
    end if;
    perform from @schema@.jobs j
    where j.id = v_schedule.last_scheduled_id
        and not (j.exhausted and j.locked_at is null)
        and case
            when j.locked_at is null then true
            -- an expired lease means a dead worker: the job still waits for another one if it has attempts left
            when j.lease_expires_at is not null then j.lease_expires_at >= now() or not j.exhausted
            else j.locked_at >= now() - job_expiry
        end;
    if found then
        raise exception 'ALREADY_SCHEDULED' using hint = 'Its last job is still waiting or running.';
    end if;
    v_job := @schema@.insert_job(
        v_schedule.database_id, v_schedule.actor_id, v_schedule.entity_id, v_schedule.task_identifier,
        v_schedule.payload, v_schedule.key, v_schedule.queue_name, now(), v_schedule.max_attempts,
        v_schedule.priority
    );
    update @schema@.scheduled_jobs s
    set last_scheduled = now(), last_scheduled_id = v_job.id
    where s.id = run_scheduled_job.id;
    return v_job;
end
$$;

comment on function @schema@.run_scheduled_job(bigint, interval) is
    'Enqueue the job of a schedule now; raises ALREADY_SCHEDULED while its last job is waiting or running.';

create function @schema@.release_scheduled_jobs(worker_id text, ids bigint[] default null) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.scheduled_jobs s
    set locked_at = null, locked_by = null
    where s.locked_by = worker_id and (ids is null or s.id = any (ids))
$$;

comment on function @schema@.release_scheduled_jobs(text, bigint[]) is
    'Unlock all schedules of a scheduler, or those with these ids.';

-- A scheduler locks the row and decides; this function does both writes in the scheduler's transaction, so that the job
-- and the next due time are committed together.
create function @schema@.advance_schedule(
    schedule_id bigint,
    enqueue boolean,            -- whether the schedule is due
    wait_for_previous boolean,  -- while the previous job waits or runs: retry later (true), or skip this time (false)
    due timestamptz,            -- the due time that is handled now
    next_due timestamptz,       -- null: there is none
    missed_count bigint,        -- the number of earlier due times without a job
    last_missed_at timestamptz, -- the latest of them
    rule_error text             -- why the rule is invalid; null: it is valid
) returns table (outcome text, job_id bigint, error text, database_id uuid)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    outcome := case when rule_error is null then 'planned' else 'broken' end;
    error := rule_error;
    if enqueue then
        begin
            -- A running job counts as running while its worker's lock is valid.
            job_id := (@schema@.run_scheduled_job(schedule_id, interval '4 hours')).id;
            outcome := 'enqueued';
        exception when others then
            if sqlerrm = 'ALREADY_SCHEDULED' then
                outcome := case when wait_for_previous then 'waiting' else 'skipped' end;
            elsif sqlstate = '55P03' or left(sqlstate, 2) = '40' then
                outcome := 'waiting'; -- a lock timeout or a deadlock: the next poll may succeed
            elsif left(sqlstate, 2) in ('53', '57', '58', 'XX') then
                raise; -- the server has a problem, not this schedule
            else
                outcome := 'failed';
            end if;
            error := sqlerrm;
        end;
    end if;
    if outcome <> 'waiting' then
        update @schema@.scheduled_jobs s
        set due_at = coalesce(next_due, 'infinity'),
            last_error = case outcome
                when 'broken' then error when 'failed' then error when 'skipped' then s.last_error
            end,
            skipped = s.skipped + missed_count + case outcome when 'skipped' then 1 else 0 end,
            last_skipped = case outcome when 'skipped' then due else coalesce(last_missed_at, s.last_skipped) end,
            skip_reason = case
                when outcome = 'skipped' then 'its last job was still waiting or running'
                when missed_count > 0 then 'no scheduler ran then'
                else s.skip_reason
            end,
            -- a scheduler that had locked the row and did not enqueue in time is dead
            locked_at = case when enqueue then null else s.locked_at end,
            locked_by = case when enqueue then null else s.locked_by end
        where s.id = schedule_id;
    end if;
    select s.database_id into database_id from @schema@.scheduled_jobs s where s.id = schedule_id;
    return next;
end
$$;

comment on function
    @schema@.advance_schedule(bigint, boolean, boolean, timestamptz, timestamptz, bigint, timestamptz, text) is
    'For schedulers: enqueue the job of a schedule if it is due, and store the next due time. Returns the outcome and '
    'the tenant.';

revoke execute on all functions in schema @schema@ from public;
