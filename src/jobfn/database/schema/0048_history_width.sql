-- A long retention has wider partitions, so that there are never more than about 60: each statement about the history
-- locks and plans all of them.

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
    -- Days of a partition.
    v_days constant int := greatest(
        ceil((select extract(epoch from h.retention) / 86400 / 60 from @schema@.history_settings h)), 1
    );
    v_today constant timestamptz := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC';
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
    v_end := v_today;
    while v_end < v_today + days_ahead * interval '24 hours' + interval '1 hour' loop
        v_start := v_end;
        select p.upper_bound into v_end
        from @schema@.job_runs_partitions() p
        where not p.is_default and p.lower_bound <= v_start and p.upper_bound > v_start;
        continue when found;
        select least(v_start + v_days * interval '24 hours', min(p.lower_bound)) into v_end
        from @schema@.job_runs_partitions() p
        where not p.is_default and p.lower_bound > v_start;
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

comment on function @schema@.create_job_runs_partitions(int) is
    'Make the partitions of the history for today and the next days: of one day each, or of more with a retention of more '
    'than 60 days. Returns the number of partitions made.';
comment on table @schema@.job_runs is
    'The history: one row for each attempt that ended, in one partition for each day, or a sixtieth of the retention. '
    'prune_job_runs drops those past history_settings.retention.';
