-- Durable functions: what a handler has recorded, the signals that it has not read, and parked jobs.
--
-- A parked job is unlocked and due when it wakes: at the time of its sleep or deadline, or never (infinity) if only a
-- signal or a child wakes it. So it is where delayed jobs are, which claims do not read. It counts as running for the
-- rule of job keys.

alter table @schema@.jobs
    add is_awaited boolean,
    add has_steps boolean,
    add parked_attempt int;

comment on column @schema@.jobs.is_awaited is 'Whether other jobs wait for the end of this one.';
comment on column @schema@.jobs.has_steps is 'Whether job_steps or job_signals has rows of this job.';
comment on column @schema@.jobs.parked_attempt is
    'The attempt that parked the job. It is parked while this is the number of its attempts and it is not locked.';
comment on column @schema@.jobs.snoozes is
    'The number of attempts that do not count: those that ended in a snooze, a park, or the stop of the worker. Each is '
    'included in attempts and in max_attempts, so that no two deliveries have the same number.';

create table @schema@.job_steps (
    job_id bigint not null,
    position int not null,
    name text not null,
    kind text not null,
    state text not null,
    wait_group int,
    result json,
    error text,
    attempt int not null,
    event text,
    wake_at timestamptz,
    child_id bigint,
    started_at timestamptz not null,
    ended_at timestamptz,
    constraint job_steps_pkey primary key (job_id, position),
    constraint job_steps_position_limited check (position between 1 and 10000),
    constraint job_steps_kind_known check (kind in ('step', 'sleep', 'wait', 'call', 'then')),
    constraint job_steps_state_known check (state in ('waiting', 'completed', 'failed', 'timed_out'))
);

comment on table @schema@.job_steps is 'What the handlers of durable functions have recorded, until their jobs end.';
comment on column @schema@.job_steps.position is 'The order in which the steps of a job were recorded, from 1.';
comment on column @schema@.job_steps.wait_group is
    'The position of the first step of a group. A parked job wakes when no step of a group is waiting.';
comment on column @schema@.job_steps.attempt is 'The attempt that recorded it.';
comment on column @schema@.job_steps.event is 'Of a wait: the name of the signal.';
comment on column @schema@.job_steps.wake_at is 'Of a sleep: its end. Of a wait: its deadline, if any.';
comment on column @schema@.job_steps.child_id is 'Of a call: the child job.';

create index job_steps_waiting_idx on @schema@.job_steps (job_id, wait_group) where state = 'waiting';
create index job_steps_child_id_idx on @schema@.job_steps (child_id) where child_id is not null;

create table @schema@.job_signals (
    id bigint generated always as identity,
    job_id bigint not null,
    event text not null,
    payload json,
    sent_at timestamptz not null default now(),
    constraint job_signals_pkey primary key (job_id, id)
);

comment on table @schema@.job_signals is 'Signals that came before their jobs waited for them, in the order of arrival.';

alter table @schema@.job_runs drop constraint job_runs_outcome_known;
alter table @schema@.job_runs add constraint job_runs_outcome_known check (
    outcome in (
        'completed', 'failed', 'permanently_failed', 'released', 'snoozed', 'parked', 'lost', 'cancelled', 'removed'
    )
) not valid;

-- Record and load

create function @schema@.lock_held_jobs(worker_ids text[], job_ids bigint[], job_attempts int[]) returns bigint[]
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(locked.id), '{}')
    from (
        select distinct given.worker_id, given.job_id, given.attempt
        from unnest(worker_ids, job_ids, job_attempts) as given (worker_id, job_id, attempt)
        order by given.job_id
    ) claim
    cross join lateral (
        select j.id
        from @schema@.jobs j
        where j.id = claim.job_id and j.locked_by = claim.worker_id and j.attempts = claim.attempt
        for no key update
    ) locked
$$;

comment on function @schema@.lock_held_jobs(text[], bigint[], int[]) is
    'Lock the rows of the jobs that these workers have claimed in these attempts, in the order of ids.';

create function @schema@.insert_child(parent @schema@.jobs, spec json, call_position int) returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := (@schema@.insert_job(
        parent.database_id, parent.actor_id, parent.entity_id, spec ->> 'task', spec -> 'payload',
        'jobfn:child:' || parent.id || ':' || call_position, spec ->> 'queue',
        now() + coalesce((spec ->> 'delaySeconds')::float8, 0) * interval '1 second', (spec ->> 'maxAttempts')::int,
        coalesce((spec ->> 'priority')::int, parent.priority), parent.organization_id, parent.entity_type
    )).id;
