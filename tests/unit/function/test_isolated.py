"""Coroutines in contexts of their own."""

import asyncio
from contextvars import ContextVar, copy_context

import pytest

from jobfn.function.isolated import run_in_context

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


async def test_variables_stay_in_the_context_across_suspensions() -> None:
    async def change() -> str:
        VARIABLE.set("first")
        await asyncio.sleep(0)
        seen = VARIABLE.get()
        VARIABLE.set("second")
        return seen

    context = copy_context()
    assert await run_in_context(context, change()) == "first"
    assert (VARIABLE.get(), context[VARIABLE]) == ("unset", "second")


async def test_task_of_the_coroutine_is_the_caller_s() -> None:
    async def current() -> "asyncio.Task[object] | None":
        await asyncio.sleep(0)
        return asyncio.current_task()

    assert await run_in_context(copy_context(), current()) is asyncio.current_task()


async def test_exceptions_pass_in_both_directions() -> None:
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failed.set_exception(LookupError("from the future"))

    async def translate() -> None:
        try:
            await failed
        except LookupError as error:
            raise ValueError(VARIABLE.get()) from error

    VARIABLE.set("outer")
    with pytest.raises(ValueError, match=r"^outer$") as caught:
        await run_in_context(copy_context(), translate())
    assert isinstance(caught.value.__cause__, LookupError)


async def test_cancellation_reaches_the_coroutine_which_may_go_on() -> None:
    started = asyncio.Event()

    async def endure() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done"

    async def call() -> str:
        return await run_in_context(copy_context(), endure())

    running = asyncio.create_task(call())
    await started.wait()
    running.cancel()
    assert await running == "done"


async def test_timeout_applies_inside() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await run_in_context(copy_context(), wait())
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
