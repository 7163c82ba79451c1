-- Functions return jobs as a type that never changes, job_row. Before, their result changed when a migration added a
-- column to jobs: calls that waited for it failed, and so did later calls in the same sessions.

-- Changing the result of a function needs a new function: keep the grants and comments for the end of this migration.
select set_config('jobfn.restore', string_agg(statement.text, ';'), true)
from pg_catalog.pg_proc p
join pg_catalog.pg_class c on c.relnamespace = p.pronamespace and c.reltype = pg_typeof(null::@schema@.jobs)
cross join lateral (
    select format('grant execute on function %s to %s', p.oid::regprocedure, granted.grantee::regrole)
    from aclexplode(p.proacl) as granted
    where granted.grantee not in (0, p.proowner)
    union all
    select format('comment on function %s is %L', p.oid::regprocedure, obj_description(p.oid, 'pg_proc'))
) as statement (text)
where p.prorettype = c.reltype;

drop function
    @schema@.insert_job(uuid, uuid, uuid, text, json, text, text, timestamptz, int, int, uuid, text),
    @schema@.add_job(uuid, text, json, text, text, timestamptz, int, int),
    @schema@.add_job(text, json, text, text, timestamptz, int, int, uuid, uuid, text),
    @schema@.add_job(text, text, text, text, timestamptz, int, int),
    @schema@.run_scheduled_job(bigint, interval),
    @schema@.get_job(text, text[], interval),
    @schema@.claim_jobs(text, text[], interval, int, interval, text[]),
    @schema@.claim_jobs_of_queues(text, text[], text[], interval, int, interval, text[]),
    @schema@.settle_mixed_jobs(text[], bigint[], int[], text[], text[], interval[]),
    @schema@.settle_jobs(text[], bigint[], int[], text[], text[], interval[]),
    @schema@.settle_jobs_with_results(text[], bigint[], int[], text[], text[], interval[], json[], text[], float8[]),
    @schema@.snooze_jobs(text[], bigint[], int[], text[], interval[], interval[]),
    @schema@.complete_job(text, bigint),
    @schema@.fail_job(text, bigint, text),
    @schema@.complete_jobs(bigint[]),
    @schema@.permanently_fail_jobs(bigint[], text),
    @schema@.reschedule_jobs(bigint[], timestamptz, int, int, int),
    @schema@.remove_job(text);

create type @schema@.job_row as (
    id bigint,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text,
    task_identifier text,
    payload json,
    priority int,
    run_at timestamptz,
    attempts int,
    max_attempts int,
    key text,
    last_error text,
    locked_at timestamptz,
    locked_by text,
    created_at timestamptz,
    updated_at timestamptz,
    lease_expires_at timestamptz,
    progress real,
    progress_message text,
    accepted_attempt int,
    fenced_attempt int,
    traceparent text,
    tracestate text,
    exhausted boolean,
    in_last_attempt boolean,
    organization_id uuid,
    entity_type text,
    snoozes int,
    snoozing_since timestamptz
);

comment on type @schema@.job_row is
    'A job as functions return it: the first columns of jobs, in the same order. It is never changed, so that running '
    'sessions can go on.';

-- PostgreSQL inlines it, so that (to_job_row(j)).* costs the same as the list of columns.
create function @schema@.to_job_row(j @schema@.jobs) returns @schema@.job_row
    language sql
    immutable
as $$
    select row(
        j.id, j.database_id, j.actor_id, j.entity_id, j.queue_name, j.task_identifier, j.payload, j.priority, j.run_at,
        j.attempts, j.max_attempts, j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at,
        j.lease_expires_at, j.progress, j.progress_message, j.accepted_attempt, j.fenced_attempt, j.traceparent,
        j.tracestate, j.exhausted, j.in_last_attempt, j.organization_id, j.entity_type, j.snoozes, j.snoozing_since
    )::@schema@.job_row
$$;

comment on function @schema@.to_job_row(@schema@.jobs) is 'A job as functions return it.';

