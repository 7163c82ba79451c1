-- Explain cancelled and expired jobs.

create or replace function @schema@.explain_end(job @schema@.jobs)
    returns table (code text, reason text, since timestamptz, until timestamptz, job_ids bigint[])
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select
        case when job.exhausted then coalesce(job.ended_as, 'attempts_used_up') else 'expired' end,
        case
            when not job.exhausted then
                format('expired at %s: the next claim ends it', @schema@.format_utc(job.expires_at))
            when job.ended_as = 'cancelled' then 'cancelled, until it is retried'
            when job.ended_as = 'expired' then format(
                'expired%s: it was not started in time, and runs only if it is retried',
                coalesce(' at ' || @schema@.format_utc(job.expires_at), '')
            )
            when job.locked_at is null then 'attempts used up: it has permanently failed, until it is retried'
            else format(
                'attempts used up: %s died in the last one, and a worker will mark it as permanently failed',
                job.locked_by
            )
        end,
        case when job.exhausted then job.updated_at else job.expires_at end, null::timestamptz, null::bigint[]
    where job.exhausted or job.expires_at <= now()
$$;

revoke execute on all functions in schema @schema@ from public;
