-- When the next delayed job is due is found in the indexes by which jobs are claimed, one priority after the other. The
-- index that it had for itself is gone: each job that was added, claimed or cleared up paid for it.

drop index @schema@.jobs_run_at_idx;

create function @schema@.next_due(recent interval) returns timestamptz
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as claim_jobs
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_due timestamptz;
    v_first timestamptz;
    v_priority bigint := -2147483649; -- below the lowest int
begin
    loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is null and not j.exhausted and j.priority > v_priority
        order by j.priority
        limit 1;
        exit when not found;
        select j.run_at into v_first
        from @schema@.jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - recent
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_due := least(v_due, v_first); -- which passes over null
    end loop;

    v_priority := -2147483649;
    loop
        select j.priority into v_priority
        from @schema@.jobs j
        where j.queue_name is not null and not j.exhausted and j.priority > v_priority
        order by j.priority
        limit 1;
        exit when not found;
        select j.run_at into v_first
        from @schema@.jobs j
        where j.queue_name is not null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - recent
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_due := least(v_due, v_first);
    end loop;
    return v_due;
end
$$;

comment on function @schema@.next_due(interval) is
    'For workers: when the next delayed job is due. Jobs that became due within this time count too.';

revoke execute on function @schema@.next_due(interval) from public;
