-- The old history becomes the partition of all days until the one of history_partitions. It is dropped when the last of them
-- is past the retention; until then its rows are deleted in batches, as before.

do $$
declare
    v_until timestamptz;
begin
    select substring(pg_get_constraintdef(k.oid) from '''([^'']+)''')::timestamptz into v_until
    from pg_catalog.pg_constraint k
    where k.conrelid = to_regclass('@schema@.job_runs_before_partitions')
        and k.conname = 'job_runs_before_partitions_end';
    if v_until is null then
        return;
    end if;
    -- A settlement that has chosen the default partition for its row would fail when it goes on.
    lock table @schema@.job_runs in access exclusive mode;
    with moved as (delete from @schema@.job_runs_default d where d.ended_at < v_until returning d.*)
    insert into @schema@.job_runs_before_partitions select moved.* from moved;
    execute format(
        'alter table %s attach partition %s for values from (minvalue) to (%L)',
        '@schema@.job_runs'::regclass, '@schema@.job_runs_before_partitions'::regclass, v_until
    );
    alter table @schema@.job_runs_before_partitions
        drop constraint job_runs_before_partitions_end,
        drop constraint job_runs_outcome_known;
end
$$;
