-- A unique job whose payload was replaced by its job key no longer stands for the payload that it was added with.
--
-- insert_unique_job compares the job that holds a key, so it has the compared fields as an argument. The texts of the
-- functions that call it are edited, which keeps their grants and comments.
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
            and p.proname in ('insert_unique_job', 'add_unique_job', 'add_unique_jobs', 'insert_unique_by_settings')
    loop
        for v_edit in
            select * from (
                values
                    ('ignore_failures boolean, OUT', 'ignore_failures boolean, unique_by text[], OUT'),
                    (
                        '.holds_unique_key(v_holder) then',
                        '.holds_unique_key(v_holder) and (
            v_holder.unique_until = ''expired''
            -- False if the job was replaced by its job key, with another payload.
            or exists (
                select
                from ' || v_schema::regnamespace || '.jobs j
                where j.id = v_holder.job_id
                    and case when coalesce(unique_by, ''{}'') = ''{}'' or json_typeof(j.payload) = ''object'' then
                        ' || v_schema::regnamespace || '.unique_job_key(j.task_identifier, j.payload, unique_by) = unique_key
                    end
            )
        ) then'
                    ),
                    ('entity_type, depends_on, ignore_failures' || E'\n    );', 'entity_type, depends_on, ignore_failures, unique_by' || E'\n    );'),
                    ('null, null, null, null, false' || E'\n    ) as added', 'null, null, null, null, false, unique_by' || E'\n    ) as added'),
                    ('new.entity_type, null, false' || E'\n    ) as added', 'new.entity_type, null, false, settings.unique_by' || E'\n    ) as added')
            ) as edit (old, new)
        loop
            v_definition := replace(v_definition, v_edit.old, v_edit.new);
        end loop;
        execute v_definition;
    end loop;
end
$$;

drop function @schema@.insert_unique_job(
    bytea, interval, text, text, text, json, text, text, timestamptz, int, int, uuid, uuid, text, bigint[], boolean
);

comment on function @schema@.insert_unique_job is
    'Insert a job unless another one holds its unique key. Part of add_unique_job and add_unique_jobs.';
revoke execute on function @schema@.insert_unique_job from public;