create function @schema@.insert_job(
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    identifier text,
    payload json,
    job_key text,
    queue_name text,
    run_at timestamptz,
    max_attempts int,
    priority int,
    organization_id uuid default null,
    entity_type text default null
) returns @schema@.job_row
    language plpgsql
as $$
#variable_conflict use_column
declare
    -- Inserting a whole row, and returning it without RETURNING, saves a fifth of the time.
    v_new constant @schema@.job_row := row(
        nextval('@schema@.jobs_id_seq'), database_id, actor_id, entity_id, queue_name, identifier,
        coalesce(payload, '{}'), coalesce(priority, 0), coalesce(run_at, now()), 0, coalesce(max_attempts, 25),
        job_key, null, null, null, now(), now(),
        null, null, null, null, null, -- lease_expires_at to fenced_attempt
        substring(
            current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        ),
        case
            when octet_length(current_setting('jobfn.tracestate', true)) <= 512
            then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
        end,
        false, false, organization_id, entity_type,
        null, null -- snoozes, snoozing_since
    )::@schema@.job_row;
    v_job @schema@.job_row;
begin
    if length(identifier) not between 1 and 126
        or length(queue_name) not between 1 and 126
        or length(job_key) not between 1 and 512
        or max_attempts < 1
    then
        perform @schema@.check_job(identifier, queue_name, job_key, max_attempts);
    end if;
    if job_key is null then
        insert into @schema@.jobs values (v_new.*);
        return v_new;
    end if;
    loop
        insert into @schema@.jobs as j values (v_new.*)
        on conflict (key) where key is not null do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = excluded.entity_id,
            organization_id = excluded.organization_id,
            entity_type = excluded.entity_type,
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            snoozes = null,
            snoozing_since = null,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            updated_at = now()
        where j.locked_at is null
        returning (@schema@.to_job_row(j)).* into v_job;
        if found then
            return v_job;
        end if;
        update @schema@.jobs j
        set key = null,
            max_attempts = greatest(j.attempts, 1),
            snoozing_since = '-infinity',
            updated_at = now()
        where j.key = job_key and j.locked_at is not null;
    end loop;
end
$$;

create function @schema@.add_job(
    db_id uuid,
    identifier text,
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return @schema@.insert_job(
        db_id, @schema@.jwt_claim('jwt.claims.user_id'), null,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority
    );
end
$$;

create function @schema@.add_job(
    identifier text,
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0,
    entity_id uuid default null,
    organization_id uuid default null,
    entity_type text default null
) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return @schema@.insert_job(
        @schema@.jwt_claim('jwt.claims.database_id'), @schema@.jwt_claim('jwt.claims.user_id'), entity_id,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, organization_id, entity_type
    );
end
$$;

create function @schema@.add_job(
    identifier text,
    payload text,
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if @schema@.is_uuid(identifier) then
        -- add_job('5b720132-...', 'x', '{"id": 1}', 'key'): each argument is one place further on
        return @schema@.add_job(
            identifier::uuid, payload, job_key::json, queue_name, null, run_at, max_attempts, priority
        );
    end if;
    return @schema@.add_job(identifier, payload::json, job_key, queue_name, run_at, max_attempts, priority);
end
$$;

create function @schema@.run_scheduled_job(id bigint, job_expiry interval default '1 hours') returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule @schema@.scheduled_jobs;
    v_job @schema@.job_row;
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

create function @schema@.get_job(
    worker_id text,
    task_identifiers text[] default null,
    job_expiry interval default '4 hours'
) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.job_row;
begin
    select * into v_job from @schema@.claim_jobs(worker_id, task_identifiers, job_expiry, 1);
    return v_job;
end
$$;

create function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}'
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_claims constant bigint := hashtextextended(row(task_identifiers, exclude_tasks)::text, 0);
    v_entries_read constant bigint := @schema@.claim_entries_read();
    v_known @schema@.claim_positions;
    v_start @schema@.claim_positions;
    v_rows tid[]; -- rows keep their place while they are locked
    v_is_waiting boolean;
    v_queues text[];
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    select p.* into v_known from @schema@.claim_positions p where p.claims = v_claims order by p.id desc limit 1;
    if v_known.valid_until > clock_timestamp() then
        v_start := v_known;
    else
        v_start := row(null, v_claims, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null);
    end if;
    v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_start);
    v_is_waiting := cardinality(v_rows) > 0;
    v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_start);
    if cardinality(v_queues) > 0 then
        v_rows := v_rows
            || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
    end if;
    if cardinality(v_rows) > max_jobs then
        v_rows := array(
            select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
            order by j.priority, j.run_at, j.id
            limit max_jobs
        );
    end if;
    if v_known.id is not null or @schema@.claim_entries_read() - v_entries_read > 10000 then
        perform @schema@.record_claim_position(
            v_start, v_known, v_rows, v_is_waiting, @schema@.claim_entries_read() - v_entries_read - 5 * max_jobs
        );
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    return query
    with claimed as (
        update @schema@.jobs j
        set attempts = j.attempts + 1,
            locked_by = claim_jobs.worker_id,
            locked_at = now(),
            lease_expires_at = now() + lease,
            progress = null,
            progress_message = null,
            updated_at = now()
        where j.ctid = any (v_rows)
        returning (@schema@.to_job_row(j)).*
    ),
    queues as (
        insert into @schema@.queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
        select claimed.queue_name, claimed.id, claimed.locked_by, claimed.locked_at, claimed.lease_expires_at
        from claimed
        where claimed.queue_name is not null
        on conflict (queue_name) do update
        set job_id = excluded.job_id,
            locked_by = excluded.locked_by,
            locked_at = excluded.locked_at,
            lease_expires_at = excluded.lease_expires_at
    )
    select claimed.* from claimed order by claimed.priority, claimed.run_at, claimed.id;
