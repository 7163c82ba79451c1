-- Explicit values of max_attempts and priority count, also 25 and 0: those that are left out are null inside.
--
-- Only defaults and one expression of each function change, so their texts are edited, which keeps grants and comments.
do $$
declare
    v_schema constant oid := (
        select c.relnamespace from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)
    );
    v_definition text;
    v_edit record;
begin
    for v_definition in
        select pg_get_functiondef(p.oid)
        from pg_catalog.pg_proc p
        where p.pronamespace = v_schema
            and p.proname in (
                'add_job', 'add_jobs', 'add_job_after', 'add_batch', 'add_debounced_job', 'add_unique_job',
                'add_unique_jobs', 'insert_job', 'replace_unique_job', 'enqueue_schedule', 'insert_child'
            )
    loop
        for v_edit in
            select * from (
                values
                    ('max_attempts integer DEFAULT 25', 'max_attempts integer DEFAULT NULL::integer'),
                    ('priority integer DEFAULT 0', 'priority integer DEFAULT NULL::integer'),
                    ('nullif(v_new.max_attempts, 25)', 'insert_job.max_attempts'),
                    ('nullif(v_new.priority, 0)', 'insert_job.priority'),
                    ('nullif(v_max_attempts, 25)', 'add_jobs.max_attempts'),
                    ('nullif(v_priority, 0)', 'add_jobs.priority'),
                    ('nullif(replace_unique_job.max_attempts, 25)', 'replace_unique_job.max_attempts'),
                    ('nullif(replace_unique_job.priority, 0)', 'replace_unique_job.priority'),
                    -- a schedule's row always has values
                    ('v_schedule.max_attempts,', 'nullif(v_schedule.max_attempts, 25),'),
                    (E'v_schedule.priority\n', E'nullif(v_schedule.priority, 0)\n'),
                    ('parent.priority), parent.organization_id', 'nullif(parent.priority, 0)), parent.organization_id')
            ) as edit (old, new)
        loop
            v_definition := replace(v_definition, v_edit.old, v_edit.new);
        end loop;
        execute v_definition;
    end loop;
end
$$;
