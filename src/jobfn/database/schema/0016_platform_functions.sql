-- Functions of the platform that its users call: remove_job, force_unlock_workers, and those of hand-written triggers.

create function @schema@.remove_job(job_key text) returns @schema@.jobs
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job @schema@.jobs;
begin
    select removed.* into v_job
    from @schema@.jobs j
    cross join lateral @schema@.complete_jobs(array[j.id]) removed
    where j.key = job_key;
    if found then
        return v_job;
    end if;
    -- A worker runs it. As when another job takes the key: this one is not retried.
    update @schema@.jobs j
    set key = null,
        max_attempts = greatest(j.attempts, 1),
        snoozing_since = '-infinity',
        updated_at = now()
    where j.key = job_key
    returning j.* into v_job;
    return v_job;
end
$$;

comment on function @schema@.remove_job(text) is
    'Delete the job with a key. If a worker runs it, it loses the key and is not retried. All null if there is none.';

create function @schema@.force_unlock_workers(worker_ids text[]) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    with lost as materialized (
        select j.*, format('the worker %s was unlocked by hand', j.locked_by) as reason
        from @schema@.jobs j
        where j.locked_by = any (worker_ids)
        order by j.id
        for update
    ),
    recorded as (
        insert into @schema@.job_runs
        select lost.id, lost.attempts, lost.task_identifier, lost.queue_name, lost.database_id, lost.locked_by,
            lost.created_at, lost.run_at, lost.locked_at, now(), 'lost', lost.reason
        from lost
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
    set last_error = case when j.exhausted then lost.reason else j.last_error end,
        fenced_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from lost
    where j.id = lost.id;
    delete from @schema@.queue_locks l where l.locked_by = any (worker_ids); -- locked by hand
    perform pg_notify('jobs:insert', '');
end
$$;

comment on function @schema@.force_unlock_workers(text[]) is
    'Unlock the jobs and queues of workers that have died. The attempts count. Late reports change nothing.';

-- For triggers that people write by hand, as on the platform:
--
--     create trigger ... after insert on invoices
--         for each row execute function app_jobs.tg_add_job_with_row_id('process_invoice');
--
-- They run with the rights of their owner, so that who writes to the table needs no right to enqueue. A role that
-- creates such a trigger needs the right to execute the function. Casts of the table's types then run with the owner's
-- rights as well, so --grant-enqueue does not grant it.

create function @schema@.tg_add_job_with_row_id() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'DELETE' then
        perform @schema@.add_job(tg_argv[0], json_build_object('id', old.id));
        return old;
    end if;
    perform @schema@.add_job(tg_argv[0], json_build_object('id', new.id));
    return new;
end
$$;

comment on function @schema@.tg_add_job_with_row_id() is
    'Enqueue a job of the task in the trigger''s argument, with the payload {"id": ...}.';

create function @schema@.tg_add_job_with_row() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'DELETE' then
        perform @schema@.add_job(tg_argv[0], to_json(old));
        return old;
    end if;
    perform @schema@.add_job(tg_argv[0], to_json(new));
    return new;
end
$$;

comment on function @schema@.tg_add_job_with_row() is
    'Enqueue a job of the task in the trigger''s argument, with the row as its payload.';

create function @schema@.trigger_job_with_fields() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_fields text[] := '{}'; -- names and values
    v_value text;
begin
    for v_index in 1..tg_nargs - 1 loop
        -- parse_ident: a name without quotes means the column in lower case, as in a statement
        if tg_op = 'DELETE' then
            execute format('select ($1).%I::text', (parse_ident(tg_argv[v_index]))[1]) into v_value using old;
        else
            execute format('select ($1).%I::text', (parse_ident(tg_argv[v_index]))[1]) into v_value using new;
        end if;
        v_fields := v_fields || array[tg_argv[v_index], coalesce(v_value, '')];
    end loop;
    perform @schema@.add_job(tg_argv[0], json_object(v_fields));
    if tg_op = 'DELETE' then
        return old;
    end if;
    return new;
end
$$;

comment on function @schema@.trigger_job_with_fields() is
    'Enqueue a job of the task in the trigger''s first argument, with the columns in its other arguments as the '
    'payload. As on the platform, each value is text, and null is an empty text.';

revoke execute on all functions in schema @schema@ from public;
