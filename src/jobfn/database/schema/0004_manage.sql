-- For people and tools, on jobs that nobody holds (or whose holder has been gone for four hours).

create function @schema@.complete_jobs(job_ids bigint[]) returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    delete from @schema@.jobs j
    where j.id = any (job_ids) and (j.locked_by is null or j.locked_at < now() - interval '4 hours')
    returning j.*
$$;

comment on function @schema@.complete_jobs(bigint[]) is 'Remove jobs that nobody holds, as if they had run.';

create function @schema@.permanently_fail_jobs(job_ids bigint[], error_message text default null)
    returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.jobs j
    set last_error = coalesce(error_message, 'Failed by hand, without a reason given'),
        attempts = j.max_attempts,
        updated_at = now()
    where j.id = any (job_ids) and (j.locked_by is null or j.locked_at < now() - interval '4 hours')
    returning j.*
$$;

comment on function @schema@.permanently_fail_jobs(bigint[], text) is
    'Use up the attempts of jobs that nobody holds, with a reason.';

create function @schema@.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz default null,
    priority int default null,
    attempts int default null,
    max_attempts int default null
) returns setof @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    update @schema@.jobs j
    set run_at = coalesce(reschedule_jobs.run_at, j.run_at),
        priority = coalesce(reschedule_jobs.priority, j.priority),
        attempts = coalesce(reschedule_jobs.attempts, j.attempts),
        max_attempts = coalesce(reschedule_jobs.max_attempts, j.max_attempts),
        updated_at = now()
    where j.id = any (job_ids) and (j.locked_by is null or j.locked_at < now() - interval '4 hours')
    returning j.*;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.reschedule_jobs(bigint[], timestamptz, int, int, int) is
    'Change when and how often jobs that nobody holds will run; null leaves a value as it is.';
