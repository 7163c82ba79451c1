-- Pause tasks, queues, tenants or everything: claims skip what is paused, in every worker, until it is resumed or until
-- a time. Running jobs go on.
--
-- In a named queue jobs run in order, so a paused job at its head holds up the queue.

create table @schema@.pauses (
    kind text not null,
    name text not null,
    since timestamptz not null default now(),
    until timestamptz,
    paused_by text not null,
    reason text,
    constraint pauses_pkey primary key (kind, name),
    constraint pauses_kind_known check (kind in ('task', 'queue', 'tenant', 'everything')),
    constraint pauses_name_length check (length(name) <= 126),
    constraint pauses_paused_by_length check (length(paused_by) <= 200),
    constraint pauses_reason_length check (length(reason) <= 1000)
);

comment on table @schema@.pauses is 'What claims skip now. A pause whose until has passed has ended.';
comment on column @schema@.pauses.kind is 'task, queue, tenant or everything.';
comment on column @schema@.pauses.name is
    'The task identifier, the queue, or the tenant''s database_id; empty for everything.';
comment on column @schema@.pauses.until is 'When the pause ends by itself; null: when it is resumed.';

create function @schema@.pause_target(
    task text, queue text, tenant uuid, everything boolean, out kind text, out name text
) language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if num_nonnulls(task, queue, tenant, nullif(everything, false)) <> 1 then
        raise invalid_parameter_value using
            message = 'pauses concern one thing: a task, a queue, a tenant, or everything',
            hint = 'Give one of task, queue, tenant and everything => true.';
    end if;
    kind := case
        when task is not null then 'task' when queue is not null then 'queue' when tenant is not null then 'tenant'
        else 'everything'
    end;
    name := coalesce(task, queue, tenant::text, '');
    if kind <> 'everything' and name = '' or length(name) > 126 then
        raise invalid_parameter_value using
            message = format('the name of the %s has %s characters', kind, length(name)),
            hint = 'Names have 1 to 126 characters.';
    end if;
end
$$;

comment on function @schema@.pause_target(text, text, uuid, boolean) is 'The key of a pause. Part of pause and resume.';

create function @schema@.pause(
    task text default null,
    queue text default null,
    tenant uuid default null,
    everything boolean default false,
    until timestamptz default null,
    reason text default null,
    paused_by text default null
) returns @schema@.pauses
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_max_pauses constant int := 1000; -- every claim reads them
    v_target constant record := @schema@.pause_target(task, queue, tenant, everything);
    v_pause @schema@.pauses;
begin
    if pause.until <= now() then
        raise invalid_parameter_value using
            message = 'the pause would have ended before now', hint = 'Give a time in the future, or none.';
    end if;
    delete from @schema@.pauses p where p.until <= now();
    insert into @schema@.pauses as p (kind, name, until, paused_by, reason)
    values (
        v_target.kind, v_target.name, pause.until, left(coalesce(pause.paused_by, session_user), 200),
        left(pause.reason, 1000)
    )
    on conflict (kind, name) do update
    set until = excluded.until, paused_by = excluded.paused_by, reason = excluded.reason
    returning p.* into v_pause;
    if (select count(*) from @schema@.pauses) > v_max_pauses then
        raise program_limit_exceeded using
            message = format('there are already %s pauses', v_max_pauses),
            hint = 'Resume some of them, or pause everything.';
    end if;
    perform pg_notify('jobs:pause', '');
    return v_pause;
end
$$;

comment on function @schema@.pause(text, text, uuid, boolean, timestamptz, text, text) is
    'Pause a task, a queue, a tenant or everything, until a time or until it is resumed. Pausing again changes the '
    'time and the reason. Workers release jobs that they have not started; running jobs go on.';

create function @schema@.resume(
    task text default null, queue text default null, tenant uuid default null, everything boolean default false
) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target constant record := @schema@.pause_target(task, queue, tenant, everything);
begin
    delete from @schema@.pauses p where p.kind = v_target.kind and p.name = v_target.name;
    if not found then
        return false;
    end if;
    delete from @schema@.claim_positions; -- claims may have gone past the jobs that were paused
    perform pg_notify('jobs:insert', '');
    return true;
