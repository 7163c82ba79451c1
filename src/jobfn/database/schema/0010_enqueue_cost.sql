-- Cheaper enqueuing. For each statement that inserts jobs, PostgreSQL reads the check constraints, the generated columns
-- and the triggers' conditions from their text again, and opens each index: that was most of the time of add_job.

-- The functions that enqueue check their arguments instead (check_job).
alter table @schema@.jobs
    drop constraint jobs_queue_name_length,
    drop constraint jobs_task_identifier_length,
    drop constraint jobs_max_attempts_positive,
    drop constraint jobs_key_length,
    drop constraint jobs_locked_by_length,
    drop constraint jobs_progress_range;

-- Triggers set these two columns now, and only if their values change: never for a new job.
alter table @schema@.jobs
    alter exhausted drop expression,
    alter exhausted set default false,
    alter in_last_attempt drop expression,
    alter in_last_attempt set default false;

create function @schema@.tg_set_exhausted() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.exhausted := new.attempts >= new.max_attempts;
    new.in_last_attempt := new.exhausted and new.locked_at is not null;
    return new;
end
$$;

comment on function @schema@.tg_set_exhausted() is
    'Set exhausted and in_last_attempt from attempts, max_attempts and locked_at.';

create trigger _100_set_exhausted_of_inserted_job
    before insert on @schema@.jobs
    for each row when (new.attempts > 0)
    execute function @schema@.tg_set_exhausted();

create trigger _100_set_exhausted_of_updated_job
    before update of attempts, max_attempts, locked_at, exhausted, in_last_attempt on @schema@.jobs
    for each row when (
        new.exhausted <> (new.attempts >= new.max_attempts)
        or new.in_last_attempt <> (new.attempts >= new.max_attempts and new.locked_at is not null)
    )
    execute function @schema@.tg_set_exhausted();

-- A job without a key needs no entry.
create unique index jobs_key_idx on @schema@.jobs (key) where key is not null;
alter table @schema@.jobs drop constraint jobs_key_unique;
alter index @schema@.jobs_key_idx rename to jobs_key_unique;

-- One index for the list of failed jobs and for the search for an error. A job that has not failed has no entry.
create index jobs_failed_idx on @schema@.jobs (id) where exhausted or last_error is not null;
drop index @schema@.jobs_exhausted_idx, @schema@.jobs_last_error_idx;

-- Setting the search path takes longer than the rest of a small function. The functions here that do not set it are not
-- security definer, and only use what is in pg_catalog or qualified, or are called by functions that set it.

create or replace function @schema@.tg_notify() returns trigger
    language plpgsql
as $$
begin
    -- An expression, because PERFORM executes a query. pg_notify returns void, which is not null.
    if pg_catalog.pg_notify(tg_argv[0], '') is null then
        return null;
    end if;
    return null;
end
$$;

create or replace function @schema@.jwt_claim(name text) returns uuid
    language sql
    stable
return case
    -- in all forms that the type accepts: anything else must not fail the user's write
    when current_setting(name, true) ~* '^(([0-9a-f]{4}-?){7}[0-9a-f]{4}|[{]([0-9a-f]{4}-?){7}[0-9a-f]{4}[}])$'
    then current_setting(name, true)::uuid
end;

create function @schema@.check_job(identifier text, queue_name text, job_key text, max_attempts int) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem text;
begin
    v_problem := case
        when length(identifier) not between 1 and 126
            then format('the task identifier must have 1 to 126 characters, not %s', length(identifier))
        when length(queue_name) not between 1 and 126
            then format('the queue name must have 1 to 126 characters, not %s', length(queue_name))
        when length(job_key) not between 1 and 512
            then format('the job key must have 1 to 512 characters, not %s', length(job_key))
        when max_attempts < 1
            then format('max_attempts must be at least 1, not %s', max_attempts)
    end;
    if v_problem is not null then
        raise check_violation using message = v_problem;
    end if;
end
$$;

comment on function @schema@.check_job(text, text, text, int) is
    'Raise an error if a job may not have one of these values. Null passes.';

create or replace function @schema@.insert_job(
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    identifier text,
    payload json,
    job_key text,
    queue_name text,
    run_at timestamptz,
    max_attempts int,
    priority int
) returns @schema@.jobs
    language plpgsql
as $$
#variable_conflict use_column
declare
    -- All columns in order. Inserting a whole row, and returning it without RETURNING, saves a fifth of the time.
    v_new constant @schema@.jobs := row(
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
        false, false
    )::@schema@.jobs;
    v_job @schema@.jobs;
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
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            updated_at = now()
        where j.locked_at is null
        returning j.* into v_job;
        if found then
            return v_job;
        end if;
        update @schema@.jobs j
        set key = null, max_attempts = greatest(j.attempts, 1), updated_at = now()
        where j.key = job_key and j.locked_at is not null;
    end loop;
end
$$;

