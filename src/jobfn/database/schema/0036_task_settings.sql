-- Settings of tasks: defaults that code declares, and overrides of operators.

create table @schema@.task_settings (
    task_identifier text primary key,
    declared_in text,
    queue_name text,
    priority int,
    max_attempts int,
    unique_for interval,
    unique_until text,
    unique_by text[],
    on_conflict text,
    override_queue_name text,
    override_priority int,
    override_max_attempts int,
    updated_at timestamptz not null default now(),
    constraint task_settings_task_identifier_length check (length(task_identifier) between 1 and 126),
    constraint task_settings_queue_name_length check (
        length(queue_name) between 1 and 126 and length(override_queue_name) between 1 and 126
    ),
    constraint task_settings_max_attempts_positive check (max_attempts > 0 and override_max_attempts > 0),
    constraint task_settings_unique_valid check (
        (unique_for is null or unique_until is null)
        and unique_until in ('started', 'done')
        and unique_for between interval '1 millisecond' and interval '366 days'
        and cardinality(unique_by) <= 32
        and on_conflict in ('keep', 'replace', 'error')
    )
);

comment on table @schema@.task_settings is
    'Defaults and overrides for new jobs of a task. jobfn sync writes the defaults, an operator the overrides.';
comment on column @schema@.task_settings.declared_in is
    'Where the code declares the task. Null: no code that was synced does.';

-- Reading an empty table would slow add_job by a tenth. PostgreSQL inlines this function, so that calling it costs
-- nothing. It must be stable: an immutable one is replaced by its result, and plans would not depend on the function.
create function @schema@.has_task_settings() returns boolean
    language sql
    stable
as 'select false';

comment on function @schema@.has_task_settings() is
    'Whether task_settings has rows. tg_replace_has_task_settings redefines it.';

create function @schema@.tg_replace_has_task_settings() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_has_rows boolean;
begin
    perform pg_advisory_xact_lock(pg_typeof(null::@schema@.task_settings)::oid::bigint);
    v_has_rows := exists (select from @schema@.task_settings);
    if v_has_rows is distinct from @schema@.has_task_settings() then
        execute format(
            'create or replace function %s() returns boolean language sql stable as %L',
            '@schema@.has_task_settings', 'select ' || v_has_rows
        );
    end if;
    return null;
end
$$;

comment on function @schema@.tg_replace_has_task_settings() is
    'Let has_task_settings return whether the table has rows.';

create trigger _500_replace_has_task_settings
    after insert or delete or truncate on @schema@.task_settings
    for each statement execute function @schema@.tg_replace_has_task_settings();

create function @schema@.insert_unique_by_settings(settings @schema@.task_settings, new @schema@.job_row)
    returns @schema@.job_row
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_claim constant text := current_setting('jwt.claims.database_id', true);
    v_id bigint;
    v_job @schema@.job_row;
begin
    -- The tenant may be an argument: the key is made from the setting.
    perform set_config('jwt.claims.database_id', coalesce(new.database_id::text, ''), true);
    select added.job_id into v_id
    from @schema@.insert_unique_job(
        @schema@.unique_job_key(new.task_identifier, new.payload, settings.unique_by), settings.unique_for,
        settings.unique_until, coalesce(settings.on_conflict, 'keep'), new.task_identifier, new.payload, null,
        new.queue_name, new.run_at, new.max_attempts, new.priority, new.entity_id, new.organization_id,
        new.entity_type, null, false, settings.unique_by
    ) as added;
    perform set_config('jwt.claims.database_id', coalesce(v_claim, ''), true);
    select (@schema@.to_job_row(j)).* into v_job from @schema@.jobs j where j.id = v_id;
    if found then
        return v_job;
    end if;
    new.id := v_id; -- the existing job has ended
    return new;
end
$$;

comment on function @schema@.insert_unique_by_settings(@schema@.task_settings, @schema@.job_row) is
    'Insert a job of a task whose jobs are unique, or return the existing one. Part of insert_job.';

drop function @schema@.insert_job(uuid, uuid, uuid, text, json, text, text, timestamptz, int, int, uuid, text);

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
    entity_type text default null,
    apply_unique boolean default false
) returns @schema@.job_row
    language plpgsql
