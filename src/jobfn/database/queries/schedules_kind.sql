-- $1: the schema's name. Whether it has schedules, jobfn's columns for them, and jobfn's record of migrations.
select
    to_regclass(format('%I.scheduled_jobs', $1::text)) is not null as has_schedules,
    to_regprocedure(format(
        '%I.advance_schedule(bigint, boolean, boolean, timestamptz, timestamptz, bigint, timestamptz, text)', $1::text
    )) is not null as has_due_times,
    to_regclass(format('%I.jobfn_migrations', $1::text)) is not null as has_record
