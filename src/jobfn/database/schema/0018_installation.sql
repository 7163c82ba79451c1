-- The identity of this installation, for idempotency keys: the ids of jobs begin at 1 in every database.

create table @schema@.installation (
    id uuid not null default gen_random_uuid()
);

comment on table @schema@.installation is 'One row: a random id of this schema. A copy of the database has the same.';

insert into @schema@.installation default values;

create function @schema@.installation_id() returns uuid
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select i.id from @schema@.installation i
$$;

comment on function @schema@.installation_id() is 'The random id of this schema. A part of idempotency keys.';

-- The roles that may claim jobs may read it.
do $$
declare
    v_claim_jobs constant oid := (
        select p.oid
        from pg_catalog.pg_proc p
        where p.proname = 'claim_jobs' and p.prorettype = pg_typeof(null::@schema@.jobs)::oid
    );
    v_new constant regprocedure := (
        select new.oid
        from pg_catalog.pg_proc new
        join pg_catalog.pg_proc old on old.oid = v_claim_jobs and old.pronamespace = new.pronamespace
        where new.proname = 'installation_id'
    );
    v_role text;
begin
    for v_role in
        select quote_ident(pg_get_userbyid(granted.grantee))
        from pg_catalog.pg_proc p
        cross join lateral aclexplode(p.proacl) as granted
        where p.oid = v_claim_jobs and granted.grantee not in (0, p.proowner)
    loop
        execute format('grant execute on function %s to %s', v_new, v_role);
    end loop;
end
$$;

revoke execute on all functions in schema @schema@ from public;
