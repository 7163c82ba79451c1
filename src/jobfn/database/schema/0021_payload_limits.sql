-- A maximum size of payloads, and claims that return a limited amount of them, so that the memory of workers is limited
-- whatever a role that may only enqueue adds.

create table @schema@.payload_settings (
    max_payload_bytes int not null default 10485760,
    constraint payload_settings_max_payload_bytes_positive check (max_payload_bytes > 0)
);

comment on table @schema@.payload_settings is 'One row: the maximum size of the payloads of new jobs.';

insert into @schema@.payload_settings default values;

create function @schema@.set_max_payload_bytes(max_bytes int) returns void
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.payload_settings s set max_payload_bytes = max_bytes
$$;

comment on function @schema@.set_max_payload_bytes(int) is
    'Set the maximum size of a payload, for new jobs. For the owner of the schema.';

alter table @schema@.jobs add column payload_bytes int;

comment on column @schema@.jobs.payload_bytes is
    'Size of the payload, if it is larger than 16 KiB. Null: claims do not count it.';

update @schema@.jobs j set payload_bytes = octet_length(j.payload::text)
where pg_column_size(j.payload) > 500 -- less is at most 16 KiB, unless it is compressed extremely well
    and octet_length(j.payload::text) > 16384;

create function @schema@.check_payload_size(identifier text, payload_bytes int) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_max_bytes int := (select s.max_payload_bytes from @schema@.payload_settings s);
begin
    if payload_bytes > v_max_bytes then
        raise program_limit_exceeded using
            message = format(
                'the payload of a job of task %s has %s bytes, more than the maximum of %s',
                quote_literal(identifier), payload_bytes, v_max_bytes
            ),
            hint = 'Store the data elsewhere and put its address into the payload. The owner of the schema can change '
                'the maximum: jobfn db migrate --max-payload-bytes.';
    end if;
end
$$;

comment on function @schema@.check_payload_size(text, int) is 'Raise an error if a payload is too large.';

create or replace function @schema@.check_job(
    identifier text, queue_name text, job_key text, max_attempts int
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem text;
begin
    v_problem := case
        when identifier in ('.', '..')
            then format('the task identifier must not be %s: it is a part of a URL', identifier)
        when length(identifier) not between 1 and 126
            then format('the task identifier must have 1 to 126 characters, not %s', length(identifier))
        when length(queue_name) not between 1 and 126
            then format('the queue name must have 1 to 126 characters, not %s', length(queue_name))
        when length(job_key) not between 1 and 512
            then format('the job key must have 1 to 512 characters, not %s', length(job_key))
        when max_attempts < 1
            then format('max_attempts must be at least 1, not %s', max_attempts)
    end;
    if v_problem is not null then
        raise check_violation using message = v_problem;
    end if;
end
$$;

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
    priority int,
    organization_id uuid default null,
    entity_type text default null
) returns @schema@.job_row
    language plpgsql
as $$
#variable_conflict use_column
declare
    -- Inserting a whole row, and returning it without RETURNING, saves a fifth of the time.
    v_new constant @schema@.job_row := row(
        nextval('@schema@.jobs_id_seq'), database_id, actor_id, entity_id, queue_name, identifier,
        coalesce(payload, '{}'), coalesce(priority, 0), coalesce(run_at, now()), 0, coalesce(max_attempts, 25),
        job_key, null, null, null, now(), now(),
        null, null, null, null, null, -- lease_expires_at to fenced_attempt
        substring(
            current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        ),
        case
            when octet_length(current_setting('jobfn.tracestate', true)) <= 512
            then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
        end,
        false, false, organization_id, entity_type,
        null, null -- snoozes, snoozing_since
    )::@schema@.job_row;
    v_payload_bytes int; -- null unless the payload is large
    v_job @schema@.job_row;