end
$$;

comment on function @schema@.resume(text, text, uuid, boolean) is
    'End a pause. False if there is none.';

create function @schema@.paused_now(
    out has_everything boolean, out tasks text[], out queues text[], out tenants uuid[]
)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select
        coalesce(bool_or(p.kind = 'everything'), false),
        coalesce(array_agg(p.name) filter (where p.kind = 'task'), '{}'),
        coalesce(array_agg(p.name) filter (where p.kind = 'queue'), '{}'),
        coalesce(array_agg(p.name::uuid) filter (where p.kind = 'tenant'), '{}')
    from @schema@.pauses p
    where p.until is null or p.until > now()
$$;

comment on function @schema@.paused_now() is 'What is paused now. Part of claim_jobs.';

create function @schema@.job_pauses(job_id bigint) returns setof @schema@.pauses
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select p.*
    from @schema@.jobs j
    join @schema@.pauses p on
        p.kind = 'everything'
        or (p.kind = 'task' and p.name = j.task_identifier)
        or (p.kind = 'queue' and p.name = j.queue_name)
        or (p.kind = 'tenant' and p.name = j.database_id::text)
    where j.id = job_pauses.job_id and (p.until is null or p.until > now())
    order by p.since, p.kind
$$;

comment on function @schema@.job_pauses(bigint) is 'The pauses that keep a job from being claimed now.';

create function @schema@.paused_jobs(job_ids bigint[]) returns setof bigint
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select given.id
    from unnest(job_ids) as given (id)
    where exists (select from @schema@.job_pauses(given.id))
$$;

comment on function @schema@.paused_jobs(bigint[]) is
    'Those of the jobs that are paused. Workers ask about jobs that they have claimed and not started.';

create function @schema@.is_queue_paused(name text, task_identifiers text[], exclude_tasks text[]) returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select
        from @schema@.pauses p
        left join (
            select j.task_identifier, j.database_id
            from @schema@.jobs j
            where j.queue_name = is_queue_paused.name
                and not j.exhausted
                and j.run_at <= now()
                and (
                    is_queue_paused.task_identifiers is null
                    or j.task_identifier = any (is_queue_paused.task_identifiers)
                )
                and j.task_identifier <> all (is_queue_paused.exclude_tasks)
            order by j.priority, j.run_at, j.id
            limit 1
        ) head on true
        where (p.until is null or p.until > now())
            and (
                p.kind = 'everything'
                or (p.kind = 'queue' and p.name = is_queue_paused.name)
                or (p.kind = 'task' and p.name = head.task_identifier)
                or (p.kind = 'tenant' and p.name = head.database_id::text)
            )
    )
$$;

comment on function @schema@.is_queue_paused(text, text[], text[]) is
    'Whether a queue, or the first of its ready jobs of these tasks, is paused. Part of claim_jobs.';

create or replace function @schema@.is_queue_locked(name text, expired_before timestamptz) returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from @schema@.queue_locks l
        where l.queue_name = name and not coalesce(l.lease_expires_at < now(), l.locked_at < expired_before)
    ) or (exists (select from @schema@.pauses) and @schema@.is_queue_paused(name, null, '{}'));
end
$$;

comment on function @schema@.is_queue_locked(text, timestamptz) is
    'Whether a queue has a lock that has not expired, or is paused. Part of claim_jobs.';

