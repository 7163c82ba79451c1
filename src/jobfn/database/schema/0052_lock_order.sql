-- REINDEX locks a table, then each of its indexes. A transaction that reads the table, which locks the indexes, and
-- then writes it, waits for the first lock while REINDEX waits for the second: a deadlock. Functions that read a
-- table before they write it lock it first.

create or replace function @schema@.get_job(
    worker_id text,
    task_identifiers text[] default null,
    job_expiry interval default '4 hours'
) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.job_row;
begin
    lock table @schema@.jobs, @schema@.queue_locks in row exclusive mode; -- before reading, for REINDEX
    select * into v_job from @schema@.claim_jobs(worker_id, task_identifiers, job_expiry, 1);
    return v_job;
end
$$;