begin
    if length(identifier) not between 3 and 126 -- shorter ones may be valid too
        or length(queue_name) not between 1 and 126
        or length(job_key) not between 1 and 512
        or max_attempts < 1
        or octet_length(payload::text) > 16384
    then
        perform @schema@.check_job(identifier, queue_name, job_key, max_attempts);
        v_payload_bytes := nullif(greatest(octet_length(payload::text), 16384), 16384);
        perform @schema@.check_payload_size(identifier, v_payload_bytes);
    end if;
    if job_key is null then
        insert into @schema@.jobs values (v_new.*);
        if v_payload_bytes is not null then
            update @schema@.jobs j set payload_bytes = v_payload_bytes where j.id = v_new.id;
        end if;
        return v_new;
    end if;
    loop
        insert into @schema@.jobs as j values (v_new.*)
        on conflict (key) where key is not null do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = excluded.entity_id,
            organization_id = excluded.organization_id,
            entity_type = excluded.entity_type,
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            payload_bytes = null,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            snoozes = null,
            snoozing_since = null,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            updated_at = now()
        where j.locked_at is null
        returning (@schema@.to_job_row(j)).* into v_job;
        if found then
            if v_payload_bytes is not null then
                update @schema@.jobs j set payload_bytes = v_payload_bytes where j.id = v_job.id;
            end if;
            return v_job;
        end if;
        update @schema@.jobs j
        set key = null,
            max_attempts = greatest(j.attempts, 1),
            snoozing_since = '-infinity',
            updated_at = now()
        where j.key = job_key and j.locked_at is not null;
    end loop;
end
$$;

create or replace function @schema@.add_jobs(
    identifier text,
    payloads json[],
    job_keys text[] default null, -- as long as payloads, or null; the same holds for the next two
    queue_names text[] default null,
    run_ats timestamptz[] default null,
    max_attempts int default 25,
    priority int default 0,
    db_id uuid default null -- null: the tenant of the session
) returns bigint[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_database_id uuid := coalesce(db_id, @schema@.jwt_claim('jwt.claims.database_id'));
    v_actor_id uuid := @schema@.jwt_claim('jwt.claims.user_id');
    v_max_attempts int := coalesce(add_jobs.max_attempts, 25);
    v_priority int := coalesce(add_jobs.priority, 0);
    -- Evaluated once here: the column defaults would be evaluated for each job.
    v_traceparent text := substring(
        current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
    );
    v_tracestate text := case
        when octet_length(current_setting('jobfn.tracestate', true)) <= 512
        then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
    end;
    v_ids bigint[];
    v_payload_bytes int; -- the maximum
    v_ids_by_key jsonb;
    v_entry record;
begin
    if coalesce(cardinality(payloads), 0) = 0 then
        return '{}';
    end if;
    if exists (
        select
        from (values (cardinality(job_keys)), (cardinality(queue_names)), (cardinality(run_ats))) as given (length)
        where length <> cardinality(payloads)
    ) then
        raise exception 'add_jobs: job_keys, queue_names and run_ats have one element for each payload, or are null'
            using errcode = 'array_subscript_error';
    end if;
    perform @schema@.check_job(identifier, null, null, max_attempts);
    perform @schema@.check_job(null, given.queue_name, given.job_key, null)
    from unnest(queue_names, job_keys) as given (queue_name, job_key)
    where length(given.queue_name) not between 1 and 126 or length(given.job_key) not between 1 and 512;

    if coalesce(cardinality(array_remove(job_keys, null)), 0) = 0 then
        with added as (
            insert into @schema@.jobs (
                database_id, actor_id, task_identifier, payload, queue_name, run_at, max_attempts, priority,
                traceparent, tracestate, payload_bytes
            )
            select
                v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.queue_name,
                coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate,
                nullif(greatest(octet_length(entry.payload::text), 16384), 16384)
            from unnest(payloads, queue_names, run_ats) with ordinality
                as entry (payload, queue_name, run_at, position)
            order by entry.position -- ids are assigned in this order
            returning id, payload_bytes
        )
        select array_agg(added.id order by added.id), max(added.payload_bytes) into v_ids, v_payload_bytes from added;
        perform @schema@.check_payload_size(add_jobs.identifier, v_payload_bytes);
        return v_ids;
    end if;

    -- As insert_job: a locked job loses its key to the new one.
    update @schema@.jobs j
    set key = null, max_attempts = greatest(j.attempts, 1), snoozing_since = '-infinity', updated_at = now()
    where j.key = any (job_keys) and j.locked_at is not null;

    -- A key that is given twice makes one job, as if the second call had replaced the first: inserted at the first
    -- position, with the values of the last.
    with entries as (
        select
            entry.*,
            min(entry.position) over (partition by entry.key) as first_position,
            max(entry.position) over (partition by entry.key) as last_position
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, position)
    ),
    added as (
        insert into @schema@.jobs as j (
            database_id, actor_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority,
            traceparent, tracestate, payload_bytes
        )
        select
            v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.key,
            entry.queue_name, coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate,
            nullif(greatest(octet_length(entry.payload::text), 16384), 16384)
        from entries entry
        where entry.key is null or entry.position = entry.last_position
        order by case when entry.key is null then entry.position else entry.first_position end
        on conflict (key) where key is not null do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = null,
            organization_id = null,
            entity_type = null,
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            payload_bytes = excluded.payload_bytes,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            snoozes = null,
            snoozing_since = null,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            updated_at = now()
        where j.locked_at is null
        returning j.id, j.key, j.payload_bytes
    )
    select
        array_agg(added.id order by added.id) filter (where added.key is null),
        coalesce(jsonb_object_agg(added.key, added.id) filter (where added.key is not null), '{}'),
        max(added.payload_bytes)
    into v_ids, v_ids_by_key, v_payload_bytes
    from added;
    perform @schema@.check_payload_size(add_jobs.identifier, v_payload_bytes);

    -- A worker may have claimed a job between the two statements above. Its key is missing in v_ids_by_key.
    for v_entry in
        select distinct on (entry.key) entry.*
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, position)
        where entry.key is not null and not v_ids_by_key ? entry.key
        order by entry.key, entry.position desc
    loop
        v_ids_by_key := v_ids_by_key || jsonb_build_object(v_entry.key, (@schema@.insert_job(
            v_database_id, v_actor_id, null, add_jobs.identifier, v_entry.payload, v_entry.key, v_entry.queue_name,
            v_entry.run_at, v_max_attempts, v_priority
        )).id);
    end loop;

    return (
        select array_agg(
            case when entry.key is null then v_ids[entry.rank] else (v_ids_by_key ->> entry.key)::bigint end
            order by entry.position
        )
        from (
            select given.*, count(*) filter (where given.key is null) over (order by given.position) as rank
            from unnest(job_keys) with ordinality as given (key, position)
        ) entry
    );
