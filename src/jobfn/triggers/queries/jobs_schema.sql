-- $1: the jobs schema's name. Whether it is there, and how jobs get into it.
select
    to_regclass(format('%I.jobs', $1::text)) is not null as has_jobs,
    to_regclass(format('%I.jobfn_migrations', $1::text)) is not null
        and to_regprocedure(format('%I.session_claim(text)', $1::text)) is not null as is_ours,
    exists (
        select from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text)) and p.proname = 'add_job'
            and p.proargnames[1] = 'identifier'
    ) as by_identifier,
    exists (
        select from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text)) and p.proname = 'add_job'
            and p.proargnames[1] = 'db_id'
    ) as by_tenant,
    exists (
        select from pg_attribute a
        where a.attrelid = to_regclass(format('%I.jobs', $1::text)) and a.attname = 'database_id' and a.attnotnull
    ) as needs_tenant,
    -- Triggers enqueue with the rights of this role: on our own schema they insert into the table and call session_claim
    -- and add_job, elsewhere add_job alone.
    has_schema_privilege(to_regnamespace(quote_ident($1::text)), 'usage')
        and has_table_privilege(to_regclass(format('%I.jobs', $1::text)), 'insert')
        and coalesce(has_sequence_privilege(to_regclass(format('%I.jobs_id_seq', $1::text)), 'usage'), true)
        and has_function_privilege(to_regprocedure(format('%I.session_claim(text)', $1::text)), 'execute')
        and has_function_privilege(
            to_regprocedure(format('%I.add_job(text, json, text, text, timestamptz, int, int)', $1::text)), 'execute'
        ) as may_insert,
    has_schema_privilege(to_regnamespace(quote_ident($1::text)), 'usage') and exists (
        select from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text)) and p.proname = 'add_job'
            and has_function_privilege(p.oid, 'execute')
    ) as may_call
