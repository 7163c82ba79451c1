-- The history of attempts. A row is written in the transaction that ends the attempt, by the functions that settle,
-- release, reclaim or cancel jobs: one insert for a whole batch. A trigger writes only lost attempts, so that a job
-- that completes fires no trigger.

create function @schema@.history_enabled() returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (select from @schema@.history_settings h where h.retention > interval '0')
$$;

comment on function @schema@.history_enabled() is 'Whether attempts are recorded.';

create function @schema@.set_history_retention(days double precision) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.history_settings h
    set retention = make_interval(secs => days * 86400)
    where h.retention is distinct from make_interval(secs => days * 86400)
$$;

comment on function @schema@.set_history_retention(double precision) is
    'Set for how many days attempts are kept; 0 records none, and lets prune_job_runs delete those that exist.';

create function @schema@.prune_job_runs(max_rows int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_deleted int;
begin
    delete from @schema@.job_runs r
    where r.ctid = any (array(
        select old.ctid
        from @schema@.job_runs old
        where old.ended_at <= now() - (select h.retention from @schema@.history_settings h)
        order by old.ended_at
        limit max_rows
        for update skip locked -- another pruner deletes those
    ));
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function @schema@.prune_job_runs(int) is
    'Delete up to max_rows of the oldest attempts past the retention. Returns the number of deleted rows.';

create function @schema@.tg_record_lost_run() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if @schema@.history_enabled() then
        insert into @schema@.job_runs values (
            old.id, old.attempts, old.task_identifier, old.queue_name, old.database_id, old.locked_by,
            old.created_at, old.run_at, old.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', old.locked_by)
        );
    end if;
    return null;
end
$$;

comment on function @schema@.tg_record_lost_run() is 'Record the attempt whose expired lock a claim takes over.';

create trigger _600_record_lost_run
    after update of locked_by on @schema@.jobs
    for each row when (old.locked_at is not null and new.locked_at is not null and new.attempts > old.attempts)
    execute function @schema@.tg_record_lost_run();

revoke execute on all functions in schema @schema@ from public;