end
$$;

create or replace function @schema@.insert_scheduled_job(
    database_id uuid,
    identifier text,
    payload json,
    schedule_info json,
    job_key text,
    queue_name text,
    max_attempts int,
    priority int
) returns @schema@.scheduled_jobs
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule @schema@.scheduled_jobs;
begin
    perform @schema@.check_job(identifier, null, null, null);
    perform @schema@.check_payload_size(identifier, octet_length(payload::text));
    if coalesce(json_typeof(insert_scheduled_job.schedule_info), 'null') <> 'object' then
        raise exception 'INVALID_SCHEDULE'
            using hint =
                'schedule_info is an object: {"rule": "0 9 * * *"}, or parts such as {"hour": 9, "minute": 0}.';
    end if;
    insert into @schema@.scheduled_jobs as s (
        database_id, actor_id, task_identifier, payload, schedule_info, key, queue_name, max_attempts, priority
    ) values (
        insert_scheduled_job.database_id,
        @schema@.jwt_claim('jwt.claims.user_id'),
        insert_scheduled_job.identifier,
        coalesce(insert_scheduled_job.payload, '{}'),
        insert_scheduled_job.schedule_info,
        insert_scheduled_job.job_key,
        insert_scheduled_job.queue_name,
        coalesce(insert_scheduled_job.max_attempts, 25),
        coalesce(insert_scheduled_job.priority, 0)
    )
    on conflict (key) do update set
        database_id = excluded.database_id,
        actor_id = excluded.actor_id,
        task_identifier = excluded.task_identifier,
        payload = excluded.payload,
        schedule_info = excluded.schedule_info,
        queue_name = excluded.queue_name,
        max_attempts = excluded.max_attempts,
        priority = excluded.priority,
        last_error = null,
        updated_at = now()
    returning s.* into v_schedule;
    return v_schedule;
