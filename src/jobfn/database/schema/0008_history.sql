-- History: what became of each attempt, written in the transaction that ends it, and swept after some days. And which
-- processes are at work.
--
-- What ends many attempts at once writes them down with one insert. Nothing here is a trigger on the way of a job that
-- goes well.

create table @schema@.job_runs (
    job_id bigint not null,
    attempt int not null,
    task_identifier text not null,
    queue_name text,
    database_id uuid,
    worker text,            -- null: nobody held the job
    enqueued_at timestamptz not null,
    due_at timestamptz not null,
    started_at timestamptz, -- null: it was not running
    ended_at timestamptz not null default now(),
    outcome text not null constraint job_runs_outcome_known check (
        outcome in ('completed', 'failed', 'failed_for_good', 'released', 'lost', 'cancelled', 'removed')
    ),
    error text
);

comment on table @schema@.job_runs is
    'What became of each attempt: a completed job''s own row is deleted. Kept for as long as history_settings says.';

create index job_runs_job_idx on @schema@.job_runs (job_id);
create index job_runs_ended_idx on @schema@.job_runs (ended_at); -- the last hour, and what is old enough to go

create table @schema@.history_settings (
    keep interval not null constraint history_settings_not_negative check (keep >= interval '0')
);

comment on table @schema@.history_settings is
    'One row: for how long job_runs are kept; zero: none are written. Workers set it from JOBS_HISTORY_DAYS.';

insert into @schema@.history_settings (keep) values (interval '7 days');

create function @schema@.keeps_history() returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (select from @schema@.history_settings h where h.keep > interval '0')
$$;

comment on function @schema@.keeps_history() is 'Whether attempts are written down.';

create function @schema@.set_history_days(days double precision) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.history_settings h
    set keep = make_interval(secs => days * 86400)
    where h.keep is distinct from make_interval(secs => days * 86400)
$$;

comment on function @schema@.set_history_days(double precision) is
    'For how many days attempts are kept from now on; 0 writes none down, and has those that are there swept.';

create function @schema@.sweep_history(max_rows int) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_swept int;
begin
    -- what another sweeper has in hand is left to it
    delete from @schema@.job_runs r
    where r.ctid = any (array(
        select old.ctid
        from @schema@.job_runs old
        where old.ended_at <= now() - (select h.keep from @schema@.history_settings h)
        order by old.ended_at
        limit max_rows
        for update skip locked
    ));
    get diagnostics v_swept = row_count;
    return v_swept;
end
$$;

comment on function @schema@.sweep_history(int) is
    'Delete the oldest attempts that are kept no longer, at most so many. Returns how many went.';

-- A job that was taken from a worker which may still be at work on it: the attempt. A retry counts on from there, so
-- that a late report of that attempt is never taken for one of the new ones.
alter table @schema@.jobs add column outlived_attempt int;

-- Looking for an error among a million jobs. A job that goes well is never in here, and a claim changes nothing of it.
create index jobs_error_idx on @schema@.jobs (id) where last_error is not null;

create or replace function @schema@.settle_held_jobs(
    worker_ids text[],
    job_ids bigint[],
    job_attempts int[],
    outcomes text[],
    error_messages text[],
    delays interval[]
) returns setof @schema@.jobs
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as claim_jobs: the plan outlives the time when the table was small
    set jit = off -- a scan that is forbidden has an enormous cost, for which PostgreSQL would compile each call anew
as $$
declare
    v_settled record;
    v_ended record;
    v_job @schema@.jobs;
    v_keeps boolean := @schema@.keeps_history();
    v_runs @schema@.job_runs[] := '{}';
    v_waiting boolean := false;
