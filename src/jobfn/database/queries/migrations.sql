-- Install the schema, find out what a database has, and grant rights.

-- name: lock_migrations
-- $1 the lock number: one migration at a time in a database, for all schemas, until the transaction ends.
select pg_advisory_xact_lock($1)

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
    functions.names as function_names,
    coalesce(
        (
            select has_any_column_privilege(c.oid, 'select')
            from pg_catalog.pg_class c
            where c.relnamespace = n.oid and c.relname = 'jobfn_migrations'
        ),
        false
    ) as is_record_readable,
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

-- name: create_schema
create schema @schema@

-- name: create_record
create table @schema@.jobfn_migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)

-- name: applied_migrations
select version, checksum from @schema@.jobfn_migrations order by version

-- name: applied_versions
select version from @schema@.jobfn_migrations

-- name: record_migration
insert into @schema@.jobfn_migrations (version, name, checksum) values ($1, $2, $3)

-- name: unknown_roles
-- $1 names. Returns those that are not names of roles.
select role.name
from unnest($1::text[]) as role (name)
where not exists (select from pg_catalog.pg_roles r where r.rolname = role.name)

-- name: grant_enqueue
-- For a role that enqueues: the schema, and all forms of adding. These functions run with the rights of their owner.
grant usage on schema @schema@ to @role@;
grant execute on function
    @schema@.add_job(text, json, text, text, timestamptz, int, int, uuid, uuid, text),
    @schema@.add_job(text, text, text, text, timestamptz, int, int),
    @schema@.add_job(uuid, text, json, text, text, timestamptz, int, int),
    @schema@.add_jobs(text, json[], text[], text[], timestamptz[], int, int, uuid),
    @schema@.set_default_expiry(timestamptz),
    @schema@.add_scheduled_job(text, text, json, text, text, int, int),
    @schema@.add_scheduled_job(text, json, json, text, text, int, int, uuid),
    @schema@.add_scheduled_job(uuid, text, json, json, text, text, int, int),
    @schema@.signal(bigint, text, json),
    @schema@.signal(text, text, json),
    @schema@.signal_jobs(text[], text, json[]),
    @schema@.add_job_after(text, bigint[], json, text, text, timestamptz, int, int, uuid, uuid, text, boolean),
    @schema@.add_batch(text, json[], text, json, text[], text[], timestamptz[], int, int, boolean),
    @schema@.add_unique_job,
    @schema@.add_unique_jobs,
    @schema@.add_debounced_job
    to @role@;

-- name: grant_worker
-- For a role that runs worker, callback server and scheduler, jobfn's or the platform's. The functions run with the
-- rights of their owner. The role may also count jobs (queue_depth), and lock and read schedules (due_schedules,
-- next_schedule_due), but it may read no payload.
grant usage on schema @schema@ to @role@;
grant execute on function
    @schema@.claim_jobs,
    @schema@.claim_jobs_of_queues,
    @schema@.has_lease,
    @schema@.same_jobs,
    @schema@.next_run_at,
    @schema@.renew_leases,
    @schema@.record_learned_attempts,
    @schema@.cancelled_jobs,
    @schema@.end_cancelled_run,
    @schema@.expire_jobs,
    @schema@.heartbeat_job,
    @schema@.mark_accepted,
    @schema@.reap_expired_jobs,
    @schema@.settle_jobs,
    @schema@.settle_jobs_with_results,
    @schema@.settle_jobs_with_tracebacks,
    @schema@.snooze_jobs,
    @schema@.installation_id,
    @schema@.callback_secret,
    @schema@.is_locked_without_lease,
    @schema@.record_steps,
    @schema@.load_steps,
    @schema@.park_jobs,
    @schema@.get_job,
    @schema@.complete_job,
    @schema@.fail_job,
    @schema@.release_jobs,
    @schema@.reclaim_jobs,
    @schema@.get_scheduled_job,
    @schema@.run_scheduled_job,
    @schema@.release_scheduled_jobs,
    @schema@.advance_schedule,
    @schema@.end_schedule_pauses,
    @schema@.set_history_retention,
    @schema@.create_job_runs_partitions,
    @schema@.prune_job_runs,
    @schema@.prune_job_tracebacks,
    @schema@.prune_audit_log,
    @schema@.set_completed_payload_retention,
    @schema@.prune_completed_jobs,
    @schema@.prune_failed_jobs,
    @schema@.prune_unique_jobs,
    @schema@.sweep_limits,
    @schema@.pause_limits_of_job,
    @schema@.limit_usage,
    @schema@.heartbeat_worker(text, text, int, text, text[], int, int, interval),
    @schema@.heartbeat_worker(text, text, int, text, text[], int, int, interval, text[], text[], bigint),
    @schema@.deregister_worker,
    @schema@.paused_jobs
    to @role@;