end
$$;

create function @schema@.large_jobs_within(
    rows tid[], max_payload_bytes bigint, is_first_included boolean
) returns tid[]
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select large.place
        from (
            select j.ctid as place,
                sum(j.payload_bytes) over urgency as bytes,
                row_number() over urgency as position
            from @schema@.jobs j
            where j.ctid = any (rows) and j.payload_bytes is not null
            window urgency as (order by j.priority, j.run_at, j.id)
        ) large
        where coalesce(large.bytes <= max_payload_bytes, true)
            or (is_first_included and large.position = 1 and max_payload_bytes > 0)
    )
$$;

comment on function @schema@.large_jobs_within(tid[], bigint, boolean) is
    'The most urgent of some jobs with large payloads, up to a total size. Part of claim_jobs.';

-- The roles that may call the old functions may call the new ones.
select set_config('jobfn.restore', string_agg(statement.text, ';'), true)
from pg_catalog.pg_proc p
join pg_catalog.pg_class c on c.relnamespace = p.pronamespace and c.reltype = pg_typeof(null::@schema@.jobs)
cross join lateral (
    select format(
        'grant execute on function %s.%I to %s', p.pronamespace::regnamespace, p.proname, granted.grantee::regrole
    )
    from aclexplode(p.proacl) as granted
    where granted.grantee not in (0, p.proowner)
) as statement (text)
where p.proname in ('claim_jobs', 'claim_jobs_of_queues');

drop function
    @schema@.claim_jobs(text, text[], interval, int, interval, text[]),
    @schema@.claim_jobs_of_queues(text, text[], text[], interval, int, interval, text[]);

create function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}',
    max_payload_bytes bigint default null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_claims constant bigint := hashtextextended(row(task_identifiers, exclude_tasks)::text, 0);
    v_entries_read constant bigint := @schema@.claim_entries_read();
    v_known @schema@.claim_positions;
    v_start @schema@.claim_positions;
    v_rows tid[]; -- rows keep their place while they are locked
    v_is_waiting boolean;
    v_queues text[];
    v_claimed int;
    v_is_large boolean := false;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    select p.* into v_known from @schema@.claim_positions p where p.claims = v_claims order by p.id desc limit 1;
    if v_known.valid_until > clock_timestamp() then
        v_start := v_known;
    else
        v_start := row(null, v_claims, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null);
    end if;
    v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_start);
    v_is_waiting := cardinality(v_rows) > 0;
    v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_start);
    if cardinality(v_queues) > 0 then
        v_rows := v_rows
            || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
    end if;
    if cardinality(v_rows) > max_jobs then
        v_rows := array(
            select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
            order by j.priority, j.run_at, j.id
            limit max_jobs
        );
    end if;
    if v_known.id is not null or @schema@.claim_entries_read() - v_entries_read > 10000 then
        perform @schema@.record_claim_position(
            v_start, v_known, v_rows, v_is_waiting, @schema@.claim_entries_read() - v_entries_read - 5 * max_jobs
        );
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    -- Large payloads are rare: the jobs without one first, so that the others cost nothing if there are none.
    for v_step in 1..2 loop
        return query
        with claimed as (
            update @schema@.jobs j
            set attempts = j.attempts + 1,
                locked_by = claim_jobs.worker_id,
                locked_at = now(),
                lease_expires_at = now() + lease,
                progress = null,
                progress_message = null,
                updated_at = now()
            where j.ctid = any (v_rows) and (j.payload_bytes is null or v_is_large)
            returning (@schema@.to_job_row(j)).*
        ),
        queues as (
            insert into @schema@.queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
            select claimed.queue_name, claimed.id, claimed.locked_by, claimed.locked_at, claimed.lease_expires_at
            from claimed
            where claimed.queue_name is not null
            on conflict (queue_name) do update
            set job_id = excluded.job_id,
                locked_by = excluded.locked_by,
                locked_at = excluded.locked_at,
                lease_expires_at = excluded.lease_expires_at
        )
        select claimed.* from claimed order by claimed.priority, claimed.run_at, claimed.id;
        get diagnostics v_claimed = row_count;
        exit when v_is_large or v_claimed = cardinality(v_rows);
        v_rows := @schema@.large_jobs_within(v_rows, max_payload_bytes, v_claimed = 0);
        v_is_large := true;
    end loop;
