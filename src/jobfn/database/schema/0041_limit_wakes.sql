-- Idle workers wake when a rate or a pause lets held jobs start. Roles of workers may count held jobs, for metrics.

-- The number of priorities is chosen by those who enqueue, so the search for the next delayed job is limited to 32.
create or replace function @schema@.next_run_at(lookback interval)
    returns timestamptz
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
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
    -- held jobs that wait for a rate, or for the end of a pause
    return least(v_next, (select min(k.wake_at) from @schema@.limit_keys k where k.wake_at is not null));
end
$$;

comment on function @schema@.next_run_at(interval) is
    'The earliest run_at of an unlocked job that is later than now() - lookback, or the time when a claim starts at '
    'the beginning if that is earlier; null if there is none. With 32 priorities or more, at most now() + 1 second.';

select @schema@.grant_like('claim_jobs', '{held_jobs}', 'select (job_id)');
