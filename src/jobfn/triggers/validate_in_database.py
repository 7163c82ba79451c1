"""Validate a trigger in PostgreSQL: whether its interval and its comparisons make sense.

Otherwise the trigger itself would fail, and with it the user's writes.
"""

from typing import Any, Final

import asyncpg

from jobfn.errors import BlueprintError
from jobfn.triggers.conditions import Comparison, comparisons
from jobfn.triggers.expressions import TRIGGER_ROWS, condition_sql
from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.table import Table
from jobfn.triggers.validate_columns import error_prefix

#: Maximum delay, as an interval. A much longer one overflows the timestamp.
MAX_DELAY: Final = "1000 years"
#: Parameters that are intervals, each with its minimum and its maximum.
_INTERVALS: Final = (
    ("run_at_delay", "0", MAX_DELAY),
    ("max_delay", "1 second", MAX_DELAY),
    ("expires_in", "1 second", MAX_DELAY),
    ("unique_for", "1 millisecond", "366 days"),
)

_INVALID = (asyncpg.DataError, asyncpg.SyntaxOrAccessError)


async def validate_in_database(
    connection: "asyncpg.Connection[Any]", node: DataJobTrigger, table: Table, *, may_run_code: bool = True
) -> None:
    """Let PostgreSQL parse the interval and the comparisons of a trigger, without reading any row.

    Args:
        connection: Connection in a transaction.
        node: A trigger that passed ``validate_columns``.
        table: Table of the trigger.
        may_run_code: Whether the current role may run code of the table's types, such as the checks of a domain.

    Raises:
        BlueprintError: PostgreSQL rejects a parameter. The message names the table, the node and the parameter.
    """
    for name, minimum, maximum in _INTERVALS:
        interval = getattr(node, name)
        problem = None if interval is None else await _interval_problem(connection, interval, minimum, maximum)
        if problem is not None:
            raise BlueprintError(f"{error_prefix(table, node)}: {name}: {problem}")
    tree = node.condition_tree()
    for comparison in comparisons(tree) if tree is not None else ():
        sql = condition_sql(comparison, table, "UPDATE", TRIGGER_ROWS)
        problem = await expression_problem(connection, sql, table, may_run_code=may_run_code)
        if problem is not None:
            parameter = "conditions" if node.conditions is not None else "condition_value"
            raise BlueprintError(f"{error_prefix(table, node)}: {parameter}: {_format(comparison)}: {problem}")


async def _interval_problem(
    connection: "asyncpg.Connection[Any]", interval: str, minimum: str, maximum: str
) -> str | None:
    try:
        async with connection.transaction():
            is_valid = await connection.fetchval(
                "select $1::text::interval between $2::text::interval and $3::text::interval",
                interval,
                minimum,
                maximum,
            )
    except asyncpg.DataError:
        return f"{interval!r} is not a PostgreSQL interval: write for example 30 seconds, 5 minutes or 1 day"
    return None if is_valid else f"{interval!r} must be between {minimum} and {maximum}"


async def expression_problem(
    connection: "asyncpg.Connection[Any]", sql: str, table: Table, *, may_run_code: bool = True
) -> str | None:
    """Return why PostgreSQL rejects an expression on NEW and OLD; None if it accepts it. No row is read.

    To execute it would run casts, operators and checks of the table's types with the rights of the current role. If
    their owners are not trusted with these, it is only parsed.
    """
    row = f"(select (null::{table.sql}).*)"
    try:
        async with connection.transaction():
            select = f"select {sql} from {row} as NEW, {row} as OLD"  # noqa: S608  - quoted
            await (connection.execute(select) if may_run_code else connection.prepare(select))
    except _INVALID as error:
        return error_message(error)
    return None


def error_message(error: asyncpg.PostgresError) -> str:
    """Return PostgreSQL's message in one line, without hints and details."""
    return str(getattr(error, "message", None) or error).partition("\n")[0]


def _format(comparison: Comparison) -> str:
    operand = f" {comparison.ref.field}" if comparison.ref is not None else ""
    value = f" {comparison.value!r}" if comparison.value is not None else ""
    return f"{comparison.field} {comparison.op}{operand}{value}"
