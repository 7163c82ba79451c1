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
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update @schema@.jobs j
    set expires_at = set_expiry.expires_at
    where j.id = any (job_ids) and not j.exhausted
    returning j.id
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

-- Claims expire jobs first, so that no worker starts one late.

create or replace function @schema@.claim_jobs(
    worker_id text,
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}',
    max_payload_bytes bigint default null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_claims constant bigint := hashtextextended(row(task_identifiers, exclude_tasks)::text, 0);
    v_entries_read constant bigint := @schema@.claim_entries_read();
    v_known @schema@.claim_positions;
    v_start @schema@.claim_positions;
    v_rows tid[]; -- rows keep their place while they are locked
    v_is_waiting boolean;
    v_queues text[];
    v_claimed int;
    v_is_large boolean := false;
    v_has_limits constant boolean := exists (select from @schema@.limits);
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if exists (
        select from @schema@.jobs j
        where j.expires_at <= now()
            and not j.exhausted
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
    ) and (select count(*) from @schema@.expire_jobs(500)) >= 500 then
        return; -- expired jobs may be left: the next claim goes on with them
    end if;
    select p.* into v_known from @schema@.claim_positions p where p.claims = v_claims order by p.id desc limit 1;
    if v_known.valid_until > clock_timestamp() then
        v_start := v_known;
    else
        v_start := row(null, v_claims, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null);
    end if;
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
    end if;
    loop
        v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        v_is_waiting := cardinality(v_rows) > 0;
        v_queues := @schema@.ready_queues(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_start);
        if cardinality(v_queues) > 0 then
            v_rows := v_rows
                || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_start);
        end if;
        if cardinality(v_rows) > v_picked then
            v_rows := array(
                select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
                order by j.priority, j.run_at, j.id
                limit v_picked
            );
        end if;
        exit when not v_has_limits or cardinality(v_rows) = 0;
        v_round := v_round + 1;
        select gate.admitted, gate.has_limited, gate.is_done into v_rows, v_is_limited, v_is_done
        from @schema@.admit_jobs(v_rows, max_jobs, max_payload_bytes, v_round = 4) gate;
        exit when v_is_done;
        v_picked := least(8 * v_picked, greatest(max_jobs, 2000)); -- others are not to wait behind a flood
    end loop;
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
    end if;
    if v_known.id is not null or @schema@.claim_entries_read() - v_entries_read > 10000 then
        perform @schema@.record_claim_position(
            v_start, v_known, v_rows, v_is_waiting, @schema@.claim_entries_read() - v_entries_read - 5 * max_jobs
        );
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    -- Large payloads are rare: the jobs without one first, so that the others cost nothing if there are none.
    for v_step in 1..2 loop
        return query
        with claimed as (
            update @schema@.jobs j
            set attempts = j.attempts + 1,
                locked_by = claim_jobs.worker_id,
                locked_at = now(),
                lease_expires_at = now() + lease,
                progress = null,
                progress_message = null,
                is_limited = v_is_limited,
                updated_at = now()
            where j.ctid = any (v_rows) and (j.payload_bytes is null or v_is_large)
            returning (@schema@.to_job_row(j)).*
        ),
        queues as (
            insert into @schema@.queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
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
        v_rows := @schema@.large_jobs_within(v_rows, max_payload_bytes, v_claimed = 0);
        v_is_large := true;
    end loop;
end
$$;

create or replace function @schema@.claim_jobs_of_queues(
    worker_id text,
    queue_names text[],
    task_identifiers text[],
    job_expiry interval,
    max_jobs int,
    lease interval default null,
    exclude_tasks text[] default '{}',
    max_payload_bytes bigint default null
) returns setof @schema@.job_row
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set jit = off
as $$
declare
    v_expired_before constant timestamptz := now() - job_expiry;
    v_beginning constant @schema@.claim_positions := row(
        null, 0, -2147483648, '-infinity', -1, -2147483648, '-infinity', -1, null
    );
    v_rows tid[]; -- as in claim_jobs
    v_queues text[];
    v_claimed int;
    v_is_large boolean := false;
    v_has_limits constant boolean := exists (select from @schema@.limits);
    v_is_limited boolean; -- null unless a limit counts one of the jobs
    v_is_done boolean;
    v_picked int := max_jobs;
    v_round int := 0;
begin
    if worker_id is null or length(worker_id) < 4 then
        raise exception 'INVALID_WORKER_ID' using hint = 'A worker id has at least 4 characters.';
    end if;
    if exists (
        select from @schema@.jobs j
        where j.expires_at <= now()
            and not j.exhausted
            and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
    ) and (select count(*) from @schema@.expire_jobs(500)) >= 500 then
        return; -- expired jobs may be left: the next claim goes on with them
    end if;
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
    end if;
    loop
        v_rows := '{}';
        if '' = any (queue_names) then
            v_rows := @schema@.ready_jobs(task_identifiers, exclude_tasks, v_expired_before, v_picked, v_beginning);
        end if;
        v_queues := array(
            select urgent.name
            from (
                select wanted.name
                from (select distinct given.name from unnest(queue_names) as given (name)) wanted
                cross join lateral (
                    select j.priority, j.run_at, j.id
                    from @schema@.jobs j
                    where j.queue_name = wanted.name
                        and not j.exhausted
                        and j.run_at <= now()
                        and (j.locked_at is null or coalesce(j.lease_expires_at < now(), j.locked_at < v_expired_before))
                        and (task_identifiers is null or j.task_identifier = any (task_identifiers))
                        and j.task_identifier <> all (exclude_tasks)
                    order by j.priority, j.run_at, j.id
                    limit 1
                ) head
                order by head.priority, head.run_at, head.id
                offset 0 -- keeps the order, as in ready_queues
            ) urgent
            where not @schema@.is_queue_locked(urgent.name, v_expired_before) and @schema@.try_lock_queue(urgent.name)
            limit v_picked
        );
        if cardinality(v_queues) > 0 then
            v_rows := v_rows
                || @schema@.ready_queue_heads(v_queues, task_identifiers, exclude_tasks, v_expired_before, v_beginning);
        end if;
        if cardinality(v_rows) > v_picked then
            v_rows := array(
                select j.ctid from @schema@.jobs j where j.ctid = any (v_rows)
                order by j.priority, j.run_at, j.id
                limit v_picked
            );
        end if;
        exit when not v_has_limits or cardinality(v_rows) = 0;
        v_round := v_round + 1;
        select gate.admitted, gate.has_limited, gate.is_done into v_rows, v_is_limited, v_is_done
        from @schema@.admit_jobs(v_rows, max_jobs, max_payload_bytes, v_round = 4) gate;
        exit when v_is_done;
        v_picked := least(8 * v_picked, greatest(max_jobs, 2000)); -- others are not to wait behind a flood
    end loop;
    if v_has_limits then
        perform @schema@.wake_limit_keys(0);
    end if;
    if cardinality(v_rows) = 0 then
        return;
    end if;
    -- Large payloads are rare: the jobs without one first, so that the others cost nothing if there are none.
    for v_step in 1..2 loop
        return query
        with claimed as (
            update @schema@.jobs j
            set attempts = j.attempts + 1,
                locked_by = claim_jobs_of_queues.worker_id,
                locked_at = now(),
                lease_expires_at = now() + lease,
                progress = null,
                progress_message = null,
                is_limited = v_is_limited,
                updated_at = now()
            where j.ctid = any (v_rows) and (j.payload_bytes is null or v_is_large)
            returning (@schema@.to_job_row(j)).*
        ),
        queues as (
            insert into @schema@.queue_locks as l (queue_name, job_id, locked_by, locked_at, lease_expires_at)
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
        v_rows := @schema@.large_jobs_within(v_rows, max_payload_bytes, v_claimed = 0);
        v_is_large := true;
    end loop;
end
$$;

do $$
declare
    v_jobs constant oid := (select c.oid from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs));
    v_schema constant oid := (select c.relnamespace from pg_catalog.pg_class c where c.oid = v_jobs);
    v_grant record;
begin
    for v_grant in
        select distinct new.oid::regprocedure as function, quote_ident(pg_get_userbyid(granted.grantee)) as role
        from (
            values ('renew_leases', 'cancelled_jobs'), ('renew_leases', 'expire_jobs'), ('add_jobs', 'set_default_expiry'),
                ('cancel_jobs', 'set_expiry')
        ) as like_ (old, new)
        join pg_catalog.pg_proc old on old.pronamespace = v_schema and old.proname = like_.old
        cross join lateral aclexplode(old.proacl) as granted
        join pg_catalog.pg_proc new on new.pronamespace = v_schema and new.proname = like_.new
        where granted.grantee not in (0, old.proowner)
    loop
        execute format('grant execute on function %s to %s', v_grant.function, v_grant.role);
    end loop;
    for v_grant in
        select distinct quote_ident(pg_get_userbyid(granted.grantee)) as role
        from pg_catalog.pg_attribute a
        cross join lateral aclexplode(a.attacl) as granted
        where a.attrelid = v_jobs and a.attname = 'exhausted' and granted.privilege_type = 'SELECT'
    loop
        execute format('grant select (ended_as) on %s to %s', v_jobs::regclass, v_grant.role);
    end loop;
end
$$;

revoke execute on all functions in schema @schema@ from public;