create or replace function @schema@.add_jobs(
    identifier text,
    payloads json[],
    job_keys text[] default null, -- as long as payloads, or null; the same holds for the next two
    queue_names text[] default null,
    run_ats timestamptz[] default null,
    max_attempts int default 25,
    priority int default 0,
    db_id uuid default null -- null: the tenant of the session
) returns bigint[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_database_id uuid := coalesce(db_id, @schema@.jwt_claim('jwt.claims.database_id'));
    v_actor_id uuid := @schema@.jwt_claim('jwt.claims.user_id');
    v_max_attempts int := coalesce(add_jobs.max_attempts, 25);
    v_priority int := coalesce(add_jobs.priority, 0);
    -- Evaluated once here: the column defaults would be evaluated for each job.
    v_traceparent text := substring(
        current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
    );
    v_tracestate text := case
        when octet_length(current_setting('jobfn.tracestate', true)) <= 512
        then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
    end;
    v_ids bigint[];
    v_ids_by_key jsonb;
    v_entry record;
begin
    if coalesce(cardinality(payloads), 0) = 0 then
        return '{}';
    end if;
    if exists (
        select
        from (values (cardinality(job_keys)), (cardinality(queue_names)), (cardinality(run_ats))) as given (length)
        where length <> cardinality(payloads)
    ) then
        raise exception 'add_jobs: job_keys, queue_names and run_ats have one element for each payload, or are null'
            using errcode = 'array_subscript_error';
    end if;
    perform @schema@.check_job(identifier, null, null, max_attempts);
    perform @schema@.check_job(null, given.queue_name, given.job_key, null)
    from unnest(queue_names, job_keys) as given (queue_name, job_key)
    where length(given.queue_name) not between 1 and 126 or length(given.job_key) not between 1 and 512;

    if coalesce(cardinality(array_remove(job_keys, null)), 0) = 0 then
        with added as (
            insert into @schema@.jobs (
                database_id, actor_id, task_identifier, payload, queue_name, run_at, max_attempts, priority,
                traceparent, tracestate
            )
            select
                v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.queue_name,
                coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate
            from unnest(payloads, queue_names, run_ats) with ordinality
                as entry (payload, queue_name, run_at, position)
            order by entry.position -- ids are assigned in this order
            returning id
        )
        select array_agg(added.id order by added.id) into v_ids from added;
        return v_ids;
    end if;

    -- As insert_job: a locked job loses its key to the new one.
    update @schema@.jobs j
    set key = null, max_attempts = greatest(j.attempts, 1), updated_at = now()
    where j.key = any (job_keys) and j.locked_at is not null;

    -- A key that is given twice makes one job, as if the second call had replaced the first: inserted at the first
    -- position, with the values of the last.
    with entries as (
        select
            entry.*,
            min(entry.position) over (partition by entry.key) as first_position,
            max(entry.position) over (partition by entry.key) as last_position
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, position)
    ),
    added as (
        insert into @schema@.jobs as j (
            database_id, actor_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority,
            traceparent, tracestate
        )
        select
            v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.key,
            entry.queue_name, coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate
        from entries entry
        where entry.key is null or entry.position = entry.last_position
        order by case when entry.key is null then entry.position else entry.first_position end
        on conflict (key) where key is not null do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = null,
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            updated_at = now()
        where j.locked_at is null
        returning j.id, j.key
    )
    select
        array_agg(added.id order by added.id) filter (where added.key is null),
        coalesce(jsonb_object_agg(added.key, added.id) filter (where added.key is not null), '{}')
    into v_ids, v_ids_by_key
    from added;

    -- A worker may have claimed a job between the two statements above. Its key is missing in v_ids_by_key.
    for v_entry in
        select distinct on (entry.key) entry.*
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, position)
        where entry.key is not null and not v_ids_by_key ? entry.key
        order by entry.key, entry.position desc
    loop
        v_ids_by_key := v_ids_by_key || jsonb_build_object(v_entry.key, (@schema@.insert_job(
            v_database_id, v_actor_id, null, add_jobs.identifier, v_entry.payload, v_entry.key, v_entry.queue_name,
            v_entry.run_at, v_max_attempts, v_priority
        )).id);
    end loop;

    return (
        select array_agg(
            case when entry.key is null then v_ids[entry.rank] else (v_ids_by_key ->> entry.key)::bigint end
            order by entry.position
        )
        from (
            select given.*, count(*) filter (where given.key is null) over (order by given.position) as rank
            from unnest(job_keys) with ordinality as given (key, position)
        ) entry
    );
end
$$;

create or replace function @schema@.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz default null,
    priority int default null,
    attempts int default null,
    max_attempts int default null
) returns setof @schema@.jobs
    language plpgsql
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
        max_attempts = coalesce(reschedule_jobs.max_attempts, j.max_attempts),
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from idle
    where j.id = idle.id
    returning j.*;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

revoke execute on all functions in schema @schema@ from public;
