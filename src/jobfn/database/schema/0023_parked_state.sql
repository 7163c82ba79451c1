-- Parked jobs are a state of their own: for those that wait for a result, and for the metrics of workers.

create or replace function @schema@.job_result(job_id bigint) returns text
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (
            select json_build_object(
                'state', 'completed', 'result', r.result, 'storage_error', r.storage_error
            )::text
            from @schema@.job_results r
            where r.job_id = job_result.job_id and r.expires_at > now()
        ),
        (
            select json_build_object(
                'state', case
                    when j.locked_at is not null then 'running'
                    when j.exhausted then 'failed'
                    when j.parked_attempt = j.attempts and j.run_at > now() then 'parked'
                    else 'waiting'
                end,
                'attempts', j.attempts - coalesce(j.snoozes, 0),
                'error', j.last_error
            )::text
            from @schema@.jobs j
            where j.id = job_result.job_id
        ),
        '{"state": "gone"}'
    )
$$;

select @schema@.grant_like('jobs.exhausted', '{jobs}', 'select (attempts, parked_attempt)');
