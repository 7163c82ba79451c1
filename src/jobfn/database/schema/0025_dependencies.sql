-- Jobs that wait until other jobs have ended: add_job_after and add_batch. An overload of add_job would make calls with
-- untyped literals ambiguous.
--
-- A dependent is parked before its first attempt: unlocked, and due at infinity. Its dependencies are awaited, as the
-- children of durable functions are, so only their ends cost something.

create table @schema@.job_dependencies (
    job_id bigint not null,
    dependency_id bigint not null,
    run_at timestamptz not null,
    ignores_failure boolean not null,
    has_ended boolean not null default false,
    error text,
    constraint job_dependencies_pkey primary key (dependency_id, job_id)
);

comment on table @schema@.job_dependencies is 'The jobs that waiting jobs depend on, until these are due or have failed.';
comment on column @schema@.job_dependencies.run_at is 'The time before which the dependent must not run.';
comment on column @schema@.job_dependencies.ignores_failure is
    'Whether the dependent also runs if this dependency does not complete.';
comment on column @schema@.job_dependencies.error is 'Why the dependent fails.';

create index job_dependencies_job_id_idx on @schema@.job_dependencies (job_id, has_ended);

create function @schema@.release_dependents(job_ids bigint[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
begin
    -- As in wake_parked_jobs: of two transactions that end the last two dependencies, the second one waits here, and its
    -- next statement sees that the first dependency has ended.
    perform from @schema@.jobs j where j.id = any (job_ids) order by j.id for no key update;
    with failed as materialized (
        select distinct on (d.job_id) d.job_id, d.error
        from @schema@.job_dependencies d
        where d.job_id = any (job_ids) and d.error is not null
        order by d.job_id, d.dependency_id
    ),
    forgotten as (
        delete from @schema@.job_dependencies d using failed where d.job_id = failed.job_id
    ),
    ended as (
        update @schema@.jobs j
        set last_error = failed.error, attempts = j.max_attempts, parked_attempt = null, run_at = now(), updated_at = now()
        from failed
        where j.id = failed.job_id and j.locked_at is null and j.parked_attempt = 0 and j.attempts = 0
        returning j.*
    )
    insert into @schema@.job_runs
    select ended.id, ended.attempts, ended.task_identifier, ended.queue_name, ended.database_id, null,
        ended.created_at, ended.run_at, null, now(), 'permanently_failed', ended.last_error
    from ended
    where @schema@.history_enabled();
    with complete as materialized (
        select given.id
        from unnest(job_ids) as given (id)
        where not exists (
            select from @schema@.job_dependencies d where d.job_id = given.id and not d.has_ended
        )
    ),
    forgotten as (
        delete from @schema@.job_dependencies d using complete where d.job_id = complete.id
        returning d.job_id, d.run_at
    )
    update @schema@.jobs j
    set run_at = greatest(released.run_at, now()), parked_attempt = null, updated_at = now()
    from (select forgotten.job_id, max(forgotten.run_at) as run_at from forgotten group by forgotten.job_id) released
    where j.id = released.job_id and j.locked_at is null and j.parked_attempt = 0 and j.attempts = 0;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.release_dependents(bigint[]) is
    'Make those jobs due whose dependencies have all ended, and fail those with a dependency that did not complete. Jobs '
    'that another add_job with their key has replaced, or that run already, do not change.';

-- Another add_job with the key of a dependent replaces it, and its dependencies.
create function @schema@.tg_replace_dependent() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update @schema@.jobs j set parked_attempt = null where j.id = new.id;
    delete from @schema@.job_dependencies d where d.job_id = new.id;
    return null;
end
$$;

create trigger _700_replace_dependent
    after update of task_identifier on @schema@.jobs
    for each row when (old.parked_attempt = 0)
    execute function @schema@.tg_replace_dependent();

-- As before, and for dependents. A dependent that fails ends as well, and others may depend on it: in a loop, because a
-- long chain would be too deep for recursion.
create or replace function @schema@.end_calls() returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_ended text := current_setting('jobfn.ended_jobs', true);
    v_children bigint[];
    v_dependents bigint[];
    v_parents bigint[];
    v_groups int[];
begin
    if coalesce(v_ended, '') = '' then
        return;
    end if;
    lock table @schema@.job_steps, @schema@.job_dependencies in row exclusive mode; -- before reading, for REINDEX
    perform set_config('jobfn.collects_ended_jobs', 'on', true);
    loop
        perform set_config('jobfn.ended_jobs', '', true);
        v_children := string_to_array(v_ended, ',')::bigint[];
        perform from @schema@.jobs j
        where j.id = any (array(
            select s.job_id
            from unnest(v_children) as ended (id)
            join @schema@.job_steps s on s.child_id = abs(ended.id)
            where s.state = 'waiting'
            union all
            select d.job_id
            from unnest(v_children) as ended (id)
            join @schema@.job_dependencies d on d.dependency_id = abs(ended.id)
        ))
        order by j.id
        for no key update;
        with outcome as materialized (
            select abs(ended.id) as id, ended.id > 0 as is_completed, case
                    when ended.id > 0 then null
                    when j.id is null then 'it was removed'
                    else coalesce(j.last_error, 'it failed without an error message')
                end as error
            from unnest(v_children) as ended (id)
            left join @schema@.jobs j on j.id = -ended.id
        ),
        call as (
            update @schema@.job_steps s
            set state = case when outcome.is_completed then 'completed' else 'failed' end,
                error = outcome.error,
                ended_at = now()
            from outcome
            where s.child_id = outcome.id and s.state = 'waiting'
            returning s.job_id, s.wait_group
        ),
        dependent as (
            update @schema@.job_dependencies d
            set has_ended = true,
                error = case
                    when not outcome.is_completed and not d.ignores_failure then format(
                        'the job %s, which this one depends on, did not complete: %s', outcome.id, outcome.error
                    )
                end
            from outcome
            where d.dependency_id = outcome.id and not d.has_ended
            returning d.job_id
        )
        select
            (select array_agg(call.job_id order by call.job_id, call.wait_group) from call),
            (select array_agg(call.wait_group order by call.job_id, call.wait_group) from call),
            (select array_agg(distinct dependent.job_id) from dependent)
        into v_parents, v_groups, v_dependents;
        if v_parents is not null then
            perform @schema@.wake_parked_jobs(v_parents, v_groups);
        end if;
        if v_dependents is not null then
            perform @schema@.release_dependents(v_dependents);
        end if;
        v_ended := current_setting('jobfn.ended_jobs', true);
        exit when v_ended = '';
    end loop;
    perform set_config('jobfn.collects_ended_jobs', '', true);
end
$$;

create function @schema@.add_job_after(
    identifier text,
    depends_on bigint[],
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0,
    entity_id uuid default null,
    organization_id uuid default null,
    entity_type text default null,
    ignore_failures boolean default false
) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
#variable_conflict use_column
declare
    v_ids constant bigint[] := array(select distinct given.id from unnest(depends_on) as given (id) order by given.id);
    v_unknown bigint;
    v_waiting bigint[];
    v_job @schema@.job_row;
begin
    if depends_on is null or array_position(v_ids, null) is not null or ignore_failures is null then
        raise null_value_not_allowed using
            message = 'add_job_after: depends_on must be an array of job ids without null, and ignore_failures not null';
    end if;
    if cardinality(v_ids) > 10000 then
        raise program_limit_exceeded using
            message = 'add_job_after: depends_on has more than 10,000 jobs',
            hint = 'Let some jobs depend on a part each, and one job on these.';
    end if;
    select given.id into v_unknown
    from unnest(v_ids) as given (id), @schema@.jobs_id_seq s
    where given.id < 1 or given.id > s.last_value
    limit 1;
    if found then
        raise foreign_key_violation using message = format('add_job_after: depends_on has the id %s, which no job has', v_unknown);
    end if;
    -- A dependency that is just ending is waited for. Then its row is gone, or has failed.
    v_waiting := array(
        select locked.id
        from (select j.id from @schema@.jobs j where j.id = any (v_ids) order by j.id for no key update) locked
    );
    v_job := @schema@.insert_job(
        @schema@.jwt_claim('jwt.claims.database_id'), @schema@.jwt_claim('jwt.claims.user_id'), entity_id,
        identifier, payload, job_key, queue_name, case when v_waiting = '{}' then run_at else 'infinity' end,
        max_attempts, priority, organization_id, entity_type
    );
    if job_key is not null then
        perform from (
            with recursive upstream (id) as (
                select given.id from unnest(v_waiting) as given (id)
                union
                select d.dependency_id from upstream join @schema@.job_dependencies d on d.job_id = upstream.id
            )
            select from upstream where upstream.id = v_job.id
        ) cycle;
        if found then
            raise check_violation using
                message = format('add_job_after: depends_on of the job with the key %s leads back to it', job_key);
        end if;
    end if;
    if v_waiting = '{}' then
        return v_job;
    end if;
    update @schema@.jobs j set parked_attempt = 0 where j.id = v_job.id;
    insert into @schema@.job_dependencies
    select v_job.id, j.id, coalesce(add_job_after.run_at, now()), ignore_failures, j.exhausted and j.locked_at is null,
        case
            when j.exhausted and j.locked_at is null and not ignore_failures then format(
                'the job %s, which this one depends on, did not complete: %s',
                j.id, coalesce(j.last_error, 'it failed without an error message')
            )
        end
    from @schema@.jobs j
    where j.id = any (v_waiting);
    update @schema@.jobs j set is_awaited = true
    where j.id = any (v_waiting) and j.is_awaited is null and not (j.exhausted and j.locked_at is null);
    perform from @schema@.job_dependencies d where d.job_id = v_job.id and d.has_ended;
    if found then
        perform @schema@.release_dependents(array[v_job.id]);
        select (@schema@.to_job_row(j)).* into v_job from @schema@.jobs j where j.id = v_job.id;
    end if;
    return v_job;
end
$$;

comment on function
    @schema@.add_job_after(text, bigint[], json, text, text, timestamptz, int, int, uuid, uuid, text, boolean) is
    'Enqueue a job that waits until other jobs have ended. It fails permanently if one of them does not complete, unless '
    'ignore_failures is set. A job that is gone counts as completed.';

create function @schema@.add_batch(
    identifier text,
    payloads json[],
    on_complete text,
    on_complete_payload json default '{}',
    job_keys text[] default null,
    queue_names text[] default null,
    run_ats timestamptz[] default null,
    max_attempts int default 25,
    priority int default 0,
    ignore_failures boolean default true
) returns table (job_ids bigint[], on_complete_id bigint)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if cardinality(payloads) > 10000 then
        raise program_limit_exceeded using
            message = 'add_batch: payloads has more than 10,000 jobs', hint = 'Add several batches.';
    end if;
    job_ids := @schema@.add_jobs(identifier, payloads, job_keys, queue_names, run_ats, max_attempts, priority);
    on_complete_id := (@schema@.add_job_after(
        identifier => on_complete, depends_on => job_ids, payload => on_complete_payload, priority => priority,
        ignore_failures => ignore_failures
    )).id;
    return next;
end
$$;

comment on function @schema@.add_batch(
    text, json[], text, json, text[], text[], timestamptz[], int, int, boolean
) is
    'Enqueue a job for each payload, and a job that runs when all of them have ended: with ignore_failures, also if some '
    'did not complete.';

select @schema@.grant_like('add_jobs', '{add_job_after, add_batch}');
select @schema@.grant_like('job_steps', '{job_dependencies}');

revoke execute on all functions in schema @schema@ from public;
