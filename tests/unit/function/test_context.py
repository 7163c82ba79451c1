"""The context that a handler gets, and builds by hand in a unit test."""

import os
from uuid import UUID

from structlog.testing import capture_logs

from jobfn import JobContext
from jobfn.wire import JobHeaders

TENANT = UUID("5b720132-17d5-424d-9bcb-ee7b17c13d43")


def test_it_says_what_the_headers_say() -> None:
    """Each header's value under the attribute of its name."""
    headers = JobHeaders(
        job_id=7, worker_id="worker-0", database_id=TENANT, actor_id=UUID(int=1), entity_id=UUID(int=2), attempt=3
    )
    assert JobContext.from_headers("charge", headers) == JobContext(
        task="charge",
        job_id=7,
        worker_id="worker-0",
        database_id=TENANT,
        actor_id=UUID(int=1),
        entity_id=UUID(int=2),
        attempt=3,
    )


def test_by_hand_only_the_task_is_needed() -> None:
    """Everything else is absent, the environment is the process's."""
    context = JobContext("charge")
    assert (context.job_id, context.worker_id, context.database_id, context.attempt) == (None, None, None, None)
    assert context.env is os.environ
    assert JobContext("charge", env={"A": "b"}).env["A"] == "b"


def test_its_log_carries_the_ids_that_are_known() -> None:
    """Bound once: of a job all five, and by hand those that there are."""
    context = JobContext("charge", job_id=7, worker_id="worker-0", database_id=TENANT)
    with capture_logs() as lines:
        context.log.info("charging", invoice=1)
        JobContext("charge").log.info("by hand")
    assert lines == [
        {
            "logger": "jobfn.task",
            "task": "charge",
            "job": 7,
            "attempt": None,
            "worker": "worker-0",
            "tenant": str(TENANT),
            "event": "charging",
            "invoice": 1,
            "log_level": "info",
        },
        {"logger": "jobfn.task", "task": "charge", "event": "by hand", "log_level": "info"},
    ]


def test_what_it_shows_of_itself_holds_no_environment() -> None:
    """The repr goes into logs; variables may be secrets."""
    assert "PATH" not in repr(JobContext("charge"))
