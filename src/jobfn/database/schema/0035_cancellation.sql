-- Jobs that end without running to their end: cancelled, or expired. Workers are notified when a running job is cancelled.

alter table @schema@.jobs add column ended_as text, add column expires_at timestamptz;

-- A column default, so that every way to add a job takes it from the transaction's setting, and needs no argument.
alter table @schema@.jobs
    alter column expires_at set default nullif(current_setting('jobfn.expires_at', true), '')::timestamptz;

comment on column @schema@.jobs.ended_as is
    'Of an exhausted job: cancelled or expired. Null: it has permanently failed.';
comment on column @schema@.jobs.expires_at is 'The job is not started after this time.';

create index jobs_expires_at_idx on @schema@.jobs (expires_at) where expires_at is not null and not exhausted;

create or replace function @schema@.tg_set_exhausted() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
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
$$;

create or replace function @schema@.cancel_jobs(job_ids bigint[], reason text, include_running boolean)
    returns table (job_id bigint, was_running boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_children bigint[];
begin
    return query
    with target as materialized (
        select j.*, j.locked_at is not null and not coalesce(
            j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'
        ) as is_running
        from @schema@.jobs j
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
        insert into @schema@.job_runs
        select cancelled.id, cancelled.attempts, cancelled.task_identifier, cancelled.queue_name,
            cancelled.database_id, cancelled.locked_by, cancelled.created_at, cancelled.run_at, cancelled.locked_at,
            now(), 'cancelled', reason
        from cancelled
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
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
        from @schema@.job_steps s
        join @schema@.jobs p on p.id = s.job_id
        join @schema@.jobs j on j.id = s.child_id
        where s.job_id = any (job_ids)
            and s.child_id is not null
            and s.state = 'waiting'
            and p.exhausted
            and p.locked_at is null
            and j.locked_at is null
        for update of j skip locked -- those are just ending
    );
    if cardinality(v_children) > 0 then
        perform from @schema@.cancel_jobs(v_children, 'the job that called it was cancelled', false);
    end if;
end
$$;

comment on function @schema@.cancel_jobs(bigint[], text, boolean) is
    'End waiting jobs as cancelled, with a reason. With include_running also running ones: their workers lose the '
    'locks, are notified (jobs:cancel) and stop the handlers, and late reports change nothing.';

create function @schema@.cancelled_jobs(job_ids bigint[], job_attempts int[]) returns setof bigint
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select j.id
    from unnest(job_ids, job_attempts) as given (job_id, attempt)
    join @schema@.jobs j on j.id = given.job_id
    where j.ended_as = 'cancelled' and j.fenced_attempt = given.attempt
$$;

comment on function @schema@.cancelled_jobs(bigint[], int[]) is
    'Those of the jobs that were cancelled while they ran in these attempts.';

create function @schema@.set_expiry(job_ids bigint[], expires_at timestamptz) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
    v_ids bigint[] := '{}';
begin
    for v_id in
        update @schema@.jobs j
        set expires_at = set_expiry.expires_at
        where j.id = any (job_ids) and not j.exhausted
        returning j.id
    loop
        v_ids := v_ids || v_id;
        return next v_id;
    end loop;
    perform @schema@.record_action_on_jobs('set_expiry', v_ids, jsonb_build_object('expires_at', expires_at));
end
$$;

comment on function @schema@.set_expiry(bigint[], timestamptz) is
    'Do not start these jobs after this time; null: at any time. Returns those that have not ended.';

create function @schema@.set_default_expiry(expires_at timestamptz) returns text
    language sql
    set search_path = pg_catalog, pg_temp
as $$
    select set_config('jobfn.expires_at', coalesce(set_default_expiry.expires_at::text, ''), true)
$$;

comment on function @schema@.set_default_expiry(timestamptz) is
    'Jobs that this transaction adds from now on are not started after this time; null: at any time.';

create function @schema@.expire_jobs(max_jobs int default 500) returns setof bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as in claim_jobs
    set jit = off
as $$
declare
    v_expired int;
begin
    return query
    with expired as materialized (
        select j.*, format('expired: it was not started before %s', j.expires_at) as reason
        from @schema@.jobs j
        where j.expires_at <= now()
            and not j.exhausted
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < now() - interval '4 hours'))
        order by j.expires_at
        limit max_jobs
        for update skip locked
    ),
    recorded as (
        insert into @schema@.job_runs
        select expired.id, expired.attempts, expired.task_identifier, expired.queue_name, expired.database_id,
            expired.locked_by, expired.created_at, expired.run_at, expired.locked_at, now(), 'expired', expired.reason
        from expired
        where @schema@.history_enabled()
    )
    update @schema@.jobs j
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
$$;

comment on function @schema@.expire_jobs(int) is
    'End up to max_jobs jobs that wait past their expires_at as expired, and return their ids.';

-- A job that replaces a waiting one by its key brings its own expiry, or none.

-- A job that replaces a waiting one by its key brings its own expiry, or none.
create function @schema@.tg_set_expiry() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.expires_at := nullif(current_setting('jobfn.expires_at', true), '')::timestamptz;
    return new;
end
$$;

comment on function @schema@.tg_set_expiry() is 'Give a replaced job the expiry of the one that replaces it.';

-- Only the functions that replace a job write its task.
create trigger _100_set_expiry_of_replaced_job
    before update of task_identifier on @schema@.jobs
    for each row
    when (old.expires_at is not null or coalesce(current_setting('jobfn.expires_at', true), '') <> '')
    execute function @schema@.tg_set_expiry();

select @schema@.grant_like('renew_leases', '{cancelled_jobs, expire_jobs}');
select @schema@.grant_like('add_jobs', '{set_default_expiry}');
select @schema@.grant_like('cancel_jobs', '{set_expiry}');
select @schema@.grant_like('jobs.exhausted', '{jobs}', 'select (ended_as)');

revoke execute on all functions in schema @schema@ from public;
