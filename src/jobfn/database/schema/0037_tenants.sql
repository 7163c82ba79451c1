-- Fairness: the tenants (database_id) with ready jobs of a priority take turns, by weight. Jobs without a tenant count
-- as those of one more. Nothing is stored: each claim begins at a random tenant, so that any number of workers are fair.
--
-- Named queues keep their order: the queue with the oldest job is first, whichever tenant it belongs to.

create table @schema@.tenant_weights (
    database_id uuid not null,
    weight int not null,
    constraint tenant_weights_pkey primary key (database_id),
    constraint tenant_weights_weight_limited check (weight between 1 and 1000)
);

comment on table @schema@.tenant_weights is
    'How many jobs a tenant may start for each one of a tenant without a weight, while both have ready jobs.';

-- PostgreSQL uses an index in the way that the functions below mean, whatever the statistics say, if no other index has
-- the order that they ask for: each has its own places for nulls, which these columns never hold. Their bounds are
-- equalities, after which a scan ends at the last entry that fits. A row of columns as an upper bound ends it at the end
-- of the first column only (before PostgreSQL 18): a claim would read all entries of a tenant with a flood, or all
-- delayed jobs, to find that another tenant has no more.

create index jobs_tenant_ready_idx on @schema@.jobs (priority, database_id, run_at nulls first, id)
    where database_id is not null and queue_name is null and not exhausted;

-- A job is in one of these two.
create index jobs_tenant_task_ready_idx on @schema@.jobs (
    hashtextextended(task_identifier, 0), priority, database_id nulls first, run_at nulls first, id nulls first
) where database_id is not null and queue_name is null and not exhausted;
drop index @schema@.jobs_task_ready_idx;
create index jobs_task_ready_idx on @schema@.jobs (
    hashtextextended(task_identifier, 0), priority, run_at, id nulls first
) where database_id is null and queue_name is null and not exhausted;

create function @schema@.set_tenant_weight(tenant uuid, weight int) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if set_tenant_weight.weight not between 1 and 1000 then
        raise invalid_parameter_value using
            message = format('weight is %s', set_tenant_weight.weight), hint = 'Weights are from 1 to 1,000.';
    end if;
    delete from @schema@.tenant_weights w
    where w.database_id = tenant and coalesce(set_tenant_weight.weight, 1) = 1; -- the default
    if set_tenant_weight.weight > 1 then
        insert into @schema@.tenant_weights as w (database_id, weight)
        values (set_tenant_weight.tenant, set_tenant_weight.weight)
        on conflict (database_id) do update set weight = excluded.weight;
    end if;
end
$$;

comment on function @schema@.set_tenant_weight(uuid, int) is
    'Let a tenant start this many jobs for each one of another tenant, while both have ready jobs. 1 is the default.';

create function @schema@.fair_choice(rows tid[], max_jobs int) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if cardinality(rows) <= max_jobs then
        return rows;
    end if;
    return array(
        select ranked.place
        from (
            select j.ctid as place, j.priority, j.run_at, j.id,
                (row_number() over (partition by j.priority, j.database_id order by j.run_at, j.id) - random())
                    / coalesce(w.weight, 1) as turn
            from @schema@.jobs j
            left join @schema@.tenant_weights w on w.database_id = j.database_id
            where j.ctid = any (rows)
        ) ranked
        order by ranked.priority, ranked.turn, ranked.run_at, ranked.id
        limit max_jobs
    );
end
$$;

comment on function @schema@.fair_choice(tid[], int) is
    'Those of some jobs whose turn it is: the most urgent priority first, and in one priority the tenants in turns by '
    'weight. Part of claim_jobs.';