begin
    if call_position is not null or parent.traceparent is not null then
        update @schema@.jobs j
        set is_awaited = case when call_position is not null then true end,
            traceparent = parent.traceparent,
            tracestate = parent.tracestate
        where j.id = v_id;
    end if;
    return v_id;
end
$$;

comment on function @schema@.insert_child(@schema@.jobs, json, int) is
    'Add a job for the same tenant, actor and entity, in the same trace. With the position of a call, the job is awaited: '
    'its key tells workers so.';

create function @schema@.call_depth(job_id bigint) returns int
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive ancestor (id, depth) as (
        select call_depth.job_id, 0
        union all
        select s.job_id, ancestor.depth + 1
        from ancestor
        join @schema@.job_steps s on s.child_id = ancestor.id
        where ancestor.depth < 100
    )
    select max(ancestor.depth) from ancestor
$$;

comment on function @schema@.call_depth(bigint) is 'The number of jobs above this one that wait for it.';

create function @schema@.record_steps(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    lease interval,
    positions int[],
    names text[],
    kinds text[],
    states text[],
    wait_groups int[],
    results json[],
    errors text[],
    seconds double precision[],
    specs json[]
) returns table (job_id bigint, step_position int, name text, state text, result json)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set jit = off
as $$
#variable_conflict use_column
declare
    v_held bigint[];
    v_entry record;
    v_step @schema@.job_steps;
    v_job @schema@.jobs;
    v_inserted int;
    v_is_repeated boolean;
begin
    lock table @schema@.jobs, @schema@.job_steps, @schema@.job_dependencies in row exclusive mode; -- before reading, for REINDEX
    v_held := @schema@.lock_held_jobs(worker_ids, job_ids, job_attempts);
    if cardinality(v_held) = 0 then
        return;
    end if;
    update @schema@.jobs j
    set has_steps = true,
        lease_expires_at = case when j.lease_expires_at is not null then now() + lease end
    where j.id = any (v_held) and (j.has_steps is null or j.lease_expires_at < now() + lease / 2);
    if found then
        update @schema@.queue_locks l
        set lease_expires_at = j.lease_expires_at
        from @schema@.jobs j
        where j.id = any (v_held)
            and l.queue_name = j.queue_name
            and l.job_id = j.id
            and l.lease_expires_at < j.lease_expires_at;
    end if;

    -- A step that is sent again, because its response was lost, changes nothing.
    insert into @schema@.job_steps (
        job_id, position, name, kind, state, result, error, attempt, started_at, ended_at
    )
    select entry.job_id, entry.position, entry.name, 'step', entry.state, entry.result, entry.error, entry.attempt,
        clock_timestamp() - entry.seconds * interval '1 second', clock_timestamp()
    from unnest(job_ids, job_attempts, positions, names, kinds, states, results, errors, seconds)
        as entry (job_id, attempt, position, name, kind, state, result, error, seconds)
    where entry.kind = 'step' and entry.job_id = any (v_held)
    on conflict do nothing;
    get diagnostics v_inserted = row_count;
    v_is_repeated := v_inserted < (
        select count(*) from unnest(job_ids, kinds) as entry (job_id, kind)
        where entry.kind = 'step' and entry.job_id = any (v_held)
    );

    for v_entry in
        select entry.*
        from unnest(job_ids, job_attempts, positions, names, kinds, wait_groups, specs)
            as entry (job_id, attempt, position, name, kind, wait_group, spec)
        where entry.kind <> 'step' and entry.job_id = any (v_held)
        order by entry.job_id, entry.position
    loop
        perform from @schema@.job_steps s where s.job_id = v_entry.job_id and s.position = v_entry.position;
        continue when found;
        v_step := null;
        v_step.job_id := v_entry.job_id;
        v_step.position := v_entry.position;
        v_step.name := v_entry.name;
        v_step.kind := v_entry.kind;
        v_step.state := 'waiting';
        v_step.wait_group := coalesce(v_entry.wait_group, v_entry.position);
        v_step.attempt := v_entry.attempt;
        v_step.started_at := now();
        case v_entry.kind
            when 'sleep', 'wait' then
                v_step.wake_at := coalesce(
                    (v_entry.spec ->> 'until')::timestamptz,
                    now() + (v_entry.spec ->> 'seconds')::float8 * interval '1 second'
                );
                if v_entry.kind = 'wait' then
                    v_step.event := v_entry.spec ->> 'event';
                    delete from @schema@.job_signals g
                    where g.job_id = v_step.job_id and g.id = (
                        select min(oldest.id) from @schema@.job_signals oldest
                        where oldest.job_id = v_step.job_id and oldest.event = v_step.event
                    )
                    returning g.payload into v_step.result;
                    if found then
                        v_step.state := 'completed';
                    end if;
                elsif v_step.wake_at <= now() then
                    v_step.state := 'completed';
                end if;
            when 'call' then
                select j.* into v_job from @schema@.jobs j where j.id = v_step.job_id;
                if @schema@.call_depth(v_step.job_id) >= 20 then
                    raise exception 'call %: 20 jobs above this one wait for it already', v_step.name
                        using errcode = 'program_limit_exceeded', hint = 'Call tasks from a job that is less deep.';
                end if;
                v_step.child_id := @schema@.insert_child(v_job, v_entry.spec, v_step.position);
            when 'then' then
                v_step.result := v_entry.spec; -- insert_child gets it when the job has completed
                v_step.wait_group := null;
        end case;
        if v_step.state = 'completed' then
            v_step.ended_at := now();
        end if;
        insert into @schema@.job_steps values (v_step.*);
    end loop;

    return query
    select s.job_id, s.position, s.name, s.state, case when s.kind = 'wait' or v_is_repeated then s.result end
    from unnest(job_ids, positions) as entry (job_id, position)
    join @schema@.job_steps s on s.job_id = entry.job_id and s.position = entry.position
    where entry.job_id = any (v_held);
