-- The schema that the first migration of the pre-releases made, shortened to its characteristic parts.
create schema app_jobs;

create table app_jobs.jobfn_migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);

create table app_jobs.jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text,
    task_identifier text not null,
    payload json not null default '{}',
    priority int not null default 0,
    run_at timestamptz not null default now(),
    attempts int not null default 0,
    max_attempts int not null default 25,
    key text constraint jobs_key_unique unique,
    last_error text,
    locked_at timestamptz,
    locked_by text,
    lease_expires_at timestamptz,
    progress real,
    progress_note text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    exhausted boolean not null generated always as (attempts >= max_attempts) stored
);

create table app_jobs.queue_locks (
    queue_name text primary key,
    job_id bigint,
    locked_by text not null,
    locked_at timestamptz not null,
    lease_expires_at timestamptz
);

create function app_jobs.tg_free_queue() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from app_jobs.queue_locks l where l.queue_name = old.queue_name and l.job_id = old.id;
    return null;
end
$$;

create trigger _500_free_queue_of_deleted
    after delete on app_jobs.jobs
    for each row when (old.queue_name is not null and old.locked_at is not null)
    execute function app_jobs.tg_free_queue();

insert into app_jobs.jobfn_migrations (version, name, checksum)
values (1, 'tables', '148b60817596d344e75c3f93866f4eeb763d08c6eb400b2e4978f0b7da6ae545');

insert into app_jobs.jobs (task_identifier) values ('left_over');
