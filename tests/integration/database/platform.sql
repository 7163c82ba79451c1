-- A stand-in for the platform's schema, as small as the contract allows: every job has a tenant, add_job has only the
-- form with a tenant, complete_job does not check who has locked the job, and there are no additions of jobfn. Tests in
-- tests/interop use the real schema.
create schema app_jobs;

create table app_jobs.jobs (
    id bigserial primary key,
    database_id uuid not null,
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
    locked_by text check (length(locked_by) > 3),
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);

create table app_jobs.job_queues (
    queue_name text primary key,
    job_count int not null default 0,
    locked_at timestamptz,
    locked_by text
);

create function app_jobs.count_queue() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into app_jobs.job_queues as q (queue_name, job_count) values (new.queue_name, 1)
        on conflict (queue_name) do update set job_count = q.job_count + 1;
    else
        update app_jobs.job_queues q set job_count = job_count - 1 where q.queue_name = old.queue_name;
        delete from app_jobs.job_queues q where q.queue_name = old.queue_name and job_count < 1;
    end if;
    return null;
end
$$;

create trigger queue_in after insert on app_jobs.jobs
    for each row when (new.queue_name is not null) execute function app_jobs.count_queue();
create trigger queue_out after delete on app_jobs.jobs
    for each row when (old.queue_name is not null) execute function app_jobs.count_queue();

create function app_jobs.notify_insert() returns trigger language plpgsql as $$
begin
    perform pg_notify('jobs:insert', '');
    return null;
end
$$;

create trigger notify_insert after insert on app_jobs.jobs for each row execute function app_jobs.notify_insert();

create function app_jobs.add_job(
    db_id uuid, identifier text, payload json default '{}', job_key text default null, queue_name text default null,
    run_at timestamptz default now(), max_attempts int default 25, priority int default 0
) returns app_jobs.jobs language plpgsql as $$
#variable_conflict use_variable
declare
    job app_jobs.jobs;
begin
    -- a running job loses its key, and its further attempts
    update app_jobs.jobs j set key = null, attempts = j.max_attempts where j.key = job_key and j.locked_at is not null;
    delete from app_jobs.jobs j where j.key = job_key;
    insert into app_jobs.jobs as j (
        database_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority
    ) values (db_id, identifier, payload, job_key, queue_name, run_at, max_attempts, priority)
    returning j.* into job;
    return job;
end
$$;

create function app_jobs.get_job(
    worker_id text, task_identifiers text[] default null, job_expiry interval default '4 hours'
) returns app_jobs.jobs language plpgsql as $$
declare
    job app_jobs.jobs;
begin
    select * into job from app_jobs.jobs j
    where j.run_at <= now() and j.attempts < j.max_attempts
        and (j.locked_at is null or j.locked_at < now() - job_expiry)
        and (task_identifiers is null or j.task_identifier = any (task_identifiers))
        and (j.queue_name is null or exists (
            select from app_jobs.job_queues q
            where q.queue_name = j.queue_name and (q.locked_at is null or q.locked_at < now() - job_expiry)
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

create function app_jobs.unlock_queue(job app_jobs.jobs, worker_id text) returns void language sql as $$
    update app_jobs.job_queues set locked_at = null, locked_by = null
    where queue_name = job.queue_name and locked_by = worker_id
$$;

create function app_jobs.complete_job(worker_id text, job_id bigint) returns app_jobs.jobs language plpgsql as $$
declare
    job app_jobs.jobs;
begin
    delete from app_jobs.jobs where id = job_id returning * into job;
    perform app_jobs.unlock_queue(job, worker_id);
    return job;
end
$$;

create function app_jobs.fail_job(worker_id text, job_id bigint, error_message text) returns app_jobs.jobs
language plpgsql as $$
declare
    job app_jobs.jobs;
begin
    update app_jobs.jobs
    set last_error = error_message, locked_at = null, locked_by = null,
        run_at = greatest(now(), run_at) + exp(least(attempts, 10)) * interval '1 second'
    where id = job_id and locked_by = worker_id
    returning * into job;
    perform app_jobs.unlock_queue(job, worker_id);
    return job;
end
$$;

create function app_jobs.release_jobs(worker_id text) returns void language sql as $$
    update app_jobs.jobs set locked_at = null, locked_by = null, attempts = greatest(attempts - 1, 0)
    where locked_by = worker_id;
    update app_jobs.job_queues set locked_at = null, locked_by = null where locked_by = worker_id;
$$;
