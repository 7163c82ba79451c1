-- Those who enqueue choose the number of keys: a claim looks at a limited number of them, and a sweep too. The next sweep
-- goes on where the last one ended.

alter table @schema@.limit_sweeps
    add column limit_name text not null default '',
    add column key text not null default '',
    add column starts_due_at timestamptz not null default '-infinity';

comment on column @schema@.limit_sweeps.limit_name is 'With key: where the last sweep ended.';
comment on column @schema@.limit_sweeps.starts_due_at is 'When old starts are deleted again.';

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

create or replace function @schema@.sweep_limits() returns void
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
        where not exists (select from @schema@.jobs j where j.id = s.job_id and j.locked_at is not null)
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