end
$$;

comment on function @schema@.claim_jobs(text, text[], interval, int, interval, text[], bigint) is
    'Lock up to max_jobs ready jobs for a worker, most urgent first, at most one of each queue. A lease limits the '
    'lock, and renew_leases extends it. Without a lease, the lock expires after the job_expiry of a later claim. Jobs '
    'with payloads over 16 KiB come last, up to max_payload_bytes together, but at least one job unless it is 0.';

create function @schema@.claim_jobs_of_queues(
    worker_id text,
    queue_names text[],
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}',
    max_payload_bytes bigint default null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_beginning constant @schema@.claim_positions := row(
        null, 0, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null
    );
    v_rows tid[] := '{}'; -- as in claim_jobs
    v_queues text[];
    v_claimed int;
    v_is_large boolean := false;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if '' = any (queue_names) then
        v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, max_jobs, v_beginning);
    end if;
    v_queues := array(
        select urgent.name
        from (
            select wanted.name
            from (select distinct given.name from unnest(queue_names) as given (name)) wanted
            cross join lateral (
                select j.priority, j.run_at, j.id
                from @schema@.jobs j
                where j.queue_name = wanted.name
                    and not j.exhausted
                    and j.run_at <= now()
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0 -- keeps the order, as in ready_queues
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, v_expired_before) and @schema@.try_lock_queue(urgent.name)
        limit max_jobs
    );
    if cardinality(v_queues) > 0 then
        v_rows := v_rows
            || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_beginning);
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    if cardinality(v_rows) > max_jobs then
        v_rows := array(
            select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
            order by j.priority, j.run_at, j.id
            limit max_jobs
        );
    end if;
    -- Large payloads are rare: the jobs without one first, so that the others cost nothing if there are none.
    for v_step in 1..2 loop
        return query
        with claimed as (
            update @schema@.jobs j
            set attempts = j.attempts + 1,
                locked_by = claim_jobs_of_queues.worker_id,
                locked_at = now(),
                lease_expires_at = now() + lease,
                progress = null,
                progress_message = null,
                updated_at = now()
            where j.ctid = any (v_rows) and (j.payload_bytes is null or v_is_large)
            returning (@schema@.to_job_row(j)).*
        ),
        queues as (
            insert into @schema@.queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
            select claimed.queue_name, claimed.id, claimed.locked_by, claimed.locked_at, claimed.lease_expires_at
            from claimed
            where claimed.queue_name is not null
            on conflict (queue_name) do update
            set job_id = excluded.job_id,
                locked_by = excluded.locked_by,
                locked_at = excluded.locked_at,
                lease_expires_at = excluded.lease_expires_at
        )
        select claimed.* from claimed order by claimed.priority, claimed.run_at, claimed.id;
        get diagnostics v_claimed = row_count;
        exit when v_is_large or v_claimed = cardinality(v_rows);
        v_rows := @schema@.large_jobs_within(v_rows, max_payload_bytes, v_claimed = 0);
        v_is_large := true;
    end loop;
end
$$;

comment on function @schema@.claim_jobs_of_queues(text, text[], text[], interval, int, interval, text[], bigint) is
    'As claim_jobs, for jobs of some queues only; the empty name stands for the jobs without a queue.';

revoke execute on all functions in schema @schema@ from public;

do $$
begin
    execute coalesce(nullif(current_setting('jobfn.restore'), ''), 'select');
end
$$;
