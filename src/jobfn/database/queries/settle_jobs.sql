-- $1-$3 completed jobs: their workers, ids, attempts (null: any). $4-$7 failed ones, with their errors.
select id from @schema@.complete_held_jobs($1, $2, $3)
union all
select id from @schema@.fail_held_jobs($4, $5, $6, $7)
