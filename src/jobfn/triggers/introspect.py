"""What jobfn made before: triggers and functions that carry its mark, as the database has them now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from jobfn.triggers.catalog import query
from jobfn.triggers.ownership import Mark
from jobfn.triggers.sql import NodeSql
from jobfn.triggers.table import JobsSchema, label_of

#: ``pg_trigger.tgenabled``, and what brings a new trigger there.
_STATES: Final = {"D": "disable", "R": "enable replica", "A": "enable always"}


@dataclass(frozen=True, slots=True)
class ExistingTrigger:
    """A trigger.

    Attributes:
        schema: Of its table.
        table: Its table.
        name: Its name.
        mark: Ours; None where it is somebody else's.
        function_oid: What it executes.
        state: What ``alter table`` did to it: ``disable``, ``enable replica``, ``enable always``; None for nothing.
    """

    schema: str
    table: str
    name: str
    mark: Mark | None
    function_oid: int
    state: str | None


@dataclass(frozen=True, slots=True)
class ExistingFunction:
    """A function.

    Attributes:
        oid: Its oid.
        schema: Its schema.
        name: Its name.
        mark: Ours; None where it is somebody else's.
        body: Its source.
        users: How many triggers execute it.
    """

    oid: int
    schema: str
    name: str
    mark: Mark | None
    body: str
    users: int


@dataclass(frozen=True, slots=True)
class Existing:
    """All of it.

    Attributes:
        triggers: On the tables in question.
        functions: That they execute, and others of ours in the jobs schema.
    """

    triggers: tuple[ExistingTrigger, ...]
    functions: tuple[ExistingFunction, ...]

    def trigger(self, schema: str, table: str, name: str) -> ExistingTrigger | None:
        """The trigger of that name on that table."""
        return next(
            (
                trigger
                for trigger in self.triggers
                if (trigger.schema, trigger.table, trigger.name) == (schema, table, name)
            ),
            None,
        )

    def function(self, schema: str, name: str) -> ExistingFunction | None:
        """The function of that name."""
        return next((found for found in self.functions if (found.schema, found.name) == (schema, name)), None)

    def notices(self) -> list[str]:
        """Triggers of ours that somebody switched off or over: they stay so."""
        return [
            f"table {label_of(trigger.schema, trigger.table)}: trigger {trigger.name} is set to {trigger.state!r}"
            for trigger in self.triggers
            if trigger.mark is not None and trigger.state is not None
        ]


async def read_existing(
    connection: "asyncpg.Connection[Any]",
    jobs: JobsSchema,
    table_oids: Sequence[int] | None,
    wanted: Sequence[NodeSql] = (),
) -> Existing:
    """What is there: everything with our mark, and whatever has a name that we want.

    Args:
        connection: The database.
        jobs: The jobs schema, where our functions live.
        table_oids: Whose triggers; None for every table.
        wanted: Whose names to look for.
    """
    trigger_names = [trigger.name for node in wanted for trigger in node.triggers]
    function_names = [node.function.name for node in wanted]
    triggers = tuple(
        ExistingTrigger(
            schema=row["schema"],
            table=row["table"],
            name=row["name"],
            mark=Mark.read(row["comment"]),
            function_oid=row["function_oid"],
            state=_STATES.get(row["enabled"]),
        )
        for row in await connection.fetch(query("existing_triggers"), table_oids, trigger_names)
    )
    executed = list({trigger.function_oid for trigger in triggers})
    functions = tuple(
        ExistingFunction(
            oid=row["oid"],
            schema=row["schema"],
            name=row["name"],
            mark=Mark.read(row["comment"]),
            body=row["body"],
            users=row["users"],
        )
        for row in await connection.fetch(query("existing_functions"), jobs.name, executed, function_names)
    )
    return Existing(triggers, functions)
