-- As add_job, with the tenant as $8.
select (@schema@.add_job(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int),
    db_id => cast(cast($8 as text) as uuid)
)).id
