-- $1 the job's id, as text.
select @schema@.job_result(cast(cast($1 as text) as bigint))