begin
    -- In the order of their ids, so that two batches with jobs in common do not wait for each other. Of two ends of
    -- one job, the better one counts, which the alphabet happens to put first.
    for v_settled in
        select settled.*
        from unnest(worker_ids, job_ids, job_attempts, outcomes, error_messages, delays)
            as settled (worker_id, job_id, attempt, outcome, error_message, delay)
        order by settled.job_id, settled.outcome
    loop
        if v_settled.outcome = 'completed' then
            delete from @schema@.jobs j
            where j.id = v_settled.job_id
                and j.locked_by = v_settled.worker_id
                and (v_settled.attempt is null or j.attempts = v_settled.attempt)
            returning j.* into v_job;
            continue when not found;
            if v_keeps then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_job.attempts, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_job.locked_by, v_job.created_at, v_job.run_at, v_job.locked_at, now(), 'completed', null
                )::@schema@.job_runs);
            end if;
        else
            with before as materialized (
                select j.id, j.attempts, j.run_at, j.locked_at
                from @schema@.jobs j
                where j.id = v_settled.job_id
                    and j.locked_by = v_settled.worker_id
                    and (v_settled.attempt is null or j.attempts = v_settled.attempt)
                for update
            )
            update @schema@.jobs j
            set last_error = case
                    when v_settled.outcome = 'given_back' then j.last_error else v_settled.error_message
                end,
                attempts = case v_settled.outcome
                    when 'failed_for_good' then j.max_attempts
                    when 'given_back' then greatest(j.attempts - 1, 0)
                    else j.attempts
                end,
                run_at = case
                    when v_settled.outcome = 'failed_for_good' then j.run_at
                    when v_settled.outcome = 'given_back' then greatest(j.run_at, now() + v_settled.delay)
                    when v_settled.delay is not null then now() + v_settled.delay
                    else greatest(now(), j.run_at) + exp(least(j.attempts, 10)) * interval '1 second'
                end,
                locked_at = null,
                locked_by = null,
                lease_expires_at = null,
                updated_at = now()
            from before
            where j.id = before.id
            returning j as job, before.attempts as attempt, before.run_at as due_at, before.locked_at as started_at
                into v_ended;
            continue when not found;
            v_job := v_ended.job;
            v_waiting := v_waiting or v_settled.outcome in ('failed', 'given_back');
            if v_keeps then
                v_runs := array_append(v_runs, row(
                    v_job.id, v_ended.attempt, v_job.task_identifier, v_job.queue_name, v_job.database_id,
                    v_settled.worker_id, v_job.created_at, v_ended.due_at, v_ended.started_at, now(),
                    case
                        when v_settled.outcome = 'given_back' then 'released'
                        when v_job.exhausted then 'failed_for_good'
                        else 'failed'
                    end,
                    case when v_settled.outcome <> 'given_back' then v_settled.error_message end
                )::@schema@.job_runs);
            end if;
        end if;
        return next v_job;
    end loop;
    if cardinality(v_runs) > 0 then
        insert into @schema@.job_runs select run.* from unnest(v_runs) run;
    end if;
    if v_waiting then
        perform pg_notify('jobs:insert', ''); -- there is a new time to wake at
    end if;
end
$$;

-- A claim that takes over a lock whose lease has ended: the attempt before it is lost.
create function @schema@.tg_note_lost_run() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if @schema@.keeps_history() then
        insert into @schema@.job_runs values (
            old.id, old.attempts, old.task_identifier, old.queue_name, old.database_id, old.locked_by,
            old.created_at, old.run_at, old.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', old.locked_by)
        );
    end if;
    return null;
end
$$;

create trigger _600_note_lost_run
    after update of locked_by on @schema@.jobs
    for each row when (old.locked_at is not null and new.locked_at is not null and new.attempts > old.attempts)
    execute function @schema@.tg_note_lost_run();