grant select (run_at, exhausted, locked_at, attempts, parked_attempt, ended_as) on @schema@.jobs to @role@;
grant select (until) on @schema@.pauses to @role@;
grant select (job_id) on @schema@.held_jobs to @role@;
grant select (version) on @schema@.jobfn_migrations to @role@;
grant select (
    id, task_identifier, key, schedule_info, due_at, rule_changed_at, last_scheduled, locked_by, priority, paused_at,
    paused_until, last_error
) on @schema@.scheduled_jobs to @role@;
-- Locking a row needs the right to update one of its columns. get_scheduled_job writes this one anyway.
grant update (locked_at) on @schema@.scheduled_jobs to @role@;

-- name: grant_result
-- For a role that waits for results: the state, the last error and the stored result of any job.
grant usage on schema @schema@ to @role@;
grant execute on function @schema@.job_result(bigint) to @role@

-- name: grant_steps
-- For the role of ctx.db in functions: record steps of running jobs, in the transactions of their effects.
grant usage on schema @schema@ to @role@;
grant execute on function @schema@.record_transaction_step to @role@

-- name: grant_viewer
-- For a role that looks at jobs, schedules, workers and the history, payloads included.
grant usage on schema @schema@ to @role@;
grant select on
    @schema@.jobs,
    @schema@.job_queues,
    @schema@.job_runs,
    @schema@.job_tracebacks,
    @schema@.audit_log,
    @schema@.completed_jobs,
    @schema@.job_steps,
    @schema@.job_dependencies,
    @schema@.job_signals,
    @schema@.scheduled_jobs,
    @schema@.workers,
    @schema@.pauses,
    @schema@.tenant_weights,
    @schema@.history_settings,
    @schema@.limits,
    @schema@.limit_keys,
    @schema@.limit_slots,
    @schema@.cancelled_runs,
    @schema@.limit_starts,
    @schema@.held_jobs,
    @schema@.task_settings,
    @schema@.learned_attempts,
    @schema@.jobfn_migrations
    to @role@;
grant execute on function @schema@.job_pauses, @schema@.explain_wait to @role@

-- name: grant_operator
-- For a role that acts on jobs and schedules, in addition to grant_viewer and grant_enqueue. The functions run with the
-- rights of their owner.
grant execute on function
    @schema@.retry_jobs,
    @schema@.run_jobs_now,
    @schema@.run_jobs_again,
    @schema@.wake_jobs,
    @schema@.retry_job_from_step,
    @schema@.cancel_jobs,
    @schema@.set_expiry,
    @schema@.complete_jobs,
    @schema@.permanently_fail_jobs,
    @schema@.reschedule_jobs,
    @schema@.remove_job,
    @schema@.force_unlock_workers,
    @schema@.run_scheduled_job,
    @schema@.run_schedule(bigint),
    @schema@.run_schedule(text),
    @schema@.pause_schedule(bigint, text),
    @schema@.pause_schedule(text, text),
    @schema@.pause_schedule(bigint, text, timestamptz),
    @schema@.pause_schedule(text, text, timestamptz),
    @schema@.resume_schedule(bigint),
    @schema@.resume_schedule(text),
    @schema@.pause,
    @schema@.resume,
    @schema@.set_tenant_weight,
    @schema@.set_limit,
    @schema@.remove_limit,
    @schema@.pause_limit_key,
    @schema@.signal_by_operator(bigint, text, json),
    @schema@.signal_by_operator(text, text, json)
    to @role@;
grant delete on @schema@.scheduled_jobs to @role@;
grant insert, update, delete on @schema@.task_settings to @role@

-- name: grant_vacuum
-- PostgreSQL 17 and later: vacuum a table without owning it.
grant maintain on @schema@.jobs to @role@

-- name: denied_object
-- $1: the schema's name, $2: PostgreSQL's message about a missing right, which ends in the name of an object. The object of that name, this role, and whether the role may use the schema or read the table.
select current_user::text as role, found.kind, found.name, found.is_allowed,
    pg_get_userbyid(coalesce(jobs.relowner, n.nspowner))::text as owner,
    exists (
        select from pg_catalog.pg_class r where r.relnamespace = n.oid and r.relname = 'jobfn_migrations'
    ) as is_native
from pg_catalog.pg_namespace n
left join pg_catalog.pg_class jobs on jobs.relnamespace = n.oid and jobs.relname = 'jobs'
cross join lateral (
    select 'schema' as kind, n.nspname::text as name, has_schema_privilege(n.oid, 'usage') as is_allowed
    union all
    select 'table', c.relname::text, has_table_privilege(c.oid, 'select')
    from pg_catalog.pg_class c
    where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v')
    union all
    select 'function', p.proname::text, false
    from pg_catalog.pg_proc p
    where p.pronamespace = n.oid
) found
where n.nspname = $1 and right($2, length(found.name) + 1) = ' ' || found.name
limit 1

-- name: schema_owner
-- $1: the schema's name. This role, the owner of jobfn's tables, and whether this role has the owner's rights.
select current_user::text as role, pg_get_userbyid(c.relowner)::text as owner,
    pg_has_role(c.relowner, 'usage') as is_owner
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = 'jobfn_migrations'

-- name: set_audit_retention
-- $1 days.
select @schema@.set_audit_retention($1)

-- name: set_max_payload_bytes
select @schema@.set_max_payload_bytes($1)