end
$$;

comment on function @schema@.record_steps(
    text[], bigint[], int[], interval, int[], text[], text[], text[], int[], json[], text[], double precision[], json[]
) is
    'Record steps of jobs that their workers hold, and renew the leases. Returns each step as it is recorded; nothing '
    'of jobs that are not held. The result is that of a wait, for which a signal has come before, and that of a step '
    'that was recorded before.';

create function @schema@.load_steps(
    worker_ids text[], job_ids bigint[], job_attempts int[], after_positions int[], max_bytes int
) returns table (
    job_id bigint,
    step_position int,
    name text,
    kind text,
    state text,
    wait_group int,
    result json,
    error text,
    has_more boolean
)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
#variable_conflict use_column
declare
    v_held bigint[] := @schema@.lock_held_jobs(worker_ids, job_ids, job_attempts);
    v_claim record;
    v_step @schema@.job_steps;
    v_bytes int;
begin
    update @schema@.job_steps s
    set state = case s.kind when 'sleep' then 'completed' else 'timed_out' end, ended_at = now()
    where s.job_id = any (v_held) and s.state = 'waiting' and s.wake_at <= now();
    -- of an attempt that has not completed
    delete from @schema@.job_steps s where s.job_id = any (v_held) and s.state = 'waiting' and s.kind = 'then';
    for v_claim in
        select given.job_id, given.after_position
        from unnest(job_ids, after_positions) as given (job_id, after_position)
        where given.job_id = any (v_held)
    loop
        job_id := v_claim.job_id;
        v_bytes := 0;
        for v_step in
            select s.* from @schema@.job_steps s
            where s.job_id = v_claim.job_id and s.position > v_claim.after_position
            order by s.position
        loop
            exit when v_bytes >= max_bytes;
            step_position := v_step.position;
            name := v_step.name;
            kind := v_step.kind;
            state := v_step.state;
            wait_group := v_step.wait_group;
            result := v_step.result;
            error := v_step.error;
            return next;
            v_bytes := v_bytes + 200 + coalesce(octet_length(v_step.result::text), 0);
        end loop;
        has_more := found and v_bytes >= max_bytes;
        step_position := null;
        name := null;
        kind := null;
        state := null;
        wait_group := null;
        result := null;
        error := null;
        return next;
        has_more := null;
    end loop;
end
$$;

comment on function @schema@.load_steps(text[], bigint[], int[], int[], int) is
    'Return what has been recorded of jobs that their workers hold, in order, from a position on, and after about '
    'max_bytes no more. The last row of each job has no position, and whether there are more. Nothing of jobs that are '
    'not held.';

-- Park and wake