end
$$;

create function @schema@.claim_jobs_of_queues(
    worker_id text,
    queue_names text[],
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}'
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_beginning constant @schema@.claim_positions := row(
        null, 0, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null
    );
    v_rows tid[] := '{}'; -- as in claim_jobs
    v_queues text[];
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if '' = any (queue_names) then
        v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_beginning);
    end if;
    v_queues := array(
        select urgent.name
        from (
            select wanted.name
            from (select distinct given.name from unnest(queue_names) as given (name)) wanted
            cross join lateral (
                select j.priority, j.run_at, j.id
                from @schema@.jobs j
                where j.queue_name = wanted.name
                    and not j.exhausted
                    and j.run_at <= now()
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0 -- keeps the order, as in ready_queues
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, v_expired_before) and @schema@.try_lock_queue(urgent.name)
        limit max_jobs
    );
    if cardinality(v_queues) > 0 then
        v_rows := v_rows
            || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_beginning);
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    if cardinality(v_rows) > max_jobs then
        v_rows := array(
            select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
            order by j.priority, j.run_at, j.id
            limit max_jobs
        );
    end if;
    return query
    with claimed as (
        update @schema@.jobs j
        set attempts = j.attempts + 1,
            locked_by = claim_jobs_of_queues.worker_id,
            locked_at = now(),
            lease_expires_at = now() + lease,
            progress = null,
            progress_message = null,
            updated_at = now()
        where j.ctid = any (v_rows)
        returning (@schema@.to_job_row(j)).*
    ),
    queues as (
        insert into @schema@.queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
        select claimed.queue_name, claimed.id, claimed.locked_by, claimed.locked_at, claimed.lease_expires_at
        from claimed
        where claimed.queue_name is not null
        on conflict (queue_name) do update
        set job_id = excluded.job_id,
            locked_by = excluded.locked_by,
            locked_at = excluded.locked_at,
            lease_expires_at = excluded.lease_expires_at
    )
    select claimed.* from claimed order by claimed.priority, claimed.run_at, claimed.id;
end
$$;

