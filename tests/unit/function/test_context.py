"""The context of a job, and one that a unit test builds."""

import os
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from jobfn import JobContext
from jobfn.function.context import Progress
from support.jobs import TENANT

TENANT_ID = UUID(TENANT)


def test_context_outside_a_job_needs_only_the_task() -> None:
    context = JobContext("charge")
    assert (context.job_id, context.worker_id, context.database_id, context.attempt) == (None, None, None, None)
    assert context.env is os.environ
    assert JobContext("charge", env={"A": "b"}).env["A"] == "b"


def test_logger_is_bound_to_all_ids_in_a_job_and_to_known_ids_outside() -> None:
    context = JobContext("charge", job_id=7, worker_id="worker-0", database_id=TENANT_ID)
    with capture_logs() as lines:
        context.log.info("charging", invoice=1)
        JobContext("charge").log.info("outside")
    assert lines == [
        {
            "logger": "jobfn.task",
            "task": "charge",
            "job": 7,
            "attempt": None,
            "worker": "worker-0",
            "tenant": TENANT,
            "event": "charging",
            "invoice": 1,
            "log_level": "info",
        },
        {"logger": "jobfn.task", "task": "charge", "event": "outside", "log_level": "info"},
    ]


def test_ids_of_a_graph_node_are_those_of_the_job_and_of_the_node() -> None:
    context = JobContext("add", job_id=7, organization_id=TENANT_ID, execution_id=TENANT_ID, node_name="add_node")
    assert context.ids() == {
        "task": "add",
        "job": 7,
        "attempt": None,
        "worker": None,
        "tenant": None,
        "organization": TENANT,
        "execution": TENANT,
        "node": "add_node",
    }


def test_repr_hides_the_environment() -> None:
    assert "PATH" not in repr(JobContext("charge"))


def test_idempotency_key_is_the_same_for_all_attempts_of_a_job() -> None:
    first, second = JobContext("t", job_id=1, attempt=1), JobContext("t", job_id=1, attempt=2)
    assert first.idempotency_key == second.idempotency_key == "jobfn:t:1"
    assert JobContext("t", job_id=2).idempotency_key == "jobfn:t:2"
    assert JobContext("t", job_id=1, database_id=TENANT_ID).idempotency_key == f"jobfn:t:{TENANT}:1"


def test_idempotency_key_differs_between_installations() -> None:
    """The ids of jobs begin at 1 in each database."""
    keys = [JobContext("t", job_id=1, installation_id=name).idempotency_key for name in ("a", "b")]
    assert keys == ["jobfn:a:t:1", "jobfn:b:t:1"]


def test_idempotency_key_differs_between_jobs_of_one_id() -> None:
    """A database that lost jobs in a failover assigns their ids again."""
    keys = [JobContext("t", job_id=1, created_at=time).idempotency_key for time in ("1.5", "2.5")]
    assert keys == ["jobfn:t:1:1.5", "jobfn:t:1:2.5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": -0.1}, r"progress\(-0.1\): fraction must be from 0 to 1"),
        ({"fraction": 1.1}, r"progress\(1.1\): fraction must be from 0 to 1"),
        ({"message": "x" * 1001}, "at most 1000 characters"),
    ],
)
async def test_invalid_progress_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await JobContext("t").progress(**arguments)


async def test_progress_is_passed_on_and_kept() -> None:
    reported: list[Progress] = []

    async def on_progress(progress: Progress) -> None:
        reported.append(progress)

    context = JobContext("t", on_progress=on_progress)
    await context.progress(0.75, "nearly done")
    assert reported == [Progress(0.75, "nearly done")]
    assert context.last_progress == Progress(0.75, "nearly done")
    await JobContext("t").progress(0.5)
