-- Enqueuing: add_job in every form that people write (contract, section 3), and add_jobs for many jobs at once.

create function @schema@.jwt_claim(name text) returns uuid
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return nullif(current_setting(name, true), '')::uuid;
exception when invalid_text_representation then
    return null; -- another application may use the setting: that must not fail the user's write
end
$$;

comment on function @schema@.jwt_claim(text) is
    'A session setting such as jwt.claims.database_id as a uuid; null if it is unset or not a uuid.';

create function @schema@.is_uuid(value text) returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select value ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$'
$$;

comment on function @schema@.is_uuid(text) is
    'Whether a text is a uuid. Tells the older call forms with a tenant from those with a task identifier.';

-- A key means: at most one waiting job. An unlocked job with the key is replaced. A locked one loses the key to the
-- new job, and is not retried. The loop covers a job that another session inserts, claims or deletes between the
-- statements.
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
    priority int
) returns @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_job @schema@.jobs;
begin
    loop
        insert into @schema@.jobs as j (
            database_id, actor_id, entity_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority
        ) values (
            insert_job.database_id,
            insert_job.actor_id,
            insert_job.entity_id,
            insert_job.identifier,
            coalesce(insert_job.payload, '{}'),
            insert_job.job_key,
            insert_job.queue_name,
            coalesce(insert_job.run_at, now()),
            coalesce(insert_job.max_attempts, 25),
            coalesce(insert_job.priority, 0)
        )
        on conflict (key) do update set
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
        where j.key = insert_job.job_key and j.locked_at is not null;
    end loop;
end
$$;

comment on function @schema@.insert_job(uuid, uuid, uuid, text, json, text, text, timestamptz, int, int) is
    'Insert one job, or replace the unlocked job with the same key. All forms of add_job call it.';

create function @schema@.add_job(
    identifier text,
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return @schema@.insert_job(
        @schema@.jwt_claim('jwt.claims.database_id'), @schema@.jwt_claim('jwt.claims.user_id'), null,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority
    );
end
$$;

comment on function @schema@.add_job(text, json, text, text, timestamptz, int, int) is
    'Enqueue a job. Tenant and actor are read from jwt.claims.database_id and jwt.claims.user_id.';

create function @schema@.add_job(
    db_id uuid,
    identifier text,
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.jobs
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

comment on function @schema@.add_job(uuid, text, json, text, text, timestamptz, int, int) is
    'The older form of add_job, with the tenant as an argument.';

-- add_job('x', '{"id": 1}'): both literals are untyped, and because of the form with a uuid PostgreSQL prefers text for
-- each of them. It then finds this form, for both calls. The payload has no default here, so that add_job('x') is not
-- ambiguous.
create function @schema@.add_job(
    identifier text,
    payload text,
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.jobs
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

comment on function @schema@.add_job(text, text, text, text, timestamptz, int, int) is
    'add_job called with untyped literals.';

create function @schema@.add_jobs(
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
        on conflict (key) do update set
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

comment on function @schema@.add_jobs(text, json[], text[], text[], timestamptz[], int, int, uuid) is
    'Enqueue many jobs of one task, as calls of add_job would. Returns their ids in the order of the payloads.';

revoke execute on all functions in schema @schema@ from public;