as $$
#variable_conflict use_column
declare
    -- Inserting a whole row, and returning it without RETURNING, saves a fifth of the time.
    v_new @schema@.job_row := row(
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
    v_payload_bytes int; -- null unless the payload is large
    v_job @schema@.job_row;
    v_settings @schema@.task_settings;
begin
    if @schema@.has_task_settings() then
        select * into v_settings from @schema@.task_settings s where s.task_identifier = insert_job.identifier;
        if found then
            v_new.queue_name := coalesce(v_settings.override_queue_name, v_new.queue_name, v_settings.queue_name);
            v_new.max_attempts := coalesce(
                v_settings.override_max_attempts, nullif(v_new.max_attempts, 25), v_settings.max_attempts, 25
            );
            v_new.priority := coalesce(
                v_settings.override_priority, nullif(v_new.priority, 0), v_settings.priority, 0
            );
            if apply_unique
                and job_key is null
                and (v_settings.unique_for is not null or v_settings.unique_until is not null)
            then
                return @schema@.insert_unique_by_settings(v_settings, v_new);
            end if;
        end if;
    end if;
    if length(identifier) not between 3 and 126 -- shorter ones may be valid too
        or length(queue_name) not between 1 and 126
        or length(job_key) not between 1 and 512
        or max_attempts < 1
        or octet_length(payload::text) > 16384
    then
        perform @schema@.check_job(identifier, queue_name, job_key, max_attempts);
        v_payload_bytes := nullif(greatest(octet_length(payload::text), 16384), 16384);
        perform @schema@.check_payload_size(identifier, v_payload_bytes);
    end if;
    if job_key is null then
        insert into @schema@.jobs values (v_new.*);
        if v_payload_bytes is not null then
            update @schema@.jobs j set payload_bytes = v_payload_bytes where j.id = v_new.id;
        end if;
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
            payload_bytes = null,
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
            expires_at = excluded.expires_at,
            updated_at = now()
        where j.locked_at is null and (j.has_steps is null or j.attempts = 0)
        returning (@schema@.to_job_row(j)).* into v_job;
        if found then
            if v_payload_bytes is not null then
                update @schema@.jobs j set payload_bytes = v_payload_bytes where j.id = v_job.id;
            end if;
            return v_job;
        end if;
        update @schema@.jobs j
        set key = null,
            max_attempts = greatest(j.attempts, 1) + case when j.locked_at is null and not j.exhausted then 1 else 0 end,
            snoozing_since = '-infinity',
            updated_at = now()
        where j.key = job_key and (j.locked_at is not null or j.has_steps and j.attempts > 0);
    end loop;
end
$$;

comment on function @schema@.insert_job(
    uuid, uuid, uuid, text, json, text, text, timestamptz, int, int, uuid, text, boolean
) is
    'Insert one job, or replace the unlocked job with the same key. All forms of add_job call it. apply_unique: a job '
    'is unique if its task is unique by its settings.';

create or replace function @schema@.add_job(
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
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, apply_unique => true
    );
end
$$;

create or replace function @schema@.add_job(
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
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, organization_id, entity_type,
        apply_unique => true
    );
end
$$;

create or replace function @schema@.add_jobs(
    identifier text,
    payloads json[],
    job_keys text[] default null,
    queue_names text[] default null,
    run_ats timestamptz[] default null,
    max_attempts int default 25,
    priority int default 0,
    db_id uuid default null
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
    v_payload_bytes int; -- the maximum
    v_ids_by_key jsonb;
    v_entry record;
    v_settings @schema@.task_settings;
    v_claim text;
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
    if @schema@.has_task_settings() then
        select * into v_settings from @schema@.task_settings s where s.task_identifier = add_jobs.identifier;
        if found then
            v_max_attempts := coalesce(
                v_settings.override_max_attempts, nullif(v_max_attempts, 25), v_settings.max_attempts, 25
            );
            v_priority := coalesce(v_settings.override_priority, nullif(v_priority, 0), v_settings.priority, 0);
            if coalesce(v_settings.override_queue_name, v_settings.queue_name) is not null then
                queue_names := array(
                    select coalesce(v_settings.override_queue_name, given.queue_name, v_settings.queue_name)
                    from generate_subscripts(payloads, 1) as n (position)
                    left join unnest(queue_names) with ordinality as given (queue_name, position) using (position)
                    order by position
                );
            end if;
            if coalesce(cardinality(array_remove(job_keys, null)), 0) = 0
                and (v_settings.unique_for is not null or v_settings.unique_until is not null)
            then
                v_claim := current_setting('jwt.claims.database_id', true);
                perform set_config('jwt.claims.database_id', coalesce(v_database_id::text, ''), true);
                v_ids := array(
                    select added.job_id
                    from @schema@.add_unique_jobs(
                        add_jobs.identifier, payloads, v_settings.unique_for, v_settings.unique_until,
                        v_settings.unique_by, coalesce(v_settings.on_conflict, 'keep'), null, queue_names, run_ats,
                        v_max_attempts, v_priority
                    ) with ordinality as added (job_id, is_duplicate, position)
                    order by added.position
                );
                perform set_config('jwt.claims.database_id', coalesce(v_claim, ''), true);
                return v_ids;
            end if;
        end if;
    end if;
    perform @schema@.check_job(identifier, null, null, max_attempts);
    perform @schema@.check_job(null, given.queue_name, given.job_key, null)
    from unnest(queue_names, job_keys) as given (queue_name, job_key)
    where length(given.queue_name) not between 1 and 126 or length(given.job_key) not between 1 and 512;

    if coalesce(cardinality(array_remove(job_keys, null)), 0) = 0 then
        with added as (
            insert into @schema@.jobs (
                database_id, actor_id, task_identifier, payload, queue_name, run_at, max_attempts, priority,
                traceparent, tracestate, payload_bytes
            )
            select
                v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.queue_name,
                coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate,
                nullif(greatest(octet_length(entry.payload::text), 16384), 16384)
            from unnest(payloads, queue_names, run_ats) with ordinality
                as entry (payload, queue_name, run_at, position)
            order by entry.position -- ids are assigned in this order
            returning id, payload_bytes
        )
        select array_agg(added.id order by added.id), max(added.payload_bytes) into v_ids, v_payload_bytes from added;
        perform @schema@.check_payload_size(add_jobs.identifier, v_payload_bytes);
        return v_ids;
    end if;

    -- As insert_job: a locked job loses its key to the new one.
    update @schema@.jobs j
    set key = null,
        max_attempts = greatest(j.attempts, 1) + case
            when j.locked_at is null and not j.exhausted then 1 else 0
        end,
        snoozing_since = '-infinity',
        updated_at = now()
    where j.key = any (job_keys) and (j.locked_at is not null or j.has_steps and j.attempts > 0);

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
            traceparent, tracestate, payload_bytes
        )
        select
            v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.key,
            entry.queue_name, coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate,
            nullif(greatest(octet_length(entry.payload::text), 16384), 16384)
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
            payload_bytes = excluded.payload_bytes,
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
            expires_at = excluded.expires_at,
            updated_at = now()
        where j.locked_at is null and (j.has_steps is null or j.attempts = 0)
        returning j.id, j.key, j.payload_bytes
    )
    select
        array_agg(added.id order by added.id) filter (where added.key is null),
        coalesce(jsonb_object_agg(added.key, added.id) filter (where added.key is not null), '{}'),
        max(added.payload_bytes)
    into v_ids, v_ids_by_key, v_payload_bytes
    from added;
    perform @schema@.check_payload_size(add_jobs.identifier, v_payload_bytes);

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

