"""What only PostgreSQL can tell of a trigger: whether an interval is one, and whether a comparison makes sense.

Asked before anything is applied, since the trigger itself would find out with somebody's write.
"""

from typing import Any, Final

import asyncpg

from jobfn.errors import BlueprintError
from jobfn.triggers.conditions import Comparison, comparisons
from jobfn.triggers.expressions import TRIGGER_ROWS, condition
from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.table import Table
from jobfn.triggers.validate_columns import place

#: Longer ones are mistakes, and long enough ones would overflow a timestamp.
LONGEST_DELAY: Final = "1000 years"

_REFUSED = (asyncpg.DataError, asyncpg.SyntaxOrAccessError)


async def verify(connection: "asyncpg.Connection[Any]", node: DataJobTrigger, table: Table) -> None:
    """Have PostgreSQL read what the node says, without running any of it on the table's rows.

    Args:
        connection: In a transaction; it is as usable afterwards as before.
        node: A node that ``resolve`` has looked at.
        table: Its table.

    Raises:
        BlueprintError: PostgreSQL cannot make sense of it; names the table, the node and the parameter.
    """
    if node.run_at_delay is not None:
        problem = await _delay_problem(connection, node.run_at_delay)
        if problem is not None:
            raise BlueprintError(f"{place(table.label, node)}: run_at_delay: {problem}")
    tree = node.condition_tree()
    for comparison in comparisons(tree) if tree is not None else ():
        problem = await _comparison_problem(connection, comparison, table)
        if problem is not None:
            parameter = "conditions" if node.conditions is not None else "condition_value"
            raise BlueprintError(f"{place(table.label, node)}: {parameter}: {_in_words(comparison)}: {problem}")


async def _delay_problem(connection: "asyncpg.Connection[Any]", delay: str) -> str | None:
    try:
        async with connection.transaction():
            fits = await connection.fetchval(
                "select $1::text::interval between interval '0' and $2::text::interval", delay, LONGEST_DELAY
            )
    except asyncpg.DataError:
        return f"{delay!r} is no interval of PostgreSQL's: write 30 seconds, 5 minutes or 1 day"
    return None if fits else f"{delay!r} is no delay: it goes from 0 to {LONGEST_DELAY}"


async def _comparison_problem(
    connection: "asyncpg.Connection[Any]", comparison: Comparison, table: Table
) -> str | None:
    sql = condition(comparison, table, "UPDATE", TRIGGER_ROWS)
    rows = f"(select (null::{table.sql}).*)"
    try:
        async with connection.transaction():
            await connection.execute(f"select {sql} from {rows} as NEW, {rows} as OLD")  # noqa: S608  - quoted by ours
    except _REFUSED as error:
        return message_of(error)
    return None


def message_of(error: asyncpg.PostgresError) -> str:
    """What PostgreSQL said, in one line: without the hints and details that follow."""
    return str(getattr(error, "message", None) or error).partition("\n")[0]


def _in_words(comparison: Comparison) -> str:
    other = f" {comparison.ref.field}" if comparison.ref is not None else ""
    value = f" {comparison.value!r}" if comparison.value is not None else ""
    return f"{comparison.field} {comparison.op}{other}{value}"
