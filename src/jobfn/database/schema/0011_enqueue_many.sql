-- Many jobs in one statement: what add_job does for each of them, in their order.

create function @schema@.add_jobs(
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
                database_id, actor_id, task_identifier, payload, queue_name, run_at, max_attempts, priority
            )
            select
                v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.queue_name,
                coalesce(entry.run_at, now()), v_max_attempts, v_priority
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
            database_id, actor_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority
        )
        select
            v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.key,
            entry.queue_name, coalesce(entry.run_at, now()), v_max_attempts, v_priority
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

comment on function @schema@.add_jobs(text, json[], text[], text[], timestamptz[], int, int, uuid) is
    'Enqueue many jobs of one task, as add_job would one after the other. Returns their ids, in the order of the payloads.';

revoke execute on function @schema@.add_jobs(text, json[], text[], text[], timestamptz[], int, int, uuid) from public;
