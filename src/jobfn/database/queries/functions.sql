-- Definitions of functions, which the platform's newest form keeps.

-- name: definition_tables
-- $1 schema.table; null: every table that the platform names so. The columns, and those that are generated.
select n.nspname as schema, c.relname as name,
    array_agg(a.attname::text order by a.attnum) as columns,
    coalesce(array_agg(a.attname::text) filter (where a.attgenerated <> ''), '{}') as generated
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p')
    and case when $1::text is null then c.relname ~ '^(.+_)?function_definitions$' else $1 = n.nspname || '.' || c.relname end
group by n.nspname, c.relname
having 'task_identifier' = any (array_agg(a.attname::text))
order by n.nspname, c.relname
