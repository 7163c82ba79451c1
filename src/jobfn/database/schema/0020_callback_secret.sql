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

-- Grant added objects to the roles that were granted a known one: a function, a relation, or a column ('jobs.id').
create function @schema@.grant_like(known text, added text[], privileges text default 'select') returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema constant oid := (select relnamespace from pg_class where oid = '@schema@.jobs'::regclass);
    v_grant text;
begin
    for v_grant in
        select format('grant %s to %I', new.object, pg_get_userbyid(granted.grantee))
        from (
            select proacl as acl, proowner as owner from pg_proc where pronamespace = v_schema and proname = known
            union all
            select relacl, relowner from pg_class where relnamespace = v_schema and relname = known
            union all
            select a.attacl, c.relowner
            from pg_class c
            join pg_attribute a on a.attrelid = c.oid
            where c.relnamespace = v_schema and format('%s.%s', c.relname, a.attname) = known
        ) old
        cross join lateral aclexplode(old.acl) granted
        cross join (
            select format('execute on function %s', oid::regprocedure) from pg_proc
            where pronamespace = v_schema and proname = any (added)
            union all
            select format('%s on %s', privileges, oid::regclass) from pg_class
            where relnamespace = v_schema and relname = any (added)
        ) new (object)
        where granted.privilege_type in ('EXECUTE', 'SELECT') and granted.grantee not in (0, old.owner)
    loop
        execute v_grant;
    end loop;
end
$$;

revoke execute on function @schema@.grant_like(text, text[], text) from public;

-- The roles that may read the id of the installation are those of workers.
select @schema@.grant_like('installation_id', '{callback_secret, is_locked_without_lease}');

revoke execute on all functions in schema @schema@ from public;
