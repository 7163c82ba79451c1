"""Batches take turns on the event loop."""

import asyncio

from jobfn.http.batch_turns import BatchTurns


async def test_other_work_goes_on_between_two_batches() -> None:
    turns, steps = BatchTurns(), list[str]()

    async def run(name: str) -> None:
        for _ in range(2):
            await turns.next()
            steps.append(name)

    async def other() -> None:
        for _ in range(6):
            await asyncio.sleep(0)
            steps.append("-")

    await asyncio.gather(run("a"), run("b"), run("c"), other())
    text = "".join(steps).replace("-", "")
    assert text == "abcabc"
    assert all(f"{first}{second}" not in "".join(steps) for first in "abc" for second in "abc")


async def test_cancelled_batch_loses_its_turn() -> None:
    turns = BatchTurns()
    first, second = asyncio.create_task(turns.next()), asyncio.create_task(turns.next())
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    await turns.next()
