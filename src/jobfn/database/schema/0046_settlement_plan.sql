-- A plan for one id looks cheaper than the one for any number of ids, so PostgreSQL planned each small settlement again.
-- Planning took longer than the settlement.

alter function @schema@.settle_jobs(text[], bigint[], int[], text[], text[], interval[])
    set plan_cache_mode = force_generic_plan;
