-- $1: the jobs schema's name, $2: oids of functions, $3: names in the jobs schema that are also asked for.
select
    p.oid,
    n.nspname::text as schema,
    p.proname::text as name,
    p.prosrc as body,
    obj_description(p.oid, 'pg_proc') as comment,
    (select count(*) from pg_trigger t where t.tgfoid = p.oid and t.tgparentid = 0) as users
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.oid = any ($2::oid[])
    or (n.nspname = $1 and p.pronargs = 0 and (
        obj_description(p.oid, 'pg_proc') like 'Made by jobfn;%' or p.proname = any ($3::text[])
    ))
order by n.nspname, p.proname