-- These functions ask for the order of the indexes of tenants, and bound it by rows of their columns: no other index has
-- it. By statistics of a flood of one tenant, PostgreSQL would read the whole flood to find the jobs of another tenant.
create function @schema@.ready_tenants(
    task text,
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    paused_tenants uuid[],
    lowest uuid,
    highest uuid,
    max_tenants int
) returns table(id uuid, is_ready boolean)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
begin
    if task is null then
        return query
        with recursive visited (id, visits) as (
            (
                select j.database_id, 1
                from @schema@.jobs j
                where j.database_id is not null and j.queue_name is null and not j.exhausted
                    and j.priority = at_priority
                    and j.database_id >= lowest and j.database_id <= highest
                    and (j.run_at, j.id) >= (first_run_at, first_id)
                order by j.database_id
                limit 1
            )
            union all
            select following.database_id, visited.visits + 1
            from visited
            cross join lateral (
                select j.database_id
                from @schema@.jobs j
                where j.database_id is not null and j.queue_name is null and not j.exhausted
                    and j.priority = at_priority
                    and j.database_id > visited.id and j.database_id <= highest
                    and (j.run_at, j.id) >= (first_run_at, first_id)
                order by j.database_id
                limit 1
            ) following
            where visited.visits < max_tenants
        )
        select visited.id, visited.id <> all (paused_tenants) and (
            select true
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and j.priority = at_priority
                and j.database_id = visited.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id
            limit 1
        ) is true
        from visited;
        return;
    end if;
    return query
    with recursive visited (id, visits) as (
        (
            select j.database_id, 1
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id >= lowest and j.database_id <= highest
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by j.database_id nulls first
            limit 1
        )
        union all
        select following.database_id, visited.visits + 1
        from visited
        cross join lateral (
            select j.database_id
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id > visited.id and j.database_id <= highest
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by j.database_id nulls first
            limit 1
        ) following
        where visited.visits < max_tenants
    )
    select visited.id, visited.id <> all (paused_tenants) and (
        select true
        from @schema@.jobs j
        where j.database_id is not null and j.queue_name is null and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority = at_priority
            and j.database_id = visited.id
            and (j.run_at, j.id) >= (first_run_at, first_id)
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.run_at nulls first, j.id nulls first
        limit 1
    ) is true
    from visited;
end
$$;

comment on function @schema@.ready_tenants(
    text, int, timestamptz, bigint, timestamptz, uuid[], uuid, uuid, int
) is
    'The first tenants from one id to another that have jobs of a priority, of a task or (null) any, and whether some '
    'of these are ready. Part of claim_jobs.';

create function @schema@.lock_jobs_of_tenants(
    task text,
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    tenants uuid[],
    max_jobs int[],
    out places tid[],
    out owners int[]
)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
begin
    if task is null then
        select coalesce(array_agg(ready.place), '{}'), coalesce(array_agg(tenant.position::int), '{}')
        into places, owners
        from unnest(tenants, max_jobs) with ordinality as tenant (id, max_jobs, position)
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and j.priority = at_priority
                and j.database_id = tenant.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id
            limit tenant.max_jobs
            for update skip locked
        ) ready;
    else
        select coalesce(array_agg(ready.place), '{}'), coalesce(array_agg(tenant.position::int), '{}')
        into places, owners
        from unnest(tenants, max_jobs) with ordinality as tenant (id, max_jobs, position)
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id = tenant.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id nulls first
            limit tenant.max_jobs
            for update skip locked
        ) ready;
    end if;
end
$$;

comment on function @schema@.lock_jobs_of_tenants(
    text, int, timestamptz, bigint, timestamptz, uuid[], int[]
) is 'Lock the first ready jobs of each of these tenants, up to its share. Part of claim_jobs.';

create function @schema@.divide_by_weight(jobs int, weights int[], is_open boolean[], given int[]) returns int[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_weight float8 := 0;
    v_upper float8 := random(); -- systematic sampling: whole numbers with the right sum, and each with its expectation
    v_part float8;
begin
    for v_tenant in 1..cardinality(weights) loop
        if is_open[v_tenant] then
            v_weight := v_weight + weights[v_tenant];
        end if;
    end loop;
    for v_tenant in 1..cardinality(weights) loop
        if is_open[v_tenant] then
            v_part := jobs * weights[v_tenant] / v_weight;
            given[v_tenant] := given[v_tenant] + floor(v_upper + v_part)::int - floor(v_upper)::int;
            v_upper := v_upper + v_part;
        end if;
    end loop;
    return given;
end
$$;

comment on function @schema@.divide_by_weight(int, int[], boolean[], int[]) is
    'Add jobs to what each tenant has been given, by weight, where it is open. Part of claim_jobs.';

create function @schema@.lock_jobs_at_priority(
    task text,
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    max_jobs int,
    paused_tenants uuid[],
    is_later_included boolean
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
    v_highest constant int := case when is_later_included then 2147483647 else at_priority end;
begin
    if task is null and not is_later_included then
        return array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = at_priority
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
            order by j.run_at, j.id
            limit max_jobs
            for update skip locked
        );
    elsif task is null then
        return array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) >= (at_priority, first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
            order by j.priority, j.run_at, j.id
            limit max_jobs
            for update skip locked
        );
    end if;
    return array(
        select j.ctid
        from @schema@.jobs j
        where j.database_id is not null
            and j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority >= at_priority
            and (j.priority, j.run_at, j.id) >= (at_priority, first_run_at, first_id)
            and j.priority <= v_highest
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and j.database_id <> all (paused_tenants)
        order by j.priority, j.database_id nulls first, j.run_at nulls first, j.id nulls first
        limit max_jobs
        for update skip locked
    );
