-- The catalog, for triggers: the jobs schema, tables with their columns and types, and the objects that exist.

-- name: jobs_schema
-- $1: the jobs schema's name. Whether it exists, and how triggers can add jobs to it.
select
    to_regclass(format('%I.jobs', $1::text)) is not null as has_jobs,
    to_regclass(format('%I.jobfn_migrations', $1::text)) is not null
        and to_regprocedure(format('%I.jwt_claim(text)', $1::text)) is not null as is_ours,
    exists (
        select from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text)) and p.proname = 'add_job'
            and p.proargnames[1] = 'identifier'
    ) as by_identifier,
    exists (
        select from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text)) and p.proname = 'add_job'
            and p.proargnames[1] = 'db_id'
    ) as by_tenant,
    exists (
        select from pg_attribute a
        where a.attrelid = to_regclass(format('%I.jobs', $1::text)) and a.attname = 'database_id' and a.attnotnull
    ) as needs_tenant,
    exists (
        select from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text)) and p.proname = 'add_job'
            and 'entity_id' = any (p.proargnames)
    ) as accepts_entity,
    to_regprocedure(format('%I.signal_jobs(text[], text, json[])', $1::text)) is not null as accepts_signals,
    exists (
        select from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident($1::text)) and p.proname = 'add_unique_jobs'
    ) as accepts_unique,
    to_regprocedure(format('%I.set_default_expiry(timestamptz)', $1::text)) is not null as accepts_expiry,
    to_regclass(format('%I.task_settings', $1::text)) is not null as has_task_settings,
    current_user::text as current_role

-- name: function_roles
-- $1: the jobs schema's name, $2: oids of tables. For each table, the role whose rights its functions have, and whether
-- that role may enqueue: on jobfn's own schema by inserting into the table, which also needs jwt_claim and add_job, or
-- by add_job alone. It is the table's owner, unless this role cannot give a function to the owner. $3: take this role.
with roles as (
    select
        c.oid as table_oid,
        c.relowner as owner,
        case
            when $3 then me.oid
            when pg_has_role(c.relowner, 'usage') and has_schema_privilege(c.relowner, n.oid, 'create') then c.relowner
            when me.rolsuper then c.relowner
            else me.oid
        end as role,
        me.oid as me,
        n.oid as schema
    from pg_class c
    cross join (select oid, rolsuper from pg_roles where rolname = current_user) as me
    left join pg_namespace n on n.nspname = $1::text
    where c.oid = any ($2::oid[])
),
forms as (
    select
        r.table_oid,
        p.proargnames[1] = 'identifier' and p.proargtypes[1] = 'json'::regtype as inserts,
        p.prosecdef
            or has_table_privilege(r.role, to_regclass(format('%I.jobs', $1::text)), 'insert') as may_enqueue
    from roles r
    join pg_proc p on p.pronamespace = r.schema and p.proname = 'add_job'
    where has_function_privilege(r.role, p.oid, 'execute') and has_schema_privilege(r.role, r.schema, 'usage')
)
select
    r.table_oid,
    pg_get_userbyid(r.owner)::text as owner,
    pg_get_userbyid(r.role)::text as role,
    r.role = r.me as is_current,
    r.role = r.me and current_user = session_user as is_session_role, -- code can reset a role that was set
    pg_has_role(r.owner, r.role, 'usage') as is_safe,
    exists (select from forms f where f.table_oid = r.table_oid and f.may_enqueue) as may_call,
    exists (select from forms f where f.table_oid = r.table_oid and f.may_enqueue and f.inserts) as may_add,
    coalesce(has_function_privilege(r.role, to_regprocedure(format(
        '%I.add_jobs(text, json[], text[], text[], timestamptz[], int, int, uuid)', $1::text
    )), 'execute'), false) as may_add_jobs,
    exists (select from forms f where f.table_oid = r.table_oid and f.inserts)
        and has_table_privilege(r.role, to_regclass(format('%I.jobs', $1::text)), 'insert')
        and coalesce(has_table_privilege(r.role, to_regclass(format('%I.task_settings', $1::text)), 'select'), true)
        and coalesce(
            has_function_privilege(r.role, to_regprocedure(format('%I.has_task_settings()', $1::text)), 'execute'), true
        )
        and coalesce(has_sequence_privilege(r.role, to_regclass(format('%I.jobs_id_seq', $1::text)), 'usage'), true)
        and coalesce(
            has_function_privilege(r.role, to_regprocedure(format('%I.jwt_claim(text)', $1::text)), 'execute'), true
        ) as may_insert
from roles r

