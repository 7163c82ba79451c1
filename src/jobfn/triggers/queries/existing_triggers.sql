-- $1: the oids of tables, or null for every table; $2: names that are also asked for, marked as ours or not.
select
    n.nspname::text as schema,
    c.relname::text as table,
    t.tgname::text as name,
    t.tgenabled::text as enabled,
    obj_description(t.oid, 'pg_trigger') as comment,
    t.tgfoid as function_oid
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
where not t.tgisinternal
    and t.tgparentid = 0 -- a partition's copy goes with its parent's trigger
    and ($1::oid[] is null or t.tgrelid = any ($1::oid[]))
    and (obj_description(t.oid, 'pg_trigger') like 'Made by jobfn;%' or t.tgname = any ($2::text[]))
order by n.nspname, c.relname, t.tgname
