-- $1 schemas, $2 names: the relations of these names that there are.
select
    n.nspname::text as schema,
    c.relname::text as name,
    c.oid,
    c.relkind::text as kind,
    c.relkind = 'r' and not c.relispartition and not exists (
        select from pg_inherits i where c.oid in (i.inhrelid, i.inhparent)
    ) as stands_alone,
    array(
        select a.attname::text
        from pg_index x
        cross join lateral unnest(x.indkey) with ordinality as k (number, position)
        join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
        where x.indrelid = c.oid and x.indisprimary
        order by k.position
    ) as primary_key
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
