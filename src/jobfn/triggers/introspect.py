"""Read the existing triggers and functions, those with jobfn's ownership tag and those whose names are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from jobfn.triggers.catalog import query
from jobfn.triggers.ownership import OwnershipTag
from jobfn.triggers.sql import NodeSql
from jobfn.triggers.table import JobsSchema, qualified_label

#: ``alter table`` action for each value of ``pg_trigger.tgenabled`` that differs from a new trigger's.
_STATES: Final = {"D": "disable", "R": "enable replica", "A": "enable always"}


@dataclass(frozen=True, slots=True)
class ExistingTrigger:
    """A trigger in the database."""

    schema: str
    table: str
    name: str
    tag: OwnershipTag | None
    function_oid: int
    state: str | None


@dataclass(frozen=True, slots=True)
class ExistingFunction:
    """A function in the database.

    Attributes:
        trigger_count: Number of triggers that execute it.
        owner: Its owner; None for the current role.
        grantees: Quoted names of the other roles that may execute it.
        is_safe: Whether the owner of each table that it serves has all rights of the function's owner, and the reverse.
    """

    oid: int
    schema: str
    name: str
    tag: OwnershipTag | None
    body: str
    trigger_count: int
    owner: str | None
    grantees: tuple[str, ...]
    is_safe: bool


@dataclass(frozen=True, slots=True)
class ExistingObjects:
    """Triggers and functions in the database."""

    triggers: tuple[ExistingTrigger, ...]
    functions: tuple[ExistingFunction, ...]

    def trigger(self, schema: str, table: str, name: str) -> ExistingTrigger | None:
        """Return the trigger with this name on a table, or None."""
        key = (schema, table, name)
        return next((each for each in self.triggers if (each.schema, each.table, each.name) == key), None)

    def function(self, schema: str, name: str) -> ExistingFunction | None:
        """Return the function with this name, or None."""
        return next((each for each in self.functions if (each.schema, each.name) == (schema, name)), None)

    def notices(self) -> list[str]:
        """Return a notice for each jobfn trigger whose state a user changed; ``apply`` keeps the state."""
        return [
            f"table {qualified_label(each.schema, each.table)}: trigger {each.name} is set to {each.state!r}"
            for each in self.triggers
            if each.tag is not None and each.state is not None
        ]

    def unsafe_functions(self) -> list[str]:
        """Return a notice for each trigger whose function belongs to a role with other rights than the owner."""
        unsafe = {each.oid: each.owner or "this role" for each in self.functions if not each.is_safe}
        return list(
            dict.fromkeys(
                f"table {qualified_label(each.schema, each.table)}: the function of {each.tag.task} belongs to "
                f"{unsafe[each.function_oid]}, and not to the table's owner: run `jobfn triggers apply`"
                for each in self.triggers
                if each.tag is not None and each.function_oid in unsafe
            )
        )


async def read_existing_objects(
    connection: "asyncpg.Connection[Any]",
    jobs: JobsSchema,
    table_oids: Sequence[int] | None,
    nodes: Sequence[NodeSql] = (),
) -> ExistingObjects:
    """Read the objects with an ownership tag, and the objects whose names the nodes use."""
    trigger_names = [trigger.name for node in nodes for trigger in node.triggers]
    function_names = [node.function.name for node in nodes]
    triggers = tuple(
        ExistingTrigger(
            schema=row["schema"],
            table=row["table"],
            name=row["name"],
            tag=OwnershipTag.parse(row["comment"]),
            function_oid=row["function_oid"],
            state=_STATES.get(row["enabled"]),
        )
        for row in await connection.fetch(query("existing_triggers"), table_oids, trigger_names)
    )
    function_oids = list({trigger.function_oid for trigger in triggers})
    functions = tuple(
        ExistingFunction(
            oid=row["oid"],
            schema=row["schema"],
            name=row["name"],
            tag=OwnershipTag.parse(row["comment"]),
            body=row["body"],
            trigger_count=row["users"],
            owner=row["owner"],
            grantees=tuple(row["grantees"]),
            is_safe=row["is_safe"],
        )
        for row in await connection.fetch(query("existing_functions"), jobs.name, function_oids, function_names)
    )
    return ExistingObjects(triggers, functions)
