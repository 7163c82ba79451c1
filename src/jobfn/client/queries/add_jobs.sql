-- $1 identifier, $2 payloads, $3 keys, $4 queues, $5 run_ats, each as text[] or null, $6 max_attempts, $7 priority,
-- $8 tenant or null for the session's: as text.
select @schema@.add_jobs(
    cast($1 as text), cast(cast($2 as text[]) as json[]), cast($3 as text[]), cast($4 as text[]),
    cast(cast($5 as text[]) as timestamptz[]), cast(cast($6 as text) as int), cast(cast($7 as text) as int),
    cast(cast($8 as text) as uuid)
)
