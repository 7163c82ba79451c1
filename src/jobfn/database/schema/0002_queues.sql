-- Named queues: the view job_queues of the contract, and the triggers that unlock a queue.

-- The view counts jobs when it is read, so the count is always right. Writing to it locks or unlocks a queue by hand. A
-- queue without jobs and without a lock has no row.
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
    'Named queues: the number of their jobs, and the worker that runs one of them now.';

create function @schema@.tg_write_job_queues() returns trigger
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

comment on function @schema@.tg_write_job_queues() is 'Lock or unlock a queue by writing to job_queues.';

create trigger _500_write_job_queues
    instead of insert or update or delete on @schema@.job_queues
    for each row execute function @schema@.tg_write_job_queues();

-- A trigger, so that a queue is unlocked however its job was deleted, unlocked or moved: by these functions, or by the
-- statement of a person.
create function @schema@.tg_unlock_queue() returns trigger
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

comment on function @schema@.tg_unlock_queue() is 'Unlock the queue that a job had locked.';

create trigger _500_unlock_queue_of_deleted_job
    after delete on @schema@.jobs
    for each row when (old.queue_name is not null and old.locked_at is not null)
    execute function @schema@.tg_unlock_queue();

create trigger _500_unlock_queue_of_unlocked_job
    after update of locked_at, queue_name on @schema@.jobs
    for each row when (
        old.queue_name is not null and old.locked_at is not null
        and (new.locked_at is null or new.queue_name is distinct from old.queue_name)
    )
    execute function @schema@.tg_unlock_queue();

create trigger _500_unlock_all_queues
    after truncate on @schema@.jobs
    for each statement execute function @schema@.tg_unlock_queue();

revoke execute on all functions in schema @schema@ from public;
