"""Choose the role that owns a trigger's function, and find the roles whose code would run with the rights of another.

The casts, checks and operators of a table's types run with the rights of the trigger's function. So the function
belongs to the table's owner, who can run code with these rights anyway, and not to the role that applies the blueprint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from jobfn.sql.quoting import quote_identifier
from jobfn.triggers.catalog import query
from jobfn.triggers.table import EnqueueMethod, JobsSchema, Table, printable


@dataclass(frozen=True, slots=True)
class FunctionRole:
    """The role that owns the functions of a table's triggers.

    Attributes:
        name: The table's owner; the current role if that role cannot give a function to the owner.
        jobs: The jobs schema, with the enqueue method for this role.
        is_current: Whether this is the current role.
        is_session_role: Whether this is also the role that logged in; code can reset a role that was only set.
        may_enqueue: Whether it may add jobs.
        risks: Why code of other roles would run with its rights; empty if that cannot happen.
    """

    name: str
    jobs: JobsSchema
    is_current: bool
    is_session_role: bool
    may_enqueue: bool
    risks: tuple[str, ...] = ()

    @property
    def may_run_code(self) -> bool:
        """Whether this session may run code of the table's types: it is the current role's, or trusted by it."""
        return self.is_session_role and not self.risks

    def problems(self, table: Table) -> list[str]:
        """Return why the triggers of a table must not be applied."""
        problems = list(self.risks)
        if not self.may_enqueue and not self.is_current:
            problems.append(
                f"role {printable(self.name)} owns table {table.label} and may not add jobs: run {self._grant()}"
            )
        return problems

    def _grant(self) -> str:
        if self.jobs.enqueue_method is EnqueueMethod.INSERT:
            return f"`jobfn db migrate --grant-enqueue {printable(self.name)}`"
        grant = printable(f"grant usage on schema {self.jobs.sql} to {quote_identifier(self.name)}")
        return f"`{grant}`, and grant what its add_job needs"


async def read_function_roles(
    connection: "asyncpg.Connection[Any]", jobs: JobsSchema, tables: Mapping[int, Table], *, trust_owners: bool = False
) -> dict[int, FunctionRole]:
    """Return the role for each table, by oid.

    Args:
        connection: Connection that can read the catalog.
        jobs: The jobs schema.
        tables: Tables by oid.
        trust_owners: Whether the current role takes the place of an owner who may not enqueue.
    """
    roles = await _read(connection, jobs, tables)
    barred = {oid: tables[oid] for oid, role in roles.items() if not role.may_enqueue and not role.is_current}
    return roles | await _read(connection, jobs, barred, as_current=True) if trust_owners and barred else roles


async def _read(
    connection: "asyncpg.Connection[Any]", jobs: JobsSchema, tables: Mapping[int, Table], *, as_current: bool = False
) -> dict[int, FunctionRole]:
    roles: dict[int, FunctionRole] = {}
    for row in await connection.fetch(query("function_roles"), jobs.name, list(tables), as_current):
        role, table = row["role"], tables[row["table_oid"]]
        risks = []
        if not row["is_safe"]:
            owner = printable(row["owner"])
            risks.append(
                f"the triggers of {table.label} would run code of its owner {owner}, such as casts, with the rights "
                f"of role {printable(role)}: grant {owner} CREATE on schema {printable(jobs.name)}, or apply as a "
                "superuser"
            )
        risks += [
            f"table {table.label} uses the type {printable(found['name'])} of role {printable(found['owner'])}, whose "
            f"code, such as casts, would run with the rights of role {printable(role)}: change the owner of one of them"
            for found in await connection.fetch(query("foreign_types"), row["table_oid"], role)
            if found["owner"] != row["owner"]
        ]
        method, may_enqueue = _enqueue_method(jobs.enqueue_method, row)
        role_jobs = replace(jobs, enqueue_method=method, function_owner=None if row["is_current"] else role)
        roles[row["table_oid"]] = FunctionRole(
            role, role_jobs, row["is_current"], row["is_session_role"], may_enqueue, tuple(risks)
        )
    return roles


def _enqueue_method(method: EnqueueMethod, row: "asyncpg.Record") -> tuple[EnqueueMethod, bool]:
    """Return how a role enqueues, and whether it may. Without INSERT on jobfn's table, it calls functions."""
    if method is EnqueueMethod.ADD_JOB_WITH_TENANT:
        return method, row["may_call"]
    if method is EnqueueMethod.INSERT and row["may_add"] and not row["may_insert"]:
        return EnqueueMethod.ADD_JOBS if row["may_add_jobs"] else EnqueueMethod.ADD_JOB, True
    return method, row["may_insert"] if method is EnqueueMethod.INSERT else row["may_add"]
