"""Where the next claim starts."""

from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest

from jobfn.database.claim_position import BEGINNING, ClaimPosition, Position
from support.clock import ManualClock

RUN_AT = datetime(2030, 1, 31, tzinfo=UTC)


def claimed(*ids: int, queue: str | None = None) -> list[asyncpg.Record]:
    rows: list[dict[str, Any]] = [
        {"id": job_id, "priority": 0, "run_at": RUN_AT, "queue_name": queue} for job_id in ids
    ]
    return cast("list[asyncpg.Record]", rows)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def position(clock: ManualClock) -> ClaimPosition:
    return ClaimPosition(clock)


def test_first_claim_starts_at_the_beginning(position: ClaimPosition) -> None:
    assert position.next_start() is BEGINNING


def test_claim_that_was_filled_is_followed_by_one_after_its_last_job(position: ClaimPosition) -> None:
    position.record(BEGINNING, claimed(1, 2), limit=2, seconds=0.001)
    assert position.next_start() == Position(0, RUN_AT, 2)
    position.record(Position(0, RUN_AT, 2), claimed(3, 4), limit=2, seconds=0.001)
    assert position.next_start() == Position(0, RUN_AT, 4)


@pytest.mark.parametrize("rows", [claimed(), claimed(1), claimed(1, 2, queue="q")])
def test_claim_of_less_or_of_queues_only_is_followed_by_one_from_the_beginning(
    position: ClaimPosition, rows: list[asyncpg.Record]
) -> None:
    position.record(BEGINNING, rows, limit=2, seconds=0.001)
    assert position.next_start() is BEGINNING


@pytest.mark.parametrize(("seconds", "interval"), [(0.001, 0.05), (0.1, 1.0), (60.0, 2.0)])
def test_claims_start_at_the_beginning_at_intervals(
    position: ClaimPosition, clock: ManualClock, seconds: float, interval: float
) -> None:
    position.record(BEGINNING, claimed(1), limit=1, seconds=seconds)
    position.record(Position(0, RUN_AT, 1), claimed(2), limit=1, seconds=seconds)
    clock.advance(interval - 0.01)
    before = position.next_start()
    clock.advance(0.01)
    assert (before, position.next_start()) == (Position(0, RUN_AT, 2), BEGINNING)
