-- Reads the old history while jobs run, so that the next migration can attach it without reading it.

do $$
begin
    if exists (
        select from pg_catalog.pg_constraint k
        where k.conrelid = to_regclass('@schema@.job_runs_before_partitions')
            and k.conname = 'job_runs_before_partitions_end'
    ) then
        alter table @schema@.job_runs_before_partitions validate constraint job_runs_before_partitions_end;
    end if;
end
$$;
