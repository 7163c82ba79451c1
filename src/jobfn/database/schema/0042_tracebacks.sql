-- Tracebacks of failed attempts, which functions send with their failures. They have the retention of the history.

create table @schema@.job_tracebacks (
    job_id bigint not null,
    ended_at timestamptz not null default now(),
    traceback text not null,
    primary key (job_id, ended_at),
    constraint job_tracebacks_length check (length(traceback) <= 16384)
);

create index job_tracebacks_ended_at_idx on @schema@.job_tracebacks (ended_at);

comment on table @schema@.job_tracebacks is
    'The traceback of a failed attempt, if its function has sent it. job_runs has the attempt, with the same time.';

create function @schema@.settle_jobs_with_tracebacks(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[],
    results json[],
    storage_errors text[],
    retention_seconds double precision[],
    tracebacks text[]
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_jobs @schema@.job_row[];
begin
    if results is null then
        v_jobs := array(
            select settled
            from @schema@.settle_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays) settled
        );
    else
        v_jobs := array(
            select settled
            from @schema@.settle_jobs_with_results(
                worker_ids, job_ids, job_attempts, outcomes, error_messages, delays, results, storage_errors,
                retention_seconds
            ) settled
        );
    end if;
    if @schema@.history_enabled() then
        insert into @schema@.job_tracebacks (job_id, traceback)
        select given.job_id, right(given.traceback, 16384)
        from unnest(job_ids, outcomes, tracebacks) as given (job_id, outcome, traceback)
        where given.traceback is not null
            and given.outcome in ('failed', 'permanently_failed')
            and given.job_id in (select job.id from unnest(v_jobs) job)
        on conflict (job_id, ended_at) do nothing; -- a batch may name a job twice
    end if;
    return query select job.* from unnest(v_jobs) job;
end
$$;

comment on function @schema@.settle_jobs_with_tracebacks is
    'As settle_jobs_with_results, and store the tracebacks of failed attempts. Null for the results: as settle_jobs.';

create function @schema@.prune_job_tracebacks(max_rows int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_deleted int;
begin
    delete from @schema@.job_tracebacks t
    where t.ctid = any (array(
        select old.ctid
        from @schema@.job_tracebacks old
        where old.ended_at <= now() - (select h.retention from @schema@.history_settings h)
        order by old.ended_at
        limit max_rows
        for update skip locked -- another pruner deletes those
    ));
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function @schema@.prune_job_tracebacks is
    'Delete up to max_rows of the oldest tracebacks past the retention of the history. Returns the number of deleted rows.';

-- Those who may settle jobs may store tracebacks, and those who may prune the history may prune them.
revoke execute on function @schema@.settle_jobs_with_tracebacks, @schema@.prune_job_tracebacks from public;

select @schema@.grant_like('settle_jobs_with_results', '{settle_jobs_with_tracebacks}');
select @schema@.grant_like('prune_job_runs', '{prune_job_tracebacks}');
select @schema@.grant_like('job_runs', '{job_tracebacks}');