create function @schema@.park_jobs(worker_ids text[], job_ids bigint[], job_attempts int[], waiting_for json[])
returns table (id bigint, task_identifier text, database_id uuid, attempts int)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
#variable_conflict use_column
declare
    v_park record;
    v_job @schema@.jobs;
    v_groups int[];
    v_due_at timestamptz;
    v_history_enabled boolean := @schema@.history_enabled();
begin
    lock table @schema@.jobs in row exclusive mode; -- before reading, for REINDEX
    for v_park in
        select park.*
        from unnest(worker_ids, job_ids, job_attempts, waiting_for) as park (worker_id, job_id, attempt, groups)
        order by park.job_id -- so that two batches with jobs in common do not deadlock
    loop
        select j.* into v_job
        from @schema@.jobs j
        where j.id = v_park.job_id
            and j.locked_by = v_park.worker_id
            and (v_park.attempt is null or j.attempts = v_park.attempt)
        for update;
        continue when not found;
        v_groups := array(select given.value::int from json_array_elements_text(v_park.groups) as given (value));
        -- At once if what it waits for came while the handler ended: the lock on the row decides.
        if exists (
            select from unnest(v_groups) as waiting (number)
            where not exists (
                select from @schema@.job_steps s
                where s.job_id = v_job.id and s.wait_group = waiting.number and s.state = 'waiting'
            )
        ) then
            v_due_at := now();
        else
            v_due_at := coalesce((
                select min(s.wake_at) from @schema@.job_steps s
                where s.job_id = v_job.id and s.wait_group = any (v_groups) and s.state = 'waiting'
            ), 'infinity');
        end if;
        update @schema@.jobs j
        set last_error = null,
            max_attempts = least(j.max_attempts::bigint + 1, 2147483647),
            snoozes = coalesce(j.snoozes, 0) + 1,
            parked_attempt = j.attempts,
            run_at = v_due_at,
            locked_at = null,
            locked_by = null,
            lease_expires_at = null,
            updated_at = now()
        where j.id = v_job.id;
        if v_history_enabled then
            insert into @schema@.job_runs values (
                v_job.id, v_job.attempts, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                v_job.locked_by, v_job.created_at, v_job.run_at, v_job.locked_at, now(), 'parked', null
            );
        end if;
        if isfinite(v_due_at) then
            perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
        end if;
        id := v_job.id;
        task_identifier := v_job.task_identifier;
        database_id := v_job.database_id;
        attempts := v_job.attempts;
        return next;
    end loop;
end
$$;

comment on function @schema@.park_jobs(text[], bigint[], int[], json[]) is
    'Unlock jobs until one of the groups of steps that each waits for has ended. The attempt does not count. Returns '
    'the jobs that were locked so.';

