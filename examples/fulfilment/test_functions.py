"""The fulfilment of orders, end to end: a row starts it, a change of the row approves it."""

from pathlib import Path
from typing import Any

import pytest

from jobfn.function.loading import load_module
from jobfn.testing import DrainJobs, JobRun, JobsClock, JobsDatabase

functions = load_module(str(Path(__file__).with_name("functions.py")))

pytestmark = pytest.mark.usefixtures("order_id", "partners")

ORDER = {"id": 7, "email": "ada@example.com", "card": "card-1", "cents": 1999, "items": ["tea"]}


def result_of(runs: list[JobRun], task: str) -> Any:
    (result,) = [run.result for run in runs if run.task == task and run.outcome == "completed"]
    return result


def approve(jobs_db: JobsDatabase) -> None:
    jobs_db.execute("update orders set approved_by = 'grace'")


async def test_approved_order_is_charged_once_and_shipped(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, order_id: int, partners: Any
) -> None:
    (parked,) = await drain_jobs(functions)
    assert (parked.outcome, parked.waiting_for) == ("parked", ("wait:approved",))
    assert [(step.name, step.result) for step in parked.steps] == [
        ("charge", {"id": "charges-1", "cents": 1999}),
        ("wait:approved", None),
    ]

    approve(jobs_db)
    runs = await drain_jobs(functions)

    assert result_of(runs, "fulfil_order") == "shipped"
    assert result_of(runs, "send_receipt") == f"Order {order_id}: shipped\ntracking-2\ntracking-3"
    assert partners.requests == [
        ("charges", {"card": "card-1", "cents": 1999}),
        ("labels", {"order": order_id, "item": "tea"}),
        ("labels", {"order": order_id, "item": "cup"}),
    ]
    assert jobs_db.fetch("select * from app_jobs.jobs") == []


async def test_order_that_nobody_approves_is_refunded(
    drain_jobs: DrainJobs, jobs_clock: JobsClock, order_id: int, partners: Any
) -> None:
    await drain_jobs(functions)
    jobs_clock.advance(days=2)
    assert await drain_jobs(functions) == []
    jobs_clock.advance(days=2)
    runs = await drain_jobs(functions)
    assert result_of(runs, "fulfil_order") == "refunded"
    assert result_of(runs, "send_receipt") == f"Order {order_id}: refunded"
    assert partners.requests[1:] == [("refunds", {"charge": "charges-1", "cents": 1999})]


async def test_approval_before_the_charge_is_kept(jobs_db: JobsDatabase, drain_jobs: DrainJobs, partners: Any) -> None:
    approve(jobs_db)
    assert result_of(await drain_jobs(functions), "fulfil_order") == "shipped"
    assert partners.paths() == ["charges", "labels", "labels"]


async def test_approval_that_is_rolled_back_is_not_one(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    jobs_db.execute("begin; update orders set approved_by = 'eve'; rollback")
    (parked,) = await drain_jobs(functions)
    assert parked.waiting_for == ("wait:approved",)


async def test_labels_that_cannot_be_printed_refund_the_charge(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, partners: Any
) -> None:
    partners.refused["labels"] = (422, "the address is not complete")
    approve(jobs_db)
    runs = await drain_jobs(functions)
    errors = {run.error for run in runs if run.task == "print_label"}
    assert errors == {"labels: the address is not complete"}
    assert result_of(runs, "fulfil_order") == "refunded"
    assert partners.paths() == ["charges", "labels", "labels", "refunds"]


@pytest.mark.parametrize(
    ("crash", "paths"),
    [
        ({"crash_after": ["charge", "wait:approved"]}, ["charges", "labels", "labels"]),
        ({"crash_in": "charge"}, ["charges", "charges", "labels", "labels"]),
        ({"crash_in": ["call:print_label", "then"]}, ["charges", "labels", "labels"]),
    ],
)
async def test_crash_does_not_charge_twice(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, partners: Any, crash: dict[str, Any], paths: list[str]
) -> None:
    approve(jobs_db)
    runs = await drain_jobs(functions, **crash)
    assert "lost" in {run.outcome for run in runs}
    assert result_of(runs, "fulfil_order") == "shipped"
    assert partners.paths() == paths
    assert partners.effects == 3


async def test_declined_card_ends_the_job(drain_jobs: DrainJobs, partners: Any) -> None:
    partners.refused["charges"] = (402, "the card was declined")
    (run,) = await drain_jobs(functions)
    assert (run.outcome, run.waiting_for) == ("permanently_failed", ())
    assert "the card was declined" in (run.error or "")


async def test_broken_bank_is_asked_again(drain_jobs: DrainJobs, jobs_clock: JobsClock, partners: Any) -> None:
    partners.refused["charges"] = (503, "back soon")
    (run,) = await drain_jobs(functions)
    assert run.outcome == "failed"
    del partners.refused["charges"]
    jobs_clock.advance(hours=1)
    (run,) = await drain_jobs(functions)
    assert run.waiting_for == ("wait:approved",)


async def test_dry_run_calls_nobody(jobfn_app: Any, partners: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULFILMENT_DRY_RUN", "true")
    result = await jobfn_app(functions).deliver("fulfil_order", ORDER)
    assert (result.is_parked, result.waiting_for) == (True, ("wait:approved",))
    assert result.steps[0].result == {"id": "dry-charges-1", "cents": 1999}
    assert partners.requests == []


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("BANK_URL", "", "BANK_URL is not set"),
        ("FULFILMENT_DRY_RUN", "ture", "FULFILMENT_DRY_RUN='ture' is not a boolean: use true or false"),
    ],
)
async def test_missing_or_invalid_setting_fails_with_its_name(
    jobfn_app: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    result = await jobfn_app(functions).deliver("fulfil_order", ORDER)
    assert problem in result.error