-- name: foreign_types
-- $1: the oid of a table, $2: a role. The types of the table whose owners do not have the rights of the role: casts and
-- checks of a type run with the rights of the role that reads or writes a value.
with recursive reachable (oid) as (
    select a.atttypid from pg_attribute a where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
    union
    select part.oid
    from reachable r
    join pg_type t on t.oid = r.oid
    cross join lateral (
        select t.typbasetype where t.typtype = 'd'
        union all
        select t.typelem where t.typelem <> 0
        union all
        select g.rngsubtype from pg_range g where t.oid in (g.rngtypid, g.rngmultitypid)
        union all
        select a.atttypid
        from pg_attribute a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as part (oid)
)
select format_type(t.oid, -1) as name, pg_get_userbyid(t.typowner)::text as owner
from reachable r
join pg_type t on t.oid = r.oid
where not pg_has_role(t.typowner, $2::text::name, 'usage') and t.typelem = 0
order by 1

-- name: tables
-- $1 schemas, $2 names. The relations with these names.
select
    n.nspname::text as schema,
    c.relname::text as name,
    c.oid,
    c.relkind::text as kind,
    c.relkind in ('r', 'p') and has_table_privilege(c.oid, 'select') as is_lockable,
    c.relkind = 'r' and not c.relispartition and not exists (
        select from pg_inherits i where c.oid in (i.inhrelid, i.inhparent)
    ) as stands_alone,
    array(
        select a.attname::text
        from pg_index x
        cross join lateral unnest(x.indkey) with ordinality as k (number, position)
        join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
        where x.indrelid = c.oid and x.indisprimary
        order by k.position
    ) as primary_key
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name

-- name: lookup_tables
-- $1 a name, $2 its schema or null, $3 a column, $4 the trigger's table, $5 its foreign key. The tables with the name,
-- with the type of their column, and with the column that the foreign key refers to: by a constraint, or else their
-- primary key. $6 is the role that reads them: its rights, and whether their owner has all rights of this role.
select
    n.nspname::text as schema,
    c.relname::text as name,
    pg_get_userbyid(c.relowner)::text as owner,
    pg_has_role(c.relowner, $6::text::name, 'usage') as is_safe,
    has_schema_privilege($6::text::name, n.oid, 'usage') as may_use,
    array(
        select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and has_column_privilege($6::text::name, c.oid, a.attnum, 'select')
    ) as readable,
    array(
        select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns,
    format_type(field.atttypid, -1) as field_type,
    coalesce(nullif(field_type.typbasetype, 0), field_type.oid) = 'uuid'::regtype as holds_uuids,
    coalesce(
        (
            select a.attname::text
            from pg_constraint k
            join pg_attribute own on own.attrelid = k.conrelid and own.attnum = k.conkey[1] and own.attname = $5
            join pg_attribute a on a.attrelid = k.confrelid and a.attnum = k.confkey[1]
            where k.contype = 'f' and k.conrelid = $4::text::regclass and k.confrelid = c.oid
                and cardinality(k.conkey) = 1
            limit 1
        ),
        (
            select a.attname::text
            from pg_index x
            join pg_attribute a on a.attrelid = c.oid and a.attnum = x.indkey[0]
            where x.indrelid = c.oid and x.indisprimary and x.indnkeyatts = 1
        )
    ) as key
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute field
    on field.attrelid = c.oid and field.attname = $3 and field.attnum > 0 and not field.attisdropped
left join pg_type field_type on field_type.oid = field.atttypid
where c.relname = $1 and c.relkind in ('r', 'p', 'f', 'v', 'm')
    and case when $2::text is null then n.nspname !~ '^pg_' and n.nspname <> 'information_schema' else n.nspname = $2 end
order by n.nspname

-- name: lookup_table_names
-- $1 a schema, or null for all. The names of its tables.
select distinct c.relname::text as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'f', 'v', 'm')
    and case when $1::text is null then n.nspname !~ '^pg_' and n.nspname <> 'information_schema' else n.nspname = $1 end

-- name: columns
-- $1: the oids of tables. Their columns in order.
select
    a.attrelid as table_oid,
    a.attname::text as name,
    a.atttypid as type_oid,
    not a.attnotnull as nullable,
    a.atttypid = 'numeric'::regtype and a.atttypmod >= 4 and ((a.atttypmod - 4) & 2047) = 0 as whole_numbers,
    a.attgenerated = 'v' as is_virtual
from pg_attribute a
where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum

-- name: types
-- $1: the oids of types. These types and their elements, base types and attributes.
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
        -- an operator class of the type, or of a type with the same binary form, as text is for varchar
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
            and pg_has_role(o.oprowner, t.typowner, 'usage') -- others may define operators for any type
            and o.oprname in ('=', '<>', '<', '>', '<=', '>=', '~~', '!~~')
    ) as operators,
    exists (
        select from pg_cast c where c.castsource = t.oid and c.casttarget = 'json'::regtype and c.castmethod = 'f'
    ) as sends_json
from reachable r
join pg_type t on t.oid = r.oid
join pg_namespace n on n.oid = t.typnamespace

-- name: existing_triggers
-- $1: the oids of tables, or null for every table; $2: names of triggers to include though jobfn did not make them.
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

-- name: existing_functions
-- $1: the jobs schema's name, $2: oids of functions, $3: names of functions in the jobs schema to include though jobfn
-- did not make them.
select
    p.oid,
    n.nspname::text as schema,
    p.proname::text as name,
    p.prosrc as body,
    obj_description(p.oid, 'pg_proc') as comment,
    nullif(pg_get_userbyid(p.proowner), current_user)::text as owner,
    array(
        select case granted.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(granted.grantee)) end
        from aclexplode(p.proacl) as granted
        where granted.grantee <> p.proowner
        order by 1
    ) as grantees,
    not exists (
        select
        from pg_trigger t
        join pg_class c on c.oid = t.tgrelid
        -- with other rights it runs code of the table's owner, and its owner can make it run code of writers
        where t.tgfoid = p.oid and t.tgparentid = 0 and not (
            pg_has_role(c.relowner, p.proowner, 'usage') and pg_has_role(p.proowner, c.relowner, 'usage')
        )
    ) as is_safe,
    (select count(*) from pg_trigger t where t.tgfoid = p.oid and t.tgparentid = 0) as users
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.oid = any ($2::oid[])
    or (n.nspname = $1 and p.pronargs = 0 and (
        obj_description(p.oid, 'pg_proc') like 'Made by jobfn;%' or p.proname = any ($3::text[])
    ))
order by n.nspname, p.proname
