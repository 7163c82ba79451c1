-- The functions that read a key of a limit become a part of the statement that calls them. A set search path prevents that.

-- A payload is any text that PostgreSQL accepts as json: it may still hold escapes that it cannot convert.
create or replace function @schema@.payload_value(payload json, field text) returns text
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

create or replace function @schema@.limit_key(
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

drop function @schema@.limit_room(text, text);

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

revoke execute on function @schema@.limit_room(text, text) from public;

create or replace function @schema@.hold_jobs(job_ids bigint[], limit_names text[], keys text[]) returns void
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

-- Whether each limit of each job lets it start, if the more urgent ones of these jobs start. A job that one limit refuses
-- counts for its other limits too: this admits too few at times, and the wakeups of these keys make up for it.
-- previous_starts: ready jobs that are not in places.
create or replace function @schema@.limit_verdicts(places tid[], previous_starts bigint)
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

-- Decide which of these ready jobs, which this transaction has locked, start. The others are held. Until the round is the
-- last one, nothing else changes if some were held: the claim looks for other jobs, and comes back with these.
create or replace function @schema@.admit_jobs(
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
create or replace function @schema@.wake_limit_keys(min_released int) returns void
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
    if not exists (select from @schema@.limit_wakeups)
        and not exists (select from @schema@.limit_keys k where k.wake_at <= now())
    then
        return;
    end if;
    perform @schema@.lock_limits();
    with woken as (
        delete from @schema@.limit_wakeups w
        where w.ctid = any (array(select woken.ctid from @schema@.limit_wakeups woken limit 10000 for update skip locked))
        returning w.limit_name, w.key
    ),
    due as (
        update @schema@.limit_keys k set wake_at = null where k.wake_at <= now() returning k.limit_name, k.key
    )
    select array_agg(touched.limit_name), array_agg(touched.key) into v_names, v_keys
    from (select * from woken union select * from due) touched
    where (
        select true from @schema@.held_jobs h
        where h.limit_name = touched.limit_name and h.key = touched.key
        limit 1 -- which makes it a look-up of both
    );
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

-- New jobs that a limit would refuse never lie before others. The trigger is enabled while there are limits.
create or replace function @schema@.tg_hold_inserted_jobs() returns trigger
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
