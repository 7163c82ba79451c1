"""The handler as the function it is, the app as a worker sees it, and a job's whole way."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest

import functions
from jobfn import JobContext, PermanentError
from jobfn.testing import DrainJobs, FunctionUnderTest, JobsDatabase


def test_an_order_is_handled() -> None:
    """A handler is a plain function: call it."""
    order = functions.Order(id=1, total=Decimal("9.90"))
    result = asyncio.run(functions.handle_order(order, JobContext(task="template_task")))
    assert result == {"order": 1, "total": "9.90"}


def test_an_order_for_nothing_fails_for_good() -> None:
    """PermanentError: trying again would not help."""
    order = functions.Order(id=1, total=Decimal(0))
    with pytest.raises(PermanentError):
        asyncio.run(functions.handle_order(order, JobContext(task="template_task")))


def test_a_delivery_is_reported_as_done(jobfn_app: Callable[..., FunctionUnderTest]) -> None:
    """What a worker posts, and what it gets."""
    delivered = asyncio.run(jobfn_app(functions).deliver("template_task", {"id": 1, "total": "9.90"}))
    assert (delivered.ok, delivered.result) == (True, {"order": 1, "total": "9.90"})


def test_a_payload_that_does_not_fit_is_refused_by_its_field(jobfn_app: Callable[..., FunctionUnderTest]) -> None:
    """422, before the handler runs."""
    delivered = asyncio.run(jobfn_app(functions).deliver("template_task", {"id": "first"}))
    assert delivered.status_code == 422
    assert "total" in (delivered.error or "")


def test_a_job_of_the_queue_is_run(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    """From SQL to the handler, with a real PostgreSQL and the real worker."""
    jobs_db.execute("""select app_jobs.add_job('template_task', '{"id": 1, "total": "9.90"}'::json)""")
    (ended,) = asyncio.run(drain_jobs(functions))
    assert ended.result == {"order": 1, "total": "9.90"}