create function @schema@.wake_parked_jobs(job_ids bigint[], wait_groups int[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
begin
    -- The locks come first, in the order of ids: of two transactions that end the last two steps of a group, the second
    -- one waits here, and its next statement sees the step of the first.
    perform from @schema@.jobs j where j.id = any (job_ids) order by j.id for no key update;
    update @schema@.jobs j
    set run_at = now(), updated_at = now()
    where j.id = any (job_ids)
        and j.locked_at is null
        and j.parked_attempt = j.attempts
        and j.run_at > now()
        and exists (
            select from unnest(job_ids, wait_groups) as ended (job_id, number)
            where ended.job_id = j.id and not exists (
                select from @schema@.job_steps s
                where s.job_id = j.id and s.wait_group = ended.number and s.state = 'waiting'
            )
        );
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.wake_parked_jobs(bigint[], int[]) is
    'Make parked jobs due, each if its group of steps has ended.';

create function @schema@.signal(job_id bigint, event text, payload json default null) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_job @schema@.jobs;
    v_position int;
    v_group int;
begin
    lock table @schema@.job_signals in row exclusive mode; -- before reading, for REINDEX
    if length(event) not between 1 and 200 or event is null then
        raise check_violation using message = 'signal: event must have 1 to 200 characters';
    end if;
    if octet_length(payload::text) > 1048576 then
        raise check_violation using message = 'signal: payload must have at most 1 MiB: send a reference to the data';
    end if;
    select j.* into v_job from @schema@.jobs j where j.id = signal.job_id for no key update;
    if not found or (v_job.exhausted and v_job.locked_at is null) then
        return false;
    end if;
    update @schema@.job_steps s
    set state = 'completed', result = signal.payload, ended_at = now()
    where s.job_id = v_job.id and s.position = (
        select min(waiting.position) from @schema@.job_steps waiting
        where waiting.job_id = v_job.id
            and waiting.state = 'waiting'
            and waiting.kind = 'wait'
            and waiting.event = signal.event
            and coalesce(waiting.wake_at > now(), true)
    )
    returning s.position, s.wait_group into v_position, v_group;
    if found then
        perform @schema@.wake_parked_jobs(array[v_job.id], array[v_group]);
        return true;
    end if;
    if (select count(*) from (select from @schema@.job_signals g where g.job_id = v_job.id limit 1000) kept) = 1000 then
        raise exception 'signal: job % has 1,000 signals that it has not read', v_job.id
            using errcode = 'program_limit_exceeded', hint = 'Send fewer signals, or let the handler wait for them.';
    end if;
    insert into @schema@.job_signals (job_id, event, payload) values (v_job.id, event, payload);
    if v_job.has_steps is null then
        update @schema@.jobs j set has_steps = true where j.id = v_job.id;
    end if;
    return true;
end
$$;

comment on function @schema@.signal(bigint, text, json) is
    'Send a signal to a job: to the first of its waits for this event, or, if there is none, to the next one. Returns '
    'false if the job has ended.';

create function @schema@.signal(job_key text, event text, payload json default null) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select @schema@.signal(j.id, signal.event, signal.payload) from @schema@.jobs j where j.key = job_key),
        case when job_key ~ '^[1-9][0-9]{0,17}$' then @schema@.signal(job_key::bigint, signal.event, signal.payload) else false end
    )
$$;

comment on function @schema@.signal(text, text, json) is 'Send a signal to the job with this key or, else, this id.';

create function @schema@.wake_jobs(job_ids bigint[]) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
    v_ids bigint[] := '{}';
begin
    for v_id in
        with parked as materialized (
            select j.id from @schema@.jobs j
            where j.id = any (job_ids) and j.locked_at is null and j.parked_attempt = j.attempts and not j.exhausted
            order by j.id
            for no key update
        ),
        due as (
            update @schema@.job_steps s set wake_at = now()
            from parked
            where s.job_id = parked.id and s.state = 'waiting' and s.wake_at > now()
        )
        update @schema@.jobs j set run_at = least(j.run_at, now()), updated_at = now()
        from parked
        where j.id = parked.id
        returning j.id
    loop
        v_ids := v_ids || v_id;
        return next v_id;
    end loop;
    if cardinality(v_ids) > 0 then
        perform pg_notify('jobs:insert', '');
        perform @schema@.record_action_on_jobs('wake', v_ids);
    end if;
end
$$;

comment on function @schema@.wake_jobs(bigint[]) is
    'Wake parked jobs: their sleeps end, and their waits with a deadline time out. Returns those that were parked.';

create function @schema@.retry_job_from_step(job_id bigint, first_position int) returns boolean
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
    perform from @schema@.cancel_jobs_unrecorded(v_children, 'Its parent was retried from an earlier step', false);
    if v_job.exhausted then
        perform from @schema@.retry_jobs_unrecorded(array[v_job.id]);
    else
        update @schema@.jobs j set run_at = now(), updated_at = now() where j.id = v_job.id;
        perform pg_notify('jobs:insert', '');
    end if;
    perform @schema@.record_action_on_jobs(
        'retry_from_step', array[v_job.id], jsonb_build_object('position', first_position)
    );
    return true;
end
$$;

comment on function @schema@.retry_job_from_step(bigint, int) is
    'Forget the steps of a job from a position on, cancel its waiting children among them, and run it now. False if the '
    'job is running or has ended.';

-- The end of a job: its steps are deleted, those that wait for it learn its outcome. Only jobs with a flag fire these
-- triggers, and a job whose row is deleted in whatever way fires them.

create function @schema@.tg_end_durable_job() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    lock table @schema@.job_steps in row exclusive mode; -- before reading, for REINDEX
    if old.locked_at is not null then -- complete_jobs, which removes jobs, has deleted these
        perform @schema@.insert_child(old, s.result, null)
        from @schema@.job_steps s
        where s.job_id = old.id and s.kind = 'then' and s.attempt = old.attempts;
    end if;
    delete from @schema@.job_steps s where s.job_id = old.id;
    delete from @schema@.job_signals g where g.job_id = old.id;
    return null;
