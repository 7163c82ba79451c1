-- Changes of the platform's newest schema, compared with platform.sql: it is applied after that file. Jobs
-- need no tenant; add_job takes tenant and actor from the session's claims, and has no form with a tenant. Written for
-- these tests, after section 6 of the contract and the platform's sources (@pgpm/database-jobs 0.26 to 0.28).
create schema jwt_private;
create schema jwt_public;

create function jwt_private.current_database_id() returns uuid language sql stable as $$
    select nullif(current_setting('jwt.claims.database_id', true), '')::uuid
$$;

create function jwt_public.current_user_id() returns uuid language sql stable as $$
    select nullif(current_setting('jwt.claims.user_id', true), '')::uuid
$$;

alter table app_jobs.jobs
    alter database_id drop not null,
    add actor_id uuid,
    add entity_id uuid,
    add organization_id uuid,
    add entity_type text,
    add is_available boolean not null generated always as (locked_at is null and attempts < max_attempts) stored;

drop function app_jobs.add_job(uuid, text, json, text, text, timestamptz, int, int);

create function app_jobs.add_job(
    identifier text, payload json default '{}', job_key text default null, queue_name text default null,
    run_at timestamptz default now(), max_attempts int default 25, priority int default 0,
    entity_id uuid default null, organization_id uuid default null, entity_type text default null
) returns app_jobs.jobs language plpgsql security definer as $$
#variable_conflict use_variable
declare
    job app_jobs.jobs;
begin
    -- a running job loses its key, and its further attempts; a waiting one is replaced, but keeps its entity
    update app_jobs.jobs j set key = null, attempts = j.max_attempts where j.key = job_key and j.locked_at is not null;
    update app_jobs.jobs j
    set task_identifier = identifier, payload = add_job.payload, queue_name = add_job.queue_name,
        run_at = add_job.run_at, max_attempts = add_job.max_attempts, priority = add_job.priority, attempts = 0,
        last_error = null
    where j.key = job_key
    returning j.* into job;
    if found then
        return job;
    end if;
    insert into app_jobs.jobs as j (
        database_id, actor_id, entity_id, organization_id, entity_type, task_identifier, payload, key, queue_name,
        run_at, max_attempts, priority
    ) values (
        jwt_private.current_database_id(), jwt_public.current_user_id(), entity_id, organization_id, entity_type,
        identifier, coalesce(payload, '{}'), job_key, queue_name, run_at, max_attempts, priority
    )
    returning j.* into job;
    return job;
end
$$;

create function app_jobs.remove_job(job_key text) returns app_jobs.jobs language plpgsql strict as $$
declare
    job app_jobs.jobs;
begin
    delete from app_jobs.jobs j
    where j.key = job_key and (j.locked_at is null or j.locked_at < now() - interval '4 hours')
    returning j.* into job;
    if not found then
        update app_jobs.jobs j set key = null, attempts = j.max_attempts where j.key = job_key returning j.* into job;
    end if;
    return job;
end
$$;

create function app_jobs.force_unlock_workers(worker_ids text[]) returns void language sql as $$
    update app_jobs.jobs set locked_at = null, locked_by = null where locked_by = any (worker_ids);
    update app_jobs.job_queues set locked_at = null, locked_by = null where locked_by = any (worker_ids);
$$;

create function app_jobs.tg_add_job_with_row_id() returns trigger language plpgsql security definer as $$
begin
    if tg_op = 'DELETE' then
        perform app_jobs.add_job(tg_argv[0], json_build_object('id', old.id));
        return old;
    end if;
    perform app_jobs.add_job(tg_argv[0], json_build_object('id', new.id));
    return new;
end
$$;

create function app_jobs.tg_add_job_with_row() returns trigger language plpgsql security definer as $$
begin
    if tg_op = 'DELETE' then
        perform app_jobs.add_job(tg_argv[0], to_json(old));
        return old;
    end if;
    perform app_jobs.add_job(tg_argv[0], to_json(new));
    return new;
end
$$;

-- The platform builds the object from literals: every value is text, and null is an empty text.
create function app_jobs.trigger_job_with_fields() returns trigger language plpgsql security definer as $$
declare
    entries text[] := '{}';
    entry text;
