-- $1: the schema's name. Whether its index of job keys has them in the order of their bytes (as in a database made with
-- C or C.UTF-8): only then do all keys of one beginning lie between two others for certain.
select
    case c.collname
        when 'C' then true
        when 'default' then
            case to_jsonb(d) ->> 'datlocprovider' -- not there before PostgreSQL 15
                when 'i' then false
                when 'b' then true
                else d.datcollate in ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
            end
        else false
    end
from pg_catalog.pg_class t
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attname = 'key'
join pg_catalog.pg_collation c on c.oid = a.attcollation
join pg_catalog.pg_database d on d.datname = current_database()
where n.nspname = $1 and t.relname = 'jobs'
