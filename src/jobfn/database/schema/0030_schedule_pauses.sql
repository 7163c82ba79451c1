-- Pause, resume and run a schedule, by id or by name.
--
-- A paused schedule is due at infinity, so that schedulers of older versions leave it alone, too.

alter table @schema@.scheduled_jobs
    add column paused_at timestamptz,
    add column pause_reason text;

comment on column @schema@.scheduled_jobs.paused_at is 'Since when the schedule makes no jobs; null: it is not paused.';

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

create function @schema@.enqueue_schedule(schedule_id bigint, job_expiry interval, is_by_hand boolean)
    returns @schema@.job_row
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule @schema@.scheduled_jobs;
    v_job @schema@.job_row;
begin
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
    v_job := @schema@.insert_job(
        v_schedule.database_id, v_schedule.actor_id, v_schedule.entity_id, v_schedule.task_identifier,
        v_schedule.payload, v_schedule.key, v_schedule.queue_name, now(), v_schedule.max_attempts,
        v_schedule.priority
    );
    update @schema@.scheduled_jobs s
    set last_scheduled = now(), last_scheduled_id = v_job.id
    where s.id = schedule_id;
    return v_job;
end
$$;

comment on function @schema@.enqueue_schedule(bigint, interval, boolean) is
    'Enqueue the job of a schedule; one that is paused, by hand only. Part of run_scheduled_job and run_schedule.';

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
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select * from @schema@.enqueue_schedule(schedule_id, interval '4 hours', true)
$$;

comment on function @schema@.run_schedule(bigint) is
    'For people: enqueue the job of a schedule now, also of a paused one. Raises ALREADY_SCHEDULED while its last job is '
    'waiting or running. All null if there is no such schedule.';

create function @schema@.pause_schedule(schedule_id bigint, reason text default null) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with paused as (
        update @schema@.scheduled_jobs s
        set paused_at = coalesce(s.paused_at, now()),
            pause_reason = coalesce(left(reason, 1000), s.pause_reason),
            due_at = 'infinity',
            locked_at = null,
            locked_by = null,
            updated_at = now()
        where s.id = schedule_id
        returning s.id
    )
    select exists (select from paused)
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
    set paused_at = null, pause_reason = null, due_at = null, rule_changed_at = clock_timestamp(), updated_at = now()
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

revoke execute on all functions in schema @schema@ from public;