begin
    for number in 1..tg_nargs - 1 loop
        if tg_op = 'DELETE' then
            execute format('select ($1).%s::text', tg_argv[number]) into entry using old;
        else
            execute format('select ($1).%s::text', tg_argv[number]) into entry using new;
        end if;
        entries := entries || array[tg_argv[number], coalesce(entry, '')];
    end loop;
    perform app_jobs.add_job(tg_argv[0], json_object(entries));
    if tg_op = 'DELETE' then
        return old;
    end if;
    return new;
end
$$;

-- is_available is false while a job is locked, so get_job finds no job whose lock has expired.
create or replace function app_jobs.get_job(
    worker_id text, task_identifiers text[] default null, job_expiry interval default '4 hours'
) returns app_jobs.jobs language plpgsql as $$
declare
    job app_jobs.jobs;
begin
    select * into job from app_jobs.jobs j
    where j.is_available and j.run_at <= now() and j.attempts < j.max_attempts
        and (task_identifiers is null or j.task_identifier = any (task_identifiers))
        and (j.queue_name is null or j.queue_name in (
            select q.queue_name from app_jobs.job_queues q
            where q.locked_at is null or q.locked_at < now() - job_expiry
            for update skip locked
        ))
    order by j.priority, j.run_at, j.id
    limit 1
    for update skip locked;
    update app_jobs.job_queues q set locked_at = now(), locked_by = worker_id where q.queue_name = job.queue_name;
    update app_jobs.jobs j set attempts = attempts + 1, locked_at = now(), locked_by = worker_id
    where j.id = job.id
    returning * into job;
    return job;
end
$$;

create table app_jobs.scheduled_jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text,
    task_identifier text not null,
    payload json not null default '{}',
    priority int not null default 0,
    max_attempts int not null default 25,
    key text unique,
    locked_at timestamptz,
    locked_by text check (length(locked_by) > 3),
    schedule_info json not null,
    last_scheduled timestamptz,
    last_scheduled_id bigint
);

create function app_jobs.get_scheduled_job(worker_id text, task_identifiers text[] default null)
returns app_jobs.scheduled_jobs language sql as $$
    update app_jobs.scheduled_jobs set locked_at = now(), locked_by = worker_id
    where id = (
        select s.id from app_jobs.scheduled_jobs s
        where s.locked_at is null and (task_identifiers is null or s.task_identifier = any (task_identifiers))
        order by s.priority, s.id
        limit 1
        for update skip locked
    )
    returning *
$$;

create function app_jobs.release_scheduled_jobs(worker_id text, ids bigint[] default null) returns void
language sql as $$
    update app_jobs.scheduled_jobs s set locked_at = null, locked_by = null
    where s.locked_by = worker_id and (ids is null or s.id = any (ids))
$$;

create function app_jobs.run_scheduled_job(id bigint, job_expiry interval default '1 hours')
returns app_jobs.jobs language plpgsql as $$
declare
    job app_jobs.jobs;
begin
    if exists (
        select from app_jobs.scheduled_jobs s join app_jobs.jobs j on j.id = s.last_scheduled_id
        where s.id = run_scheduled_job.id and (j.locked_at is null or j.locked_at >= now() - job_expiry)
    ) then
        raise exception 'ALREADY_SCHEDULED';
    end if;
    insert into app_jobs.jobs (
        database_id, actor_id, entity_id, queue_name, task_identifier, payload, priority, max_attempts, key
    )
    select s.database_id, s.actor_id, s.entity_id, s.queue_name, s.task_identifier, s.payload, s.priority,
        s.max_attempts, s.key
    from app_jobs.scheduled_jobs s where s.id = run_scheduled_job.id
    returning * into job;
    update app_jobs.scheduled_jobs s set last_scheduled = now(), last_scheduled_id = job.id
    where s.id = run_scheduled_job.id;
    return job;
end
$$;

create function app_jobs.add_scheduled_job(
    identifier text, payload json default '{}', schedule_info json default '{}', job_key text default null,
    queue_name text default null, max_attempts int default 25, priority int default 0, entity_id uuid default null
) returns app_jobs.scheduled_jobs language sql security definer as $$
    insert into app_jobs.scheduled_jobs as s (
        database_id, actor_id, entity_id, task_identifier, payload, schedule_info, key, queue_name, max_attempts,
        priority
    ) values (
        jwt_private.current_database_id(), jwt_public.current_user_id(), entity_id, identifier, payload, schedule_info,
        job_key, queue_name, max_attempts, priority
    )
    on conflict (key) do update set payload = excluded.payload, schedule_info = excluded.schedule_info
    returning s.*
$$;
