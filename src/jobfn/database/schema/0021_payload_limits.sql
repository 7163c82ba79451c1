-- A maximum size of payloads, and claims that return a limited amount of them, so that the memory of workers is limited
-- whatever a role that may only enqueue adds.

create table @schema@.payload_settings (
    max_payload_bytes int not null default 10485760,
    -- Sizes up to 16 KiB are not checked, so a lower maximum would have no effect.
    constraint payload_settings_max_payload_bytes_at_least_16_kib check (max_payload_bytes >= 16384)
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

revoke execute on all functions in schema @schema@ from public;
