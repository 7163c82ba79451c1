-- The whole jobs schema as PostgreSQL sees it, in the order of names. Generated: do not edit.
-- Change it with a new migration in schema/, and run `make schema-snapshot`.

create table app_jobs.audit_log (
    id bigint not null,
    at timestamp with time zone not null default clock_timestamp(),
    actor text not null,
    role text not null,
    source text not null,
    action text not null,
    target text not null,
    job_count integer,
    details jsonb,
    operation uuid,
    constraint audit_log_actor_length CHECK ((length(actor) <= 200)),
    constraint audit_log_pkey PRIMARY KEY (id),
    constraint audit_log_source_known CHECK ((source = ANY (ARRAY['cli'::text, 'dashboard'::text, 'mcp'::text, 'sql'::text]))),
    constraint audit_log_target_length CHECK ((length(target) <= 300))
);

create table app_jobs.cancelled_runs (
    id bigint not null default nextval('app_jobs.cancelled_runs_id_seq'::regclass),
    job_id bigint not null,
    attempt integer not null,
    worker_id text not null,
    queue_name text,
    ends_at timestamp with time zone not null,
    constraint cancelled_runs_pkey PRIMARY KEY (id)
);

create table app_jobs.claim_positions (
    id bigint not null,
    claims bigint not null,
    priority integer not null,
    run_at timestamp with time zone not null,
    job_id bigint not null,
    queued_priority integer not null,
    queued_run_at timestamp with time zone not null,
    queued_job_id bigint not null,
    valid_until timestamp with time zone not null,
    constraint claim_positions_pkey PRIMARY KEY (id)
);

create table app_jobs.completed_jobs (
    id bigint not null,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    organization_id uuid,
    entity_type text,
    queue_name text,
    task_identifier text not null,
    payload json not null,
    priority integer not null,
    max_attempts integer not null,
    created_at timestamp with time zone not null,
    completed_at timestamp with time zone not null,
    constraint completed_jobs_pkey PRIMARY KEY (id)
);

create table app_jobs.held_jobs (
    job_id bigint not null,
    limit_name text not null,
    key text not null,
    priority integer not null,
    run_at timestamp with time zone not null,
    held_at timestamp with time zone not null default now(),
    constraint held_jobs_pkey PRIMARY KEY (job_id)
) with (autovacuum_vacuum_scale_factor=0.02);

create table app_jobs.history_settings (
    retention interval not null,
    completed_payload_retention interval not null default '00:00:00'::interval,
    audit_retention interval not null default '365 days'::interval,
    constraint history_settings_completed_payload_retention_not_negative CHECK ((completed_payload_retention >= '00:00:00'::interval)),
    constraint history_settings_retention_not_negative CHECK ((retention >= '00:00:00'::interval))
);

create table app_jobs.installation (
    id uuid not null default gen_random_uuid(),
    callback_secret text not null default encode(sha256(convert_to((((gen_random_uuid())::text || (gen_random_uuid())::text) || (gen_random_uuid())::text), 'UTF8'::name)), 'hex'::text)
);

create table app_jobs.job_dependencies (
    job_id bigint not null,
    dependency_id bigint not null,
    run_at timestamp with time zone not null,
    ignores_failure boolean not null,
    has_ended boolean not null default false,
    error text,
    constraint job_dependencies_pkey PRIMARY KEY (dependency_id, job_id)
);

create table app_jobs.job_results (
    job_id bigint not null,
    result json,
    storage_error text,
    ended_at timestamp with time zone not null default now(),
    expires_at timestamp with time zone not null,
    constraint job_results_pkey PRIMARY KEY (job_id)
);

create table app_jobs.job_runs (
    job_id bigint not null,
    attempt integer not null,
    task_identifier text not null,
    queue_name text,
    database_id uuid,
    worker text,
    enqueued_at timestamp with time zone not null,
    due_at timestamp with time zone not null,
    started_at timestamp with time zone,
    ended_at timestamp with time zone not null default now(),
    outcome text not null,
    error text
) partition by RANGE (ended_at);

create table app_jobs.job_runs_default (
    job_id bigint not null,
    attempt integer not null,
    task_identifier text not null,
    queue_name text,
    database_id uuid,
    worker text,
    enqueued_at timestamp with time zone not null,
    due_at timestamp with time zone not null,
    started_at timestamp with time zone,
    ended_at timestamp with time zone not null default now(),
    outcome text not null,
    error text
) partition DEFAULT;

create table app_jobs.job_signals (
    id bigint not null,
    job_id bigint not null,
    event text not null,
    payload json,
    sent_at timestamp with time zone not null default now(),
    constraint job_signals_pkey PRIMARY KEY (job_id, id)
);

create table app_jobs.job_steps (
    job_id bigint not null,
    "position" integer not null,
    name text not null,
    kind text not null,
    state text not null,
    wait_group integer,
    result json,
    error text,
    attempt integer not null,
    event text,
    wake_at timestamp with time zone,
    child_id bigint,
    started_at timestamp with time zone not null,
    ended_at timestamp with time zone,
    constraint job_steps_kind_known CHECK ((kind = ANY (ARRAY['step'::text, 'sleep'::text, 'wait'::text, 'call'::text, 'then'::text]))),
    constraint job_steps_pkey PRIMARY KEY (job_id, "position"),
    constraint job_steps_position_limited CHECK ((("position" >= 1) AND ("position" <= 10000))),
    constraint job_steps_state_known CHECK ((state = ANY (ARRAY['waiting'::text, 'completed'::text, 'failed'::text, 'timed_out'::text])))
);

create table app_jobs.job_tracebacks (
    job_id bigint not null,
    ended_at timestamp with time zone not null default now(),
    traceback text not null,
    constraint job_tracebacks_length CHECK ((length(traceback) <= 16384)),
    constraint job_tracebacks_pkey PRIMARY KEY (job_id, ended_at)
);

create table app_jobs.jobfn_migrations (
    version integer not null,
    name text not null,
    checksum text not null,
    applied_at timestamp with time zone not null default now(),
    constraint jobfn_migrations_pkey PRIMARY KEY (version)
);

create table app_jobs.jobs (
    id bigint not null default nextval('app_jobs.jobs_id_seq'::regclass),
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text,
    task_identifier text not null,
    payload json not null default '{}'::json,
    priority integer not null default 0,
    run_at timestamp with time zone not null default now(),
    attempts integer not null default 0,
    max_attempts integer not null default 25,
    key text,
    last_error text,
    locked_at timestamp with time zone,
    locked_by text,
    created_at timestamp with time zone not null default now(),
    updated_at timestamp with time zone not null default now(),
    lease_expires_at timestamp with time zone,
    progress real,
    progress_message text,
    accepted_attempt integer,
    fenced_attempt integer,
    traceparent text default "substring"(current_setting('jobfn.traceparent'::text, true), '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'::text),
    tracestate text default 
CASE
    WHEN (octet_length(current_setting('jobfn.tracestate'::text, true)) <= 512) THEN "substring"(current_setting('jobfn.tracestate'::text, true), '^[ -~]+$'::text)
    ELSE NULL::text
END,
    exhausted boolean not null default false,
    in_last_attempt boolean not null default false,
    organization_id uuid,
    entity_type text,
    snoozes integer,
    snoozing_since timestamp with time zone,
    payload_bytes integer,
    is_awaited boolean,
    has_steps boolean,
    parked_attempt integer,
    is_limited boolean,
    ended_as text,
    expires_at timestamp with time zone default (NULLIF(current_setting('jobfn.expires_at'::text, true), ''::text))::timestamp with time zone,
    constraint jobs_pkey PRIMARY KEY (id)
) with (fillfactor=45, autovacuum_vacuum_scale_factor=0.02, autovacuum_analyze_scale_factor=0.02);

create table app_jobs.learned_attempts (
    task_identifier text not null,
    max_attempts integer not null,
    learned_at timestamp with time zone not null default now(),
    constraint learned_attempts_max_attempts_positive CHECK ((max_attempts > 0)),
    constraint learned_attempts_pkey PRIMARY KEY (task_identifier),
    constraint learned_attempts_task_identifier_length CHECK (((length(task_identifier) >= 1) AND (length(task_identifier) <= 126)))
);

create table app_jobs.limit_keys (
    limit_name text not null,
    key text not null,
    paused_until timestamp with time zone,
    wake_at timestamp with time zone,
    constraint limit_keys_pkey PRIMARY KEY (limit_name, key)
) with (fillfactor=70);

create table app_jobs.limit_slots (
    job_id bigint not null,
    limit_name text not null,
    key text not null,
    constraint limit_slots_pkey PRIMARY KEY (job_id, limit_name)
) with (autovacuum_vacuum_scale_factor=0.02);

create table app_jobs.limit_starts (
    limit_name text not null,
    key text not null,
    ends_at timestamp with time zone not null,
    starts integer not null,
    constraint limit_starts_pkey PRIMARY KEY (limit_name, key, ends_at)
) with (autovacuum_vacuum_scale_factor=0.02);

create table app_jobs.limit_sweeps (
    swept_at timestamp with time zone not null,
    limit_name text not null default ''::text,
    key text not null default ''::text,
    starts_due_at timestamp with time zone not null default '-infinity'::timestamp with time zone
);

create table app_jobs.limit_wakeups (
    limit_name text not null,
    key text not null
) with (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000);

create table app_jobs.limits (
    name text not null,
    task_identifier text,
    queue_name text,
    per text,
    concurrency integer,
    rate_count integer,
    rate_interval interval,
    set_by text not null default 'operator'::text,
    created_at timestamp with time zone not null default now(),
    updated_at timestamp with time zone not null default now(),
    pauses_on_retry_later boolean not null default false,
    constraint limits_concurrency_limited CHECK (((concurrency >= 1) AND (concurrency <= 1000000))),
    constraint limits_name_length CHECK (((length(name) >= 1) AND (length(name) <= 126))),
    constraint limits_not_empty CHECK (((concurrency IS NOT NULL) OR (rate_count IS NOT NULL))),
    constraint limits_per_known CHECK (((per = ANY (ARRAY['tenant'::text, 'queue'::text, 'key'::text, 'task'::text])) OR ((per ~ '^payload(\.[^.]+)+$'::text) AND (length(per) <= 200)))),
    constraint limits_pkey PRIMARY KEY (name),
    constraint limits_rate_complete CHECK (((rate_count IS NULL) = (rate_interval IS NULL))),
    constraint limits_rate_count_limited CHECK (((rate_count >= 1) AND (rate_count <= 1000000))),
    constraint limits_rate_interval_limited CHECK (((rate_interval >= '00:00:01'::interval) AND (rate_interval <= '31 days'::interval)))
);

create table app_jobs.pauses (
    kind text not null,
    name text not null,
    since timestamp with time zone not null default now(),
    until timestamp with time zone,
    paused_by text not null,
    reason text,
    constraint pauses_kind_known CHECK ((kind = ANY (ARRAY['task'::text, 'queue'::text, 'tenant'::text, 'everything'::text]))),
    constraint pauses_name_length CHECK ((length(name) <= 126)),
    constraint pauses_paused_by_length CHECK ((length(paused_by) <= 200)),
    constraint pauses_pkey PRIMARY KEY (kind, name),
    constraint pauses_reason_length CHECK ((length(reason) <= 1000))
);

create table app_jobs.payload_settings (
    max_payload_bytes integer not null default 10485760,
    constraint payload_settings_max_payload_bytes_at_least_16_kib CHECK ((max_payload_bytes >= 16384))
);

create table app_jobs.queue_locks (
    queue_name text not null,
    job_id bigint,
    locked_by text not null,
    locked_at timestamp with time zone not null,
    lease_expires_at timestamp with time zone,
    constraint queue_locks_pkey PRIMARY KEY (queue_name)
);

create table app_jobs.scheduled_jobs (
    id bigint not null default nextval('app_jobs.scheduled_jobs_id_seq'::regclass),
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text,
    task_identifier text not null,
    payload json not null default '{}'::json,
    priority integer not null default 0,
    max_attempts integer not null default 25,
    key text,
    last_error text,
    locked_at timestamp with time zone,
    locked_by text,
    created_at timestamp with time zone not null default now(),
    updated_at timestamp with time zone not null default now(),
    schedule_info json not null,
    last_scheduled timestamp with time zone,
    last_scheduled_id bigint,
    rule_changed_at timestamp with time zone not null default clock_timestamp(),
    due_at timestamp with time zone,
    skipped bigint not null default 0,
    last_skipped timestamp with time zone,
    skip_reason text,
    paused_at timestamp with time zone,
    pause_reason text,
    paused_until timestamp with time zone,
    constraint scheduled_jobs_key_length CHECK (((length(key) >= 1) AND (length(key) <= 512))),
    constraint scheduled_jobs_key_unique UNIQUE (key),
    constraint scheduled_jobs_locked_by_length CHECK ((length(locked_by) > 3)),
    constraint scheduled_jobs_max_attempts_positive CHECK ((max_attempts > 0)),
    constraint scheduled_jobs_pkey PRIMARY KEY (id),
    constraint scheduled_jobs_queue_name_length CHECK (((length(queue_name) >= 1) AND (length(queue_name) <= 126))),
    constraint scheduled_jobs_task_identifier_length CHECK (((length(task_identifier) >= 1) AND (length(task_identifier) <= 126)))
);

create table app_jobs.task_settings (
    task_identifier text not null,
    declared_in text,
    queue_name text,
    priority integer,
    max_attempts integer,
    unique_for interval,
    unique_until text,
    unique_by text[],
    on_conflict text,
    override_queue_name text,
    override_priority integer,
    override_max_attempts integer,
    updated_at timestamp with time zone not null default now(),
    constraint task_settings_max_attempts_positive CHECK (((max_attempts > 0) AND (override_max_attempts > 0))),
    constraint task_settings_pkey PRIMARY KEY (task_identifier),
    constraint task_settings_queue_name_length CHECK ((((length(queue_name) >= 1) AND (length(queue_name) <= 126)) AND ((length(override_queue_name) >= 1) AND (length(override_queue_name) <= 126)))),
    constraint task_settings_task_identifier_length CHECK (((length(task_identifier) >= 1) AND (length(task_identifier) <= 126))),
    constraint task_settings_unique_valid CHECK ((((unique_for IS NULL) OR (unique_until IS NULL)) AND (unique_until = ANY (ARRAY['started'::text, 'done'::text])) AND ((unique_for >= '00:00:00.001'::interval) AND (unique_for <= '366 days'::interval)) AND (cardinality(unique_by) <= 32) AND (on_conflict = ANY (ARRAY['keep'::text, 'replace'::text, 'error'::text]))))
);

create table app_jobs.tenant_weights (
    database_id uuid not null,
    weight integer not null,
    constraint tenant_weights_pkey PRIMARY KEY (database_id),
    constraint tenant_weights_weight_limited CHECK (((weight >= 1) AND (weight <= 1000)))
);

create table app_jobs.unique_jobs (
    key bytea not null,
    job_id bigint,
    unique_until text not null,
    expires_at timestamp with time zone,
    prune_at timestamp with time zone not null,
    constraint unique_jobs_pkey PRIMARY KEY (key),
    constraint unique_jobs_until_known CHECK ((unique_until = ANY (ARRAY['started'::text, 'done'::text, 'expired'::text])))
);

create table app_jobs.workers (
    worker_id text not null,
    host text not null,
    pid integer not null,
    version text not null,
    roles text[] not null,
    concurrency integer not null,
    in_flight integer not null,
    heartbeat_interval interval not null,
    started_at timestamp with time zone not null default now(),
    last_heartbeat_at timestamp with time zone not null default now(),
    tasks text[],
    queues text[],
    max_in_flight_bytes bigint,
    constraint workers_pkey PRIMARY KEY (worker_id, host, pid)
) with (fillfactor=50);

create type app_jobs.job_row as (
    id bigint,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text,
    task_identifier text,
    payload json,
    priority integer,
    run_at timestamp with time zone,
    attempts integer,
    max_attempts integer,
    key text,
    last_error text,
    locked_at timestamp with time zone,
    locked_by text,
    created_at timestamp with time zone,
    updated_at timestamp with time zone,
    lease_expires_at timestamp with time zone,
    progress real,
    progress_message text,
    accepted_attempt integer,
    fenced_attempt integer,
    traceparent text,
    tracestate text,
    exhausted boolean,
    in_last_attempt boolean,
    organization_id uuid,
    entity_type text,
    snoozes integer,
    snoozing_since timestamp with time zone
);

CREATE INDEX audit_log_at_idx ON app_jobs.audit_log USING btree (at);
CREATE INDEX audit_log_operation_idx ON app_jobs.audit_log USING btree (operation) WHERE (operation IS NOT NULL);
CREATE INDEX cancelled_runs_ends_at_idx ON app_jobs.cancelled_runs USING btree (ends_at);
CREATE INDEX cancelled_runs_job_id_idx ON app_jobs.cancelled_runs USING btree (job_id);
CREATE INDEX claim_positions_claims_idx ON app_jobs.claim_positions USING btree (claims, id);
CREATE INDEX completed_jobs_completed_at_idx ON app_jobs.completed_jobs USING btree (completed_at);
CREATE INDEX held_jobs_key_idx ON app_jobs.held_jobs USING btree (limit_name, key, priority, run_at, job_id);
CREATE INDEX job_dependencies_job_id_idx ON app_jobs.job_dependencies USING btree (job_id, has_ended);
CREATE INDEX job_results_expires_at_idx ON app_jobs.job_results USING btree (expires_at);
CREATE INDEX job_runs_default_ended_at_idx ON app_jobs.job_runs_default USING btree (ended_at);
CREATE INDEX job_runs_default_job_id_idx ON app_jobs.job_runs_default USING btree (job_id);
CREATE INDEX job_runs_ended_at_idx ON ONLY app_jobs.job_runs USING btree (ended_at);
CREATE INDEX job_runs_job_id_idx ON ONLY app_jobs.job_runs USING btree (job_id);
CREATE INDEX job_steps_child_id_idx ON app_jobs.job_steps USING btree (child_id) WHERE (child_id IS NOT NULL);
CREATE INDEX job_steps_waiting_idx ON app_jobs.job_steps USING btree (job_id, wait_group) WHERE (state = 'waiting'::text);
CREATE INDEX job_tracebacks_ended_at_idx ON app_jobs.job_tracebacks USING btree (ended_at);
CREATE INDEX jobs_expires_at_idx ON app_jobs.jobs USING btree (expires_at) WHERE ((expires_at IS NOT NULL) AND (NOT exhausted));
CREATE INDEX jobs_failed_idx ON app_jobs.jobs USING btree (id) WHERE (exhausted OR (last_error IS NOT NULL));
CREATE INDEX jobs_in_last_attempt_idx ON app_jobs.jobs USING btree (id) WHERE in_last_attempt;
CREATE UNIQUE INDEX jobs_key_unique ON app_jobs.jobs USING btree (key) WHERE (key IS NOT NULL);
CREATE INDEX jobs_queue_name_ready_idx ON app_jobs.jobs USING btree (queue_name, priority, run_at, id) WHERE ((queue_name IS NOT NULL) AND (NOT exhausted));
CREATE INDEX jobs_queued_ready_idx ON app_jobs.jobs USING btree (priority, run_at, id) WHERE ((queue_name IS NOT NULL) AND (NOT exhausted));
CREATE INDEX jobs_ready_idx ON app_jobs.jobs USING btree (priority, run_at, id) WHERE ((queue_name IS NULL) AND (NOT exhausted));
CREATE INDEX jobs_task_ready_idx ON app_jobs.jobs USING btree (hashtextextended(task_identifier, (0)::bigint), priority, run_at, id NULLS FIRST) WHERE ((database_id IS NULL) AND (queue_name IS NULL) AND (NOT exhausted));
CREATE INDEX jobs_tenant_ready_idx ON app_jobs.jobs USING btree (priority, database_id, run_at NULLS FIRST, id) WHERE ((database_id IS NOT NULL) AND (queue_name IS NULL) AND (NOT exhausted));
CREATE INDEX jobs_tenant_task_ready_idx ON app_jobs.jobs USING btree (hashtextextended(task_identifier, (0)::bigint), priority, database_id NULLS FIRST, run_at NULLS FIRST, id NULLS FIRST) WHERE ((database_id IS NOT NULL) AND (queue_name IS NULL) AND (NOT exhausted));
CREATE INDEX limit_keys_wake_at_idx ON app_jobs.limit_keys USING btree (wake_at) WHERE (wake_at IS NOT NULL);
CREATE INDEX limit_slots_key_idx ON app_jobs.limit_slots USING btree (limit_name, key);
CREATE INDEX scheduled_jobs_due_at_idx ON app_jobs.scheduled_jobs USING btree (due_at);
CREATE INDEX unique_jobs_prune_at_idx ON app_jobs.unique_jobs USING btree (prune_at);

create view app_jobs.job_queues as
 SELECT queue_name,
    sum(jobs)::integer AS job_count,
    max(locked_at) AS locked_at,
    max(locked_by) AS locked_by
   FROM ( SELECT queue_name,
            1 AS jobs,
            NULL::timestamp with time zone AS locked_at,
            NULL::text AS locked_by
           FROM app_jobs.jobs j
          WHERE queue_name IS NOT NULL
        UNION ALL
         SELECT queue_name,
            0,
            locked_at,
            locked_by
           FROM app_jobs.queue_locks l) part
  GROUP BY queue_name;

