-- By statistics of a flood of one tenant, PostgreSQL read the whole flood by jobs_ready_idx and sorted it, to find the
-- first jobs of each tenant, which jobs_tenant_ready_idx has in order.

alter function @schema@.claim_jobs(text, text[], interval, int, interval, text[], bigint)
    set enable_incremental_sort = off;
alter function @schema@.claim_jobs_of_queues(text, text[], text[], interval, int, interval, text[], bigint)
    set enable_incremental_sort = off;
