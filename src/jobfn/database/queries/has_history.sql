-- $1: the schema's name. Whether it has a history of attempts.
select to_regclass(format('%I.job_runs', $1::text)) is not null
