-- The tables of contract section 3, and what keeps them consistent whoever writes to them.

create table @schema@.jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text constraint jobs_queue_name_length check (length(queue_name) between 1 and 126),
    task_identifier text not null
        constraint jobs_task_identifier_length check (length(task_identifier) between 1 and 126),
    payload json not null default '{}',
    priority int not null default 0,
    run_at timestamptz not null default now(),
    attempts int not null default 0,
    max_attempts int not null default 25 constraint jobs_max_attempts_positive check (max_attempts > 0),
    key text constraint jobs_key_unique unique constraint jobs_key_length check (length(key) between 1 and 512),
    last_error text,
    locked_at timestamptz,
    locked_by text constraint jobs_locked_by_length check (length(locked_by) > 3),
    -- Ours: until when the lock is good, where its holder renews it; null for a holder that does not, whose lock is
    -- good for a job_expiry after locked_at. And how far the job says it is.
    lease_expires_at timestamptz,
    progress real constraint jobs_progress_is_a_share check (progress between 0 and 1),
    progress_note text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- Ours: whether the attempts are used up. Indexes are partial on it rather than on the two numbers, so
    -- that counting an attempt changes no indexed value and the update can stay on its page (HOT).
    exhausted boolean not null generated always as (attempts >= max_attempts) stored
) with (
    fillfactor = 85, -- room for the claim's new row version beside the old one
    autovacuum_vacuum_scale_factor = 0.02, -- most rows live for seconds: clear up after them early
    autovacuum_analyze_scale_factor = 0.02
);

comment on table @schema@.jobs is
    'Work waiting, running, or out of attempts. A completed job is deleted.';

-- The order of work: without named queues, across all of them, and within each; and when the next delayed job is due.
create index jobs_order_idx on @schema@.jobs (priority, run_at, id)
    where queue_name is null and not exhausted;
create index jobs_queued_order_idx on @schema@.jobs (priority, run_at, id)
    where queue_name is not null and not exhausted;
create index jobs_queue_order_idx on @schema@.jobs (queue_name, priority, run_at, id)
    where queue_name is not null and not exhausted;
create index jobs_run_at_idx on @schema@.jobs (run_at) where not exhausted;
-- Jobs in their last attempt, and after it: those whose holder died are looked for here.
create index jobs_exhausted_idx on @schema@.jobs (id) where exhausted;

-- Which named queues are held now, and for which job. Only claims and their ends write here, never add_job: what a
-- user's transaction enqueues must not wait for another's to commit, nor hold up the jobs that run.
create table @schema@.queue_locks (
    queue_name text primary key,
    job_id bigint, -- null: held by hand
    locked_by text not null,
    locked_at timestamptz not null,
    lease_expires_at timestamptz -- as that of the job
);

comment on table @schema@.queue_locks is
    'Ours: the named queues that are held now. People read and write job_queues.';

create table @schema@.scheduled_jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text constraint scheduled_jobs_queue_name_length check (length(queue_name) between 1 and 126),
    task_identifier text not null
        constraint scheduled_jobs_task_identifier_length check (length(task_identifier) between 1 and 126),
    payload json not null default '{}',
    priority int not null default 0,
    max_attempts int not null default 25
        constraint scheduled_jobs_max_attempts_positive check (max_attempts > 0),
    key text constraint scheduled_jobs_key_unique unique
        constraint scheduled_jobs_key_length check (length(key) between 1 and 512),
    last_error text,
    locked_at timestamptz,
    locked_by text constraint scheduled_jobs_locked_by_length check (length(locked_by) > 3),
    schedule_info json not null,
    last_scheduled timestamptz,
    last_scheduled_id bigint,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table @schema@.scheduled_jobs is
    'What makes a job again and again: a cron rule, or its parts, in schedule_info.';

create function @schema@.tg_notify() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify(tg_argv[0], '');
    return null;
end
$$;

comment on function @schema@.tg_notify() is 'Wakes whoever listens to the channel that the trigger names.';

create trigger _900_notify_worker
    after insert on @schema@.jobs
    for each statement execute function @schema@.tg_notify('jobs:insert');

create trigger _900_notify_scheduler
    after insert or delete or update of schedule_info, task_identifier on @schema@.scheduled_jobs
    for each statement execute function @schema@.tg_notify('scheduled_jobs:insert');

-- The contract's job_queues. Its count is taken when somebody looks, and so is true by itself. Writing to it holds
-- or frees a queue by hand; a queue without jobs and without a lock has no row.
create view @schema@.job_queues (queue_name, job_count, locked_at, locked_by) as
select part.queue_name, sum(part.jobs)::int, max(part.locked_at), max(part.locked_by)
from (
    select j.queue_name, 1 as jobs, null::timestamptz as locked_at, null::text as locked_by
    from @schema@.jobs j
    where j.queue_name is not null
    union all
    select l.queue_name, 0, l.locked_at, l.locked_by
    from @schema@.queue_locks l
) part
group by part.queue_name;

comment on view @schema@.job_queues is
    'The named queues that have jobs: how many, and which worker runs one of them now.';

create function @schema@.tg_write_queue() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op <> 'INSERT' and (tg_op = 'DELETE' or new.queue_name <> old.queue_name or new.locked_at is null) then
        delete from @schema@.queue_locks l where l.queue_name = old.queue_name;
        perform pg_notify('jobs:insert', '');
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    if new.locked_at is not null then
        insert into @schema@.queue_locks as l (queue_name, locked_by, locked_at)
        values (new.queue_name, coalesce(new.locked_by, 'by hand'), new.locked_at)
        on conflict (queue_name) do update set locked_by = excluded.locked_by, locked_at = excluded.locked_at;
    end if;
    return new;
end
$$;

create trigger _500_write_queue
    instead of insert or update or delete on @schema@.job_queues
    for each row execute function @schema@.tg_write_queue();

-- A queue is free again when the job that held it is gone, unlocked or elsewhere, whoever saw to that.
create function @schema@.tg_free_queue() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from @schema@.queue_locks;
        return null;
    end if;
    delete from @schema@.queue_locks l where l.queue_name = old.queue_name and l.job_id = old.id;
    if found then
        perform pg_notify('jobs:insert', ''); -- the queue's next job may run now
    end if;
    return null;
end
$$;

create trigger _500_free_queue_of_deleted
    after delete on @schema@.jobs
    for each row when (old.queue_name is not null and old.locked_at is not null)
    execute function @schema@.tg_free_queue();

create trigger _500_free_queue_of_unlocked
    after update of locked_at, queue_name on @schema@.jobs
    for each row when (
        old.queue_name is not null and old.locked_at is not null
        and (new.locked_at is null or new.queue_name is distinct from old.queue_name)
    )
    execute function @schema@.tg_free_queue();

create trigger _500_free_queues
    after truncate on @schema@.jobs
    for each statement execute function @schema@.tg_free_queue();
