-- What a role that runs worker, callback server and scheduler needs, ours or the platform's. The functions act with
-- their owner's rights. Of the tables it may count how many jobs are ready (queue_depth.sql), and lock schedules and see
-- what they are about (due_schedules.sql, next_due.sql), but no payload.
grant usage on schema @schema@ to @role@;
grant execute on function
    @schema@.claim_jobs,
    @schema@.next_due,
    @schema@.renew_leases,
    @schema@.note_progress,
    @schema@.note_accepted,
    @schema@.bury_expired_jobs,
    @schema@.settle_held_jobs,
    @schema@.settle_and_keep,
    @schema@.get_job,
    @schema@.complete_job,
    @schema@.fail_job,
    @schema@.release_jobs,
    @schema@.take_back_jobs,
    @schema@.get_scheduled_job,
    @schema@.run_scheduled_job,
    @schema@.release_scheduled_jobs,
    @schema@.advance_schedule,
    @schema@.set_history_days,
    @schema@.sweep_history,
    @schema@.note_worker,
    @schema@.forget_worker
    to @role@;
grant select (run_at, exhausted, locked_at) on @schema@.jobs to @role@;
grant select (id, task_identifier, key, schedule_info, due_at, rule_since, last_scheduled, locked_by, priority)
    on @schema@.scheduled_jobs to @role@;
-- locking a row asks for the right to update one of its columns, and this is one that get_scheduled_job writes anyway
grant update (locked_at) on @schema@.scheduled_jobs to @role@;