end
$$;

comment on function @schema@.lock_jobs_at_priority(
    text, int, timestamptz, bigint, timestamptz, int, uuid[], boolean
) is
    'Lock the first ready jobs of a priority, or also of later ones, whichever tenants they belong to; of a task, only '
    'those with a tenant. Part of claim_jobs.';

-- As for jobs with a tenant: an order that only jobs_task_ready_idx has.
create function @schema@.lock_jobs_without_tenant(
    tasks text[],
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    max_jobs int
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select ready.place
        from unnest(tasks) as task (name)
        cross join lateral (
            select j.ctid as place
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.database_id is null
                and hashtextextended(j.task_identifier, 0) = hashtextextended(task.name, 0)
                and j.task_identifier = task.name
                and j.priority = at_priority
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id nulls first
            limit max_jobs
            for update skip locked
        ) ready
    );
end
$$;

comment on function @schema@.lock_jobs_without_tenant(text[], int, timestamptz, bigint, timestamptz, int) is
    'Lock the first ready jobs of each of these tasks that have no tenant. Part of claim_jobs.';

create function @schema@.fair_jobs_at_priority(
    task text,
    tasks text[],
    at_priority int,
    first_run_at timestamptz,
    first_id bigint,
    expired_before timestamptz,
    max_jobs int,
    paused_tenants uuid[]
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_max_tenants constant int := 32; -- of a claim
    v_from constant uuid := gen_random_uuid();
    v_tenants uuid[];
    v_visits int;
    v_wrapped record;
    v_weights int[];
    v_shares int[];
    v_is_open boolean[];
    v_share int;
    v_jobs int;
    v_rows tid[];
    v_locked record;
begin
    select array_agg(t.id) filter (where t.is_ready), count(*) into v_tenants, v_visits
    from @schema@.ready_tenants(
        task, at_priority, first_run_at, first_id, expired_before, paused_tenants, v_from,
        'ffffffff-ffff-ffff-ffff-ffffffffffff', v_max_tenants
    ) t;
    if v_visits < v_max_tenants then
        select array_agg(t.id) filter (where t.is_ready) as tenants, count(*) as visits into v_wrapped
        from @schema@.ready_tenants(
            task, at_priority, first_run_at, first_id, expired_before, paused_tenants,
            '00000000-0000-0000-0000-000000000000', v_from, v_max_tenants - v_visits
        ) t;
        v_tenants := v_tenants || v_wrapped.tenants;
        v_visits := v_visits + v_wrapped.visits;
    end if;
    if v_tenants is null then
        v_share := max_jobs;
        v_rows := @schema@.lock_jobs_without_tenant(
            tasks, at_priority, first_run_at, first_id, expired_before, max_jobs
        );
    else
        v_weights := array_fill(1, array[cardinality(v_tenants)]);
        if exists (select from @schema@.tenant_weights) then
            v_weights := array(
                select coalesce(w.weight, 1)
                from unnest(v_tenants) with ordinality as tenant (id, position)
                left join @schema@.tenant_weights w on w.database_id = tenant.id
                order by tenant.position
            );
        end if;
        v_rows := '{}';
        if cardinality(tasks) > 0 then
            -- Jobs without a tenant are one more, with the weight 1.
            v_share := least(1 + max_jobs / (1 + (select sum(weight) from unnest(v_weights) as weight)), max_jobs);
            v_rows := @schema@.lock_jobs_without_tenant(
                tasks, at_priority, first_run_at, first_id, expired_before, v_share
            );
        end if;
        v_shares := array_fill(0, array[cardinality(v_tenants)]);
        v_is_open := array_fill(true, array[cardinality(v_tenants)]);
        v_jobs := max_jobs;
        for v_round in 1..8 loop -- what some tenants do not use is divided among the others
            v_shares := @schema@.divide_by_weight(v_jobs, v_weights, v_is_open, v_shares);
            v_locked := @schema@.lock_jobs_of_tenants(
                task, at_priority, first_run_at, first_id, expired_before, v_tenants, v_shares
            );
            v_jobs := max_jobs - cardinality(v_locked.places);
            exit when v_jobs <= 0;
            v_is_open := array(
                select count(owner) = share.jobs
                from unnest(v_shares) with ordinality as share (jobs, position)
                left join unnest(v_locked.owners) as owner on owner = share.position
                group by share.position, share.jobs
                order by share.position
            );
            exit when not (true = any (v_is_open));
        end loop;
        v_rows := v_rows || v_locked.places;
    end if;
    if cardinality(v_rows) < max_jobs then
        if v_share < max_jobs then -- null: there are no such jobs
            v_rows := v_rows || @schema@.lock_jobs_without_tenant(
                tasks, at_priority, first_run_at, first_id, expired_before, max_jobs
            );
        end if;
        if v_visits = v_max_tenants or cardinality(tasks) >= 100 then
            v_rows := v_rows || @schema@.lock_jobs_at_priority(
                task, at_priority, first_run_at, first_id, expired_before, max_jobs, paused_tenants, false
            );
        end if;
        v_rows := array(select distinct place from unnest(v_rows) as place);
    end if;
    return @schema@.fair_choice(v_rows, max_jobs);
end
$$;

comment on function @schema@.fair_jobs_at_priority(
    text, text[], int, timestamptz, bigint, timestamptz, int, uuid[]
) is 'Lock ready jobs of one priority, of several tenants by weight. Part of claim_jobs.';

create function @schema@.ready_jobs_of_tenants(
    task text,
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions,
    paused_tenants uuid[]
) returns tid[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
    v_tasks text[] := array[task];
    v_after @schema@.claim_positions;
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    if task is null then
        v_tasks := @schema@.ready_task_identifiers(100, start);
    end if;
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        if task is null then
            select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
            order by j.priority, j.run_at, j.id
            limit 1;
        else
            select least(with_tenant.priority, without.priority) into v_priority
            from (select) as one
            left join (
                select j.priority
                from @schema@.jobs j
                where j.database_id is not null
                    and j.queue_name is null
                    and not j.exhausted
                    and hashtextextended(j.task_identifier, 0) = v_hash
                    and j.task_identifier = task
                    and j.priority >= v_priority
                    and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
                order by j.priority, j.database_id nulls first
                limit 1
            ) with_tenant on true
            left join (
                select j.priority
                from @schema@.jobs j
                where j.database_id is null
                    and j.queue_name is null
                    and not j.exhausted
                    and hashtextextended(j.task_identifier, 0) = v_hash
                    and j.task_identifier = task
                    and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
                order by j.priority, j.run_at, j.id nulls first
                limit 1
            ) without on true;
            v_run_at := case when v_priority = start.priority then start.run_at else '-infinity' end;
            v_id := case when v_priority = start.priority then start.job_id + 1 else 0 end;
        end if;
        if v_priority is null then
            return v_rows;
        end if;
        v_rows := v_rows || @schema@.fair_jobs_at_priority(
            task, v_tasks, v_priority, v_run_at, v_id, expired_before, max_jobs - cardinality(v_rows), paused_tenants
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    if task is not null then
        v_after := start;
        v_after.priority := v_priority;
        v_after.run_at := 'infinity';
        v_after.job_id := 9223372036854775807;
        v_rows := v_rows || @schema@.ready_jobs_of_task(task, expired_before, max_jobs - cardinality(v_rows), v_after);
    end if;
    return v_rows || @schema@.lock_jobs_at_priority(
        task, v_priority, 'infinity', 9223372036854775807, expired_before, max_jobs - cardinality(v_rows),
        paused_tenants, true
    );
end
$$;

comment on function @schema@.ready_jobs_of_tenants(text, timestamptz, int, @schema@.claim_positions, uuid[]) is
    'The ready jobs without a queue, of a task or (null) any, where tenants take turns. Part of ready_jobs.';

create function @schema@.ready_tenant_task_identifiers(max_tasks int, start @schema@.claim_positions) returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        with recursive task (name, hash) as (
            (
                select j.task_identifier, hashtextextended(j.task_identifier, 0)
                from @schema@.jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is not null
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            )
            union all
            select following.task_identifier, following.hash
            from task
            cross join lateral (
                select j.task_identifier, hashtextextended(j.task_identifier, 0) as hash
                from @schema@.jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is not null
                    and hashtextextended(j.task_identifier, 0) > task.hash
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            ) following
        )
        select task.name from task limit max_tasks
    );
end
$$;

comment on function @schema@.ready_tenant_task_identifiers(int, @schema@.claim_positions) is
    'Up to max_tasks tasks that have jobs with a tenant, without a queue and with attempts left. Part of ready_jobs.';

create or replace function @schema@.ready_task_identifiers(max_tasks int, start @schema@.claim_positions) returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        with recursive task (name, hash) as (
            (
                select j.task_identifier, hashtextextended(j.task_identifier, 0)
                from @schema@.jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is null
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            )
            union all
            select following.task_identifier, following.hash
            from task
            cross join lateral (
                select j.task_identifier, hashtextextended(j.task_identifier, 0) as hash
                from @schema@.jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is null
                    and hashtextextended(j.task_identifier, 0) > task.hash
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            ) following
        )
        select task.name from task limit max_tasks
    );
end
$$;

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
    v_has_pauses boolean;
    v_has_tenants boolean;
    v_rows tid[] := '{}';
begin
    select
        exists (select from @schema@.pauses),
        exists (
            select
            from @schema@.jobs j
            where j.database_id is not null
                and j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
            order by j.priority, j.database_id -- reads jobs_tenant_ready_idx, which is empty where no job has a tenant
            limit 1
        )
    into v_has_pauses, v_has_tenants;
    if v_has_pauses then
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
        if v_has_tenants then
            v_tasks := array(
                select distinct name
                from unnest(v_tasks || @schema@.ready_tenant_task_identifiers(v_max_tasks + 1, start)) as name
            );
        end if;
    end if;
    if v_tasks is null and v_has_tenants then
        return @schema@.ready_jobs_of_tenants(null, expired_before, max_jobs, start, v_paused_tenants);
    elsif v_tasks is null or cardinality(v_tasks) > v_max_tasks then
        return @schema@.ready_jobs_of_any_task(
            task_identifiers, exclude_tasks, expired_before, max_jobs, start, v_paused_tenants
        );
    end if;
    foreach v_task in array v_tasks loop
        if v_task <> all (exclude_tasks) then
            v_rows := v_rows || case
                when v_has_tenants
                then @schema@.ready_jobs_of_tenants(v_task, expired_before, max_jobs, start, v_paused_tenants)
                else @schema@.ready_jobs_of_task(v_task, expired_before, max_jobs, start)
            end;
        end if;
    end loop;
    return @schema@.fair_choice(v_rows, max_jobs);
end
$$;

drop function @schema@.ready_jobs_of_any_task(text[], text[], timestamptz, int, @schema@.claim_positions);

create or replace function @schema@.ready_jobs_of_task(
    task text,
    expired_before timestamptz,
    max_jobs int,
    start @schema@.claim_positions
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
            and j.database_id is null
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id nulls first
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from @schema@.jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.database_id is null
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id nulls first
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
            and j.database_id is null
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.priority, j.run_at, j.id nulls first
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$$;

comment on function @schema@.ready_jobs_of_task(text, timestamptz, int, @schema@.claim_positions) is
    'The most urgent ready jobs of one task without a queue, where no job has a tenant. Part of ready_jobs.';

create or replace function @schema@.claim_entries_read() returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_stat_get_xact_tuples_returned('@schema@.jobs_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_task_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_tenant_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_tenant_task_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_queued_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('@schema@.jobs_queue_name_ready_idx'::regclass);
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

    select * into v_paused from @schema@.paused_now();
    if exists (select from @schema@.jobs j where j.ctid = any (claimed) and j.database_id is not null) then
        -- The first waiting job: tenants take turns, so claims do not take the jobs in this order.
        select j.priority, j.run_at, j.id - 1 as id into v_place
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
            and j.run_at <= now()
            and j.locked_at is null
            and j.task_identifier <> all (v_paused.tasks)
            and (j.database_id is null or j.database_id <> all (v_paused.tenants))
        order by j.priority, j.run_at, j.id
        limit 1;
    else
        select j.priority, j.run_at, j.id into v_place
        from @schema@.jobs j
        where j.ctid = any (claimed) and j.queue_name is null
        order by j.priority desc, j.run_at desc, j.id desc
        limit 1;
    end if;
    if found or not is_waiting then
        v_next.priority := coalesce(v_place.priority, nullif(v_next.priority, -2147483648), 0);
        v_next.run_at := least(v_place.run_at, v_latest);
        v_next.job_id := case when v_place.run_at = v_next.run_at then v_place.id else -1 end;
    end if;

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

create function @schema@.ready_queues_among(
    queue_names text[], task_identifiers text[], exclude_tasks text[], expired_before timestamptz, max_queues int
) returns text[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
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
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0 -- keeps the order, as in ready_queues
        ) urgent
        where not @schema@.is_queue_locked(urgent.name, expired_before) and @schema@.try_lock_queue(urgent.name)
        limit max_queues
    );
end
$$;

comment on function @schema@.ready_queues_among(text[], text[], text[], timestamptz, int) is
    'As ready_queues, of some queues only. Part of claim_jobs.';

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

-- Next to limits, a claim of jobs that none of them counts calls no function for them: each call takes longer than what
-- it does.
create function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}',
    max_payload_bytes bigint default null,
    queue_names text[] default null -- only these queues; the empty name stands for the jobs without a queue
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
    set plan_cache_mode = force_generic_plan -- a plan for each call takes longer than a claim
    set enable_incremental_sort = off -- else a flood of one tenant is read and sorted
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
    v_has_limits constant boolean := exists (select from @schema@.limits);
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
begin
    lock table @schema@.jobs, @schema@.queue_locks in row exclusive mode; -- before reading, for REINDEX
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if exists (
        select from @schema@.jobs j
        where j.expires_at <= now()
            and not j.exhausted
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
    ) and (select count(*) from @schema@.expire_jobs(500)) >= 500 then
        return; -- expired jobs may be left: the next claim goes on with them
    end if;
    if queue_names is null then
        select p.* into v_known from @schema@.claim_positions p where p.claims = v_claims order by p.id desc limit 1;
    end if;
    if v_known.valid_until > clock_timestamp() then
        v_start := v_known;
    else
        v_start := row(null, v_claims, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null);
    end if;
    if v_has_limits and (
        exists (select from @schema@.limit_wakeups)
        or exists (select from @schema@.limit_keys k where k.wake_at <= now())
        or exists (select from @schema@.cancelled_runs r where r.ends_at <= now())
    ) then
        perform @schema@.wake_limit_keys(0);
    end if;
    loop
        if queue_names is null or '' = any (queue_names) then
            v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        else
            v_rows := '{}';
        end if;
        v_is_waiting := cardinality(v_rows) > 0;
        if queue_names is null then
            v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        else
            v_queues := @schema@.ready_queues_among(
                queue_names, task_identifiers, exclude_tasks, v_expired_before, v_picked
            );
        end if;
        if cardinality(v_queues) > 0 then
            v_rows := v_rows
                || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
        end if;
        if cardinality(v_rows) > v_picked then
            v_rows := @schema@.fair_choice(v_rows, v_picked);
        end if;
        exit when not v_has_limits or cardinality(v_rows) = 0 or not exists (
            select from @schema@.jobs j
            join @schema@.limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
                and (l.queue_name is null or l.queue_name = j.queue_name)
            where j.ctid = any (v_rows)
        );
        v_round := v_round + 1;
        select gate.admitted, gate.has_limited, gate.is_done into v_rows, v_is_limited, v_is_done
        from @schema@.admit_jobs(v_rows, max_jobs, max_payload_bytes, v_round = 4) gate;
        exit when v_is_done;
        v_picked := least(8 * v_picked, greatest(max_jobs, 2000)); -- others are not to wait behind a flood
    end loop;
    if v_has_limits and (
        exists (select from @schema@.limit_wakeups)
        or exists (select from @schema@.limit_keys k where k.wake_at <= now())
        or exists (select from @schema@.cancelled_runs r where r.ends_at <= now())
    ) then
        perform @schema@.wake_limit_keys(0);
    end if;
    if queue_names is null and (
        v_known.id is not null or @schema@.claim_entries_read() - v_entries_read > 10000
    ) then
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
                is_limited = v_is_limited,
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

comment on function @schema@.claim_jobs(text, text[], interval, int, interval, text[], bigint, text[]) is
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
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select * from @schema@.claim_jobs(
        worker_id, task_identifiers, job_expiry, max_jobs, lease, exclude_tasks, max_payload_bytes, coalesce(queue_names, '{}')
    )
$$;

comment on function @schema@.claim_jobs_of_queues(text, text[], text[], interval, int, interval, text[], bigint) is
    'As claim_jobs with queue_names. Older workers call it.';

-- Operators may set weights, and viewers may look at them.
select @schema@.grant_like('pause', '{set_tenant_weight}');
select @schema@.grant_like('job_steps', '{tenant_weights}');

revoke execute on all functions in schema @schema@ from public;

do $$
begin
    execute coalesce(nullif(current_setting('jobfn.restore'), ''), 'select');
end
$$;
