-- $1 traceparent, $2 tracestate: jobs that are added until the transaction ends are a part of that trace; '' for none.
select set_config('jobfn.traceparent', $1, true), set_config('jobfn.tracestate', $2, true)
