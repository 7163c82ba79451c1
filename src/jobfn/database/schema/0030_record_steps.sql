-- record_steps with both changes: the lock of the queue is renewed, and a step that is recorded already keeps its result.

create or replace function @schema@.record_steps(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    lease interval,
    positions int[],
    names text[],
    kinds text[],
    states text[],
    wait_groups int[],
    results json[],
    errors text[],
    seconds double precision[],
    specs json[]
) returns table (job_id bigint, step_position int, name text, state text, result json)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set jit = off
as $$
#variable_conflict use_column
declare
    v_held bigint[] := @schema@.lock_held_jobs(worker_ids, job_ids, job_attempts);
    v_entry record;
    v_step @schema@.job_steps;
    v_job @schema@.jobs;
    v_inserted int;
    v_is_repeated boolean;
begin
    if cardinality(v_held) = 0 then
        return;
    end if;
    update @schema@.jobs j
    set has_steps = true,
        lease_expires_at = case when j.lease_expires_at is not null then now() + lease end
    where j.id = any (v_held) and (j.has_steps is null or j.lease_expires_at < now() + lease / 2);
    if found then
        update @schema@.queue_locks l
        set lease_expires_at = j.lease_expires_at
        from @schema@.jobs j
        where j.id = any (v_held)
            and l.queue_name = j.queue_name
            and l.job_id = j.id
            and l.lease_expires_at < j.lease_expires_at;
    end if;

    -- A step that is sent again, because its response was lost, changes nothing.
    insert into @schema@.job_steps (
        job_id, position, name, kind, state, result, error, attempt, started_at, ended_at
    )
    select entry.job_id, entry.position, entry.name, 'step', entry.state, entry.result, entry.error, entry.attempt,
        clock_timestamp() - entry.seconds * interval '1 second', clock_timestamp()
    from unnest(job_ids, job_attempts, positions, names, kinds, states, results, errors, seconds)
        as entry (job_id, attempt, position, name, kind, state, result, error, seconds)
    where entry.kind = 'step' and entry.job_id = any (v_held)
    on conflict do nothing;
    get diagnostics v_inserted = row_count;
    v_is_repeated := v_inserted < (
        select count(*) from unnest(job_ids, kinds) as entry (job_id, kind)
        where entry.kind = 'step' and entry.job_id = any (v_held)
    );

    for v_entry in
        select entry.*
        from unnest(job_ids, job_attempts, positions, names, kinds, wait_groups, specs)
            as entry (job_id, attempt, position, name, kind, wait_group, spec)
        where entry.kind <> 'step' and entry.job_id = any (v_held)
        order by entry.job_id, entry.position
    loop
        perform from @schema@.job_steps s where s.job_id = v_entry.job_id and s.position = v_entry.position;
        continue when found;
        v_step := null;
        v_step.job_id := v_entry.job_id;
        v_step.position := v_entry.position;
        v_step.name := v_entry.name;
        v_step.kind := v_entry.kind;
        v_step.state := 'waiting';
        v_step.wait_group := coalesce(v_entry.wait_group, v_entry.position);
        v_step.attempt := v_entry.attempt;
        v_step.started_at := now();
        case v_entry.kind
            when 'sleep', 'wait' then
                v_step.wake_at := coalesce(
                    (v_entry.spec ->> 'until')::timestamptz,
                    now() + (v_entry.spec ->> 'seconds')::float8 * interval '1 second'
                );
                if v_entry.kind = 'wait' then
                    v_step.event := v_entry.spec ->> 'event';
                    delete from @schema@.job_signals g
                    where g.job_id = v_step.job_id and g.id = (
                        select min(oldest.id) from @schema@.job_signals oldest
                        where oldest.job_id = v_step.job_id and oldest.event = v_step.event
                    )
                    returning g.payload into v_step.result;
                    if found then
                        v_step.state := 'completed';
                    end if;
                elsif v_step.wake_at <= now() then
                    v_step.state := 'completed';
                end if;
            when 'call' then
                select j.* into v_job from @schema@.jobs j where j.id = v_step.job_id;
                if @schema@.call_depth(v_step.job_id) >= 20 then
                    raise exception 'call %: 20 jobs above this one wait for it already', v_step.name
                        using errcode = 'program_limit_exceeded', hint = 'Call tasks from a job that is less deep.';
                end if;
                v_step.child_id := @schema@.insert_child(v_job, v_entry.spec, v_step.position);
            when 'then' then
                v_step.result := v_entry.spec; -- insert_child gets it when the job has completed
                v_step.wait_group := null;
        end case;
        if v_step.state = 'completed' then
            v_step.ended_at := now();
        end if;
        insert into @schema@.job_steps values (v_step.*);
    end loop;

    return query
    select s.job_id, s.position, s.name, s.state, case when s.kind = 'wait' or v_is_repeated then s.result end
    from unnest(job_ids, positions) as entry (job_id, position)
    join @schema@.job_steps s on s.job_id = entry.job_id and s.position = entry.position
    where entry.job_id = any (v_held);
end
$$;
