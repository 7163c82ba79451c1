"""Warnings of a service in production."""

import pytest

from support.commands import Spawn
from support.jobs import Jobs
from support.network import free_port


@pytest.mark.parametrize(
    ("variables", "warnings"),
    [
        ({"K_SERVICE": "jobs"}, 1),
        ({"JOBFN_ENV": "production"}, 1),
        ({"JOBFN_ENV": "production", "JOBS_CALLBACK_SECRET": "one"}, 0),
        ({}, 0),
    ],
)
async def test_unsigned_callback_urls_are_a_warning_in_production(
    variables: dict[str, str], warnings: int, jobs: Jobs, database: str, spawn: Spawn
) -> None:
    service = await spawn(
        "jobfn",
        "service",
        DATABASE_URL=database,
        INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
        HOSTNAME="worker-0",
        **variables,
    )
    await service.until("looking for jobs")
    lines = [line for line in service.lines if '"level": "warning"' in line]
    assert [("not signed" in line, "JOBS_CALLBACK_SECRET" in line) for line in lines] == [(True, True)] * warnings
