"""Print the jobs schema as PostgreSQL sees it, from the catalog, for ``src/jobfn/database/schema.sql``.

``make schema-snapshot`` writes that file, and ``test_schema_snapshot.py`` compares it with a migrated database, so that
a review shows what a new migration changes. Unlike pg_dump's, the text is the same on PostgreSQL 14 to 18.
"""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres

SCHEMA = "app_jobs"
SNAPSHOT = Path(__file__).parent.parent / "src" / "jobfn" / "database" / "schema.sql"
HEADER = """\
-- The whole jobs schema as PostgreSQL sees it, in the order of names. Generated: do not edit.
-- Change it with a new migration in schema/, and run `make schema-snapshot`.
"""

#: Queries that return one column of text, in the order of the file. $1 is the schema's name.
TABLES = r"""
select format(
    E'create table %s (\n%s\n)%s%s;', c.oid::regclass,
    string_agg('    ' || line.text, E',\n' order by line.kind, line.position, line.text collate "C"),
    ' with (' || array_to_string(c.reloptions, ', ') || ')',
    case
        when c.relkind = 'p' then ' partition by ' || pg_get_partkeydef(c.oid)
        when c.relispartition then ' partition ' || pg_get_expr(c.relpartbound, c.oid)
    end
)
from pg_class c
cross join lateral (
    select 1 as kind, a.attnum as position, concat_ws(' ',
        quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
        case
            when a.attgenerated <> '' then 'generated always as ' || pg_get_expr(d.adbin, d.adrelid) || ' stored'
            else 'default ' || pg_get_expr(d.adbin, d.adrelid)
        end
    ) as text
    from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    union all
    select 2, 0, format('constraint %I %s', k.conname, pg_get_constraintdef(k.oid))
    from pg_constraint k
    where k.conrelid = c.oid and k.contype <> 'n' -- not null, which only PostgreSQL 18 lists here
) line
where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p')
group by c.oid
order by c.relname collate "C"
"""
TYPES = r"""
select format(
    E'create type %s as (\n%s\n);', c.oid::regclass,
    string_agg(
        format('    %s %s', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod)), E',\n' order by a.attnum
    )
)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = $1::regnamespace and c.relkind = 'c'
group by c.oid, c.relname
order by c.relname collate "C"
"""
INDEXES = """
select pg_get_indexdef(i.indexrelid) || ';'
from pg_index i
join pg_class c on c.oid = i.indexrelid
where c.relnamespace = $1::regnamespace and not exists (select from pg_constraint k where k.conindid = c.oid)
order by c.relname collate "C"
"""
VIEWS = r"""
select format(E'create view %s as\n%s', c.oid::regclass, pg_get_viewdef(c.oid, true))
from pg_class c
where c.relnamespace = $1::regnamespace and c.relkind = 'v'
order by c.relname collate "C"
"""
TRIGGERS = """
select pg_get_triggerdef(t.oid) || ';'
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
where c.relnamespace = $1::regnamespace and not t.tgisinternal
order by c.relname collate "C", t.tgname collate "C"
"""
FUNCTIONS = """
select rtrim(pg_get_functiondef(p.oid), E'\n') || ';'
from pg_proc p
where p.pronamespace = $1::regnamespace
order by p.proname collate "C", pg_get_function_identity_arguments(p.oid) collate "C"
"""
COMMENTS = """
select format('comment on %s is %L;', o.name, o.comment)
from (
    select format('%s %s', case c.relkind when 'v' then 'view' else 'table' end, c.oid::regclass) as name,
        obj_description(c.oid, 'pg_class') as comment
    from pg_class c
    where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p', 'v')
    union all
    select format('type %s', c.oid::regclass), obj_description(c.reltype, 'pg_type')
    from pg_class c
    where c.relnamespace = $1::regnamespace and c.relkind = 'c'
    union all
    select format('column %s.%I', c.oid::regclass, a.attname), col_description(c.oid, a.attnum)
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = $1::regnamespace
    union all
    select format('function %s', p.oid::regprocedure), obj_description(p.oid, 'pg_proc')
    from pg_proc p
    where p.pronamespace = $1::regnamespace
) o
where o.comment is not null
order by o.name collate "C"
"""
GRANTS = """
select format(
    'grant %s on %s to %s;', lower(g.privilege_type), o.name,
    case g.grantee when 0 then 'public' else g.grantee::regrole::text end
)
from (
    select p.oid::regprocedure::text as name, p.proowner as owner,
        coalesce(p.proacl, acldefault('f', p.proowner)) as acl
    from pg_proc p
    where p.pronamespace = $1::regnamespace
    union all
    select c.oid::regclass::text, c.relowner, c.relacl
    from pg_class c
    where c.relnamespace = $1::regnamespace
) o
cross join lateral aclexplode(o.acl) g
where g.grantee <> o.owner
order by 1
"""


async def snapshot(connection: asyncpg.Connection, schema: str = SCHEMA) -> str:
    """Return the snapshot of a schema."""
    parts = [HEADER]
    async with connection.transaction():
        await connection.execute("set local search_path = ''")  # so that PostgreSQL qualifies every name
        for query in (TABLES, TYPES, INDEXES, VIEWS, FUNCTIONS, TRIGGERS, COMMENTS, GRANTS):
            texts = [row[0] for row in await connection.fetch(query, schema)]
            if query is VIEWS:
                texts = [_without_qualifiers(text) for text in texts]
            separator = "\n\n" if query in {TABLES, TYPES, FUNCTIONS, VIEWS} else "\n"
            if texts:
                parts.append(separator.join(texts) + "\n")
    return "\n".join(parts)


def _without_qualifiers(view: str) -> str:
    """Remove the table before each column: PostgreSQL 16 and later omit it if a query has only one table."""
    head, body = view.split("\n", 1)
    return head + "\n" + re.sub(rf"\b(?!{SCHEMA}\.)\w+\.(?=\w)", "", body)


@contextlib.contextmanager
def _server() -> Iterator[str]:
    dsn = os.environ.get("DATABASE_URL")
    if dsn:
        yield dsn
        return
    embedded = EmbeddedPostgres()
    embedded.start()
    try:
        yield embedded.dsn()
    finally:
        embedded.stop()


async def _write(dsn: str) -> None:
    """Write the snapshot of a new database."""
    name = "jobfn_schema_snapshot"
    admin = await asyncpg.connect(dsn)
    await admin.execute(f"drop database if exists {name}")
    await admin.execute(f"create database {name}")
    connection = await asyncpg.connect(dsn, database=name)
    try:
        await migrate(connection, SCHEMA)
        SNAPSHOT.write_text(await snapshot(connection), "utf-8")
    finally:
        await connection.close()
        await admin.execute(f"drop database {name}")
        await admin.close()


if __name__ == "__main__":
    with _server() as dsn:
        asyncio.run(_write(dsn))
    sys.stdout.write(f"wrote {SNAPSHOT.relative_to(Path.cwd())}\n")
