-- REINDEX locks a table, then each of its indexes. A transaction that reads the table, which locks the indexes, and
-- then writes it, waits for the first lock while REINDEX waits for the second: a deadlock. These functions lock the
-- tables that they write before they read them.

do $$
declare
    v_schema constant oid := (
        select c.relnamespace from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)
    );
    v_function record;
    v_definition text;
    v_changed text;
begin
    for v_function in
        select p.oid, locked.tables, locked.after
        from (values
            ('claim_jobs', '@schema@.jobs, @schema@.queue_locks', 'begin'),
            ('get_job', '@schema@.jobs, @schema@.queue_locks', 'begin'),
            ('park_jobs', '@schema@.jobs', 'begin'),
            ('prune_failed_jobs', '@schema@.jobs', 'begin'),
            ('enqueue_schedule', '@schema@.jobs, @schema@.scheduled_jobs', 'begin'),
            ('record_steps', '@schema@.jobs, @schema@.job_steps, @schema@.job_dependencies', 'begin'), -- see below
            ('tg_end_durable_job', '@schema@.job_steps', 'begin'),
            ('end_calls', '@schema@.job_steps, @schema@.job_dependencies', '    end if;'), -- past its early return
            ('signal', '@schema@.job_signals', 'begin')
        ) as locked (name, tables, after)
        join pg_catalog.pg_proc p on p.proname = locked.name and p.pronamespace = v_schema
        join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
    loop
        -- record_steps reads jobs where it declares this variable, which is too early.
        v_definition := pg_catalog.replace(
            pg_catalog.pg_get_functiondef(v_function.oid),
            E' v_held bigint[] := @schema@.lock_held_jobs(worker_ids, job_ids, job_attempts);\n    v_entry ',
            E' v_held bigint[];\n    v_entry '
        );
        v_changed := pg_catalog.regexp_replace(
            v_definition,
            pg_catalog.format(E'\n%s\n', v_function.after),
            pg_catalog.format(
                E'\n%s\n    lock table %s in row exclusive mode; -- before reading, for REINDEX\n',
                v_function.after, v_function.tables
            )
        );
        if v_changed = v_definition then
            raise exception 'the definition of % has no body', v_function.oid::regprocedure;
        end if;
        v_changed := pg_catalog.replace(
            v_changed,
            E'REINDEX\n    if cardinality(v_held) = 0 ',
            E'REINDEX\n    v_held := @schema@.lock_held_jobs(worker_ids, job_ids, job_attempts);\n'
                '    if cardinality(v_held) = 0 '
        );
        execute v_changed;
    end loop;
end
$$;