create function @schema@.replace_unique_job(
    job_id bigint,
    payload json,
    queue_name text,
    run_at timestamptz,
    max_attempts int,
    priority int,
    entity_id uuid,
    organization_id uuid,
    entity_type text
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_settings @schema@.task_settings;
    v_payload_bytes constant int := nullif(greatest(octet_length(payload::text), 16384), 16384);
begin
    perform @schema@.check_job(null, queue_name, null, max_attempts);
    select s.* into v_settings
    from @schema@.jobs j
    join @schema@.task_settings s on s.task_identifier = j.task_identifier
    where j.id = replace_unique_job.job_id;
    update @schema@.jobs j
    set actor_id = @schema@.jwt_claim('jwt.claims.user_id'),
        entity_id = replace_unique_job.entity_id,
        organization_id = replace_unique_job.organization_id,
        entity_type = replace_unique_job.entity_type,
        task_identifier = j.task_identifier, -- tg_replace_dependent: it no longer waits for other jobs
        payload = coalesce(replace_unique_job.payload, '{}'),
        payload_bytes = v_payload_bytes,
        queue_name = coalesce(
            v_settings.override_queue_name, replace_unique_job.queue_name, v_settings.queue_name
        ),
        run_at = coalesce(replace_unique_job.run_at, now()),
        max_attempts = coalesce(
            v_settings.override_max_attempts, nullif(replace_unique_job.max_attempts, 25), v_settings.max_attempts, 25
        ),
        priority = coalesce(
            v_settings.override_priority, nullif(replace_unique_job.priority, 0), v_settings.priority, 0
        ),
        attempts = 0,
        snoozes = null,
        snoozing_since = null,
        last_error = null,
        expires_at = nullif(current_setting('jobfn.expires_at', true), '')::timestamptz,
        updated_at = now()
    where j.id = replace_unique_job.job_id
        and j.locked_at is null
        and not j.exhausted
        and (j.has_steps is null or j.attempts = 0);
    if found then
        perform @schema@.check_payload_size(j.task_identifier, v_payload_bytes)
        from @schema@.jobs j where j.id = replace_unique_job.job_id;
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.replace_unique_job(bigint, json, text, timestamptz, int, int, uuid, uuid, text) is
    'Replace the contents of a waiting job. A running or ended one stays as it is.';

select @schema@.grant_like('job_dependencies', '{task_settings}');
select @schema@.grant_like('cancel_jobs', '{task_settings}', 'insert, update, delete');

revoke execute on all functions in schema @schema@ from public;
