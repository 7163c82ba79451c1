-- Limits of concurrency and rate that hold across all workers.
--
-- The claim is the only gate. Jobs that a limit refuses are held: they become delayed jobs, due at infinity, so that later
-- claims do not read them. Running jobs own slots, which are rows: they end with the job, whichever way it ends.
-- Only claims release held jobs, under one advisory lock. All others append to limit_wakeups, and wait for nobody.

create table @schema@.limits (
    name text not null,
    task_identifier text,
    queue_name text,
    per text,
    concurrency int,
    rate_count int,
    rate_interval interval,
    set_by text not null default 'operator',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    pauses_on_retry_later boolean not null default false,
    constraint limits_pkey primary key (name),
    constraint limits_name_length check (length(name) between 1 and 126),
    constraint limits_per_known check (
        per in ('tenant', 'queue', 'key', 'task') or per ~ '^payload(\.[^.]+)+$' and length(per) <= 200
    ),
    constraint limits_concurrency_limited check (concurrency between 1 and 1000000),
    constraint limits_rate_count_limited check (rate_count between 1 and 1000000),
    constraint limits_rate_interval_limited check (rate_interval between interval '1 second' and interval '31 days'),
    constraint limits_rate_complete check ((rate_count is null) = (rate_interval is null)),
    constraint limits_not_empty check (concurrency is not null or rate_count is not null)
);

comment on table @schema@.limits is
    'Limits of running jobs and of starts, across all workers. A job is subject to each limit that matches it.';

-- A partner asks one job for patience (RetryLater), and a limit can pause all jobs of the same key.

comment on column @schema@.limits.pauses_on_retry_later is
    'Whether a RetryLater of one job pauses the jobs of its key, in all workers, for the same time.';
comment on column @schema@.limits.per is
    'The part of the job whose values are limited separately: tenant, queue, key, task or payload.<field>. Null: one limit for all.';
comment on column @schema@.limits.concurrency is 'Maximum number of running jobs.';
comment on column @schema@.limits.rate_count is 'Maximum number of starts in any window of rate_interval.';
comment on column @schema@.limits.set_by is 'Whether an operator or code has set the limit. Code does not change an operator''s.';

create table @schema@.limit_slots (
    job_id bigint not null,
    limit_name text not null,
    key text not null,
    constraint limit_slots_pkey primary key (job_id, limit_name)
) with (autovacuum_vacuum_scale_factor = 0.02);

comment on table @schema@.limit_slots is 'The running jobs that count for limits of concurrency.';

create index limit_slots_key_idx on @schema@.limit_slots (limit_name, key);

create table @schema@.limit_starts (
    limit_name text not null,
    key text not null,
    ends_at timestamptz not null,
    starts int not null,
    constraint limit_starts_pkey primary key (limit_name, key, ends_at)
) with (autovacuum_vacuum_scale_factor = 0.02);

comment on table @schema@.limit_starts is 'Recent starts of jobs that are subject to rates.';
comment on column @schema@.limit_starts.ends_at is
    'The end of the part of the window in which they started: at or after the start, so that a rate is never exceeded.';

create table @schema@.limit_keys (
    limit_name text not null,
    key text not null,
    paused_until timestamptz,
    wake_at timestamptz,
    constraint limit_keys_pkey primary key (limit_name, key)
) with (fillfactor = 70);

comment on table @schema@.limit_keys is 'Keys of limits that are paused, or whose held jobs wait for a time.';
comment on column @schema@.limit_keys.paused_until is 'Until when no job of the key starts, after a Retry-After.';
comment on column @schema@.limit_keys.wake_at is 'When held jobs of the key may be released.';

create index limit_keys_wake_at_idx on @schema@.limit_keys (wake_at) where wake_at is not null;

create table @schema@.held_jobs (
    job_id bigint not null,
    limit_name text not null,
    key text not null,
    priority int not null,
    run_at timestamptz not null,
    held_at timestamptz not null default now(),
    constraint held_jobs_pkey primary key (job_id)
) with (autovacuum_vacuum_scale_factor = 0.02);

comment on table @schema@.held_jobs is 'Jobs that are due, and that a limit holds back.';
comment on column @schema@.held_jobs.run_at is 'When the job was due. The row of the job has infinity.';

create index held_jobs_key_idx on @schema@.held_jobs (limit_name, key, priority, run_at, job_id);

