-- Which trace a job belongs to: W3C Trace Context, as its headers carry it. Whoever enqueues says so by two settings,
-- and jobs that triggers make in the same transaction inherit them:
--
--     select set_config('jobfn.traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', true);
--
-- As defaults, so that every way of inserting a job has them. What is malformed counts as not said.
alter table @schema@.jobs
    add column traceparent text,
    add column tracestate text,
    alter column traceparent set default substring(
        current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
    ),
    alter column tracestate set default case
        when octet_length(current_setting('jobfn.tracestate', true)) <= 512 -- as long as the standard has it
        then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
    end;

comment on column @schema@.jobs.traceparent is
    'Ours: the trace that the job is a part of; from the setting jobfn.traceparent when it is added.';

-- As it was, but that a waiting job which is replaced is of another trace from then on.
create or replace function @schema@.insert_job(
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    identifier text,
    payload json,
    job_key text,
    queue_name text,
    run_at timestamptz,
    max_attempts int,
    priority int
) returns @schema@.jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_job @schema@.jobs;
begin
    loop
        insert into @schema@.jobs as j (
            database_id, actor_id, entity_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority
        ) values (
            insert_job.database_id,
            insert_job.actor_id,
            insert_job.entity_id,
            insert_job.identifier,
            coalesce(insert_job.payload, '{}'),
            insert_job.job_key,
            insert_job.queue_name,
            coalesce(insert_job.run_at, now()),
            coalesce(insert_job.max_attempts, 25),
            coalesce(insert_job.priority, 0)
        )
        on conflict (key) do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = excluded.entity_id,
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            updated_at = now()
        where j.locked_at is null
        returning j.* into v_job;
        if found then
            return v_job;
        end if;
        update @schema@.jobs j
        set key = null, max_attempts = greatest(j.attempts, 1), updated_at = now()
        where j.key = insert_job.job_key and j.locked_at is not null;
    end loop;
end
$$;
