-- $1: the schema's name. Whether it has our record of migrations, and whether it has a jobs table.
select
    to_regclass(format('%I.jobfn_migrations', $1::text)) is not null as has_record,
    to_regclass(format('%I.jobs', $1::text)) is not null as has_jobs
