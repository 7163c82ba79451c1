"""What a handler may do: block, overrun, raise anything, and never take the server or the report with it."""

import asyncio
import contextvars
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from jobfn import FunctionSettings, JobContext, Task, create_app, task
from support.fixtures import Serve
from support.function_app import PATIENT, SECRET, CallbackServer, HandMade, job_headers
from support.network import eventually

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What handlers in threads wait for; open at the latest when the test ends, or they would never."""
    event = threading.Event()
    yield event
    event.set()


def settings(**changes: object) -> FunctionSettings:
    """Patient ones, with changes."""
    return PATIENT.model_copy(update=changes)


async def test_sync_handlers_run_in_threads_of_a_set_number(
    serve: Serve, http: httpx.AsyncClient, gate: threading.Event
) -> None:
    """Three at a time and no more, none on the event loop, which goes on answering."""
    running = threading.Semaphore(0)
    seen: set[str] = set()

    @task("block")
    def block(payload: int) -> int:
        seen.add(threading.current_thread().name)
        running.release()
        gate.wait()
        return payload

    url = await serve(create_app(tasks=[block], settings=settings(max_threads=3)))
    posts = [asyncio.create_task(http.post(f"{url}/block", json=number)) for number in range(5)]
    for _ in range(3):
        await asyncio.to_thread(running.acquire)
    assert (await http.get(f"{url}/healthz")).status_code == 200
    assert not running.acquire(blocking=False), "a fourth one runs"
    gate.set()
    assert [response.json() for response in await asyncio.gather(*posts)] == [0, 1, 2, 3, 4]
    assert len(seen) == 3
    assert threading.main_thread().name not in seen


async def test_async_handlers_run_on_the_loop_side_by_side(serve: Serve, http: httpx.AsyncClient) -> None:
    """More at once than there are threads; each waits for the others."""
    barrier = asyncio.Barrier(10)

    @task("meet")
    async def meet(payload: int) -> bool:
        await barrier.wait()
        return threading.current_thread() is threading.main_thread()

    url = await serve(create_app(tasks=[meet], settings=settings(max_threads=1)))
    found = await asyncio.gather(*(http.post(f"{url}/meet", json=number) for number in range(10)))
    assert [response.json() for response in found] == [True] * 10


async def test_context_variables_reach_a_sync_handler(serve: Serve, http: httpx.AsyncClient) -> None:
    """What middleware sets is there; what the handler sets stays its own."""

    class Colouring:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            COLOUR.set("red")
            await self.app(scope, receive, send)
            assert COLOUR.get() == "red"

    @task("look")
    def look(payload: dict[str, Any]) -> str:
        found = COLOUR.get()
        COLOUR.set("blue")
        return found

    app = create_app(tasks=[look], settings=PATIENT)
    app.add_middleware(Colouring)
    url = await serve(app)
    for _ in range(2):
        assert (await http.post(f"{url}/look", json={})).json() == "red"


async def test_every_line_of_a_delivery_carries_its_job(serve: Serve, http: httpx.AsyncClient) -> None:
    """What the ids are is known to any logger while the handler runs, sync or async, and not after."""
    from jobfn.telemetry import logs  # noqa: PLC0415  - for its context variable

    @task("sync")
    def sync(payload: int) -> Any:
        ids = logs.job_ids.get()
        return ids() if ids is not None else None

    @task("async")
    async def asynchronous(payload: int) -> Any:
        ids = logs.job_ids.get()
        return ids() if ids is not None else None

    url = await serve(create_app(tasks=[sync, asynchronous], settings=PATIENT))
    for name in ("sync", "async"):
        response = await http.post(f"{url}/{name}", json=1, headers=job_headers(None, 9))
        assert response.json() == {"task": name, "job": 9, "attempt": None, "worker": "worker-7", "tenant": None}
    assert logs.job_ids.get() is None


async def test_the_job_is_forgotten_when_its_delivery_ends() -> None:
    """A server that runs several deliveries in one task, as one may, tells none of them of another's job."""
    from jobfn.telemetry import logs  # noqa: PLC0415  - for its context variable

    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    app = create_app(tasks=[raising("async", ValueError)], settings=PATIENT)
    await app(by_hand.scope("/fail", job_headers(None)), by_hand.receive, by_hand.send)
    assert by_hand.status == 500
    assert logs.job_ids.get() is None


