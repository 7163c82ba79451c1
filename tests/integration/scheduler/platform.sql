-- A stand-in for the platform's schema: the columns and functions of contract section 3 that schedules need. As there,
-- get_scheduled_job keeps its lock, only new rows are notified, and replacing a locked schedule by its key loses the
-- key. Tests can set the time in table clock.

create schema app_jobs;

create table app_jobs.clock (now timestamptz not null);

create function app_jobs.now() returns timestamptz language sql as
$$ select coalesce((select c.now from app_jobs.clock c), pg_catalog.clock_timestamp()) $$;

create table app_jobs.jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
    queue_name text,
    task_identifier text not null,
    payload json not null default '{}',
    priority int not null default 0,
    run_at timestamptz not null default now(),
    attempts int not null default 0,
    max_attempts int not null default 25,
    key text unique,
    last_error text,
    locked_at timestamptz,
    locked_by text,
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);

create table app_jobs.scheduled_jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
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

create function app_jobs.tell() returns trigger language plpgsql as
$$ begin perform pg_notify(tg_argv[0], ''); return new; end $$;

create trigger tell after insert on app_jobs.scheduled_jobs
    for each row execute function app_jobs.tell('scheduled_jobs:insert');

create function app_jobs.get_scheduled_job(worker_id text, task_identifiers text[] default null)
    returns app_jobs.scheduled_jobs language sql as
$$
    update app_jobs.scheduled_jobs set locked_at = app_jobs.now(), locked_by = worker_id
    where id = (
        select s.id from app_jobs.scheduled_jobs s
        where s.locked_at is null and (task_identifiers is null or s.task_identifier = any (task_identifiers))
        order by s.priority, s.id limit 1 for update skip locked
    )
    returning *
$$;

create function app_jobs.release_scheduled_jobs(worker_id text, ids bigint[] default null) returns void language sql as
$$
    update app_jobs.scheduled_jobs s set locked_at = null, locked_by = null
    where s.locked_by = worker_id and (ids is null or s.id = any (ids))
$$;

create function app_jobs.run_scheduled_job(id bigint, job_expiry interval default '1 hours')
    returns app_jobs.jobs language plpgsql as
$$
declare
    made app_jobs.jobs;
begin
    if exists (
        select from app_jobs.scheduled_jobs s join app_jobs.jobs j on j.id = s.last_scheduled_id
        where s.id = run_scheduled_job.id and (j.locked_at is null or j.locked_at >= app_jobs.now() - job_expiry)
    ) then
        raise exception 'ALREADY_SCHEDULED';
    end if;
    insert into app_jobs.jobs (database_id, actor_id, queue_name, task_identifier, payload, priority, max_attempts, key)
    select s.database_id, s.actor_id, s.queue_name, s.task_identifier, s.payload, s.priority, s.max_attempts, s.key
    from app_jobs.scheduled_jobs s where s.id = run_scheduled_job.id
    returning * into made;
    update app_jobs.scheduled_jobs s set last_scheduled = app_jobs.now(), last_scheduled_id = made.id
    where s.id = run_scheduled_job.id;
    return made;
end
$$;

create function app_jobs.add_scheduled_job(
    identifier text, payload json default '{}', schedule_info json default '{}', job_key text default null,
    queue_name text default null, max_attempts int default 25, priority int default 0, entity_id uuid default null,
    db_id uuid default null
) returns app_jobs.scheduled_jobs language plpgsql as
$$
#variable_conflict use_column
declare
    made app_jobs.scheduled_jobs;
    v_key text := job_key;
begin
    if exists (select from app_jobs.scheduled_jobs s where s.key = job_key and s.locked_at is not null) then
        delete from app_jobs.scheduled_jobs s where s.key = job_key;
        v_key := null;
    end if;
    insert into app_jobs.scheduled_jobs (database_id, task_identifier, payload, schedule_info, key, queue_name,
        max_attempts, priority)
    values (db_id, identifier, add_scheduled_job.payload, add_scheduled_job.schedule_info, v_key,
        add_scheduled_job.queue_name, add_scheduled_job.max_attempts, add_scheduled_job.priority)
    on conflict (key) do update set payload = excluded.payload, schedule_info = excluded.schedule_info
    returning * into made;
    return made;
end
$$;
