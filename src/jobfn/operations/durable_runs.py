"""Read what a durable function has recorded (``durable_records.py``)."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from jobfn.operations.durable_records import (
    MAX_CHILDREN,
    MAX_SIGNALS,
    MAX_STEPS,
    MAX_VALUE_CHARACTERS,
    MAX_WAITS,
    Child,
    DurableRun,
    Signal,
    Step,
    Wait,
)
from jobfn.operations.records import JobState
from jobfn.operations.statements import Database


async def read_run(
    connection: "asyncpg.Connection[Any]", database: Database, job_id: int, *, is_parked: bool
) -> DurableRun:
    """Return what a job has recorded."""
    step_rows = await connection.fetch(database.statement("durable_steps"), job_id, MAX_STEPS, MAX_VALUE_CHARACTERS)
    signal_rows = await connection.fetch(
        database.statement("unread_signals"), job_id, MAX_SIGNALS, MAX_VALUE_CHARACTERS
    )
    children: Sequence[asyncpg.Record] = ()
    if step_rows and step_rows[0]["child_count"]:
        children = await connection.fetch(database.statement("child_tree"), job_id, MAX_CHILDREN)
    waits = await connection.fetch(database.statement("durable_waits"), job_id, MAX_WAITS) if is_parked else ()
    return DurableRun(
        waits=tuple(Wait(**row) for row in waits),
        steps=tuple(Step(**_without(row, "step_count", "child_count")) for row in reversed(step_rows)),
        step_count=step_rows[0]["step_count"] if step_rows else 0,
        signals=tuple(Signal(**_without(row, "signal_count")) for row in signal_rows),
        signal_count=signal_rows[0]["signal_count"] if signal_rows else 0,
        children=tuple(_child(row) for row in children),
        child_count=step_rows[0]["child_count"] if step_rows else 0,
    )


def _child(row: "asyncpg.Record") -> Child:
    is_gone = row["task_identifier"] is None
    state = row["state"] if is_gone else JobState.from_row(row).value
    return Child(row["child_id"], row["name"], state, row["depth"], row["task_identifier"])


def _without(row: "asyncpg.Record", *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
