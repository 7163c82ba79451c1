-- Pause, resume and run a schedule, by id or by name. Pauses may have an end, and jobs of a schedule may expire
-- (schedule_info.expires_in_seconds).
--
-- A paused schedule is due at infinity: schedulers of older versions leave it alone, and newer ones end its pause.

alter table @schema@.scheduled_jobs
    add column paused_at timestamptz,
    add column pause_reason text,
    add column paused_until timestamptz;

comment on column @schema@.scheduled_jobs.paused_at is 'Since when the schedule makes no jobs; null: it is not paused.';

comment on column @schema@.scheduled_jobs.paused_until is
    'When the pause ends by itself; null: when the schedule is resumed.';

create or replace function @schema@.tg_reset_due_at() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.schedule_info::text is distinct from old.schedule_info::text then
        if new.rule_changed_at is not distinct from old.rule_changed_at then
            new.rule_changed_at := clock_timestamp();
        end if;
        new.due_at := case when new.paused_at is not null then timestamptz 'infinity' end;
        new.last_error := null;
    elsif old.due_at = 'infinity' and old.last_error is not null and new.last_error is null then
        -- The error of an invalid rule was cleared: try the rule again.
        new.rule_changed_at := clock_timestamp();
        new.due_at := case when new.paused_at is not null then timestamptz 'infinity' end;
    end if;
    return new;
end
$$;

create function @schema@.end_schedule_pauses(until timestamptz) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.scheduled_jobs s
    set paused_at = null,
        pause_reason = null,
        paused_until = null,
        due_at = null,
        rule_changed_at = s.paused_until,
        updated_at = now()
    where s.paused_until <= end_schedule_pauses.until
$$;

comment on function @schema@.end_schedule_pauses(timestamptz) is
    'For schedulers: end the pauses of schedules whose time is up. Due times since then make jobs.';

create or replace function @schema@.get_scheduled_job(worker_id text, task_identifiers text[] default null)
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
    perform @schema@.end_schedule_pauses(now());
    update @schema@.scheduled_jobs s
    set locked_by = worker_id, locked_at = now()
    where s.id = (
        select unlocked.id from @schema@.scheduled_jobs unlocked
        where unlocked.locked_at is null
            and unlocked.paused_at is null
            and (task_identifiers is null or unlocked.task_identifier = any (task_identifiers))
        order by unlocked.priority, unlocked.id
        limit 1
        for update skip locked
    )
    returning s.* into v_schedule;
    return v_schedule;
end
$$;

create function @schema@.enqueue_schedule(
    schedule_id bigint, job_expiry interval, is_by_hand boolean, due timestamptz default null
) returns @schema@.job_row
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule @schema@.scheduled_jobs;
    v_expires_in float8;
    v_default_expiry constant text := coalesce(current_setting('jobfn.expires_at', true), '');
    v_job @schema@.job_row;
begin
    lock table @schema@.jobs, @schema@.scheduled_jobs in row exclusive mode; -- before reading, for REINDEX
    select s.* into v_schedule from @schema@.scheduled_jobs s where s.id = schedule_id for update;
    if not found then
        return null;
    end if;
    if v_schedule.paused_at is not null and not is_by_hand then
        raise exception 'SCHEDULE_PAUSED' using hint = 'Call resume_schedule, or run_schedule for one job.';
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
    if json_typeof(v_schedule.schedule_info -> 'expires_in_seconds') = 'number' then
        v_expires_in := (v_schedule.schedule_info ->> 'expires_in_seconds')::float8;
        if v_expires_in > 0 and v_expires_in <= 366 * 86400 then -- the scheduler rejects other numbers
            perform @schema@.set_default_expiry(coalesce(due, now()) + v_expires_in * interval '1 second');
        end if;
    end if;
    v_job := @schema@.insert_job(
        v_schedule.database_id, v_schedule.actor_id, v_schedule.entity_id, v_schedule.task_identifier,
        v_schedule.payload, v_schedule.key, v_schedule.queue_name, now(), v_schedule.max_attempts,
        v_schedule.priority
    );
    perform set_config('jobfn.expires_at', v_default_expiry, true);
    update @schema@.scheduled_jobs s
    set last_scheduled = now(), last_scheduled_id = v_job.id
    where s.id = schedule_id;
    return v_job;
end
$$;

comment on function @schema@.enqueue_schedule(bigint, interval, boolean, timestamptz) is
    'Enqueue the job of a schedule for a due time, null for now; one that is paused, by hand only. Part of '
    'run_scheduled_job and run_schedule.';

