-- A settlement that ran while a partition was made could fail: it had chosen the default partition for its row, waited
-- for the lock of that partition, and then found that the partition does not take the row any more.

create or replace function @schema@.create_job_runs_partitions(days_ahead int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '200ms' -- settlements wait behind this lock: try again later
as $$
declare
    v_table constant regclass := '@schema@.job_runs';
    v_default constant regclass := '@schema@.job_runs_default';
    v_schema text;
    v_tablespace text;
    v_name text;
    v_start timestamptz;
    v_end timestamptz;
    v_created int := 0;
    v_rows int;
begin
    select n.nspname, coalesce('tablespace ' || quote_ident(s.spcname), '') into v_schema, v_tablespace
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_tablespace s on s.oid = c.reltablespace
    where c.oid = v_table;
    if not @schema@.history_enabled() or not pg_try_advisory_xact_lock(hashtextextended('jobfn history', v_table::oid::bigint)) then
        return 0; -- another process makes them
    end if;
    for v_day in 0 .. days_ahead loop
        v_start := (date_trunc('day', now() at time zone 'UTC') + make_interval(days => v_day)) at time zone 'UTC';
        v_end := v_start + interval '24 hours';
        continue when exists (
            select from @schema@.job_runs_partitions() p
            where not p.is_default and p.lower_bound < v_end and p.upper_bound > v_start
        );
        v_name := format('%I.%I', v_schema, 'job_runs_p' || to_char(v_start at time zone 'UTC', 'YYYYMMDD'));
        begin
            -- The parent first: an INSERT that has chosen the default partition would fail when it goes on.
            lock table @schema@.job_runs in access exclusive mode;
            select count(*) into v_rows
            from (
                select from @schema@.job_runs_default d where d.ended_at >= v_start and d.ended_at < v_end limit 10001
            ) found;
            -- PostgreSQL reads the whole default partition when it attaches one. Both are for moments only.
            continue when v_rows > 10000
                or pg_relation_size(v_default) > 2 ^ 30;
            execute format('create table %s (like %s including all) %s', v_name, v_table, v_tablespace);
            execute format(
                'with moved as (delete from %s d where d.ended_at >= %L and d.ended_at < %L returning d.*)'
                ' insert into %s select moved.* from moved',
                v_default, v_start, v_end, v_name
            );
            execute format(
                'alter table %s attach partition %s for values from (%L) to (%L)',
                v_table, v_name, v_start, v_end
            );
            v_created := v_created + 1;
        exception
            when lock_not_available then
                return v_created;
        end;
    end loop;
    return v_created;
end
$$;
