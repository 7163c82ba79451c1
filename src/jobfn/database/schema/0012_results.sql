-- What handlers returned, for tasks that keep it: so that whoever enqueued a job can wait for its end.

create table @schema@.job_results (
    job_id bigint primary key,
    result json, -- null where there is a problem
    problem text, -- why the result itself could not be kept
    ended_at timestamptz not null default now(),
    expires_at timestamptz not null
);

comment on table @schema@.job_results is
    'Ours: how jobs of tasks with keep_result ended, until expires_at. Read it through job_result().';

create index job_results_expires_at_idx on @schema@.job_results (expires_at);

create function @schema@.settle_and_keep(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[],
    results json[],
    problems text[],
    keep_seconds float8[] -- null: this one's result is not kept
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
    v_settled bigint[] := '{}';
    v_kept bigint;
begin
    for v_job in
        select * from @schema@.settle_held_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
    loop
        v_settled := v_settled || v_job.id;
        return next v_job;
    end loop;
    for v_kept in
        insert into @schema@.job_results as r (job_id, result, problem, expires_at)
        select told.job_id, told.result, told.problem, now() + told.keep_seconds * interval '1 second'
        from unnest(job_ids, outcomes, results, problems, keep_seconds)
            as told (job_id, outcome, result, problem, keep_seconds)
        where told.keep_seconds is not null and told.outcome = 'completed' and told.job_id = any (v_settled)
        on conflict (job_id) do nothing
        returning r.job_id
    loop
        perform pg_notify('jobs:result', v_kept::text);
    end loop;
    -- Whoever keeps results also clears some away, so that nobody need come by to do it.
    delete from @schema@.job_results r
    where r.job_id in (
        select old.job_id from @schema@.job_results old
        where old.expires_at < now()
        order by old.expires_at
        limit 100
        for update skip locked
    );
end
$$;

comment on function
    @schema@.settle_and_keep(text[], bigint[], int[], text[], text[], interval[], json[], text[], float8[]) is
    'As settle_held_jobs, and keep what the completed ones returned. Notifies jobs:result with each id.';

create function @schema@.job_result(job_id bigint) returns text
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (
            select json_build_object('state', 'completed', 'kept', true, 'result', r.result, 'problem', r.problem)::text
            from @schema@.job_results r
            where r.job_id = job_result.job_id and r.expires_at > now()
        ),
        (
            select json_build_object(
                'state', case
                    when j.locked_at is not null then 'running'
                    when j.exhausted then 'failed'
                    else 'waiting'
                end,
                'attempts', j.attempts,
                'error', j.last_error
            )::text
            from @schema@.jobs j
            where j.id = job_result.job_id
        ),
        '{"state": "gone"}'
    )
$$;

comment on function @schema@.job_result(bigint) is
    'How a job stands, as JSON text: its state, and what it returned where that is kept.';

revoke execute on function
    @schema@.settle_and_keep(text[], bigint[], int[], text[], text[], interval[], json[], text[], float8[]),
    @schema@.job_result(bigint)
    from public;