CREATE OR REPLACE FUNCTION app_jobs.add_batch(identifier text, payloads json[], on_complete text, on_complete_payload json DEFAULT '{}'::json, job_keys text[] DEFAULT NULL::text[], queue_names text[] DEFAULT NULL::text[], run_ats timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer, ignore_failures boolean DEFAULT true)
 RETURNS TABLE(job_ids bigint[], on_complete_id bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if cardinality(payloads) > 10000 then
        raise program_limit_exceeded using
            message = 'add_batch: payloads has more than 10,000 jobs', hint = 'Add several batches.';
    end if;
    job_ids := "app_jobs".add_jobs(identifier, payloads, job_keys, queue_names, run_ats, max_attempts, priority);
    on_complete_id := ("app_jobs".add_job_after(
        identifier => on_complete, depends_on => job_ids, payload => on_complete_payload, priority => priority,
        ignore_failures => ignore_failures
    )).id;
    return next;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_debounced_job(identifier text, job_key text, run_at timestamp with time zone, max_delay interval, payload json DEFAULT '{}'::json, queue_name text DEFAULT NULL::text, max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer, entity_id uuid DEFAULT NULL::uuid, organization_id uuid DEFAULT NULL::uuid, entity_type text DEFAULT NULL::text)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_job "app_jobs".job_row;
begin
    if job_key is null or max_delay is null or max_delay <= interval '0' then
        raise check_violation using message = 'add_debounced_job: job_key must not be null, and max_delay above 0';
    end if;
    v_job := "app_jobs".insert_job(
        "app_jobs".jwt_claim('jwt.claims.database_id'), "app_jobs".jwt_claim('jwt.claims.user_id'), entity_id,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, organization_id, entity_type
    );
    if v_job.run_at > v_job.created_at + max_delay then
        v_job.run_at := v_job.created_at + max_delay;
        update "app_jobs".jobs j set run_at = v_job.run_at where j.id = v_job.id;
    end if;
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_job(db_id uuid, identifier text, payload json DEFAULT '{}'::json, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, run_at timestamp with time zone DEFAULT now(), max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return "app_jobs".insert_job(
        db_id, "app_jobs".jwt_claim('jwt.claims.user_id'), null,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, apply_unique => true
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_job(identifier text, payload json DEFAULT '{}'::json, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, run_at timestamp with time zone DEFAULT now(), max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer, entity_id uuid DEFAULT NULL::uuid, organization_id uuid DEFAULT NULL::uuid, entity_type text DEFAULT NULL::text)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return "app_jobs".insert_job(
        "app_jobs".jwt_claim('jwt.claims.database_id'), "app_jobs".jwt_claim('jwt.claims.user_id'), entity_id,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, organization_id, entity_type,
        apply_unique => true
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_job(identifier text, payload text, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, run_at timestamp with time zone DEFAULT now(), max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if "app_jobs".is_uuid(identifier) then
        -- add_job('5b720132-...', 'x', '{"id": 1}', 'key'): each argument is one place further on
        return "app_jobs".add_job(
            identifier::uuid, payload, job_key::json, queue_name, null, run_at, max_attempts, priority
        );
    end if;
    return "app_jobs".add_job(identifier, payload::json, job_key, queue_name, run_at, max_attempts, priority);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_job_after(identifier text, depends_on bigint[], payload json DEFAULT '{}'::json, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, run_at timestamp with time zone DEFAULT now(), max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer, entity_id uuid DEFAULT NULL::uuid, organization_id uuid DEFAULT NULL::uuid, entity_type text DEFAULT NULL::text, ignore_failures boolean DEFAULT false)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
    v_ids constant bigint[] := array(select distinct given.id from unnest(depends_on) as given (id) order by given.id);
    v_unknown bigint;
    v_waiting bigint[];
    v_job "app_jobs".job_row;
begin
    if depends_on is null or array_position(v_ids, null) is not null or ignore_failures is null then
        raise null_value_not_allowed using
            message = 'add_job_after: depends_on must be an array of job ids without null, and ignore_failures not null';
    end if;
    if cardinality(v_ids) > 10000 then
        raise program_limit_exceeded using
            message = 'add_job_after: depends_on has more than 10,000 jobs',
            hint = 'Let some jobs depend on a part each, and one job on these.';
    end if;
    select given.id into v_unknown
    from unnest(v_ids) as given (id), "app_jobs".jobs_id_seq s
    where given.id < 1 or given.id > s.last_value
    limit 1;
    if found then
        raise foreign_key_violation using message = format('add_job_after: depends_on has the id %s, which no job has', v_unknown);
    end if;
    -- A dependency that is just ending is waited for. Then its row is gone, or has failed.
    v_waiting := array(
        select locked.id
        from (select j.id from "app_jobs".jobs j where j.id = any (v_ids) order by j.id for no key update) locked
    );
    v_job := "app_jobs".insert_job(
        "app_jobs".jwt_claim('jwt.claims.database_id'), "app_jobs".jwt_claim('jwt.claims.user_id'), entity_id,
        identifier, payload, job_key, queue_name, case when v_waiting = '{}' then run_at else 'infinity' end,
        max_attempts, priority, organization_id, entity_type
    );
    if job_key is not null then
        perform from (
            with recursive upstream (id) as (
                select given.id from unnest(v_waiting) as given (id)
                union
                select d.dependency_id from upstream join "app_jobs".job_dependencies d on d.job_id = upstream.id
            )
            select from upstream where upstream.id = v_job.id
        ) cycle;
        if found then
            raise check_violation using
                message = format('add_job_after: depends_on of the job with the key %s leads back to it', job_key);
        end if;
    end if;
    if v_waiting = '{}' then
        return v_job;
    end if;
    update "app_jobs".jobs j set parked_attempt = 0 where j.id = v_job.id;
    insert into "app_jobs".job_dependencies
    select v_job.id, j.id, coalesce(add_job_after.run_at, now()), ignore_failures, j.exhausted and j.locked_at is null,
        case
            when j.exhausted and j.locked_at is null and not ignore_failures then format(
                'the job %s, which this one depends on, did not complete: %s',
                j.id, coalesce(j.last_error, 'it failed without an error message')
            )
        end
    from "app_jobs".jobs j
    where j.id = any (v_waiting);
    update "app_jobs".jobs j set is_awaited = true
    where j.id = any (v_waiting) and j.is_awaited is null and not (j.exhausted and j.locked_at is null);
    perform from "app_jobs".job_dependencies d where d.job_id = v_job.id and d.has_ended;
    if found then
        perform "app_jobs".release_dependents(array[v_job.id]);
        select ("app_jobs".to_job_row(j)).* into v_job from "app_jobs".jobs j where j.id = v_job.id;
    end if;
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_jobs(identifier text, payloads json[], job_keys text[] DEFAULT NULL::text[], queue_names text[] DEFAULT NULL::text[], run_ats timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer, db_id uuid DEFAULT NULL::uuid)
 RETURNS bigint[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_database_id uuid := coalesce(db_id, "app_jobs".jwt_claim('jwt.claims.database_id'));
    v_actor_id uuid := "app_jobs".jwt_claim('jwt.claims.user_id');
    v_max_attempts int := coalesce(add_jobs.max_attempts, 25);
    v_priority int := coalesce(add_jobs.priority, 0);
    -- Evaluated once here: the column defaults would be evaluated for each job.
    v_traceparent text := substring(
        current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
    );
    v_tracestate text := case
        when octet_length(current_setting('jobfn.tracestate', true)) <= 512
        then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
    end;
    v_ids bigint[];
    v_payload_bytes int; -- the maximum
    v_ids_by_key jsonb;
    v_entry record;
    v_settings "app_jobs".task_settings;
    v_claim text;
begin
    if coalesce(cardinality(payloads), 0) = 0 then
        return '{}';
    end if;
    if exists (
        select
        from (values (cardinality(job_keys)), (cardinality(queue_names)), (cardinality(run_ats))) as given (length)
        where length <> cardinality(payloads)
    ) then
        raise exception 'add_jobs: job_keys, queue_names and run_ats have one element for each payload, or are null'
            using errcode = 'array_subscript_error';
    end if;
    if "app_jobs".has_task_settings() then
        select * into v_settings from "app_jobs".task_settings s where s.task_identifier = add_jobs.identifier;
        if found then
            v_max_attempts := coalesce(
                v_settings.override_max_attempts, add_jobs.max_attempts, v_settings.max_attempts, 25
            );
            v_priority := coalesce(v_settings.override_priority, add_jobs.priority, v_settings.priority, 0);
            if coalesce(v_settings.override_queue_name, v_settings.queue_name) is not null then
                queue_names := array(
                    select coalesce(v_settings.override_queue_name, given.queue_name, v_settings.queue_name)
                    from generate_subscripts(payloads, 1) as n (position)
                    left join unnest(queue_names) with ordinality as given (queue_name, position) using (position)
                    order by position
                );
            end if;
            if coalesce(cardinality(array_remove(job_keys, null)), 0) = 0
                and (v_settings.unique_for is not null or v_settings.unique_until is not null)
            then
                v_claim := current_setting('jwt.claims.database_id', true);
                perform set_config('jwt.claims.database_id', coalesce(v_database_id::text, ''), true);
                v_ids := array(
                    select added.job_id
                    from "app_jobs".add_unique_jobs(
                        add_jobs.identifier, payloads, v_settings.unique_for, v_settings.unique_until,
                        v_settings.unique_by, coalesce(v_settings.on_conflict, 'keep'), null, queue_names, run_ats,
                        v_max_attempts, v_priority
                    ) with ordinality as added (job_id, is_duplicate, position)
                    order by added.position
                );
                perform set_config('jwt.claims.database_id', coalesce(v_claim, ''), true);
                return v_ids;
            end if;
        end if;
    end if;
    perform "app_jobs".check_job(identifier, null, null, max_attempts);
    perform "app_jobs".check_job(null, given.queue_name, given.job_key, null)
    from unnest(queue_names, job_keys) as given (queue_name, job_key)
    where length(given.queue_name) not between 1 and 126 or length(given.job_key) not between 1 and 512;

    if coalesce(cardinality(array_remove(job_keys, null)), 0) = 0 then
        with added as (
            insert into "app_jobs".jobs (
                database_id, actor_id, task_identifier, payload, queue_name, run_at, max_attempts, priority,
                traceparent, tracestate, payload_bytes
            )
            select
                v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.queue_name,
                coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate,
                nullif(greatest(octet_length(entry.payload::text), 16384), 16384)
            from unnest(payloads, queue_names, run_ats) with ordinality
                as entry (payload, queue_name, run_at, position)
            order by entry.position -- ids are assigned in this order
            returning id, payload_bytes
        )
        select array_agg(added.id order by added.id), max(added.payload_bytes) into v_ids, v_payload_bytes from added;
        perform "app_jobs".check_payload_size(add_jobs.identifier, v_payload_bytes);
        return v_ids;
    end if;

    -- As insert_job: a locked job loses its key to the new one.
    update "app_jobs".jobs j
    set key = null,
        max_attempts = greatest(j.attempts, 1) + case
            when j.locked_at is null and not j.exhausted then 1 else 0
        end,
        snoozing_since = '-infinity',
        updated_at = now()
    where j.key = any (job_keys) and (j.locked_at is not null or j.has_steps and j.attempts > 0);

    -- A key that is given twice makes one job, as if the second call had replaced the first: inserted at the first
    -- position, with the values of the last.
    with entries as (
        select
            entry.*,
            min(entry.position) over (partition by entry.key) as first_position,
            max(entry.position) over (partition by entry.key) as last_position
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, position)
    ),
    added as (
        insert into "app_jobs".jobs as j (
            database_id, actor_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority,
            traceparent, tracestate, payload_bytes
        )
        select
            v_database_id, v_actor_id, add_jobs.identifier, coalesce(entry.payload, '{}'), entry.key,
            entry.queue_name, coalesce(entry.run_at, now()), v_max_attempts, v_priority, v_traceparent, v_tracestate,
            nullif(greatest(octet_length(entry.payload::text), 16384), 16384)
        from entries entry
        where entry.key is null or entry.position = entry.last_position
        order by case when entry.key is null then entry.position else entry.first_position end
        on conflict (key) where key is not null do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = null,
            organization_id = null,
            entity_type = null,
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            payload_bytes = excluded.payload_bytes,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            snoozes = null,
            snoozing_since = null,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            expires_at = excluded.expires_at,
            updated_at = now()
        where j.locked_at is null and (j.has_steps is null or j.attempts = 0)
        returning j.id, j.key, j.payload_bytes
    )
    select
        array_agg(added.id order by added.id) filter (where added.key is null),
        coalesce(jsonb_object_agg(added.key, added.id) filter (where added.key is not null), '{}'),
        max(added.payload_bytes)
    into v_ids, v_ids_by_key, v_payload_bytes
    from added;
    perform "app_jobs".check_payload_size(add_jobs.identifier, v_payload_bytes);

    -- A worker may have claimed a job between the two statements above. Its key is missing in v_ids_by_key.
    for v_entry in
        select distinct on (entry.key) entry.*
        from unnest(payloads, job_keys, queue_names, run_ats) with ordinality
            as entry (payload, key, queue_name, run_at, position)
        where entry.key is not null and not v_ids_by_key ? entry.key
        order by entry.key, entry.position desc
    loop
        v_ids_by_key := v_ids_by_key || jsonb_build_object(v_entry.key, ("app_jobs".insert_job(
            v_database_id, v_actor_id, null, add_jobs.identifier, v_entry.payload, v_entry.key, v_entry.queue_name,
            v_entry.run_at, v_max_attempts, v_priority
        )).id);
    end loop;

    return (
        select array_agg(
            case when entry.key is null then v_ids[entry.rank] else (v_ids_by_key ->> entry.key)::bigint end
            order by entry.position
        )
        from (
            select given.*, count(*) filter (where given.key is null) over (order by given.position) as rank
            from unnest(job_keys) with ordinality as given (key, position)
        ) entry
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_scheduled_job(db_id uuid, identifier text, payload json DEFAULT '{}'::json, schedule_info json DEFAULT '{}'::json, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, max_attempts integer DEFAULT 25, priority integer DEFAULT 0)
 RETURNS app_jobs.scheduled_jobs
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select * from "app_jobs".insert_scheduled_job(
        db_id, identifier, payload, schedule_info, job_key, queue_name, max_attempts, priority
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_scheduled_job(identifier text, cron text, payload json DEFAULT '{}'::json, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, max_attempts integer DEFAULT 25, priority integer DEFAULT 0)
 RETURNS app_jobs.scheduled_jobs
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    -- Calls of the platform's forms with untyped literals end here, because PostgreSQL prefers text to json and uuid.
    if "app_jobs".is_uuid(identifier) then -- add_scheduled_job('5b720132-...', 'x', '{}', '{"rule": ...}')
        return "app_jobs".insert_scheduled_job(
            identifier::uuid, cron, payload, job_key::json, queue_name, null, max_attempts, priority
        );
    end if;
    if cron ~ '^\s*[{[]' then -- add_scheduled_job('x', '{}', '{"rule": ...}'): a cron rule never begins like that
        return "app_jobs".insert_scheduled_job(
            "app_jobs".jwt_claim('jwt.claims.database_id'),
            identifier, cron::json, payload, job_key, queue_name, max_attempts, priority
        );
    end if;
    if coalesce(btrim(cron), '') = '' then
        raise exception 'INVALID_SCHEDULE' using hint = 'A cron rule has five fields, such as 0 9 * * *.';
    end if;
    return "app_jobs".insert_scheduled_job(
        "app_jobs".jwt_claim('jwt.claims.database_id'),
        identifier, payload, json_build_object('rule', cron), job_key, queue_name, max_attempts, priority
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_scheduled_job(identifier text, payload json, schedule_info json, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, max_attempts integer DEFAULT 25, priority integer DEFAULT 0, entity_id uuid DEFAULT NULL::uuid)
 RETURNS app_jobs.scheduled_jobs
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select * from "app_jobs".insert_scheduled_job(
        "app_jobs".jwt_claim('jwt.claims.database_id'),
        identifier, payload, schedule_info, job_key, queue_name, max_attempts, priority, entity_id
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_unique_job(identifier text, payload json DEFAULT '{}'::json, unique_for interval DEFAULT NULL::interval, unique_until text DEFAULT NULL::text, unique_by text[] DEFAULT NULL::text[], on_conflict text DEFAULT 'keep'::text, job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, run_at timestamp with time zone DEFAULT now(), max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer, entity_id uuid DEFAULT NULL::uuid, organization_id uuid DEFAULT NULL::uuid, entity_type text DEFAULT NULL::text, depends_on bigint[] DEFAULT NULL::bigint[], ignore_failures boolean DEFAULT false)
 RETURNS TABLE(job_id bigint, is_duplicate boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    perform "app_jobs".check_unique(unique_for, unique_until, unique_by, on_conflict);
    if depends_on is not null and on_conflict = 'replace' then
        raise feature_not_supported using
            message = 'add_unique_job: depends_on and on_conflict := ''replace'' exclude each other';
    end if;
    return query select * from "app_jobs".insert_unique_job(
        "app_jobs".unique_job_key(identifier, payload, unique_by), unique_for, unique_until, on_conflict,
        identifier, payload, job_key, queue_name, run_at, max_attempts, priority, entity_id, organization_id,
        entity_type, depends_on, ignore_failures, unique_by
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.add_unique_jobs(identifier text, payloads json[], unique_for interval DEFAULT NULL::interval, unique_until text DEFAULT NULL::text, unique_by text[] DEFAULT NULL::text[], on_conflict text DEFAULT 'keep'::text, job_keys text[] DEFAULT NULL::text[], queue_names text[] DEFAULT NULL::text[], run_ats timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer)
 RETURNS TABLE(job_id bigint, is_duplicate boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_keys bytea[];
begin
    if exists (
        select
        from (values (cardinality(job_keys)), (cardinality(queue_names)), (cardinality(run_ats))) as given (length)
        where given.length <> cardinality(payloads)
    ) then
        raise exception 'add_unique_jobs: job_keys, queue_names and run_ats have one element for each payload, or are null'
            using errcode = 'array_subscript_error';
    end if;
    perform "app_jobs".check_unique(unique_for, unique_until, unique_by, on_conflict);
    v_keys := array(
        select "app_jobs".unique_job_key(identifier, entry.payload, unique_by)
        from unnest(payloads) with ordinality as entry (payload, position)
        order by entry.position
    );
    -- All keys are locked first, in one order, so that two calls with the same keys do not deadlock.
    insert into "app_jobs".unique_jobs
    select distinct on (given.key) given.key, null::bigint, 'expired', null::timestamptz, clock_timestamp()
    from unnest(v_keys) as given (key)
    order by given.key
    on conflict (key) do update set key = excluded.key;
    return query
    select added.*
    from unnest(v_keys, payloads, job_keys, queue_names, run_ats) with ordinality
        as entry (unique_key, payload, job_key, queue_name, run_at, position)
    cross join lateral "app_jobs".insert_unique_job(
        entry.unique_key, unique_for, unique_until, on_conflict, identifier, entry.payload, entry.job_key,
        entry.queue_name, entry.run_at, max_attempts, priority, null, null, null, null, false, unique_by
    ) as added
    order by entry.position;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.admit_jobs(places tid[], max_jobs integer, max_payload_bytes bigint, is_last_round boolean, OUT admitted tid[], OUT has_limited boolean, OUT is_done boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
 SET enable_hashjoin TO 'on'
AS $function$
#variable_conflict use_column
declare
    v_small tid[];
    v_names text[];
    v_keys text[];
    v_ids bigint[];
    v_admitted boolean[];
    v_held bigint[];
    v_held_names text[];
    v_held_keys text[];
    v_started bigint[];
    v_now timestamptz;
begin
    admitted := places;
    is_done := true;
    perform from "app_jobs".jobs j
    join "app_jobs".limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
        and (l.queue_name is null or l.queue_name = j.queue_name)
    where j.ctid = any (places)
    limit 1;
    if not found then
        return;
    end if;
    v_small := array(select j.ctid from "app_jobs".jobs j where j.ctid = any (places) and j.payload_bytes is null);
    if cardinality(v_small) < cardinality(places) then -- those that the claim would leave must not take a place
        admitted := v_small || "app_jobs".large_jobs_within(places, max_payload_bytes, cardinality(v_small) = 0);
    end if;
    perform "app_jobs".lock_limits();
    select array_agg(v.job_id), array_agg(v.limit_name), array_agg(v.key), array_agg(v.is_admitted)
    into v_ids, v_names, v_keys, v_admitted
    from "app_jobs".limit_verdicts(admitted, 0) v;
    if v_ids is null then
        return;
    end if;
    has_limited := true;
    if false = any (v_admitted) then
        select array_agg(refused.job_id), array_agg(refused.limit_name), array_agg(refused.key)
        into v_held, v_held_names, v_held_keys
        from (
            select distinct on (v.job_id) v.*
            from unnest(v_ids, v_names, v_keys, v_admitted) as v (job_id, limit_name, key, is_admitted)
            where not v.is_admitted
            order by v.job_id, v.limit_name
        ) refused;
        perform "app_jobs".hold_jobs(v_held, v_held_names, v_held_keys);
        insert into "app_jobs".limit_wakeups
        select distinct v.limit_name, v.key
        from unnest(v_ids, v_names, v_keys) as v (job_id, limit_name, key)
        join unnest(v_held) as held (id) on held.id = v.job_id;
    end if;
    select coalesce(array_agg(first.place), '{}'), array_agg(first.id) into admitted, v_started
    from (
        select j.ctid as place, j.id from "app_jobs".jobs j
        where j.ctid = any (admitted) and not exists (select from unnest(v_held) held (id) where held.id = j.id)
        order by j.priority, j.run_at, j.id
        limit max_jobs
    ) first;
    is_done := v_held is null or is_last_round or cardinality(admitted) >= max_jobs;
    if not is_done then
        return;
    end if;
    v_now := clock_timestamp();
    with started as materialized (
        select v.job_id, v.limit_name, v.key
        from unnest(v_ids, v_names, v_keys) as v (job_id, limit_name, key)
        join unnest(v_started) as j (id) on j.id = v.job_id
    ),
    slots as (
        insert into "app_jobs".limit_slots as s (job_id, limit_name, key)
        select started.job_id, started.limit_name, started.key
        from started
        join "app_jobs".limits l on l.name = started.limit_name
        where l.concurrency is not null
        on conflict (job_id, limit_name) do update set key = excluded.key where s.key <> excluded.key
    ),
    counted as (
        insert into "app_jobs".limit_starts as s (limit_name, key, ends_at, starts)
        select started.limit_name, started.key, case
                when l.rate_count <= 60 then v_now
                else to_timestamp(
                    ceil(extract(epoch from v_now) / extract(epoch from l.rate_interval) * 60)
                        * extract(epoch from l.rate_interval) / 60
                )
            end, count(*)
        from started
        join "app_jobs".limits l on l.name = started.limit_name
        where l.rate_count is not null
        group by 1, 2, 3
        on conflict (limit_name, key, ends_at) do update set starts = s.starts + excluded.starts
        returning s.limit_name, s.key
    )
    insert into "app_jobs".limit_wakeups -- held jobs of a rate need a time to wake at
    select distinct counted.limit_name, counted.key
    from counted
    where exists (
        select from "app_jobs".held_jobs h where h.limit_name = counted.limit_name and h.key = counted.key
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.advance_schedule(schedule_id bigint, enqueue boolean, wait_for_previous boolean, due timestamp with time zone, next_due timestamp with time zone, missed_count bigint, last_missed_at timestamp with time zone, rule_error text)
 RETURNS TABLE(outcome text, job_id bigint, error text, database_id uuid)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    outcome := case when rule_error is null then 'planned' else 'broken' end;
    error := rule_error;
    if enqueue then
        begin
            -- A running job counts as running while its worker's lock is valid.
            job_id := ("app_jobs".enqueue_schedule(schedule_id, interval '4 hours', false, due)).id;
            outcome := 'enqueued';
        exception when others then
            if sqlerrm = 'ALREADY_SCHEDULED' then
                outcome := case when wait_for_previous then 'waiting' else 'skipped' end;
            elsif sqlstate = '55P03' or left(sqlstate, 2) = '40' then
                outcome := 'waiting'; -- a lock timeout or a deadlock: the next poll may succeed
            elsif left(sqlstate, 2) in ('53', '57', '58', 'XX') then
                raise; -- the server has a problem, not this schedule
            else
                outcome := 'failed';
            end if;
            error := sqlerrm;
        end;
    end if;
    if outcome <> 'waiting' then
        update "app_jobs".scheduled_jobs s
        set due_at = coalesce(next_due, 'infinity'),
            last_error = case outcome
                when 'broken' then error when 'failed' then error when 'skipped' then s.last_error
            end,
            skipped = s.skipped + missed_count + case outcome when 'skipped' then 1 else 0 end,
            last_skipped = case outcome when 'skipped' then due else coalesce(last_missed_at, s.last_skipped) end,
            skip_reason = case
                when outcome = 'skipped' then 'its last job was still waiting or running'
                when missed_count > 0 then 'no scheduler ran then'
                else s.skip_reason
            end,
            -- a scheduler that had locked the row and did not enqueue in time is dead
            locked_at = case when enqueue then null else s.locked_at end,
            locked_by = case when enqueue then null else s.locked_by end
        where s.id = schedule_id;
    end if;
    select s.database_id into database_id from "app_jobs".scheduled_jobs s where s.id = schedule_id;
    return next;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.audit_text(value text, max_length integer)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select nullif(regexp_replace(
        left(value, max_length),
        '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]', '?', 'g'
    ), '')
$function$;

CREATE OR REPLACE FUNCTION app_jobs.call_depth(job_id bigint)
 RETURNS integer
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    with recursive ancestor (id, depth) as (
        select call_depth.job_id, 0
        union all
        select s.job_id, ancestor.depth + 1
        from ancestor
        join "app_jobs".job_steps s on s.child_id = ancestor.id
        where ancestor.depth < 100
    )
    select max(ancestor.depth) from ancestor
$function$;

CREATE OR REPLACE FUNCTION app_jobs.callback_secret()
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select i.callback_secret from "app_jobs".installation i
$function$;

CREATE OR REPLACE FUNCTION app_jobs.cancel_jobs(job_ids bigint[], reason text, include_running boolean)
 RETURNS TABLE(job_id bigint, was_running boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_ids bigint[] := '{}';
begin
    for job_id, was_running in
        select c.job_id, c.was_running from "app_jobs".cancel_jobs_unrecorded(job_ids, reason, include_running) c
    loop
        v_ids := v_ids || job_id;
        return next;
    end loop;
    perform "app_jobs".record_action_on_jobs('cancel', v_ids, jsonb_build_object('reason', left(reason, 200)));
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.cancel_jobs_unrecorded(job_ids bigint[], reason text, include_running boolean)
 RETURNS TABLE(job_id bigint, was_running boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_children bigint[];
begin
    return query
    with target as materialized (
        select j.*, j.locked_at is not null and not coalesce(
            j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'
        ) as is_running
        from "app_jobs".jobs j
        where j.id = any (job_ids)
        order by j.id
        for update
    ),
    cancelled as materialized (
        select target.*
        from target
        where (not target.is_running or include_running) and (target.is_running or not target.exhausted)
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select cancelled.id, cancelled.attempts, cancelled.task_identifier, cancelled.queue_name,
            cancelled.database_id, cancelled.locked_by, cancelled.created_at, cancelled.run_at, cancelled.locked_at,
            now(), 'cancelled', reason
        from cancelled
        where "app_jobs".history_enabled()
    ),
    kept as (
        insert into "app_jobs".cancelled_runs (job_id, attempt, worker_id, queue_name, ends_at)
        select cancelled.id, cancelled.attempts, cancelled.locked_by, cancelled.queue_name, cancelled.lease_expires_at
        from cancelled
        where cancelled.is_running
            and cancelled.lease_expires_at is not null
            and (cancelled.queue_name is not null or cancelled.is_limited)
        returning *
    ),
    slots as (
        update "app_jobs".limit_slots s set job_id = -kept.id from kept where s.job_id = kept.job_id
    ),
    queues as (
        update "app_jobs".queue_locks l set job_id = null, lease_expires_at = kept.ends_at
        from kept
        where l.queue_name = kept.queue_name and l.job_id = kept.job_id
    )
    update "app_jobs".jobs j
    set last_error = reason,
        ended_as = 'cancelled',
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from cancelled
    where j.id = cancelled.id
    returning j.id, cancelled.is_running;
    if found and include_running then
        perform pg_notify('jobs:cancel', '');
    end if;
    v_children := array(
        select j.id
        from "app_jobs".job_steps s
        join "app_jobs".jobs p on p.id = s.job_id
        join "app_jobs".jobs j on j.id = s.child_id
        where s.job_id = any (job_ids)
            and s.child_id is not null
            and s.state = 'waiting'
            and p.exhausted
            and p.locked_at is null
            and j.locked_at is null
        for update of j skip locked -- those are just ending
    );
    if cardinality(v_children) > 0 then
        perform from "app_jobs".cancel_jobs_unrecorded(v_children, 'the job that called it was cancelled', false);
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.cancelled_jobs(job_ids bigint[], job_attempts integer[])
 RETURNS SETOF bigint
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select j.id
    from unnest(job_ids, job_attempts) as given (job_id, attempt)
    join "app_jobs".jobs j on j.id = given.job_id
    where j.ended_as = 'cancelled' and j.fenced_attempt = given.attempt
$function$;

CREATE OR REPLACE FUNCTION app_jobs.changed_columns(before jsonb, after jsonb, ignored text[])
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select jsonb_object_agg(name, jsonb_build_array(before -> name, after -> name))
    from (select jsonb_object_keys(before) union select jsonb_object_keys(after)) as columns (name)
    where name <> all (ignored)
        and coalesce(before -> name, 'null') <> coalesce(after -> name, 'null')
$function$;

CREATE OR REPLACE FUNCTION app_jobs.check_job(identifier text, queue_name text, job_key text, max_attempts integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_problem text;
begin
    v_problem := case
        when identifier in ('.', '..')
            then format('the task identifier must not be %s: it is a part of a URL', identifier)
        when length(identifier) not between 1 and 126
            then format('the task identifier must have 1 to 126 characters, not %s', length(identifier))
        when length(queue_name) not between 1 and 126
            then format('the queue name must have 1 to 126 characters, not %s', length(queue_name))
        when length(job_key) not between 1 and 512
            then format('the job key must have 1 to 512 characters, not %s', length(job_key))
        when max_attempts < 1
            then format('max_attempts must be at least 1, not %s', max_attempts)
    end;
    if v_problem is not null then
        raise check_violation using message = v_problem;
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.check_payload_size(identifier text, payload_bytes integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_max_bytes int := (select s.max_payload_bytes from "app_jobs".payload_settings s);
begin
    if payload_bytes > v_max_bytes then
        raise program_limit_exceeded using
            message = format(
                'the payload of a job of task %s has %s bytes, more than the maximum of %s',
                quote_literal(identifier), payload_bytes, v_max_bytes
            ),
            hint = 'Store the data elsewhere and put its address into the payload. The owner of the schema can change '
                'the maximum: jobfn db migrate --max-payload-bytes.';
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.check_unique(unique_for interval, unique_until text, unique_by text[], on_conflict text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_problem text := case
        when (unique_for is null) = (unique_until is null)
            then 'give either unique_for, an interval, or unique_until, which is started or done'
        when unique_until not in ('started', 'done') then 'unique_until must be started or done'
        when unique_for not between interval '1 millisecond' and interval '366 days'
            then 'unique_for must be an interval of 1 millisecond to 366 days'
        when cardinality(unique_by) > 32 then 'unique_by must have at most 32 fields'
        when array_position(unique_by, null) is not null then 'unique_by must not contain null'
        when on_conflict is null or on_conflict not in ('keep', 'replace', 'error')
            then 'on_conflict must be keep, replace or error'
    end;
begin
    if v_problem is not null then
        raise check_violation using message = v_problem;
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.claim_entries_read()
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return pg_stat_get_xact_tuples_returned('"app_jobs".jobs_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('"app_jobs".jobs_task_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('"app_jobs".jobs_tenant_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('"app_jobs".jobs_tenant_task_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('"app_jobs".jobs_queued_ready_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('"app_jobs".jobs_queue_name_ready_idx'::regclass);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.claim_jobs(worker_id text, task_identifiers text[], job_expiry interval, max_jobs integer, lease interval DEFAULT NULL::interval, exclude_tasks text[] DEFAULT '{}'::text[], max_payload_bytes bigint DEFAULT NULL::bigint, queue_names text[] DEFAULT NULL::text[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_incremental_sort TO 'off'
AS $function$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_claims constant bigint := hashtextextended(row(task_identifiers, exclude_tasks)::text, 0);
    v_entries_read constant bigint := "app_jobs".claim_entries_read();
    v_known "app_jobs".claim_positions;
    v_start "app_jobs".claim_positions;
    v_rows tid[]; -- rows keep their place while they are locked
    v_is_waiting boolean;
    v_queues text[];
    v_claimed int;
    v_is_large boolean := false;
    v_first record;
    v_has_limits boolean;
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
begin
    lock table "app_jobs".jobs, "app_jobs".queue_locks in row exclusive mode; -- before reading, for REINDEX
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    select
        exists (select from "app_jobs".limits) as has_limits,
        exists (
            select from "app_jobs".jobs j
            where j.expires_at <= now()
                and not j.exhausted
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
        ) as has_expired,
        (
            select p from "app_jobs".claim_positions p
            where p.claims = v_claims and queue_names is null
            order by p.id desc
            limit 1
        ) as known
    into v_first;
    v_has_limits := v_first.has_limits;
    v_known := v_first.known;
    if v_first.has_expired and (select count(*) from "app_jobs".expire_jobs(500)) >= 500 then
        return; -- expired jobs may be left: the next claim goes on with them
    end if;
    if v_known.valid_until > clock_timestamp() then
        v_start := v_known;
    else
        v_start := row(null, v_claims, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null);
    end if;
    if v_has_limits and (
        exists (select from "app_jobs".limit_wakeups)
        or exists (select from "app_jobs".limit_keys k where k.wake_at <= now())
        or exists (select from "app_jobs".cancelled_runs r where r.ends_at <= now())
    ) then
        perform "app_jobs".wake_limit_keys(0);
    end if;
    loop
        if queue_names is null or '' = any (queue_names) then
            v_rows := "app_jobs".ready_jobs(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        else
            v_rows := '{}';
        end if;
        v_is_waiting := cardinality(v_rows) > 0;
        if queue_names is null then
            v_queues := "app_jobs".ready_queues(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        else
            v_queues := "app_jobs".ready_queues_among(
                queue_names, task_identifiers, exclude_tasks, v_expired_before, v_picked
            );
        end if;
        if cardinality(v_queues) > 0 then
            v_rows := v_rows
                || "app_jobs".ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
        end if;
        if cardinality(v_rows) > v_picked then
            v_rows := "app_jobs".fair_choice(v_rows, v_picked);
        end if;
        exit when not v_has_limits or cardinality(v_rows) = 0 or not exists (
            select from "app_jobs".jobs j
            join "app_jobs".limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
                and (l.queue_name is null or l.queue_name = j.queue_name)
            where j.ctid = any (v_rows)
        );
        v_round := v_round + 1;
        select gate.admitted, gate.has_limited, gate.is_done into v_rows, v_is_limited, v_is_done
        from "app_jobs".admit_jobs(v_rows, max_jobs, max_payload_bytes, v_round = 4) gate;
        exit when v_is_done;
        v_picked := least(8 * v_picked, greatest(max_jobs, 2000)); -- others are not to wait behind a flood
    end loop;
    if v_has_limits and (
        exists (select from "app_jobs".limit_wakeups)
        or exists (select from "app_jobs".limit_keys k where k.wake_at <= now())
        or exists (select from "app_jobs".cancelled_runs r where r.ends_at <= now())
    ) then
        perform "app_jobs".wake_limit_keys(0);
    end if;
    if queue_names is null and (
        v_known.id is not null or "app_jobs".claim_entries_read() - v_entries_read > 10000
    ) then
        perform "app_jobs".record_claim_position(
            v_start, v_known, v_rows, v_is_waiting, "app_jobs".claim_entries_read() - v_entries_read - 5 * max_jobs
        );
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    -- Large payloads are rare: the jobs without one first, so that the others cost nothing if there are none.
    for v_step in 1..2 loop
        return query
        with claimed as (
            update "app_jobs".jobs j
            set attempts = j.attempts + 1,
                locked_by = claim_jobs.worker_id,
                locked_at = now(),
                lease_expires_at = now() + lease,
                progress = null,
                progress_message = null,
                is_limited = v_is_limited,
                updated_at = now()
            where j.ctid = any (v_rows) and (j.payload_bytes is null or v_is_large)
            returning ("app_jobs".to_job_row(j)).*
        ),
        queues as (
            insert into "app_jobs".queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
            select claimed.queue_name, claimed.id, claimed.locked_by, claimed.locked_at, claimed.lease_expires_at
            from claimed
            where claimed.queue_name is not null
            on conflict (queue_name) do update
            set job_id = excluded.job_id,
                locked_by = excluded.locked_by,
                locked_at = excluded.locked_at,
                lease_expires_at = excluded.lease_expires_at
        )
        select claimed.* from claimed order by claimed.priority, claimed.run_at, claimed.id;
        get diagnostics v_claimed = row_count;
        exit when v_is_large or v_claimed = cardinality(v_rows);
        v_rows := "app_jobs".large_jobs_within(v_rows, max_payload_bytes, v_claimed = 0);
        v_is_large := true;
    end loop;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.claim_jobs_of_queues(worker_id text, queue_names text[], task_identifiers text[], job_expiry interval, max_jobs integer, lease interval DEFAULT NULL::interval, exclude_tasks text[] DEFAULT '{}'::text[], max_payload_bytes bigint DEFAULT NULL::bigint)
 RETURNS SETOF app_jobs.job_row
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select * from "app_jobs".claim_jobs(
        worker_id, task_identifiers, job_expiry, max_jobs, lease, exclude_tasks, max_payload_bytes, coalesce(queue_names, '{}')
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.complete_job(worker_id text, job_id bigint)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_job "app_jobs".job_row;
begin
    select * into v_job
    from "app_jobs".settle_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['completed'], array[null]::text[],
        array[null]::interval[]
    );
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.complete_jobs(job_ids bigint[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_jobs constant "app_jobs".job_row[] := array(
        select removed from "app_jobs".complete_jobs_unrecorded(job_ids) removed
    );
begin
    perform "app_jobs".record_action_on_jobs('remove', array(select job.id from unnest(v_jobs) job));
    return query select job.* from unnest(v_jobs) job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.complete_jobs_unrecorded(job_ids bigint[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_idle constant bigint[] := array(select idle.id from "app_jobs".lock_idle_jobs(job_ids) as idle (id));
begin
    -- A job that is removed has not completed: it adds no jobs, and its parent fails.
    update "app_jobs".jobs j set locked_at = null, locked_by = null, lease_expires_at = null
    where j.id = any (v_idle) and j.locked_at is not null and (j.has_steps or j.is_awaited);
    return query
    with removed as (
        delete from "app_jobs".jobs j where j.id = any (v_idle)
        returning ("app_jobs".to_job_row(j)).*
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select removed.id, removed.attempts, removed.task_identifier, removed.queue_name, removed.database_id,
            removed.locked_by, removed.created_at, removed.run_at, removed.locked_at, now(), 'removed',
            removed.last_error
        from removed
        where "app_jobs".history_enabled()
    )
    select removed.* from removed;
    delete from "app_jobs".completed_jobs c where c.id = any (v_idle);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.create_job_runs_partitions(days_ahead integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '200ms'
AS $function$
declare
    v_table constant regclass := '"app_jobs".job_runs';
    v_default constant regclass := '"app_jobs".job_runs_default';
    v_schema text;
    v_tablespace text;
    v_name text;
    v_start timestamptz;
    v_end timestamptz;
    -- Days of a partition.
    v_days constant int := greatest(
        ceil((select extract(epoch from h.retention) / 86400 / 60 from "app_jobs".history_settings h)), 1
    );
    v_today constant timestamptz := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC';
    v_created int := 0;
    v_rows int;
begin
    select n.nspname, coalesce('tablespace ' || quote_ident(s.spcname), '') into v_schema, v_tablespace
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_tablespace s on s.oid = c.reltablespace
    where c.oid = v_table;
    if not "app_jobs".history_enabled() or not pg_try_advisory_xact_lock(hashtextextended('jobfn history', v_table::oid::bigint)) then
        return 0; -- another process makes them
    end if;
    v_end := v_today;
    while v_end < v_today + days_ahead * interval '24 hours' + interval '1 hour' loop
        v_start := v_end;
        select p.upper_bound into v_end
        from "app_jobs".job_runs_partitions() p
        where not p.is_default and p.lower_bound <= v_start and p.upper_bound > v_start;
        continue when found;
        select least(v_start + v_days * interval '24 hours', min(p.lower_bound)) into v_end
        from "app_jobs".job_runs_partitions() p
        where not p.is_default and p.lower_bound > v_start;
        v_name := format('%I.%I', v_schema, 'job_runs_p' || to_char(v_start at time zone 'UTC', 'YYYYMMDD'));
        begin
            -- The parent first: an INSERT that has chosen the default partition would fail when it goes on.
            lock table "app_jobs".job_runs in access exclusive mode;
            select count(*) into v_rows
            from (
                select from "app_jobs".job_runs_default d where d.ended_at >= v_start and d.ended_at < v_end limit 10001
            ) found;
            -- PostgreSQL reads the whole default partition when it attaches one. Both are for moments only.
            continue when v_rows > 10000
                or pg_relation_size(v_default) > 2 ^ 30;
            execute format('create table %s (like %s including all) %s', v_name, v_table, v_tablespace);
            execute format(
                'with moved as (delete from %s d where d.ended_at >= %L and d.ended_at < %L returning d.*)'
                ' insert into %s select moved.* from moved',
                v_default, v_start, v_end, v_name
            );
            execute format(
                'alter table %s attach partition %s for values from (%L) to (%L)',
                v_table, v_name, v_start, v_end
            );
            v_created := v_created + 1;
        exception
            when lock_not_available then
                return v_created;
        end;
    end loop;
    return v_created;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.deregister_worker(worker_id text, host text, pid integer)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    delete from "app_jobs".workers w
    where w.worker_id = deregister_worker.worker_id
        and w.host = deregister_worker.host
        and w.pid = deregister_worker.pid
$function$;

CREATE OR REPLACE FUNCTION app_jobs.divide_by_weight(jobs integer, weights integer[], is_open boolean[], given integer[])
 RETURNS integer[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_weight float8 := 0;
    v_upper float8 := random(); -- systematic sampling: whole numbers with the right sum, and each with its expectation
    v_part float8;
begin
    for v_tenant in 1..cardinality(weights) loop
        if is_open[v_tenant] then
            v_weight := v_weight + weights[v_tenant];
        end if;
    end loop;
    for v_tenant in 1..cardinality(weights) loop
        if is_open[v_tenant] then
            v_part := jobs * weights[v_tenant] / v_weight;
            given[v_tenant] := given[v_tenant] + floor(v_upper + v_part)::int - floor(v_upper)::int;
            v_upper := v_upper + v_part;
        end if;
    end loop;
    return given;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.end_calls()
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_ended text := current_setting('jobfn.ended_jobs', true);
    v_children bigint[];
    v_dependents bigint[];
    v_parents bigint[];
    v_groups int[];
begin
    if coalesce(v_ended, '') = '' then
        return;
    end if;
    lock table "app_jobs".job_steps, "app_jobs".job_dependencies in row exclusive mode; -- before reading, for REINDEX
    perform set_config('jobfn.collects_ended_jobs', 'on', true);
    loop
        perform set_config('jobfn.ended_jobs', '', true);
        v_children := string_to_array(v_ended, ',')::bigint[];
        perform from "app_jobs".jobs j
        where j.id = any (array(
            select s.job_id
            from unnest(v_children) as ended (id)
            join "app_jobs".job_steps s on s.child_id = abs(ended.id)
            where s.state = 'waiting'
            union all
            select d.job_id
            from unnest(v_children) as ended (id)
            join "app_jobs".job_dependencies d on d.dependency_id = abs(ended.id)
        ))
        order by j.id
        for no key update;
        with outcome as materialized (
            select abs(ended.id) as id, ended.id > 0 as is_completed, case
                    when ended.id > 0 then null
                    when j.id is null then 'it was removed'
                    else coalesce(j.last_error, 'it failed without an error message')
                end as error
            from unnest(v_children) as ended (id)
            left join "app_jobs".jobs j on j.id = -ended.id
        ),
        call as (
            update "app_jobs".job_steps s
            set state = case when outcome.is_completed then 'completed' else 'failed' end,
                error = outcome.error,
                ended_at = now()
            from outcome
            where s.child_id = outcome.id and s.state = 'waiting'
            returning s.job_id, s.wait_group
        ),
        dependent as (
            update "app_jobs".job_dependencies d
            set has_ended = true,
                error = case
                    when not outcome.is_completed and not d.ignores_failure then format(
                        'the job %s, which this one depends on, did not complete: %s', outcome.id, outcome.error
                    )
                end
            from outcome
            where d.dependency_id = outcome.id and not d.has_ended
            returning d.job_id
        )
        select
            (select array_agg(call.job_id order by call.job_id, call.wait_group) from call),
            (select array_agg(call.wait_group order by call.job_id, call.wait_group) from call),
            (select array_agg(distinct dependent.job_id) from dependent)
        into v_parents, v_groups, v_dependents;
        if v_parents is not null then
            perform "app_jobs".wake_parked_jobs(v_parents, v_groups);
        end if;
        if v_dependents is not null then
            perform "app_jobs".release_dependents(v_dependents);
        end if;
        v_ended := current_setting('jobfn.ended_jobs', true);
        exit when v_ended = '';
    end loop;
    perform set_config('jobfn.collects_ended_jobs', '', true);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.end_cancelled_run(worker_id text, job_id bigint, job_attempt integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_runs constant bigint[] := array(
        select r.id
        from "app_jobs".cancelled_runs r
        where r.job_id = end_cancelled_run.job_id
            and r.worker_id = end_cancelled_run.worker_id
            and (job_attempt is null or r.attempt = job_attempt)
        for update
    );
begin
    if cardinality(v_runs) = 0 then
        return false;
    end if;
    perform "app_jobs".end_cancelled_runs(v_runs);
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.end_cancelled_runs(run_ids bigint[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    with ended as (
        delete from "app_jobs".cancelled_runs r where r.id = any (run_ids) returning r.*
    ),
    slots as (
        delete from "app_jobs".limit_slots s using ended where s.job_id = -ended.id returning s.limit_name, s.key
    ),
    queues as (
        delete from "app_jobs".queue_locks l
        using ended
        where l.queue_name = ended.queue_name
            and l.job_id is null
            and l.locked_by = ended.worker_id
            and l.lease_expires_at = ended.ends_at
    )
    insert into "app_jobs".limit_wakeups select slots.limit_name, slots.key from slots;
    perform pg_notify('jobs:insert', '');
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.end_schedule_pauses(until timestamp with time zone)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    update "app_jobs".scheduled_jobs s
    set paused_at = null,
        pause_reason = null,
        paused_until = null,
        due_at = null,
        rule_changed_at = s.paused_until,
        updated_at = now()
    where s.paused_until <= end_schedule_pauses.until
$function$;

CREATE OR REPLACE FUNCTION app_jobs.enqueue_schedule(schedule_id bigint, job_expiry interval, is_by_hand boolean, due timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_schedule "app_jobs".scheduled_jobs;
    v_expires_in float8;
    v_default_expiry constant text := coalesce(current_setting('jobfn.expires_at', true), '');
    v_job "app_jobs".job_row;
begin
    lock table "app_jobs".jobs, "app_jobs".scheduled_jobs in row exclusive mode; -- before reading, for REINDEX
    select s.* into v_schedule from "app_jobs".scheduled_jobs s where s.id = schedule_id for update;
    if not found then
        return null;
    end if;
    if v_schedule.paused_at is not null and not is_by_hand then
        raise exception 'SCHEDULE_PAUSED' using hint = 'Call resume_schedule, or run_schedule for one job.';
    end if;
    perform from "app_jobs".jobs j
    where j.id = v_schedule.last_scheduled_id
        and not (j.exhausted and j.locked_at is null)
        and case
            when j.locked_at is null then true
            -- an expired lease means a dead worker: the job still waits for another one if it has attempts left
            when j.lease_expires_at is not null then j.lease_expires_at >= now() or not j.exhausted
            else j.locked_at >= now() - job_expiry
        end;
    if found then
        raise exception 'ALREADY_SCHEDULED' using hint = 'Its last job is still waiting or running.';
    end if;
    if json_typeof(v_schedule.schedule_info -> 'expires_in_seconds') = 'number' then
        v_expires_in := (v_schedule.schedule_info ->> 'expires_in_seconds')::float8;
        if v_expires_in > 0 and v_expires_in <= 366 * 86400 then -- the scheduler rejects other numbers
            perform "app_jobs".set_default_expiry(coalesce(due, now()) + v_expires_in * interval '1 second');
        end if;
    end if;
    v_job := "app_jobs".insert_job(
        v_schedule.database_id, v_schedule.actor_id, v_schedule.entity_id, v_schedule.task_identifier,
        v_schedule.payload, v_schedule.key, v_schedule.queue_name, now(), nullif(v_schedule.max_attempts, 25),
        nullif(v_schedule.priority, 0)
    );
    perform set_config('jobfn.expires_at', v_default_expiry, true);
    update "app_jobs".scheduled_jobs s
    set last_scheduled = now(), last_scheduled_id = v_job.id
    where s.id = schedule_id;
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.expire_jobs(max_jobs integer DEFAULT 500)
 RETURNS SETOF bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_expired int;
begin
    return query
    with expired as materialized (
        select j.*, format('expired: it was not started before %s', j.expires_at) as reason
        from "app_jobs".jobs j
        where j.expires_at <= now()
            and not j.exhausted
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'))
        order by j.expires_at
        limit max_jobs
        for update skip locked
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select expired.id, expired.attempts, expired.task_identifier, expired.queue_name, expired.database_id,
            expired.locked_by, expired.created_at, expired.run_at, expired.locked_at, now(), 'expired', expired.reason
        from expired
        where "app_jobs".history_enabled()
    )
    update "app_jobs".jobs j
    set last_error = expired.reason,
        ended_as = 'expired',
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from expired
    where j.id = expired.id
    returning j.id;
    get diagnostics v_expired = row_count;
    if v_expired >= max_jobs then
        perform pg_notify('jobs:insert', ''); -- a claim goes on with the rest
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.explain_end(job app_jobs.jobs)
 RETURNS TABLE(code text, reason text, since timestamp with time zone, until timestamp with time zone, job_ids bigint[])
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select
        case when job.exhausted then coalesce(job.ended_as, 'attempts_used_up') else 'expired' end,
        case
            when not job.exhausted then
                format('expired at %s: the next claim ends it', "app_jobs".format_utc(job.expires_at))
            when job.ended_as = 'cancelled' then 'cancelled, until it is retried'
            when job.ended_as = 'expired' then format(
                'expired%s: it was not started in time, and runs only if it is retried',
                coalesce(' at ' || "app_jobs".format_utc(job.expires_at), '')
            )
            when job.locked_at is null then 'attempts used up: it has permanently failed, until it is retried'
            else format(
                'attempts used up: %s died in the last one, and a worker will mark it as permanently failed',
                job.locked_by
            )
        end,
        case when job.exhausted then job.updated_at else job.expires_at end, null::timestamptz, null::bigint[]
    where job.exhausted or job.expires_at <= now()
$function$;

CREATE OR REPLACE FUNCTION app_jobs.explain_limits(job app_jobs.jobs)
 RETURNS TABLE(code text, reason text, since timestamp with time zone, until timestamp with time zone, job_ids bigint[])
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
begin
    if not exists (select from "app_jobs".limits) and job.is_limited is null then
        return;
    end if;
    return query
    with refused as (
        select h.limit_name, h.key, h.held_at
        from "app_jobs".held_jobs h
        where h.job_id = job.id
        union all
        select v.limit_name, v.key, null
        from "app_jobs".limit_verdicts(array(select j.ctid from "app_jobs".jobs j where j.id = job.id), 0) v
        where job.run_at <= now() and not v.is_admitted
    )
    select 'limit', format('limit %s%s ', r.limit_name, case
                when l.per = 'queue' then format(' of the queue %s', r.key)
                when l.per like 'payload.%' then format(' of its %s', l.per) -- the value is a part of the payload
                when l.per is not null then format(' of the %s %s', l.per, r.key)
                else ''
            end) || case
                when k.paused_until > now() then format('paused until %s', "app_jobs".format_utc(k.paused_until))
                when cardinality(running.ids) >= l.concurrency then format(
                    'reached: %s of %s running, %s', cardinality(running.ids), l.concurrency,
                    "app_jobs".format_job_ids(running.ids)
                )
                when recent.starts >= l.rate_count then format(
                    'reached: %s of %s starts in %s', recent.starts, l.rate_count, l.rate_interval
                ) || coalesce(format(', the next one at %s', "app_jobs".format_utc(k.wake_at)), '')
                when r.held_at is not null and coalesce(least(room.free_slots, room.free_starts) > 0, true)
                then 'has room again: the next claim looks at the jobs that it holds'
                else 'lets more urgent jobs start first'
            end,
        r.held_at, coalesce(case when k.paused_until > now() then k.paused_until end, k.wake_at), running.ids[1:10]
    from refused r
    left join "app_jobs".limits l on l.name = r.limit_name
    left join "app_jobs".limit_keys k on k.limit_name = r.limit_name and k.key = r.key
    cross join lateral (
        select array_agg(coalesce(c.job_id, s.job_id) order by coalesce(c.job_id, s.job_id)) as ids
        from "app_jobs".limit_slots s
        left join "app_jobs".cancelled_runs c on c.id = -s.job_id
        where s.limit_name = r.limit_name and s.key = r.key
    ) running
    left join lateral "app_jobs".limit_room(r.limit_name, r.key) room on true
    cross join lateral (
        select coalesce(sum(s.starts), 0) as starts
        from "app_jobs".limit_starts s
        where s.limit_name = r.limit_name and s.key = r.key and s.ends_at > now() - l.rate_interval
    ) recent
    order by r.limit_name;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.explain_turn(job app_jobs.jobs)
 RETURNS TABLE(code text, reason text, since timestamp with time zone, until timestamp with time zone, job_ids bigint[])
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select case when ahead.other_tenants > 0 then 'tenant_turn' else 'jobs_ahead' end,
        case
            when ahead.other_tenants > 0 then format(
                '%s turns with %s other%s, and %s ready job%s before it',
                case when job.database_id is null then 'jobs without a tenant take' else 'its tenant takes' end,
                ahead.other_tenants, case ahead.other_tenants when 1 then '' else 's' end,
                ahead.own_jobs, case ahead.own_jobs when 1 then ' comes' else 's come' end
            )
            else format(
                '%s%s ready job%s more urgent', ahead.jobs, case when ahead.jobs = 1000 then ' or more' else '' end,
                case ahead.jobs when 1 then ' is' else 's are' end
            )
        end, null::timestamptz, null::timestamptz, null::bigint[]
    from "app_jobs".jobs_ahead(job.id, 1000) ahead
    where job.queue_name is null and job.run_at <= now() and ahead.jobs > 0
$function$;

CREATE OR REPLACE FUNCTION app_jobs.explain_wait(job_id bigint, job_expiry interval DEFAULT '04:00:00'::interval)
 RETURNS TABLE(code text, reason text, since timestamp with time zone, until timestamp with time zone, job_ids bigint[])
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_job "app_jobs".jobs;
    v_is_locked boolean;
    v_is_explained boolean := false;
begin
    select j.* into v_job from "app_jobs".jobs j where j.id = explain_wait.job_id;
    if not found then
        return;
    end if;
    v_is_locked := v_job.locked_at is not null
        and not coalesce(v_job.lease_expires_at < now(), v_job.locked_at < v_expired_before);
    if v_is_locked then
        return query select 'running', format(
            'running on %s since %s', v_job.locked_by, "app_jobs".format_utc(v_job.locked_at)
        ), v_job.locked_at, v_job.lease_expires_at, null::bigint[];
        return;
    end if;
    return query select e.* from "app_jobs".explain_end(v_job) e;
    if found then
        return;
    end if;

    -- Before the due time: for other jobs, a time, a signal, or only the time.
    return query
    select 'dependency', format('depends on the %s', "app_jobs".format_job_ids(waiting.ids)), v_job.created_at,
        null::timestamptz, waiting.ids[1:10]
    from (
        select array_agg(d.dependency_id order by d.dependency_id) as ids
        from "app_jobs".job_dependencies d
        where d.job_id = v_job.id and not d.has_ended
    ) waiting
    where v_job.run_at = 'infinity' and v_job.parked_attempt = 0 and waiting.ids is not null;
    v_is_explained := found;
    return query select e.* from "app_jobs".explain_limits(v_job) e;
    v_is_explained := v_is_explained or found;
    if v_job.run_at > now() and v_job.parked_attempt = v_job.attempts and not v_is_explained then
        return query
        select 'parked', 'parked until ' || coalesce(string_agg(waits.text, ', or ' order by waits.wait_group), 'a signal'),
            v_job.updated_at, nullif(v_job.run_at, 'infinity'), (array_agg(waits.child_id) filter (where waits.child_id is not null))
        from (
            select s.wait_group, min(s.child_id) as child_id,
                case min(s.kind)
                    when 'sleep' then "app_jobs".format_utc(min(s.wake_at))
                    when 'wait' then format('the signal %L', min(s.event))
                        || coalesce(' or ' || "app_jobs".format_utc(min(s.wake_at)), '')
                    else format('%s end%s', "app_jobs".format_job_ids(array_agg(s.child_id order by s.child_id)),
                        case count(*) when 1 then 's' else '' end)
                end as text
            from "app_jobs".job_steps s
            where s.job_id = v_job.id and s.state = 'waiting' and s.kind <> 'then'
            group by s.wait_group
            order by s.wait_group
            limit 10
        ) waits;
        v_is_explained := true;
    end if;
    if v_job.run_at > now() and not v_is_explained then
        return query select 'not_due', case
            when v_job.run_at = 'infinity' then 'not due: its run_at is infinity'
            when v_job.attempts > coalesce(v_job.snoozes, 0) and v_job.last_error is not null then
                format('the next attempt is not due until %s', "app_jobs".format_utc(v_job.run_at))
            else format('not due until %s', "app_jobs".format_utc(v_job.run_at))
        end, null::timestamptz, nullif(v_job.run_at, 'infinity'), null::bigint[];
        v_is_explained := true;
    end if;

    return query
    select 'paused', format(
            'paused: %s since %s by %s%s%s',
            case p.kind when 'everything' then 'everything' else format('the %s %s', p.kind, p.name) end,
            "app_jobs".format_utc(p.since), p.paused_by, coalesce(' until ' || "app_jobs".format_utc(p.until), ''),
            coalesce(': ' || p.reason, '')
        ), p.since, p.until, null::bigint[]
    from "app_jobs".job_pauses(v_job.id) p;
    v_is_explained := v_is_explained or found;

    return query
    select 'no_worker', 'no registered worker that is alive takes this task' || case
            when v_job.queue_name is null then '' else ' from this queue'
        end || coalesce(': ' || string_agg(
            format('%s takes %s%s', w.worker_id, coalesce(array_to_string(w.tasks[1:5], ', '), 'all tasks'),
                coalesce(' of the queues ' || array_to_string(array_replace(w.queues[1:5], '', 'none'), ', '), '')),
            '; ' order by w.worker_id
        ), ': there is none'), null::timestamptz, null::timestamptz, null::bigint[]
    from (
        select distinct on (w.worker_id) w.*
        from "app_jobs".workers w
        where 'worker' = any (w.roles) and w.last_heartbeat_at > now() - 3 * w.heartbeat_interval
        order by w.worker_id
        limit 5
    ) w
    having not exists (select from "app_jobs".workers_for(v_job.task_identifier, v_job.queue_name));
    v_is_explained := v_is_explained or found;

    return query
    select 'queue_locked', format('the queue %s is ', l.queue_name) || case
            when l.job_id is null then format('locked by %s', l.locked_by)
            else format('held by job %s, which runs on %s', l.job_id, l.locked_by)
        end, l.locked_at, l.lease_expires_at, case when l.job_id is not null then array[l.job_id] end
    from "app_jobs".queue_locks l
    where l.queue_name = v_job.queue_name
        and not coalesce(l.lease_expires_at < now(), l.locked_at < v_expired_before);
    v_is_explained := v_is_explained or found;

    -- A claim takes the first job of a queue among the tasks of its worker, so each worker may see another one.
    return query
    select 'queue_order', format('job %s is ahead of it in the queue %s', min(head.id), v_job.queue_name),
        null::timestamptz, null::timestamptz, array[min(head.id)]
    from (
        select distinct w.tasks from "app_jobs".workers_for(v_job.task_identifier, v_job.queue_name) w
        union
        select null
        where not exists (select from "app_jobs".workers_for(v_job.task_identifier, v_job.queue_name))
    ) taker
    left join lateral (
        select j.id
        from "app_jobs".jobs j
        where j.queue_name = v_job.queue_name
            and not j.exhausted
            and (j.priority, j.run_at, j.id) < (v_job.priority, v_job.run_at, v_job.id)
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
            and (taker.tasks is null or j.task_identifier = any (taker.tasks))
        order by j.priority, j.run_at, j.id
        limit 1
    ) head on true
    having count(*) = count(head.id);
    v_is_explained := v_is_explained or found;

    if v_job.payload_bytes is not null then
        return query
        select 'too_large', format(
                'its payload of %s bytes does not fit beside those in flight: JOBS_MAX_IN_FLIGHT_BYTES is %s, of which %s '
                'are used; it waits until a claim finds no smaller job',
                v_job.payload_bytes, max(w.max_in_flight_bytes), min(used.bytes)
            ), null::timestamptz, null::timestamptz, null::bigint[]
        from "app_jobs".workers_for(v_job.task_identifier, v_job.queue_name) w
        cross join lateral (
            select coalesce(sum(j.payload_bytes), 0) as bytes
            from "app_jobs".jobs j
            where j.locked_by = w.worker_id and j.locked_at is not null and j.payload_bytes is not null
        ) used
        having count(*) > 0 and bool_and(used.bytes + v_job.payload_bytes > w.max_in_flight_bytes);
        v_is_explained := v_is_explained or found;
    end if;

    return query
    select 'workers_busy', format(
            'all slots of its workers are taken: %s of %s at their last heartbeats', sum(w.in_flight), sum(w.concurrency)
        ), null::timestamptz, null::timestamptz, null::bigint[]
    from "app_jobs".workers_for(v_job.task_identifier, v_job.queue_name) w
    having count(*) > 0 and bool_and(w.in_flight >= w.concurrency);
    v_is_explained := v_is_explained or found;

    return query select e.* from "app_jobs".explain_turn(v_job) e;
    v_is_explained := v_is_explained or found;

    if not v_is_explained then
        return query select 'ready', case
            when v_job.locked_at is null then format(
                'ready since %s: the next claim takes it',
                "app_jobs".format_utc(greatest(nullif(v_job.run_at, '-infinity'), v_job.created_at))
            )
            else format('ready: the lease of %s has ended, and the next claim takes it over', v_job.locked_by)
        end, greatest(nullif(v_job.run_at, '-infinity'), v_job.created_at), null::timestamptz, null::bigint[];
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.fail_job(worker_id text, job_id bigint, error_message text)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_job "app_jobs".job_row;
begin
    select * into v_job
    from "app_jobs".settle_jobs(
        array[worker_id], array[job_id], array[null]::int[], array['failed'],
        array[coalesce(error_message, 'UNKNOWN_ERROR')], array[null]::interval[]
    );
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.fair_choice(rows tid[], max_jobs integer)
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if cardinality(rows) <= max_jobs then
        return rows;
    end if;
    return array(
        select ranked.place
        from (
            select j.ctid as place, j.priority, j.run_at, j.id,
                (row_number() over (partition by j.priority, j.database_id order by j.run_at, j.id) - random())
                    / coalesce(w.weight, 1) as turn
            from "app_jobs".jobs j
            left join "app_jobs".tenant_weights w on w.database_id = j.database_id
            where j.ctid = any (rows)
        ) ranked
        order by ranked.priority, ranked.turn, ranked.run_at, ranked.id
        limit max_jobs
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.fair_jobs_at_priority(task text, tasks text[], at_priority integer, first_run_at timestamp with time zone, first_id bigint, expired_before timestamp with time zone, max_jobs integer, paused_tenants uuid[])
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_max_tenants constant int := 32; -- of a claim
    v_from constant uuid := gen_random_uuid();
    v_tenants uuid[];
    v_visits int;
    v_wrapped record;
    v_weights int[];
    v_shares int[];
    v_is_open boolean[];
    v_share int;
    v_jobs int;
    v_rows tid[];
    v_locked record;
begin
    select array_agg(t.id) filter (where t.is_ready), count(*) into v_tenants, v_visits
    from "app_jobs".ready_tenants(
        task, at_priority, first_run_at, first_id, expired_before, paused_tenants, v_from,
        'ffffffff-ffff-ffff-ffff-ffffffffffff', v_max_tenants
    ) t;
    if v_visits < v_max_tenants then
        select array_agg(t.id) filter (where t.is_ready) as tenants, count(*) as visits into v_wrapped
        from "app_jobs".ready_tenants(
            task, at_priority, first_run_at, first_id, expired_before, paused_tenants,
            '00000000-0000-0000-0000-000000000000', v_from, v_max_tenants - v_visits
        ) t;
        v_tenants := v_tenants || v_wrapped.tenants;
        v_visits := v_visits + v_wrapped.visits;
    end if;
    if v_tenants is null then
        v_share := max_jobs;
        v_rows := "app_jobs".lock_jobs_without_tenant(
            tasks, at_priority, first_run_at, first_id, expired_before, max_jobs
        );
    else
        v_weights := array_fill(1, array[cardinality(v_tenants)]);
        if exists (select from "app_jobs".tenant_weights) then
            v_weights := array(
                select coalesce(w.weight, 1)
                from unnest(v_tenants) with ordinality as tenant (id, position)
                left join "app_jobs".tenant_weights w on w.database_id = tenant.id
                order by tenant.position
            );
        end if;
        v_rows := '{}';
        if cardinality(tasks) > 0 then
            -- Jobs without a tenant are one more, with the weight 1.
            v_share := least(1 + max_jobs / (1 + (select sum(weight) from unnest(v_weights) as weight)), max_jobs);
            v_rows := "app_jobs".lock_jobs_without_tenant(
                tasks, at_priority, first_run_at, first_id, expired_before, v_share
            );
        end if;
        v_shares := array_fill(0, array[cardinality(v_tenants)]);
        v_is_open := array_fill(true, array[cardinality(v_tenants)]);
        v_jobs := max_jobs;
        for v_round in 1..8 loop -- what some tenants do not use is divided among the others
            v_shares := "app_jobs".divide_by_weight(v_jobs, v_weights, v_is_open, v_shares);
            v_locked := "app_jobs".lock_jobs_of_tenants(
                task, at_priority, first_run_at, first_id, expired_before, v_tenants, v_shares
            );
            v_jobs := max_jobs - cardinality(v_locked.places);
            exit when v_jobs <= 0;
            v_is_open := array(
                select count(owner) = share.jobs
                from unnest(v_shares) with ordinality as share (jobs, position)
                left join unnest(v_locked.owners) as owner on owner = share.position
                group by share.position, share.jobs
                order by share.position
            );
            exit when not (true = any (v_is_open));
        end loop;
        v_rows := v_rows || v_locked.places;
    end if;
    if cardinality(v_rows) < max_jobs then
        if v_share < max_jobs then -- null: there are no such jobs
            v_rows := v_rows || "app_jobs".lock_jobs_without_tenant(
                tasks, at_priority, first_run_at, first_id, expired_before, max_jobs
            );
        end if;
        if v_visits = v_max_tenants or cardinality(tasks) >= 100 then
            v_rows := v_rows || "app_jobs".lock_jobs_at_priority(
                task, at_priority, first_run_at, first_id, expired_before, max_jobs, paused_tenants, false
            );
        end if;
        v_rows := array(select distinct place from unnest(v_rows) as place);
    end if;
    return "app_jobs".fair_choice(v_rows, max_jobs);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.find_schedule(name text)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_ids bigint[];
begin
    for v_ids in
        select array(select s.id from "app_jobs".scheduled_jobs s where s.id::text = name)
        union all
        select array(select s.id from "app_jobs".scheduled_jobs s where s.key = name)
        union all
        select array(select s.id from "app_jobs".scheduled_jobs s where s.task_identifier = name order by s.id)
    loop
        if cardinality(v_ids) = 1 then
            return v_ids[1];
        elsif cardinality(v_ids) > 1 then
            raise cardinality_violation using
                message = format('the task %s has %s schedules', name, cardinality(v_ids)),
                hint = format('Name one by its id: %s.', array_to_string(v_ids[1:10], ', '));
        end if;
    end loop;
    raise no_data_found using
        message = format('no schedule has the id, the key or the task %s', coalesce(name, 'null')),
        hint = 'They are in scheduled_jobs.';
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.force_unlock_workers(worker_ids text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_count int;
begin
    with lost as materialized (
        select j.*, format('the worker %s was unlocked by hand', j.locked_by) as reason
        from "app_jobs".jobs j
        where j.locked_by = any (worker_ids)
        order by j.id
        for update
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select lost.id, lost.attempts, lost.task_identifier, lost.queue_name, lost.database_id, lost.locked_by,
            lost.created_at, lost.run_at, lost.locked_at, now(), 'lost', lost.reason
        from lost
        where "app_jobs".history_enabled()
    )
    update "app_jobs".jobs j
    set last_error = case when j.exhausted then lost.reason else j.last_error end,
        fenced_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from lost
    where j.id = lost.id;
    get diagnostics v_count = row_count;
    delete from "app_jobs".queue_locks l where l.locked_by = any (worker_ids); -- locked by hand
    perform pg_notify('jobs:insert', '');
    perform "app_jobs".record_action(
        'unlock_workers', format('workers %s', array_to_string(worker_ids[1:20], ', ')), v_count, null
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.forget_limit_state(limit_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    perform from "app_jobs".jobs j
    where j.id = any (array(
        select h.job_id from "app_jobs".held_jobs h where h.limit_name = forget_limit_state.limit_name
    ))
    order by j.id
    for update;
    update "app_jobs".jobs j set run_at = h.run_at, updated_at = now()
    from "app_jobs".held_jobs h
    where h.limit_name = forget_limit_state.limit_name
        and j.id = h.job_id
        and j.run_at = 'infinity'
        and j.locked_at is null;
    delete from "app_jobs".held_jobs h where h.limit_name = forget_limit_state.limit_name;
    delete from "app_jobs".limit_slots s where s.limit_name = forget_limit_state.limit_name;
    delete from "app_jobs".limit_starts s where s.limit_name = forget_limit_state.limit_name;
    delete from "app_jobs".limit_keys k where k.limit_name = forget_limit_state.limit_name;
    perform pg_notify('jobs:insert', '');
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.format_job_ids(job_ids bigint[])
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select case when cardinality(job_ids) = 1 then 'job ' else 'jobs ' end || array_to_string(job_ids[1:10], ', ')
        || case when cardinality(job_ids) > 10 then format(' and %s more', cardinality(job_ids) - 10) else '' end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.format_utc(at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
$function$;

CREATE OR REPLACE FUNCTION app_jobs.get_job(worker_id text, task_identifiers text[] DEFAULT NULL::text[], job_expiry interval DEFAULT '04:00:00'::interval)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_job "app_jobs".job_row;
begin
    lock table "app_jobs".jobs, "app_jobs".queue_locks in row exclusive mode; -- before reading, for REINDEX
    select * into v_job from "app_jobs".claim_jobs(worker_id, task_identifiers, job_expiry, 1);
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.get_scheduled_job(worker_id text, task_identifiers text[] DEFAULT NULL::text[])
 RETURNS app_jobs.scheduled_jobs
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_schedule "app_jobs".scheduled_jobs;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A scheduler id has at least 4 characters.';
    end if;
    perform "app_jobs".end_schedule_pauses(now());
    update "app_jobs".scheduled_jobs s
    set locked_by = worker_id, locked_at = now()
    where s.id = (
        select unlocked.id from "app_jobs".scheduled_jobs unlocked
        where unlocked.locked_at is null
            and unlocked.paused_at is null
            and (task_identifiers is null or unlocked.task_identifier = any (task_identifiers))
        order by unlocked.priority, unlocked.id
        limit 1
        for update skip locked
    )
    returning s.* into v_schedule;
    return v_schedule;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.grant_like(known text, added text[], privileges text DEFAULT 'select'::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_schema constant oid := (select relnamespace from pg_class where oid = '"app_jobs".jobs'::regclass);
    v_grant text;
begin
    for v_grant in
        select format('grant %s to %I', new.object, pg_get_userbyid(granted.grantee))
        from (
            select proacl as acl, proowner as owner from pg_proc where pronamespace = v_schema and proname = known
            union all
            select relacl, relowner from pg_class where relnamespace = v_schema and relname = known
            union all
            select a.attacl, c.relowner
            from pg_class c
            join pg_attribute a on a.attrelid = c.oid
            where c.relnamespace = v_schema and format('%s.%s', c.relname, a.attname) = known
        ) old
        cross join lateral aclexplode(old.acl) granted
        cross join (
            select format('execute on function %s', oid::regprocedure) from pg_proc
            where pronamespace = v_schema and proname = any (added)
            union all
            select format('%s on %s', privileges, oid::regclass) from pg_class
            where relnamespace = v_schema and relname = any (added)
        ) new (object)
        where granted.privilege_type in ('EXECUTE', 'SELECT') and granted.grantee not in (0, old.owner)
    loop
        execute v_grant;
    end loop;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.has_lease(worker_id text, job_id bigint, attempt integer)
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select exists (
        select from "app_jobs".jobs j
        where j.id = has_lease.job_id
            and j.locked_by = has_lease.worker_id
            and j.attempts = has_lease.attempt
            and j.lease_expires_at >= now()
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.has_task_settings()
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$select false$function$;

CREATE OR REPLACE FUNCTION app_jobs.heartbeat_job(worker_id text, job_id bigint, attempt integer, lease interval, progress real, message text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    perform from "app_jobs".renew_leases(worker_id, array[job_id], array[attempt], lease);
    if not found then
        return false;
    end if;
    update "app_jobs".jobs j
    set progress = coalesce(heartbeat_job.progress, j.progress),
        progress_message = coalesce(message, j.progress_message)
    where j.id = job_id and (heartbeat_job.progress is not null or message is not null);
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.heartbeat_worker(worker_id text, host text, pid integer, version text, roles text[], concurrency integer, in_flight integer, heartbeat_interval interval)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    insert into "app_jobs".workers as w (
        worker_id, host, pid, version, roles, concurrency, in_flight, heartbeat_interval
    ) values (
        heartbeat_worker.worker_id,
        heartbeat_worker.host,
        heartbeat_worker.pid,
        heartbeat_worker.version,
        heartbeat_worker.roles,
        heartbeat_worker.concurrency,
        heartbeat_worker.in_flight,
        heartbeat_worker.heartbeat_interval
    )
    on conflict (worker_id, host, pid) do update
    set version = excluded.version,
        roles = excluded.roles,
        concurrency = excluded.concurrency,
        in_flight = excluded.in_flight,
        heartbeat_interval = excluded.heartbeat_interval,
        last_heartbeat_at = now();
    delete from "app_jobs".workers w where w.last_heartbeat_at < now() - interval '1 day';
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.heartbeat_worker(worker_id text, host text, pid integer, version text, roles text[], concurrency integer, in_flight integer, heartbeat_interval interval, tasks text[], queues text[], max_in_flight_bytes bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_variable
begin
    perform "app_jobs".heartbeat_worker(worker_id, host, pid, version, roles, concurrency, in_flight, heartbeat_interval);
    update "app_jobs".workers w
    set tasks = heartbeat_worker.tasks,
        queues = heartbeat_worker.queues,
        max_in_flight_bytes = heartbeat_worker.max_in_flight_bytes
    where w.worker_id = heartbeat_worker.worker_id and w.host = heartbeat_worker.host and w.pid = heartbeat_worker.pid
        and (w.tasks, w.queues, w.max_in_flight_bytes) is distinct from (
            heartbeat_worker.tasks, heartbeat_worker.queues, heartbeat_worker.max_in_flight_bytes
        );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.history_enabled()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select exists (select from "app_jobs".history_settings h where h.retention > interval '0')
$function$;

CREATE OR REPLACE FUNCTION app_jobs.hold_jobs(job_ids bigint[], limit_names text[], keys text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'on'
AS $function$
begin
    with refused as materialized (
        select j.ctid as place, given.limit_name, given.key as limit_key, j.*
        from unnest(job_ids, limit_names, keys) as given (job_id, limit_name, key)
        join "app_jobs".jobs j on j.id = given.job_id
    ),
    lost as (
        insert into "app_jobs".job_runs -- of workers that died
        select r.id, r.attempts, r.task_identifier, r.queue_name, r.database_id, r.locked_by, r.created_at, r.run_at,
            r.locked_at, now(), 'lost', format('the worker %s died, or lost its lease', r.locked_by)
        from refused r
        where r.locked_at is not null and "app_jobs".history_enabled()
    ),
    held as (
        insert into "app_jobs".held_jobs as h (job_id, limit_name, key, priority, run_at)
        select r.id, r.limit_name, r.limit_key, r.priority, r.run_at from refused r
        on conflict (job_id) do update
        set limit_name = excluded.limit_name, key = excluded.key, priority = excluded.priority,
            run_at = excluded.run_at, held_at = excluded.held_at
    )
    update "app_jobs".jobs j
    set run_at = 'infinity',
        is_limited = true,
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from refused r
    where j.ctid = r.place;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.holds_unique_key(holder app_jobs.unique_jobs)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if holder.unique_until = 'expired' then
        return holder.expires_at > clock_timestamp();
    end if;
    -- A waiting job is locked, so that it starts after this transaction has ended and sees what it has changed.
    perform from "app_jobs".jobs j
    where j.id = holder.job_id
        and j.locked_at is null
        and not j.exhausted
        and (j.attempts = 0 or holder.unique_until = 'done')
    for no key update;
    if found or holder.unique_until = 'started' then
        return found;
    end if;
    return exists (
        select from "app_jobs".jobs j where j.id = holder.job_id and not (j.exhausted and j.locked_at is null)
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.insert_child(parent app_jobs.jobs, spec json, call_position integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_id constant bigint := ("app_jobs".insert_job(
        parent.database_id, parent.actor_id, parent.entity_id, spec ->> 'task', spec -> 'payload',
        'jobfn:child:' || parent.id || ':' || call_position, spec ->> 'queue',
        now() + coalesce((spec ->> 'delaySeconds')::float8, 0) * interval '1 second', (spec ->> 'maxAttempts')::int,
        coalesce((spec ->> 'priority')::int, nullif(parent.priority, 0)), parent.organization_id, parent.entity_type
    )).id;
begin
    if call_position is not null or parent.traceparent is not null then
        update "app_jobs".jobs j
        set is_awaited = case when call_position is not null then true end,
            traceparent = parent.traceparent,
            tracestate = parent.tracestate
        where j.id = v_id;
    end if;
    return v_id;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.insert_job(database_id uuid, actor_id uuid, entity_id uuid, identifier text, payload json, job_key text, queue_name text, run_at timestamp with time zone, max_attempts integer, priority integer, organization_id uuid DEFAULT NULL::uuid, entity_type text DEFAULT NULL::text, apply_unique boolean DEFAULT false)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
declare
    -- Inserting a whole row, and returning it without RETURNING, saves a fifth of the time.
    v_new "app_jobs".job_row := row(
        nextval('"app_jobs".jobs_id_seq'), database_id, actor_id, entity_id, queue_name, identifier,
        coalesce(payload, '{}'), coalesce(priority, 0), coalesce(run_at, now()), 0, coalesce(max_attempts, 25),
        job_key, null, null, null, now(), now(),
        null, null, null, null, null, -- lease_expires_at to fenced_attempt
        substring(
            current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        ),
        case
            when octet_length(current_setting('jobfn.tracestate', true)) <= 512
            then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
        end,
        false, false, organization_id, entity_type,
        null, null -- snoozes, snoozing_since
    )::"app_jobs".job_row;
    v_payload_bytes int; -- null unless the payload is large
    v_job "app_jobs".job_row;
    v_settings "app_jobs".task_settings;
begin
    if "app_jobs".has_task_settings() then
        select * into v_settings from "app_jobs".task_settings s where s.task_identifier = insert_job.identifier;
        if found then
            v_new.queue_name := coalesce(v_settings.override_queue_name, v_new.queue_name, v_settings.queue_name);
            v_new.max_attempts := coalesce(
                v_settings.override_max_attempts, insert_job.max_attempts, v_settings.max_attempts, 25
            );
            v_new.priority := coalesce(
                v_settings.override_priority, insert_job.priority, v_settings.priority, 0
            );
            if apply_unique
                and job_key is null
                and (v_settings.unique_for is not null or v_settings.unique_until is not null)
            then
                return "app_jobs".insert_unique_by_settings(v_settings, v_new);
            end if;
        end if;
    end if;
    if length(identifier) not between 3 and 126 -- shorter ones may be valid too
        or length(queue_name) not between 1 and 126
        or length(job_key) not between 1 and 512
        or max_attempts < 1
        or octet_length(payload::text) > 16384
    then
        perform "app_jobs".check_job(identifier, queue_name, job_key, max_attempts);
        v_payload_bytes := nullif(greatest(octet_length(payload::text), 16384), 16384);
        perform "app_jobs".check_payload_size(identifier, v_payload_bytes);
    end if;
    if job_key is null then
        insert into "app_jobs".jobs values (v_new.*);
        if v_payload_bytes is not null then
            update "app_jobs".jobs j set payload_bytes = v_payload_bytes where j.id = v_new.id;
        end if;
        return v_new;
    end if;
    loop
        insert into "app_jobs".jobs as j values (v_new.*)
        on conflict (key) where key is not null do update set
            database_id = excluded.database_id,
            actor_id = excluded.actor_id,
            entity_id = excluded.entity_id,
            organization_id = excluded.organization_id,
            entity_type = excluded.entity_type,
            task_identifier = excluded.task_identifier,
            payload = excluded.payload,
            payload_bytes = null,
            queue_name = excluded.queue_name,
            run_at = excluded.run_at,
            max_attempts = excluded.max_attempts,
            priority = excluded.priority,
            attempts = 0,
            snoozes = null,
            snoozing_since = null,
            last_error = null,
            traceparent = excluded.traceparent,
            tracestate = excluded.tracestate,
            expires_at = excluded.expires_at,
            updated_at = now()
        where j.locked_at is null and (j.has_steps is null or j.attempts = 0)
        returning ("app_jobs".to_job_row(j)).* into v_job;
        if found then
            if v_payload_bytes is not null then
                update "app_jobs".jobs j set payload_bytes = v_payload_bytes where j.id = v_job.id;
            end if;
            return v_job;
        end if;
        update "app_jobs".jobs j
        set key = null,
            max_attempts = greatest(j.attempts, 1) + case when j.locked_at is null and not j.exhausted then 1 else 0 end,
            snoozing_since = '-infinity',
            updated_at = now()
        where j.key = job_key and (j.locked_at is not null or j.has_steps and j.attempts > 0);
    end loop;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.insert_scheduled_job(database_id uuid, identifier text, payload json, schedule_info json, job_key text, queue_name text, max_attempts integer, priority integer)
 RETURNS app_jobs.scheduled_jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_schedule "app_jobs".scheduled_jobs;
begin
    perform "app_jobs".check_job(identifier, null, null, null);
    perform "app_jobs".check_payload_size(identifier, octet_length(payload::text));
    if coalesce(json_typeof(insert_scheduled_job.schedule_info), 'null') <> 'object' then
        raise exception 'INVALID_SCHEDULE'
            using hint =
                'schedule_info is an object: {"rule": "0 9 * * *"}, or parts such as {"hour": 9, "minute": 0}.';
    end if;
    insert into "app_jobs".scheduled_jobs as s (
        database_id, actor_id, task_identifier, payload, schedule_info, key, queue_name, max_attempts, priority
    ) values (
        insert_scheduled_job.database_id,
        "app_jobs".jwt_claim('jwt.claims.user_id'),
        insert_scheduled_job.identifier,
        coalesce(insert_scheduled_job.payload, '{}'),
        insert_scheduled_job.schedule_info,
        insert_scheduled_job.job_key,
        insert_scheduled_job.queue_name,
        coalesce(insert_scheduled_job.max_attempts, 25),
        coalesce(insert_scheduled_job.priority, 0)
    )
    on conflict (key) do update set
        database_id = excluded.database_id,
        actor_id = excluded.actor_id,
        task_identifier = excluded.task_identifier,
        payload = excluded.payload,
        schedule_info = excluded.schedule_info,
        queue_name = excluded.queue_name,
        max_attempts = excluded.max_attempts,
        priority = excluded.priority,
        last_error = null,
        updated_at = now()
    returning s.* into v_schedule;
    return v_schedule;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.insert_scheduled_job(database_id uuid, identifier text, payload json, schedule_info json, job_key text, queue_name text, max_attempts integer, priority integer, entity_id uuid)
 RETURNS app_jobs.scheduled_jobs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_schedule "app_jobs".scheduled_jobs;
begin
    v_schedule := "app_jobs".insert_scheduled_job(
        database_id, identifier, payload, schedule_info, job_key, queue_name, max_attempts, priority
    );
    if v_schedule.entity_id is distinct from insert_scheduled_job.entity_id then
        update "app_jobs".scheduled_jobs s
        set entity_id = insert_scheduled_job.entity_id
        where s.id = v_schedule.id
        returning s.* into v_schedule;
    end if;
    return v_schedule;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.insert_unique_by_settings(settings app_jobs.task_settings, new app_jobs.job_row)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_claim constant text := current_setting('jwt.claims.database_id', true);
    v_id bigint;
    v_job "app_jobs".job_row;
begin
    -- The tenant may be an argument: the key is made from the setting.
    perform set_config('jwt.claims.database_id', coalesce(new.database_id::text, ''), true);
    select added.job_id into v_id
    from "app_jobs".insert_unique_job(
        "app_jobs".unique_job_key(new.task_identifier, new.payload, settings.unique_by), settings.unique_for,
        settings.unique_until, coalesce(settings.on_conflict, 'keep'), new.task_identifier, new.payload, null,
        new.queue_name, new.run_at, new.max_attempts, new.priority, new.entity_id, new.organization_id,
        new.entity_type, null, false, settings.unique_by
    ) as added;
    perform set_config('jwt.claims.database_id', coalesce(v_claim, ''), true);
    select ("app_jobs".to_job_row(j)).* into v_job from "app_jobs".jobs j where j.id = v_id;
    if found then
        return v_job;
    end if;
    new.id := v_id; -- the existing job has ended
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.insert_unique_job(unique_key bytea, unique_for interval, unique_until text, on_conflict text, identifier text, payload json, job_key text, queue_name text, run_at timestamp with time zone, max_attempts integer, priority integer, entity_id uuid, organization_id uuid, entity_type text, depends_on bigint[], ignore_failures boolean, unique_by text[], OUT job_id bigint, OUT is_duplicate boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_until constant text := coalesce(insert_unique_job.unique_until, 'expired');
    v_expires_at constant timestamptz := clock_timestamp() + unique_for;
    v_prune_at constant timestamptz := coalesce(v_expires_at, clock_timestamp() + interval '1 hour');
    v_holder "app_jobs".unique_jobs;
begin
    is_duplicate := false;
    loop
        -- Waits for a transaction that has added the key and not ended.
        insert into "app_jobs".unique_jobs values (unique_key, null, v_until, v_expires_at, v_prune_at)
        on conflict (key) do nothing;
        exit when found;
        select * into v_holder from "app_jobs".unique_jobs u where u.key = unique_key;
        continue when not found;
        if "app_jobs".holds_unique_key(v_holder) and (
            v_holder.unique_until = 'expired'
            -- False if the job was replaced by its job key, with another payload.
            or exists (
                select
                from "app_jobs".jobs j
                where j.id = v_holder.job_id
                    and case when coalesce(unique_by, '{}') = '{}' or json_typeof(j.payload) = 'object' then
                        "app_jobs".unique_job_key(j.task_identifier, j.payload, unique_by) = unique_key
                    end
            )
        ) then
            job_id := v_holder.job_id;
            is_duplicate := true;
            if on_conflict = 'error' then
                raise unique_violation using
                    message = format(
                        'a job of task %s that is unique exists: job %s', quote_literal(identifier), job_id
                    ),
                    hint = 'on_conflict := ''keep'' returns it instead.';
            end if;
            if on_conflict = 'replace' then
                perform "app_jobs".replace_unique_job(
                    job_id, payload, queue_name, run_at, max_attempts, priority, entity_id, organization_id, entity_type
                );
            end if;
            return;
        end if;
        update "app_jobs".unique_jobs u
        set job_id = null, unique_until = v_until, expires_at = v_expires_at, prune_at = v_prune_at
        where u.key = unique_key and u.job_id is not distinct from v_holder.job_id;
        exit when found;
    end loop;
    if depends_on is null then
        job_id := ("app_jobs".insert_job(
            "app_jobs".jwt_claim('jwt.claims.database_id'), "app_jobs".jwt_claim('jwt.claims.user_id'), entity_id,
            identifier, payload, job_key, queue_name, run_at, max_attempts, priority, organization_id, entity_type
        )).id;
    else
        job_id := ("app_jobs".add_job_after(
            identifier => identifier, depends_on => depends_on, payload => payload, job_key => job_key,
            queue_name => queue_name, run_at => run_at, max_attempts => max_attempts, priority => priority,
            entity_id => entity_id, organization_id => organization_id, entity_type => entity_type,
            ignore_failures => ignore_failures
        )).id;
    end if;
    update "app_jobs".unique_jobs u set job_id = insert_unique_job.job_id where u.key = unique_key;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.installation_id()
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select i.id from "app_jobs".installation i
$function$;

CREATE OR REPLACE FUNCTION app_jobs.is_locked_without_lease(worker_id text, job_id bigint)
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select j.lease_expires_at is null
    from "app_jobs".jobs j
    where j.id = is_locked_without_lease.job_id and j.locked_by = is_locked_without_lease.worker_id
$function$;

CREATE OR REPLACE FUNCTION app_jobs.is_queue_locked(name text, expired_before timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return exists (
        select from "app_jobs".queue_locks l
        where l.queue_name = name and not coalesce(l.lease_expires_at < now(), l.locked_at < expired_before)
    ) or (exists (select from "app_jobs".pauses) and "app_jobs".is_queue_paused(name, null, '{}'));
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.is_queue_paused(name text, task_identifiers text[], exclude_tasks text[])
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select exists (
        select
        from "app_jobs".pauses p
        left join (
            select j.task_identifier, j.database_id
            from "app_jobs".jobs j
            where j.queue_name = is_queue_paused.name
                and not j.exhausted
                and j.run_at <= now()
                and (
                    is_queue_paused.task_identifiers is null
                    or j.task_identifier = any (is_queue_paused.task_identifiers)
                )
                and j.task_identifier <> all (is_queue_paused.exclude_tasks)
            order by j.priority, j.run_at, j.id
            limit 1
        ) head on true
        where (p.until is null or p.until > now())
            and (
                p.kind = 'everything'
                or (p.kind = 'queue' and p.name = is_queue_paused.name)
                or (p.kind = 'task' and p.name = head.task_identifier)
                or (p.kind = 'tenant' and p.name = head.database_id::text)
            )
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.is_uuid(value text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select value ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$'
$function$;

CREATE OR REPLACE FUNCTION app_jobs.job_pauses(job_id bigint)
 RETURNS SETOF app_jobs.pauses
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select p.*
    from "app_jobs".jobs j
    join "app_jobs".pauses p on
        p.kind = 'everything'
        or (p.kind = 'task' and p.name = j.task_identifier)
        or (p.kind = 'queue' and p.name = j.queue_name)
        or (p.kind = 'tenant' and p.name = j.database_id::text)
    where j.id = job_pauses.job_id and (p.until is null or p.until > now())
    order by p.since, p.kind
$function$;

CREATE OR REPLACE FUNCTION app_jobs.job_result(job_id bigint)
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select coalesce(
        (
            select json_build_object(
                'state', 'completed', 'result', r.result, 'storage_error', r.storage_error
            )::text
            from "app_jobs".job_results r
            where r.job_id = job_result.job_id and r.expires_at > now()
        ),
        (
            select json_build_object(
                'state', case
                    when j.locked_at is not null then 'running'
                    when j.exhausted then 'failed'
                    when j.parked_attempt = j.attempts and j.run_at > now() then 'parked'
                    else 'waiting'
                end,
                'attempts', j.attempts - coalesce(j.snoozes, 0),
                'error', j.last_error,
                'ended_as', j.ended_as
            )::text
            from "app_jobs".jobs j
            where j.id = job_result.job_id
        ),
        '{"state": "gone"}'
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.job_runs_partitions()
 RETURNS TABLE(partition regclass, lower_bound timestamp with time zone, upper_bound timestamp with time zone, is_default boolean)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO'
AS $function$
    select c.oid::regclass,
        coalesce(substring(bound.text from 'FROM \(''([^'']+)''\)')::timestamptz, '-infinity'),
        coalesce(substring(bound.text from 'TO \(''([^'']+)''\)')::timestamptz, 'infinity'),
        bound.text = 'DEFAULT'
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral (select pg_get_expr(c.relpartbound, c.oid)) bound (text)
    where i.inhparent = '"app_jobs".job_runs'::regclass
$function$;

CREATE OR REPLACE FUNCTION app_jobs.jobs_ahead(job_id bigint, max_count integer, OUT jobs integer, OUT own_jobs integer, OUT other_tenants integer)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
AS $function$
    with recursive job as (
        select j.id, j.priority, j.run_at, j.database_id
        from "app_jobs".jobs j
        where j.id = job_id and j.queue_name is null
    ),
    urgency (priority) as (
        (
            select j.priority from "app_jobs".jobs j
            where j.queue_name is null and not j.exhausted
            order by j.priority
            limit 1
        )
        union all
        select (
            select j.priority from "app_jobs".jobs j
            where j.queue_name is null and not j.exhausted and j.priority > urgency.priority
            order by j.priority
            limit 1
        )
        from urgency
        join job on urgency.priority < job.priority
    ),
    ahead as (
        select ready.database_id is distinct from job.database_id and urgency.priority = job.priority as is_other,
            ready.database_id
        from job
        join urgency on urgency.priority <= job.priority
        cross join lateral (
            select j.database_id
            from "app_jobs".jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = urgency.priority
                and (j.run_at, j.id) < (
                    case when urgency.priority = job.priority then job.run_at else 'infinity' end, job.id
                )
                and j.run_at <= now()
                and j.locked_at is null
            limit max_count
        ) ready
        limit max_count
    )
    select count(*)::int, count(*) filter (where not ahead.is_other)::int,
        (count(distinct coalesce(ahead.database_id::text, '')) filter (where ahead.is_other))::int
    from ahead
$function$;

CREATE OR REPLACE FUNCTION app_jobs.jwt_claim(name text)
 RETURNS uuid
 LANGUAGE sql
 STABLE
RETURN CASE WHEN (current_setting(name, true) ~* '^(([0-9a-f]{4}-?){7}[0-9a-f]{4}|[{]([0-9a-f]{4}-?){7}[0-9a-f]{4}[}])$'::text) THEN (current_setting(name, true))::uuid ELSE NULL::uuid END;

CREATE OR REPLACE FUNCTION app_jobs.large_jobs_within(rows tid[], max_payload_bytes bigint, is_first_included boolean)
 RETURNS tid[]
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select array(
        select large.place
        from (
            select j.ctid as place,
                sum(j.payload_bytes) over urgency as bytes,
                row_number() over urgency as position
            from "app_jobs".jobs j
            where j.ctid = any (rows) and j.payload_bytes is not null
            window urgency as (order by j.priority, j.run_at, j.id)
        ) large
        where coalesce(large.bytes <= max_payload_bytes, true)
            or (is_first_included and large.position = 1 and max_payload_bytes > 0)
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.limit_key(per text, database_id uuid, queue_name text, key text, task_identifier text, payload json)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
    select case
        when per is null then ''
        when per = 'tenant' then coalesce(database_id::text, '')
        when per = 'queue' then coalesce(queue_name, '')
        when per = 'key' then case when length(key) > 200 then 'md5:' || md5(key) else coalesce(key, '') end
        when per = 'task' then task_identifier
        else "app_jobs".payload_value(payload, substr(per, 9))
    end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.limit_room(limit_name text, key text)
 RETURNS TABLE(free_slots bigint, free_starts bigint)
 LANGUAGE sql
 STABLE
AS $function$
    select
        l.concurrency - (
            select count(*) from "app_jobs".limit_slots s
            where l.concurrency is not null and s.limit_name = limit_room.limit_name and s.key = limit_room.key
        ),
        case
            when exists (
                select from "app_jobs".limit_keys k
                where k.limit_name = limit_room.limit_name and k.key = limit_room.key and k.paused_until > now()
            ) then 0
            else l.rate_count - (
                select coalesce(sum(s.starts), 0) from "app_jobs".limit_starts s
                where s.limit_name = limit_room.limit_name
                    and s.key = limit_room.key
                    and s.ends_at > now() - l.rate_interval
            )
        end
    from "app_jobs".limits l
    where l.name = limit_room.limit_name
$function$;

CREATE OR REPLACE FUNCTION app_jobs.limit_usage()
 RETURNS TABLE(name text, slots integer, running bigint, held bigint, paused_keys bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select l.name, l.concurrency, coalesce(s.running, 0), coalesce(h.held, 0), coalesce(k.paused, 0)
    from "app_jobs".limits l
    left join (
        select limit_name, count(*) as running from "app_jobs".limit_slots group by limit_name
    ) s on s.limit_name = l.name
    left join (
        select limit_name, count(*) as held from "app_jobs".held_jobs group by limit_name
    ) h on h.limit_name = l.name
    left join (
        select limit_name, count(*) as paused from "app_jobs".limit_keys where paused_until > now() group by limit_name
    ) k on k.limit_name = l.name
    order by l.name
$function$;

CREATE OR REPLACE FUNCTION app_jobs.limit_verdicts(places tid[], previous_starts bigint)
 RETURNS TABLE(job_id bigint, limit_name text, key text, is_admitted boolean)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
 SET enable_hashjoin TO 'on'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
begin
    return query
    with candidate as materialized (
        select j.id, j.priority, j.run_at, l.name,
            "app_jobs".limit_key(l.per, j.database_id, j.queue_name, j.key, j.task_identifier, j.payload) as key
        from "app_jobs".jobs j
        join "app_jobs".limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
            and (l.queue_name is null or l.queue_name = j.queue_name)
        where j.ctid = any (places)
    ),
    room as materialized (
        select touched.name, touched.key, free.free_slots - previous_starts as free_slots,
            free.free_starts - previous_starts as free_starts, held.priority, held.run_at, held.job_id
        from (select distinct candidate.name, candidate.key from candidate) touched
        cross join lateral "app_jobs".limit_room(touched.name, touched.key) free
        left join lateral (
            select h.priority, h.run_at, h.job_id
            from "app_jobs".held_jobs h
            where h.limit_name = touched.name and h.key = touched.key
            order by h.priority, h.run_at, h.job_id
            limit 1
        ) held on true
    ),
    ranked as (
        select c.id, c.name, c.key, owned.has_slot, room.free_slots, room.free_starts,
            row_number() over (partition by c.name, c.key order by c.priority, c.run_at, c.id) as start_rank,
            count(*) filter (where not owned.has_slot)
                over (partition by c.name, c.key order by c.priority, c.run_at, c.id) as slot_rank,
            room.job_id is null
                or (c.priority, c.run_at, c.id) < (room.priority, room.run_at, room.job_id) as is_first
        from candidate c
        join room on room.name = c.name and room.key = c.key
        cross join lateral (
            -- a job whose worker died keeps its slot
            select exists (
                select from "app_jobs".limit_slots s where s.job_id = c.id and s.limit_name = c.name and s.key = c.key
            ) as has_slot
        ) owned
    )
    select r.id, r.name, r.key,
        coalesce(r.start_rank <= r.free_starts, true)
            and (r.has_slot or (r.is_first and coalesce(r.slot_rank <= r.free_slots, true)))
    from ranked r;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.load_steps(worker_ids text[], job_ids bigint[], job_attempts integer[], after_positions integer[], max_bytes integer)
 RETURNS TABLE(job_id bigint, step_position integer, name text, kind text, state text, wait_group integer, result json, error text, has_more boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
    v_held bigint[] := "app_jobs".lock_held_jobs(worker_ids, job_ids, job_attempts);
    v_claim record;
    v_step "app_jobs".job_steps;
    v_bytes int;
begin
    update "app_jobs".job_steps s
    set state = case s.kind when 'sleep' then 'completed' else 'timed_out' end, ended_at = now()
    where s.job_id = any (v_held) and s.state = 'waiting' and s.wake_at <= now();
    -- of an attempt that has not completed
    delete from "app_jobs".job_steps s where s.job_id = any (v_held) and s.state = 'waiting' and s.kind = 'then';
    for v_claim in
        select given.job_id, given.after_position
        from unnest(job_ids, after_positions) as given (job_id, after_position)
        where given.job_id = any (v_held)
    loop
        job_id := v_claim.job_id;
        v_bytes := 0;
        for v_step in
            select s.* from "app_jobs".job_steps s
            where s.job_id = v_claim.job_id and s.position > v_claim.after_position
            order by s.position
        loop
            exit when v_bytes >= max_bytes;
            step_position := v_step.position;
            name := v_step.name;
            kind := v_step.kind;
            state := v_step.state;
            wait_group := v_step.wait_group;
            result := v_step.result;
            error := v_step.error;
            return next;
            v_bytes := v_bytes + 200 + coalesce(octet_length(v_step.result::text), 0);
        end loop;
        has_more := found and v_bytes >= max_bytes;
        step_position := null;
        name := null;
        kind := null;
        state := null;
        wait_group := null;
        result := null;
        error := null;
        return next;
        has_more := null;
    end loop;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.lock_held_jobs(worker_ids text[], job_ids bigint[], job_attempts integer[])
 RETURNS bigint[]
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select coalesce(array_agg(locked.id), '{}')
    from (
        select distinct given.worker_id, given.job_id, given.attempt
        from unnest(worker_ids, job_ids, job_attempts) as given (worker_id, job_id, attempt)
        order by given.job_id
    ) claim
    cross join lateral (
        select j.id
        from "app_jobs".jobs j
        where j.id = claim.job_id and j.locked_by = claim.worker_id and j.attempts = claim.attempt
        for no key update
    ) locked
$function$;

CREATE OR REPLACE FUNCTION app_jobs.lock_idle_jobs(job_ids bigint[])
 RETURNS SETOF bigint
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select j.id
    from "app_jobs".jobs j
    where j.id = any (job_ids)
        and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'))
    order by j.id
    for update
$function$;

CREATE OR REPLACE FUNCTION app_jobs.lock_jobs_at_priority(task text, at_priority integer, first_run_at timestamp with time zone, first_id bigint, expired_before timestamp with time zone, max_jobs integer, paused_tenants uuid[], is_later_included boolean)
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
    v_highest constant int := case when is_later_included then 2147483647 else at_priority end;
begin
    if task is null and not is_later_included then
        return array(
            select j.ctid
            from "app_jobs".jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = at_priority
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
            order by j.run_at, j.id
            limit max_jobs
            for update skip locked
        );
    elsif task is null then
        return array(
            select j.ctid
            from "app_jobs".jobs j
            where j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) >= (at_priority, first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
            order by j.priority, j.run_at, j.id
            limit max_jobs
            for update skip locked
        );
    end if;
    return array(
        select j.ctid
        from "app_jobs".jobs j
        where j.database_id is not null
            and j.queue_name is null
            and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority >= at_priority
            and (j.priority, j.run_at, j.id) >= (at_priority, first_run_at, first_id)
            and j.priority <= v_highest
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and j.database_id <> all (paused_tenants)
        order by j.priority, j.database_id nulls first, j.run_at nulls first, j.id nulls first
        limit max_jobs
        for update skip locked
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.lock_jobs_of_tenants(task text, at_priority integer, first_run_at timestamp with time zone, first_id bigint, expired_before timestamp with time zone, tenants uuid[], max_jobs integer[], OUT places tid[], OUT owners integer[])
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
begin
    if task is null then
        select coalesce(array_agg(ready.place), '{}'), coalesce(array_agg(tenant.position::int), '{}')
        into places, owners
        from unnest(tenants, max_jobs) with ordinality as tenant (id, max_jobs, position)
        cross join lateral (
            select j.ctid as place
            from "app_jobs".jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and j.priority = at_priority
                and j.database_id = tenant.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id
            limit tenant.max_jobs
            for update skip locked
        ) ready;
    else
        select coalesce(array_agg(ready.place), '{}'), coalesce(array_agg(tenant.position::int), '{}')
        into places, owners
        from unnest(tenants, max_jobs) with ordinality as tenant (id, max_jobs, position)
        cross join lateral (
            select j.ctid as place
            from "app_jobs".jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id = tenant.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id nulls first
            limit tenant.max_jobs
            for update skip locked
        ) ready;
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.lock_jobs_without_tenant(tasks text[], at_priority integer, first_run_at timestamp with time zone, first_id bigint, expired_before timestamp with time zone, max_jobs integer)
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return array(
        select ready.place
        from unnest(tasks) as task (name)
        cross join lateral (
            select j.ctid as place
            from "app_jobs".jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.database_id is null
                and hashtextextended(j.task_identifier, 0) = hashtextextended(task.name, 0)
                and j.task_identifier = task.name
                and j.priority = at_priority
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id nulls first
            limit max_jobs
            for update skip locked
        ) ready
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.lock_limits()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise feature_not_supported using
            message = format(
                'jobs with limits are not claimed in a transaction that is %s: use read committed',
                current_setting('transaction_isolation')
            );
    end if;
    -- The oid of the row type keeps the limits of two jobs schemas apart.
    perform pg_advisory_xact_lock(hashtextextended('limits', pg_typeof(null::"app_jobs".limits)::oid::bigint));
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.mark_accepted(worker_id text, job_id bigint, attempt integer)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    update "app_jobs".jobs j
    set accepted_attempt = mark_accepted.attempt
    where j.id = mark_accepted.job_id
        and j.locked_by = mark_accepted.worker_id
        and j.attempts = mark_accepted.attempt
$function$;

CREATE OR REPLACE FUNCTION app_jobs.next_run_at(lookback interval)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_next timestamptz;
    v_next_of_priority timestamptz;
    v_found int;
    v_priority bigint;
    v_limit bigint;
    v_priorities int := 0;
    -- Priorities with many ended jobs, between which others are looked for.
    v_ended int;
    v_queued_ended int;
begin
    select p.priority, p.queued_priority, case when p.valid_until > now() then p.valid_until end
    into v_ended, v_queued_ended, v_next
    from "app_jobs".claim_positions p
    order by p.id desc
    limit 1;
    v_next := least(v_next, (select min(p.until) from "app_jobs".pauses p where p.until > now() - lookback));

    v_priority := -2147483649; -- below the lowest int
    loop
        v_limit := case when v_ended > v_priority then v_ended else 2147483648 end;
        select j.priority into v_found
        from "app_jobs".jobs j
        where j.queue_name is null and not j.exhausted and j.priority > v_priority and j.priority < v_limit
        order by j.priority
        limit 1;
        exit when v_found is null and v_limit = 2147483648;
        v_priority := coalesce(v_found, v_limit);
        select j.run_at into v_next_of_priority
        from "app_jobs".jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - lookback
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_next := least(v_next, v_next_of_priority); -- least ignores nulls
        v_priorities := v_priorities + 1;
        if v_priorities >= 32 then
            return least(v_next, now() + interval '1 second');
        end if;
    end loop;

    v_priority := -2147483649; -- below the lowest int
    loop
        v_limit := case when v_queued_ended > v_priority then v_queued_ended else 2147483648 end;
        select j.priority into v_found
        from "app_jobs".jobs j
        where j.queue_name is not null and not j.exhausted and j.priority > v_priority and j.priority < v_limit
        order by j.priority
        limit 1;
        exit when v_found is null and v_limit = 2147483648;
        v_priority := coalesce(v_found, v_limit);
        select j.run_at into v_next_of_priority
        from "app_jobs".jobs j
        where j.queue_name is not null
            and not j.exhausted
            and j.priority = v_priority
            and j.run_at > now() - lookback
            and j.locked_at is null
        order by j.run_at, j.id
        limit 1;
        v_next := least(v_next, v_next_of_priority); -- least ignores nulls
        v_priorities := v_priorities + 1;
        if v_priorities >= 32 then
            return least(v_next, now() + interval '1 second');
        end if;
    end loop;
    -- held jobs that wait for a rate, or for the end of a pause
    return least(v_next, (select min(k.wake_at) from "app_jobs".limit_keys k where k.wake_at is not null));
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.park_jobs(worker_ids text[], job_ids bigint[], job_attempts integer[], waiting_for json[])
 RETURNS TABLE(id bigint, task_identifier text, database_id uuid, attempts integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
    v_park record;
    v_job "app_jobs".jobs;
    v_groups int[];
    v_due_at timestamptz;
    v_history_enabled boolean := "app_jobs".history_enabled();
begin
    lock table "app_jobs".jobs in row exclusive mode; -- before reading, for REINDEX
    for v_park in
        select park.*
        from unnest(worker_ids, job_ids, job_attempts, waiting_for) as park (worker_id, job_id, attempt, groups)
        order by park.job_id -- so that two batches with jobs in common do not deadlock
    loop
        select j.* into v_job
        from "app_jobs".jobs j
        where j.id = v_park.job_id
            and j.locked_by = v_park.worker_id
            and (v_park.attempt is null or j.attempts = v_park.attempt)
        for update;
        continue when not found;
        v_groups := array(select given.value::int from json_array_elements_text(v_park.groups) as given (value));
        -- At once if what it waits for came while the handler ended: the lock on the row decides.
        if exists (
            select from unnest(v_groups) as waiting (number)
            where not exists (
                select from "app_jobs".job_steps s
                where s.job_id = v_job.id and s.wait_group = waiting.number and s.state = 'waiting'
            )
        ) then
            v_due_at := now();
        else
            v_due_at := coalesce((
                select min(s.wake_at) from "app_jobs".job_steps s
                where s.job_id = v_job.id and s.wait_group = any (v_groups) and s.state = 'waiting'
            ), 'infinity');
        end if;
        update "app_jobs".jobs j
        set last_error = null,
            max_attempts = least(j.max_attempts::bigint + 1, 2147483647),
            snoozes = coalesce(j.snoozes, 0) + 1,
            parked_attempt = j.attempts,
            run_at = v_due_at,
            locked_at = null,
            locked_by = null,
            lease_expires_at = null,
            updated_at = now()
        where j.id = v_job.id;
        if v_history_enabled then
            insert into "app_jobs".job_runs values (
                v_job.id, v_job.attempts, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                v_job.locked_by, v_job.created_at, v_job.run_at, v_job.locked_at, now(), 'parked', null
            );
        end if;
        if isfinite(v_due_at) then
            perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
        end if;
        id := v_job.id;
        task_identifier := v_job.task_identifier;
        database_id := v_job.database_id;
        attempts := v_job.attempts;
        return next;
    end loop;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause(task text DEFAULT NULL::text, queue text DEFAULT NULL::text, tenant uuid DEFAULT NULL::uuid, everything boolean DEFAULT false, until timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text, paused_by text DEFAULT NULL::text)
 RETURNS app_jobs.pauses
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_max_pauses constant int := 1000; -- every claim reads them
    v_target constant record := "app_jobs".pause_target(task, queue, tenant, everything);
    v_pause "app_jobs".pauses;
begin
    if pause.until <= now() then
        raise invalid_parameter_value using
            message = 'the pause would have ended before now', hint = 'Give a time in the future, or none.';
    end if;
    delete from "app_jobs".pauses p where p.until <= now();
    insert into "app_jobs".pauses as p (kind, name, until, paused_by, reason)
    values (
        v_target.kind, v_target.name, pause.until, left(coalesce(pause.paused_by, session_user), 200),
        left(pause.reason, 1000)
    )
    on conflict (kind, name) do update
    set until = excluded.until, paused_by = excluded.paused_by, reason = excluded.reason
    returning p.* into v_pause;
    if (select count(*) from "app_jobs".pauses) > v_max_pauses then
        raise program_limit_exceeded using
            message = format('there are already %s pauses', v_max_pauses),
            hint = 'Resume some of them, or pause everything.';
    end if;
    perform pg_notify('jobs:pause', '');
    return v_pause;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_limit_key(limit_name text, key text, paused_until timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    if not exists (select from "app_jobs".limits l where l.name = pause_limit_key.limit_name) then
        return false;
    end if;
    insert into "app_jobs".limit_keys as k (limit_name, key, paused_until)
    values (pause_limit_key.limit_name, pause_limit_key.key, pause_limit_key.paused_until)
    on conflict (limit_name, key) do update set paused_until = excluded.paused_until;
    insert into "app_jobs".limit_wakeups values (pause_limit_key.limit_name, pause_limit_key.key);
    perform pg_notify('jobs:insert', '');
    perform "app_jobs".record_action( -- without the key, which may be a value of a payload
        case when paused_until is null then 'resume_limit_key' else 'pause_limit_key' end,
        format('limit %s', pause_limit_key.limit_name), null, jsonb_build_object('until', paused_until)
    );
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_limits_of_job(worker_id text, job_id bigint, job_attempt integer, retry_after interval)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
begin
    return exists (select from "app_jobs".limits l where l.pauses_on_retry_later)
        and exists (
            select from "app_jobs".jobs j
            where j.id = pause_limits_of_job.job_id
                and j.locked_by = pause_limits_of_job.worker_id
                and j.attempts = job_attempt
        )
        and "app_jobs".pause_limits_of_jobs(array[pause_limits_of_job.job_id], now() + retry_after);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_limits_of_jobs(job_ids bigint[], paused_until timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
begin
    perform "app_jobs".lock_limits(); -- a claim changes these rows in another order
    insert into "app_jobs".limit_keys as k (limit_name, key, paused_until)
    select l.name, found.key, max(coalesce(pause_limits_of_jobs.paused_until, j.run_at))
    from "app_jobs".jobs j
    join "app_jobs".limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
        and (l.queue_name is null or l.queue_name = j.queue_name)
    cross join lateral "app_jobs".limit_key(
        l.per, j.database_id, j.queue_name, j.key, j.task_identifier, j.payload
    ) found (key)
    where j.id = any (job_ids)
        and coalesce(pause_limits_of_jobs.paused_until, j.run_at) > now()
        and l.pauses_on_retry_later
    group by l.name, found.key
    on conflict (limit_name, key) do update
    set paused_until = greatest(k.paused_until, excluded.paused_until);
    return found;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_schedule(name text, reason text DEFAULT NULL::text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select "app_jobs".pause_schedule("app_jobs".find_schedule(name), reason)
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_schedule(name text, reason text, until timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select "app_jobs".pause_schedule("app_jobs".find_schedule(name), reason, until)
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_schedule(schedule_id bigint, reason text DEFAULT NULL::text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select "app_jobs".pause_schedule(schedule_id, reason, null)
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_schedule(schedule_id bigint, reason text, until timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if until <= now() then
        raise invalid_parameter_value using
            message = 'the pause would have ended before now', hint = 'Give a time in the future, or none.';
    end if;
    update "app_jobs".scheduled_jobs s
    set paused_at = coalesce(s.paused_at, now()),
        pause_reason = coalesce(left(reason, 1000), s.pause_reason),
        paused_until = nullif(until, 'infinity'),
        due_at = 'infinity',
        locked_at = null,
        locked_by = null,
        updated_at = now()
    where s.id = schedule_id;
    if found then
        perform pg_notify('scheduled_jobs:insert', ''); -- schedulers sleep until the pause ends
    end if;
    return found;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.pause_target(task text, queue text, tenant uuid, everything boolean, OUT kind text, OUT name text)
 RETURNS record
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if num_nonnulls(task, queue, tenant, nullif(everything, false)) <> 1 then
        raise invalid_parameter_value using
            message = 'pauses concern one thing: a task, a queue, a tenant, or everything',
            hint = 'Give one of task, queue, tenant and everything => true.';
    end if;
    kind := case
        when task is not null then 'task' when queue is not null then 'queue' when tenant is not null then 'tenant'
        else 'everything'
    end;
    name := coalesce(task, queue, tenant::text, '');
    if kind <> 'everything' and name = '' or length(name) > 126 then
        raise invalid_parameter_value using
            message = format('the name of the %s has %s characters', kind, length(name)),
            hint = 'Names have 1 to 126 characters.';
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.paused_jobs(job_ids bigint[])
 RETURNS SETOF bigint
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select given.id
    from unnest(job_ids) as given (id)
    where exists (select from "app_jobs".job_pauses(given.id))
$function$;

CREATE OR REPLACE FUNCTION app_jobs.paused_now(OUT has_everything boolean, OUT tasks text[], OUT queues text[], OUT tenants uuid[])
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select
        coalesce(bool_or(p.kind = 'everything'), false),
        coalesce(array_agg(p.name) filter (where p.kind = 'task'), '{}'),
        coalesce(array_agg(p.name) filter (where p.kind = 'queue'), '{}'),
        coalesce(array_agg(p.name::uuid) filter (where p.kind = 'tenant'), '{}')
    from "app_jobs".pauses p
    where p.until is null or p.until > now()
$function$;

CREATE OR REPLACE FUNCTION app_jobs.payload_value(payload json, field text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
declare
    v_value text;
begin
    v_value := payload operator(pg_catalog.#>>) pg_catalog.string_to_array(field, '.'); -- caught, unlike a default
    return case
        when pg_catalog.length(v_value) operator(pg_catalog.>) 200
        then pg_catalog.concat('md5:', pg_catalog.md5(v_value))
        else coalesce(v_value, '')
    end;
exception when others then
    return '';
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.permanently_fail_jobs(job_ids bigint[], error_message text DEFAULT NULL::text)
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_jobs constant "app_jobs".job_row[] := array(
        select failed from "app_jobs".permanently_fail_jobs_unrecorded(job_ids, error_message) failed
    );
begin
    perform "app_jobs".record_action_on_jobs(
        'fail', array(select job.id from unnest(v_jobs) job), jsonb_build_object('reason', left(error_message, 200))
    );
    return query select job.* from unnest(v_jobs) job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.permanently_fail_jobs_unrecorded(job_ids bigint[], error_message text DEFAULT NULL::text)
 RETURNS SETOF app_jobs.job_row
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    with idle as materialized (
        select j.*, coalesce(error_message, 'Failed by hand, without a reason given') as reason
        from "app_jobs".lock_idle_jobs(job_ids) as found (id)
        join "app_jobs".jobs j on j.id = found.id
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select idle.id, idle.attempts, idle.task_identifier, idle.queue_name, idle.database_id, idle.locked_by,
            idle.created_at, idle.run_at, idle.locked_at, now(), 'cancelled', idle.reason
        from idle
        where "app_jobs".history_enabled()
    )
    update "app_jobs".jobs j
    set last_error = idle.reason,
        fenced_attempt = case when j.locked_at is not null then j.attempts else j.fenced_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from idle
    where j.id = idle.id
    returning ("app_jobs".to_job_row(j)).*
$function$;

CREATE OR REPLACE FUNCTION app_jobs.prune_audit_log(max_rows integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_deleted int;
begin
    delete from "app_jobs".audit_log a
    where a.ctid = any (array(
        select old.ctid
        from "app_jobs".audit_log old
        where old.at <= now() - (select h.audit_retention from "app_jobs".history_settings h)
        order by old.at
        limit max_rows
        for update skip locked -- another pruner deletes those
    ));
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.prune_completed_jobs(max_rows integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_deleted int;
begin
    delete from "app_jobs".completed_jobs c
    where c.id = any (array(
        select old.id
        from "app_jobs".completed_jobs old
        where old.completed_at <= now() - (select h.completed_payload_retention from "app_jobs".history_settings h)
        order by old.completed_at
        limit max_rows
        for update skip locked -- another pruner deletes those
    ));
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.prune_failed_jobs(retention interval, after_id bigint, max_rows integer)
 RETURNS TABLE(removed integer, last_id bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_due bigint[];
begin
    lock table "app_jobs".jobs in row exclusive mode; -- before reading, for REINDEX
    select array_agg(found.id) filter (where found.is_due), case when count(*) = max_rows then max(found.id) end
    into v_due, last_id
    from (
        select j.id, j.exhausted and j.locked_at is null and j.updated_at <= now() - retention as is_due
        from "app_jobs".jobs j
        where (j.exhausted or j.last_error is not null) and j.id > after_id
        order by j.id
        limit max_rows
    ) found;
    -- Skip those that somebody retries now.
    select array_agg(locked.id) into v_due
    from (
        select j.id
        from "app_jobs".jobs j
        where j.id = any (v_due) and j.exhausted and j.locked_at is null
        for update skip locked
    ) locked;
    select count(*) into removed from "app_jobs".complete_jobs_unrecorded(v_due);
    return next;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.prune_job_runs(max_rows integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '200ms'
AS $function$
declare
    v_retention constant interval := (select h.retention from "app_jobs".history_settings h);
    v_cutoff constant timestamptz := now() - v_retention;
    v_partition record;
    v_deleted int := 0;
    v_count int;
begin
    for v_partition in
        select p.* from "app_jobs".job_runs_partitions() p where p.lower_bound < v_cutoff order by p.lower_bound
    loop
        if v_partition.upper_bound <= v_cutoff then
            begin
                execute format('drop table %s', v_partition.partition);
            exception
                when lock_not_available or undefined_table then
                    null; -- another pruner may have dropped it
            end;
        elsif v_partition.lower_bound = '-infinity' or v_retention < interval '1 day' then
            execute format(
                'delete from %1$s r where r.ctid = any (array('
                '    select old.ctid from %1$s old where old.ended_at <= %2$L'
                '    order by old.ended_at limit %3$s for update skip locked' -- another pruner deletes those
                '))',
                v_partition.partition, v_cutoff, max_rows - v_deleted
            );
            get diagnostics v_count = row_count;
            v_deleted := v_deleted + v_count;
        end if;
    end loop;
    return v_deleted;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.prune_job_tracebacks(max_rows integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_deleted int;
begin
    delete from "app_jobs".job_tracebacks t
    where t.ctid = any (array(
        select old.ctid
        from "app_jobs".job_tracebacks old
        where old.ended_at <= now() - (select h.retention from "app_jobs".history_settings h)
        order by old.ended_at
        limit max_rows
        for update skip locked -- another pruner deletes those
    ));
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.prune_unique_jobs(max_rows integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_count int;
begin
    with due as materialized (
        select u.key, u.unique_until, u.job_id
        from "app_jobs".unique_jobs u
        where u.prune_at <= now()
        order by u.prune_at
        limit max_rows
        for update skip locked
    ),
    checked as materialized (
        select due.key, exists (
            select from "app_jobs".jobs j
            where j.id = due.job_id
                and not (j.exhausted and j.locked_at is null)
                and (due.unique_until = 'done' or due.unique_until = 'started' and j.attempts = 0)
        ) as is_held
        from due
    ),
    kept as (
        update "app_jobs".unique_jobs u set prune_at = now() + interval '1 hour'
        from checked
        where u.key = checked.key and checked.is_held
    ),
    deleted as (
        delete from "app_jobs".unique_jobs u using checked where u.key = checked.key and not checked.is_held
    )
    select count(*) into v_count from checked;
    return v_count;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_jobs(task_identifiers text[], exclude_tasks text[], expired_before timestamp with time zone, max_jobs integer, start app_jobs.claim_positions)
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_max_tasks constant int := 100; -- with more, one scan over all tasks is cheaper than one for each
    v_tasks text[];
    v_task text;
    v_paused record;
    v_paused_tenants uuid[] := '{}';
    v_has_pauses boolean;
    v_has_tenants boolean;
    v_rows tid[] := '{}';
begin
    select
        exists (select from "app_jobs".pauses),
        exists (
            select
            from "app_jobs".jobs j
            where j.database_id is not null
                and j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
            order by j.priority, j.database_id -- reads jobs_tenant_ready_idx, which is empty where no job has a tenant
            limit 1
        )
    into v_has_pauses, v_has_tenants;
    if v_has_pauses then
        select * into v_paused from "app_jobs".paused_now();
        if v_paused.has_everything then
            return v_rows;
        end if;
        exclude_tasks := exclude_tasks || v_paused.tasks;
        v_paused_tenants := v_paused.tenants;
    end if;
    if task_identifiers is not null then
        v_tasks := array(select distinct wanted.task from unnest(task_identifiers) as wanted (task));
    elsif cardinality(exclude_tasks) > 0 then
        v_tasks := "app_jobs".ready_task_identifiers(v_max_tasks + 1, start);
        if v_has_tenants then
            v_tasks := array(
                select distinct name
                from unnest(v_tasks || "app_jobs".ready_tenant_task_identifiers(v_max_tasks + 1, start)) as name
            );
        end if;
    end if;
    if v_tasks is null and v_has_tenants then
        return "app_jobs".ready_jobs_of_tenants(null, expired_before, max_jobs, start, v_paused_tenants);
    elsif v_tasks is null or cardinality(v_tasks) > v_max_tasks then
        return "app_jobs".ready_jobs_of_any_task(
            task_identifiers, exclude_tasks, expired_before, max_jobs, start, v_paused_tenants
        );
    end if;
    foreach v_task in array v_tasks loop
        if v_task <> all (exclude_tasks) then
            v_rows := v_rows || case
                when v_has_tenants
                then "app_jobs".ready_jobs_of_tenants(v_task, expired_before, max_jobs, start, v_paused_tenants)
                else "app_jobs".ready_jobs_of_task(v_task, expired_before, max_jobs, start)
            end;
        end if;
    end loop;
    return "app_jobs".fair_choice(v_rows, max_jobs);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_jobs_of_any_task(task_identifiers text[], exclude_tasks text[], expired_before timestamp with time zone, max_jobs integer, start app_jobs.claim_positions, paused_tenants uuid[])
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    -- One priority after the other: within one, the delayed jobs are at the end of the index range and are not read.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from "app_jobs".jobs j
        where j.queue_name is null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from "app_jobs".jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (j.database_id is null or j.database_id <> all (paused_tenants))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.run_at, j.id
            limit max_jobs - cardinality(v_rows)
            for update skip locked
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity'; -- on to the next priority
        v_id := 9223372036854775807;
    end loop;
    -- With more than 16 priorities, reading past the delayed jobs is cheaper than one query for each priority.
    return v_rows || array(
        select j.ctid
        from "app_jobs".jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            and (j.database_id is null or j.database_id <> all (paused_tenants))
            and (task_identifiers is null or j.task_identifier = any (task_identifiers))
            and j.task_identifier <> all (exclude_tasks)
        order by j.priority, j.run_at, j.id
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_jobs_of_task(task text, expired_before timestamp with time zone, max_jobs integer, start app_jobs.claim_positions)
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_task_ready_idx
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from "app_jobs".jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.database_id is null
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id nulls first
        limit 1;
        if not found then
            return v_rows;
        end if;
        v_rows := v_rows || array(
            select j.ctid
            from "app_jobs".jobs j
            where j.queue_name is null
                and not j.exhausted
                and j.database_id is null
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at, j.id nulls first
            limit max_jobs - cardinality(v_rows)
            for update skip locked
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    return v_rows || array(
        select j.ctid
        from "app_jobs".jobs j
        where j.queue_name is null
            and not j.exhausted
            and j.database_id is null
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority > v_priority
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.priority, j.run_at, j.id nulls first
        limit max_jobs - cardinality(v_rows)
        for update skip locked
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_jobs_of_tenants(task text, expired_before timestamp with time zone, max_jobs integer, start app_jobs.claim_positions, paused_tenants uuid[])
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
    v_tasks text[] := array[task];
    v_after "app_jobs".claim_positions;
    v_rows tid[] := '{}';
    v_priority int := start.priority;
    v_run_at timestamptz := start.run_at;
    v_id bigint := start.job_id;
begin
    if task is null then
        v_tasks := "app_jobs".ready_task_identifiers(100, start);
    end if;
    -- One priority after the other, as in ready_jobs_of_any_task.
    for v_step in 1..16 loop
        if task is null then
            select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
            from "app_jobs".jobs j
            where j.queue_name is null
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
            order by j.priority, j.run_at, j.id
            limit 1;
        else
            select least(with_tenant.priority, without.priority) into v_priority
            from (select) as one
            left join (
                select j.priority
                from "app_jobs".jobs j
                where j.database_id is not null
                    and j.queue_name is null
                    and not j.exhausted
                    and hashtextextended(j.task_identifier, 0) = v_hash
                    and j.task_identifier = task
                    and j.priority >= v_priority
                    and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
                order by j.priority, j.database_id nulls first
                limit 1
            ) with_tenant on true
            left join (
                select j.priority
                from "app_jobs".jobs j
                where j.database_id is null
                    and j.queue_name is null
                    and not j.exhausted
                    and hashtextextended(j.task_identifier, 0) = v_hash
                    and j.task_identifier = task
                    and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
                order by j.priority, j.run_at, j.id nulls first
                limit 1
            ) without on true;
            v_run_at := case when v_priority = start.priority then start.run_at else '-infinity' end;
            v_id := case when v_priority = start.priority then start.job_id + 1 else 0 end;
        end if;
        if v_priority is null then
            return v_rows;
        end if;
        v_rows := v_rows || "app_jobs".fair_jobs_at_priority(
            task, v_tasks, v_priority, v_run_at, v_id, expired_before, max_jobs - cardinality(v_rows), paused_tenants
        );
        if cardinality(v_rows) >= max_jobs then
            return v_rows;
        end if;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    if task is not null then
        v_after := start;
        v_after.priority := v_priority;
        v_after.run_at := 'infinity';
        v_after.job_id := 9223372036854775807;
        v_rows := v_rows || "app_jobs".ready_jobs_of_task(task, expired_before, max_jobs - cardinality(v_rows), v_after);
    end if;
    return v_rows || "app_jobs".lock_jobs_at_priority(
        task, v_priority, 'infinity', 9223372036854775807, expired_before, max_jobs - cardinality(v_rows),
        paused_tenants, true
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_queue_heads(queue_names text[], task_identifiers text[], exclude_tasks text[], expired_before timestamp with time zone, start app_jobs.claim_positions)
 RETURNS tid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_paused record;
    v_paused_tasks text[] := '{}';
    v_paused_tenants uuid[] := '{}';
begin
    if exists (select from "app_jobs".pauses) then
        select * into v_paused from "app_jobs".paused_now();
        v_paused_tasks := v_paused.tasks;
        v_paused_tenants := v_paused.tenants;
    end if;
    -- The transaction has the advisory lock of each queue. This statement has a newer snapshot than ready_queues, so it
    -- sees the true head, and whether the queue was claimed before the advisory lock was taken. If another session is
    -- changing the head now, the queue is skipped: its second job must not overtake.
    return array(
        select locked.place
        from unnest(queue_names) as queue (name)
        cross join lateral (
            select j.id, j.task_identifier, j.database_id
            from "app_jobs".jobs j
            where j.queue_name = queue.name
                and not j.exhausted
                and (j.priority, j.run_at, j.id) > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
            order by j.priority, j.run_at, j.id
            limit 1
        ) head
        cross join lateral (
            select j.ctid as place
            from "app_jobs".jobs j
            where j.id = head.id
                and j.queue_name = queue.name
                and not j.exhausted
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            for update skip locked
        ) locked
        where not "app_jobs".is_queue_locked(queue.name, expired_before)
            -- The first job that this worker may run. A later one must not overtake it.
            and head.task_identifier <> all (v_paused_tasks)
            and (head.database_id is null or head.database_id <> all (v_paused_tenants))
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_queues(task_identifiers text[], exclude_tasks text[], expired_before timestamp with time zone, max_queues integer, start app_jobs.claim_positions)
 RETURNS text[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_window constant int := 64 + 4 * max_queues;
    v_candidates text[] := '{}'; -- the queues of the most urgent jobs, with repetitions
    v_priority int := start.queued_priority;
    v_run_at timestamptz := start.queued_run_at;
    v_id bigint := start.queued_job_id;
    v_names text[];
    v_has_pauses boolean := false;
    v_paused record;
    v_paused_tasks text[] := '{}';
    v_paused_tenants uuid[] := '{}';
begin
    -- First try the queues of the most urgent jobs. That is enough if many queues have a few jobs each.
    for v_step in 1..16 loop
        select j.priority, j.run_at, j.id into v_priority, v_run_at, v_id
        from "app_jobs".jobs j
        where j.queue_name is not null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (v_priority, v_run_at, v_id)
        order by j.priority, j.run_at, j.id
        limit 1;
        exit when not found;
        if v_step = 1 and exists (select from "app_jobs".pauses) then
            select * into v_paused from "app_jobs".paused_now();
            if v_paused.has_everything then
                return v_candidates;
            end if;
            v_has_pauses := true;
            v_paused_tasks := v_paused.tasks;
            v_paused_tenants := v_paused.tenants;
        end if;
        v_candidates := v_candidates || array(
            select j.queue_name
            from "app_jobs".jobs j
            where j.queue_name is not null
                and not j.exhausted
                and j.priority = v_priority
                and (j.run_at, j.id) >= (v_run_at, v_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                and j.task_identifier <> all (exclude_tasks)
                and j.task_identifier <> all (v_paused_tasks)
                and (j.database_id is null or j.database_id <> all (v_paused_tenants))
            order by j.run_at, j.id
            limit v_window - cardinality(v_candidates)
        );
        exit when cardinality(v_candidates) >= v_window;
        v_run_at := 'infinity';
        v_id := 9223372036854775807;
    end loop;
    if v_priority is null and cardinality(v_candidates) = 0 then -- null: all priorities were read
        return v_candidates;
    end if;
    v_names := array(
        select urgent.name
        from (
            select candidate.name
            from unnest(v_candidates) with ordinality as candidate (name, position)
            group by candidate.name
            order by min(candidate.position)
            offset 0 -- keeps the order: try_lock_queue is called for the most urgent queue first
        ) urgent
        where not "app_jobs".is_queue_locked(urgent.name, expired_before)
            and not (v_has_pauses and "app_jobs".is_queue_paused(urgent.name, task_identifiers, exclude_tasks))
            and "app_jobs".try_lock_queue(urgent.name)
        limit max_queues
    );
    if v_priority is null or cardinality(v_names) >= max_queues then -- null: all priorities were read
        return v_names;
    end if;

    -- A few long queues filled the window. Skip from queue to queue and read the head of each.
    return array(
        with recursive queue (name) as (
            (
                select j.queue_name
                from "app_jobs".jobs j
                where j.queue_name is not null
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                order by j.queue_name
                limit 1
            )
            union all
            select following.queue_name
            from queue
            cross join lateral (
                select j.queue_name
                from "app_jobs".jobs j
                where j.queue_name > queue.name
                    and j.queue_name is not null
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                order by j.queue_name
                limit 1
            ) following
        )
        select urgent.name
        from (
            select queue.name
            from queue
            cross join lateral (
                select j.priority, j.run_at, j.id
                from "app_jobs".jobs j
                where j.queue_name = queue.name
                    and not j.exhausted
                    and (j.priority, j.run_at, j.id)
                        > (start.queued_priority, start.queued_run_at, start.queued_job_id)
                    and j.run_at <= now()
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0
        ) urgent
        where not "app_jobs".is_queue_locked(urgent.name, expired_before)
            and not (v_has_pauses and "app_jobs".is_queue_paused(urgent.name, task_identifiers, exclude_tasks))
            and "app_jobs".try_lock_queue(urgent.name)
        limit max_queues
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_queues_among(queue_names text[], task_identifiers text[], exclude_tasks text[], expired_before timestamp with time zone, max_queues integer)
 RETURNS text[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return array(
        select urgent.name
        from (
            select wanted.name
            from (select distinct given.name from unnest(queue_names) as given (name)) wanted
            cross join lateral (
                select j.priority, j.run_at, j.id
                from "app_jobs".jobs j
                where j.queue_name = wanted.name
                    and not j.exhausted
                    and j.run_at <= now()
                    and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
                    and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                    and j.task_identifier <> all (exclude_tasks)
                order by j.priority, j.run_at, j.id
                limit 1
            ) head
            order by head.priority, head.run_at, head.id
            offset 0 -- keeps the order, as in ready_queues
        ) urgent
        where not "app_jobs".is_queue_locked(urgent.name, expired_before) and "app_jobs".try_lock_queue(urgent.name)
        limit max_queues
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_task_identifiers(max_tasks integer, start app_jobs.claim_positions)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return array(
        with recursive task (name, hash) as (
            (
                select j.task_identifier, hashtextextended(j.task_identifier, 0)
                from "app_jobs".jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is null
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            )
            union all
            select following.task_identifier, following.hash
            from task
            cross join lateral (
                select j.task_identifier, hashtextextended(j.task_identifier, 0) as hash
                from "app_jobs".jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is null
                    and hashtextextended(j.task_identifier, 0) > task.hash
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            ) following
        )
        select task.name from task limit max_tasks
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_tenant_task_identifiers(max_tasks integer, start app_jobs.claim_positions)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return array(
        with recursive task (name, hash) as (
            (
                select j.task_identifier, hashtextextended(j.task_identifier, 0)
                from "app_jobs".jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is not null
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            )
            union all
            select following.task_identifier, following.hash
            from task
            cross join lateral (
                select j.task_identifier, hashtextextended(j.task_identifier, 0) as hash
                from "app_jobs".jobs j
                where j.queue_name is null
                    and not j.exhausted
                    and j.database_id is not null
                    and hashtextextended(j.task_identifier, 0) > task.hash
                    and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
                order by hashtextextended(j.task_identifier, 0)
                limit 1
            ) following
        )
        select task.name from task limit max_tasks
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.ready_tenants(task text, at_priority integer, first_run_at timestamp with time zone, first_id bigint, expired_before timestamp with time zone, paused_tenants uuid[], lowest uuid, highest uuid, max_tenants integer)
 RETURNS TABLE(id uuid, is_ready boolean)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_hash constant bigint := hashtextextended(task, 0); -- of jobs_tenant_task_ready_idx
begin
    if task is null then
        return query
        with recursive visited (id, visits) as (
            (
                select j.database_id, 1
                from "app_jobs".jobs j
                where j.database_id is not null and j.queue_name is null and not j.exhausted
                    and j.priority = at_priority
                    and j.database_id >= lowest and j.database_id <= highest
                    and (j.run_at, j.id) >= (first_run_at, first_id)
                order by j.database_id
                limit 1
            )
            union all
            select following.database_id, visited.visits + 1
            from visited
            cross join lateral (
                select j.database_id
                from "app_jobs".jobs j
                where j.database_id is not null and j.queue_name is null and not j.exhausted
                    and j.priority = at_priority
                    and j.database_id > visited.id and j.database_id <= highest
                    and (j.run_at, j.id) >= (first_run_at, first_id)
                order by j.database_id
                limit 1
            ) following
            where visited.visits < max_tenants
        )
        select visited.id, visited.id <> all (paused_tenants) and (
            select true
            from "app_jobs".jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and j.priority = at_priority
                and j.database_id = visited.id
                and (j.run_at, j.id) >= (first_run_at, first_id)
                and j.run_at <= now()
                and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
            order by j.run_at nulls first, j.id
            limit 1
        ) is true
        from visited;
        return;
    end if;
    return query
    with recursive visited (id, visits) as (
        (
            select j.database_id, 1
            from "app_jobs".jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id >= lowest and j.database_id <= highest
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by j.database_id nulls first
            limit 1
        )
        union all
        select following.database_id, visited.visits + 1
        from visited
        cross join lateral (
            select j.database_id
            from "app_jobs".jobs j
            where j.database_id is not null and j.queue_name is null and not j.exhausted
                and hashtextextended(j.task_identifier, 0) = v_hash
                and j.task_identifier = task
                and j.priority = at_priority
                and j.database_id > visited.id and j.database_id <= highest
                and (j.run_at, j.id) >= (first_run_at, first_id)
            order by j.database_id nulls first
            limit 1
        ) following
        where visited.visits < max_tenants
    )
    select visited.id, visited.id <> all (paused_tenants) and (
        select true
        from "app_jobs".jobs j
        where j.database_id is not null and j.queue_name is null and not j.exhausted
            and hashtextextended(j.task_identifier, 0) = v_hash
            and j.task_identifier = task
            and j.priority = at_priority
            and j.database_id = visited.id
            and (j.run_at, j.id) >= (first_run_at, first_id)
            and j.run_at <= now()
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < expired_before))
        order by j.run_at nulls first, j.id nulls first
        limit 1
    ) is true
    from visited;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.reap_expired_jobs(job_expiry interval)
 RETURNS TABLE(id bigint, task_identifier text, attempts integer, locked_by text, database_id uuid)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    with lost as materialized (
        select j.*, format('the worker %s died, or lost its lease, in the last attempt', j.locked_by) as reason
        from "app_jobs".jobs j
        where j.in_last_attempt
            and coalesce(j.lease_expires_at < now(), j.locked_at < now() - job_expiry)
        order by j.id
        for update
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select lost.id, lost.attempts, lost.task_identifier, lost.queue_name, lost.database_id, lost.locked_by,
            lost.created_at, lost.run_at, lost.locked_at, now(), 'lost', lost.reason
        from lost
        where "app_jobs".history_enabled()
    )
    update "app_jobs".jobs j
    set last_error = lost.reason,
        fenced_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from lost
    where j.id = lost.id
    returning lost.id, lost.task_identifier, lost.attempts, lost.locked_by, lost.database_id
$function$;

CREATE OR REPLACE FUNCTION app_jobs.reclaim_jobs(worker_id text)
 RETURNS TABLE(id bigint, task_identifier text, attempts integer, locked_by text, database_id uuid)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    -- The attempts count: functions may still run them, and the number of the attempt tells a late report from one of
    -- the next attempt.
    return query
    with lost as materialized (
        select j.*
        from "app_jobs".jobs j
        where j.locked_by = worker_id
            and not coalesce(j.accepted_attempt = j.attempts and j.lease_expires_at >= now(), false)
        order by j.id
        for update
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select lost.id, lost.attempts, lost.task_identifier, lost.queue_name, lost.database_id, lost.locked_by,
            lost.created_at, lost.run_at, lost.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', lost.locked_by)
        from lost
        where "app_jobs".history_enabled()
    )
    update "app_jobs".jobs j
    set last_error = case
            when j.exhausted then format('the worker %s died, or lost its lease, in the last attempt', worker_id)
            else j.last_error
        end,
        fenced_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from lost
    where j.id = lost.id
    returning lost.id, lost.task_identifier, lost.attempts, lost.locked_by, lost.database_id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from "app_jobs".queue_locks l -- the trigger has not deleted locks without a job
    where l.locked_by = worker_id
        and not exists (select from "app_jobs".jobs j where j.id = l.job_id and j.locked_by = worker_id);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.record_action(action text, target text, job_count integer, details jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_max_details constant int := 4000;
    v_source constant text := current_setting('jobfn.source', true);
    v_operation constant text := current_setting('jobfn.operation', true);
begin
    insert into "app_jobs".audit_log (actor, role, source, action, target, job_count, details, operation)
    values (
        coalesce("app_jobs".audit_text(current_setting('jobfn.actor', true), 200), session_user),
        session_user,
        case when v_source in ('cli', 'dashboard', 'mcp') then v_source else 'sql' end,
        action,
        coalesce("app_jobs".audit_text(target, 300), ''),
        job_count,
        case
            when length(details::text) > v_max_details then jsonb_build_object('cut', left(details::text, v_max_details))
            else nullif(jsonb_strip_nulls(details), '{}')
        end,
        case when length(v_operation) = 36 and "app_jobs".is_uuid(v_operation) then v_operation::uuid end
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.record_action_on_jobs(action text, job_ids bigint[], details jsonb DEFAULT '{}'::jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_count constant int := cardinality(job_ids);
    v_filter constant text := "app_jobs".audit_text(current_setting('jobfn.filter', true), 1000);
begin
    if v_count > 0 then
        perform "app_jobs".record_action(
            action,
            case when v_count = 1 and v_filter is null then format('job %s', job_ids[1]) else 'jobs' end,
            v_count,
            details || jsonb_build_object(
                'filter', v_filter,
                'jobs', case when v_count > 1 then array(select id from unnest(job_ids) id order by id limit 20) end
            )
        );
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.record_claim_position(start app_jobs.claim_positions, known app_jobs.claim_positions, claimed tid[], is_waiting boolean, entries_read bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $function$
declare
    -- Jobs with an earlier run_at may be committed later.
    v_latest constant timestamptz := now() - interval '100 milliseconds';
    v_next "app_jobs".claim_positions := case when known.id is not null then known else start end;
    v_place record;
    v_paused record;
begin
    if start.id is null then
        delete from "app_jobs".claim_positions p
        where p.claims = start.claims or p.valid_until < clock_timestamp() - interval '1 minute';
        if entries_read < 10000 then
            return;
        end if;
        -- Reading takes a second for some five million entries: a tenth of the time.
        v_next.valid_until := clock_timestamp() + greatest(entries_read / 500000.0, 0.1) * interval '1 second';
    elsif entries_read < 1000 then
        return;
    end if;

    select * into v_paused from "app_jobs".paused_now();
    if exists (select from "app_jobs".jobs j where j.ctid = any (claimed) and j.database_id is not null) then
        -- The first waiting job: tenants take turns, so claims do not take the jobs in this order.
        select j.priority, j.run_at, j.id - 1 as id into v_place
        from "app_jobs".jobs j
        where j.queue_name is null
            and not j.exhausted
            and (j.priority, j.run_at, j.id) > (start.priority, start.run_at, start.job_id)
            and j.run_at <= now()
            and j.locked_at is null
            and j.task_identifier <> all (v_paused.tasks)
            and (j.database_id is null or j.database_id <> all (v_paused.tenants))
        order by j.priority, j.run_at, j.id
        limit 1;
    else
        select j.priority, j.run_at, j.id into v_place
        from "app_jobs".jobs j
        where j.ctid = any (claimed) and j.queue_name is null
        order by j.priority desc, j.run_at desc, j.id desc
        limit 1;
    end if;
    if found or not is_waiting then
        v_next.priority := coalesce(v_place.priority, nullif(v_next.priority, -2147483648), 0);
        v_next.run_at := least(v_place.run_at, v_latest);
        v_next.job_id := case when v_place.run_at = v_next.run_at then v_place.id else -1 end;
    end if;

    v_next.valid_until := least(
        v_next.valid_until, (select min(p.until) from "app_jobs".pauses p where p.until > now())
    );
    -- The first waiting job, because its queue may be locked until later.
    select j.priority, j.run_at, j.id into v_place
    from "app_jobs".jobs j
    where j.queue_name is not null
        and not j.exhausted
        and (j.priority, j.run_at, j.id) > (start.queued_priority, start.queued_run_at, start.queued_job_id)
        and j.run_at <= now()
        and j.locked_at is null
        and j.task_identifier <> all (v_paused.tasks)
        and j.queue_name <> all (v_paused.queues)
        and (j.database_id is null or j.database_id <> all (v_paused.tenants))
    order by j.priority, j.run_at, j.id
    limit 1;
    v_next.queued_priority := coalesce(v_place.priority, nullif(v_next.queued_priority, -2147483648), 0);
    v_next.queued_run_at := least(v_place.run_at, v_latest);
    v_next.queued_job_id := case when v_place.run_at = v_next.queued_run_at then v_place.id - 1 else -1 end;

    insert into "app_jobs".claim_positions (
        claims, priority, run_at, job_id, queued_priority, queued_run_at, queued_job_id, valid_until
    ) values (
        v_next.claims, v_next.priority, v_next.run_at, v_next.job_id, v_next.queued_priority, v_next.queued_run_at,
        v_next.queued_job_id, v_next.valid_until
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.record_learned_attempts(tasks text[], max_attempts integer[])
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    delete from "app_jobs".learned_attempts l
    using unnest(tasks, record_learned_attempts.max_attempts) as given (task, limit_)
    where l.task_identifier = given.task and given.limit_ is null;

    insert into "app_jobs".learned_attempts as l (task_identifier, max_attempts)
    select given.task, given.limit_
    from unnest(tasks, record_learned_attempts.max_attempts) as given (task, limit_)
    where given.limit_ > 0
        and length(given.task) between 1 and 126
        and (select count(*) from "app_jobs".learned_attempts) < 10000
    order by given.task
    on conflict (task_identifier) do update set max_attempts = excluded.max_attempts, learned_at = now()
    where l.max_attempts <> excluded.max_attempts;
$function$;

CREATE OR REPLACE FUNCTION app_jobs.record_steps(worker_ids text[], job_ids bigint[], job_attempts integer[], lease interval, positions integer[], names text[], kinds text[], states text[], wait_groups integer[], results json[], errors text[], seconds double precision[], specs json[])
 RETURNS TABLE(job_id bigint, step_position integer, name text, state text, result json)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
    v_held bigint[];
    v_entry record;
    v_step "app_jobs".job_steps;
    v_job "app_jobs".jobs;
    v_inserted int;
    v_is_repeated boolean;
begin
    lock table "app_jobs".jobs, "app_jobs".job_steps, "app_jobs".job_dependencies in row exclusive mode; -- before reading, for REINDEX
    v_held := "app_jobs".lock_held_jobs(worker_ids, job_ids, job_attempts);
    if cardinality(v_held) = 0 then
        return;
    end if;
    update "app_jobs".jobs j
    set has_steps = true,
        lease_expires_at = case when j.lease_expires_at is not null then now() + lease end
    where j.id = any (v_held) and (j.has_steps is null or j.lease_expires_at < now() + lease / 2);
    if found then
        update "app_jobs".queue_locks l
        set lease_expires_at = j.lease_expires_at
        from "app_jobs".jobs j
        where j.id = any (v_held)
            and l.queue_name = j.queue_name
            and l.job_id = j.id
            and l.lease_expires_at < j.lease_expires_at;
    end if;

    -- A step that is sent again, because its response was lost, changes nothing.
    insert into "app_jobs".job_steps (
        job_id, position, name, kind, state, result, error, attempt, started_at, ended_at
    )
    select entry.job_id, entry.position, entry.name, 'step', entry.state, entry.result, entry.error, entry.attempt,
        clock_timestamp() - entry.seconds * interval '1 second', clock_timestamp()
    from unnest(job_ids, job_attempts, positions, names, kinds, states, results, errors, seconds)
        as entry (job_id, attempt, position, name, kind, state, result, error, seconds)
    where entry.kind = 'step' and entry.job_id = any (v_held)
    on conflict do nothing;
    get diagnostics v_inserted = row_count;
    v_is_repeated := v_inserted < (
        select count(*) from unnest(job_ids, kinds) as entry (job_id, kind)
        where entry.kind = 'step' and entry.job_id = any (v_held)
    );

    for v_entry in
        select entry.*
        from unnest(job_ids, job_attempts, positions, names, kinds, wait_groups, specs)
            as entry (job_id, attempt, position, name, kind, wait_group, spec)
        where entry.kind <> 'step' and entry.job_id = any (v_held)
        order by entry.job_id, entry.position
    loop
        perform from "app_jobs".job_steps s where s.job_id = v_entry.job_id and s.position = v_entry.position;
        continue when found;
        v_step := null;
        v_step.job_id := v_entry.job_id;
        v_step.position := v_entry.position;
        v_step.name := v_entry.name;
        v_step.kind := v_entry.kind;
        v_step.state := 'waiting';
        v_step.wait_group := coalesce(v_entry.wait_group, v_entry.position);
        v_step.attempt := v_entry.attempt;
        v_step.started_at := now();
        case v_entry.kind
            when 'sleep', 'wait' then
                v_step.wake_at := coalesce(
                    (v_entry.spec ->> 'until')::timestamptz,
                    now() + (v_entry.spec ->> 'seconds')::float8 * interval '1 second'
                );
                if v_entry.kind = 'wait' then
                    v_step.event := v_entry.spec ->> 'event';
                    delete from "app_jobs".job_signals g
                    where g.job_id = v_step.job_id and g.id = (
                        select min(oldest.id) from "app_jobs".job_signals oldest
                        where oldest.job_id = v_step.job_id and oldest.event = v_step.event
                    )
                    returning g.payload into v_step.result;
                    if found then
                        v_step.state := 'completed';
                    end if;
                elsif v_step.wake_at <= now() then
                    v_step.state := 'completed';
                end if;
            when 'call' then
                select j.* into v_job from "app_jobs".jobs j where j.id = v_step.job_id;
                if "app_jobs".call_depth(v_step.job_id) >= 20 then
                    raise exception 'call %: 20 jobs above this one wait for it already', v_step.name
                        using errcode = 'program_limit_exceeded', hint = 'Call tasks from a job that is less deep.';
                end if;
                v_step.child_id := "app_jobs".insert_child(v_job, v_entry.spec, v_step.position);
            when 'then' then
                v_step.result := v_entry.spec; -- insert_child gets it when the job has completed
                v_step.wait_group := null;
        end case;
        if v_step.state = 'completed' then
            v_step.ended_at := now();
        end if;
        insert into "app_jobs".job_steps values (v_step.*);
    end loop;

    return query
    select s.job_id, s.position, s.name, s.state, case when s.kind = 'wait' or v_is_repeated then s.result end
    from unnest(job_ids, positions) as entry (job_id, position)
    join "app_jobs".job_steps s on s.job_id = entry.job_id and s.position = entry.position
    where entry.job_id = any (v_held);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.record_transaction_step(worker_id text, job_id bigint, attempt integer, step_position integer, step_name text, result json, seconds double precision)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    perform from "app_jobs".jobs j
    where j.id = record_transaction_step.job_id
        and j.locked_by = record_transaction_step.worker_id
        and j.attempts = record_transaction_step.attempt
    for no key update; -- until the commit: another delivery begins after it, or this step is not committed
    if not found then
        raise exception 'job % is not held by this worker in this attempt', record_transaction_step.job_id
            using errcode = 'JF409';
    end if;
    perform set_config('idle_in_transaction_session_timeout', '10s', true); -- the commit is next
    update "app_jobs".jobs j set has_steps = true
    where j.id = record_transaction_step.job_id and j.has_steps is null;
    insert into "app_jobs".job_steps (job_id, position, name, kind, state, result, attempt, started_at, ended_at)
    values (
        record_transaction_step.job_id, step_position, step_name, 'step', 'completed', record_transaction_step.result,
        record_transaction_step.attempt, clock_timestamp() - seconds * interval '1 second', clock_timestamp()
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.release_dependents(job_ids bigint[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
begin
    -- As in wake_parked_jobs: of two transactions that end the last two dependencies, the second one waits here, and its
    -- next statement sees that the first dependency has ended.
    perform from "app_jobs".jobs j where j.id = any (job_ids) order by j.id for no key update;
    with failed as materialized (
        select distinct on (d.job_id) d.job_id, d.error
        from "app_jobs".job_dependencies d
        where d.job_id = any (job_ids) and d.error is not null
        order by d.job_id, d.dependency_id
    ),
    forgotten as (
        delete from "app_jobs".job_dependencies d using failed where d.job_id = failed.job_id
    ),
    ended as (
        update "app_jobs".jobs j
        set last_error = failed.error, attempts = j.max_attempts, parked_attempt = null, run_at = now(), updated_at = now()
        from failed
        where j.id = failed.job_id and j.locked_at is null and j.parked_attempt = 0 and j.attempts = 0
        returning j.*
    )
    insert into "app_jobs".job_runs
    select ended.id, ended.attempts, ended.task_identifier, ended.queue_name, ended.database_id, null,
        ended.created_at, ended.run_at, null, now(), 'permanently_failed', ended.last_error
    from ended
    where "app_jobs".history_enabled();
    with complete as materialized (
        select given.id
        from unnest(job_ids) as given (id)
        where not exists (
            select from "app_jobs".job_dependencies d where d.job_id = given.id and not d.has_ended
        )
    ),
    forgotten as (
        delete from "app_jobs".job_dependencies d using complete where d.job_id = complete.id
        returning d.job_id, d.run_at
    )
    update "app_jobs".jobs j
    set run_at = greatest(released.run_at, now()), parked_attempt = null, updated_at = now()
    from (select forgotten.job_id, max(forgotten.run_at) as run_at from forgotten group by forgotten.job_id) released
    where j.id = released.job_id and j.locked_at is null and j.parked_attempt = 0 and j.attempts = 0;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.release_jobs(worker_id text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    with released as materialized (
        select j.* from "app_jobs".jobs j where j.locked_by = worker_id order by j.id for update
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select released.id, released.attempts, released.task_identifier, released.queue_name, released.database_id,
            released.locked_by, released.created_at, released.run_at, released.locked_at, now(), 'released', null
        from released
        where "app_jobs".history_enabled()
    )
    update "app_jobs".jobs j
    set locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        -- The function may still run a durable job, so the number of its attempt is not used again.
        attempts = case when j.has_steps then j.attempts else greatest(j.attempts - 1, 0) end,
        max_attempts = case
            when j.has_steps then least(j.max_attempts::bigint + 1, 2147483647) else j.max_attempts
        end,
        snoozes = case when j.has_steps then coalesce(j.snoozes, 0) + 1 else j.snoozes end,
        updated_at = now()
    from released
    where j.id = released.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from "app_jobs".queue_locks l where l.locked_by = worker_id; -- the trigger has not deleted locks without a job
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.release_scheduled_jobs(worker_id text, ids bigint[] DEFAULT NULL::bigint[])
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    update "app_jobs".scheduled_jobs s
    set locked_at = null, locked_by = null
    where s.locked_by = worker_id and (ids is null or s.id = any (ids))
$function$;

CREATE OR REPLACE FUNCTION app_jobs.remove_job(job_key text)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_job "app_jobs".job_row;
begin
    select removed.* into v_job
    from "app_jobs".jobs j
    cross join lateral "app_jobs".complete_jobs_unrecorded(array[j.id]) removed
    where j.key = job_key;
    if not found then
        -- A worker runs it. As when another job takes the key: this one is not retried.
        update "app_jobs".jobs j
        set key = null,
            max_attempts = greatest(j.attempts, 1),
            snoozing_since = '-infinity',
            updated_at = now()
        where j.key = job_key
        returning ("app_jobs".to_job_row(j)).* into v_job;
    end if;
    if v_job.id is not null then
        perform "app_jobs".record_action_on_jobs('remove', array[v_job.id], jsonb_build_object('key', job_key));
    end if;
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.remove_limit(name text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '3s'
AS $function$
#variable_conflict use_column
begin
    perform "app_jobs".lock_limits();
    delete from "app_jobs".limits l where l.name = remove_limit.name;
    if not found then
        return false;
    end if;
    perform "app_jobs".forget_limit_state(remove_limit.name);
    if not exists (select from "app_jobs".limits) then
        begin
            alter table "app_jobs".jobs disable trigger _800_hold_inserted_jobs;
        exception when lock_not_available or object_in_use then
            null; -- it costs a little, and finds no limits
        end;
    end if;
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.renew_leases(worker_id text, job_ids bigint[], job_attempts integer[], lease interval)
 RETURNS SETOF bigint
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    with locked as materialized (
        select j.id, j.queue_name
        from unnest(job_ids, job_attempts) as given (job_id, attempt)
        join "app_jobs".jobs j
            on j.id = given.job_id and j.locked_by = renew_leases.worker_id and j.attempts = given.attempt
        order by j.id
        for update of j
    ),
    queues as (
        update "app_jobs".queue_locks l set lease_expires_at = now() + lease
        from locked
        where l.queue_name = locked.queue_name and l.job_id = locked.id
    )
    update "app_jobs".jobs j set lease_expires_at = now() + lease
    from locked
    where j.id = locked.id
    returning j.id
$function$;

CREATE OR REPLACE FUNCTION app_jobs.replace_unique_job(job_id bigint, payload json, queue_name text, run_at timestamp with time zone, max_attempts integer, priority integer, entity_id uuid, organization_id uuid, entity_type text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_settings "app_jobs".task_settings;
    v_payload_bytes constant int := nullif(greatest(octet_length(payload::text), 16384), 16384);
begin
    perform "app_jobs".check_job(null, queue_name, null, max_attempts);
    select s.* into v_settings
    from "app_jobs".jobs j
    join "app_jobs".task_settings s on s.task_identifier = j.task_identifier
    where j.id = replace_unique_job.job_id;
    update "app_jobs".jobs j
    set actor_id = "app_jobs".jwt_claim('jwt.claims.user_id'),
        entity_id = replace_unique_job.entity_id,
        organization_id = replace_unique_job.organization_id,
        entity_type = replace_unique_job.entity_type,
        task_identifier = j.task_identifier, -- tg_replace_dependent: it no longer waits for other jobs
        payload = coalesce(replace_unique_job.payload, '{}'),
        payload_bytes = v_payload_bytes,
        queue_name = coalesce(
            v_settings.override_queue_name, replace_unique_job.queue_name, v_settings.queue_name
        ),
        run_at = coalesce(replace_unique_job.run_at, now()),
        max_attempts = coalesce(
            v_settings.override_max_attempts, replace_unique_job.max_attempts, v_settings.max_attempts, 25
        ),
        priority = coalesce(
            v_settings.override_priority, replace_unique_job.priority, v_settings.priority, 0
        ),
        attempts = 0,
        snoozes = null,
        snoozing_since = null,
        last_error = null,
        expires_at = nullif(current_setting('jobfn.expires_at', true), '')::timestamptz,
        updated_at = now()
    where j.id = replace_unique_job.job_id
        and j.locked_at is null
        and not j.exhausted
        and (j.has_steps is null or j.attempts = 0);
    if found then
        perform "app_jobs".check_payload_size(j.task_identifier, v_payload_bytes)
        from "app_jobs".jobs j where j.id = replace_unique_job.job_id;
        perform pg_notify('jobs:insert', '');
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.reschedule_jobs(job_ids bigint[], run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT NULL::integer, attempts integer DEFAULT NULL::integer, max_attempts integer DEFAULT NULL::integer)
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_jobs constant "app_jobs".job_row[] := array(
        select moved from "app_jobs".reschedule_jobs_unrecorded(job_ids, run_at, priority, attempts, max_attempts) moved
    );
begin
    perform "app_jobs".record_action_on_jobs(
        'reschedule',
        array(select job.id from unnest(v_jobs) job),
        jsonb_build_object(
            'run_at', run_at, 'priority', priority, 'attempts', attempts, 'max_attempts', max_attempts
        )
    );
    return query select job.* from unnest(v_jobs) job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.reschedule_jobs_unrecorded(job_ids bigint[], run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT NULL::integer, attempts integer DEFAULT NULL::integer, max_attempts integer DEFAULT NULL::integer)
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    perform "app_jobs".check_job(null, null, null, max_attempts);
    return query
    with idle as materialized (select found.id from "app_jobs".lock_idle_jobs(job_ids) as found (id))
    update "app_jobs".jobs j
    set run_at = coalesce(reschedule_jobs_unrecorded.run_at, j.run_at),
        priority = coalesce(reschedule_jobs_unrecorded.priority, j.priority),
        attempts = coalesce(reschedule_jobs_unrecorded.attempts, j.attempts),
        max_attempts = coalesce(
            reschedule_jobs_unrecorded.max_attempts,
            case
                when reschedule_jobs_unrecorded.attempts is null then j.max_attempts
                else greatest(j.max_attempts - coalesce(j.snoozes, 0), 1)
            end
        ),
        -- With new attempts, the job begins anew.
        snoozes = case when reschedule_jobs_unrecorded.attempts is null then j.snoozes end,
        snoozing_since = case when reschedule_jobs_unrecorded.attempts is null then j.snoozing_since end,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from idle
    where j.id = idle.id
    returning ("app_jobs".to_job_row(j)).*;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.resume(task text DEFAULT NULL::text, queue text DEFAULT NULL::text, tenant uuid DEFAULT NULL::uuid, everything boolean DEFAULT false)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_target constant record := "app_jobs".pause_target(task, queue, tenant, everything);
begin
    delete from "app_jobs".pauses p where p.kind = v_target.kind and p.name = v_target.name;
    if not found then
        return false;
    end if;
    delete from "app_jobs".claim_positions; -- claims may have gone past the jobs that were paused
    perform pg_notify('jobs:insert', '');
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.resume_schedule(name text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select "app_jobs".resume_schedule("app_jobs".find_schedule(name))
$function$;

CREATE OR REPLACE FUNCTION app_jobs.resume_schedule(schedule_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    update "app_jobs".scheduled_jobs s
    set paused_at = null,
        pause_reason = null,
        paused_until = null,
        due_at = null,
        rule_changed_at = clock_timestamp(),
        updated_at = now()
    where s.id = schedule_id and s.paused_at is not null;
    if found then
        perform pg_notify('scheduled_jobs:insert', '');
        return true;
    end if;
    return exists (select from "app_jobs".scheduled_jobs s where s.id = schedule_id);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.retry_job_from_step(job_id bigint, first_position integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_job "app_jobs".jobs;
    v_children bigint[];
begin
    select j.* into v_job from "app_jobs".jobs j where j.id = retry_job_from_step.job_id for update;
    if not found or v_job.locked_at is not null then
        return false;
    end if;
    with forgotten as (
        delete from "app_jobs".job_steps s where s.job_id = v_job.id and s.position >= first_position
        returning s.state, s.child_id
    )
    select array_agg(forgotten.child_id) into v_children
    from forgotten
    where forgotten.state = 'waiting' and forgotten.child_id is not null;
    v_children := array(
        select j.id from "app_jobs".jobs j where j.id = any (v_children) for update skip locked -- those are just ending
    );
    perform from "app_jobs".cancel_jobs_unrecorded(v_children, 'Its parent was retried from an earlier step', false);
    if v_job.exhausted then
        perform from "app_jobs".retry_jobs_unrecorded(array[v_job.id]);
    else
        update "app_jobs".jobs j set run_at = now(), updated_at = now() where j.id = v_job.id;
        perform pg_notify('jobs:insert', '');
    end if;
    perform "app_jobs".record_action_on_jobs(
        'retry_from_step', array[v_job.id], jsonb_build_object('position', first_position)
    );
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.retry_jobs(job_ids bigint[])
 RETURNS SETOF bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_ids constant bigint[] := array(select * from "app_jobs".retry_jobs_unrecorded(job_ids));
begin
    perform "app_jobs".record_action_on_jobs('retry', v_ids);
    return query select unnest(v_ids);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.retry_jobs_unrecorded(job_ids bigint[])
 RETURNS SETOF bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    -- The rows of jobs are locked before those of their steps, as everywhere.
    perform from "app_jobs".jobs j
    where j.id = any (job_ids) and j.exhausted and j.locked_at is null and j.has_steps
    order by j.id
    for update;
    -- Completed steps are kept; failed ones run again.
    delete from "app_jobs".job_steps s
    using "app_jobs".jobs j
    where s.job_id = any (job_ids)
        and j.id = s.job_id
        and j.exhausted
        and j.locked_at is null
        and (s.state = 'failed' or s.kind = 'then');
    return query
    with failed as materialized (
        select j.id
        from "app_jobs".jobs j
        where j.id = any (job_ids) and j.exhausted and j.locked_at is null
        order by j.id
        for update
    )
    update "app_jobs".jobs j
    set attempts = case when j.has_steps then j.attempts else coalesce(j.fenced_attempt, 0) end,
        max_attempts = least(
            greatest(j.max_attempts - coalesce(j.snoozes, 0), 1)::bigint
                + case when j.has_steps then j.attempts else coalesce(j.fenced_attempt, 0) end,
            2147483647
        ),
        snoozes = case when j.has_steps then j.attempts end,
        snoozing_since = null,
        run_at = now(),
        updated_at = now()
    from failed
    where j.id = failed.id
    returning j.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.run_jobs_again(job_ids bigint[])
 RETURNS TABLE(job_id bigint, new_job_id bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_job "app_jobs".completed_jobs;
    v_ids bigint[] := '{}';
begin
    for v_job in select c.* from "app_jobs".completed_jobs c where c.id = any (job_ids) order by c.id
    loop
        job_id := v_job.id;
        new_job_id := ("app_jobs".insert_job(
            database_id => v_job.database_id,
            actor_id => v_job.actor_id,
            entity_id => v_job.entity_id,
            identifier => v_job.task_identifier,
            payload => v_job.payload,
            job_key => null,
            queue_name => v_job.queue_name,
            run_at => now(),
            max_attempts => v_job.max_attempts,
            priority => v_job.priority,
            organization_id => v_job.organization_id,
            entity_type => v_job.entity_type
        )).id;
        v_ids := v_ids || job_id;
        return next;
    end loop;
    perform "app_jobs".record_action_on_jobs('run_again', v_ids);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.run_jobs_now(job_ids bigint[])
 RETURNS SETOF bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_delayed constant bigint[] := array(
        select j.id
        from "app_jobs".jobs j
        where j.id = any (job_ids) and j.locked_at is null and j.attempts < j.max_attempts and j.run_at > now()
        order by j.id
        for update
    );
    v_ids constant bigint[] := array(
        select moved.id from "app_jobs".reschedule_jobs_unrecorded(v_delayed, run_at := now()) moved
    );
begin
    perform "app_jobs".record_action_on_jobs('run_now', v_ids);
    return query select unnest(v_ids);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.run_schedule(name text)
 RETURNS app_jobs.job_row
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select * from "app_jobs".run_schedule("app_jobs".find_schedule(name))
$function$;

CREATE OR REPLACE FUNCTION app_jobs.run_schedule(schedule_id bigint)
 RETURNS app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_job constant "app_jobs".job_row := "app_jobs".enqueue_schedule(schedule_id, interval '4 hours', true);
begin
    if v_job.id is not null then
        perform "app_jobs".record_action(
            'run_schedule', format('schedule %s %s', schedule_id, v_job.task_identifier), null,
            jsonb_build_object('job', v_job.id)
        );
    end if;
    return v_job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.run_scheduled_job(id bigint, job_expiry interval DEFAULT '01:00:00'::interval)
 RETURNS app_jobs.job_row
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select * from "app_jobs".enqueue_schedule(id, job_expiry, false)
$function$;

CREATE OR REPLACE FUNCTION app_jobs.same_jobs(job_ids bigint[], row_tags bigint[])
 RETURNS bigint[]
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
    select array(
        select case
            when given.row_tag is null then given.job_id
            when exists (
                select from "app_jobs".jobs j
                where j.id = given.job_id
                    -- the low 32 bits of the microseconds, as Job.row_tag
                    and (extract(epoch from j.created_at) * 1000000)::bigint & 4294967295 = given.row_tag
            ) then given.job_id
            else -given.job_id
        end
        from unnest(job_ids, row_tags) with ordinality as given (job_id, row_tag, position)
        order by given.position
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_audit_retention(days double precision)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    update "app_jobs".history_settings h
    set audit_retention = make_interval(secs => days * 86400)
    where h.audit_retention is distinct from make_interval(secs => days * 86400);
    if found then
        perform "app_jobs".record_action('set_audit_retention', 'audit list', null, jsonb_build_object('days', days));
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_completed_payload_retention(days double precision)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '200ms'
AS $function$
declare
    v_retention constant interval := make_interval(secs => days * 86400);
begin
    if not exists (
        select from "app_jobs".history_settings h where h.completed_payload_retention is distinct from v_retention
    ) then
        return;
    end if;
    if days > 0 then
        alter table "app_jobs".jobs enable trigger _800_store_completed_job;
    else
        alter table "app_jobs".jobs disable trigger _800_store_completed_job;
    end if;
    update "app_jobs".history_settings set completed_payload_retention = v_retention;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_default_expiry(expires_at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select set_config('jobfn.expires_at', coalesce(set_default_expiry.expires_at::text, ''), true)
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_expiry(job_ids bigint[], expires_at timestamp with time zone)
 RETURNS SETOF bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_id bigint;
    v_ids bigint[] := '{}';
begin
    for v_id in
        update "app_jobs".jobs j
        set expires_at = set_expiry.expires_at
        where j.id = any (job_ids) and not j.exhausted
        returning j.id
    loop
        v_ids := v_ids || v_id;
        return next v_id;
    end loop;
    perform "app_jobs".record_action_on_jobs('set_expiry', v_ids, jsonb_build_object('expires_at', expires_at));
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_history_retention(days double precision)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    update "app_jobs".history_settings h
    set retention = make_interval(secs => days * 86400)
    where h.retention is distinct from make_interval(secs => days * 86400)
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_limit(name text, task_identifier text DEFAULT NULL::text, queue_name text DEFAULT NULL::text, per text DEFAULT NULL::text, concurrency integer DEFAULT NULL::integer, rate_count integer DEFAULT NULL::integer, rate_interval interval DEFAULT NULL::interval, set_by text DEFAULT 'operator'::text, pauses_on_retry_later boolean DEFAULT false)
 RETURNS app_jobs.limits
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '3s'
AS $function$
#variable_conflict use_column
declare
    v_interval constant interval := make_interval(secs => extract(epoch from set_limit.rate_interval));
    v_old "app_jobs".limits;
    v_new "app_jobs".limits;
begin
    if length(set_limit.name) not between 1 and 126 or set_limit.name is null then
        raise check_violation using message = 'set_limit: name must have 1 to 126 characters';
    end if;
    if set_limit.concurrency is null and set_limit.rate_count is null then
        raise check_violation using
            message = 'set_limit: a limit needs a concurrency, or a rate_count with its rate_interval';
    end if;
    perform "app_jobs".lock_limits();
    select l.* into v_old from "app_jobs".limits l where l.name = set_limit.name;
    if v_old.set_by = 'operator' and set_limit.set_by <> 'operator' then
        return v_old;
    end if;
    if (v_old.task_identifier, v_old.queue_name, v_old.per, v_old.concurrency, v_old.rate_count, v_old.rate_interval,
        v_old.set_by, v_old.pauses_on_retry_later)
        is not distinct from (set_limit.task_identifier, set_limit.queue_name, set_limit.per, set_limit.concurrency,
        set_limit.rate_count, v_interval, set_limit.set_by, set_limit.pauses_on_retry_later)
    then
        return v_old;
    end if;
    if v_old.name is null and (select count(*) from "app_jobs".limits) >= 1000 then
        raise program_limit_exceeded using
            message = 'set_limit: there are 1,000 limits already',
            hint = 'Remove some, or use one limit with per: it has a limit for each value.';
    end if;
    insert into "app_jobs".limits as l (
        name, task_identifier, queue_name, per, concurrency, rate_count, rate_interval, set_by, pauses_on_retry_later
    ) values (
        set_limit.name, set_limit.task_identifier, set_limit.queue_name, set_limit.per, set_limit.concurrency,
        set_limit.rate_count, v_interval, set_limit.set_by, set_limit.pauses_on_retry_later
    )
    on conflict (name) do update set
        task_identifier = excluded.task_identifier,
        queue_name = excluded.queue_name,
        per = excluded.per,
        concurrency = excluded.concurrency,
        rate_count = excluded.rate_count,
        rate_interval = excluded.rate_interval,
        set_by = excluded.set_by,
        pauses_on_retry_later = excluded.pauses_on_retry_later,
        updated_at = now()
    returning l.* into v_new;
    if v_old.name is not null
        and (v_old.task_identifier, v_old.queue_name, v_old.per, v_old.concurrency is null, v_old.rate_count is null)
        is not distinct from (v_new.task_identifier, v_new.queue_name, v_new.per, v_new.concurrency is null,
        v_new.rate_count is null)
    then
        insert into "app_jobs".limit_wakeups
        select distinct h.limit_name, h.key from "app_jobs".held_jobs h where h.limit_name = v_new.name;
        perform pg_notify('jobs:insert', '');
        return v_new;
    end if;
    -- It counts other jobs than before. None may start between the count and the commit.
    begin
        lock table "app_jobs".jobs in share row exclusive mode;
    exception when lock_not_available then
        raise lock_not_available using
            message = 'set_limit: the table of jobs is busy: other transactions have been adding or changing jobs for '
                'more than 3 seconds',
            hint = 'Try again when these transactions, or the vacuum of the table, have ended.';
    end;
    perform "app_jobs".forget_limit_state(v_new.name);
    if v_new.concurrency is not null then
        with running as (
            update "app_jobs".jobs j set is_limited = true
            where j.locked_at is not null
                and (v_new.task_identifier is null or j.task_identifier = v_new.task_identifier)
                and (v_new.queue_name is null or j.queue_name = v_new.queue_name)
            returning j.*
        )
        insert into "app_jobs".limit_slots (job_id, limit_name, key)
        select r.id, v_new.name, "app_jobs".limit_key(
            v_new.per, r.database_id, r.queue_name, r.key, r.task_identifier, r.payload
        )
        from running r;
    end if;
    alter table "app_jobs".jobs enable trigger _800_hold_inserted_jobs;
    return v_new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_max_payload_bytes(max_bytes integer)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    update "app_jobs".payload_settings s set max_payload_bytes = max_bytes
$function$;

CREATE OR REPLACE FUNCTION app_jobs.set_tenant_weight(tenant uuid, weight integer)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if set_tenant_weight.weight not between 1 and 1000 then
        raise invalid_parameter_value using
            message = format('weight is %s', set_tenant_weight.weight), hint = 'Weights are from 1 to 1,000.';
    end if;
    delete from "app_jobs".tenant_weights w
    where w.database_id = tenant and coalesce(set_tenant_weight.weight, 1) = 1; -- the default
    if set_tenant_weight.weight > 1 then
        insert into "app_jobs".tenant_weights as w (database_id, weight)
        values (set_tenant_weight.tenant, set_tenant_weight.weight)
        on conflict (database_id) do update set weight = excluded.weight;
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.settle_jobs(worker_ids text[], job_ids bigint[], job_attempts integer[], outcomes text[], error_messages text[], delays interval[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
    v_history_enabled boolean := "app_jobs".history_enabled();
    v_workers text[];
    v_ids bigint[];
    v_attempts int[];
    v_ids_are_unique boolean;
begin
    select array_agg(settlement.worker_id order by settlement.job_id),
        array_agg(settlement.job_id order by settlement.job_id),
        array_agg(settlement.attempt order by settlement.job_id),
        count(distinct settlement.job_id) = count(*)
    into v_workers, v_ids, v_attempts, v_ids_are_unique
    from unnest(worker_ids, job_ids, job_attempts) as settlement (worker_id, job_id, attempt);
    if not v_ids_are_unique or outcomes <> array_fill('completed'::text, array[cardinality(outcomes)]) then
        return query
        select * from "app_jobs".settle_mixed_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays);
        return;
    end if;
    -- All completed, as in most batches: one statement. Rows are found by the primary key, and their worker and attempt
    -- by binary search in the sorted arrays. A join would be simpler, but statistics can spoil its plan: after a vacuum
    -- of an empty table, it read all jobs and compared each with each settlement.
    return query
    with completed as (
        delete from "app_jobs".jobs j
        where j.id = any (v_ids)
            and j.locked_by = v_workers[width_bucket(j.id, v_ids)]
            and j.attempts = coalesce(v_attempts[width_bucket(j.id, v_ids)], j.attempts)
        returning ("app_jobs".to_job_row(j)).*
    ),
    recorded as (
        insert into "app_jobs".job_runs
        select completed.id, completed.attempts, completed.task_identifier, completed.queue_name,
            completed.database_id, completed.locked_by, completed.created_at, completed.run_at, completed.locked_at,
            now(), 'completed', null
        from completed
        where v_history_enabled
    )
    select completed.* from completed;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.settle_jobs_with_results(worker_ids text[], job_ids bigint[], job_attempts integer[], outcomes text[], error_messages text[], delays interval[], results json[], storage_errors text[], retention_seconds double precision[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_job "app_jobs".job_row;
    v_settled bigint[] := '{}';
    v_stored bigint;
begin
    for v_job in
        select * from "app_jobs".settle_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
    loop
        v_settled := v_settled || v_job.id;
        return next v_job;
    end loop;
    for v_stored in
        insert into "app_jobs".job_results as r (job_id, result, storage_error, expires_at)
        select given.job_id, given.result, given.storage_error, now() + given.retention_seconds * interval '1 second'
        from unnest(job_ids, outcomes, results, storage_errors, retention_seconds)
            as given (job_id, outcome, result, storage_error, retention_seconds)
        where given.retention_seconds is not null and given.outcome = 'completed' and given.job_id = any (v_settled)
        on conflict (job_id) do nothing
        returning r.job_id
    loop
        perform pg_notify('jobs:result', v_stored::text);
    end loop;
    update "app_jobs".job_steps s
    set result = given.result, error = given.storage_error
    from unnest(job_ids, results, storage_errors) as given (job_id, result, storage_error)
    where s.child_id = given.job_id and s.kind = 'call' and s.state = 'completed' and given.job_id = any (v_settled);
    -- Each call deletes some expired results, so that no other process has to.
    delete from "app_jobs".job_results r
    where r.job_id in (
        select old.job_id from "app_jobs".job_results old
        where old.expires_at < now()
        order by old.expires_at
        limit 100
        for update skip locked
    );
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.settle_jobs_with_tracebacks(worker_ids text[], job_ids bigint[], job_attempts integer[], outcomes text[], error_messages text[], delays interval[], results json[], storage_errors text[], retention_seconds double precision[], tracebacks text[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_jobs "app_jobs".job_row[];
begin
    if results is null then
        v_jobs := array(
            select settled
            from "app_jobs".settle_jobs(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays) settled
        );
    else
        v_jobs := array(
            select settled
            from "app_jobs".settle_jobs_with_results(
                worker_ids, job_ids, job_attempts, outcomes, error_messages, delays, results, storage_errors,
                retention_seconds
            ) settled
        );
    end if;
    if "app_jobs".history_enabled() then
        insert into "app_jobs".job_tracebacks (job_id, traceback)
        select given.job_id, right(given.traceback, 16384)
        from unnest(job_ids, outcomes, tracebacks) as given (job_id, outcome, traceback)
        where given.traceback is not null
            and given.outcome in ('failed', 'permanently_failed')
            and given.job_id in (select job.id from unnest(v_jobs) job)
        on conflict (job_id, ended_at) do nothing; -- a batch may name a job twice
    end if;
    return query select job.* from unnest(v_jobs) job;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.settle_mixed_jobs(worker_ids text[], job_ids bigint[], job_attempts integer[], outcomes text[], error_messages text[], delays interval[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_settlement record;
    v_ended record;
    v_job "app_jobs".job_row;
    v_history_enabled boolean := "app_jobs".history_enabled();
    v_runs "app_jobs".job_runs[] := '{}';
    v_notify boolean := false;
begin
    perform set_config('jobfn.collects_ended_jobs', 'on', true);
    -- In the order of ids, so that two batches with jobs in common do not deadlock. Of two outcomes of one job, the
    -- better one counts, which the alphabet happens to sort first.
    for v_settlement in
        select settlement.*
        from unnest(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
            as settlement (worker_id, job_id, attempt, outcome, error_message, delay)
        order by settlement.job_id, settlement.outcome
    loop
        if v_settlement.outcome = 'completed' then
            delete from "app_jobs".jobs j
            where j.id = v_settlement.job_id
                and j.locked_by = v_settlement.worker_id
                and (v_settlement.attempt is null or j.attempts = v_settlement.attempt)
            returning ("app_jobs".to_job_row(j)).* into v_job;
            continue when not found;
            if v_history_enabled then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_job.attempts, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_job.locked_by, v_job.created_at, v_job.run_at, v_job.locked_at, now(), 'completed', null
                )::"app_jobs".job_runs);
            end if;
        else
            with before as materialized (
                select j.id, j.attempts, j.run_at, j.locked_at
                from "app_jobs".jobs j
                where j.id = v_settlement.job_id
                    and j.locked_by = v_settlement.worker_id
                    and (v_settlement.attempt is null or j.attempts = v_settlement.attempt)
                for update
            )
            update "app_jobs".jobs j
            set last_error = case
                    when v_settlement.outcome = 'released' then j.last_error else v_settlement.error_message
                end,
                attempts = case v_settlement.outcome
                    when 'permanently_failed' then j.max_attempts
                    when 'released' then case when j.has_steps then j.attempts else greatest(j.attempts - 1, 0) end
                    else j.attempts
                end,
                max_attempts = case
                    when v_settlement.outcome = 'released' and j.has_steps
                    then least(j.max_attempts::bigint + 1, 2147483647)
                    else j.max_attempts
                end,
                snoozes = case
                    when v_settlement.outcome = 'released' and j.has_steps then coalesce(j.snoozes, 0) + 1
                    else j.snoozes
                end,
                run_at = case
                    when v_settlement.outcome = 'permanently_failed' then j.run_at
                    when v_settlement.outcome = 'released' then greatest(j.run_at, now() + v_settlement.delay)
                    when v_settlement.delay is not null then now() + v_settlement.delay
                    else greatest(now(), j.run_at)
                        + exp(least(j.attempts - coalesce(j.snoozes, 0), 10)) * interval '1 second'
                end,
                locked_at = null,
                locked_by = null,
                lease_expires_at = null,
                updated_at = now()
            from before
            where j.id = before.id
            returning "app_jobs".to_job_row(j) as job, before.attempts as attempt, before.run_at as due_at,
                before.locked_at as started_at
                into v_ended;
            continue when not found;
            v_job := v_ended.job;
            v_notify := v_notify or v_settlement.outcome in ('failed', 'released');
            if v_history_enabled then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_ended.attempt, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_settlement.worker_id, v_job.created_at, v_ended.due_at, v_ended.started_at, now(),
                    case
                        when v_settlement.outcome = 'released' then 'released'
                        when v_job.exhausted then 'permanently_failed'
                        else 'failed'
                    end,
                    case when v_settlement.outcome <> 'released' then v_settlement.error_message end
                )::"app_jobs".job_runs);
            end if;
        end if;
        return next v_job;
    end loop;
    perform set_config('jobfn.collects_ended_jobs', '', true);
    perform "app_jobs".end_calls();
    if cardinality(v_runs) > 0 then
        insert into "app_jobs".job_runs select run.* from unnest(v_runs) run;
    end if;
    if v_notify then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.signal(job_id bigint, event text, payload json DEFAULT NULL::json)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    v_job "app_jobs".jobs;
    v_position int;
    v_group int;
begin
    lock table "app_jobs".job_signals in row exclusive mode; -- before reading, for REINDEX
    if length(event) not between 1 and 200 or event is null then
        raise check_violation using message = 'signal: event must have 1 to 200 characters';
    end if;
    if octet_length(payload::text) > 1048576 then
        raise check_violation using message = 'signal: payload must have at most 1 MiB: send a reference to the data';
    end if;
    select j.* into v_job from "app_jobs".jobs j where j.id = signal.job_id for no key update;
    if not found or (v_job.exhausted and v_job.locked_at is null) then
        return false;
    end if;
    update "app_jobs".job_steps s
    set state = 'completed', result = signal.payload, ended_at = now()
    where s.job_id = v_job.id and s.position = (
        select min(waiting.position) from "app_jobs".job_steps waiting
        where waiting.job_id = v_job.id
            and waiting.state = 'waiting'
            and waiting.kind = 'wait'
            and waiting.event = signal.event
            and coalesce(waiting.wake_at > now(), true)
    )
    returning s.position, s.wait_group into v_position, v_group;
    if found then
        perform "app_jobs".wake_parked_jobs(array[v_job.id], array[v_group]);
        return true;
    end if;
    if (select count(*) from (select from "app_jobs".job_signals g where g.job_id = v_job.id limit 1000) kept) = 1000 then
        raise exception 'signal: job % has 1,000 signals that it has not read', v_job.id
            using errcode = 'program_limit_exceeded', hint = 'Send fewer signals, or let the handler wait for them.';
    end if;
    insert into "app_jobs".job_signals (job_id, event, payload) values (v_job.id, event, payload);
    if v_job.has_steps is null then
        update "app_jobs".jobs j set has_steps = true where j.id = v_job.id;
    end if;
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.signal(job_key text, event text, payload json DEFAULT NULL::json)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select coalesce(
        (select "app_jobs".signal(j.id, signal.event, signal.payload) from "app_jobs".jobs j where j.key = job_key),
        case when job_key ~ '^[1-9][0-9]{0,17}$' then "app_jobs".signal(job_key::bigint, signal.event, signal.payload) else false end
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.signal_by_operator(job_id bigint, event text, payload json DEFAULT NULL::json)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if not "app_jobs".signal(job_id, event, payload) then
        return false;
    end if;
    perform "app_jobs".record_action_on_jobs('signal', array[job_id], jsonb_build_object('event', event));
    return true;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.signal_by_operator(job_key text, event text, payload json DEFAULT NULL::json)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select coalesce(
        (
            select "app_jobs".signal_by_operator(j.id, signal_by_operator.event, signal_by_operator.payload)
            from "app_jobs".jobs j where j.key = job_key
        ),
        case
            when job_key ~ '^[1-9][0-9]{0,17}$'
            then "app_jobs".signal_by_operator(job_key::bigint, signal_by_operator.event, signal_by_operator.payload)
            else false
        end
    )
$function$;

CREATE OR REPLACE FUNCTION app_jobs.signal_jobs(job_keys text[], event text, payloads json[])
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_signal record;
    v_sent int := 0;
begin
    for v_signal in
        select j.id, given.payload
        from unnest(job_keys, payloads) with ordinality as given (key, payload, position)
        join "app_jobs".jobs j on j.key = given.key
        order by j.id, given.position -- the order in which settlements lock jobs
    loop
        if "app_jobs".signal(v_signal.id, event, v_signal.payload) then
            v_sent := v_sent + 1;
        end if;
    end loop;
    return v_sent;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.snooze_jobs(worker_ids text[], job_ids bigint[], job_attempts integer[], reasons text[], delays interval[], max_ages interval[])
 RETURNS SETOF app_jobs.job_row
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_snooze record;
    v_ended record;
    v_job "app_jobs".job_row;
    v_history_enabled boolean := "app_jobs".history_enabled();
    v_pauses_limits constant boolean := exists (select from "app_jobs".limits l where l.pauses_on_retry_later);
    v_snoozed bigint[] := '{}';
begin
    for v_snooze in
        select snooze.*
        from unnest(worker_ids, job_ids, job_attempts, reasons, delays, max_ages)
            as snooze (worker_id, job_id, attempt, reason, delay, max_age)
        order by snooze.job_id -- so that two batches with jobs in common do not deadlock
    loop
        with before as materialized (
            select j.id, j.attempts, j.run_at, j.locked_at,
                coalesce(j.snoozing_since, now()) + v_snooze.max_age > now() as is_allowed,
                case
                    when isfinite(j.snoozing_since) and j.snoozing_since + v_snooze.max_age <= now() then format(
                        '%s (snoozed %s times since %s, longer than its maximum age of %s seconds)',
                        v_snooze.reason, j.snoozes,
                        to_char(j.snoozing_since at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
                        extract(epoch from v_snooze.max_age)::bigint
                    )
                    else v_snooze.reason
                end as error
            from "app_jobs".jobs j
            where j.id = v_snooze.job_id
                and j.locked_by = v_snooze.worker_id
                and (v_snooze.attempt is null or j.attempts = v_snooze.attempt)
            for update
        )
        update "app_jobs".jobs j
        set last_error = before.error,
            attempts = case when before.is_allowed then j.attempts else j.max_attempts end,
            max_attempts = case
                when before.is_allowed then least(j.max_attempts::bigint + 1, 2147483647) else j.max_attempts
            end,
            snoozes = case when before.is_allowed then coalesce(j.snoozes, 0) + 1 else j.snoozes end,
            snoozing_since = case
                when before.is_allowed then coalesce(j.snoozing_since, now()) else j.snoozing_since
            end,
            run_at = case when before.is_allowed then now() + v_snooze.delay else j.run_at end,
            locked_at = null,
            locked_by = null,
            lease_expires_at = null,
            updated_at = now()
        from before
        where j.id = before.id
        returning "app_jobs".to_job_row(j) as job, before.attempts as attempt, before.run_at as due_at,
            before.locked_at as started_at,
            before.is_allowed, before.error
            into v_ended;
        continue when not found;
        v_job := v_ended.job;
        if v_history_enabled then
            insert into "app_jobs".job_runs values (
                v_job.id, v_ended.attempt, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                v_snooze.worker_id, v_job.created_at, v_ended.due_at, v_ended.started_at, now(),
                case when v_ended.is_allowed then 'snoozed' else 'permanently_failed' end, v_ended.error
            );
        end if;
        if v_pauses_limits and v_ended.is_allowed then
            v_snoozed := v_snoozed || v_job.id;
        end if;
        return next v_job;
    end loop;
    if found then
        perform pg_notify('jobs:insert', ''); -- workers have a new time to wake at
    end if;
    if cardinality(v_snoozed) > 0 then
        perform "app_jobs".pause_limits_of_jobs(v_snoozed);
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.sweep_limits()
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
declare
    v_max_keys constant int := 500;
    v_started_at timestamptz;
    v_sweep "app_jobs".limit_sweeps;
    v_keys int;
begin
    if not exists (
        select from "app_jobs".limits
        union all select from "app_jobs".held_jobs
        union all select from "app_jobs".limit_wakeups
        union all select from "app_jobs".cancelled_runs
    ) then
        return;
    end if;
    update "app_jobs".limit_sweeps s set swept_at = now()
    where s.swept_at < now() - interval '4 seconds'
        and s.ctid = any (array(select p.ctid from "app_jobs".limit_sweeps p for update skip locked))
    returning s.* into v_sweep;
    if not found then
        return; -- another worker has just done it
    end if;
    if v_sweep.starts_due_at <= now() then -- a scan of a large table takes at most a twentieth of the time
        v_started_at := clock_timestamp();
        delete from "app_jobs".limit_starts s
        where not exists (
            select from "app_jobs".limits l where l.name = s.limit_name and s.ends_at > now() - l.rate_interval
        );
        update "app_jobs".limit_sweeps s
        set starts_due_at = clock_timestamp() + 19 * (clock_timestamp() - v_started_at);
    end if;
    perform "app_jobs".lock_limits();
    with ended as (
        delete from "app_jobs".limit_slots s
        where case
            when s.job_id < 0 then not exists (select from "app_jobs".cancelled_runs r where r.id = -s.job_id)
            else not exists (select from "app_jobs".jobs j where j.id = s.job_id and j.locked_at is not null)
        end
        returning s.limit_name, s.key
    )
    insert into "app_jobs".limit_wakeups select ended.limit_name, ended.key from ended;
    delete from "app_jobs".limit_keys k where k.wake_at is null and coalesce(k.paused_until <= now(), true);
    with recursive waiting (limit_name, key) as (
        (
            select h.limit_name, h.key
            from "app_jobs".held_jobs h
            where (h.limit_name, h.key) > (v_sweep.limit_name, v_sweep.key)
            order by h.limit_name, h.key
            limit 1
        )
        union all
        select following.limit_name, following.key
        from waiting
        cross join lateral (
            select h.limit_name, h.key
            from "app_jobs".held_jobs h
            where (h.limit_name, h.key) > (waiting.limit_name, waiting.key)
            order by h.limit_name, h.key
            limit 1
        ) following
    ),
    swept as materialized (
        select waiting.limit_name, waiting.key from waiting limit v_max_keys
    ),
    woken as (
        insert into "app_jobs".limit_wakeups select swept.limit_name, swept.key from swept
    ),
    last as (
        select swept.limit_name, swept.key from swept order by swept.limit_name desc, swept.key desc limit 1
    )
    select count(*), max(last.limit_name), max(last.key) into v_keys, v_sweep.limit_name, v_sweep.key
    from swept
    cross join last;
    update "app_jobs".limit_sweeps s
    set limit_name = case when v_keys = v_max_keys then v_sweep.limit_name else '' end,
        key = case when v_keys = v_max_keys then v_sweep.key else '' end;
    perform "app_jobs".wake_limit_keys(10);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_add_job_with_row()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if tg_op = 'DELETE' then
        perform "app_jobs".add_job(tg_argv[0], to_json(old));
        return old;
    end if;
    perform "app_jobs".add_job(tg_argv[0], to_json(new));
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_add_job_with_row_id()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if tg_op = 'DELETE' then
        perform "app_jobs".add_job(tg_argv[0], json_build_object('id', old.id));
        return old;
    end if;
    perform "app_jobs".add_job(tg_argv[0], json_build_object('id', new.id));
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_end_all_limited_jobs()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    delete from "app_jobs".held_jobs;
    delete from "app_jobs".limit_slots;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_end_awaited_job()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    perform set_config(
        'jobfn.ended_jobs',
        concat_ws(
            ',',
            nullif(current_setting('jobfn.ended_jobs', true), ''),
            -- complete_jobs, which removes jobs, has unlocked them
            case when tg_op = 'DELETE' and old.locked_at is not null then old.id else -old.id end
        ),
        true
    );
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_end_durable_job()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    lock table "app_jobs".job_steps in row exclusive mode; -- before reading, for REINDEX
    if old.locked_at is not null then -- complete_jobs, which removes jobs, has deleted these
        perform "app_jobs".insert_child(old, s.result, null)
        from "app_jobs".job_steps s
        where s.job_id = old.id and s.kind = 'then' and s.attempt = old.attempts;
    end if;
    delete from "app_jobs".job_steps s where s.job_id = old.id;
    delete from "app_jobs".job_signals g where g.job_id = old.id;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_end_limited_job()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if old.locked_at is null then
        delete from "app_jobs".held_jobs h where h.job_id = old.id;
        return null;
    end if;
    with ended as (
        delete from "app_jobs".limit_slots s where s.job_id = old.id returning s.limit_name, s.key
    )
    insert into "app_jobs".limit_wakeups select ended.limit_name, ended.key from ended;
    if found then
        perform pg_notify('jobs:insert', ''); -- another job of the key may start
    end if;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_hold_inserted_jobs()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
    v_places tid[];
    v_ready bigint;
    v_ids bigint[];
    v_names text[];
    v_keys text[];
    v_started int;
begin
    select array_agg(j.ctid) into v_places
    from inserted i
    join "app_jobs".jobs j on j.id = i.id
    where i.run_at <= now()
        and i.locked_at is null
        and not i.exhausted
        and exists (
            select from "app_jobs".limits l
            where (l.task_identifier is null or l.task_identifier = i.task_identifier)
                and (l.queue_name is null or l.queue_name = i.queue_name)
        );
    if v_places is null then
        return null;
    end if;
    -- Those that this transaction has left ready are not seen as running.
    v_started := coalesce(nullif(current_setting('jobfn.limited_jobs', true), ''), '0')::int;
    select array_agg(refused.job_id), array_agg(refused.limit_name), array_agg(refused.key)
    into v_ids, v_names, v_keys
    from (
        select distinct on (v.job_id) v.job_id, v.limit_name, v.key
        from "app_jobs".limit_verdicts(v_places, v_started) v
        where not v.is_admitted
        order by v.job_id, v.limit_name
    ) refused;
    v_ready := cardinality(v_places) - coalesce(cardinality(v_ids), 0);
    perform set_config('jobfn.limited_jobs', least(v_started + v_ready, 1000000000)::text, true);
    if v_ids is not null then
        perform "app_jobs".hold_jobs(v_ids, v_names, v_keys);
        -- what is seen here may have ended before the commit
        insert into "app_jobs".limit_wakeups
        select distinct held.limit_name, held.key from unnest(v_names, v_keys) as held (limit_name, key);
    end if;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_notify()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
    -- An expression, because PERFORM executes a query. pg_notify returns void, which is not null.
    if pg_catalog.pg_notify(tg_argv[0], '') is null then
        return null;
    end if;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_record_lost_run()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if "app_jobs".history_enabled() then
        insert into "app_jobs".job_runs values (
            old.id, old.attempts, old.task_identifier, old.queue_name, old.database_id, old.locked_by,
            old.created_at, old.run_at, old.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', old.locked_by)
        );
    end if;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_record_schedule()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_shown constant text[] := '{schedule_info,task_identifier,key,queue_name,max_attempts,priority,database_id}';
    v_row constant "app_jobs".scheduled_jobs := case when tg_op = 'DELETE' then old else new end;
    v_action text := case tg_op when 'INSERT' then 'add_schedule' when 'DELETE' then 'remove_schedule' end;
    v_details jsonb;
begin
    select jsonb_object_agg(shown.name, shown.value) into v_details
    from jsonb_each(to_jsonb(v_row)) as shown (name, value)
    where shown.name = any (v_shown);
    if tg_op = 'UPDATE' and new.paused_at is null and old.paused_at is not null then
        if new.rule_changed_at = old.paused_until then
            return null; -- a scheduler has ended the pause at its time
        end if;
        v_action := 'resume_schedule';
        v_details := null;
    elsif tg_op = 'UPDATE' and (new.paused_at, new.paused_until, new.pause_reason)
        is distinct from (old.paused_at, old.paused_until, old.pause_reason)
    then
        v_action := 'pause_schedule';
        v_details := jsonb_build_object('reason', new.pause_reason, 'until', new.paused_until);
    elsif tg_op = 'UPDATE' then
        v_action := 'change_schedule';
        select jsonb_object_agg(changed.name, changed.value) into v_details
        from jsonb_each("app_jobs".changed_columns(to_jsonb(old), to_jsonb(new), '{}')) as changed (name, value)
        where changed.name = any (v_shown);
        v_details := coalesce(v_details, '{}') || jsonb_build_object(
            'payload', case when new.payload::text <> old.payload::text then 'changed' end
        );
        if jsonb_strip_nulls(v_details) = '{}' then
            return null;
        end if;
    end if;
    perform "app_jobs".record_action(v_action, format('schedule %s %s', v_row.id, v_row.task_identifier), null, v_details);
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_record_setting()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_before constant jsonb := case when tg_op = 'INSERT' then '{}' else to_jsonb(old) end;
    v_after constant jsonb := case when tg_op = 'DELETE' then '{}' else to_jsonb(new) end;
    v_row constant jsonb := v_before || v_after;
    v_changes jsonb;
begin
    v_changes := "app_jobs".changed_columns(v_before, v_after, case tg_table_name
        when 'pauses' then '{kind,name,since,paused_by}'::text[]
        when 'tenant_weights' then '{database_id}'
        else '{name,created_at,updated_at,task_identifier}'
    end);
    if v_changes is null and tg_op = 'UPDATE' then
        return null;
    end if;
    perform "app_jobs".record_action(
        case tg_table_name
            when 'pauses' then case when tg_op = 'DELETE' then 'resume' else 'pause' end
            when 'limits' then case when tg_op = 'DELETE' then 'remove_limit' else 'set_limit' end
            when 'tenant_weights' then 'set_tenant_weight'
            else 'set_task'
        end,
        case tg_table_name
            when 'pauses' then btrim(format('%s %s', v_row ->> 'kind', v_row ->> 'name'))
            when 'limits' then format('limit %s', v_row ->> 'name')
            when 'tenant_weights' then format('tenant %s', v_row ->> 'database_id')
            else format('task %s', v_row ->> 'task_identifier')
        end,
        null,
        v_changes
    );
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_replace_dependent()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    update "app_jobs".jobs j set parked_attempt = null where j.id = new.id;
    delete from "app_jobs".job_dependencies d where d.job_id = new.id;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_replace_has_task_settings()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_has_rows boolean;
begin
    perform pg_advisory_xact_lock(pg_typeof(null::"app_jobs".task_settings)::oid::bigint);
    v_has_rows := exists (select from "app_jobs".task_settings);
    if v_has_rows is distinct from "app_jobs".has_task_settings() then
        execute format(
            'create or replace function %s() returns boolean language sql stable as %L',
            '"app_jobs".has_task_settings', 'select ' || v_has_rows
        );
    end if;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_reset_due_at()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if new.schedule_info::text is distinct from old.schedule_info::text then
        if new.rule_changed_at is not distinct from old.rule_changed_at then
            new.rule_changed_at := clock_timestamp();
        end if;
        new.due_at := case when new.paused_at is not null then timestamptz 'infinity' end;
        new.last_error := null;
    elsif old.due_at = 'infinity' and old.last_error is not null and new.last_error is null then
        -- The error of an invalid rule was cleared: try the rule again.
        new.rule_changed_at := clock_timestamp();
        new.due_at := case when new.paused_at is not null then timestamptz 'infinity' end;
    end if;
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_set_exhausted()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    new.exhausted := new.attempts >= new.max_attempts;
    new.in_last_attempt := new.exhausted and new.locked_at is not null;
    if tg_op = 'UPDATE' and not new.exhausted then -- somebody runs it again
        new.ended_as := null;
        if old.exhausted and new.expires_at <= now() then
            new.expires_at := null;
        end if;
    end if;
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_set_expiry()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    new.expires_at := nullif(current_setting('jobfn.expires_at', true), '')::timestamptz;
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_store_completed_job()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    insert into "app_jobs".completed_jobs values (
        old.id, old.database_id, old.actor_id, old.entity_id, old.organization_id, old.entity_type, old.queue_name,
        old.task_identifier, old.payload, old.priority,
        greatest(old.max_attempts - coalesce(old.snoozes, 0), 1), old.created_at, now()
    )
    on conflict (id) do nothing;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_unlock_queue()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if tg_op = 'TRUNCATE' then
        delete from "app_jobs".queue_locks;
        return null;
    end if;
    delete from "app_jobs".queue_locks l where l.queue_name = old.queue_name and l.job_id = old.id;
    if found then
        perform pg_notify('jobs:insert', ''); -- the queue's next job may run now
    end if;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_wake_parked_jobs()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if coalesce(current_setting('jobfn.ended_jobs', true), '') <> ''
        and coalesce(current_setting('jobfn.collects_ended_jobs', true), '') = ''
    then
        perform "app_jobs".end_calls();
    end if;
    return null;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.tg_write_job_queues()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if tg_op <> 'INSERT' and (tg_op = 'DELETE' or new.queue_name <> old.queue_name or new.locked_at is null) then
        delete from "app_jobs".queue_locks l where l.queue_name = old.queue_name;
        perform pg_notify('jobs:insert', '');
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    if new.locked_at is not null then
        insert into "app_jobs".queue_locks as l (queue_name, locked_by, locked_at)
        values (new.queue_name, coalesce(new.locked_by, 'by hand'), new.locked_at)
        on conflict (queue_name) do update set locked_by = excluded.locked_by, locked_at = excluded.locked_at;
    end if;
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.to_job_row(j app_jobs.jobs)
 RETURNS app_jobs.job_row
 LANGUAGE sql
 IMMUTABLE
AS $function$
    select row(
        j.id, j.database_id, j.actor_id, j.entity_id, j.queue_name, j.task_identifier, j.payload, j.priority, j.run_at,
        j.attempts, j.max_attempts, j.key, j.last_error, j.locked_at, j.locked_by, j.created_at, j.updated_at,
        j.lease_expires_at, j.progress, j.progress_message, j.accepted_attempt, j.fenced_attempt, j.traceparent,
        j.tracestate, j.exhausted, j.in_last_attempt, j.organization_id, j.entity_type, j.snoozes, j.snoozing_since
    )::"app_jobs".job_row
$function$;

CREATE OR REPLACE FUNCTION app_jobs.trigger_job_with_fields()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_fields text[] := '{}'; -- names and values
    v_value text;
begin
    for v_index in 1..tg_nargs - 1 loop
        -- parse_ident: a name without quotes means the column in lower case, as in a statement
        if tg_op = 'DELETE' then
            execute format('select ($1).%I::text', (parse_ident(tg_argv[v_index]))[1]) into v_value using old;
        else
            execute format('select ($1).%I::text', (parse_ident(tg_argv[v_index]))[1]) into v_value using new;
        end if;
        v_fields := v_fields || array[tg_argv[v_index], coalesce(v_value, '')];
    end loop;
    perform "app_jobs".add_job(tg_argv[0], json_object(v_fields));
    if tg_op = 'DELETE' then
        return old;
    end if;
    return new;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.try_lock_queue(name text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    -- The oid of the row type keeps the queues of two jobs schemas apart.
    return pg_try_advisory_xact_lock(hashtextextended(name, pg_typeof(null::"app_jobs".jobs)::oid::bigint));
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.unique_job_key(identifier text, payload json, unique_by text[])
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_value jsonb := coalesce(payload, '{}')::jsonb;
begin
    if unique_by is not null then
        if unique_by <> '{}' and jsonb_typeof(v_value) <> 'object' then
            raise check_violation using message = format(
                'unique_by names fields, but the payload of a job of task %s is not a JSON object', quote_literal(identifier)
            );
        end if;
        v_value := (select jsonb_object_agg(given.field, v_value -> given.field) from unnest(unique_by) as given (field));
    end if;
    return sha256(convert_to(
        jsonb_build_array(
            identifier, "app_jobs".jwt_claim('jwt.claims.database_id'), unique_by is null, v_value
        )::text,
        'UTF8'
    ));
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.wake_jobs(job_ids bigint[])
 RETURNS SETOF bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    v_id bigint;
    v_ids bigint[] := '{}';
begin
    for v_id in
        with parked as materialized (
            select j.id from "app_jobs".jobs j
            where j.id = any (job_ids) and j.locked_at is null and j.parked_attempt = j.attempts and not j.exhausted
            order by j.id
            for no key update
        ),
        due as (
            update "app_jobs".job_steps s set wake_at = now()
            from parked
            where s.job_id = parked.id and s.state = 'waiting' and s.wake_at > now()
        )
        update "app_jobs".jobs j set run_at = least(j.run_at, now()), updated_at = now()
        from parked
        where j.id = parked.id
        returning j.id
    loop
        v_ids := v_ids || v_id;
        return next v_id;
    end loop;
    if cardinality(v_ids) > 0 then
        perform pg_notify('jobs:insert', '');
        perform "app_jobs".record_action_on_jobs('wake', v_ids);
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.wake_limit_keys(min_released integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
    v_names text[];
    v_keys text[];
begin
    if exists (select from "app_jobs".cancelled_runs r where r.ends_at <= now()) then
        perform "app_jobs".end_cancelled_runs(
            array(select r.id from "app_jobs".cancelled_runs r where r.ends_at <= now() for update skip locked)
        );
    end if;
    if not exists (select from "app_jobs".limit_wakeups)
        and not exists (select from "app_jobs".limit_keys k where k.wake_at <= now())
    then
        return;
    end if;
    perform "app_jobs".lock_limits();
    with woken as (
        delete from "app_jobs".limit_wakeups w
        where w.ctid = any (array(select woken.ctid from "app_jobs".limit_wakeups woken limit 500 for update skip locked))
        returning w.limit_name, w.key
    ),
    due as (
        update "app_jobs".limit_keys k set wake_at = null
        where k.ctid = any (array(
            select due.ctid from "app_jobs".limit_keys due where due.wake_at <= now() order by due.wake_at limit 500
        ))
        returning k.limit_name, k.key
    )
    select array_agg(touched.limit_name), array_agg(touched.key) into v_names, v_keys
    from (select * from woken union select * from due) touched
    where (
        select true from "app_jobs".held_jobs h
        where h.limit_name = touched.limit_name and h.key = touched.key
        limit 1 -- which makes it a look-up of both
    );
    if exists (select from "app_jobs".limit_wakeups) or exists (select from "app_jobs".limit_keys k where k.wake_at <= now())
    then
        perform pg_notify('jobs:insert', ''); -- the next claim goes on with them
    end if;
    if v_names is null then
        return;
    end if;
    with free as materialized (
        select given.limit_name, given.key, case
                -- a limit that was removed while the job was added
                when not exists (select from "app_jobs".limits l where l.name = given.limit_name) then 1000
                else least(room.free_slots, room.free_starts, 1000)
            end as jobs
        from unnest(v_names, v_keys) as given (limit_name, key)
        left join lateral "app_jobs".limit_room(given.limit_name, given.key) room on true
    ),
    due as materialized (
        select j.id, first.run_at
        from free
        cross join lateral (
            select h.job_id, h.run_at
            from "app_jobs".held_jobs h
            where h.limit_name = free.limit_name and h.key = free.key
            order by h.priority, h.run_at, h.job_id
            limit greatest(free.jobs, min_released)
        ) first
        join "app_jobs".jobs j on j.id = first.job_id and j.run_at = 'infinity' and j.locked_at is null
        where free.jobs > 0
        for update of j skip locked
    )
    update "app_jobs".jobs j set run_at = due.run_at from due where j.id = due.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    -- A key waits for a time if a rate or a pause lets no other job start, else for the end of a job.
    insert into "app_jobs".limit_keys as k (limit_name, key, wake_at)
    select waiting.limit_name, waiting.key, waiting.wake_at
    from (
        select given.limit_name, given.key, greatest(
                (
                    select p.paused_until from "app_jobs".limit_keys p
                    where p.limit_name = given.limit_name and p.key = given.key and p.paused_until > now()
                ),
                case when l.rate_count <= coalesce(used.starts, 0) then used.first_ends_at + l.rate_interval end
            ) as wake_at
        from unnest(v_names, v_keys) as given (limit_name, key)
        join "app_jobs".limits l on l.name = given.limit_name
        cross join lateral (
            select sum(s.starts) as starts, min(s.ends_at) as first_ends_at
            from "app_jobs".limit_starts s
            where s.limit_name = given.limit_name and s.key = given.key and s.ends_at > now() - l.rate_interval
        ) used
        where (
            select true from "app_jobs".held_jobs h
            where h.limit_name = given.limit_name and h.key = given.key
            limit 1
        )
    ) waiting
    where waiting.wake_at is not null
    on conflict (limit_name, key) do update set wake_at = least(k.wake_at, excluded.wake_at);
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.wake_parked_jobs(job_ids bigint[], wait_groups integer[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
begin
    -- The locks come first, in the order of ids: of two transactions that end the last two steps of a group, the second
    -- one waits here, and its next statement sees the step of the first.
    perform from "app_jobs".jobs j where j.id = any (job_ids) order by j.id for no key update;
    update "app_jobs".jobs j
    set run_at = now(), updated_at = now()
    where j.id = any (job_ids)
        and j.locked_at is null
        and j.parked_attempt = j.attempts
        and j.run_at > now()
        and exists (
            select from unnest(job_ids, wait_groups) as ended (job_id, number)
            where ended.job_id = j.id and not exists (
                select from "app_jobs".job_steps s
                where s.job_id = j.id and s.wait_group = ended.number and s.state = 'waiting'
            )
        );
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$function$;

CREATE OR REPLACE FUNCTION app_jobs.workers_for(task text, queue text)
 RETURNS SETOF app_jobs.workers
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select w.*
    from "app_jobs".workers w
    where 'worker' = any (w.roles)
        and w.last_heartbeat_at > now() - 3 * w.heartbeat_interval
        and (w.tasks is null or task = any (w.tasks))
        and (w.queues is null or coalesce(queue, '') = any (w.queues))
$function$;

CREATE TRIGGER _500_write_job_queues INSTEAD OF INSERT OR DELETE OR UPDATE ON app_jobs.job_queues FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_write_job_queues();
CREATE TRIGGER _100_set_exhausted_of_inserted_job BEFORE INSERT ON app_jobs.jobs FOR EACH ROW WHEN ((new.attempts > 0)) EXECUTE FUNCTION app_jobs.tg_set_exhausted();
CREATE TRIGGER _100_set_exhausted_of_updated_job BEFORE UPDATE OF attempts, max_attempts, locked_at, exhausted, in_last_attempt ON app_jobs.jobs FOR EACH ROW WHEN (((new.exhausted <> (new.attempts >= new.max_attempts)) OR (new.in_last_attempt <> ((new.attempts >= new.max_attempts) AND (new.locked_at IS NOT NULL))))) EXECUTE FUNCTION app_jobs.tg_set_exhausted();
CREATE TRIGGER _100_set_expiry_of_replaced_job BEFORE UPDATE OF task_identifier ON app_jobs.jobs FOR EACH ROW WHEN (((old.expires_at IS NOT NULL) OR (COALESCE(current_setting('jobfn.expires_at'::text, true), ''::text) <> ''::text))) EXECUTE FUNCTION app_jobs.tg_set_expiry();
CREATE TRIGGER _500_unlock_all_queues AFTER TRUNCATE ON app_jobs.jobs FOR EACH STATEMENT EXECUTE FUNCTION app_jobs.tg_unlock_queue();
CREATE TRIGGER _500_unlock_queue_of_deleted_job AFTER DELETE ON app_jobs.jobs FOR EACH ROW WHEN (((old.queue_name IS NOT NULL) AND (old.locked_at IS NOT NULL))) EXECUTE FUNCTION app_jobs.tg_unlock_queue();
CREATE TRIGGER _500_unlock_queue_of_unlocked_job AFTER UPDATE OF locked_at, queue_name ON app_jobs.jobs FOR EACH ROW WHEN (((old.queue_name IS NOT NULL) AND (old.locked_at IS NOT NULL) AND ((new.locked_at IS NULL) OR (new.queue_name IS DISTINCT FROM old.queue_name)))) EXECUTE FUNCTION app_jobs.tg_unlock_queue();
CREATE TRIGGER _510_end_all_limited_jobs AFTER TRUNCATE ON app_jobs.jobs FOR EACH STATEMENT EXECUTE FUNCTION app_jobs.tg_end_all_limited_jobs();
CREATE TRIGGER _510_end_deleted_limited_job AFTER DELETE ON app_jobs.jobs FOR EACH ROW WHEN (old.is_limited) EXECUTE FUNCTION app_jobs.tg_end_limited_job();
CREATE TRIGGER _510_end_limited_job AFTER UPDATE OF locked_at, run_at, attempts ON app_jobs.jobs FOR EACH ROW WHEN ((old.is_limited AND
        CASE
            WHEN (old.locked_at IS NOT NULL) THEN (new.locked_at IS NULL)
            ELSE ((old.run_at = 'infinity'::timestamp with time zone) AND ((new.run_at <> 'infinity'::timestamp with time zone) OR new.exhausted))
        END)) EXECUTE FUNCTION app_jobs.tg_end_limited_job();
CREATE TRIGGER _600_record_lost_run AFTER UPDATE OF locked_by ON app_jobs.jobs FOR EACH ROW WHEN (((old.locked_at IS NOT NULL) AND (new.locked_at IS NOT NULL) AND (new.attempts > old.attempts))) EXECUTE FUNCTION app_jobs.tg_record_lost_run();
CREATE TRIGGER _700_end_awaited_job AFTER DELETE ON app_jobs.jobs FOR EACH ROW WHEN (old.is_awaited) EXECUTE FUNCTION app_jobs.tg_end_awaited_job();
CREATE TRIGGER _700_end_durable_job AFTER DELETE ON app_jobs.jobs FOR EACH ROW WHEN (old.has_steps) EXECUTE FUNCTION app_jobs.tg_end_durable_job();
CREATE TRIGGER _700_fail_awaited_job AFTER UPDATE OF last_error ON app_jobs.jobs FOR EACH ROW WHEN ((new.is_awaited AND new.exhausted AND (new.locked_at IS NULL))) EXECUTE FUNCTION app_jobs.tg_end_awaited_job();
CREATE TRIGGER _700_replace_dependent AFTER UPDATE OF task_identifier ON app_jobs.jobs FOR EACH ROW WHEN ((old.parked_attempt = 0)) EXECUTE FUNCTION app_jobs.tg_replace_dependent();
CREATE TRIGGER _710_wake_parked_jobs AFTER DELETE OR UPDATE OF last_error ON app_jobs.jobs FOR EACH STATEMENT EXECUTE FUNCTION app_jobs.tg_wake_parked_jobs();
CREATE TRIGGER _800_hold_inserted_jobs AFTER INSERT ON app_jobs.jobs REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION app_jobs.tg_hold_inserted_jobs();
CREATE TRIGGER _800_store_completed_job AFTER DELETE ON app_jobs.jobs FOR EACH ROW WHEN ((old.locked_at IS NOT NULL)) EXECUTE FUNCTION app_jobs.tg_store_completed_job();
CREATE TRIGGER _900_notify_worker AFTER INSERT ON app_jobs.jobs FOR EACH STATEMENT EXECUTE FUNCTION app_jobs.tg_notify('jobs:insert');
CREATE TRIGGER _900_record_limit AFTER INSERT OR DELETE OR UPDATE ON app_jobs.limits FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_record_setting();
CREATE TRIGGER _900_record_pause AFTER INSERT OR UPDATE ON app_jobs.pauses FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_record_setting();
CREATE TRIGGER _900_record_resume AFTER DELETE ON app_jobs.pauses FOR EACH ROW WHEN (((old.until IS NULL) OR (old.until > now()))) EXECUTE FUNCTION app_jobs.tg_record_setting();
CREATE TRIGGER _100_reset_due_at BEFORE UPDATE OF schedule_info ON app_jobs.scheduled_jobs FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_reset_due_at();
CREATE TRIGGER _900_notify_scheduler AFTER INSERT OR DELETE OR UPDATE OF schedule_info, task_identifier ON app_jobs.scheduled_jobs FOR EACH STATEMENT EXECUTE FUNCTION app_jobs.tg_notify('scheduled_jobs:insert');
CREATE TRIGGER _910_record_changed_schedule AFTER UPDATE OF schedule_info, task_identifier, payload, key, queue_name, max_attempts, priority, database_id, paused_at, paused_until, pause_reason ON app_jobs.scheduled_jobs FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_record_schedule();
CREATE TRIGGER _910_record_schedule AFTER INSERT OR DELETE ON app_jobs.scheduled_jobs FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_record_schedule();
CREATE TRIGGER _500_replace_has_task_settings AFTER INSERT OR DELETE OR TRUNCATE ON app_jobs.task_settings FOR EACH STATEMENT EXECUTE FUNCTION app_jobs.tg_replace_has_task_settings();
CREATE TRIGGER _900_record_removed_task AFTER DELETE ON app_jobs.task_settings FOR EACH ROW WHEN (((old.declared_in IS NOT NULL) OR (COALESCE(old.override_queue_name, (old.override_priority)::text, (old.override_max_attempts)::text) IS NOT NULL))) EXECUTE FUNCTION app_jobs.tg_record_setting();
CREATE TRIGGER _900_record_task AFTER INSERT OR UPDATE ON app_jobs.task_settings FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_record_setting();
CREATE TRIGGER _900_record_tenant_weight AFTER INSERT OR DELETE OR UPDATE ON app_jobs.tenant_weights FOR EACH ROW EXECUTE FUNCTION app_jobs.tg_record_setting();

comment on column app_jobs.cancelled_runs.ends_at is 'When the attempt''s lease ends: nothing is kept for longer.';
comment on column app_jobs.held_jobs.run_at is 'When the job was due. The row of the job has infinity.';
comment on column app_jobs.job_dependencies.error is 'Why the dependent fails.';
comment on column app_jobs.job_dependencies.ignores_failure is 'Whether the dependent also runs if this dependency does not complete.';
comment on column app_jobs.job_dependencies.run_at is 'The time before which the dependent must not run.';
comment on column app_jobs.job_steps."position" is 'The order in which the steps of a job were recorded, from 1.';
comment on column app_jobs.job_steps.attempt is 'The attempt that recorded it.';
comment on column app_jobs.job_steps.child_id is 'Of a call: the child job.';
comment on column app_jobs.job_steps.event is 'Of a wait: the name of the signal.';
comment on column app_jobs.job_steps.wait_group is 'The position of the first step of a group. A parked job wakes when no step of a group is waiting.';
comment on column app_jobs.job_steps.wake_at is 'Of a sleep: its end. Of a wait: its deadline, if any.';
comment on column app_jobs.jobs.accepted_attempt is 'The attempt that a function accepted and reports on later; null: none.';
comment on column app_jobs.jobs.ended_as is 'Of an exhausted job: cancelled or expired. Null: it has permanently failed.';
comment on column app_jobs.jobs.entity_type is 'What entity_id identifies, for example org or team.';
comment on column app_jobs.jobs.expires_at is 'The job is not started after this time.';
comment on column app_jobs.jobs.has_steps is 'Whether job_steps or job_signals has rows of this job.';
comment on column app_jobs.jobs.is_awaited is 'Whether other jobs wait for the end of this one.';
comment on column app_jobs.jobs.is_limited is 'Whether the job may have a slot, or be held. Null: it has and is not.';
comment on column app_jobs.jobs.organization_id is 'The organization that entity_id belongs to, if any.';
comment on column app_jobs.jobs.parked_attempt is 'The attempt that parked the job. It is parked while this is the number of its attempts and it is not locked.';
comment on column app_jobs.jobs.payload_bytes is 'Size of the payload, if it is larger than 16 KiB. Null: claims do not count it.';
comment on column app_jobs.jobs.snoozes is 'The number of attempts that do not count: those that ended in a snooze, a park, or the stop of the worker. Each is included in attempts and in max_attempts, so that no two deliveries have the same number.';
comment on column app_jobs.jobs.snoozing_since is 'The time of the first snooze. -infinity: another job has taken the key, so this one does not run again.';
comment on column app_jobs.jobs.traceparent is 'The trace that the job belongs to, from the setting jobfn.traceparent of the enqueuing transaction.';
comment on column app_jobs.limit_keys.paused_until is 'Until when no job of the key starts, after a Retry-After.';
comment on column app_jobs.limit_keys.wake_at is 'When held jobs of the key may be released.';
comment on column app_jobs.limit_slots.job_id is 'The job; of a cancelled one, minus the id in cancelled_runs.';
comment on column app_jobs.limit_starts.ends_at is 'The end of the part of the window in which they started: at or after the start, so that a rate is never exceeded.';
comment on column app_jobs.limit_sweeps.limit_name is 'With key: where the last sweep ended.';
comment on column app_jobs.limit_sweeps.starts_due_at is 'When old starts are deleted again.';
comment on column app_jobs.limits.concurrency is 'Maximum number of running jobs.';
comment on column app_jobs.limits.pauses_on_retry_later is 'Whether a RetryLater of one job, or a response with Retry-After, pauses the jobs of its key in all workers.';
comment on column app_jobs.limits.per is 'The part of the job whose values are limited separately: tenant, queue, key, task or payload.<field>. Null: one limit for all.';
comment on column app_jobs.limits.rate_count is 'Maximum number of starts in any window of rate_interval.';
comment on column app_jobs.limits.set_by is 'Whether an operator or code has set the limit. Code does not change an operator''s.';
comment on column app_jobs.pauses.kind is 'task, queue, tenant or everything.';
comment on column app_jobs.pauses.name is 'The task identifier, the queue, or the tenant''s database_id; empty for everything.';
comment on column app_jobs.pauses.until is 'When the pause ends by itself; null: when it is resumed.';
comment on column app_jobs.scheduled_jobs.due_at is 'The next due time. Null: a scheduler has yet to compute it. Infinity: there is no next one.';
comment on column app_jobs.scheduled_jobs.last_error is 'Why the rule is invalid, or why the last job could not be enqueued.';
comment on column app_jobs.scheduled_jobs.last_skipped is 'The latest due time for which no job was enqueued.';
comment on column app_jobs.scheduled_jobs.paused_at is 'Since when the schedule makes no jobs; null: it is not paused.';
comment on column app_jobs.scheduled_jobs.paused_until is 'When the pause ends by itself; null: when the schedule is resumed.';
comment on column app_jobs.scheduled_jobs.skipped is 'The number of due times for which no job was enqueued.';
comment on column app_jobs.task_settings.declared_in is 'Where the code declares the task. Null: no code that was synced does.';
comment on column app_jobs.unique_jobs.job_id is 'Null only inside the transaction that adds the job.';
comment on column app_jobs.unique_jobs.key is 'A hash of the task, the tenant and the compared fields.';
comment on column app_jobs.unique_jobs.prune_at is 'When prune_unique_jobs looks at the row.';
comment on column app_jobs.workers.max_in_flight_bytes is 'JOBS_MAX_IN_FLIGHT_BYTES; null: unknown.';
comment on column app_jobs.workers.queues is 'The queues that it claims from, '''' for the jobs without one; null: all.';
comment on column app_jobs.workers.tasks is 'The tasks that it claims; null: all, or an older version that does not tell.';
comment on function app_jobs.add_batch(text,json[],text,json,text[],text[],timestamp with time zone[],integer,integer,boolean) is 'Enqueue a job for each payload, and a job that runs when all of them have ended: with ignore_failures, also if some did not complete.';
comment on function app_jobs.add_debounced_job(text,text,timestamp with time zone,interval,json,text,integer,integer,uuid,uuid,text) is 'Enqueue a job with a key, or replace the waiting job with this key, which runs at most max_delay after it was first added.';
comment on function app_jobs.add_job(text,json,text,text,timestamp with time zone,integer,integer,uuid,uuid,text) is 'Enqueue a job. Tenant and actor are read from jwt.claims.database_id and jwt.claims.user_id.';
comment on function app_jobs.add_job(text,text,text,text,timestamp with time zone,integer,integer) is 'add_job called with untyped literals.';
comment on function app_jobs.add_job(uuid,text,json,text,text,timestamp with time zone,integer,integer) is 'The older form of add_job, with the tenant as an argument.';
comment on function app_jobs.add_job_after(text,bigint[],json,text,text,timestamp with time zone,integer,integer,uuid,uuid,text,boolean) is 'Enqueue a job that waits until other jobs have ended. It fails permanently if one of them does not complete, unless ignore_failures is set. A job that is gone counts as completed.';
comment on function app_jobs.add_jobs(text,json[],text[],text[],timestamp with time zone[],integer,integer,uuid) is 'Enqueue many jobs of one task, as calls of add_job would. Returns their ids in the order of the payloads.';
comment on function app_jobs.add_scheduled_job(text,json,json,text,text,integer,integer,uuid) is 'Schedule a job by schedule_info: {"rule", "start", "end", "tz"}, or parts such as {"hour": 9, "minute": 0}.';
comment on function app_jobs.add_scheduled_job(text,text,json,text,text,integer,integer) is 'Schedule a job by a cron rule of five fields, or six with seconds first.';
comment on function app_jobs.add_scheduled_job(uuid,text,json,json,text,text,integer,integer) is 'The older form of add_scheduled_job, with the tenant as an argument.';
comment on function app_jobs.add_unique_job(text,json,interval,text,text[],text,text,text,timestamp with time zone,integer,integer,uuid,uuid,text,bigint[],boolean) is 'Enqueue a job unless one with the same task, tenant and compared fields exists: added within unique_for, not started, or not done. Returns the id of the new or of the existing job.';
comment on function app_jobs.add_unique_jobs(text,json[],interval,text,text[],text,text[],text[],timestamp with time zone[],integer,integer) is 'Enqueue a job for each payload, as add_unique_job does. Returns one row for each, in their order.';
comment on function app_jobs.advance_schedule(bigint,boolean,boolean,timestamp with time zone,timestamp with time zone,bigint,timestamp with time zone,text) is 'For schedulers: enqueue the job of a schedule if it is due, and store the next due time. Returns the outcome and the tenant.';
comment on function app_jobs.audit_text(text,integer) is 'The start of a text, without characters that steer a terminal or reverse text. Null for an empty one.';
comment on function app_jobs.call_depth(bigint) is 'The number of jobs above this one that wait for it.';
comment on function app_jobs.callback_secret() is 'The secret that signs callback URLs. Only for workers and callback servers.';
comment on function app_jobs.cancel_jobs(bigint[],text,boolean) is 'End waiting jobs as cancelled, with a reason. With include_running also running ones: their workers lose the locks, are notified (jobs:cancel) and stop the handlers, and late reports change nothing.';
comment on function app_jobs.cancel_jobs_unrecorded(bigint[],text,boolean) is 'As cancel_jobs, without an entry in the audit list, for other functions.';
comment on function app_jobs.cancelled_jobs(bigint[],integer[]) is 'Those of the jobs that were cancelled while they ran in these attempts.';
comment on function app_jobs.changed_columns(jsonb,jsonb,text[]) is 'The columns that differ between two rows, each with the value before and after.';
comment on function app_jobs.check_job(text,text,text,integer) is 'Raise an error if a job may not have one of these values. Null passes.';
comment on function app_jobs.check_payload_size(text,integer) is 'Raise an error if a payload is too large.';
comment on function app_jobs.check_unique(interval,text,text[],text) is 'Raise an error if the options of a unique job are not valid.';
comment on function app_jobs.claim_entries_read() is 'How many entries this session has read from the indexes of claims; 0 if track_counts is off. Part of claim_jobs.';
comment on function app_jobs.claim_jobs(text,text[],interval,integer,interval,text[],bigint,text[]) is 'Lock up to max_jobs ready jobs for a worker, most urgent first, at most one of each queue. A lease limits the lock, and renew_leases extends it. Without a lease, the lock expires after the job_expiry of a later claim. Jobs with payloads over 16 KiB come last, up to max_payload_bytes together, but at least one job unless it is 0.';
comment on function app_jobs.claim_jobs_of_queues(text,text[],text[],interval,integer,interval,text[],bigint) is 'As claim_jobs with queue_names. Older workers call it.';
comment on function app_jobs.complete_job(text,bigint) is 'Delete a job and unlock its queue, if this worker has locked it; else change nothing and return all null.';
comment on function app_jobs.complete_jobs(bigint[]) is 'Delete jobs that no worker runs, as if they had completed.';
comment on function app_jobs.complete_jobs_unrecorded(bigint[]) is 'As complete_jobs, without an entry in the audit list, for other functions.';
comment on function app_jobs.create_job_runs_partitions(integer) is 'Make the partitions of the history for today and the next days: of one day each, or of more with a retention of more than 60 days. Returns the number of partitions made.';
comment on function app_jobs.deregister_worker(text,text,integer) is 'Delete the row of a process that stops.';
comment on function app_jobs.divide_by_weight(integer,integer[],boolean[],integer[]) is 'Add jobs to what each tenant has been given, by weight, where it is open. Part of claim_jobs.';
comment on function app_jobs.end_calls() is 'End the steps that wait for the jobs that have ended in this transaction, and wake their jobs.';
comment on function app_jobs.end_cancelled_run(text,bigint,integer) is 'Free what the handler of a cancelled job kept, because it has ended: its slots of limits, and its named queue. Returns whether it kept something.';
comment on function app_jobs.end_schedule_pauses(timestamp with time zone) is 'For schedulers: end the pauses of schedules whose time is up. Due times since then make jobs.';
comment on function app_jobs.enqueue_schedule(bigint,interval,boolean,timestamp with time zone) is 'Enqueue the job of a schedule for a due time, null for now; one that is paused, by hand only. Part of run_scheduled_job and run_schedule.';
comment on function app_jobs.expire_jobs(integer) is 'End up to max_jobs jobs that wait past their expires_at as expired, and return their ids.';
comment on function app_jobs.explain_end(app_jobs.jobs) is 'Why a job has ended. Part of explain_wait.';
comment on function app_jobs.explain_limits(app_jobs.jobs) is 'The limits that hold a job, or would hold it at the next claim. Part of explain_wait.';
comment on function app_jobs.explain_turn(app_jobs.jobs) is 'Which jobs come before a ready one. Part of explain_wait.';
comment on function app_jobs.explain_wait(bigint,interval) is 'Why a job does not run: each reason with a code and a line of text, those that block first. One row with the code ready if there is none, and no row if the job has ended.';
comment on function app_jobs.fail_job(text,bigint,text) is 'Record an error, unlock job and queue, and retry after exp(least(attempts, 10)) seconds, if this worker has locked the job.';
comment on function app_jobs.fair_choice(tid[],integer) is 'Those of some jobs whose turn it is: the most urgent priority first, and in one priority the tenants in turns by weight. Part of claim_jobs.';
comment on function app_jobs.fair_jobs_at_priority(text,text[],integer,timestamp with time zone,bigint,timestamp with time zone,integer,uuid[]) is 'Lock ready jobs of one priority, of several tenants by weight. Part of claim_jobs.';
comment on function app_jobs.find_schedule(text) is 'The id of the schedule with this id or key, or of this task if the task has only one.';
comment on function app_jobs.force_unlock_workers(text[]) is 'Unlock the jobs and queues of workers that have died. The attempts count. Late reports change nothing.';
comment on function app_jobs.format_job_ids(bigint[]) is 'Jobs for a message. Part of explain_wait.';
comment on function app_jobs.format_utc(timestamp with time zone) is 'A time for a message. Part of explain_wait.';
comment on function app_jobs.get_job(text,text[],interval) is 'Lock the next ready job for a worker; all null if there is none.';
comment on function app_jobs.get_scheduled_job(text,text[]) is 'Lock the next unlocked schedule for a scheduler; all null if there is none.';
comment on function app_jobs.has_lease(text,bigint,integer) is 'Whether a worker has locked a job in an attempt, with a lease that has not ended.';
comment on function app_jobs.has_task_settings() is 'Whether task_settings has rows. tg_replace_has_task_settings redefines it.';
comment on function app_jobs.heartbeat_job(text,bigint,integer,interval,real,text) is 'Extend the lease of a running job and store its progress; null leaves a value as it is. False if this worker has not locked the job in this attempt.';
comment on function app_jobs.heartbeat_worker(text,text,integer,text,text[],integer,integer,interval) is 'Record a heartbeat of a process, and delete processes without one for a day.';
comment on function app_jobs.heartbeat_worker(text,text,integer,text,text[],integer,integer,interval,text[],text[],bigint) is 'As heartbeat_worker, with what the process claims.';
comment on function app_jobs.history_enabled() is 'Whether attempts are recorded.';
comment on function app_jobs.holds_unique_key(app_jobs.unique_jobs) is 'Whether a job still holds its unique key. Locks a waiting job until the transaction ends.';
comment on function app_jobs.insert_child(app_jobs.jobs,json,integer) is 'Add a job for the same tenant, actor and entity, in the same trace. With the position of a call, the job is awaited: its key tells workers so.';
comment on function app_jobs.insert_job(uuid,uuid,uuid,text,json,text,text,timestamp with time zone,integer,integer,uuid,text,boolean) is 'Insert one job, or replace the unlocked job with the same key. All forms of add_job call it. apply_unique: a job is unique if its task is unique by its settings.';
comment on function app_jobs.insert_scheduled_job(uuid,text,json,json,text,text,integer,integer) is 'Insert a schedule, or replace the one with the same key. All forms of add_scheduled_job call it.';
comment on function app_jobs.insert_scheduled_job(uuid,text,json,json,text,text,integer,integer,uuid) is 'As insert_scheduled_job, with the entity of the jobs.';
comment on function app_jobs.insert_unique_by_settings(app_jobs.task_settings,app_jobs.job_row) is 'Insert a job of a task whose jobs are unique, or return the existing one. Part of insert_job.';
comment on function app_jobs.insert_unique_job(bytea,interval,text,text,text,json,text,text,timestamp with time zone,integer,integer,uuid,uuid,text,bigint[],boolean,text[]) is 'Insert a job unless another one holds its unique key. Part of add_unique_job and add_unique_jobs.';
comment on function app_jobs.installation_id() is 'The random id of this schema. A part of idempotency keys.';
comment on function app_jobs.is_locked_without_lease(text,bigint) is 'Whether the worker has locked the job without a lease; null if it has not locked it.';
comment on function app_jobs.is_queue_locked(text,timestamp with time zone) is 'Whether a queue has a lock that has not expired, or is paused. Part of claim_jobs.';
comment on function app_jobs.is_queue_paused(text,text[],text[]) is 'Whether a queue, or the first of its ready jobs of these tasks, is paused. Part of claim_jobs.';
comment on function app_jobs.is_uuid(text) is 'Whether a text is a uuid. Tells the older call forms with a tenant from those with a task identifier.';
comment on function app_jobs.job_pauses(bigint) is 'The pauses that keep a job from being claimed now.';
comment on function app_jobs.job_result(bigint) is 'The state of a job as JSON text, with its return value if that is stored.';
comment on function app_jobs.job_runs_partitions() is 'The partitions of the history and their bounds.';
comment on function app_jobs.jobs_ahead(bigint,integer) is 'Up to max_count ready jobs without a queue that are more urgent or older than a job: all, those of a more urgent priority or of the same tenant, and the number of other tenants. Part of explain_turn.';
comment on function app_jobs.jwt_claim(text) is 'A session setting such as jwt.claims.database_id as a uuid; null if it is unset or not a uuid.';
comment on function app_jobs.large_jobs_within(tid[],bigint,boolean) is 'The most urgent of some jobs with large payloads, up to a total size. Part of claim_jobs.';
comment on function app_jobs.limit_usage() is 'The limits by name: their slots (of each key; null: any number), running and held jobs, and paused keys.';
comment on function app_jobs.load_steps(text[],bigint[],integer[],integer[],integer) is 'Return what has been recorded of jobs that their workers hold, in order, from a position on, and after about max_bytes no more. The last row of each job has no position, and whether there are more. Nothing of jobs that are not held.';
comment on function app_jobs.lock_held_jobs(text[],bigint[],integer[]) is 'Lock the rows of the jobs that these workers have claimed in these attempts, in the order of ids.';
comment on function app_jobs.lock_idle_jobs(bigint[]) is 'Those of the jobs that no worker runs, with their rows locked until the transaction ends.';
comment on function app_jobs.lock_jobs_at_priority(text,integer,timestamp with time zone,bigint,timestamp with time zone,integer,uuid[],boolean) is 'Lock the first ready jobs of a priority, or also of later ones, whichever tenants they belong to; of a task, only those with a tenant. Part of claim_jobs.';
comment on function app_jobs.lock_jobs_of_tenants(text,integer,timestamp with time zone,bigint,timestamp with time zone,uuid[],integer[]) is 'Lock the first ready jobs of each of these tenants, up to its share. Part of claim_jobs.';
comment on function app_jobs.lock_jobs_without_tenant(text[],integer,timestamp with time zone,bigint,timestamp with time zone,integer) is 'Lock the first ready jobs of each of these tasks that have no tenant. Part of claim_jobs.';
comment on function app_jobs.mark_accepted(text,bigint,integer) is 'Record that a function accepted this attempt (202) and reports later. reclaim_jobs leaves it alone while the function''s heartbeats keep the lease.';
comment on function app_jobs.next_run_at(interval) is 'The earliest run_at of an unlocked job that is later than now() - lookback, or the time when a claim starts at the beginning if that is earlier; null if there is none. With 32 priorities or more, at most now() + 1 second.';
comment on function app_jobs.park_jobs(text[],bigint[],integer[],json[]) is 'Unlock jobs until one of the groups of steps that each waits for has ended. The attempt does not count. Returns the jobs that were locked so.';
comment on function app_jobs.pause(text,text,uuid,boolean,timestamp with time zone,text,text) is 'Pause a task, a queue, a tenant or everything, until a time or until it is resumed. Pausing again changes the time and the reason. Workers release jobs that they have not started; running jobs go on.';
comment on function app_jobs.pause_limit_key(text,text,timestamp with time zone) is 'Start no job of one key of a limit until a time, in any worker. Null: start them again.';
comment on function app_jobs.pause_limits_of_job(text,bigint,integer,interval) is 'Pause the keys of a running job whose function has responded with Retry-After, of limits that pause for it. Returns whether there is one.';
comment on function app_jobs.pause_schedule(bigint,text) is 'Make no jobs of a schedule until resume_schedule. Returns false if there is no such schedule.';
comment on function app_jobs.pause_schedule(bigint,text,timestamp with time zone) is 'Make no jobs of a schedule until a time, or until resume_schedule if it is null. Pausing again changes the time. Returns false if there is no such schedule.';
comment on function app_jobs.pause_schedule(text,text) is 'As pause_schedule, with the id, the key or the task of the schedule.';
comment on function app_jobs.pause_schedule(text,text,timestamp with time zone) is 'As pause_schedule, with the id, the key or the task of the schedule.';
comment on function app_jobs.pause_target(text,text,uuid,boolean) is 'The key of a pause. Part of pause and resume.';
comment on function app_jobs.paused_jobs(bigint[]) is 'Those of the jobs that are paused. Workers ask about jobs that they have claimed and not started.';
comment on function app_jobs.paused_now() is 'What is paused now. Part of claim_jobs.';
comment on function app_jobs.permanently_fail_jobs(bigint[],text) is 'Permanently fail jobs that no worker runs, with an error message.';
comment on function app_jobs.permanently_fail_jobs_unrecorded(bigint[],text) is 'As permanently_fail_jobs, without an entry in the audit list.';
comment on function app_jobs.prune_audit_log(integer) is 'Delete up to max_rows of the oldest entries past the retention. Returns the number of deleted entries.';
comment on function app_jobs.prune_completed_jobs(integer) is 'Delete up to max_rows of the oldest completed jobs past the retention. Returns the number of deleted rows.';
comment on function app_jobs.prune_failed_jobs(interval,bigint,integer) is 'Remove the jobs that failed permanently longer ago than the retention, among max_rows with an id above after_id. Returns their number, and the id to go on from; null: there are no more.';
comment on function app_jobs.prune_job_runs(integer) is 'Drop the partitions of the history past the retention, and delete up to max_rows of the oldest attempts past the retention that have no partition of one day. Returns the number of deleted rows.';
comment on function app_jobs.prune_job_tracebacks(integer) is 'Delete up to max_rows of the oldest tracebacks past the retention of the history. Returns the number of deleted rows.';
comment on function app_jobs.prune_unique_jobs(integer) is 'Look at up to max_rows unique keys, and delete those that no job holds. Returns how many it has looked at.';
comment on function app_jobs.ready_jobs(text[],text[],timestamp with time zone,integer,app_jobs.claim_positions) is 'The most urgent ready jobs without a queue, rows locked until the transaction ends. Part of claim_jobs.';
comment on function app_jobs.ready_jobs_of_any_task(text[],text[],timestamp with time zone,integer,app_jobs.claim_positions,uuid[]) is 'The most urgent ready jobs without a queue, read in the order of all tasks. Part of ready_jobs.';
comment on function app_jobs.ready_jobs_of_task(text,timestamp with time zone,integer,app_jobs.claim_positions) is 'The most urgent ready jobs of one task without a queue, where no job has a tenant. Part of ready_jobs.';
comment on function app_jobs.ready_jobs_of_tenants(text,timestamp with time zone,integer,app_jobs.claim_positions,uuid[]) is 'The ready jobs without a queue, of a task or (null) any, where tenants take turns. Part of ready_jobs.';
comment on function app_jobs.ready_queue_heads(text[],text[],text[],timestamp with time zone,app_jobs.claim_positions) is 'The first ready job of each queue, with its row locked until the transaction ends. Part of claim_jobs.';
comment on function app_jobs.ready_queues(text[],text[],timestamp with time zone,integer,app_jobs.claim_positions) is 'The unlocked queues with the most urgent ready jobs, locked until the transaction ends. Part of claim_jobs.';
comment on function app_jobs.ready_queues_among(text[],text[],text[],timestamp with time zone,integer) is 'As ready_queues, of some queues only. Part of claim_jobs.';
comment on function app_jobs.ready_task_identifiers(integer,app_jobs.claim_positions) is 'Up to max_tasks tasks that have jobs without a queue and with attempts left. Part of ready_jobs.';
comment on function app_jobs.ready_tenant_task_identifiers(integer,app_jobs.claim_positions) is 'Up to max_tasks tasks that have jobs with a tenant, without a queue and with attempts left. Part of ready_jobs.';
comment on function app_jobs.ready_tenants(text,integer,timestamp with time zone,bigint,timestamp with time zone,uuid[],uuid,uuid,integer) is 'The first tenants from one id to another that have jobs of a priority, of a task or (null) any, and whether some of these are ready. Part of claim_jobs.';
comment on function app_jobs.reap_expired_jobs(interval) is 'Permanently fail jobs whose lock expired in the last attempt: no claim takes them over. Returns them as they were locked.';
comment on function app_jobs.reclaim_jobs(text) is 'Unlock the jobs that a worker had locked when it died, as if their leases had ended. Returns them as they were locked.';
comment on function app_jobs.record_action(text,text,integer,jsonb) is 'Write an entry of the audit list. The settings jobfn.actor, jobfn.source and jobfn.operation say who acts, through what, and which entries are parts of one bulk action.';
comment on function app_jobs.record_action_on_jobs(text,bigint[],jsonb) is 'Write one entry about an action on jobs, with their number and the 20 lowest ids; none for no jobs. The setting jobfn.filter says how they were selected.';
comment on function app_jobs.record_claim_position(app_jobs.claim_positions,app_jobs.claim_positions,tid[],boolean,bigint) is 'Record where the next claims start, if this one has read many entries that led to no job. Part of claim_jobs.';
comment on function app_jobs.record_learned_attempts(text[],integer[]) is 'For workers: record max_attempts of tasks, or null for tasks without. The table has at most 10,000 rows.';
comment on function app_jobs.record_steps(text[],bigint[],integer[],interval,integer[],text[],text[],text[],integer[],json[],text[],double precision[],json[]) is 'Record steps of jobs that their workers hold, and renew the leases. Returns each step as it is recorded; nothing of jobs that are not held. The result is that of a wait, for which a signal has come before, and that of a step that was recorded before.';
comment on function app_jobs.record_transaction_step(text,bigint,integer,integer,text,json,double precision) is 'Record a step in the transaction of its effect. Fails with JF409 if the worker does not hold the job.';
comment on function app_jobs.release_dependents(bigint[]) is 'Make those jobs due whose dependencies have all ended, and fail those with a dependency that did not complete. Jobs that another add_job with their key has replaced, or that run already, do not change.';
comment on function app_jobs.release_jobs(text) is 'Unlock all jobs and queues of a worker. The attempts do not count.';
comment on function app_jobs.release_scheduled_jobs(text,bigint[]) is 'Unlock all schedules of a scheduler, or those with these ids.';
comment on function app_jobs.remove_job(text) is 'Delete the job with a key. If a worker runs it, it loses the key and is not retried. All null if there is none.';
comment on function app_jobs.remove_limit(text) is 'Remove a limit, and release the jobs that it holds.';
comment on function app_jobs.renew_leases(text,bigint[],integer[],interval) is 'Extend the leases of jobs that this worker has locked in these attempts. Returns the ids of those jobs.';
comment on function app_jobs.replace_unique_job(bigint,json,text,timestamp with time zone,integer,integer,uuid,uuid,text) is 'Replace the contents of a waiting job. A running or ended one stays as it is.';
comment on function app_jobs.reschedule_jobs(bigint[],timestamp with time zone,integer,integer,integer) is 'Change when and how often jobs run that no worker runs now; null leaves a value as it is.';
comment on function app_jobs.reschedule_jobs_unrecorded(bigint[],timestamp with time zone,integer,integer,integer) is 'As reschedule_jobs, without an entry in the audit list, for other functions.';
comment on function app_jobs.resume(text,text,uuid,boolean) is 'End a pause. False if there is none.';
comment on function app_jobs.resume_schedule(bigint) is 'End the pause of a schedule. Due times in the pause make no job. Returns false if there is no such schedule.';
comment on function app_jobs.resume_schedule(text) is 'As resume_schedule, with the id, the key or the task of the schedule.';
comment on function app_jobs.retry_job_from_step(bigint,integer) is 'Forget the steps of a job from a position on, cancel its waiting children among them, and run it now. False if the job is running or has ended.';
comment on function app_jobs.retry_jobs(bigint[]) is 'Run permanently failed jobs again from now, with all their attempts.';
comment on function app_jobs.retry_jobs_unrecorded(bigint[]) is 'As retry_jobs, without an entry in the audit list, for other functions.';
comment on function app_jobs.run_jobs_again(bigint[]) is 'Add a new job, due now and without a job key, for each of these completed jobs whose payload is stored.';
comment on function app_jobs.run_jobs_now(bigint[]) is 'Make delayed jobs due now, with the attempts that are left.';
comment on function app_jobs.run_schedule(bigint) is 'For people: enqueue the job of a schedule now, also of a paused one. Raises ALREADY_SCHEDULED while its last job is waiting or running. All null if there is no such schedule.';
comment on function app_jobs.run_schedule(text) is 'As run_schedule, with the id, the key or the task of the schedule.';
comment on function app_jobs.run_scheduled_job(bigint,interval) is 'For schedulers: enqueue the job of a schedule now; raises ALREADY_SCHEDULED while its last job is waiting or running, and SCHEDULE_PAUSED while the schedule is paused.';
comment on function app_jobs.same_jobs(bigint[],bigint[]) is 'Return the ids, negative where the job of that id was not added at the time that the tag names; null: at any time.';
comment on function app_jobs.set_audit_retention(double precision) is 'Set for how long the audit list keeps its entries. Only for the owner.';
comment on function app_jobs.set_completed_payload_retention(double precision) is 'Set for how many days completed jobs are stored with their payloads; 0 stores none, and lets prune_completed_jobs delete those that exist. Fails after 0.2 s if a transaction holds the table of jobs.';
comment on function app_jobs.set_default_expiry(timestamp with time zone) is 'Jobs that this transaction adds from now on are not started after this time; null: at any time.';
comment on function app_jobs.set_expiry(bigint[],timestamp with time zone) is 'Do not start these jobs after this time; null: at any time. Returns those that have not ended.';
comment on function app_jobs.set_history_retention(double precision) is 'Set for how many days attempts are kept; 0 records none, and lets prune_job_runs delete those that exist. A whole day is dropped at a time, except with a retention of less than a day.';
comment on function app_jobs.set_limit(text,text,text,text,integer,integer,interval,text,boolean) is 'Set a limit of running jobs or of starts, for all workers. Jobs that run already count.';
comment on function app_jobs.set_max_payload_bytes(integer) is 'Set the maximum size of a payload, for new jobs. For the owner of the schema.';
comment on function app_jobs.set_tenant_weight(uuid,integer) is 'Let a tenant start this many jobs for each one of another tenant, while both have ready jobs. 1 is the default.';
comment on function app_jobs.settle_jobs(text[],bigint[],integer[],text[],text[],interval[]) is 'Settle jobs that these workers have locked, each in the given attempt (null: in any). Returns the jobs that were locked so; others stay as they are.';
comment on function app_jobs.settle_jobs_with_results(text[],bigint[],integer[],text[],text[],interval[],json[],text[],double precision[]) is 'As settle_jobs, and store the return values of completed jobs. Notifies jobs:result with each id.';
comment on function app_jobs.settle_jobs_with_tracebacks(text[],bigint[],integer[],text[],text[],interval[],json[],text[],double precision[],text[]) is 'As settle_jobs_with_results, and store the tracebacks of failed attempts. Null for the results: as settle_jobs.';
comment on function app_jobs.settle_mixed_jobs(text[],bigint[],integer[],text[],text[],interval[]) is 'Settle jobs with different outcomes, one after the other. Part of settle_jobs.';
comment on function app_jobs.signal(bigint,text,json) is 'Send a signal to a job: to the first of its waits for this event, or, if there is none, to the next one. Returns false if the job has ended.';
comment on function app_jobs.signal(text,text,json) is 'Send a signal to the job with this key or, else, this id.';
comment on function app_jobs.signal_by_operator(bigint,text,json) is 'As signal, with an entry in the audit list.';
comment on function app_jobs.signal_by_operator(text,text,json) is 'As signal, with an entry in the audit list.';
comment on function app_jobs.signal_jobs(text[],text,json[]) is 'Send a signal to the jobs with these keys, each with its payload. Keys without a job are ignored. Returns the number of signals sent.';
comment on function app_jobs.snooze_jobs(text[],bigint[],integer[],text[],interval[],interval[]) is 'Run locked jobs again after a delay, without counting the attempt. A job whose first snooze is longer ago than max_age fails permanently. Returns the jobs that were locked so, as settle_jobs does.';
comment on function app_jobs.tg_add_job_with_row() is 'Enqueue a job of the task in the trigger''s argument, with the row as its payload.';
comment on function app_jobs.tg_add_job_with_row_id() is 'Enqueue a job of the task in the trigger''s argument, with the payload {"id": ...}.';
comment on function app_jobs.tg_end_awaited_job() is 'Collect the ended jobs of a statement for end_calls: the id of a completed one, and the negative id of another.';
comment on function app_jobs.tg_notify() is 'Notify the channel that the trigger names.';
comment on function app_jobs.tg_record_lost_run() is 'Record the attempt whose expired lock a claim takes over.';
comment on function app_jobs.tg_record_schedule() is 'Write an entry of the audit list for a schedule that was added, changed, paused, resumed or removed.';
comment on function app_jobs.tg_record_setting() is 'Write an entry of the audit list for a changed pause, limit, weight or setting of a task.';
comment on function app_jobs.tg_replace_has_task_settings() is 'Let has_task_settings return whether the table has rows.';
comment on function app_jobs.tg_reset_due_at() is 'Let a scheduler compute due_at anew after a rule has changed.';
comment on function app_jobs.tg_set_exhausted() is 'Set exhausted and in_last_attempt from attempts, max_attempts and locked_at.';
comment on function app_jobs.tg_set_expiry() is 'Give a replaced job the expiry of the one that replaces it.';
comment on function app_jobs.tg_store_completed_job() is 'Store a job that completes, with its payload.';
comment on function app_jobs.tg_unlock_queue() is 'Unlock the queue that a job had locked.';
comment on function app_jobs.tg_wake_parked_jobs() is 'Wake the jobs that waited for jobs of this statement: once for all of them, so that their locks are taken in order.';
comment on function app_jobs.tg_write_job_queues() is 'Lock or unlock a queue by writing to job_queues.';
comment on function app_jobs.to_job_row(app_jobs.jobs) is 'A job as functions return it.';
comment on function app_jobs.trigger_job_with_fields() is 'Enqueue a job of the task in the trigger''s first argument, with the columns in its other arguments as the payload. As on the platform, each value is text, and null is an empty text.';
comment on function app_jobs.try_lock_queue(text) is 'Lock a queue for claims of this transaction only; false if another transaction has it. Part of claim_jobs.';
comment on function app_jobs.unique_job_key(text,json,text[]) is 'The unique key of a job: a hash of the task, the tenant, and the fields of the payload, or the whole payload.';
comment on function app_jobs.wake_jobs(bigint[]) is 'Wake parked jobs: their sleeps end, and their waits with a deadline time out. Returns those that were parked.';
comment on function app_jobs.wake_parked_jobs(bigint[],integer[]) is 'Make parked jobs due, each if its group of steps has ended.';
comment on function app_jobs.workers_for(text,text) is 'The registered workers that are alive and claim jobs of a task and a queue. Part of explain_wait.';
comment on table app_jobs.audit_log is 'Actions of operators. The role is the one that logged in to PostgreSQL; actor, source and the filter in details are what the client said.';
comment on table app_jobs.cancelled_runs is 'Attempts of cancelled jobs whose handlers may still run, and keep slots of limits or a named queue.';
comment on table app_jobs.claim_positions is 'Where claims start while ended jobs cannot be vacuumed. The latest row counts. Rows are not updated, because their old versions cannot be vacuumed either.';
comment on table app_jobs.completed_jobs is 'Completed jobs with their payloads, for history_settings.completed_payload_retention. run_jobs_again runs them again.';
comment on table app_jobs.held_jobs is 'Jobs that are due, and that a limit holds back.';
comment on table app_jobs.history_settings is 'One row. Zero turns the history off. Workers set it from JOBS_HISTORY_DAYS.';
comment on table app_jobs.installation is 'One row: a random id and a random secret of this schema. A copy of the database has the same.';
comment on table app_jobs.job_dependencies is 'The jobs that waiting jobs depend on, until these are due or have failed.';
comment on table app_jobs.job_results is 'Return values of completed jobs of tasks with keep_result. Read them through job_result.';
comment on table app_jobs.job_runs is 'The history: one row for each attempt that ended, in one partition for each day, or a sixtieth of the retention. prune_job_runs drops those past history_settings.retention.';
comment on table app_jobs.job_runs_default is 'Attempts of days without a partition, for example because no service ran that makes them.';
comment on table app_jobs.job_signals is 'Signals that came before their jobs waited for them, in the order of arrival.';
comment on table app_jobs.job_steps is 'What the handlers of durable functions have recorded, until their jobs end.';
comment on table app_jobs.job_tracebacks is 'The traceback of a failed attempt, if its function has sent it. job_runs has the attempt, with the same time.';
comment on table app_jobs.jobs is 'Jobs that are ready, delayed, running or permanently failed. A completed job is deleted.';
comment on table app_jobs.learned_attempts is 'The max_attempts that functions apply to jobs of their tasks, as workers have learned it. For people.';
comment on table app_jobs.limit_keys is 'Keys of limits that are paused, or whose held jobs wait for a time.';
comment on table app_jobs.limit_slots is 'The running jobs that count for limits of concurrency.';
comment on table app_jobs.limit_starts is 'Recent starts of jobs that are subject to rates.';
comment on table app_jobs.limit_sweeps is 'When a worker last looked for held jobs that nothing releases.';
comment on table app_jobs.limit_wakeups is 'Keys whose held jobs the next claim looks at.';
comment on table app_jobs.limits is 'Limits of running jobs and of starts, across all workers. A job is subject to each limit that matches it.';
comment on table app_jobs.pauses is 'What claims skip now. A pause whose until has passed has ended.';
comment on table app_jobs.payload_settings is 'One row: the maximum size of the payloads of new jobs.';
comment on table app_jobs.queue_locks is 'The queues that are locked now. Read and write them through job_queues.';
comment on table app_jobs.scheduled_jobs is 'Recurring jobs. schedule_info holds a cron rule, or its parts.';
comment on table app_jobs.task_settings is 'Defaults and overrides for new jobs of a task. jobfn sync writes the defaults, an operator the overrides.';
comment on table app_jobs.tenant_weights is 'How many jobs a tenant may start for each one of a tenant without a weight, while both have ready jobs.';
comment on table app_jobs.unique_jobs is 'The job that holds each unique key. Whether it still does follows from the job and from expires_at.';
comment on table app_jobs.workers is 'The running processes of jobfn service.';
comment on type app_jobs.job_row is 'A job as functions return it: the first columns of jobs, in the same order. It is never changed, so that running sessions can go on.';
comment on view app_jobs.job_queues is 'Named queues: the number of their jobs, and the worker that runs one of them now.';
