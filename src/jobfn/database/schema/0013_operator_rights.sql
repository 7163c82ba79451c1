-- Rights of operators. The functions for people run with the rights of their owner, so that a role needs only EXECUTE to
-- act on jobs, and no right to write tables.

alter function @schema@.complete_jobs(bigint[]) security definer;
alter function @schema@.permanently_fail_jobs(bigint[], text) security definer;
alter function @schema@.reschedule_jobs(bigint[], timestamptz, int, int, int) security definer;
alter function @schema@.cancel_jobs(bigint[], text, boolean) security definer;
alter function @schema@.retry_jobs(bigint[]) security definer;

create function @schema@.run_jobs_now(job_ids bigint[]) returns setof bigint
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select moved.id
    from @schema@.reschedule_jobs(
        array(
            select j.id
            from @schema@.jobs j
            where j.id = any (job_ids) and j.locked_at is null and j.attempts < j.max_attempts and j.run_at > now()
            order by j.id
            for update
        ),
        run_at := now()
    ) moved
$$;

comment on function @schema@.run_jobs_now(bigint[]) is 'Make delayed jobs due now, with the attempts that are left.';

revoke execute on function @schema@.run_jobs_now(bigint[]) from public;
