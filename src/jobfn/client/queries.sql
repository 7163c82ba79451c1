-- Statements of the client. Values are text, lists of text or null, so that every driver sends the same. Each $n
-- occurs once, in order.

-- name: add_job
-- $1 identifier, $2 payload, $3 key, $4 queue, $5 run_at or null for now, $6 max_attempts, $7 priority: all as text.
select (@schema@.add_job(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int)
)).id

-- name: add_job_for_tenant
-- As add_job, with the tenant as $8.
select (@schema@.add_job(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int),
    db_id => cast(cast($8 as text) as uuid)
)).id

-- name: add_job_for_entity
-- As add_job, with $8 entity, $9 organization and $10 what the entity is.
select (@schema@.add_job(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int),
    entity_id => cast(cast($8 as text) as uuid), organization_id => cast(cast($9 as text) as uuid),
    entity_type => cast($10 as text)
)).id

-- name: add_job_after
-- As add_job_for_entity, with $11 the ids of the jobs that it depends on and $12 whether it ignores their failures.
select (@schema@.add_job_after(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int),
    entity_id => cast(cast($8 as text) as uuid), organization_id => cast(cast($9 as text) as uuid),
    entity_type => cast($10 as text), depends_on => cast(cast($11 as text[]) as bigint[]),
    ignore_failures => cast(cast($12 as text) as boolean)
)).id

-- name: add_debounced_job
-- As add_job_for_entity, with $11 the maximum delay.
select (@schema@.add_debounced_job(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int),
    entity_id => cast(cast($8 as text) as uuid), organization_id => cast(cast($9 as text) as uuid),
    entity_type => cast($10 as text), max_delay => cast(cast($11 as text) as interval)
)).id

-- name: add_unique_job
-- As add_job_after, with $13 period, $14 until, $15 fields as text[] and $16 what to do with a duplicate, whose id is
-- returned as a negative number.
select case when added.is_duplicate then -added.job_id else added.job_id end
from @schema@.add_unique_job(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int),
    entity_id => cast(cast($8 as text) as uuid), organization_id => cast(cast($9 as text) as uuid),
    entity_type => cast($10 as text), depends_on => cast(cast($11 as text[]) as bigint[]),
    ignore_failures => cast(cast($12 as text) as boolean), unique_for => cast(cast($13 as text) as interval),
    unique_until => cast($14 as text), unique_by => cast($15 as text[]), on_conflict => cast($16 as text)
) as added

-- name: add_unique_jobs
-- As add_jobs without the tenant, with $8 period, $9 until, $10 fields as text[] and $11 what to do with duplicates,
-- whose ids are returned as negative numbers.
select coalesce(
    array_agg(case when added.is_duplicate then -added.job_id else added.job_id end order by added.position), '{}'
)
from @schema@.add_unique_jobs(
    identifier => cast($1 as text), payloads => cast(cast($2 as text[]) as json[]), job_keys => cast($3 as text[]),
    queue_names => cast($4 as text[]), run_ats => cast(cast($5 as text[]) as timestamptz[]),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int),
    unique_for => cast(cast($8 as text) as interval), unique_until => cast($9 as text),
    unique_by => cast($10 as text[]), on_conflict => cast($11 as text)
) with ordinality as added (job_id, is_duplicate, position)

-- name: has_tenant_form
-- $1 the schema's name. Whether it has add_job_for_tenant. The platform's newest schema does not.
select exists (
    select
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = cast($1 as text) and p.proname = 'add_job' and 'db_id' = any (p.proargnames)
)

-- name: add_jobs
-- $1 identifier, $2 payloads, $3 keys, $4 queues, $5 run_ats, each as text[] or null, $6 max_attempts, $7 priority,
-- $8 tenant or null for the session's: as text.
select @schema@.add_jobs(
    cast($1 as text), cast(cast($2 as text[]) as json[]), cast($3 as text[]), cast($4 as text[]),
    cast(cast($5 as text[]) as timestamptz[]), cast(cast($6 as text) as int), cast(cast($7 as text) as int),
    cast(cast($8 as text) as uuid)
)

-- name: job_result
-- $1 the job's id, as text.
select @schema@.job_result(cast(cast($1 as text) as bigint))

-- name: as_tenant
-- Run a query that adds jobs (@query@) with $1 as the session's tenant, and restore the setting. As traced.
with before as materialized (
    select coalesce(current_setting('jwt.claims.database_id', true), '') as tenant
),
changed as materialized (
    select set_config('jwt.claims.database_id', cast($1 as text), true), before.tenant
    from before
),
added as materialized (
    select (
@query@
    ) as answer, changed.tenant
    from changed
)
select added.answer
from added
cross join lateral (
    select set_config('jwt.claims.database_id', added.tenant, true)
    where added.answer is not null
    offset 0
) as restored

-- name: expiring
-- Run a query that adds jobs (@query@), which expire at $1, a time, or $2 from now, and restore the setting. As traced.
with before as materialized (
    select coalesce(current_setting('jobfn.expires_at', true), '') as expires_at
),
changed as materialized (
    select
        @schema@.set_default_expiry(
            coalesce(cast(cast($1 as text) as timestamptz), clock_timestamp() + cast(cast($2 as text) as interval))
        ),
        before.expires_at
    from before
),
added as materialized (
    select (
@query@
    ) as answer, changed.expires_at
    from changed
)
select added.answer
from added
cross join lateral (
    select set_config('jobfn.expires_at', added.expires_at, true)
    where added.answer is not null
    offset 0
) as restored

-- name: traced
-- Run a query that adds jobs (@query@) with $1 traceparent and $2 tracestate, and restore the session's settings. Each
-- step reads from the one before it, so PostgreSQL runs them in this order.
with before as materialized (
    select
        coalesce(current_setting('jobfn.traceparent', true), '') as traceparent,
        coalesce(current_setting('jobfn.tracestate', true), '') as tracestate
),
changed as materialized (
    select
        set_config('jobfn.traceparent', cast($1 as text), true),
        set_config('jobfn.tracestate', cast($2 as text), true),
        before.traceparent,
        before.tracestate
    from before
),
added as materialized (
    select (
@query@
    ) as answer, changed.traceparent, changed.tracestate
    from changed
)
select added.answer
from added
cross join lateral (
    select
        set_config('jobfn.traceparent', added.traceparent, true),
        set_config('jobfn.tracestate', added.tracestate, true)
    where added.answer is not null
    offset 0
) as restored
