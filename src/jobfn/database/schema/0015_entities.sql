-- The platform's newest form of add_job and add_scheduled_job: with the entity of a job, its organization and its type.
-- The columns of snoozes are added here as well, because insert_job inserts whole rows.

alter table @schema@.jobs
    add organization_id uuid,
    add entity_type text,
    add snoozes int,
    add snoozing_since timestamptz;

comment on column @schema@.jobs.organization_id is 'The organization that entity_id belongs to, if any.';
comment on column @schema@.jobs.entity_type is 'What entity_id identifies, for example org or team.';
comment on column @schema@.jobs.snoozes is
    'The number of snoozes. Each is included in attempts and in max_attempts, so that no two deliveries have the same '
    'attempt number. Null: 0.';
comment on column @schema@.jobs.snoozing_since is
    'The time of the first snooze. -infinity: another job has taken the key, so this one does not run again.';

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
        false, false, organization_id, entity_type,
        null, null -- snoozes, snoozing_since
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
        returning j.* into v_job;
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

comment on function
    @schema@.insert_job(uuid, uuid, uuid, text, json, text, text, timestamptz, int, int, uuid, text) is
    'Insert one job, or replace the unlocked job with the same key. All forms of add_job call it.';

drop function @schema@.insert_job(uuid, uuid, uuid, text, json, text, text, timestamptz, int, int);

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
    set key = null, max_attempts = greatest(j.attempts, 1), snoozing_since = '-infinity', updated_at = now()
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
            organization_id = null,
            entity_type = null,
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
) returns @schema@.jobs
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

comment on function @schema@.add_job(text, json, text, text, timestamptz, int, int, uuid, uuid, text) is
    'Enqueue a job. Tenant and actor are read from jwt.claims.database_id and jwt.claims.user_id.';

create function @schema@.insert_scheduled_job(
    database_id uuid,
    identifier text,
    payload json,
    schedule_info json,
    job_key text,
    queue_name text,
    max_attempts int,
    priority int,
    entity_id uuid
) returns @schema@.scheduled_jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule @schema@.scheduled_jobs;
begin
    v_schedule := @schema@.insert_scheduled_job(
        database_id, identifier, payload, schedule_info, job_key, queue_name, max_attempts, priority
    );
    if v_schedule.entity_id is distinct from insert_scheduled_job.entity_id then
        update @schema@.scheduled_jobs s
        set entity_id = insert_scheduled_job.entity_id
        where s.id = v_schedule.id
        returning s.* into v_schedule;
    end if;
    return v_schedule;
end
$$;

comment on function @schema@.insert_scheduled_job(uuid, text, json, json, text, text, int, int, uuid) is
    'As insert_scheduled_job, with the entity of the jobs.';

create function @schema@.add_scheduled_job(
    identifier text,
    payload json,
    schedule_info json,
    job_key text default null,
    queue_name text default null,
    max_attempts int default 25,
    priority int default 0,
    entity_id uuid default null
) returns @schema@.scheduled_jobs
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select * from @schema@.insert_scheduled_job(
        @schema@.jwt_claim('jwt.claims.database_id'),
        identifier, payload, schedule_info, job_key, queue_name, max_attempts, priority, entity_id
    )
$$;

comment on function @schema@.add_scheduled_job(text, json, json, text, text, int, int, uuid) is
    'Schedule a job by schedule_info: {"rule", "start", "end", "tz"}, or parts such as {"hour": 9, "minute": 0}.';

-- The roles that may call the old functions may call the new ones.
do $$
declare
    v_function record;
    v_role text;
begin
    for v_function in
        select old.proacl, old.proowner, new.oid::regprocedure as replacement
        from pg_catalog.pg_proc old
        join pg_catalog.pg_proc new
            on new.pronamespace = old.pronamespace
            and new.proname = old.proname
            and new.prorettype = old.prorettype
            and new.proargtypes[1] = old.proargtypes[1]
            and new.pronargs = case old.proname when 'add_job' then 10 else 8 end
            and new.proargtypes[0] = old.proargtypes[0]
        where old.pronamespace = (
                select c.relnamespace from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)::oid
            )
            and old.proname in ('add_job', 'add_scheduled_job')
            and old.pronargs = 7
            and old.proargtypes[1] = 'json'::regtype
    loop
        for v_role in
            select quote_ident(pg_get_userbyid(granted.grantee))
            from aclexplode(v_function.proacl) as granted
            where granted.grantee not in (0, v_function.proowner)
        loop
            execute format('grant execute on function %s to %s', v_function.replacement, v_role);
        end loop;
    end loop;
end
$$;

drop function @schema@.add_job(text, json, text, text, timestamptz, int, int);
drop function @schema@.add_scheduled_job(text, json, json, text, text, int, int);

revoke execute on all functions in schema @schema@ from public;
