-- Jobs that all went well, which is what a batch mostly is, are settled by one statement instead of one each.

alter function @schema@.settle_held_jobs(text[], bigint[], int[], text[], text[], interval[])
    rename to settle_one_by_one;

comment on function @schema@.settle_one_by_one(text[], bigint[], int[], text[], text[], interval[]) is
    'Settle jobs that ended in various ways. A part of settle_held_jobs.';

create function @schema@.settle_held_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[]
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as settle_one_by_one
    set enable_hashjoin = off -- one job after the other, by the primary key,
    set enable_mergejoin = off -- in the order of their ids, as settle_one_by_one does it
    set jit = off
as $$
declare
    v_keeps boolean := @schema@.keeps_history();
begin
    if outcomes <> array_fill('completed'::text, array[cardinality(outcomes)]) then
        return query
        select * from @schema@.settle_one_by_one(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays);
        return;
    end if;
    return query
    with settled as materialized (
        select ended.*
        from unnest(worker_ids, job_ids, job_attempts) as ended (worker_id, job_id, attempt)
        order by ended.job_id
    ),
    gone as (
        delete from @schema@.jobs j
        using settled
        where j.id = settled.job_id
            and j.locked_by = settled.worker_id
            and (settled.attempt is null or j.attempts = settled.attempt)
        returning j.*
    ),
    noted as (
        insert into @schema@.job_runs
        select gone.id, gone.attempts, gone.task_identifier, gone.queue_name, gone.database_id, gone.locked_by,
            gone.created_at, gone.run_at, gone.locked_at, now(), 'completed', null
        from gone
        where v_keeps
    )
    select gone.* from gone;
end
$$;

comment on function @schema@.settle_held_jobs(text[], bigint[], int[], text[], text[], interval[]) is
    'Write down how the jobs that these workers hold ended, each in the given attempt (null: in any). '
    'Returns those that were held so.';

revoke execute on function @schema@.settle_held_jobs(text[], bigint[], int[], text[], text[], interval[]) from public;
