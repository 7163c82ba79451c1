-- Unique jobs, and debounced jobs with a maximum delay. Jobs without either use neither of these functions and tables.

create table @schema@.unique_jobs (
    key bytea primary key,
    job_id bigint,
    unique_until text not null,
    expires_at timestamptz,
    prune_at timestamptz not null,
    constraint unique_jobs_until_known check (unique_until in ('started', 'done', 'expired'))
);

create index unique_jobs_prune_at_idx on @schema@.unique_jobs (prune_at);

comment on table @schema@.unique_jobs is
    'The job that holds each unique key. Whether it still does follows from the job and from expires_at.';
comment on column @schema@.unique_jobs.key is 'A hash of the task, the tenant and the compared fields.';
comment on column @schema@.unique_jobs.job_id is 'Null only inside the transaction that adds the job.';
comment on column @schema@.unique_jobs.prune_at is 'When prune_unique_jobs looks at the row.';

create function @schema@.unique_job_key(identifier text, payload json, unique_by text[]) returns bytea
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_value jsonb := coalesce(payload, '{}')::jsonb;
begin
    if unique_by is not null then
        if unique_by <> '{}' and jsonb_typeof(v_value) <> 'object' then
            raise check_violation using message = format(
                'unique_by names fields, but the payload of a job of task %s is not a JSON object', quote_literal(identifier)
            );
        end if;
        v_value := (select jsonb_object_agg(given.field, v_value -> given.field) from unnest(unique_by) as given (field));
    end if;
    return sha256(convert_to(
        jsonb_build_array(
            identifier, @schema@.jwt_claim('jwt.claims.database_id'), unique_by is null, v_value
        )::text,
        'UTF8'
    ));
end
$$;

comment on function @schema@.unique_job_key(text, json, text[]) is
    'The unique key of a job: a hash of the task, the tenant, and the fields of the payload, or the whole payload.';

