-- As for jobs with a tenant: an order that only jobs_task_ready_idx has, so that no flood of a tenant is read.

create or replace function @schema@.lock_jobs_without_tenant(
    tasks text[], at_priority int, first_run_at timestamptz, first_id bigint, expired_before timestamptz, max_jobs int
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select ready.place
        from unnest(tasks) as task (name)
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.task_identifier = task.name
                and j.database_id is null
                and (hashtextextended(j.task_identifier, 0), j.priority, j.run_at, j.id)
                    >= (hashtextextended(task.name, 0), at_priority, first_run_at, first_id)
                and (hashtextextended(j.task_identifier, 0), j.priority, j.run_at)
                    <= (hashtextextended(task.name, 0), at_priority, now())
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by hashtextextended(j.task_identifier, 0), j.priority, j.run_at, j.id
            limit max_jobs
            for update skip locked
        ) ready
    );
end
$$;
