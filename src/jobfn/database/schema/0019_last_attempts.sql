-- Jobs whose worker died in their last attempt are looked for once a lease. That read all that have failed for good, since
-- no index says of those whether they are held: one that did would learn of every claim. A stored column changes only
-- with the last attempt, so all other claims still stay on their page (HOT).

alter table @schema@.jobs add column in_last_attempt boolean not null
    generated always as (locked_at is not null and attempts >= max_attempts) stored;

create index jobs_in_last_attempt_idx on @schema@.jobs (id) where in_last_attempt;

create or replace function @schema@.bury_expired_jobs(job_expiry interval)
    returns table (id bigint, task_identifier text, attempts int, locked_by text, database_id uuid)
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with dead as materialized (
        select j.*, format('the worker %s died, or lost its lease, in the last attempt', j.locked_by) as reason
        from @schema@.jobs j
        where j.in_last_attempt
            and coalesce(j.lease_expires_at < now(), j.locked_at < now() - job_expiry)
        order by j.id
        for update
    ),
    noted as (
        insert into @schema@.job_runs
        select dead.id, dead.attempts, dead.task_identifier, dead.queue_name, dead.database_id, dead.locked_by,
            dead.created_at, dead.run_at, dead.locked_at, now(), 'lost', dead.reason
        from dead
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = dead.reason,
        outlived_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from dead
    where j.id = dead.id
    returning dead.id, dead.task_identifier, dead.attempts, dead.locked_by, dead.database_id
$$;
