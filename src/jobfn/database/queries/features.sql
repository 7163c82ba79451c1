-- $1: the schema's name. What this schema offers beyond the least that the contract asks for.
select
    to_regprocedure(format('%I.claim_jobs(text, text[], interval, integer)', $1::text)) is not null as batches,
    exists (
        select from pg_catalog.pg_attribute
        where attrelid = to_regclass(format('%I.jobs', $1::text)) and attname = 'actor_id' and not attisdropped
    ) as actor_id,
    exists (
        select from pg_catalog.pg_attribute
        where attrelid = to_regclass(format('%I.jobs', $1::text)) and attname = 'entity_id' and not attisdropped
    ) as entity_id,
    exists (
        select from pg_catalog.pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text))
            and p.proname = 'add_job' and p.proargnames[1] = 'identifier'
    ) as add_job_by_identifier
