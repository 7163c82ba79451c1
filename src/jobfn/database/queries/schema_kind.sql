-- $1: the schema's name. Whether it is there, has our record of migrations, has a jobs table, and is open to us. Read
-- from the catalog: looking names up would be refused where it is not.
select
    n.oid is not null as has_schema,
    exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = 'jobfn_migrations') as has_record,
    exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = 'jobs') as has_jobs,
    coalesce(has_schema_privilege(n.oid, 'usage'), false) as is_open
from (select) as one
left join pg_catalog.pg_namespace n on n.nspname = $1