create function @schema@.check_unique(unique_for interval, unique_until text, unique_by text[], on_conflict text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem text := case
        when (unique_for is null) = (unique_until is null)
            then 'give either unique_for, an interval, or unique_until, which is started or done'
        when unique_until not in ('started', 'done') then 'unique_until must be started or done'
        when unique_for not between interval '1 millisecond' and interval '366 days'
            then 'unique_for must be an interval of 1 millisecond to 366 days'
        when cardinality(unique_by) > 32 then 'unique_by must have at most 32 fields'
        when array_position(unique_by, null) is not null then 'unique_by must not contain null'
        when on_conflict is null or on_conflict not in ('keep', 'replace', 'error')
            then 'on_conflict must be keep, replace or error'
    end;
begin
    if v_problem is not null then
        raise check_violation using message = v_problem;
    end if;
end
$$;

comment on function @schema@.check_unique(interval, text, text[], text) is
    'Raise an error if the options of a unique job are not valid.';

create function @schema@.holds_unique_key(holder @schema@.unique_jobs) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if holder.unique_until = 'expired' then
        return holder.expires_at > clock_timestamp();
    end if;
    -- A waiting job is locked, so that it starts after this transaction has ended and sees what it has changed.
    perform from @schema@.jobs j
    where j.id = holder.job_id
        and j.locked_at is null
        and not j.exhausted
        and (j.attempts = 0 or holder.unique_until = 'done')
    for no key update;
    if found or holder.unique_until = 'started' then
        return found;
    end if;
    return exists (
        select from @schema@.jobs j where j.id = holder.job_id and not (j.exhausted and j.locked_at is null)
    );
end
$$;

comment on function @schema@.holds_unique_key(@schema@.unique_jobs) is
    'Whether a job still holds its unique key. Locks a waiting job until the transaction ends.';

create function @schema@.insert_unique_job(
    unique_key bytea,
    unique_for interval,
    unique_until text,
    on_conflict text,
    identifier text,
    payload json,
    job_key text,
    queue_name text,
    run_at timestamptz,
    max_attempts int,
    priority int,
    entity_id uuid,
    organization_id uuid,
    entity_type text,
    depends_on bigint[],
    ignore_failures boolean,
    unique_by text[],
    out job_id bigint,
    out is_duplicate boolean
)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_until constant text := coalesce(insert_unique_job.unique_until, 'expired');
    v_expires_at constant timestamptz := clock_timestamp() + unique_for;
    v_prune_at constant timestamptz := coalesce(v_expires_at, clock_timestamp() + interval '1 hour');
    v_holder @schema@.unique_jobs;
begin
    is_duplicate := false;
    loop
        -- Waits for a transaction that has added the key and not ended.
        insert into @schema@.unique_jobs values (unique_key, null, v_until, v_expires_at, v_prune_at)
        on conflict (key) do nothing;
        exit when found;
        select * into v_holder from @schema@.unique_jobs u where u.key = unique_key;
        continue when not found;
        if @schema@.holds_unique_key(v_holder) and (
            v_holder.unique_until = 'expired'
            -- False if the job was replaced by its job key, with another payload.
            or exists (
                select
                from @schema@.jobs j
                where j.id = v_holder.job_id
                    and case when coalesce(unique_by, '{}') = '{}' or json_typeof(j.payload) = 'object' then
                        @schema@.unique_job_key(j.task_identifier, j.payload, unique_by) = unique_key
                    end
            )
        ) then
            job_id := v_holder.job_id;
            is_duplicate := true;
            if on_conflict = 'error' then
                raise unique_violation using
                    message = format(
                        'a job of task %s that is unique exists: job %s', quote_literal(identifier), job_id
                    ),
                    hint = 'on_conflict := ''keep'' returns it instead.';
            end if;
            if on_conflict = 'replace' then
                perform @schema@.replace_unique_job(
                    job_id, payload, queue_name, run_at, max_attempts, priority, entity_id, organization_id, entity_type
                );
            end if;
            return;
        end if;
        update @schema@.unique_jobs u
        set job_id = null, unique_until = v_until, expires_at = v_expires_at, prune_at = v_prune_at
        where u.key = unique_key and u.job_id is not distinct from v_holder.job_id;
        exit when found;
    end loop;
    if depends_on is null then
        job_id := (@schema@.insert_job(
            @schema@.jwt_claim('jwt.claims.database_id'), @schema@.jwt_claim('jwt.claims.user_id'), entity_id,
            identifier, payload, job_key, queue_name, run_at, max_attempts, priority, organization_id, entity_type
        )).id;
    else
        job_id := (@schema@.add_job_after(
            identifier => identifier, depends_on => depends_on, payload => payload, job_key => job_key,
            queue_name => queue_name, run_at => run_at, max_attempts => max_attempts, priority => priority,
            entity_id => entity_id, organization_id => organization_id, entity_type => entity_type,
            ignore_failures => ignore_failures
        )).id;
    end if;
    update @schema@.unique_jobs u set job_id = insert_unique_job.job_id where u.key = unique_key;
end
$$;

comment on function @schema@.insert_unique_job(
    bytea, interval, text, text, text, json, text, text, timestamptz, int, int, uuid, uuid, text, bigint[], boolean, text[]
) is
    'Insert a job unless another one holds its unique key. Part of add_unique_job and add_unique_jobs.';

create function @schema@.add_unique_job(
    identifier text,
    payload json default '{}',
    unique_for interval default null,
    unique_until text default null,
    unique_by text[] default null,
    on_conflict text default 'keep',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0,
    entity_id uuid default null,
    organization_id uuid default null,
    entity_type text default null,
    depends_on bigint[] default null,
    ignore_failures boolean default false
) returns table (job_id bigint, is_duplicate boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform @schema@.check_unique(unique_for, unique_until, unique_by, on_conflict);
    if depends_on is not null and on_conflict = 'replace' then
        raise feature_not_supported using
            message = 'add_unique_job: depends_on and on_conflict := ''replace'' exclude each other';
    end if;
    return query select * from @schema@.insert_unique_job(
        @schema@.unique_job_key(identifier, payload, unique_by), unique_for, unique_until, on_conflict,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, entity_id, organization_id,
        entity_type, depends_on, ignore_failures, unique_by
    );
end
$$;

comment on function @schema@.add_unique_job(
    text, json, interval, text, text[], text, text, text, timestamptz, int, int, uuid, uuid, text, bigint[], boolean
) is
    'Enqueue a job unless one with the same task, tenant and compared fields exists: added within unique_for, not '
    'started, or not done. Returns the id of the new or of the existing job.';

create function @schema@.add_unique_jobs(
    identifier text,
    payloads json[],
    unique_for interval default null,
    unique_until text default null,
    unique_by text[] default null,
    on_conflict text default 'keep',
    job_keys text[] default null,
    queue_names text[] default null,
    run_ats timestamptz[] default null,
    max_attempts int default 25,
    priority int default 0
) returns table (job_id bigint, is_duplicate boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_keys bytea[];
begin
    if exists (
        select
        from (values (cardinality(job_keys)), (cardinality(queue_names)), (cardinality(run_ats))) as given (length)
        where given.length <> cardinality(payloads)
    ) then
        raise exception 'add_unique_jobs: job_keys, queue_names and run_ats have one element for each payload, or are null'
            using errcode = 'array_subscript_error';
    end if;
    perform @schema@.check_unique(unique_for, unique_until, unique_by, on_conflict);
    v_keys := array(
        select @schema@.unique_job_key(identifier, entry.payload, unique_by)
        from unnest(payloads) with ordinality as entry (payload, position)
        order by entry.position
    );
    -- All keys are locked first, in one order, so that two calls with the same keys do not deadlock.
    insert into @schema@.unique_jobs
    select distinct on (given.key) given.key, null::bigint, 'expired', null::timestamptz, clock_timestamp()
    from unnest(v_keys) as given (key)
    order by given.key
    on conflict (key) do update set key = excluded.key;
    return query
    select added.*
    from unnest(v_keys, payloads, job_keys, queue_names, run_ats) with ordinality
        as entry (unique_key, payload, job_key, queue_name, run_at, position)
    cross join lateral @schema@.insert_unique_job(
        entry.unique_key, unique_for, unique_until, on_conflict, identifier, entry.payload, entry.job_key,
        entry.queue_name, entry.run_at, max_attempts, priority, null, null, null, null, false, unique_by
    ) as added
    order by entry.position;
end
$$;

comment on function @schema@.add_unique_jobs(
    text, json[], interval, text, text[], text, text[], text[], timestamptz[], int, int
) is
    'Enqueue a job for each payload, as add_unique_job does. Returns one row for each, in their order.';

create function @schema@.prune_unique_jobs(max_rows int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_count int;
begin
    with due as materialized (
        select u.key, u.unique_until, u.job_id
        from @schema@.unique_jobs u
        where u.prune_at <= now()
        order by u.prune_at
        limit max_rows
        for update skip locked
    ),
    checked as materialized (
        select due.key, exists (
            select from @schema@.jobs j
            where j.id = due.job_id
                and not (j.exhausted and j.locked_at is null)
                and (due.unique_until = 'done' or due.unique_until = 'started' and j.attempts = 0)
        ) as is_held
        from due
    ),
    kept as (
        update @schema@.unique_jobs u set prune_at = now() + interval '1 hour'
        from checked
        where u.key = checked.key and checked.is_held
    ),
    deleted as (
        delete from @schema@.unique_jobs u using checked where u.key = checked.key and not checked.is_held
    )
    select count(*) into v_count from checked;
    return v_count;
end
$$;

comment on function @schema@.prune_unique_jobs(int) is
    'Look at up to max_rows unique keys, and delete those that no job holds. Returns how many it has looked at.';

create function @schema@.add_debounced_job(
    identifier text,
    job_key text,
    run_at timestamptz,
    max_delay interval,
    payload json default '{}',
    queue_name text default null,
    max_attempts int default 25,
    priority int default 0,
    entity_id uuid default null,
    organization_id uuid default null,
    entity_type text default null
) returns @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_job @schema@.job_row;
begin
    if job_key is null or max_delay is null or max_delay <= interval '0' then
        raise check_violation using message = 'add_debounced_job: job_key must not be null, and max_delay above 0';
    end if;
    v_job := @schema@.insert_job(
        @schema@.jwt_claim('jwt.claims.database_id'), @schema@.jwt_claim('jwt.claims.user_id'), entity_id,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, organization_id, entity_type
    );
    if v_job.run_at > v_job.created_at + max_delay then
        v_job.run_at := v_job.created_at + max_delay;
        update @schema@.jobs j set run_at = v_job.run_at where j.id = v_job.id;
    end if;
    return v_job;
end
$$;

comment on function @schema@.add_debounced_job(
    text, text, timestamptz, interval, json, text, int, int, uuid, uuid, text
) is
    'Enqueue a job with a key, or replace the waiting job with this key, which runs at most max_delay after it was first '
    'added.';

select @schema@.grant_like('add_jobs', '{add_unique_job, add_unique_jobs, add_debounced_job}');
select @schema@.grant_like('prune_job_runs', '{prune_unique_jobs}');

revoke execute on all functions in schema @schema@ from public;
