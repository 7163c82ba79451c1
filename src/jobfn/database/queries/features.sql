-- $1: the schema's name. What it offers beyond the least that the contract asks for.
select
    (
        select count(*) from pg_catalog.pg_proc p
        where p.pronamespace = n.oid and p.proname in ('claim_jobs', 'settle_held_jobs')
    ) = 2 and exists (
        select from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
        where c.relnamespace = n.oid and c.relname = 'jobs' and a.attname = 'traceparent' and not a.attisdropped
    ) as batches,
    exists (
        select from pg_catalog.pg_proc p where p.pronamespace = n.oid and p.proname = 'settle_and_keep'
    ) as results,
    exists (
        select from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
        where c.relnamespace = n.oid and c.relname = 'jobs' and a.attname = 'actor_id' and not a.attisdropped
    ) as actor_id,
    exists (
        select from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
        where c.relnamespace = n.oid and c.relname = 'jobs' and a.attname = 'entity_id' and not a.attisdropped
    ) as entity_id
from pg_catalog.pg_namespace n
where n.nspname = $1
