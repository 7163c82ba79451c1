-- All tables. The columns of jobs and scheduled_jobs that the contract names (contract, section 3) come first,
-- in its order; the columns that jobfn adds follow.

create table @schema@.jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text constraint jobs_queue_name_length check (length(queue_name) between 1 and 126),
    task_identifier text not null
        constraint jobs_task_identifier_length check (length(task_identifier) between 1 and 126),
    payload json not null default '{}',
    priority int not null default 0,
    run_at timestamptz not null default now(),
    attempts int not null default 0,
    max_attempts int not null default 25 constraint jobs_max_attempts_positive check (max_attempts > 0),
    key text constraint jobs_key_unique unique constraint jobs_key_length check (length(key) between 1 and 512),
    last_error text,
    locked_at timestamptz,
    locked_by text constraint jobs_locked_by_length check (length(locked_by) > 3),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- The lock is valid until then. Null: the worker renews no lease, and the lock is valid for a job_expiry after
    -- locked_at.
    lease_expires_at timestamptz,
    progress real constraint jobs_progress_range check (progress between 0 and 1),
    progress_message text,
    -- The attempt that a function accepted (202) and reports on later. See reclaim_jobs.
    accepted_attempt int,
    -- The attempt that was unlocked while its function may still have been running. A retry counts on from there, so
    -- that a late report of the old attempt never settles a new one.
    fenced_attempt int,
    -- The W3C trace context of the job. The enqueuing transaction sets it with two settings:
    --
    --     select set_config('jobfn.traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', true);
    --
    -- Both are column defaults, so that jobs that triggers insert inherit them. Malformed values count as unset.
    traceparent text default substring(
        current_setting('jobfn.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
    ),
    tracestate text default case
        when octet_length(current_setting('jobfn.tracestate', true)) <= 512 -- the maximum of the standard
        then substring(current_setting('jobfn.tracestate', true) from '^[ -~]+$')
    end,
    -- Whether the attempts are used up. Indexes are partial on this column and not on the two numbers: a claim that
    -- counts an attempt then changes no indexed value, and the update can stay on its page (HOT).
    exhausted boolean not null generated always as (attempts >= max_attempts) stored,
    -- Whether the last attempt is running. Stored and not indexed as an expression for the same reason: only the claim
    -- of the last attempt changes it, so all other claims stay HOT.
    in_last_attempt boolean not null generated always as (locked_at is not null and attempts >= max_attempts) stored
) with (
    -- A claim writes a new version of the row, and is HOT if that fits on the page of the old one. All rows of a batch
    -- are claimed, so a page must be less than half full. Without the room, each job has two entries in each index, and
    -- a claim takes two to three times as long.
    fillfactor = 45,
    autovacuum_vacuum_scale_factor = 0.02, -- most rows live for seconds: vacuum early
    autovacuum_analyze_scale_factor = 0.02
);

comment on table @schema@.jobs is
    'Jobs that are ready, delayed, running or permanently failed. A completed job is deleted.';
comment on column @schema@.jobs.accepted_attempt is
    'The attempt that a function accepted and reports on later; null: none.';
comment on column @schema@.jobs.traceparent is
    'The trace that the job belongs to, from the setting jobfn.traceparent of the enqueuing transaction.';

-- Order of claims: without a queue, over all queues, and within one queue. next_run_at uses them too.
create index jobs_ready_idx on @schema@.jobs (priority, run_at, id)
    where queue_name is null and not exhausted;
create index jobs_queued_ready_idx on @schema@.jobs (priority, run_at, id)
    where queue_name is not null and not exhausted;
create index jobs_queue_name_ready_idx on @schema@.jobs (queue_name, priority, run_at, id)
    where queue_name is not null and not exhausted;
-- Claims of some tasks read no jobs of other tasks. The index holds a hash of 64 bits, because comparing names took
-- longer than the rest of inserting an entry. Claims compare the name too, so a collision of two hashes does no harm.
create index jobs_task_ready_idx on @schema@.jobs (hashtextextended(task_identifier, 0), priority, run_at, id)
    where queue_name is null and not exhausted;
create index jobs_exhausted_idx on @schema@.jobs (id) where exhausted;
create index jobs_in_last_attempt_idx on @schema@.jobs (id) where in_last_attempt;
-- For people who search for an error. A job without a failed attempt has no entry, and a claim changes none.
create index jobs_last_error_idx on @schema@.jobs (id) where last_error is not null;

-- The locked queues. Only claims and settlements write here, never add_job: enqueuing must not wait for another
-- transaction to commit, nor block running jobs.
create table @schema@.queue_locks (
    queue_name text primary key,
    job_id bigint, -- null: locked by a person, through job_queues
    locked_by text not null,
    locked_at timestamptz not null,
    lease_expires_at timestamptz -- as in jobs
);

comment on table @schema@.queue_locks is 'The queues that are locked now. Read and write them through job_queues.';

