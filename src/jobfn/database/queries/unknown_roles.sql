-- $1 names. Those that no role has.
select wanted.name
from unnest($1::text[]) as wanted (name)
where not exists (select from pg_catalog.pg_roles r where r.rolname = wanted.name)
