-- Which trace jobs are a part of that are added now (0010_trace.sql); null where that was never said.
select current_setting('jobfn.traceparent', true) as traceparent, current_setting('jobfn.tracestate', true) as tracestate
