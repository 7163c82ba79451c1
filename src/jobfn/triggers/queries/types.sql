-- $1: the oids of types. These types and all that they are made of: elements, base types, attributes.
with recursive reachable (oid) as (
    select unnest($1::oid[])
    union
    select part.oid
    from reachable r
    join pg_type t on t.oid = r.oid
    cross join lateral (
        select t.typbasetype where t.typtype = 'd'
        union all
        select t.typelem where t.typsubscript = 'array_subscript_handler'::regproc
        union all
        select a.atttypid
        from pg_attribute a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as part (oid)
)
select
    t.oid,
    format_type(t.oid, -1) as name,
    case when n.nspname = 'pg_catalog' then t.typname::text end as catalog_name,
    case when t.typsubscript = 'array_subscript_handler'::regproc then 'a' else t.typtype::text end as made,
    t.typelem as element_oid,
    t.typbasetype as base_oid,
    t.typnotnull as not_null,
    array(select e.enumlabel::text from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder) as labels,
    (
        select coalesce(json_agg(json_build_array(a.attname, a.atttypid::bigint) order by a.attnum), '[]')
        from pg_attribute a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as attributes,
    t.typtype in ('e', 'r', 'm') or exists (
        -- of its own, or of a type that it is read as without a change, as varchar is of text
        select
        from pg_opclass o
        join pg_am m on m.oid = o.opcmethod
        where m.amname in ('btree', 'hash') and o.opcdefault and (
            o.opcintype = t.oid or exists (
                select from pg_cast c
                where c.castsource = t.oid and c.casttarget = o.opcintype and c.castmethod = 'b' and c.castcontext = 'i'
            )
        )
    ) as comparable,
    (
        select coalesce(json_object_agg(o.oprname, quote_ident(s.nspname) order by s.nspname <> n.nspname desc), '{}')
        from pg_operator o
        join pg_namespace s on s.oid = o.oprnamespace
        where t.typtype = 'b' and o.oprleft = t.oid and o.oprright = t.oid and s.nspname <> 'pg_catalog'
            and o.oprname in ('=', '<>', '<', '>', '<=', '>=', '~~', '!~~')
    ) as operators,
    exists (
        select from pg_cast c where c.castsource = t.oid and c.casttarget = 'json'::regtype and c.castmethod = 'f'
    ) as sends_json
from reachable r
join pg_type t on t.oid = r.oid
join pg_namespace n on n.oid = t.typnamespace
