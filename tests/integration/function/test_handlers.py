"""Handlers that block, overrun or raise, and what the server and the report make of it."""

import asyncio
import contextvars
import functools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from jobfn import FunctionSettings, JobContext, Task, create_app, task
from jobfn.telemetry import logs
from support.fixtures import Serve
from support.function_app import SECRET, WAIT_FOR_REPORT, CallbackServer, job_headers

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event for handlers in threads, set at the latest after the test, so that they end."""
    event = threading.Event()
    yield event
    event.set()


def with_threads(count: int) -> FunctionSettings:
    return WAIT_FOR_REPORT.model_copy(update={"max_threads": count})


async def test_sync_handlers_run_in_a_bounded_number_of_threads(
    serve: Serve, http: httpx.AsyncClient, gate: threading.Event
) -> None:
    running = threading.Semaphore(0)
    threads: set[str] = set()

    @task("block")
    def block(payload: int) -> int:
        threads.add(threading.current_thread().name)
        running.release()
        gate.wait()
        return payload

    url = await serve(create_app(tasks=[block], settings=with_threads(3)))
    requests = [asyncio.create_task(http.post(f"{url}/block", json=number)) for number in range(5)]
    for _ in range(3):
        await asyncio.to_thread(running.acquire)
    assert (await http.get(f"{url}/healthz")).status_code == 200
    assert not running.acquire(blocking=False), "a fourth handler runs"
    gate.set()
    assert [response.json() for response in await asyncio.gather(*requests)] == [0, 1, 2, 3, 4]
    assert len(threads) == 3
    assert threading.main_thread().name not in threads


async def test_async_handlers_run_concurrently_on_the_event_loop(serve: Serve, http: httpx.AsyncClient) -> None:
    barrier = asyncio.Barrier(10)

    @task("meet")
    async def meet(payload: int) -> bool:
        await barrier.wait()
        return threading.current_thread() is threading.main_thread()

    url = await serve(create_app(tasks=[meet], settings=with_threads(1)))
    responses = await asyncio.gather(*(http.post(f"{url}/meet", json=number) for number in range(10)))
    assert [response.json() for response in responses] == [True] * 10


async def test_context_variables_reach_a_sync_handler_and_do_not_leak_back(
    serve: Serve, http: httpx.AsyncClient
) -> None:
    class SetColour:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            COLOUR.set("red")
            await self.app(scope, receive, send)
            assert COLOUR.get() == "red"

    @task("get_colour")
    def get_colour(payload: dict[str, Any]) -> str:
        colour = COLOUR.get()
        COLOUR.set("blue")
        return colour

    app = create_app(tasks=[get_colour], settings=WAIT_FOR_REPORT)
    app.add_middleware(SetColour)
    url = await serve(app)
    for _ in range(2):
        assert (await http.post(f"{url}/get_colour", json={})).json() == "red"


async def test_job_ids_are_set_for_log_lines_of_the_handler_only(serve: Serve, http: httpx.AsyncClient) -> None:
    def current_ids() -> Any:
        ids = logs.job_ids.get()
        return ids() if ids is not None else None

    @task("sync")
    def sync(payload: int) -> Any:
        return current_ids()

    @task("async")
    async def asynchronous(payload: int) -> Any:
        return current_ids()

    url = await serve(create_app(tasks=[sync, asynchronous], settings=WAIT_FOR_REPORT))
    for name in ("sync", "async"):
        response = await http.post(f"{url}/{name}", json=1, headers=job_headers(None, 9))
        assert response.json() == {"task": name, "job": 9, "attempt": None, "worker": "worker-7", "tenant": None}
    assert logs.job_ids.get() is None


async def test_sync_wrapper_of_an_async_handler_is_awaited(serve: Serve, http: httpx.AsyncClient) -> None:
    def sync_decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function(*arguments)

        return wrapper

    @task("wrapped")
    @sync_decorator
    async def wrapped(payload: int, ctx: JobContext) -> str:
        await asyncio.sleep(0)
        return f"{payload} for {ctx.task}"

    url = await serve(create_app(tasks=[wrapped], settings=WAIT_FOR_REPORT))
    assert (await http.post(f"{url}/wrapped", json=1)).json() == "1 for wrapped"


async def test_sync_handler_that_times_out_runs_on_and_is_reported_once(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer, gate: threading.Event
) -> None:
    ended = threading.Event()

    @task("slow", timeout=0.05)
    def slow(payload: dict[str, Any]) -> str:
        gate.wait()
        ended.set()
        return "dropped"

    url = await serve(create_app(tasks=[slow], settings=WAIT_FOR_REPORT))
    response = await http.post(f"{url}/slow", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 504
    gate.set()
    await asyncio.to_thread(ended.wait)
    assert len(callbacks.received) == 1


async def test_sync_handler_without_a_free_thread_times_out_before_it_starts(
    serve: Serve, http: httpx.AsyncClient, gate: threading.Event
) -> None:
    started = threading.Event()
    payloads: list[int] = []

    @task("block")
    def block(payload: int) -> None:
        started.set()
        gate.wait()

    @task("impatient", timeout=0.05)
    def impatient(payload: int) -> None:
        payloads.append(payload)

    url = await serve(create_app(tasks=[block, impatient], settings=with_threads(1)))
    blocking = asyncio.create_task(http.post(f"{url}/block", json=1))
    await asyncio.to_thread(started.wait)
    response = await http.post(f"{url}/impatient", json=2)
    assert response.status_code == 504
    assert response.json()["message"] == (
        "impatient did not start within its timeout of 0.05 seconds: all 1 threads were busy (JOBFN_MAX_THREADS)"
    )
    gate.set()
    assert (await blocking).status_code == 200
    assert payloads == []


async def test_timeout_error_of_the_handler_is_its_failure(serve: Serve, http: httpx.AsyncClient) -> None:
    @task("quick", timeout=30)
    async def quick(payload: bool) -> str:  # noqa: FBT001  - a payload
        if payload:
            raise TimeoutError("the mail server was slow")
        return "done"

    url = await serve(create_app(tasks=[quick], settings=WAIT_FOR_REPORT))
    assert (await http.post(f"{url}/quick", json=False)).json() == "done"
    response = await http.post(f"{url}/quick", json=True)
    assert (response.status_code, response.json()) == (500, {"message": "the mail server was slow", "code": "F500"})


async def test_handler_that_returns_after_its_timeout_succeeds(serve: Serve, http: httpx.AsyncClient) -> None:
    """The work is done; a handler that raises during its cleanup has timed out."""

    @task("stubborn", timeout=0.05)
    async def stubborn(payload: bool) -> str:  # noqa: FBT001  - a payload
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if payload:
                raise RuntimeError("during cleanup") from None
        return "done"

    url = await serve(create_app(tasks=[stubborn], settings=WAIT_FOR_REPORT))
    assert (await http.post(f"{url}/stubborn", json=False)).json() == "done"
    assert (await http.post(f"{url}/stubborn", json=True)).status_code == 504


ERRORS: list[tuple[Callable[[], BaseException], str]] = [
    (lambda: ValueError("the mail server refused"), "the mail server refused"),
    (lambda: SystemExit(3), "3"),
    (KeyboardInterrupt, "KeyboardInterrupt"),
    (asyncio.CancelledError, "CancelledError"),
]


def raising(kind: str, create_error: Callable[[], BaseException]) -> Task[..., Any]:
    @task("fail")
    async def asynchronous(payload: dict[str, Any]) -> None:
        raise create_error()

    @task("fail")
    def synchronous(payload: dict[str, Any]) -> None:
        raise create_error()

    return asynchronous if kind == "async" else synchronous


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize(
    ("create_error", "message"), ERRORS, ids=lambda value: value[:20] if isinstance(value, str) else ""
)
async def test_exception_of_a_handler_is_answered_reported_and_logged(
    kind: str,
    create_error: Callable[[], BaseException],
    message: str,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(create_app(tasks=[raising(kind, create_error)], settings=WAIT_FOR_REPORT))
    with capture_logs() as lines:
        response = await http.post(f"{url}/fail", json={"a": SECRET}, headers=job_headers(callbacks.url))
    assert response.status_code == 500
    assert response.text == json.dumps({"message": message, "code": "F500"})
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    [line] = lines
    assert (line["event"], line["task"], line["job"]) == ("task failed", "fail", 42)
    assert line["exc_info"].__traceback__ is not None
    assert SECRET not in repr(line)
    assert (await http.get(f"{url}/healthz")).status_code == 200


async def test_stop_iteration_in_a_thread_fails_the_job(serve: Serve, http: httpx.AsyncClient) -> None:
    """A future cannot hold a StopIteration: the delivery would hang."""

    @task("first")
    def first(payload: list[int]) -> int:
        return next(iter(payload))

    url = await serve(create_app(tasks=[first], settings=WAIT_FOR_REPORT))
    assert (await http.post(f"{url}/first", json=[1])).json() == 1
    response = await http.post(f"{url}/first", json=[])
    assert response.status_code == 500
    assert response.json() == {"message": "coroutine raised StopIteration", "code": "F500"}
