-- The secret that signs callback URLs where JOBS_CALLBACK_SECRET is not set, so that workers and callback servers of a
-- schema agree without a setting.

-- Three random UUIDs have 366 random bits; the hash makes them 64 hexadecimal digits.
alter table @schema@.installation
    add column callback_secret text not null default encode(
        sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex'
    );

comment on table @schema@.installation is
    'One row: a random id and a random secret of this schema. A copy of the database has the same.';

create function @schema@.callback_secret() returns text
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select i.callback_secret from @schema@.installation i
$$;

comment on function @schema@.callback_secret() is
    'The secret that signs callback URLs. Only for workers and callback servers.';

-- The platform's worker locks jobs without a lease and signs no URL; jobfn's always has a lease.
create function @schema@.is_locked_without_lease(worker_id text, job_id bigint) returns boolean
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select j.lease_expires_at is null
    from @schema@.jobs j
    where j.id = is_locked_without_lease.job_id and j.locked_by = is_locked_without_lease.worker_id
$$;

comment on function @schema@.is_locked_without_lease(text, bigint) is
    'Whether the worker has locked the job without a lease; null if it has not locked it.';

-- The roles that may read the id of the installation are those of workers.
do $$
declare
    v_function regprocedure;
    v_role text;
begin
    for v_function, v_role in
        select new.oid, quote_ident(pg_get_userbyid(granted.grantee))
        from pg_catalog.pg_class c
        join pg_catalog.pg_proc old on old.pronamespace = c.relnamespace and old.proname = 'installation_id'
        join pg_catalog.pg_proc new on new.pronamespace = c.relnamespace
        cross join lateral aclexplode(old.proacl) as granted
        where c.reltype = pg_typeof(null::@schema@.installation)
            and new.proname in ('callback_secret', 'is_locked_without_lease')
            and granted.grantee not in (0, old.proowner)
    loop
        execute format('grant execute on function %s to %s', v_function, v_role);
    end loop;
end
$$;

revoke execute on all functions in schema @schema@ from public;
