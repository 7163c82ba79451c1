"""Errors of check constraints say what is wrong, without the row."""

import pytest

from jobfn.errors import DatabaseError
from jobfn.operations.statements import translate_errors
from support.jobs import Jobs


@pytest.mark.parametrize("task", ["", "x" * 127])
async def test_name_of_a_wrong_length_is_named_without_the_row(task: str, jobs: Jobs) -> None:
    insert = """insert into app_jobs.scheduled_jobs (task_identifier, payload, schedule_info)
        values ($1, '{"card": "4242"}', '{"rule": "* * * * *"}')"""
    with pytest.raises(DatabaseError) as raised, translate_errors("app_jobs"):
        await jobs.connection.execute(insert, task)
    assert str(raised.value) == (
        "a name is empty or too long: tasks and queues have 1 to 126 characters, and keys 1 to 512"
    )


async def test_other_constraint_is_named_without_the_row(jobs: Jobs) -> None:
    await jobs.connection.execute("create temporary table cards (number text constraint visa check (number ~ '^4'))")
    with pytest.raises(DatabaseError) as raised, translate_errors("app_jobs"):
        await jobs.connection.execute("insert into cards values ('5555')")
    assert str(raised.value) == (
        'PostgreSQL rejected the statement: new row for relation "cards" violates check constraint "visa"'
    )
