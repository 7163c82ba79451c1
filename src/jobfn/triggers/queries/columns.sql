-- $1: the oids of tables. Their columns in order.
select
    a.attrelid as table_oid,
    a.attname::text as name,
    a.atttypid as type_oid,
    not a.attnotnull as nullable,
    a.atttypid = 'numeric'::regtype and a.atttypmod >= 4 and ((a.atttypmod - 4) & 2047) = 0 as whole_numbers,
    a.attgenerated = 'v' as is_virtual
from pg_attribute a
where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum
