-- The history has a partition for each day, so that old attempts are dropped with their partition instead of deleted.
-- Maintenance makes the partitions of the next days. An attempt of a day without one goes to the default partition, so
-- that no settlement depends on maintenance.
--
-- A filled table becomes a partition for everything until tomorrow, in three migrations: this one renames it, the next
-- one checks its rows while jobs run, and the third one attaches it. None of them holds a lock while it reads the table.

do $$
declare
    v_old constant regclass := '@schema@.job_runs';
    v_until constant timestamptz := (date_trunc('day', now() at time zone 'UTC') + interval '1 day') at time zone 'UTC';
begin
    lock table @schema@.job_runs in access exclusive mode;
    alter table @schema@.job_runs rename to job_runs_before_partitions;
    alter index @schema@.job_runs_job_id_idx rename to job_runs_before_partitions_job_id_idx;
    alter index @schema@.job_runs_ended_at_idx rename to job_runs_before_partitions_ended_at_idx;
    execute format(
        'alter table %s add constraint job_runs_before_partitions_end check (ended_at < %L) not valid', v_old, v_until
    );
end
$$;

-- The outcomes are not checked any more: the functions write literals, and PostgreSQL would parse the check for each INSERT.
create table @schema@.job_runs (like @schema@.job_runs_before_partitions including defaults) partition by range (ended_at);

-- A long retention has wider partitions, so that there are never more than about 60: each statement about the history
-- locks and plans all of them.

comment on table @schema@.job_runs is
    'The history: one row for each attempt that ended, in one partition for each day, or a sixtieth of the retention. '
    'prune_job_runs drops those past history_settings.retention.';

create index job_runs_job_id_idx on @schema@.job_runs (job_id);
create index job_runs_ended_at_idx on @schema@.job_runs (ended_at);

create table @schema@.job_runs_default partition of @schema@.job_runs default;

comment on table @schema@.job_runs_default is
    'Attempts of days without a partition, for example because no service ran that makes them.';

do $$
declare
    v_old constant regclass := '@schema@.job_runs_before_partitions';
    v_new constant regclass := '@schema@.job_runs';
    v_until constant timestamptz := (date_trunc('day', now() at time zone 'UTC') + interval '1 day') at time zone 'UTC';
    v_grant record;
    v_function oid;
begin
    for v_grant in
        select g.privilege_type, case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end as role
        from pg_catalog.pg_class c
        cross join lateral aclexplode(c.relacl) g
        where c.oid = v_old and g.grantee <> c.relowner
    loop
        execute format('grant %s on %s to %s', v_grant.privilege_type, v_new, v_grant.role);
    end loop;

    -- The clock may have been wrong.
    with moved as (delete from @schema@.job_runs_before_partitions old where old.ended_at >= v_until returning old.*)
    insert into @schema@.job_runs select moved.* from moved;
    if not exists (select from @schema@.job_runs_before_partitions) then
        drop table @schema@.job_runs_before_partitions;
    end if;

    -- Open sessions have compiled functions with variables of the old table's type. Defining a function again, as it
    -- is, makes them compile it again.
    for v_function in
        select p.oid
        from pg_catalog.pg_proc p
        join pg_catalog.pg_class c on c.relnamespace = p.pronamespace
        where c.oid = v_new and p.prosrc like '%job_runs%'
    loop
        execute pg_get_functiondef(v_function);
    end loop;
end
$$;

create function @schema@.job_runs_partitions()
    returns table (partition regclass, lower_bound timestamptz, upper_bound timestamptz, is_default boolean)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC' -- for the bounds, which PostgreSQL gives as text only
    set datestyle = 'ISO'
as $$
    select c.oid::regclass,
        coalesce(substring(bound.text from 'FROM \(''([^'']+)''\)')::timestamptz, '-infinity'),
        coalesce(substring(bound.text from 'TO \(''([^'']+)''\)')::timestamptz, 'infinity'),
        bound.text = 'DEFAULT'
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral (select pg_get_expr(c.relpartbound, c.oid)) bound (text)
    where i.inhparent = '@schema@.job_runs'::regclass
$$;

comment on function @schema@.job_runs_partitions() is 'The partitions of the history and their bounds.';

-- A long retention has wider partitions, so that there are never more than about 60: each statement about the history
-- locks and plans all of them.
create function @schema@.create_job_runs_partitions(days_ahead int) returns int
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

-- A long retention has wider partitions, so that there are never more than about 60: each statement about the history
-- locks and plans all of them.

comment on function @schema@.create_job_runs_partitions(int) is
    'Make the partitions of the history for today and the next days: of one day each, or of more with a retention of more '
    'than 60 days. Returns the number of partitions made.';

create or replace function @schema@.prune_job_runs(max_rows int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '200ms' -- settlements wait behind the lock that drops a partition: try again later
as $$
declare
    v_retention constant interval := (select h.retention from @schema@.history_settings h);
    v_cutoff constant timestamptz := now() - v_retention;
    v_partition record;
    v_deleted int := 0;
    v_count int;
begin
    for v_partition in
        select p.* from @schema@.job_runs_partitions() p where p.lower_bound < v_cutoff order by p.lower_bound
    loop
        if v_partition.upper_bound <= v_cutoff then
            begin
                execute format('drop table %s', v_partition.partition);
            exception
                when lock_not_available or undefined_table then
                    null; -- another pruner may have dropped it
            end;
        elsif v_partition.lower_bound = '-infinity' or v_retention < interval '1 day' then
            execute format(
                'delete from %1$s r where r.ctid = any (array('
                '    select old.ctid from %1$s old where old.ended_at <= %2$L'
                '    order by old.ended_at limit %3$s for update skip locked' -- another pruner deletes those
                '))',
                v_partition.partition, v_cutoff, max_rows - v_deleted
            );
            get diagnostics v_count = row_count;
            v_deleted := v_deleted + v_count;
        end if;
    end loop;
    return v_deleted;
end
$$;

comment on function @schema@.prune_job_runs(int) is
    'Drop the partitions of the history past the retention, and delete up to max_rows of the oldest attempts past the '
    'retention that have no partition of one day. Returns the number of deleted rows.';
comment on function @schema@.set_history_retention(double precision) is
    'Set for how many days attempts are kept; 0 records none, and lets prune_job_runs delete those that exist. A whole '
    'day is dropped at a time, except with a retention of less than a day.';

revoke execute on function @schema@.job_runs_partitions(), @schema@.create_job_runs_partitions(int) from public;

select @schema@.grant_like('prune_job_runs', '{create_job_runs_partitions}');