create function @schema@.settle_mixed_jobs(
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
                    when 'released' then greatest(j.attempts - 1, 0)
                    else j.attempts
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
    if cardinality(v_runs) > 0 then
        insert into @schema@.job_runs select run.* from unnest(v_runs) run;
    end if;
    if v_notify then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
end
$$;

create function @schema@.settle_jobs(
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
    set enable_bitmapscan = off
    set jit = off
as $$
declare
    v_history_enabled boolean := @schema@.history_enabled();
    v_workers text[];
    v_ids bigint[];
    v_attempts int[];
    v_ids_are_unique boolean;
begin
    select array_agg(settlement.worker_id order by settlement.job_id),
        array_agg(settlement.job_id order by settlement.job_id),
        array_agg(settlement.attempt order by settlement.job_id),
        count(distinct settlement.job_id) = count(*)
    into v_workers, v_ids, v_attempts, v_ids_are_unique
    from unnest(worker_ids, job_ids, job_attempts) as settlement (worker_id, job_id, attempt);
    if not v_ids_are_unique or outcomes <> array_fill('completed'::text, array[cardinality(outcomes)]) then
        return query
        select * from @schema@.settle_mixed_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays);
        return;
    end if;
    -- All completed, as in most batches: one statement. Rows are found by the primary key, and their worker and attempt
    -- by binary search in the sorted arrays. A join would be simpler, but statistics can spoil its plan: after a vacuum
    -- of an empty table, it read all jobs and compared each with each settlement.
    return query
    with completed as (
        delete from @schema@.jobs j
        where j.id = any (v_ids)
            and j.locked_by = v_workers[width_bucket(j.id, v_ids)]
            and j.attempts = coalesce(v_attempts[width_bucket(j.id, v_ids)], j.attempts)
        returning (@schema@.to_job_row(j)).*
    ),
    recorded as (
        insert into @schema@.job_runs
        select completed.id, completed.attempts, completed.task_identifier, completed.queue_name,
            completed.database_id, completed.locked_by, completed.created_at, completed.run_at, completed.locked_at,
            now(), 'completed', null
        from completed
        where v_history_enabled
    )
    select completed.* from completed;
end
$$;

create function @schema@.settle_jobs_with_results(
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

create function @schema@.snooze_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    reasons text[],
    delays interval[],
    max_ages interval[]
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_snooze record;
    v_ended record;
    v_job @schema@.job_row;
    v_history_enabled boolean := @schema@.history_enabled();
begin
    for v_snooze in
        select snooze.*
        from unnest(worker_ids, job_ids, job_attempts, reasons, delays, max_ages)
            as snooze (worker_id, job_id, attempt, reason, delay, max_age)
        order by snooze.job_id -- so that two batches with jobs in common do not deadlock
    loop
        with before as materialized (
            select j.id, j.attempts, j.run_at, j.locked_at,
                coalesce(j.snoozing_since, now()) + v_snooze.max_age > now() as is_allowed,
                case
                    when isfinite(j.snoozing_since) and j.snoozing_since + v_snooze.max_age <= now() then format(
                        '%s (snoozed %s times since %s, longer than its maximum age of %s seconds)',
                        v_snooze.reason, j.snoozes,
                        to_char(j.snoozing_since at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
                        extract(epoch from v_snooze.max_age)::bigint
                    )
                    else v_snooze.reason
                end as error
            from @schema@.jobs j
            where j.id = v_snooze.job_id
                and j.locked_by = v_snooze.worker_id
                and (v_snooze.attempt is null or j.attempts = v_snooze.attempt)
            for update
        )
        update @schema@.jobs j
        set last_error = before.error,
            attempts = case when before.is_allowed then j.attempts else j.max_attempts end,
            max_attempts = case
                when before.is_allowed then least(j.max_attempts::bigint + 1, 2147483647) else j.max_attempts
            end,
            snoozes = case when before.is_allowed then coalesce(j.snoozes, 0) + 1 else j.snoozes end,
            snoozing_since = case
                when before.is_allowed then coalesce(j.snoozing_since, now()) else j.snoozing_since
            end,
            run_at = case when before.is_allowed then now() + v_snooze.delay else j.run_at end,
            locked_at = null,
            locked_by = null,
            lease_expires_at = null,
            updated_at = now()
        from before
        where j.id = before.id
        returning @schema@.to_job_row(j) as job, before.attempts as attempt, before.run_at as due_at,
            before.locked_at as started_at,
            before.is_allowed, before.error
            into v_ended;
        continue when not found;
        v_job := v_ended.job;
        if v_history_enabled then
            insert into @schema@.job_runs values (
                v_job.id, v_ended.attempt, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                v_snooze.worker_id, v_job.created_at, v_ended.due_at, v_ended.started_at, now(),
                case when v_ended.is_allowed then 'snoozed' else 'permanently_failed' end, v_ended.error
            );
        end if;
        return next v_job;
    end loop;
    if found then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
end
$$;

create function @schema@.complete_job(worker_id text, job_id bigint) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.job_row;
begin
    select * into v_job
    from @schema@.settle_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['completed'], array[null]::text[],
        array[null]::interval[]
    );
    return v_job;
end
$$;

create function @schema@.fail_job(worker_id text, job_id bigint, error_message text) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.job_row;
begin
    select * into v_job
    from @schema@.settle_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['failed'],
        array[coalesce(error_message, 'UNKNOWN_ERROR')], array[null]::interval[]
    );
    return v_job;
end
$$;

create function @schema@.complete_jobs(job_ids bigint[]) returns setof @schema@.job_row
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with idle as materialized (select id from @schema@.lock_idle_jobs(job_ids) as found (id)),
    removed as (
        delete from @schema@.jobs j using idle where j.id = idle.id
        returning (@schema@.to_job_row(j)).*
    ),
    recorded as (
        insert into @schema@.job_runs
        select removed.id, removed.attempts, removed.task_identifier, removed.queue_name, removed.database_id,
            removed.locked_by, removed.created_at, removed.run_at, removed.locked_at, now(), 'removed',
            removed.last_error
        from removed
        where @schema@.history_enabled()
    )
    select * from removed
$$;

create function @schema@.permanently_fail_jobs(
    job_ids bigint[],
    error_message text default null
) returns setof @schema@.job_row
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with idle as materialized (
        select j.*, coalesce(error_message, 'Failed by hand, without a reason given') as reason
        from @schema@.lock_idle_jobs(job_ids) as found (id)
        join @schema@.jobs j on j.id = found.id
    ),
    recorded as (
        insert into @schema@.job_runs
        select idle.id, idle.attempts, idle.task_identifier, idle.queue_name, idle.database_id, idle.locked_by,
            idle.created_at, idle.run_at, idle.locked_at, now(), 'cancelled', idle.reason
        from idle
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set last_error = idle.reason,
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from idle
    where j.id = idle.id
    returning (@schema@.to_job_row(j)).*
$$;

create function @schema@.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz default null,
    priority int default NULL::int,
    attempts int default NULL::int,
    max_attempts int default NULL::int
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
    set run_at = coalesce(reschedule_jobs.run_at, j.run_at),
        priority = coalesce(reschedule_jobs.priority, j.priority),
        attempts = coalesce(reschedule_jobs.attempts, j.attempts),
        max_attempts = coalesce(
            reschedule_jobs.max_attempts,
            case
                when reschedule_jobs.attempts is null then j.max_attempts
                else greatest(j.max_attempts - coalesce(j.snoozes, 0), 1)
            end
        ),
        -- With new attempts, the job begins anew.
        snoozes = case when reschedule_jobs.attempts is null then j.snoozes end,
        snoozing_since = case when reschedule_jobs.attempts is null then j.snoozing_since end,
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

create function @schema@.remove_job(job_key text) returns @schema@.job_row
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
    cross join lateral @schema@.complete_jobs(array[j.id]) removed
    where j.key = job_key;
    if found then
        return v_job;
    end if;
    -- A worker runs it. As when another job takes the key: this one is not retried.
    update @schema@.jobs j
    set key = null,
        max_attempts = greatest(j.attempts, 1),
        snoozing_since = '-infinity',
        updated_at = now()
    where j.key = job_key
    returning (@schema@.to_job_row(j)).* into v_job;
    return v_job;
end
$$;

revoke execute on all functions in schema @schema@ from public;

do $$
begin
    execute current_setting('jobfn.restore');
end
$$;
