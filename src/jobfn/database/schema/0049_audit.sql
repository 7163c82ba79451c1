-- The audit list of actions, with their actor and time. Functions for operators write it, and triggers on the tables of
-- settings, which operators also change by hand. Claims, settlements and add_job have nothing to do with it.

create table @schema@.audit_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null constraint audit_log_actor_length check (length(actor) <= 200),
    role text not null,
    source text not null constraint audit_log_source_known check (source in ('cli', 'dashboard', 'mcp', 'sql')),
    action text not null,
    target text not null constraint audit_log_target_length check (length(target) <= 300),
    job_count int,
    details jsonb,
    operation uuid
);

create index audit_log_at_idx on @schema@.audit_log (at);
create index audit_log_operation_idx on @schema@.audit_log (operation) where operation is not null;

comment on table @schema@.audit_log is
    'Actions of operators. The role is the one that logged in to PostgreSQL; actor, source and the filter in details are '
    'what the client said.';

alter table @schema@.history_settings add column audit_retention interval not null default '365 days';

create function @schema@.audit_text(value text, max_length int) returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select nullif(regexp_replace(
        left(value, max_length),
        '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]', '?', 'g'
    ), '')
$$;

comment on function @schema@.audit_text is
    'The start of a text, without characters that steer a terminal or reverse text. Null for an empty one.';

create function @schema@.record_action(action text, target text, job_count int, details jsonb) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_max_details constant int := 4000;
    v_source constant text := current_setting('jobfn.source', true);
    v_operation constant text := current_setting('jobfn.operation', true);
begin
    insert into @schema@.audit_log (actor, role, source, action, target, job_count, details, operation)
    values (
        coalesce(@schema@.audit_text(current_setting('jobfn.actor', true), 200), session_user),
        session_user,
        case when v_source in ('cli', 'dashboard', 'mcp') then v_source else 'sql' end,
        action,
        coalesce(@schema@.audit_text(target, 300), ''),
        job_count,
        case
            when length(details::text) > v_max_details then jsonb_build_object('cut', left(details::text, v_max_details))
            else nullif(jsonb_strip_nulls(details), '{}')
        end,
        case when length(v_operation) = 36 and @schema@.is_uuid(v_operation) then v_operation::uuid end
    );
end
$$;

comment on function @schema@.record_action is
    'Write an entry of the audit list. The settings jobfn.actor, jobfn.source and jobfn.operation say who acts, through '
    'what, and which entries are parts of one bulk action.';

create function @schema@.record_action_on_jobs(action text, job_ids bigint[], details jsonb default '{}') returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_count constant int := cardinality(job_ids);
    v_filter constant text := @schema@.audit_text(current_setting('jobfn.filter', true), 1000);
begin
    if v_count > 0 then
        perform @schema@.record_action(
            action,
            case when v_count = 1 and v_filter is null then format('job %s', job_ids[1]) else 'jobs' end,
            v_count,
            details || jsonb_build_object(
                'filter', v_filter,
                'jobs', case when v_count > 1 then array(select id from unnest(job_ids) id order by id limit 20) end
            )
        );
    end if;
end
$$;

comment on function @schema@.record_action_on_jobs is
    'Write one entry about an action on jobs, with their number and the 20 lowest ids; none for no jobs. The '
    'setting jobfn.filter says how they were selected.';

-- The functions that other functions call too keep their text under another name, without an entry.
alter function @schema@.cancel_jobs(bigint[], text, boolean) rename to cancel_jobs_unrecorded;
alter function @schema@.complete_jobs(bigint[]) rename to complete_jobs_unrecorded;
alter function @schema@.permanently_fail_jobs(bigint[], text) rename to permanently_fail_jobs_unrecorded;
alter function @schema@.reschedule_jobs(bigint[], timestamptz, int, int, int) rename to reschedule_jobs_unrecorded;
alter function @schema@.retry_jobs(bigint[]) rename to retry_jobs_unrecorded;