end
$$;

create trigger _700_end_durable_job
    after delete on @schema@.jobs
    for each row when (old.has_steps)
    execute function @schema@.tg_end_durable_job();

create function @schema@.tg_end_awaited_job() returns trigger
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

create trigger _700_end_awaited_job
    after delete on @schema@.jobs
    for each row when (old.is_awaited)
    execute function @schema@.tg_end_awaited_job();

create trigger _700_fail_awaited_job
    after update of last_error on @schema@.jobs
    for each row when (new.is_awaited and new.exhausted and new.locked_at is null)
    execute function @schema@.tg_end_awaited_job();

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

create function @schema@.tg_wake_parked_jobs() returns trigger
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

comment on function @schema@.tg_wake_parked_jobs() is
    'Wake the jobs that waited for jobs of this statement: once for all of them, so that their locks are taken in order.';

create trigger _710_wake_parked_jobs
    after delete or update of last_error on @schema@.jobs
    for each statement execute function @schema@.tg_wake_parked_jobs();

-- A batch with failures ends the calls of its jobs once, so that parents are locked in order. A durable job that its
-- worker releases keeps the number of its attempt.

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

-- The result of a child is copied to the step of its parent.
create or replace function @schema@.settle_jobs_with_results(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[],
    results json[],
    storage_errors text[],
    retention_seconds float8[]
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.job_row;
    v_settled bigint[] := '{}';
    v_stored bigint;
begin
    for v_job in
        select * from @schema@.settle_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
    loop
        v_settled := v_settled || v_job.id;
        return next v_job;
    end loop;
    for v_stored in
        insert into @schema@.job_results as r (job_id, result, storage_error, expires_at)
        select given.job_id, given.result, given.storage_error, now() + given.retention_seconds * interval '1 second'
        from unnest(job_ids, outcomes, results, storage_errors, retention_seconds)
            as given (job_id, outcome, result, storage_error, retention_seconds)
        where given.retention_seconds is not null and given.outcome = 'completed' and given.job_id = any (v_settled)
        on conflict (job_id) do nothing
        returning r.job_id
    loop
        perform pg_notify('jobs:result', v_stored::text);
    end loop;
    update @schema@.job_steps s
    set result = given.result, error = given.storage_error
    from unnest(job_ids, results, storage_errors) as given (job_id, result, storage_error)
    where s.child_id = given.job_id and s.kind = 'call' and s.state = 'completed' and given.job_id = any (v_settled);
    -- Each call deletes some expired results, so that no other process has to.
    delete from @schema@.job_results r
    where r.job_id in (
        select old.job_id from @schema@.job_results old
        where old.expires_at < now()
        order by old.expires_at
        limit 100
        for update skip locked
    );
end
$$;

create or replace function @schema@.release_jobs(
    worker_id text
) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    with released as materialized (
        select j.* from @schema@.jobs j where j.locked_by = worker_id order by j.id for update
    ),
    recorded as (
        insert into @schema@.job_runs
        select released.id, released.attempts, released.task_identifier, released.queue_name, released.database_id,
            released.locked_by, released.created_at, released.run_at, released.locked_at, now(), 'released', null
        from released
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        -- The function may still run a durable job, so the number of its attempt is not used again.
        attempts = case when j.has_steps then j.attempts else greatest(j.attempts - 1, 0) end,
        max_attempts = case
            when j.has_steps then least(j.max_attempts::bigint + 1, 2147483647) else j.max_attempts
        end,
        snoozes = case when j.has_steps then coalesce(j.snoozes, 0) + 1 else j.snoozes end,
        updated_at = now()
    from released
    where j.id = released.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l where l.locked_by = worker_id; -- the trigger has not deleted locks without a job
end
$$;

-- The numbers of the attempts of a durable job are never used again.
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

-- The roles that may claim jobs may record steps; those that may add jobs may send signals; those that may retry jobs may
-- wake them; those that may read jobs may read their steps.
select @schema@.grant_like('claim_jobs', '{record_steps, load_steps, park_jobs}');
select @schema@.grant_like('add_job', '{signal}');
select @schema@.grant_like('retry_jobs', '{wake_jobs, retry_job_from_step}');
select @schema@.grant_like('job_runs', '{job_steps, job_signals}');

revoke execute on all functions in schema @schema@ from public;