create or replace function @schema@.ready_queues(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_queues int,
    start @schema@.claim_positions
) returns text[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_window constant int := 64 + 4 * max_queues;
    v_candidates text[] := '{}'; -- the queues of the most urgent jobs, with repetitions
    v_priority int := start.queued_priority;
    v_run_at timestamptz := start.queued_run_at;
    v_id bigint := start.queued_job_id;
    v_names text[];
    v_has_pauses boolean := false;
    v_paused record;
    v_paused_tasks text[] := '{}';
    v_paused_tenants uuid[] := '{}';
begin
    -- First try the queues of the most urgent jobs. That is enough if many queues have a few jobs each.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from @schema@.jobs j
        where j.queue_name is not null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        exit when not found;
        if v_step = 1 and exists (select from @schema@.pauses) then
            select * into v_paused from @schema@.paused_now();
            if v_paused.has_everything then
                return v_candidates;
            end if;
            v_has_pauses := true;
            v_paused_tasks := v_paused.tasks;
            v_paused_tenants := v_paused.tenants;
        end if;
        v_candidates := v_candidates || array(
            select j.queue_name
            from @schema@.jobs j
            where j.queue_name is not null
                and not j.exhausted
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
                and j.task_identifier <> all (v_paused_tasks)
                and (j.database_id is null or j.database_id <> all (v_paused_tenants))
            order by j.run_at, j.id
            limit v_window - cardinality(v_candidates)
        );
        exit when cardinality(v_candidates) >= v_window;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    v_names := array(
        select urgent.name
        from (
            select candidate.name
            from unnest(v_candidates) with ordinality as candidate (name, position)
            group by candidate.name
            order by min(candidate.position)
            offset 0 -- keeps the order: try_lock_queue is called for the most urgent queue first
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, expired_before)
            and not (v_has_pauses and @schema@.is_queue_paused(urgent.name, task_identifiers, exclude_tasks))
            and @schema@.try_lock_queue(urgent.name)
        limit max_queues
    );
    if v_priority is null or cardinality(v_names) >= max_queues then -- null: all priorities were read
        return v_names;
    end if;

    -- A few long queues filled the window. Skip from queue to queue and read the head of each.
    return array(
        with recursive queue (name) as (
            (
                select j.queue_name
                from @schema@.jobs j
                where j.queue_name is not null
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                order by j.queue_name
                limit 1
            )
            union all
            select following.queue_name
            from queue
            cross join lateral (
                select j.queue_name
                from @schema@.jobs j
                where j.queue_name > queue.name
                    and j.queue_name is not null
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                order by j.queue_name
                limit 1
            ) following
        )
        select urgent.name
        from (
            select queue.name
            from queue
            cross join lateral (
                select j.priority, j.run_at, j.id
                from @schema@.jobs j
                where j.queue_name = queue.name
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                    and j.run_at <= now()
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, expired_before)
            and not (v_has_pauses and @schema@.is_queue_paused(urgent.name, task_identifiers, exclude_tasks))
            and @schema@.try_lock_queue(urgent.name)
        limit max_queues
    );
end
$$;

create or replace function @schema@.ready_queue_heads(
    queue_names text[],
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    start @schema@.claim_positions
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_paused record;
    v_paused_tasks text[] := '{}';
    v_paused_tenants uuid[] := '{}';
begin
    if exists (select from @schema@.pauses) then
        select * into v_paused from @schema@.paused_now();
        v_paused_tasks := v_paused.tasks;
        v_paused_tenants := v_paused.tenants;
    end if;
    -- The transaction has the advisory lock of each queue. This statement has a newer snapshot than ready_queues, so it
    -- sees the true head, and whether the queue was claimed before the advisory lock was taken. If another session is
    -- changing the head now, the queue is skipped: its second job must not overtake.
    return array(
        select locked.place
        from unnest(queue_names) as queue (name)
        cross join lateral (
            select j.id, j.task_identifier, j.database_id
            from @schema@.jobs j
            where j.queue_name = queue.name
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.priority, j.run_at, j.id
            limit 1
        ) head
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.id = head.id
                and j.queue_name = queue.name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            for update skip locked
        ) locked
        where not @schema@.is_queue_locked(queue.name, expired_before)
            -- The first job that this worker may run. A later one must not overtake it.
            and head.task_identifier <> all (v_paused_tasks)
            and (head.database_id is null or head.database_id <> all (v_paused_tenants))
    );
end
$$;

-- Roles that may run workers, or look at or act on jobs, may do so with pauses.
select @schema@.grant_like('claim_jobs', '{paused_jobs}');
select @schema@.grant_like('claim_jobs', '{pauses}', 'select (until)');
select @schema@.grant_like('retry_jobs', '{pause, resume}');
select @schema@.grant_like('job_steps', '{pauses, job_pauses}');

revoke execute on all functions in schema @schema@ from public;
