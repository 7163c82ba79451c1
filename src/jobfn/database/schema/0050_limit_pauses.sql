-- A partner asks one job for patience (RetryLater), and a limit can pause all jobs of the same key.

alter table @schema@.limits add column pauses_on_retry_later boolean not null default false;

comment on column @schema@.limits.pauses_on_retry_later is
    'Whether a RetryLater of one job pauses the jobs of its key, in all workers, for the same time.';

create function @schema@.pause_limits_of_jobs(job_ids bigint[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set jit = off
as $$
begin
    perform @schema@.lock_limits(); -- a claim changes these rows in another order
    insert into @schema@.limit_keys as k (limit_name, key, paused_until)
    select l.name, found.key, max(j.run_at)
    from @schema@.jobs j
    join @schema@.limits l on (l.task_identifier is null or l.task_identifier = j.task_identifier)
        and (l.queue_name is null or l.queue_name = j.queue_name)
    cross join lateral @schema@.limit_key(
        l.per, j.database_id, j.queue_name, j.key, j.task_identifier, j.payload
    ) found (key)
    where j.id = any (job_ids) and j.run_at > now() and l.pauses_on_retry_later
    group by l.name, found.key
    on conflict (limit_name, key) do update
    set paused_until = greatest(k.paused_until, excluded.paused_until);
end
$$;

create or replace function @schema@.snooze_jobs(
    worker_ids text[], job_ids bigint[], job_attempts int[], reasons text[], delays interval[], max_ages interval[]
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_snooze record;
    v_ended record;
    v_job @schema@.job_row;
    v_history_enabled boolean := @schema@.history_enabled();
    v_pauses_limits constant boolean := exists (select from @schema@.limits l where l.pauses_on_retry_later);
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
            from @schema@.jobs j
            where j.id = v_snooze.job_id
                and j.locked_by = v_snooze.worker_id
                and (v_snooze.attempt is null or j.attempts = v_snooze.attempt)
            for update
        )
        update @schema@.jobs j
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
        returning @schema@.to_job_row(j) as job, before.attempts as attempt, before.run_at as due_at,
            before.locked_at as started_at,
            before.is_allowed, before.error
            into v_ended;
        continue when not found;
        v_job := v_ended.job;
        if v_history_enabled then
            insert into @schema@.job_runs values (
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
        perform @schema@.pause_limits_of_jobs(v_snoozed);
    end if;
end
$$;

alter function @schema@.set_limit(text, text, text, text, int, int, interval, text) rename to set_limit_before;

create function @schema@.set_limit(
    name text, task_identifier text = null, queue_name text = null, per text = null, concurrency int = null,
    rate_count int = null, rate_interval interval = null, set_by text = 'operator',
    pauses_on_retry_later boolean = false
) returns @schema@.limits
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '3s' -- of the lock on the jobs, which claims wait behind
as $$
#variable_conflict use_column
declare
    v_interval constant interval := make_interval(secs => extract(epoch from set_limit.rate_interval));
    v_old @schema@.limits;
    v_new @schema@.limits;
begin
    if length(set_limit.name) not between 1 and 126 or set_limit.name is null then
        raise check_violation using message = 'set_limit: name must have 1 to 126 characters';
    end if;
    if set_limit.concurrency is null and set_limit.rate_count is null then
        raise check_violation using
            message = 'set_limit: a limit needs a concurrency, or a rate_count with its rate_interval';
    end if;
    perform @schema@.lock_limits();
    select l.* into v_old from @schema@.limits l where l.name = set_limit.name;
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
    if v_old.name is null and (select count(*) from @schema@.limits) >= 1000 then
        raise program_limit_exceeded using
            message = 'set_limit: there are 1,000 limits already',
            hint = 'Remove some, or use one limit with per: it has a limit for each value.';
    end if;
    insert into @schema@.limits as l (
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
        insert into @schema@.limit_wakeups
        select distinct h.limit_name, h.key from @schema@.held_jobs h where h.limit_name = v_new.name;
        perform pg_notify('jobs:insert', '');
        return v_new;
    end if;
    -- It counts other jobs than before. None may start between the count and the commit.
    begin
        lock table @schema@.jobs in share row exclusive mode;
    exception when lock_not_available then
        raise lock_not_available using
            message = 'set_limit: the table of jobs is busy: other transactions have been adding or changing jobs for '
                'more than 3 seconds',
            hint = 'Try again when these transactions, or the vacuum of the table, have ended.';
    end;
    perform @schema@.forget_limit_state(v_new.name);
    if v_new.concurrency is not null then
        with running as (
            update @schema@.jobs j set is_limited = true
            where j.locked_at is not null
                and (v_new.task_identifier is null or j.task_identifier = v_new.task_identifier)
                and (v_new.queue_name is null or j.queue_name = v_new.queue_name)
            returning j.*
        )
        insert into @schema@.limit_slots (job_id, limit_name, key)
        select r.id, v_new.name, @schema@.limit_key(
            v_new.per, r.database_id, r.queue_name, r.key, r.task_identifier, r.payload
        )
        from running r;
    end if;
    alter table @schema@.jobs enable trigger _800_hold_inserted_jobs;
    return v_new;
end
$$;

comment on function @schema@.set_limit is
    'Set a limit of running jobs or of starts, for all workers. Jobs that run already count.';

revoke execute on function @schema@.pause_limits_of_jobs(bigint[]) from public;
revoke execute on function @schema@.set_limit(text, text, text, text, int, int, interval, text, boolean) from public;

-- Roles that may call the function before may call this one.
do $$
declare
    v_schema constant oid := (
        select c.relnamespace from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)
    );
    v_grant record;
begin
    for v_grant in
        select new.oid::regprocedure as function, quote_ident(pg_get_userbyid(granted.grantee)) as role
        from pg_catalog.pg_proc old
        cross join lateral aclexplode(old.proacl) as granted
        join pg_catalog.pg_proc new on new.pronamespace = v_schema and new.proname = 'set_limit'
        where old.proname = 'set_limit_before' and old.pronamespace = v_schema
            and granted.grantee not in (0, old.proowner)
    loop
        execute format('grant execute on function %s to %s', v_grant.function, v_grant.role);
    end loop;
end
$$;

drop function @schema@.set_limit_before(text, text, text, text, int, int, interval, text);