async def test_a_sync_wrapper_of_an_async_handler_is_awaited(serve: Serve, http: httpx.AsyncClient) -> None:
    """A decorator that forgets to be async does no harm."""

    def careless(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function(*arguments)

        return wrapper

    @task("wrapped")
    @careless
    async def wrapped(payload: int, ctx: JobContext) -> str:
        await asyncio.sleep(0)
        return f"{payload} for {ctx.task}"

    url = await serve(create_app(tasks=[wrapped], settings=PATIENT))
    assert (await http.post(f"{url}/wrapped", json=1)).json() == "1 for wrapped"


async def test_an_async_handler_that_overruns_is_cancelled(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """504 after the timeout, reported; its cleanup has run."""
    cleaned = asyncio.Event()

    @task("slow", timeout=0.05)
    async def slow(payload: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    url = await serve(create_app(tasks=[slow], settings=PATIENT))
    response = await http.post(f"{url}/slow", json={}, headers=job_headers(callbacks.url))
    message = "slow did not finish within its timeout of 0.05 seconds"
    assert (response.status_code, response.json()) == (504, {"message": message})
    assert cleaned.is_set()
    assert [report.body["error"] for report in callbacks.received] == [message]


async def test_a_sync_handler_that_overruns_is_left_alone(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer, gate: threading.Event
) -> None:
    """504 after the timeout, one report; the thread ends when it ends, and its result is dropped."""
    ended = threading.Event()

    @task("slow", timeout=0.05)
    def slow(payload: dict[str, Any]) -> str:
        gate.wait()
        ended.set()
        return "too late"

    url = await serve(create_app(tasks=[slow], settings=PATIENT))
    response = await http.post(f"{url}/slow", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 504
    gate.set()
    await asyncio.to_thread(ended.wait)
    assert len(callbacks.received) == 1


async def test_a_sync_handler_that_finds_no_thread_says_so(
    serve: Serve, http: httpx.AsyncClient, gate: threading.Event
) -> None:
    """The message names the variable; the handler never runs."""
    started = threading.Event()
    ran: list[int] = []

    @task("hold")
    def hold(payload: int) -> None:
        started.set()
        gate.wait()

    @task("hasty", timeout=0.05)
    def hasty(payload: int) -> None:
        ran.append(payload)

    url = await serve(create_app(tasks=[hold, hasty], settings=settings(max_threads=1)))
    holding = asyncio.create_task(http.post(f"{url}/hold", json=1))
    await asyncio.to_thread(started.wait)
    response = await http.post(f"{url}/hasty", json=2)
    assert response.status_code == 504
    assert response.json()["message"] == (
        "hasty did not start within its timeout of 0.05 seconds: all 1 threads were busy (JOBFN_MAX_THREADS)"
    )
    gate.set()
    assert (await holding).status_code == 200
    assert ran == []


async def test_a_handler_that_is_done_in_time_is_not_timed_out(serve: Serve, http: httpx.AsyncClient) -> None:
    """A timeout that is not reached changes nothing; a TimeoutError of the handler's own is its failure."""

    @task("quick", timeout=30)
    async def quick(payload: bool) -> str:  # noqa: FBT001  - a payload
        if payload:
            raise TimeoutError("the mail server was slow")
        return "done"

    url = await serve(create_app(tasks=[quick], settings=PATIENT))
    assert (await http.post(f"{url}/quick", json=False)).json() == "done"
    response = await http.post(f"{url}/quick", json=True)
    assert (response.status_code, response.json()) == (500, {"message": "the mail server was slow"})


async def test_a_handler_that_survives_its_cancellation_decides(serve: Serve, http: httpx.AsyncClient) -> None:
    """One that ends with a result after its time has done the work; one that breaks while cleaning up has timed out."""

    @task("stubborn", timeout=0.05)
    async def stubborn(payload: bool) -> str:  # noqa: FBT001  - a payload
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if payload:
                raise RuntimeError("while cleaning up") from None
        return "done all the same"

    url = await serve(create_app(tasks=[stubborn], settings=PATIENT))
    assert (await http.post(f"{url}/stubborn", json=False)).json() == "done all the same"
    assert (await http.post(f"{url}/stubborn", json=True)).status_code == 504


class Odd(BaseException):
    """Derived from what nobody should derive from."""


class Mute(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS: list[tuple[Callable[[], BaseException], str]] = [
    (lambda: ValueError("the mail server said no"), "the mail server said no"),
    (lambda: KeyError("customer"), "KeyError: 'customer'"),
    (AssertionError, "AssertionError"),
    (Mute, "Mute"),
    (lambda: SystemExit(3), "3"),
    (KeyboardInterrupt, "KeyboardInterrupt"),
    (asyncio.CancelledError, "CancelledError"),
    (GeneratorExit, "GeneratorExit"),
    (lambda: Odd("odd"), "odd"),
    (
        lambda: ExceptionGroup("two", [ValueError("a"), OSError("b")]),
        "two (2 sub-exceptions): ValueError: a; OSError: b",
    ),
    (lambda: BaseExceptionGroup("g", [KeyboardInterrupt()]), "g (1 sub-exception): KeyboardInterrupt"),
    (lambda: RecursionError("maximum recursion depth exceeded"), "maximum recursion depth exceeded"),
    (lambda: ValueError("nul \0 and half \ud800"), "nul \N{REPLACEMENT CHARACTER} and half ?"),
]


def raising(kind: str, make: Callable[[], BaseException]) -> Task[..., Any]:
    """A task that raises."""

    @task("fail")
    async def asynchronous(payload: dict[str, Any]) -> None:
        raise make()

    @task("fail")
    def synchronous(payload: dict[str, Any]) -> None:
        raise make()

    return asynchronous if kind == "async" else synchronous


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize(("make", "message"), ERRORS, ids=lambda value: value[:20] if isinstance(value, str) else "")
async def test_whatever_a_handler_raises_is_its_delivery_s_end(
    kind: str,
    make: Callable[[], BaseException],
    message: str,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    """500 with the message, one report that says the same, the traceback in the log, and the server goes on."""
    url = await serve(create_app(tasks=[raising(kind, make)], settings=PATIENT))
    with capture_logs() as lines:
        response = await http.post(f"{url}/fail", json={"a": SECRET}, headers=job_headers(callbacks.url))
    assert (response.status_code, response.json()) == (500, {"message": message})
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    [line] = lines
    assert (line["event"], line["task"], line["job"]) == ("task failed", "fail", 42)
    assert line["exc_info"].__traceback__ is not None
    assert SECRET not in repr(line)
    assert (await http.get(f"{url}/healthz")).status_code == 200


async def test_stop_iteration_from_a_thread_does_not_hang(serve: Serve, http: httpx.AsyncClient) -> None:
    """Set on a future it would never arrive: a delivery without an end."""

    @task("empty")
    def empty(payload: list[int]) -> int:
        return next(iter(payload))

    url = await serve(create_app(tasks=[empty], settings=PATIENT))
    assert (await http.post(f"{url}/empty", json=[1])).json() == 1
    response = await http.post(f"{url}/empty", json=[])
    assert (response.status_code, response.json()) == (500, {"message": "coroutine raised StopIteration"})


async def test_a_traceback_is_logged_and_not_sent(serve: Serve, http: httpx.AsyncClient) -> None:
    """The response holds the message alone."""

    @task("fail")
    async def fail(payload: dict[str, Any]) -> None:
        raise ValueError("no")

    url = await serve(create_app(tasks=[fail], settings=PATIENT))
    response = await http.post(f"{url}/fail", json={})
    assert response.text == json.dumps({"message": "no"})


async def test_an_app_that_is_started_twice_works_twice(callbacks: CallbackServer) -> None:
    """Threads and connections open again after a stop, as tests of users need it."""

    @task("work")
    def work(payload: int) -> int:
        return payload

    app = create_app(tasks=[work], settings=PATIENT)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for number in range(2):
            async with app.lifespan_context():
                assert (await client.post("/work", json=number, headers=job_headers(callbacks.url))).json() == number
    assert len(callbacks.received) == 2


async def test_a_cpu_that_is_busy_in_a_thread_does_not_stop_probes(
    serve: Serve, http: httpx.AsyncClient, gate: threading.Event
) -> None:
    """A probe is answered while sync handlers work."""

    @task("busy")
    def busy(payload: int) -> None:
        while not gate.is_set():
            time.sleep(0.001)

    url = await serve(create_app(tasks=[busy], settings=PATIENT))
    working = asyncio.create_task(http.post(f"{url}/busy", json=1))

    async def ready() -> bool:
        return (await http.get(f"{url}/readyz")).status_code == 200

    await eventually(ready)
    assert not working.done()
    gate.set()
    assert (await working).status_code == 200
