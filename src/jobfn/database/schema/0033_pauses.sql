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

create or replace function @schema@.ready_jobs(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_max_tasks constant int := 100; -- with more, one scan over all tasks is cheaper than one for each
    v_tasks text[];
    v_task text;
    v_paused record;
    v_paused_tenants uuid[] := '{}';
    v_rows tid[] := '{}';
begin
    if exists (select from @schema@.pauses) then
        select * into v_paused from @schema@.paused_now();
        if v_paused.has_everything then
            return v_rows;
        end if;
        exclude_tasks := exclude_tasks || v_paused.tasks;
        v_paused_tenants := v_paused.tenants;
    end if;
    if task_identifiers is not null then
        v_tasks := array(select distinct wanted.task from unnest(task_identifiers) as wanted (task));
    elsif cardinality(exclude_tasks) > 0 then
        v_tasks := @schema@.ready_task_identifiers(v_max_tasks + 1, start);
    end if;
    if v_tasks is null or cardinality(v_tasks) > v_max_tasks then
        return @schema@.ready_jobs_of_any_task(
            task_identifiers, exclude_tasks, expired_before, max_jobs, start, v_paused_tenants
        );
    end if;
    foreach v_task in array v_tasks loop
        if v_task <> all (exclude_tasks) then
            v_rows := v_rows
                || @schema@.ready_jobs_of_task(v_task, expired_before, max_jobs, start, v_paused_tenants);
        end if;
    end loop;
    if cardinality(v_rows) <= max_jobs then
        return v_rows;
    end if;
    return array(
        select j.ctid from @schema@.jobs j where j.ctid = any (v_rows) order by j.priority, j.run_at, j.id limit max_jobs
    );
end
$$;

drop function @schema@.ready_jobs_of_any_task(text[], text[], timestamptz, int, @schema@.claim_positions);

create function @schema@.ready_jobs_of_any_task(
    task_identifiers text[],
    exclude_tasks text[],
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions,
    paused_tenants uuid[]
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    -- One priority after the other: within one, the delayed jobs are at the end of the index range and are not read.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_rows)
            for update skip locked
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity'; -- on to the next priority
        v_id := 9223372036854775807;
    end loop;
    -- With more than 16 priorities, reading past the delayed jobs is cheaper than one query for each priority.
    return v_rows || array(
        select j.ctid
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and (j.database_id is null or j.database_id <> all (paused_tenants))
            and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            and j.task_identifier <> all (exclude_tasks)
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_any_task(
    text[], text[], timestamptz, int, @schema@.claim_positions, uuid[]
) is 'The most urgent ready jobs without a queue, read in the order of all tasks. Part of ready_jobs.';

drop function @schema@.ready_jobs_of_task(text, timestamptz, int, @schema@.claim_positions);

create function @schema@.ready_jobs_of_task(
    task text, expired_before timestamptz, max_jobs int, start @schema@.claim_positions, paused_tenants uuid[]
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_task_ready_idx
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_rows)
            for update skip locked
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    return v_rows || array(
        select j.ctid
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and (j.database_id is null or j.database_id <> all (paused_tenants))
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_task(text, timestamptz, int, @schema@.claim_positions, uuid[]) is
    'The most urgent ready jobs of one task without a queue. Part of ready_jobs.';

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

create or replace function @schema@.record_claim_position(
    start @schema@.claim_positions, -- where the claim started; without an id: at the beginning
    known @schema@.claim_positions, -- the latest position; null: there is none
    claimed tid[],
    is_waiting boolean, -- whether the claim found jobs without a queue
    entries_read bigint
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    -- Jobs with an earlier run_at may be committed later.
    v_latest constant timestamptz := now() - interval '100 milliseconds';
    v_next @schema@.claim_positions := case when known.id is not null then known else start end;
    v_place record;
    v_paused record;
begin
    if start.id is null then
        delete from @schema@.claim_positions p
        where p.claims = start.claims or p.valid_until < clock_timestamp() - interval '1 minute';
        if entries_read < 10000 then
            return;
        end if;
        -- Reading takes a second for some five million entries: a tenth of the time.
        v_next.valid_until := clock_timestamp() + greatest(entries_read / 500000.0, 0.1) * interval '1 second';
    elsif entries_read < 1000 then
        return;
    end if;

    select j.priority, j.run_at, j.id into v_place
    from @schema@.jobs j
    where j.ctid = any (claimed) and j.queue_name is null
    order by j.priority desc, j.run_at desc, j.id desc
    limit 1;
    if found or not is_waiting then
        v_next.priority := coalesce(v_place.priority, nullif(v_next.priority, -2147483648), 0);
        v_next.run_at := least(v_place.run_at, v_latest);
        v_next.job_id := case when v_place.run_at = v_next.run_at then v_place.id else -1 end;
    end if;

    select * into v_paused from @schema@.paused_now();
    v_next.valid_until := least(
        v_next.valid_until, (select min(p.until) from @schema@.pauses p where p.until > now())
    );
    -- The first waiting job, because its queue may be locked until later.
    select j.priority, j.run_at, j.id into v_place
    from @schema@.jobs j
    where j.queue_name is not null
        and not j.exhausted
        and (j.priority, j.run_at, j.id) > (start.queued_priority, start.queued_run_at, start.queued_job_id)
        and j.run_at <= now()
        and j.locked_at is null
        and j.task_identifier <> all (v_paused.tasks)
        and j.queue_name <> all (v_paused.queues)
        and (j.database_id is null or j.database_id <> all (v_paused.tenants))
    order by j.priority, j.run_at, j.id
    limit 1;
    v_next.queued_priority := coalesce(v_place.priority, nullif(v_next.queued_priority, -2147483648), 0);
    v_next.queued_run_at := least(v_place.run_at, v_latest);
    v_next.queued_job_id := case when v_place.run_at = v_next.queued_run_at then v_place.id - 1 else -1 end;

    insert into @schema@.claim_positions (
        claims, priority, run_at, job_id, queued_priority, queued_run_at, queued_job_id, valid_until
    ) values (
        v_next.claims, v_next.priority, v_next.run_at, v_next.job_id, v_next.queued_priority, v_next.queued_run_at,
        v_next.queued_job_id, v_next.valid_until
    );
end
$$;

create or replace function @schema@.next_run_at(lookback interval) returns timestamptz
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_next timestamptz;
    v_next_of_priority timestamptz;
    v_found int;
    v_priority bigint;
    v_limit bigint;
    v_priorities int := 0;
    -- Priorities with many ended jobs, between which others are looked for.
    v_ended int;
    v_queued_ended int;
begin
    select p.priority, p.queued_priority, case when p.valid_until > now() then p.valid_until end
    into v_ended, v_queued_ended, v_next
    from @schema@.claim_positions p
    order by p.id desc
    limit 1;
    v_next := least(v_next, (select min(p.until) from @schema@.pauses p where p.until > now() - lookback));

    v_priority := -2147483649; -- below the lowest int
    loop
        v_limit := case when v_ended > v_priority then v_ended else 2147483648 end;
        select j.priority into v_found
        from @schema@.jobs j
        where j.queue_name is null and not j.exhausted and j.priority > v_priority and j.priority < v_limit
        order by j.priority
        limit 1;
        exit when v_found is null and v_limit = 2147483648;
        v_priority := coalesce(v_found, v_limit);
        select j.run_at into v_next_of_priority
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - lookback
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_next := least(v_next, v_next_of_priority); -- least ignores nulls
        v_priorities := v_priorities + 1;
        if v_priorities >= 32 then
            return least(v_next, now() + interval '1 second');
        end if;
    end loop;

    v_priority := -2147483649; -- below the lowest int
    loop
        v_limit := case when v_queued_ended > v_priority then v_queued_ended else 2147483648 end;
        select j.priority into v_found
        from @schema@.jobs j
        where j.queue_name is not null and not j.exhausted and j.priority > v_priority and j.priority < v_limit
        order by j.priority
        limit 1;
        exit when v_found is null and v_limit = 2147483648;
        v_priority := coalesce(v_found, v_limit);
        select j.run_at into v_next_of_priority
        from @schema@.jobs j
        where j.queue_name is not null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - lookback
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_next := least(v_next, v_next_of_priority); -- least ignores nulls
        v_priorities := v_priorities + 1;
        if v_priorities >= 32 then
            return least(v_next, now() + interval '1 second');
        end if;
    end loop;
    return v_next;
end
$$;

-- Roles that may run workers, or look at or act on jobs, may do so with pauses.
do $$
declare
    v_schema constant oid := (
        select c.relnamespace from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)
    );
    v_grant record;
begin
    for v_grant in
        select distinct new.oid::regprocedure as function, quote_ident(pg_get_userbyid(granted.grantee)) as role
        from (
            values ('claim_jobs', 'paused_jobs'), ('retry_jobs', 'pause'), ('retry_jobs', 'resume')
        ) as pair (known, added)
        join pg_catalog.pg_proc old on old.proname = pair.known and old.pronamespace = v_schema
        cross join lateral aclexplode(old.proacl) as granted
        join pg_catalog.pg_proc new on new.proname = pair.added and new.pronamespace = v_schema
        where granted.grantee not in (0, old.proowner)
    loop
        execute format('grant execute on function %s to %s', v_grant.function, v_grant.role);
    end loop;
    for v_grant in
        select new.oid::regclass as name, job_pauses.oid::regprocedure as function,
            quote_ident(pg_get_userbyid(granted.grantee)) as role
        from pg_catalog.pg_class old
        cross join lateral aclexplode(old.relacl) as granted
        join pg_catalog.pg_class new on new.relname = 'pauses' and new.relnamespace = v_schema
        join pg_catalog.pg_proc job_pauses on job_pauses.proname = 'job_pauses' and job_pauses.pronamespace = v_schema
        where old.relname = 'job_steps' and old.relnamespace = v_schema and granted.privilege_type = 'SELECT'
            and granted.grantee not in (0, old.relowner)
    loop
        execute format('grant select on %s to %s', v_grant.name, v_grant.role);
        execute format('grant execute on function %s to %s', v_grant.function, v_grant.role);
    end loop;
    for v_grant in
        select distinct new.oid::regclass as name, quote_ident(pg_get_userbyid(granted.grantee)) as role
        from pg_catalog.pg_proc old
        cross join lateral aclexplode(old.proacl) as granted
        join pg_catalog.pg_class new on new.relname = 'pauses' and new.relnamespace = v_schema
        where old.proname = 'claim_jobs' and old.pronamespace = v_schema and granted.grantee not in (0, old.proowner)
    loop
        execute format('grant select (until) on %s to %s', v_grant.name, v_grant.role);
    end loop;
end
$$;

revoke execute on all functions in schema @schema@ from public;
