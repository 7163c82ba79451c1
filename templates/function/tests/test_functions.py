"""Tests of the handler as a plain function, of the app, and of a job from the queue."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest

import functions
from jobfn import JobContext, PermanentError
from jobfn.testing import DrainJobs, FunctionUnderTest, JobsDatabase


def test_handler_returns_the_order() -> None:
    order = functions.Order(id=1, total=Decimal("9.90"))
    result = asyncio.run(functions.handle_order(order, JobContext(task="template_task")))
    assert result == {"order": 1, "total": "9.90"}


def test_order_without_a_total_fails_permanently() -> None:
    order = functions.Order(id=1, total=Decimal(0))
    with pytest.raises(PermanentError):
        asyncio.run(functions.handle_order(order, JobContext(task="template_task")))


def test_delivery_is_reported_as_successful(jobfn_app: Callable[..., FunctionUnderTest]) -> None:
    """``deliver`` sends a request as a worker does."""
    delivery = asyncio.run(jobfn_app(functions).deliver("template_task", {"id": 1, "total": "9.90"}))
    assert (delivery.ok, delivery.result) == (True, {"order": 1, "total": "9.90"})


def test_invalid_payload_is_refused_with_its_field(jobfn_app: Callable[..., FunctionUnderTest]) -> None:
    delivery = asyncio.run(jobfn_app(functions).deliver("template_task", {"id": "first"}))
    assert delivery.status_code == 422
    assert "total" in (delivery.error or "")


def test_job_from_the_queue_is_run(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    """From SQL to the handler, with a real PostgreSQL and the real worker."""
    jobs_db.execute("""select app_jobs.add_job('template_task', '{"id": 1, "total": "9.90"}'::json)""")
    (run,) = asyncio.run(drain_jobs(functions))
    assert run.result == {"order": 1, "total": "9.90"}
