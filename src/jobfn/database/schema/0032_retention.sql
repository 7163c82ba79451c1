-- Retention of permanently failed jobs, and of the payloads of completed ones, so that these can run again. Both are off
-- by default. The trigger that stores payloads is disabled then, and a settlement calls nothing.

create table @schema@.completed_jobs (
    id bigint primary key,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    organization_id uuid,
    entity_type text,
    queue_name text,
    task_identifier text not null,
    payload json not null,
    priority int not null,
    max_attempts int not null,
    created_at timestamptz not null,
    completed_at timestamptz not null
);

comment on table @schema@.completed_jobs is
    'Completed jobs with their payloads, for history_settings.completed_payload_retention. run_jobs_again runs them again.';

create index completed_jobs_completed_at_idx on @schema@.completed_jobs (completed_at);

alter table @schema@.history_settings
    add column completed_payload_retention interval not null default interval '0'
        constraint history_settings_completed_payload_retention_not_negative
        check (completed_payload_retention >= interval '0');

create function @schema@.tg_store_completed_job() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into @schema@.completed_jobs values (
        old.id, old.database_id, old.actor_id, old.entity_id, old.organization_id, old.entity_type, old.queue_name,
        old.task_identifier, old.payload, old.priority,
        greatest(old.max_attempts - coalesce(old.snoozes, 0), 1), old.created_at, now()
    )
    on conflict (id) do nothing;
    return null;
end
$$;

comment on function @schema@.tg_store_completed_job() is 'Store a job that completes, with its payload.';

create trigger _800_store_completed_job
    after delete on @schema@.jobs
    for each row when (old.locked_at is not null)
    execute function @schema@.tg_store_completed_job();

alter table @schema@.jobs disable trigger _800_store_completed_job;

create function @schema@.set_completed_payload_retention(days double precision) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '200ms' -- settlements wait behind the lock that enables the trigger: try again later
as $$
declare
    v_retention constant interval := make_interval(secs => days * 86400);
begin
    if not exists (
        select from @schema@.history_settings h where h.completed_payload_retention is distinct from v_retention
    ) then
        return;
    end if;
    if days > 0 then
        alter table @schema@.jobs enable trigger _800_store_completed_job;
    else
        alter table @schema@.jobs disable trigger _800_store_completed_job;
    end if;
    update @schema@.history_settings set completed_payload_retention = v_retention;
end
$$;

comment on function @schema@.set_completed_payload_retention(double precision) is
    'Set for how many days completed jobs are stored with their payloads; 0 stores none, and lets prune_completed_jobs '
    'delete those that exist. Fails after 0.2 s if a transaction holds the table of jobs.';

create function @schema@.prune_completed_jobs(max_rows int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_deleted int;
begin
    delete from @schema@.completed_jobs c
    where c.id = any (array(
        select old.id
        from @schema@.completed_jobs old
        where old.completed_at <= now() - (select h.completed_payload_retention from @schema@.history_settings h)
        order by old.completed_at
        limit max_rows
        for update skip locked -- another pruner deletes those
    ));
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function @schema@.prune_completed_jobs(int) is
    'Delete up to max_rows of the oldest completed jobs past the retention. Returns the number of deleted rows.';

-- Failed jobs have no index by time, which every failure would pay for. They are read in the order of ids instead.
create function @schema@.prune_failed_jobs(retention interval, after_id bigint, max_rows int)
    returns table (removed int, last_id bigint)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_due bigint[];
begin
    lock table @schema@.jobs in row exclusive mode; -- before reading, for REINDEX
    select array_agg(found.id) filter (where found.is_due), case when count(*) = max_rows then max(found.id) end
    into v_due, last_id
    from (
        select j.id, j.exhausted and j.locked_at is null and j.updated_at <= now() - retention as is_due
        from @schema@.jobs j
        where (j.exhausted or j.last_error is not null) and j.id > after_id
        order by j.id
        limit max_rows
    ) found;
    -- Skip those that somebody retries now.
    select array_agg(locked.id) into v_due
    from (
        select j.id
        from @schema@.jobs j
        where j.id = any (v_due) and j.exhausted and j.locked_at is null
        for update skip locked
    ) locked;
    select count(*) into removed from @schema@.complete_jobs_unrecorded(v_due);
    return next;
end
$$;

comment on function @schema@.prune_failed_jobs(interval, bigint, int) is
    'Remove the jobs that failed permanently longer ago than the retention, among max_rows with an id above after_id. '
    'Returns their number, and the id to go on from; null: there are no more.';

create function @schema@.run_jobs_again(job_ids bigint[]) returns table (job_id bigint, new_job_id bigint)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.completed_jobs;
    v_ids bigint[] := '{}';
begin
    for v_job in select c.* from @schema@.completed_jobs c where c.id = any (job_ids) order by c.id
    loop
        job_id := v_job.id;
        new_job_id := (@schema@.insert_job(
            database_id => v_job.database_id,
            actor_id => v_job.actor_id,
            entity_id => v_job.entity_id,
            identifier => v_job.task_identifier,
            payload => v_job.payload,
            job_key => null,
            queue_name => v_job.queue_name,
            run_at => now(),
            max_attempts => v_job.max_attempts,
            priority => v_job.priority,
            organization_id => v_job.organization_id,
            entity_type => v_job.entity_type
        )).id;
        v_ids := v_ids || job_id;
        return next;
    end loop;
    perform @schema@.record_action_on_jobs('run_again', v_ids);
end
$$;

comment on function @schema@.run_jobs_again(bigint[]) is
    'Add a new job, due now and without a job key, for each of these completed jobs whose payload is stored.';

-- A job that is removed has not completed, and is not stored.
create or replace function @schema@.complete_jobs(job_ids bigint[]) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_idle constant bigint[] := array(select idle.id from @schema@.lock_idle_jobs(job_ids) as idle (id));
begin
    -- A job that is removed has not completed: it adds no jobs, and its parent fails.
    update @schema@.jobs j set locked_at = null, locked_by = null, lease_expires_at = null
    where j.id = any (v_idle) and j.locked_at is not null and (j.has_steps or j.is_awaited);
    return query
    with removed as (
        delete from @schema@.jobs j where j.id = any (v_idle)
        returning (@schema@.to_job_row(j)).*
    ),
    recorded as (
        insert into @schema@.job_runs
        select removed.id, removed.attempts, removed.task_identifier, removed.queue_name, removed.database_id,
            removed.locked_by, removed.created_at, removed.run_at, removed.locked_at, now(), 'removed',
            removed.last_error
        from removed
        where @schema@.history_enabled()
    )
    select removed.* from removed;
    delete from @schema@.completed_jobs c where c.id = any (v_idle);
end
$$;

revoke execute on function
    @schema@.tg_store_completed_job(),
    @schema@.set_completed_payload_retention(double precision),
    @schema@.prune_completed_jobs(int),
    @schema@.prune_failed_jobs(interval, bigint, int),
    @schema@.run_jobs_again(bigint[])
    from public;

-- Roles of workers, viewers and operators get the new rights with the migration.
select @schema@.grant_like('prune_job_runs', '{set_completed_payload_retention, prune_completed_jobs, prune_failed_jobs}');
select @schema@.grant_like('run_jobs_now', '{run_jobs_again}');
select @schema@.grant_like('jobs', '{completed_jobs}');
