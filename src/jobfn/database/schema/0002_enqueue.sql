-- How jobs come in: add_job in every form that people write (contract section 3).

create function @schema@.session_claim(name text) returns uuid
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return nullif(current_setting(name, true), '')::uuid;
exception when invalid_text_representation then
    return null; -- somebody else's setting is no reason to fail somebody's write
end
$$;

comment on function @schema@.session_claim(text) is
    'A session setting such as jwt.claims.database_id as a uuid; null where it is not set or is none.';

-- The one place that inserts. A key means: at most one waiting job. While a job of that key waits it is
-- replaced; while it runs it loses the key, and its further attempts, to the new one.
create function @schema@.insert_job(
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

comment on function @schema@.insert_job(uuid, uuid, uuid, text, json, text, text, timestamptz, int, int) is
    'What every form of add_job ends in.';

create function @schema@.add_job(
    identifier text,
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return @schema@.insert_job(
        @schema@.session_claim('jwt.claims.database_id'), @schema@.session_claim('jwt.claims.user_id'), null,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority
    );
end
$$;

comment on function @schema@.add_job(text, json, text, text, timestamptz, int, int) is
    'Enqueue a job. Tenant and actor come from jwt.claims.database_id and jwt.claims.user_id where set.';

create function @schema@.add_job(
    db_id uuid,
    identifier text,
    payload json default '{}',
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return @schema@.insert_job(
        db_id, @schema@.session_claim('jwt.claims.user_id'), null,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority
    );
end
$$;

comment on function @schema@.add_job(uuid, text, json, text, text, timestamptz, int, int) is
    'The older form of add_job, with the tenant given.';

create function @schema@.is_tenant(word text) returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select word ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$'
$$;

comment on function @schema@.is_tenant(text) is
    'Whether an untyped literal in the place of a task identifier is a tenant: the older form of the call.';

-- add_job('x', '{"id": 1}'): both literals are untyped, and beside the uuid form PostgreSQL prefers text for each of
-- them. This form is what it then finds, for the older form too. Its payload has no default, so that add_job('x') is
-- not two.
create function @schema@.add_job(
    identifier text,
    payload text,
    job_key text default null,
    queue_name text default null,
    run_at timestamptz default now(),
    max_attempts int default 25,
    priority int default 0
) returns @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if @schema@.is_tenant(identifier) then
        -- add_job('5b720132-...', 'x', '{"id": 1}', 'key'): all words are one place further on
        return @schema@.add_job(
            identifier::uuid, payload, job_key::json, queue_name, null, run_at, max_attempts, priority
        );
    end if;
    return @schema@.add_job(identifier, payload::json, job_key, queue_name, run_at, max_attempts, priority);
end
$$;

comment on function @schema@.add_job(text, text, text, text, timestamptz, int, int) is
    'add_job with untyped literals, as people write them.';