create table @schema@.limit_wakeups (
    limit_name text not null,
    key text not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

comment on table @schema@.limit_wakeups is 'Keys whose held jobs the next claim looks at.';

create table @schema@.limit_sweeps (
    swept_at timestamptz not null,
    limit_name text not null default '',
    key text not null default '',
    starts_due_at timestamptz not null default '-infinity'
);

comment on table @schema@.limit_sweeps is 'When a worker last looked for held jobs that nothing releases.';

comment on column @schema@.limit_sweeps.limit_name is 'With key: where the last sweep ended.';
comment on column @schema@.limit_sweeps.starts_due_at is 'When old starts are deleted again.';

insert into @schema@.limit_sweeps values ('-infinity');

alter table @schema@.jobs add column is_limited boolean;

comment on column @schema@.jobs.is_limited is 'Whether the job may have a slot, or be held. Null: it has and is not.';

create function @schema@.lock_limits() returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise feature_not_supported using
            message = format(
                'jobs with limits are not claimed in a transaction that is %s: use read committed',
                current_setting('transaction_isolation')
            );
    end if;
    -- The oid of the row type keeps the limits of two jobs schemas apart.
    perform pg_advisory_xact_lock(hashtextextended('limits', pg_typeof(null::@schema@.limits)::oid::bigint));
end
$$;

-- A payload is any text that PostgreSQL accepts as json: it may still hold escapes that it cannot convert.
-- The next two functions become a part of the statement that calls them. A set search path would prevent that.
create function @schema@.payload_value(payload json, field text) returns text
    language plpgsql
    immutable
as $$
declare
    v_value text;
begin
    v_value := payload operator(pg_catalog.#>>) pg_catalog.string_to_array(field, '.'); -- caught, unlike a default
    return case
        when pg_catalog.length(v_value) operator(pg_catalog.>) 200
        then pg_catalog.concat('md5:', pg_catalog.md5(v_value))
        else coalesce(v_value, '')
    end;
exception when others then
    return '';
end
$$;

create function @schema@.limit_key(
    per text, database_id uuid, queue_name text, key text, task_identifier text, payload json
) returns text
    language sql
    immutable
as $$
    select case
        when per is null then ''
        when per = 'tenant' then coalesce(database_id::text, '')
        when per = 'queue' then coalesce(queue_name, '')
        when per = 'key' then case when length(key) > 200 then 'md5:' || md5(key) else coalesce(key, '') end
        when per = 'task' then task_identifier
        else @schema@.payload_value(payload, substr(per, 9))
    end
$$;

-- How many jobs of a key may run, and may start, in addition. Null: any number. Negative after a limit was lowered.
create function @schema@.limit_room(limit_name text, key text)
    returns table (free_slots bigint, free_starts bigint)
    language sql
    stable
as $$
    select
        l.concurrency - (
            select count(*) from @schema@.limit_slots s
            where l.concurrency is not null and s.limit_name = limit_room.limit_name and s.key = limit_room.key
        ),
        case
            when exists (
                select from @schema@.limit_keys k
                where k.limit_name = limit_room.limit_name and k.key = limit_room.key and k.paused_until > now()
            ) then 0
            else l.rate_count - (
                select coalesce(sum(s.starts), 0) from @schema@.limit_starts s
                where s.limit_name = limit_room.limit_name
                    and s.key = limit_room.key
                    and s.ends_at > now() - l.rate_interval
            )
        end
    from @schema@.limits l
    where l.name = limit_room.limit_name
$$;

-- Whether each limit of each job lets it start, if the more urgent ones of these jobs start. A job that one limit refuses
-- counts for its other limits too: this admits too few at times, and the wakeups of these keys make up for it.
-- previous_starts: ready jobs that are not in places.
create function @schema@.limit_verdicts(places tid[], previous_starts bigint)
    returns table (job_id bigint, limit_name text, key text, is_admitted boolean)
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_nestloop = off -- arrays are longer than the planner thinks
    set enable_hashjoin = on
    set jit = off
as $$
#variable_conflict use_column
begin
    return query
    with candidate as materialized (
        select j.id, j.priority, j.run_at, l.name,
            @schema@.limit_key(l.per, j.database_id, j.queue_name, j.key, j.task_identifier, j.payload) as key
        from @schema@.jobs j
        join @schema@.limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
            and (l.queue_name is null or l.queue_name = j.queue_name)
        where j.ctid = any (places)
    ),
    room as materialized (
        select touched.name, touched.key, free.free_slots - previous_starts as free_slots,
            free.free_starts - previous_starts as free_starts, held.priority, held.run_at, held.job_id
        from (select distinct candidate.name, candidate.key from candidate) touched
        cross join lateral @schema@.limit_room(touched.name, touched.key) free
        left join lateral (
            select h.priority, h.run_at, h.job_id
            from @schema@.held_jobs h
            where h.limit_name = touched.name and h.key = touched.key
            order by h.priority, h.run_at, h.job_id
            limit 1
        ) held on true
    ),
    ranked as (
        select c.id, c.name, c.key, owned.has_slot, room.free_slots, room.free_starts,
            row_number() over (partition by c.name, c.key order by c.priority, c.run_at, c.id) as start_rank,
            count(*) filter (where not owned.has_slot)
                over (partition by c.name, c.key order by c.priority, c.run_at, c.id) as slot_rank,
            room.job_id is null
                or (c.priority, c.run_at, c.id) < (room.priority, room.run_at, room.job_id) as is_first
        from candidate c
        join room on room.name = c.name and room.key = c.key
        cross join lateral (
            -- a job whose worker died keeps its slot
            select exists (
                select from @schema@.limit_slots s where s.job_id = c.id and s.limit_name = c.name and s.key = c.key
            ) as has_slot
        ) owned
    )
    select r.id, r.name, r.key,
        coalesce(r.start_rank <= r.free_starts, true)
            and (r.has_slot or (r.is_first and coalesce(r.slot_rank <= r.free_slots, true)))
    from ranked r;
end
$$;

-- The first limit that refuses a job holds it. The other ones get a wakeup: what this job did not take is free.
create function @schema@.hold_jobs(job_ids bigint[], limit_names text[], keys text[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_nestloop = on
as $$
begin
    with refused as materialized (
        select j.ctid as place, given.limit_name, given.key as limit_key, j.*
        from unnest(job_ids, limit_names, keys) as given (job_id, limit_name, key)
        join @schema@.jobs j on j.id = given.job_id
    ),
    lost as (
        insert into @schema@.job_runs -- of workers that died
        select r.id, r.attempts, r.task_identifier, r.queue_name, r.database_id, r.locked_by, r.created_at, r.run_at,
            r.locked_at, now(), 'lost', format('the worker %s died, or lost its lease', r.locked_by)
        from refused r
        where r.locked_at is not null and @schema@.history_enabled()
    ),
    held as (
        insert into @schema@.held_jobs as h (job_id, limit_name, key, priority, run_at)
        select r.id, r.limit_name, r.limit_key, r.priority, r.run_at from refused r
        on conflict (job_id) do update
        set limit_name = excluded.limit_name, key = excluded.key, priority = excluded.priority,
            run_at = excluded.run_at, held_at = excluded.held_at
    )
    update @schema@.jobs j
    set run_at = 'infinity',
        is_limited = true,
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from refused r
    where j.ctid = r.place;
end
$$;

-- Decide which of these ready jobs, which this transaction has locked, start. The others are held. Until the round is the
-- last one, nothing else changes if some were held: the claim looks for other jobs, and comes back with these.
create function @schema@.admit_jobs(
    places tid[], max_jobs int, max_payload_bytes bigint, is_last_round boolean,
    out admitted tid[], out has_limited boolean, out is_done boolean
)
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_nestloop = off
    set enable_hashjoin = on
as $$
#variable_conflict use_column
declare
    v_small tid[];
    v_names text[];
    v_keys text[];
    v_ids bigint[];
    v_admitted boolean[];
    v_held bigint[];
    v_held_names text[];
    v_held_keys text[];
    v_started bigint[];
    v_now timestamptz;
begin
    admitted := places;
    is_done := true;
    perform from @schema@.jobs j
    join @schema@.limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
        and (l.queue_name is null or l.queue_name = j.queue_name)
    where j.ctid = any (places)
    limit 1;
    if not found then
        return;
    end if;
    v_small := array(select j.ctid from @schema@.jobs j where j.ctid = any (places) and j.payload_bytes is null);
    if cardinality(v_small) < cardinality(places) then -- those that the claim would leave must not take a place
        admitted := v_small || @schema@.large_jobs_within(places, max_payload_bytes, cardinality(v_small) = 0);
    end if;
    perform @schema@.lock_limits();
    select array_agg(v.job_id), array_agg(v.limit_name), array_agg(v.key), array_agg(v.is_admitted)
    into v_ids, v_names, v_keys, v_admitted
    from @schema@.limit_verdicts(admitted, 0) v;
    if v_ids is null then
        return;
    end if;
    has_limited := true;
    if false = any (v_admitted) then
        select array_agg(refused.job_id), array_agg(refused.limit_name), array_agg(refused.key)
        into v_held, v_held_names, v_held_keys
        from (
            select distinct on (v.job_id) v.*
            from unnest(v_ids, v_names, v_keys, v_admitted) as v (job_id, limit_name, key, is_admitted)
            where not v.is_admitted
            order by v.job_id, v.limit_name
        ) refused;
        perform @schema@.hold_jobs(v_held, v_held_names, v_held_keys);
        insert into @schema@.limit_wakeups
        select distinct v.limit_name, v.key
        from unnest(v_ids, v_names, v_keys) as v (job_id, limit_name, key)
        join unnest(v_held) as held (id) on held.id = v.job_id;
    end if;
    select coalesce(array_agg(first.place), '{}'), array_agg(first.id) into admitted, v_started
    from (
        select j.ctid as place, j.id from @schema@.jobs j
        where j.ctid = any (admitted) and not exists (select from unnest(v_held) held (id) where held.id = j.id)
        order by j.priority, j.run_at, j.id
        limit max_jobs
    ) first;
    is_done := v_held is null or is_last_round or cardinality(admitted) >= max_jobs;
    if not is_done then
        return;
    end if;
    v_now := clock_timestamp();
    with started as materialized (
        select v.job_id, v.limit_name, v.key
        from unnest(v_ids, v_names, v_keys) as v (job_id, limit_name, key)
        join unnest(v_started) as j (id) on j.id = v.job_id
    ),
    slots as (
        insert into @schema@.limit_slots as s (job_id, limit_name, key)
        select started.job_id, started.limit_name, started.key
        from started
        join @schema@.limits l on l.name = started.limit_name
        where l.concurrency is not null
        on conflict (job_id, limit_name) do update set key = excluded.key where s.key <> excluded.key
    ),
    counted as (
        insert into @schema@.limit_starts as s (limit_name, key, ends_at, starts)
        select started.limit_name, started.key, case
                when l.rate_count <= 60 then v_now
                else to_timestamp(
                    ceil(extract(epoch from v_now) / extract(epoch from l.rate_interval) * 60)
                        * extract(epoch from l.rate_interval) / 60
                )
            end, count(*)
        from started
        join @schema@.limits l on l.name = started.limit_name
        where l.rate_count is not null
        group by 1, 2, 3
        on conflict (limit_name, key, ends_at) do update set starts = s.starts + excluded.starts
        returning s.limit_name, s.key
    )
    insert into @schema@.limit_wakeups -- held jobs of a rate need a time to wake at
    select distinct counted.limit_name, counted.key
    from counted
    where exists (
        select from @schema@.held_jobs h where h.limit_name = counted.limit_name and h.key = counted.key
    );
end
$$;

-- Release as many held jobs as may start, of the keys for which something has changed. They pass the gate again, so
-- releasing too many does no harm.
create function @schema@.wake_limit_keys(min_released int) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
#variable_conflict use_column
declare
    v_names text[];
    v_keys text[];
begin
    if exists (select from @schema@.cancelled_runs r where r.ends_at <= now()) then
        perform @schema@.end_cancelled_runs(
            array(select r.id from @schema@.cancelled_runs r where r.ends_at <= now() for update skip locked)
        );
    end if;
    if not exists (select from @schema@.limit_wakeups)
        and not exists (select from @schema@.limit_keys k where k.wake_at <= now())
    then
        return;
    end if;
    perform @schema@.lock_limits();
    with woken as (
        delete from @schema@.limit_wakeups w
        where w.ctid = any (array(select woken.ctid from @schema@.limit_wakeups woken limit 500 for update skip locked))
        returning w.limit_name, w.key
    ),
    due as (
        update @schema@.limit_keys k set wake_at = null
        where k.ctid = any (array(
            select due.ctid from @schema@.limit_keys due where due.wake_at <= now() order by due.wake_at limit 500
        ))
        returning k.limit_name, k.key
    )
    select array_agg(touched.limit_name), array_agg(touched.key) into v_names, v_keys
    from (select * from woken union select * from due) touched
    where (
        select true from @schema@.held_jobs h
        where h.limit_name = touched.limit_name and h.key = touched.key
        limit 1 -- which makes it a look-up of both
    );
    if exists (select from @schema@.limit_wakeups) or exists (select from @schema@.limit_keys k where k.wake_at <= now())
    then
        perform pg_notify('jobs:insert', ''); -- the next claim goes on with them
    end if;
    if v_names is null then
        return;
    end if;
    with free as materialized (
        select given.limit_name, given.key, case
                -- a limit that was removed while the job was added
                when not exists (select from @schema@.limits l where l.name = given.limit_name) then 1000
                else least(room.free_slots, room.free_starts, 1000)
            end as jobs
        from unnest(v_names, v_keys) as given (limit_name, key)
        left join lateral @schema@.limit_room(given.limit_name, given.key) room on true
    ),
    due as materialized (
        select j.id, first.run_at
        from free
        cross join lateral (
            select h.job_id, h.run_at
            from @schema@.held_jobs h
            where h.limit_name = free.limit_name and h.key = free.key
            order by h.priority, h.run_at, h.job_id
            limit greatest(free.jobs, min_released)
        ) first
        join @schema@.jobs j on j.id = first.job_id and j.run_at = 'infinity' and j.locked_at is null
        where free.jobs > 0
        for update of j skip locked
    )
    update @schema@.jobs j set run_at = due.run_at from due where j.id = due.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    -- A key waits for a time if a rate or a pause lets no other job start, else for the end of a job.
    insert into @schema@.limit_keys as k (limit_name, key, wake_at)
    select waiting.limit_name, waiting.key, waiting.wake_at
    from (
        select given.limit_name, given.key, greatest(
                (
                    select p.paused_until from @schema@.limit_keys p
                    where p.limit_name = given.limit_name and p.key = given.key and p.paused_until > now()
                ),
                case when l.rate_count <= coalesce(used.starts, 0) then used.first_ends_at + l.rate_interval end
            ) as wake_at
        from unnest(v_names, v_keys) as given (limit_name, key)
        join @schema@.limits l on l.name = given.limit_name
        cross join lateral (
            select sum(s.starts) as starts, min(s.ends_at) as first_ends_at
            from @schema@.limit_starts s
            where s.limit_name = given.limit_name and s.key = given.key and s.ends_at > now() - l.rate_interval
        ) used
        where (
            select true from @schema@.held_jobs h
            where h.limit_name = given.limit_name and h.key = given.key
            limit 1
        )
    ) waiting
    where waiting.wake_at is not null
    on conflict (limit_name, key) do update set wake_at = least(k.wake_at, excluded.wake_at);
end
$$;

-- Running jobs whose limit ends, or changes what it counts, pass the gate again when they are held.
create function @schema@.forget_limit_state(limit_name text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform from @schema@.jobs j
    where j.id = any (array(
        select h.job_id from @schema@.held_jobs h where h.limit_name = forget_limit_state.limit_name
    ))
    order by j.id
    for update;
    update @schema@.jobs j set run_at = h.run_at, updated_at = now()
    from @schema@.held_jobs h
    where h.limit_name = forget_limit_state.limit_name
        and j.id = h.job_id
        and j.run_at = 'infinity'
        and j.locked_at is null;
    delete from @schema@.held_jobs h where h.limit_name = forget_limit_state.limit_name;
    delete from @schema@.limit_slots s where s.limit_name = forget_limit_state.limit_name;
    delete from @schema@.limit_starts s where s.limit_name = forget_limit_state.limit_name;
    delete from @schema@.limit_keys k where k.limit_name = forget_limit_state.limit_name;
    perform pg_notify('jobs:insert', '');
end
$$;

create function @schema@.set_limit(
    name text, task_identifier text = null, queue_name text = null, per text = null, concurrency int = null,
    rate_count int = null, rate_interval interval = null, set_by text = 'operator',
    pauses_on_retry_later boolean = false
) returns @schema@.limits
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '3s' -- of the lock on the jobs, which claims wait behind
as $$
#variable_conflict use_column
declare
    v_interval constant interval := make_interval(secs => extract(epoch from set_limit.rate_interval));
    v_old @schema@.limits;
    v_new @schema@.limits;
begin
    if length(set_limit.name) not between 1 and 126 or set_limit.name is null then
        raise check_violation using message = 'set_limit: name must have 1 to 126 characters';
    end if;
    if set_limit.concurrency is null and set_limit.rate_count is null then
        raise check_violation using
            message = 'set_limit: a limit needs a concurrency, or a rate_count with its rate_interval';
    end if;
    perform @schema@.lock_limits();
    select l.* into v_old from @schema@.limits l where l.name = set_limit.name;
    if v_old.set_by = 'operator' and set_limit.set_by <> 'operator' then
        return v_old;
    end if;
    if (v_old.task_identifier, v_old.queue_name, v_old.per, v_old.concurrency, v_old.rate_count, v_old.rate_interval,
        v_old.set_by, v_old.pauses_on_retry_later)
        is not distinct from (set_limit.task_identifier, set_limit.queue_name, set_limit.per, set_limit.concurrency,
        set_limit.rate_count, v_interval, set_limit.set_by, set_limit.pauses_on_retry_later)
    then
        return v_old;
    end if;
    if v_old.name is null and (select count(*) from @schema@.limits) >= 1000 then
        raise program_limit_exceeded using
            message = 'set_limit: there are 1,000 limits already',
            hint = 'Remove some, or use one limit with per: it has a limit for each value.';
    end if;
    insert into @schema@.limits as l (
        name, task_identifier, queue_name, per, concurrency, rate_count, rate_interval, set_by, pauses_on_retry_later
    ) values (
        set_limit.name, set_limit.task_identifier, set_limit.queue_name, set_limit.per, set_limit.concurrency,
        set_limit.rate_count, v_interval, set_limit.set_by, set_limit.pauses_on_retry_later
    )
    on conflict (name) do update set
        task_identifier = excluded.task_identifier,
        queue_name = excluded.queue_name,
        per = excluded.per,
        concurrency = excluded.concurrency,
        rate_count = excluded.rate_count,
        rate_interval = excluded.rate_interval,
        set_by = excluded.set_by,
        pauses_on_retry_later = excluded.pauses_on_retry_later,
        updated_at = now()
    returning l.* into v_new;
    if v_old.name is not null
        and (v_old.task_identifier, v_old.queue_name, v_old.per, v_old.concurrency is null, v_old.rate_count is null)
        is not distinct from (v_new.task_identifier, v_new.queue_name, v_new.per, v_new.concurrency is null,
        v_new.rate_count is null)
    then
        insert into @schema@.limit_wakeups
        select distinct h.limit_name, h.key from @schema@.held_jobs h where h.limit_name = v_new.name;
        perform pg_notify('jobs:insert', '');
        return v_new;
    end if;
    -- It counts other jobs than before. None may start between the count and the commit.
    begin
        lock table @schema@.jobs in share row exclusive mode;
    exception when lock_not_available then
        raise lock_not_available using
            message = 'set_limit: the table of jobs is busy: other transactions have been adding or changing jobs for '
                'more than 3 seconds',
            hint = 'Try again when these transactions, or the vacuum of the table, have ended.';
    end;
    perform @schema@.forget_limit_state(v_new.name);
    if v_new.concurrency is not null then
        with running as (
            update @schema@.jobs j set is_limited = true
            where j.locked_at is not null
                and (v_new.task_identifier is null or j.task_identifier = v_new.task_identifier)
                and (v_new.queue_name is null or j.queue_name = v_new.queue_name)
            returning j.*
        )
        insert into @schema@.limit_slots (job_id, limit_name, key)
        select r.id, v_new.name, @schema@.limit_key(
            v_new.per, r.database_id, r.queue_name, r.key, r.task_identifier, r.payload
        )
        from running r;
    end if;
    alter table @schema@.jobs enable trigger _800_hold_inserted_jobs;
    return v_new;
end
$$;

comment on function @schema@.set_limit is
    'Set a limit of running jobs or of starts, for all workers. Jobs that run already count.';

create function @schema@.remove_limit(name text) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '3s'
as $$
#variable_conflict use_column
begin
    perform @schema@.lock_limits();
    delete from @schema@.limits l where l.name = remove_limit.name;
    if not found then
        return false;
    end if;
    perform @schema@.forget_limit_state(remove_limit.name);
    if not exists (select from @schema@.limits) then
        begin
            alter table @schema@.jobs disable trigger _800_hold_inserted_jobs;
        exception when lock_not_available or object_in_use then
            null; -- it costs a little, and finds no limits
        end;
    end if;
    return true;
end
$$;

comment on function @schema@.remove_limit is 'Remove a limit, and release the jobs that it holds.';

create function @schema@.pause_limit_key(limit_name text, key text, paused_until timestamptz) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (select from @schema@.limits l where l.name = pause_limit_key.limit_name) then
        return false;
    end if;
    insert into @schema@.limit_keys as k (limit_name, key, paused_until)
    values (pause_limit_key.limit_name, pause_limit_key.key, pause_limit_key.paused_until)
    on conflict (limit_name, key) do update set paused_until = excluded.paused_until;
    insert into @schema@.limit_wakeups values (pause_limit_key.limit_name, pause_limit_key.key);
    perform pg_notify('jobs:insert', '');
    perform @schema@.record_action( -- without the key, which may be a value of a payload
        case when paused_until is null then 'resume_limit_key' else 'pause_limit_key' end,
        format('limit %s', pause_limit_key.limit_name), null, jsonb_build_object('until', paused_until)
    );
    return true;
end
$$;

comment on function @schema@.pause_limit_key is
    'Start no job of one key of a limit until a time, in any worker. Null: start them again.';

-- A released job that no worker takes may hold back others, and a limit may be removed while a job is added.
create function @schema@.sweep_limits() returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
as $$
declare
    v_max_keys constant int := 500;
    v_started_at timestamptz;
    v_sweep @schema@.limit_sweeps;
    v_keys int;
begin
    if not exists (
        select from @schema@.limits
        union all select from @schema@.held_jobs
        union all select from @schema@.limit_wakeups
        union all select from @schema@.cancelled_runs
    ) then
        return;
    end if;
    update @schema@.limit_sweeps s set swept_at = now()
    where s.swept_at < now() - interval '4 seconds'
        and s.ctid = any (array(select p.ctid from @schema@.limit_sweeps p for update skip locked))
    returning s.* into v_sweep;
    if not found then
        return; -- another worker has just done it
    end if;
    if v_sweep.starts_due_at <= now() then -- a scan of a large table takes at most a twentieth of the time
        v_started_at := clock_timestamp();
        delete from @schema@.limit_starts s
        where not exists (
            select from @schema@.limits l where l.name = s.limit_name and s.ends_at > now() - l.rate_interval
        );
        update @schema@.limit_sweeps s
        set starts_due_at = clock_timestamp() + 19 * (clock_timestamp() - v_started_at);
    end if;
    perform @schema@.lock_limits();
    with ended as (
        delete from @schema@.limit_slots s
        where case
            when s.job_id < 0 then not exists (select from @schema@.cancelled_runs r where r.id = -s.job_id)
            else not exists (select from @schema@.jobs j where j.id = s.job_id and j.locked_at is not null)
        end
        returning s.limit_name, s.key
    )
    insert into @schema@.limit_wakeups select ended.limit_name, ended.key from ended;
    delete from @schema@.limit_keys k where k.wake_at is null and coalesce(k.paused_until <= now(), true);
    with recursive waiting (limit_name, key) as (
        (
            select h.limit_name, h.key
            from @schema@.held_jobs h
            where (h.limit_name, h.key) > (v_sweep.limit_name, v_sweep.key)
            order by h.limit_name, h.key
            limit 1
        )
        union all
        select following.limit_name, following.key
        from waiting
        cross join lateral (
            select h.limit_name, h.key
            from @schema@.held_jobs h
            where (h.limit_name, h.key) > (waiting.limit_name, waiting.key)
            order by h.limit_name, h.key
            limit 1
        ) following
    ),
    swept as materialized (
        select waiting.limit_name, waiting.key from waiting limit v_max_keys
    ),
    woken as (
        insert into @schema@.limit_wakeups select swept.limit_name, swept.key from swept
    ),
    last as (
        select swept.limit_name, swept.key from swept order by swept.limit_name desc, swept.key desc limit 1
    )
    select count(*), max(last.limit_name), max(last.key) into v_keys, v_sweep.limit_name, v_sweep.key
    from swept
    cross join last;
    update @schema@.limit_sweeps s
    set limit_name = case when v_keys = v_max_keys then v_sweep.limit_name else '' end,
        key = case when v_keys = v_max_keys then v_sweep.key else '' end;
    perform @schema@.wake_limit_keys(10);
end
$$;

create function @schema@.tg_end_limited_job() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if old.locked_at is null then
        delete from @schema@.held_jobs h where h.job_id = old.id;
        return null;
    end if;
    with ended as (
        delete from @schema@.limit_slots s where s.job_id = old.id returning s.limit_name, s.key
    )
    insert into @schema@.limit_wakeups select ended.limit_name, ended.key from ended;
    if found then
        perform pg_notify('jobs:insert', ''); -- another job of the key may start
    end if;
    return null;
end
$$;

create trigger _510_end_deleted_limited_job after delete on @schema@.jobs
    for each row when (old.is_limited)
    execute function @schema@.tg_end_limited_job();

create trigger _510_end_limited_job after update of locked_at, run_at, attempts on @schema@.jobs
    for each row when (
        old.is_limited and case
            when old.locked_at is not null then new.locked_at is null
            else old.run_at = 'infinity' and (new.run_at <> 'infinity' or new.exhausted)
        end
    )
    execute function @schema@.tg_end_limited_job();

create function @schema@.tg_end_all_limited_jobs() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from @schema@.held_jobs;
    delete from @schema@.limit_slots;
    return null;
end
$$;

create trigger _510_end_all_limited_jobs after truncate on @schema@.jobs
    for each statement
    execute function @schema@.tg_end_all_limited_jobs();

-- New jobs that a limit would refuse never lie before others. The trigger is enabled while there are limits.
create function @schema@.tg_hold_inserted_jobs() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
declare
    v_places tid[];
    v_ready bigint;
    v_ids bigint[];
    v_names text[];
    v_keys text[];
    v_started int;
begin
    select array_agg(j.ctid) into v_places
    from inserted i
    join @schema@.jobs j on j.id = i.id
    where i.run_at <= now()
        and i.locked_at is null
        and not i.exhausted
        and exists (
            select from @schema@.limits l
            where (l.task_identifier is null or l.task_identifier = i.task_identifier)
                and (l.queue_name is null or l.queue_name = i.queue_name)
        );
    if v_places is null then
        return null;
    end if;
    -- Those that this transaction has left ready are not seen as running.
    v_started := coalesce(nullif(current_setting('jobfn.limited_jobs', true), ''), '0')::int;
    select array_agg(refused.job_id), array_agg(refused.limit_name), array_agg(refused.key)
    into v_ids, v_names, v_keys
    from (
        select distinct on (v.job_id) v.job_id, v.limit_name, v.key
        from @schema@.limit_verdicts(v_places, v_started) v
        where not v.is_admitted
        order by v.job_id, v.limit_name
    ) refused;
    v_ready := cardinality(v_places) - coalesce(cardinality(v_ids), 0);
    perform set_config('jobfn.limited_jobs', least(v_started + v_ready, 1000000000)::text, true);
    if v_ids is not null then
        perform @schema@.hold_jobs(v_ids, v_names, v_keys);
        -- what is seen here may have ended before the commit
        insert into @schema@.limit_wakeups
        select distinct held.limit_name, held.key from unnest(v_names, v_keys) as held (limit_name, key);
    end if;
    return null;
end
$$;

create trigger _800_hold_inserted_jobs after insert on @schema@.jobs
    referencing new table as inserted
    for each statement
    execute function @schema@.tg_hold_inserted_jobs();

alter table @schema@.jobs disable trigger _800_hold_inserted_jobs;

revoke execute on function
    @schema@.lock_limits(),
    @schema@.payload_value(json, text),
    @schema@.limit_key(text, uuid, text, text, text, json),
    @schema@.limit_room(text, text),
    @schema@.limit_verdicts(tid[], bigint),
    @schema@.hold_jobs(bigint[], text[], text[]),
    @schema@.admit_jobs(tid[], int, bigint, boolean),
    @schema@.wake_limit_keys(int),
    @schema@.forget_limit_state(text),
    @schema@.set_limit(text, text, text, text, int, int, interval, text, boolean),
    @schema@.remove_limit(text),
    @schema@.pause_limit_key(text, text, timestamptz),
    @schema@.sweep_limits(),
    @schema@.tg_end_limited_job(),
    @schema@.tg_end_all_limited_jobs(),
    @schema@.tg_hold_inserted_jobs()
    from public;

-- Roles that were granted the rights of workers, operators and viewers before.
select @schema@.grant_like('renew_leases', '{sweep_limits}');
select @schema@.grant_like('retry_jobs', '{set_limit, remove_limit, pause_limit_key}');
select @schema@.grant_like('job_steps', '{limits, limit_keys, limit_slots, limit_starts, held_jobs}');
