-- The platform's own functions for people and tools (contract, section 3). Completes database/platform.sql.
create function app_jobs.unheld(job app_jobs.jobs) returns boolean language sql as $$
    select job.locked_by is null or job.locked_at < now() - interval '4 hours'
$$;

create function app_jobs.complete_jobs(job_ids bigint[]) returns setof app_jobs.jobs language sql as $$
    delete from app_jobs.jobs j where j.id = any (job_ids) and app_jobs.unheld(j) returning *
$$;

create function app_jobs.permanently_fail_jobs(job_ids bigint[], error_message text default null)
returns setof app_jobs.jobs language sql as $$
    update app_jobs.jobs j set last_error = coalesce(error_message, 'by hand'), attempts = max_attempts
    where j.id = any (job_ids) and app_jobs.unheld(j) returning *
$$;

create function app_jobs.reschedule_jobs(
    job_ids bigint[], run_at timestamptz default null, priority int default null, attempts int default null,
    max_attempts int default null
) returns setof app_jobs.jobs language sql as $$
    update app_jobs.jobs j
    set run_at = coalesce(reschedule_jobs.run_at, j.run_at),
        priority = coalesce(reschedule_jobs.priority, j.priority),
        attempts = coalesce(reschedule_jobs.attempts, j.attempts),
        max_attempts = coalesce(reschedule_jobs.max_attempts, j.max_attempts)
    where j.id = any (job_ids) and app_jobs.unheld(j) returning *
$$;
