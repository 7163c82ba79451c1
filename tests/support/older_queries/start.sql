-- The statement that a service starts with.

-- name: schema_kind
-- $1: the schema's name. Whether it exists, who made it, what it has, and whether this role may use it. Read from the
-- catalog: other ways to look names up fail without the right to use the schema.
select
    n.oid is not null as has_schema,
    current_user::text as role,
    pg_get_userbyid(n.nspowner)::text as owner,
    coalesce(has_schema_privilege(n.oid, 'usage'), false) as is_usable,
    'jobfn_migrations' = any (tables.names) as has_record,
    -- a function of the first migration of every pre-release, and of no release
    'tg_free_queue' = any (functions.names) as has_prerelease_function,
    'jobs' = any (tables.names) as has_jobs,
    'scheduled_jobs' = any (tables.names) as has_schedules,
    functions.names @> array['claim_jobs', 'settle_jobs_with_results', 'installation_id'] as has_batches,
    'advance_schedule' = any (functions.names) as has_due_times,
    'actor_id' = any (job_columns.names) as has_actor_id,
    'entity_id' = any (job_columns.names) as has_entity_id,
    'organization_id' = any (job_columns.names) as has_organization_id
from (select) as one
left join pg_catalog.pg_namespace n on n.nspname = $1
cross join lateral (
    select array(select c.relname::text from pg_catalog.pg_class c where c.relnamespace = n.oid)
) tables (names)
cross join lateral (
    select array(select p.proname::text from pg_catalog.pg_proc p where p.pronamespace = n.oid)
) functions (names)
cross join lateral (
    select array(
        select a.attname::text
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_class c on c.oid = a.attrelid
        where c.relnamespace = n.oid and c.relname = 'jobs' and not a.attisdropped
    )
) job_columns (names)
