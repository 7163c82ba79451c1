-- A query (@query@) that adds jobs, which are a part of the trace of $1 traceparent and $2 tracestate; the session's own
-- settings are as before when it is done. Each step reads what the one before it made, and so comes after it.
with before as materialized (
    select
        coalesce(current_setting('jobfn.traceparent', true), '') as traceparent,
        coalesce(current_setting('jobfn.tracestate', true), '') as tracestate
),
told as materialized (
    select
        set_config('jobfn.traceparent', cast($1 as text), true),
        set_config('jobfn.tracestate', cast($2 as text), true),
        before.traceparent,
        before.tracestate
    from before
),
added as materialized (
    select (
@query@
    ) as answer, told.traceparent, told.tracestate
    from told
)
select added.answer
from added
cross join lateral (
    select
        set_config('jobfn.traceparent', added.traceparent, true),
        set_config('jobfn.tracestate', added.tracestate, true)
    where added.answer is not null
    offset 0
) as restored
