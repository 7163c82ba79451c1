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
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- Ours: whether the attempts are used up. Indexes are partial on it rather than on the two numbers, so
    -- that counting an attempt changes no indexed value and the update can stay on its page (HOT).
    exhausted boolean not null generated always as (attempts >= max_attempts) stored
);

comment on table @schema@.jobs is
    'Work waiting, running, or out of attempts. A completed job is deleted.';

-- The order of work, without named queues and within each; and when the next delayed job is due.
create index jobs_order_idx on @schema@.jobs (priority, run_at, id)
    where queue_name is null and not exhausted;
create index jobs_queue_order_idx on @schema@.jobs (queue_name, priority, run_at, id)
    where queue_name is not null and not exhausted;
create index jobs_run_at_idx on @schema@.jobs (run_at) where not exhausted;

create table @schema@.job_queues (
    queue_name text primary key,
    job_count int not null default 0,
    locked_at timestamptz,
    locked_by text
);

comment on table @schema@.job_queues is
    'One row per named queue that has jobs: how many, and which worker runs one of them now.';

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

-- job_queues.job_count. One upsert per statement and queue, in the order of their names: two statements that
-- touch the same queues take their rows in the same order.
create function @schema@.tg_queue_grows() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into @schema@.job_queues as q (queue_name, job_count)
    select added.queue_name, count(*)
    from added
    where added.queue_name is not null
    group by added.queue_name
    order by added.queue_name
    on conflict (queue_name) do update set job_count = q.job_count + excluded.job_count;
    return null;
end
$$;

create function @schema@.tg_queue_shrinks() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from removed where queue_name is not null) then
        return null;
    end if;
    with shrunk as (
        select queue_name, count(*) as jobs from removed where queue_name is not null group by queue_name
    ),
    held as (
        select q.queue_name from @schema@.job_queues q
        where q.queue_name in (select shrunk.queue_name from shrunk)
        order by q.queue_name
        for update
    )
    update @schema@.job_queues q
    set job_count = q.job_count - shrunk.jobs
    from shrunk, held
    where q.queue_name = shrunk.queue_name and held.queue_name = shrunk.queue_name;
    delete from @schema@.job_queues q
    where q.job_count <= 0 and q.queue_name in (select removed.queue_name from removed);
    return null;
end
$$;

create function @schema@.tg_queue_changes() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.queue_name is not null then
        insert into @schema@.job_queues as q (queue_name, job_count)
        values (new.queue_name, 1)
        on conflict (queue_name) do update set job_count = q.job_count + 1;
    end if;
    if old.queue_name is not null then
        update @schema@.job_queues q set job_count = q.job_count - 1 where q.queue_name = old.queue_name;
        delete from @schema@.job_queues q where q.queue_name = old.queue_name and q.job_count <= 0;
    end if;
    return null;
end
$$;

create trigger _500_queue_grows
    after insert on @schema@.jobs
    referencing new table as added
    for each statement execute function @schema@.tg_queue_grows();

create trigger _500_queue_shrinks
    after delete on @schema@.jobs
    referencing old table as removed
    for each statement execute function @schema@.tg_queue_shrinks();

-- By row, since a trigger on one column may not see its statement's tables; only a replaced key changes a queue.
create trigger _500_queue_changes
    after update of queue_name on @schema@.jobs
    for each row when (old.queue_name is distinct from new.queue_name)
    execute function @schema@.tg_queue_changes();
