-- $1 identifier, $2 payload, $3 key, $4 queue, $5 run_at or null for now, $6 max_attempts, $7 priority: all as text.
select (@schema@.add_job(
    identifier => cast($1 as text), payload => cast(cast($2 as text) as json), job_key => cast($3 as text),
    queue_name => cast($4 as text), run_at => coalesce(cast(cast($5 as text) as timestamptz), now()),
    max_attempts => cast(cast($6 as text) as int), priority => cast(cast($7 as text) as int)
)).id