create or replace function @schema@.cancel_jobs_unrecorded(job_ids bigint[], reason text, include_running boolean)
    returns table (job_id bigint, was_running boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_children bigint[];
begin
    return query
    with target as materialized (
        select j.*, j.locked_at is not null and not coalesce(
            j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'
        ) as is_running
        from @schema@.jobs j
        where j.id = any (job_ids)
        order by j.id
        for update
    ),
    cancelled as materialized (
        select target.*
        from target
        where (not target.is_running or include_running) and (target.is_running or not target.exhausted)
    ),
    recorded as (
        insert into @schema@.job_runs
        select cancelled.id, cancelled.attempts, cancelled.task_identifier, cancelled.queue_name,
            cancelled.database_id, cancelled.locked_by, cancelled.created_at, cancelled.run_at, cancelled.locked_at,
            now(), 'cancelled', reason
        from cancelled
        where @schema@.history_enabled()
    ),
    kept as (
        insert into @schema@.cancelled_runs (job_id, attempt, worker_id, queue_name, ends_at)
        select cancelled.id, cancelled.attempts, cancelled.locked_by, cancelled.queue_name, cancelled.lease_expires_at
        from cancelled
        where cancelled.is_running
            and cancelled.lease_expires_at is not null
            and (cancelled.queue_name is not null or cancelled.is_limited)
        returning *
    ),
    slots as (
        update @schema@.limit_slots s set job_id = -kept.id from kept where s.job_id = kept.job_id
    ),
    queues as (
        update @schema@.queue_locks l set job_id = null, lease_expires_at = kept.ends_at
        from kept
        where l.queue_name = kept.queue_name and l.job_id = kept.job_id
    )
    update @schema@.jobs j
    set last_error = reason,
        ended_as = 'cancelled',
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from cancelled
    where j.id = cancelled.id
    returning j.id, cancelled.is_running;
    if found and include_running then
        perform pg_notify('jobs:cancel', '');
    end if;
    v_children := array(
        select j.id
        from @schema@.job_steps s
        join @schema@.jobs p on p.id = s.job_id
        join @schema@.jobs j on j.id = s.child_id
        where s.job_id = any (job_ids)
            and s.child_id is not null
            and s.state = 'waiting'
            and p.exhausted
            and p.locked_at is null
            and j.locked_at is null
        for update of j skip locked -- those are just ending
    );
    if cardinality(v_children) > 0 then
        perform from @schema@.cancel_jobs_unrecorded(v_children, 'the job that called it was cancelled', false);
    end if;
end
$$;

create function @schema@.cancel_jobs(job_ids bigint[], reason text, include_running boolean)
    returns table (job_id bigint, was_running boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := '{}';
begin
    for job_id, was_running in
        select c.job_id, c.was_running from @schema@.cancel_jobs_unrecorded(job_ids, reason, include_running) c
    loop
        v_ids := v_ids || job_id;
        return next;
    end loop;
    perform @schema@.record_action_on_jobs('cancel', v_ids, jsonb_build_object('reason', left(reason, 200)));
end
$$;

create function @schema@.complete_jobs(job_ids bigint[]) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_jobs constant @schema@.job_row[] := array(
        select removed from @schema@.complete_jobs_unrecorded(job_ids) removed
    );
begin
    perform @schema@.record_action_on_jobs('remove', array(select job.id from unnest(v_jobs) job));
    return query select job.* from unnest(v_jobs) job;
end
$$;

create function @schema@.permanently_fail_jobs(job_ids bigint[], error_message text default null)
    returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_jobs constant @schema@.job_row[] := array(
        select failed from @schema@.permanently_fail_jobs_unrecorded(job_ids, error_message) failed
    );
begin
    perform @schema@.record_action_on_jobs(
        'fail', array(select job.id from unnest(v_jobs) job), jsonb_build_object('reason', left(error_message, 200))
    );
    return query select job.* from unnest(v_jobs) job;
end
$$;

-- Its text names its parameters by the function's name.
create or replace function @schema@.reschedule_jobs_unrecorded(
    job_ids bigint[],
    run_at timestamptz default null,
    priority int default null,
    attempts int default null,
    max_attempts int default null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform @schema@.check_job(null, null, null, max_attempts);
    return query
    with idle as materialized (select found.id from @schema@.lock_idle_jobs(job_ids) as found (id))
    update @schema@.jobs j
    set run_at = coalesce(reschedule_jobs_unrecorded.run_at, j.run_at),
        priority = coalesce(reschedule_jobs_unrecorded.priority, j.priority),
        attempts = coalesce(reschedule_jobs_unrecorded.attempts, j.attempts),
        max_attempts = coalesce(
            reschedule_jobs_unrecorded.max_attempts,
            case
                when reschedule_jobs_unrecorded.attempts is null then j.max_attempts
                else greatest(j.max_attempts - coalesce(j.snoozes, 0), 1)
            end
        ),
        -- With new attempts, the job begins anew.
        snoozes = case when reschedule_jobs_unrecorded.attempts is null then j.snoozes end,
        snoozing_since = case when reschedule_jobs_unrecorded.attempts is null then j.snoozing_since end,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from idle
    where j.id = idle.id
    returning (@schema@.to_job_row(j)).*;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

create function @schema@.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz default null,
    priority int default null,
    attempts int default null,
    max_attempts int default null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_jobs constant @schema@.job_row[] := array(
        select moved from @schema@.reschedule_jobs_unrecorded(job_ids, run_at, priority, attempts, max_attempts) moved
    );
begin
    perform @schema@.record_action_on_jobs(
        'reschedule',
        array(select job.id from unnest(v_jobs) job),
        jsonb_build_object(
            'run_at', run_at, 'priority', priority, 'attempts', attempts, 'max_attempts', max_attempts
        )
    );
    return query select job.* from unnest(v_jobs) job;
end
$$;

create function @schema@.retry_jobs(job_ids bigint[]) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids constant bigint[] := array(select * from @schema@.retry_jobs_unrecorded(job_ids));
begin
    perform @schema@.record_action_on_jobs('retry', v_ids);
    return query select unnest(v_ids);
end
$$;

create or replace function @schema@.run_jobs_now(job_ids bigint[]) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_delayed constant bigint[] := array(
        select j.id
        from @schema@.jobs j
        where j.id = any (job_ids) and j.locked_at is null and j.attempts < j.max_attempts and j.run_at > now()
        order by j.id
        for update
    );
    v_ids constant bigint[] := array(
        select moved.id from @schema@.reschedule_jobs_unrecorded(v_delayed, run_at := now()) moved
    );
begin
    perform @schema@.record_action_on_jobs('run_now', v_ids);
    return query select unnest(v_ids);
end
$$;

create or replace function @schema@.remove_job(job_key text) returns @schema@.job_row
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.job_row;
begin
    select removed.* into v_job
    from @schema@.jobs j
    cross join lateral @schema@.complete_jobs_unrecorded(array[j.id]) removed
    where j.key = job_key;
    if not found then
        -- A worker runs it. As when another job takes the key: this one is not retried.
        update @schema@.jobs j
        set key = null,
            max_attempts = greatest(j.attempts, 1),
            snoozing_since = '-infinity',
            updated_at = now()
        where j.key = job_key
        returning (@schema@.to_job_row(j)).* into v_job;
    end if;
    if v_job.id is not null then
        perform @schema@.record_action_on_jobs('remove', array[v_job.id], jsonb_build_object('key', job_key));
    end if;
    return v_job;
end
$$;

create or replace function @schema@.force_unlock_workers(worker_ids text[]) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_count int;
begin
    with lost as materialized (
        select j.*, format('the worker %s was unlocked by hand', j.locked_by) as reason
        from @schema@.jobs j
        where j.locked_by = any (worker_ids)
        order by j.id
        for update
    ),
    recorded as (
        insert into @schema@.job_runs
        select lost.id, lost.attempts, lost.task_identifier, lost.queue_name, lost.database_id, lost.locked_by,
            lost.created_at, lost.run_at, lost.locked_at, now(), 'lost', lost.reason
        from lost
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set last_error = case when j.exhausted then lost.reason else j.last_error end,
        fenced_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from lost
    where j.id = lost.id;
    get diagnostics v_count = row_count;
    delete from @schema@.queue_locks l where l.locked_by = any (worker_ids); -- locked by hand
    perform pg_notify('jobs:insert', '');
    perform @schema@.record_action(
        'unlock_workers', format('workers %s', array_to_string(worker_ids[1:20], ', ')), v_count, null
    );
end
$$;

create function @schema@.signal_by_operator(job_id bigint, event text, payload json default null) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not @schema@.signal(job_id, event, payload) then
        return false;
    end if;
    perform @schema@.record_action_on_jobs('signal', array[job_id], jsonb_build_object('event', event));
    return true;
end
$$;

comment on function @schema@.signal_by_operator(bigint, text, json) is
    'As signal, with an entry in the audit list.';

create function @schema@.signal_by_operator(job_key text, event text, payload json default null) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (
            select @schema@.signal_by_operator(j.id, signal_by_operator.event, signal_by_operator.payload)
            from @schema@.jobs j where j.key = job_key
        ),
        case
            when job_key ~ '^[1-9][0-9]{0,17}$'
            then @schema@.signal_by_operator(job_key::bigint, signal_by_operator.event, signal_by_operator.payload)
            else false
        end
    )
$$;

comment on function @schema@.signal_by_operator(text, text, json) is
    'As signal, with an entry in the audit list.';

-- Settings: rows that operators also change by hand.

create function @schema@.changed_columns(before jsonb, after jsonb, ignored text[]) returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_object_agg(name, jsonb_build_array(before -> name, after -> name))
    from (select jsonb_object_keys(before) union select jsonb_object_keys(after)) as columns (name)
    where name <> all (ignored)
        and coalesce(before -> name, 'null') <> coalesce(after -> name, 'null')
$$;

comment on function @schema@.changed_columns is
    'The columns that differ between two rows, each with the value before and after.';

create function @schema@.tg_record_setting() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_before constant jsonb := case when tg_op = 'INSERT' then '{}' else to_jsonb(old) end;
    v_after constant jsonb := case when tg_op = 'DELETE' then '{}' else to_jsonb(new) end;
    v_row constant jsonb := v_before || v_after;
    v_changes jsonb;
begin
    v_changes := @schema@.changed_columns(v_before, v_after, case tg_table_name
        when 'pauses' then '{kind,name,since,paused_by}'::text[]
        when 'tenant_weights' then '{database_id}'
        else '{name,created_at,updated_at,task_identifier}'
    end);
    if v_changes is null and tg_op = 'UPDATE' then
        return null;
    end if;
    perform @schema@.record_action(
        case tg_table_name
            when 'pauses' then case when tg_op = 'DELETE' then 'resume' else 'pause' end
            when 'limits' then case when tg_op = 'DELETE' then 'remove_limit' else 'set_limit' end
            when 'tenant_weights' then 'set_tenant_weight'
            else 'set_task'
        end,
        case tg_table_name
            when 'pauses' then btrim(format('%s %s', v_row ->> 'kind', v_row ->> 'name'))
            when 'limits' then format('limit %s', v_row ->> 'name')
            when 'tenant_weights' then format('tenant %s', v_row ->> 'database_id')
            else format('task %s', v_row ->> 'task_identifier')
        end,
        null,
        v_changes
    );
    return null;
end
$$;

comment on function @schema@.tg_record_setting is
    'Write an entry of the audit list for a changed pause, limit, weight or setting of a task.';

create trigger _900_record_pause after insert or update on @schema@.pauses
    for each row execute function @schema@.tg_record_setting();
create trigger _900_record_resume after delete on @schema@.pauses
    for each row when (old.until is null or old.until > now()) execute function @schema@.tg_record_setting();
create trigger _900_record_limit after insert or update or delete on @schema@.limits
    for each row execute function @schema@.tg_record_setting();
create trigger _900_record_tenant_weight after insert or update or delete on @schema@.tenant_weights
    for each row execute function @schema@.tg_record_setting();
create trigger _900_record_task after insert or update on @schema@.task_settings
    for each row execute function @schema@.tg_record_setting();
-- A sync deletes rows that have become empty, which the update before has recorded.
create trigger _900_record_removed_task after delete on @schema@.task_settings
    for each row when (
        old.declared_in is not null
        or coalesce(old.override_queue_name, old.override_priority::text, old.override_max_attempts::text) is not null
    )
    execute function @schema@.tg_record_setting();

create function @schema@.tg_record_schedule() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_shown constant text[] := '{schedule_info,task_identifier,key,queue_name,max_attempts,priority,database_id}';
    v_row constant @schema@.scheduled_jobs := case when tg_op = 'DELETE' then old else new end;
    v_action text := case tg_op when 'INSERT' then 'add_schedule' when 'DELETE' then 'remove_schedule' end;
    v_details jsonb;
begin
    select jsonb_object_agg(shown.name, shown.value) into v_details
    from jsonb_each(to_jsonb(v_row)) as shown (name, value)
    where shown.name = any (v_shown);
    if tg_op = 'UPDATE' and new.paused_at is null and old.paused_at is not null then
        if new.rule_changed_at = old.paused_until then
            return null; -- a scheduler has ended the pause at its time
        end if;
        v_action := 'resume_schedule';
        v_details := null;
    elsif tg_op = 'UPDATE' and (new.paused_at, new.paused_until, new.pause_reason)
        is distinct from (old.paused_at, old.paused_until, old.pause_reason)
    then
        v_action := 'pause_schedule';
        v_details := jsonb_build_object('reason', new.pause_reason, 'until', new.paused_until);
    elsif tg_op = 'UPDATE' then
        v_action := 'change_schedule';
        select jsonb_object_agg(changed.name, changed.value) into v_details
        from jsonb_each(@schema@.changed_columns(to_jsonb(old), to_jsonb(new), '{}')) as changed (name, value)
        where changed.name = any (v_shown);
        v_details := coalesce(v_details, '{}') || jsonb_build_object(
            'payload', case when new.payload::text <> old.payload::text then 'changed' end
        );
        if jsonb_strip_nulls(v_details) = '{}' then
            return null;
        end if;
    end if;
    perform @schema@.record_action(v_action, format('schedule %s %s', v_row.id, v_row.task_identifier), null, v_details);
    return null;
end
$$;

comment on function @schema@.tg_record_schedule is
    'Write an entry of the audit list for a schedule that was added, changed, paused, resumed or removed.';

create trigger _910_record_schedule after insert or delete on @schema@.scheduled_jobs
    for each row execute function @schema@.tg_record_schedule();
-- Schedulers change none of these columns, so that this costs them nothing.
create trigger _910_record_changed_schedule after update of
    schedule_info, task_identifier, payload, key, queue_name, max_attempts, priority, database_id, paused_at,
    paused_until, pause_reason
    on @schema@.scheduled_jobs
    for each row execute function @schema@.tg_record_schedule();

create function @schema@.set_audit_retention(days double precision) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    update @schema@.history_settings h
    set audit_retention = make_interval(secs => days * 86400)
    where h.audit_retention is distinct from make_interval(secs => days * 86400);
    if found then
        perform @schema@.record_action('set_audit_retention', 'audit list', null, jsonb_build_object('days', days));
    end if;
end
$$;

comment on function @schema@.set_audit_retention is 'Set for how long the audit list keeps its entries. Only for the owner.';

create function @schema@.prune_audit_log(max_rows int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_deleted int;
begin
    delete from @schema@.audit_log a
    where a.ctid = any (array(
        select old.ctid
        from @schema@.audit_log old
        where old.at <= now() - (select h.audit_retention from @schema@.history_settings h)
        order by old.at
        limit max_rows
        for update skip locked -- another pruner deletes those
    ));
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function @schema@.prune_audit_log is
    'Delete up to max_rows of the oldest entries past the retention. Returns the number of deleted entries.';

comment on function @schema@.cancel_jobs(bigint[], text, boolean) is
    'End waiting jobs as cancelled, with a reason. With include_running also running ones: their workers lose the locks, '
    'are notified (jobs:cancel) and stop the handlers, and late reports change nothing.';
comment on function @schema@.complete_jobs(bigint[]) is 'Delete jobs that no worker runs, as if they had completed.';
comment on function @schema@.permanently_fail_jobs(bigint[], text) is
    'Permanently fail jobs that no worker runs, with an error message.';
comment on function @schema@.reschedule_jobs(bigint[], timestamptz, int, int, int) is
    'Change when and how often jobs run that no worker runs now; null leaves a value as it is.';
comment on function @schema@.retry_jobs(bigint[]) is
    'Run permanently failed jobs again from now, with all their attempts.';
comment on function @schema@.cancel_jobs_unrecorded(bigint[], text, boolean) is
    'As cancel_jobs, without an entry in the audit list, for other functions.';
comment on function @schema@.complete_jobs_unrecorded(bigint[]) is
    'As complete_jobs, without an entry in the audit list, for other functions.';
comment on function @schema@.permanently_fail_jobs_unrecorded(bigint[], text) is
    'As permanently_fail_jobs, without an entry in the audit list.';
comment on function @schema@.reschedule_jobs_unrecorded(bigint[], timestamptz, int, int, int) is
    'As reschedule_jobs, without an entry in the audit list, for other functions.';
comment on function @schema@.retry_jobs_unrecorded(bigint[]) is
    'As retry_jobs, without an entry in the audit list, for other functions.';

revoke execute on function
    @schema@.audit_text, @schema@.record_action, @schema@.record_action_on_jobs, @schema@.changed_columns,
    @schema@.tg_record_setting, @schema@.tg_record_schedule, @schema@.set_audit_retention, @schema@.prune_audit_log,
    @schema@.signal_by_operator(bigint, text, json), @schema@.signal_by_operator(text, text, json),
    @schema@.cancel_jobs, @schema@.complete_jobs, @schema@.permanently_fail_jobs, @schema@.reschedule_jobs,
    @schema@.retry_jobs
    from public;
select @schema@.grant_like('job_runs', '{audit_log}');
select @schema@.grant_like('prune_job_runs', '{prune_audit_log}');
select @schema@.grant_like('retry_jobs_unrecorded', '{retry_jobs, signal_by_operator}');
select @schema@.grant_like('cancel_jobs_unrecorded', '{cancel_jobs}');
select @schema@.grant_like('complete_jobs_unrecorded', '{complete_jobs}');
select @schema@.grant_like('permanently_fail_jobs_unrecorded', '{permanently_fail_jobs}');
select @schema@.grant_like('reschedule_jobs_unrecorded', '{reschedule_jobs}');

-- Nobody calls a function without an entry.
do $$
declare
    v_grant record;
begin
    for v_grant in
        select p.oid::regprocedure as function, quote_ident(pg_get_userbyid(granted.grantee)) as role
        from pg_catalog.pg_proc p
        cross join lateral aclexplode(p.proacl) as granted
        where p.pronamespace = (select c.relnamespace from pg_catalog.pg_class c where c.oid = '@schema@.jobs'::regclass)
            and p.proname like '%\_unrecorded'
            and granted.grantee not in (0, p.proowner)
    loop
        execute format('revoke execute on function %s from %s', v_grant.function, v_grant.role);
    end loop;
end
$$;
