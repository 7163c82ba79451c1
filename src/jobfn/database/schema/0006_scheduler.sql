-- What a scheduler remembers of a schedule, so that any number of them make one job for each due time: the next due
-- time stands in the schedule's own row and moves on in the transaction that inserts the job.

alter table @schema@.scheduled_jobs
    -- Since when schedule_info says what it says: times before this are none of its own.
    add column rule_since timestamptz not null default clock_timestamp(),
    -- The next due time; null: a scheduler has yet to reckon it; infinity: there is none.
    add column due_at timestamptz,
    -- Due times that made no job, and the latest of them.
    add column skipped bigint not null default 0,
    add column last_skipped timestamptz,
    add column skip_reason text;

comment on column @schema@.scheduled_jobs.due_at is
    'The next due time; null while no scheduler has reckoned it, infinity when there is no more.';
comment on column @schema@.scheduled_jobs.last_error is
    'Why the schedule is broken, or why its last job could not be made.';

create index scheduled_jobs_due_idx on @schema@.scheduled_jobs (due_at);

create function @schema@.tg_schedule_changes() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.schedule_info::text is distinct from old.schedule_info::text then
        if new.rule_since is not distinct from old.rule_since then
            new.rule_since := clock_timestamp();
        end if;
        new.due_at := null;
        new.last_error := null;
    elsif old.due_at = 'infinity' and old.last_error is not null and new.last_error is null then
        -- somebody wants a broken rule to be looked at again
        new.rule_since := clock_timestamp();
        new.due_at := null;
    end if;
    return new;
end
$$;

create trigger _100_schedule_changes
    before update of schedule_info on @schema@.scheduled_jobs
    for each row execute function @schema@.tg_schedule_changes();

-- One schedule's step, decided by a scheduler that holds the row's lock: perhaps enqueue its job, and move on to
-- the next due time. Whatever the step does is committed with it or not at all.
create function @schema@.advance_schedule(
    schedule_id bigint,
    enqueues boolean,     -- its time has come
    waits boolean,        -- while its last job waits or runs: try again (true), or skip this time (false)
    due timestamptz,      -- the time that this is about
    next_due timestamptz, -- null: there is none
    let_go bigint,        -- how many times before that one make no job
    last_let_go timestamptz,
    problem text          -- why the schedule is broken
) returns table (outcome text, job_id bigint, error text)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    outcome := case when problem is null then 'planned' else 'broken' end;
    error := problem;
    if enqueues then
        begin
            -- a job that runs counts as running for as long as its worker's lock holds
            job_id := (@schema@.run_scheduled_job(schedule_id, interval '4 hours')).id;
            outcome := 'enqueued';
        exception when others then
            if sqlerrm = 'ALREADY_SCHEDULED' then
                outcome := case when waits then 'waiting' else 'skipped' end;
            elsif sqlstate = '55P03' or left(sqlstate, 2) = '40' then
                outcome := 'waiting'; -- somebody's lock is in the way: the next look may find it gone
            elsif left(sqlstate, 2) in ('53', '57', '58', 'XX') then
                raise; -- the server's trouble, not this schedule's
            else
                outcome := 'failed';
            end if;
            error := sqlerrm;
        end;
    end if;
    if outcome <> 'waiting' then
        update @schema@.scheduled_jobs s
        set due_at = coalesce(next_due, 'infinity'),
            last_error = case outcome
                when 'broken' then error when 'failed' then error when 'skipped' then s.last_error
            end,
            skipped = s.skipped + let_go + case outcome when 'skipped' then 1 else 0 end,
            last_skipped = case outcome when 'skipped' then due else coalesce(last_let_go, s.last_skipped) end,
            skip_reason = case
                when outcome = 'skipped' then 'its last job was still waiting or running'
                when let_go > 0 then 'no scheduler ran then'
                else s.skip_reason
            end,
            -- a scheduler that held the row and let its time pass is gone
            locked_at = case when enqueues then null else s.locked_at end,
            locked_by = case when enqueues then null else s.locked_by end
        where s.id = schedule_id;
    end if;
    return next;
end
$$;

comment on function
    @schema@.advance_schedule(bigint, boolean, boolean, timestamptz, timestamptz, bigint, timestamptz, text) is
    'For schedulers: enqueue a schedule''s job if its time has come, and move on to the next due time.';
