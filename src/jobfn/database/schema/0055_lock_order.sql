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
    v_declared text;
    v_start int;
begin
    for v_function in
        select p.oid, format(E'\n%s\n', locked.after) as after, (
                select string_agg(c.oid::regclass::text, ', ' order by name.position)
                from unnest(locked.tables) with ordinality as name (value, position)
                join pg_class c on c.relname = name.value and c.relnamespace = v_schema
            ) as tables
        from (values
            ('claim_jobs', '{jobs, queue_locks}'::text[], 'begin'),
            ('get_job', '{jobs, queue_locks}', 'begin'),
            ('park_jobs', '{jobs}', 'begin'),
            ('prune_failed_jobs', '{jobs}', 'begin'),
            ('enqueue_schedule', '{jobs, scheduled_jobs}', 'begin'),
            ('record_steps', '{jobs, job_steps, job_dependencies}', 'begin'),
            ('tg_end_durable_job', '{job_steps}', 'begin'),
            ('end_calls', '{job_steps, job_dependencies}', '    end if;'), -- past its early return
            ('signal', '{job_signals}', 'begin')
        ) as locked (name, tables, after)
        join pg_proc p on p.proname = locked.name and p.pronamespace = v_schema
        join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
    loop
        v_definition := pg_get_functiondef(v_function.oid);
        -- record_steps reads jobs where it declares a variable, which is too early.
        v_declared := substring(v_definition from E'\n    v_held bigint\\[\\]( := [^\n]*;)\n    v_entry record;');
        if v_declared is not null then
            v_definition := replace(v_definition, 'v_held bigint[]' || v_declared, 'v_held bigint[];');
        end if;
        v_start := strpos(v_definition, v_function.after);
        if v_start = 0 then
            raise exception 'the definition of % has no body', v_function.oid::regprocedure;
        end if;
        v_start := v_start + length(v_function.after);
        execute concat(
            left(v_definition, v_start - 1),
            format(E'    lock table %s in row exclusive mode; -- before reading, for REINDEX\n', v_function.tables),
            '    v_held' || v_declared || E'\n', -- nothing if it is null
            substr(v_definition, v_start)
        );
    end loop;
end
$$;