create or replace function @schema@.bury_expired_jobs(job_expiry interval) returns setof bigint
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with dead as materialized (
        select j.*, format('the worker %s died, or lost its lease, in the last attempt', j.locked_by) as reason
        from @schema@.jobs j
        where j.exhausted
            and j.locked_at is not null
            and coalesce(j.lease_expires_at < now(), j.locked_at < now() - job_expiry)
        order by j.id
        for update
    ),
    noted as (
        insert into @schema@.job_runs
        select dead.id, dead.attempts, dead.task_identifier, dead.queue_name, dead.database_id, dead.locked_by,
            dead.created_at, dead.run_at, dead.locked_at, now(), 'lost', dead.reason
        from dead
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = dead.reason,
        outlived_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from dead
    where j.id = dead.id
    returning j.id
$$;

create or replace function @schema@.release_jobs(worker_id text) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    with held as materialized (
        select j.* from @schema@.jobs j where j.locked_by = worker_id order by j.id for update
    ),
    noted as (
        insert into @schema@.job_runs
        select held.id, held.attempts, held.task_identifier, held.queue_name, held.database_id, held.locked_by,
            held.created_at, held.run_at, held.locked_at, now(), 'released', null
        from held
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        attempts = greatest(j.attempts - 1, 0),
        updated_at = now()
    from held
    where j.id = held.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l where l.locked_by = worker_id; -- what is left: held by hand
end
$$;

create or replace function @schema@.take_back_jobs(worker_id text) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The attempts count: functions may still be at work on these jobs, and their reports are told from those of the
    -- next deliveries by the attempt.
    return query
    with held as materialized (
        select j.* from @schema@.jobs j where j.locked_by = worker_id order by j.id for update
    ),
    noted as (
        insert into @schema@.job_runs
        select held.id, held.attempts, held.task_identifier, held.queue_name, held.database_id, held.locked_by,
            held.created_at, held.run_at, held.locked_at, now(), 'lost',
            format('the worker %s died, or lost its lease', held.locked_by)
        from held
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = case
            when j.exhausted then format('the worker %s died, or lost its lease, in the last attempt', worker_id)
            else j.last_error
        end,
        outlived_attempt = j.attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from held
    where j.id = held.id
    returning j.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
    delete from @schema@.queue_locks l where l.locked_by = worker_id; -- what is left: held by hand
end
$$;

-- For people and tools, on jobs that nobody holds (or whose holder has been gone for four hours).

create or replace function @schema@.complete_jobs(job_ids bigint[]) returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    with unheld as materialized (select id from @schema@.lock_unheld_jobs(job_ids) as found (id)),
    gone as (
        delete from @schema@.jobs j using unheld where j.id = unheld.id
        returning j.*
    ),
    noted as (
        insert into @schema@.job_runs
        select gone.id, gone.attempts, gone.task_identifier, gone.queue_name, gone.database_id, gone.locked_by,
            gone.created_at, gone.run_at, gone.locked_at, now(), 'removed', gone.last_error
        from gone
        where @schema@.keeps_history()
    )
    select * from gone
$$;

create or replace function @schema@.permanently_fail_jobs(job_ids bigint[], error_message text default null)
    returns setof @schema@.jobs
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    with unheld as materialized (
        select j.*, coalesce(error_message, 'Failed by hand, without a reason given') as reason
        from @schema@.lock_unheld_jobs(job_ids) as found (id)
        join @schema@.jobs j on j.id = found.id
    ),
    noted as (
        insert into @schema@.job_runs
        select unheld.id, unheld.attempts, unheld.task_identifier, unheld.queue_name, unheld.database_id,
            unheld.locked_by, unheld.created_at, unheld.run_at, unheld.locked_at, now(), 'cancelled', unheld.reason
        from unheld
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = unheld.reason,
        outlived_attempt = case when j.locked_at is not null then j.attempts else j.outlived_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from unheld
    where j.id = unheld.id
    returning j.*
$$;

create function @schema@.cancel_jobs(job_ids bigint[], reason text, also_running boolean)
    returns table (job_id bigint, was_running boolean)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with wanted as materialized (
        select j.*, j.locked_at is not null and not coalesce(
            j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'
        ) as is_running
        from @schema@.jobs j
        where j.id = any (job_ids)
        order by j.id
        for update
    ),
    chosen as materialized (
        select wanted.*
        from wanted
        where (not wanted.is_running or also_running) and (wanted.is_running or not wanted.exhausted)
    ),
    noted as (
        insert into @schema@.job_runs
        select chosen.id, chosen.attempts, chosen.task_identifier, chosen.queue_name, chosen.database_id,
            chosen.locked_by, chosen.created_at, chosen.run_at, chosen.locked_at, now(), 'cancelled', reason
        from chosen
        where @schema@.keeps_history()
    )
    update @schema@.jobs j
    set last_error = reason,
        outlived_attempt = case when j.locked_at is not null then j.attempts else j.outlived_attempt end,
        attempts = j.max_attempts,
        locked_at = null,
        locked_by = null,
        lease_expires_at = null,
        updated_at = now()
    from chosen
    where j.id = chosen.id
    returning j.id, chosen.is_running;
end
$$;

comment on function @schema@.cancel_jobs(bigint[], text, boolean) is
    'Fail jobs for good before they run, with a reason; with also_running, those too that a worker holds: it holds '
    'them no longer, and its reports on them change nothing.';

create function @schema@.retry_jobs(job_ids bigint[]) returns setof bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with failed as materialized (
        select j.id
        from @schema@.jobs j
        where j.id = any (job_ids) and j.exhausted and j.locked_at is null
        order by j.id
        for update
    )
    update @schema@.jobs j
    set attempts = coalesce(j.outlived_attempt, 0),
        max_attempts = least(j.max_attempts::bigint + coalesce(j.outlived_attempt, 0), 2147483647),
        run_at = now(),
        updated_at = now()
    from failed
    where j.id = failed.id
    returning j.id;
    if found then
        perform pg_notify('jobs:insert', '');
    end if;
end
$$;

comment on function @schema@.retry_jobs(bigint[]) is
    'Give jobs that have failed for good all their attempts anew, from now.';

-- Which processes are at work.

create table @schema@.workers (
    worker_id text not null,
    host text not null,
    pid int not null,
    version text not null,
    parts text[] not null,
    concurrency int not null,
    in_flight int not null,
    beat interval not null, -- how often it says so: one that has missed three is gone
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    primary key (worker_id, host, pid)
) with (fillfactor = 50);

comment on table @schema@.workers is 'The processes of jobfn service, and when each was last heard of.';

create function @schema@.note_worker(
    worker_id text, host text, pid int, version text, parts text[], concurrency int, in_flight int, beat interval
) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into @schema@.workers as w (worker_id, host, pid, version, parts, concurrency, in_flight, beat)
    values (
        note_worker.worker_id, note_worker.host, note_worker.pid, note_worker.version, note_worker.parts,
        note_worker.concurrency, note_worker.in_flight, note_worker.beat
    )
    on conflict (worker_id, host, pid) do update
    set version = excluded.version,
        parts = excluded.parts,
        concurrency = excluded.concurrency,
        in_flight = excluded.in_flight,
        beat = excluded.beat,
        seen_at = now();
    delete from @schema@.workers w where w.seen_at < now() - interval '1 day';
end
$$;

comment on function @schema@.note_worker(text, text, int, text, text[], int, int, interval) is
    'A process says that it is at work, and forgets those that were last heard of a day ago.';

create function @schema@.forget_worker(worker_id text, host text, pid int) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    delete from @schema@.workers w
    where w.worker_id = forget_worker.worker_id and w.host = forget_worker.host and w.pid = forget_worker.pid
$$;

comment on function @schema@.forget_worker(text, text, int) is 'A process says that it has ended.';

revoke execute on all functions in schema @schema@ from public;
