-- Adding many jobs is cheaper. The index by task holds a hash of its name: comparing that with others on the way to its
-- place took longer than all else about the entry. 64 bits of it, so that two tasks of one hash are nobody's concern; a
-- claim looks at the name, too.

drop index @schema@.jobs_task_order_idx;

create index jobs_task_order_idx on @schema@.jobs (hashtextextended(task_identifier, 0), priority, run_at, id)
    where queue_name is null and not exhausted;

create or replace function @schema@.ready_jobs_of_task(task text, expired timestamptz, max_jobs int) returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0);
    v_ids bigint[] := '{}';
    v_priority bigint := -2147483649; -- below the lowest int
begin
    -- One priority after the other, as ready_jobs does.
    for v_step in 1..16 loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
        order by j.priority
        limit 1;
        if not found then
            return v_ids;
        end if;
        v_ids := v_ids || array(
            select j.id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
                and j.priority = v_priority
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_ids)
            for update skip locked
        );
        if cardinality(v_ids) >= max_jobs then
            return v_ids;
        end if;
    end loop;
    return v_ids || array(
        select j.id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired))
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_ids)
        for update skip locked
    );
end
$$;

create or replace function @schema@.tasks_waiting(most int) returns text[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive task (name, hash) as (
        (
            select j.task_identifier, hashtextextended(j.task_identifier, 0)
            from @schema@.jobs j
            where j.queue_name is null and not j.exhausted
            order by hashtextextended(j.task_identifier, 0)
            limit 1
        )
        union all
        select following.task_identifier, following.hash
        from task
        cross join lateral (
            select j.task_identifier, hashtextextended(j.task_identifier, 0) as hash
            from @schema@.jobs j
            where j.queue_name is null and not j.exhausted and hashtextextended(j.task_identifier, 0) > task.hash
            order by hashtextextended(j.task_identifier, 0)
            limit 1
        ) following
    )
    select array(select task.name from task limit most)
$$;

create or replace function @schema@.add_jobs(
    identifier text,
    payloads json[],
    job_keys text[] default null, -- as long as payloads, or null for none at all; so are the next two
    queue_names text[] default null,
    run_ats timestamptz[] default null,
    max_attempts int default 25,
    priority int default 0,
    db_id uuid default null -- null: the session's tenant
) returns bigint[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_database_id uuid := coalesce(db_id, @schema@.session_claim('jwt.claims.database_id'));
    v_actor_id uuid := @schema@.session_claim('jwt.claims.user_id');
    v_max_attempts int := coalesce(add_jobs.max_attempts, 25);
    v_priority int := coalesce(add_jobs.priority, 0);
    -- As the defaults of these columns are, but once for all jobs and not for each.
    v_traceparent text := substring(
        current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
    );
    v_tracestate text := case
        when octet_length(current_setting('jobfn.tracestate', true)) <= 512
        then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
    end;
    v_ids bigint[];
    v_keyed jsonb;
    v_entry record;
begin
    if coalesce(cardinality(payloads), 0) = 0 then
        return '{}';
    end if;
    if exists (
        select from (values (cardinality(job_keys)), (cardinality(queue_names)), (cardinality(run_ats))) as given (length)
        where length <> cardinality(payloads)
    ) then
        raise exception 'add_jobs: job_keys, queue_names and run_ats have one element for each payload, or are null'
            using errcode = 'array_subscript_error';
    end if;

    if coalesce(cardinality(array_remove(job_keys, null)), 0) = 0 then
        with added as (
            insert into @schema@.jobs (
                database_id, actor_id, task_identifier, payload, queue_name, run_at, max_attempts, priority,
                traceparent, tracestate
            )
            select
                v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.queue_name,
                coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate
            from unnest(payloads, queue_names, run_ats) with ordinality
                as entry (payload, queue_name, run_at, place)
            order by entry.place -- ids are given in this order
            returning id
        )
        select array_agg(added.id order by added.id) into v_ids from added;
        return v_ids;
    end if;

    -- A job of one of the keys that runs loses it, and its further attempts, to the new one.
    update @schema@.jobs j
    set key = null, max_attempts = greatest(j.attempts, 1), updated_at = now()
    where j.key = any (job_keys) and j.locked_at is not null;

    -- A key that comes twice is one job, as if the second had replaced the first: the first's place, the last's values.
    with entries as (
        select
            entry.*,
            min(entry.place) over (partition by entry.key) as first_place,
            max(entry.place) over (partition by entry.key) as last_place
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, place)
    ),
    added as (
        insert into @schema@.jobs as j (
            database_id, actor_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority,
            traceparent, tracestate
        )
        select
            v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.key,
            entry.queue_name, coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate
        from entries entry
        where entry.key is null or entry.place = entry.last_place
        order by case when entry.key is null then entry.place else entry.first_place end
        on conflict (key) do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = null,
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
        returning j.id, j.key
    )
    select
        array_agg(added.id order by added.id) filter (where added.key is null),
        coalesce(jsonb_object_agg(added.key, added.id) filter (where added.key is not null), '{}')
    into v_ids, v_keyed
    from added;

    -- What a worker claimed between the two statements above goes the slow way.
    for v_entry in
        select distinct on (entry.key) entry.*
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, place)
        where entry.key is not null and not v_keyed ? entry.key
        order by entry.key, entry.place desc
    loop
        v_keyed := v_keyed || jsonb_build_object(v_entry.key, (@schema@.insert_job(
            v_database_id, v_actor_id, null, add_jobs.identifier, v_entry.payload, v_entry.key, v_entry.queue_name,
            v_entry.run_at, v_max_attempts, v_priority
        )).id);
    end loop;

    return (
        select array_agg(
            case when entry.key is null then v_ids[entry.rank] else (v_keyed ->> entry.key)::bigint end
            order by entry.place
        )
        from (
            select listed.*, count(*) filter (where listed.key is null) over (order by listed.place) as rank
            from unnest(job_keys) with ordinality as listed (key, place)
        ) entry
    );
end
$$;