create table @schema@.scheduled_jobs (
    id bigserial primary key,
    database_id uuid,
    actor_id uuid,
    entity_id uuid,
    queue_name text constraint scheduled_jobs_queue_name_length check (length(queue_name) between 1 and 126),
    task_identifier text not null
        constraint scheduled_jobs_task_identifier_length check (length(task_identifier) between 1 and 126),
    payload json not null default '{}',
    priority int not null default 0,
    max_attempts int not null default 25
        constraint scheduled_jobs_max_attempts_positive check (max_attempts > 0),
    key text constraint scheduled_jobs_key_unique unique
        constraint scheduled_jobs_key_length check (length(key) between 1 and 512),
    last_error text,
    locked_at timestamptz,
    locked_by text constraint scheduled_jobs_locked_by_length check (length(locked_by) > 3),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    schedule_info json not null,
    last_scheduled timestamptz,
    last_scheduled_id bigint,
    -- When schedule_info last changed. Due times before this belong to the old rule and are ignored.
    rule_changed_at timestamptz not null default clock_timestamp(),
    -- Stored in the row and advanced in the transaction that inserts the job, so that any number of schedulers insert
    -- one job for each due time.
    due_at timestamptz,
    skipped bigint not null default 0,
    last_skipped timestamptz,
    skip_reason text
);

comment on table @schema@.scheduled_jobs is
    'Recurring jobs. schedule_info holds a cron rule, or its parts.';
comment on column @schema@.scheduled_jobs.due_at is
    'The next due time. Null: a scheduler has yet to compute it. Infinity: there is no next one.';
comment on column @schema@.scheduled_jobs.last_error is
    'Why the rule is invalid, or why the last job could not be enqueued.';
comment on column @schema@.scheduled_jobs.skipped is 'The number of due times for which no job was enqueued.';
comment on column @schema@.scheduled_jobs.last_skipped is 'The latest due time for which no job was enqueued.';

create index scheduled_jobs_due_at_idx on @schema@.scheduled_jobs (due_at);

create table @schema@.job_runs (
    job_id bigint not null,
    attempt int not null,
    task_identifier text not null,
    queue_name text,
    database_id uuid,
    worker text,            -- null: the job was not locked
    enqueued_at timestamptz not null,
    due_at timestamptz not null,
    started_at timestamptz, -- null: the job was not running
    ended_at timestamptz not null default now(),
    outcome text not null constraint job_runs_outcome_known check (
        outcome in ('completed', 'failed', 'permanently_failed', 'released', 'lost', 'cancelled', 'removed')
    ),
    error text
);

comment on table @schema@.job_runs is
    'The history: one row for each attempt that ended. prune_job_runs deletes rows past history_settings.retention.';

create index job_runs_job_id_idx on @schema@.job_runs (job_id);
create index job_runs_ended_at_idx on @schema@.job_runs (ended_at);

create table @schema@.history_settings (
    retention interval not null constraint history_settings_retention_not_negative check (retention >= interval '0')
);

comment on table @schema@.history_settings is
    'One row. Zero turns the history off. Workers set it from JOBS_HISTORY_DAYS.';

insert into @schema@.history_settings (retention) values (interval '7 days');

create table @schema@.job_results (
    job_id bigint primary key,
    result json,        -- null if there is a storage_error
    storage_error text, -- why the result could not be stored
    ended_at timestamptz not null default now(),
    expires_at timestamptz not null
);

comment on table @schema@.job_results is
    'Return values of completed jobs of tasks with keep_result. Read them through job_result.';

create index job_results_expires_at_idx on @schema@.job_results (expires_at);

create table @schema@.workers (
    worker_id text not null,
    host text not null,
    pid int not null,
    version text not null,
    roles text[] not null,
    concurrency int not null,
    in_flight int not null,
    heartbeat_interval interval not null, -- a process that has missed three heartbeats counts as dead
    started_at timestamptz not null default now(),
    last_heartbeat_at timestamptz not null default now(),
    primary key (worker_id, host, pid)
) with (fillfactor = 50);

comment on table @schema@.workers is 'The running processes of jobfn service.';

create function @schema@.tg_notify() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify(tg_argv[0], '');
    return null;
end
$$;

comment on function @schema@.tg_notify() is 'Notify the channel that the trigger names.';

create trigger _900_notify_worker
    after insert on @schema@.jobs
    for each statement execute function @schema@.tg_notify('jobs:insert');

create trigger _900_notify_scheduler
    after insert or delete or update of schedule_info, task_identifier on @schema@.scheduled_jobs
    for each statement execute function @schema@.tg_notify('scheduled_jobs:insert');

-- PostgreSQL lets everybody execute a new function. Each migration that creates functions ends with this statement, so
-- that nobody can call them without a grant. The grants are in queries/migrations.sql.
revoke execute on all functions in schema @schema@ from public;