create or replace function @schema@.advance_schedule(
    schedule_id bigint,
    enqueue boolean,
    wait_for_previous boolean,
    due timestamptz,
    next_due timestamptz,
    missed_count bigint,
    last_missed_at timestamptz,
    rule_error text
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
            job_id := (@schema@.enqueue_schedule(schedule_id, interval '4 hours', false, due)).id;
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

create or replace function @schema@.run_scheduled_job(id bigint, job_expiry interval default '1 hours')
    returns @schema@.job_row
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select * from @schema@.enqueue_schedule(id, job_expiry, false)
$$;

comment on function @schema@.run_scheduled_job(bigint, interval) is
    'For schedulers: enqueue the job of a schedule now; raises ALREADY_SCHEDULED while its last job is waiting or '
    'running, and SCHEDULE_PAUSED while the schedule is paused.';

create function @schema@.find_schedule(name text) returns bigint
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[];
begin
    for v_ids in
        select array(select s.id from @schema@.scheduled_jobs s where s.id::text = name)
        union all
        select array(select s.id from @schema@.scheduled_jobs s where s.key = name)
        union all
        select array(select s.id from @schema@.scheduled_jobs s where s.task_identifier = name order by s.id)
    loop
        if cardinality(v_ids) = 1 then
            return v_ids[1];
        elsif cardinality(v_ids) > 1 then
            raise cardinality_violation using
                message = format('the task %s has %s schedules', name, cardinality(v_ids)),
                hint = format('Name one by its id: %s.', array_to_string(v_ids[1:10], ', '));
        end if;
    end loop;
    raise no_data_found using
        message = format('no schedule has the id, the key or the task %s', coalesce(name, 'null')),
        hint = 'They are in scheduled_jobs.';
end
$$;

comment on function @schema@.find_schedule(text) is
    'The id of the schedule with this id or key, or of this task if the task has only one.';

create function @schema@.run_schedule(schedule_id bigint) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job constant @schema@.job_row := @schema@.enqueue_schedule(schedule_id, interval '4 hours', true);
begin
    if v_job.id is not null then
        perform @schema@.record_action(
            'run_schedule', format('schedule %s %s', schedule_id, v_job.task_identifier), null,
            jsonb_build_object('job', v_job.id)
        );
    end if;
    return v_job;
end
$$;

comment on function @schema@.run_schedule(bigint) is
    'For people: enqueue the job of a schedule now, also of a paused one. Raises ALREADY_SCHEDULED while its last job is '
    'waiting or running. All null if there is no such schedule.';

create function @schema@.pause_schedule(schedule_id bigint, reason text, until timestamptz) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if until <= now() then
        raise invalid_parameter_value using
            message = 'the pause would have ended before now', hint = 'Give a time in the future, or none.';
    end if;
    update @schema@.scheduled_jobs s
    set paused_at = coalesce(s.paused_at, now()),
        pause_reason = coalesce(left(reason, 1000), s.pause_reason),
        paused_until = nullif(until, 'infinity'),
        due_at = 'infinity',
        locked_at = null,
        locked_by = null,
        updated_at = now()
    where s.id = schedule_id;
    if found then
        perform pg_notify('scheduled_jobs:insert', ''); -- schedulers sleep until the pause ends
    end if;
    return found;
end
$$;

comment on function @schema@.pause_schedule(bigint, text, timestamptz) is
    'Make no jobs of a schedule until a time, or until resume_schedule if it is null. Pausing again changes the time. '
    'Returns false if there is no such schedule.';

create function @schema@.pause_schedule(schedule_id bigint, reason text default null) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select @schema@.pause_schedule(schedule_id, reason, null)
$$;

comment on function @schema@.pause_schedule(bigint, text) is
    'Make no jobs of a schedule until resume_schedule. Returns false if there is no such schedule.';

create function @schema@.resume_schedule(schedule_id bigint) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update @schema@.scheduled_jobs s
    set paused_at = null,
        pause_reason = null,
        paused_until = null,
        due_at = null,
        rule_changed_at = clock_timestamp(),
        updated_at = now()
    where s.id = schedule_id and s.paused_at is not null;
    if found then
        perform pg_notify('scheduled_jobs:insert', '');
        return true;
    end if;
    return exists (select from @schema@.scheduled_jobs s where s.id = schedule_id);
end
$$;

comment on function @schema@.resume_schedule(bigint) is
    'End the pause of a schedule. Due times in the pause make no job. Returns false if there is no such schedule.';

create function @schema@.run_schedule(name text) returns @schema@.job_row
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select * from @schema@.run_schedule(@schema@.find_schedule(name))
$$;

comment on function @schema@.run_schedule(text) is 'As run_schedule, with the id, the key or the task of the schedule.';

create function @schema@.pause_schedule(name text, reason text, until timestamptz) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select @schema@.pause_schedule(@schema@.find_schedule(name), reason, until)
$$;

comment on function @schema@.pause_schedule(text, text, timestamptz) is
    'As pause_schedule, with the id, the key or the task of the schedule.';

create function @schema@.pause_schedule(name text, reason text default null) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select @schema@.pause_schedule(@schema@.find_schedule(name), reason)
$$;

comment on function @schema@.pause_schedule(text, text) is
    'As pause_schedule, with the id, the key or the task of the schedule.';

create function @schema@.resume_schedule(name text) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select @schema@.resume_schedule(@schema@.find_schedule(name))
$$;

comment on function @schema@.resume_schedule(text) is
    'As resume_schedule, with the id, the key or the task of the schedule.';

-- Roles that act on jobs act on schedules, too.
select @schema@.grant_like('retry_jobs', '{run_schedule, pause_schedule, resume_schedule}');
select @schema@.grant_like('advance_schedule', '{end_schedule_pauses}');

revoke execute on all functions in schema @schema@ from public;
