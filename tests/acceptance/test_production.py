"""What a service says where people depend on it."""

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
async def test_production_is_told_of_callback_urls_that_nobody_signs(
    variables: dict[str, str], warnings: int, jobs: Jobs, database: str, spawn: Spawn
) -> None:
    """At its start, and what to set; not where a secret is set, nor on a developer's machine."""
    service = await spawn(
        "python",
        "-m",
        "jobfn.service",
        DATABASE_URL=database,
        INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
        HOSTNAME="worker-0",
        **variables,
    )
    await service.until("looking for jobs")
    said = [line for line in service.lines if '"level": "warning"' in line]
    assert [("not signed" in line, "JOBS_CALLBACK_SECRET" in line) for line in said] == [(True, True)] * warnings
