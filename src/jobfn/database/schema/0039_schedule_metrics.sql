-- Roles of workers may count schedules that are paused or broken, for metrics.

do $$
declare
    v_schema constant oid := (
        select c.relnamespace from pg_catalog.pg_class c where c.reltype = pg_typeof(null::@schema@.jobs)
    );
    v_grant record;
begin
    for v_grant in
        select distinct schedules.oid::regclass as name, quote_ident(pg_get_userbyid(granted.grantee)) as role
        from pg_catalog.pg_proc old
        cross join lateral aclexplode(old.proacl) as granted
        join pg_catalog.pg_class schedules on schedules.relname = 'scheduled_jobs' and schedules.relnamespace = v_schema
        where old.proname = 'claim_jobs' and old.pronamespace = v_schema and granted.grantee not in (0, old.proowner)
    loop
        execute format('grant select (paused_at, last_error) on %s to %s', v_grant.name, v_grant.role);
    end loop;
end
$$;
