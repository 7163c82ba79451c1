-- What says whether the jobs table is to be vacuumed. $1: the schema's name; $2: so many dead rows are worth a look at
-- the locks. Read from the catalog and the statistics, which every role may.
select
    pg_stat_get_live_tuples(c.oid) as live,
    pg_stat_get_dead_tuples(c.oid) as dead,
    pg_stat_get_vacuum_count(c.oid) + pg_stat_get_autovacuum_count(c.oid) as vacuums,
    -- the owner of the table or of the database, a superuser, and since 17 whoever was granted this right
    pg_has_role(c.relowner, 'usage') or pg_has_role(d.datdba, 'usage') or case
        when current_setting('server_version_num')::int >= 170000 then has_table_privilege(c.oid, 'maintain')
        else false
    end as is_allowed,
    -- somebody vacuums it now, or does what a vacuum would wait for: one that steps back leaves a warning in the log
    case when pg_stat_get_dead_tuples(c.oid) >= $2 then exists (
        select from pg_catalog.pg_locks l
        where l.relation = c.oid
            and l.database = d.oid
            and l.mode in (
                'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
            )
    ) else false end as is_locked
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = $1
join pg_catalog.pg_database d on d.datname = current_database()
where c.relname = 'jobs'
